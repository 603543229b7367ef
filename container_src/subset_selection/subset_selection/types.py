"""The inputs and outputs of a strategy.

Dimensions in names: N examples to choose from, M validation examples, C classes, D features (the last linear layer's
input), K picks, S rows computed together.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from subset_selection.catalogue import Refresh as Refresh
from subset_selection.processes import Processes

ROWS_CHECKED = 2**14
"""Number of rows that are checked for NaN and infinity at a time."""
ROWS_AT_ONCE = 2**16
"""Number of examples that are converted to float32 at a time, to bound memory."""
RESIDUALS_KEPT = 2**26
"""Number of elements up to which a pool caches its residuals (256 MiB in float32); larger pools compute rows on
demand."""


def _rows(column: Tensor, indices_K: Tensor) -> Tensor:
    return column[indices_K]


class NotFiniteError(ValueError):
    """The model's outputs contain NaN or infinity, so that no examples can be selected by them."""


class Loss(Protocol):
    """A loss function that is evaluated per example, for S examples at a time."""

    def losses(self, logits_SC: Tensor, labels_S: Tensor) -> Tensor:
        """The loss of each example, [S]."""
        ...

    def residuals(self, logits_SC: Tensor, labels_S: Tensor) -> Tensor:
        """The gradient of each example's loss with respect to its logits, [S, C], float32 or wider; a new tensor."""
        ...


class CrossEntropy:
    """Cross-entropy of the softmax of the logits, in nats."""

    def losses(self, logits_SC: Tensor, labels_S: Tensor) -> Tensor:
        """See :class:`Loss`."""
        return torch.nn.functional.cross_entropy(_wide(logits_SC), labels_S, reduction="none")

    def residuals(self, logits_SC: Tensor, labels_S: Tensor) -> Tensor:
        """softmax(logits) − onehot(label)."""
        residuals_SC = _wide(logits_SC).softmax(dim=1)
        return residuals_SC.scatter_add_(
            1, labels_S[:, None], residuals_SC.new_full((len(labels_S), 1), -1.0)
        )


CROSS_ENTROPY = CrossEntropy()


@dataclass(frozen=True)
class Pool:
    """Examples in data order, with the model's outputs for each, computed in eval mode without augmentation.

    ``logits`` and ``features`` are given to strategies that need them. The gradient of an example's loss with respect
    to the last layer's weights and biases is the outer product of ``residuals`` and ``[features, 1]``, so the
    N × (C·D) matrix of gradients is never needed.

    Raises:
        NotFiniteError: logits or features contain NaN or infinity.
    """

    labels: Tensor
    """[N] int64."""
    logits: Tensor | None = None
    """[N, C] floating."""
    features: Tensor | None = None
    """[N, D] floating. float16 or bfloat16 halve the memory; rows are converted to float32 when they are read."""
    part_of: Tensor | None = None
    """[N] int64, for a pool that is a part of the run's examples: their indices among all examples. Strategies store
    their state under these indices."""
    keep: Callable[[Tensor, Tensor], Tensor] = field(default=_rows, repr=False)
    """(column, positions [K]) → the rows at these positions, for a smaller pool. It may place them on another device
    that has enough memory."""
    loss: Loss = field(default=CROSS_ENTROPY, repr=False)
    """The loss whose gradients strategies use."""
    scores: Tensor | None = None
    """[N, S]: what a :class:`Scoring` strategy reads in place of logits and features; None: not computed yet."""
    _checked: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self._checked:
            return
        for name, values in (("logits", self.logits), ("features", self.features)):
            # A finite sum means that every element is finite. A sum can also overflow, so otherwise check each row.
            if values is None or bool(_sum(values).isfinite()):
                continue
            rows = torch.cat([(~part.isfinite()).any(dim=1) for part in values.split(ROWS_CHECKED)])
            if bool(rows.any()):
                raise NotFiniteError(
                    f"the {name} of {int(rows.sum())} of {len(values)} examples are not finite "
                    f"(the first is example {int(rows.nonzero()[0])})"
                )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ids(self) -> Tensor:
        """The index of each example in the run's data, [N] int64."""
        return torch.arange(len(self), device=self.device) if self.part_of is None else self.part_of

    @property
    def device(self) -> torch.device:
        """Where the pool is: the logits' device, or the labels' without logits."""
        return self.labels.device if self.logits is None else self.logits.device

    @property
    def classes(self) -> int:
        """C, the width of the logits; without logits, the largest label plus one."""
        return int(self.labels.max()) + 1 if self.logits is None else self.logits.shape[1]

    @property
    def depth(self) -> int:
        """D, the number of features."""
        return self._features().shape[1]

    @cached_property
    def residuals(self) -> Tensor:
        """The gradient of each example's loss with respect to its logits, [N, C]; softmax(logits) − onehot(label) for
        cross-entropy."""
        return self.loss.residuals(self._logits(), self.labels)

    def rows(self, indices_S: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals [S, C] and features [S, D] of some examples, float32 or wider; indices on the pool's device."""
        features_SD = self.features_at(indices_S)
        if self._logits().numel() <= RESIDUALS_KEPT:
            return self.residuals.index_select(0, indices_S), features_SD
        return self.residuals_at(indices_S), features_SD

    def all_rows(self) -> tuple[Tensor, Tensor]:
        """Residuals [N, C] and features [N, D] of all examples, float32 or wider."""
        return self.residuals, _wide(self._features())

    def residuals_at(self, indices_S: Tensor) -> Tensor:
        """The residuals of some examples, [S, C], float32 or wider; computed for these examples alone."""
        return self.loss.residuals(
            self._logits().index_select(0, indices_S), self.labels.index_select(0, indices_S)
        )

    def features_at(self, indices_S: Tensor) -> Tensor:
        """A copy of the features of some examples, [S, D], float32 or wider."""
        return _wide(self._features().index_select(0, indices_S))

    def at(self, indices_S: Tensor) -> "Pool":
        """A pool of some of this pool's examples, in the given order."""
        return Pool(
            self.labels[indices_S],
            None if self.logits is None else self.keep(self.logits, indices_S),
            None if self.features is None else self.keep(self.features, indices_S),
            self.ids[indices_S],
            self.keep,
            self.loss,
            None if self.scores is None else self.scores[indices_S],
            _checked=True,
        )

    def without_features(self) -> "Pool":
        """The same pool without features, for strategies that read logits alone."""
        return replace(self, features=None, _checked=True)

    def losses(self) -> Tensor:
        """The loss of each example, [N]."""
        parts = zip(self._logits().split(ROWS_AT_ONCE), self.labels.split(ROWS_AT_ONCE), strict=True)
        return torch.cat([self.loss.losses(logits, labels) for logits, labels in parts])

    def _logits(self) -> Tensor:
        if self.logits is None:
            raise ValueError(
                "this pool has no logits: the strategy must declare that it needs the last layer"
            )
        return self.logits

    def _features(self) -> Tensor:
        if self.features is None:
            raise ValueError(
                "this pool has no features: the strategy must declare that it needs the last layer"
            )
        return self.features


def _wide(values: Tensor) -> Tensor:
    return values.float() if values.itemsize < 4 else values


def _sum(values: Tensor) -> Tensor:
    """The sum of all elements. Half precision is summed in parts in float32, because large sums would overflow."""
    if values.itemsize >= 4:
        return values.sum()
    return torch.stack([part.float().sum() for part in values.split(ROWS_CHECKED)]).sum()


@dataclass(frozen=True)
class Subset:
    """The examples to train on, without duplicates, and the weight of each."""

    indices: Tensor
    """[K] int64, on the CPU."""
    weights: Tensor
    """[K] float32, on the CPU; the loss of a batch is the weighted mean."""
    note: str = ""
    """Text for the log that the user should read, for example about a fallback."""

    @classmethod
    def of(cls, indices: Tensor, weights: Tensor | None = None, note: str = "") -> "Subset":
        """Create a subset from tensors on any device; without ``weights``, every weight is 1."""
        indices = indices.to("cpu", torch.int64)
        weights = torch.ones(len(indices)) if weights is None else weights.to("cpu", torch.float32)
        return cls(indices, weights, note)

    def first(self, count: int) -> "Subset":
        """The first examples alone."""
        return Subset(self.indices[:count], self.weights[:count], self.note)


class Strategy(Protocol):
    """Selects the examples to train on.

    A strategy may keep state from earlier selections (a shuffled order, running scores), so each run needs its own
    instance.
    """

    needs_last_layer: bool
    """Whether the pools need logits and features (a forward pass over all of the data). A strategy that selects every
    epoch gets them only every ``select_every`` epochs; in between its pools contain labels alone."""
    needs_validation: bool
    """Whether the validation pool needs logits and features, too."""
    refresh: Refresh
    """When a new subset is selected."""

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """Select ``budget`` of ``train``'s examples.

        Args:
            train: the N examples to choose from.
            validation: M held-out examples.
            budget: K, 1 ≤ K ≤ N.
            generator: the only source of randomness, on the CPU.

        Returns:
            exactly K different indices with finite, non-negative weights that are not all zero. Ties are broken by
            position.
        """
        ...


@runtime_checkable
class Scoring(Strategy, Protocol):
    """A strategy that needs a few numbers of each example. Several processes send them in place of logits and features.

    ``select`` reads them from ``train.scores`` where they are there, and then no logits or features.
    """

    def scores(self, train: Pool, processes: Processes) -> Tensor:
        """The numbers of each example, [N, S] floating. It changes no state.

        An example's numbers do not depend on how the examples are divided over the processes, to the bit.

        Args:
            train: this process's examples.
            processes: the processes that have the others.
        """
        ...


@runtime_checkable
class Excluding(Strategy, Protocol):
    """A strategy that leaves examples out by their losses, before another one selects from the rest."""

    strategy: Strategy
    """Selects from the rest."""

    def judge(self, train_losses_N: Tensor, validation_losses_M: Tensor) -> None:
        """Record the losses of a selection."""
        ...

    def trusted(self, examples: int, budget: int) -> Tensor:
        """The indices of the examples that remain, at least ``budget``, ascending."""
        ...

    def reported(self, subset: "Subset", trusted: Tensor, examples: int) -> "Subset":
        """The subset of the remaining examples as one of all ``examples``, with a note of what was left out."""
        ...


class SoftPruning(Protocol):
    """A strategy that sets the size of each epoch itself, from the losses observed in training."""

    final_share: float
    """Fraction of the epochs, at the end of training, that use all examples."""

    def select(self, labels_N: Tensor, generator: torch.Generator) -> Subset:
        """Select the next epoch's examples, any number from 1 to N."""
        ...

    def observe(self, indices_K: Tensor, losses_K: Tensor) -> None:
        """Record the training losses of an epoch's examples. Both tensors are on the CPU."""
        ...


class BatchFilter(Protocol):
    """Selects, from each batch of candidates, the examples that the training step uses."""

    candidates_per_pick: float
    """Number of candidates per example that is kept."""

    def keep(self, losses_B: Tensor, indices_B: Tensor, count: int) -> Tensor:
        """Return the positions, [count], within the batch of the examples to train on.

        Args:
            losses_B: the candidates' losses, computed in eval mode on the augmented inputs.
            indices_B: the candidates' indices in the training set, on the same device.
            count: number of examples to keep.
        """
        ...
