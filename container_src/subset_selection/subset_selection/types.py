"""What a strategy sees and what it answers.

Dimensions in names: N examples to choose from, M validation examples, C classes, D features (the last linear layer's
input), K picks, S rows computed together.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from subset_selection.catalogue import Refresh

ROWS_CHECKED = 2**14
"""Rows that are checked at a time."""
ROWS_AT_ONCE = 2**16
"""Examples whose numbers are widened at a time where all of them would take too much memory."""
RESIDUALS_KEPT = 2**26
"""Elements up to which a pool keeps its residuals (256 MiB in float32); larger pools make them row by row."""


def _rows(column: Tensor, indices_K: Tensor) -> Tensor:
    return column[indices_K]


class NotFiniteError(ValueError):
    """The model's outputs contain NaN or infinity: nothing can be chosen by them."""


class Loss(Protocol):
    """What a model's outputs are held against, S examples at a time."""

    def losses(self, logits_SC: Tensor, labels_S: Tensor) -> Tensor:
        """[S]: each example's loss."""
        ...

    def residuals(self, logits_SC: Tensor, labels_S: Tensor) -> Tensor:
        """[S, C] float32 or wider: the gradient of each example's loss with respect to its logits; a new tensor."""
        ...


class CrossEntropy:
    """Of the softmax of the logits, in nats."""

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
    """Examples in data order, and what the model makes of each, evaluated in eval mode without augmentation.

    ``logits`` and ``features`` are there for strategies that need them. An example's gradient of the cross-entropy with
    respect to the last layer's weights and biases is the outer product of ``residuals`` and ``[features, 1]``; so the
    N × (C·D) matrix of gradients is never needed.

    Raises:
        NotFiniteError: logits or features contain NaN or infinity.
    """

    labels: Tensor
    """[N] int64."""
    logits: Tensor | None = None
    """[N, C] floating."""
    features: Tensor | None = None
    """[N, D] floating; float16 or bfloat16 halve the memory, and rows are widened as they are read."""
    part_of: Tensor | None = None
    """[N] int64: where a pool is a part of the run's examples, which of them these are. Strategies keep what
    they remember under these numbers."""
    keep: Callable[[Tensor, Tensor], Tensor] = field(default=_rows, repr=False)
    """A column and positions [K] → its rows there, for a pool of them: wherever there is room for so many."""
    loss: Loss = field(default=CROSS_ENTROPY, repr=False)
    _checked: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self._checked:
            return
        for name, values in (("logits", self.logits), ("features", self.features)):
            # A sum is finite only if every element is. It can also overflow: then look closely.
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
        """[N] int64: each example's number within the run's data."""
        return torch.arange(len(self), device=self.device) if self.part_of is None else self.part_of

    @property
    def device(self) -> torch.device:
        return self.labels.device if self.logits is None else self.logits.device

    @property
    def classes(self) -> int:
        """C: the logits' width, or without them the largest label plus one."""
        return int(self.labels.max()) + 1 if self.logits is None else self.logits.shape[1]

    @property
    def depth(self) -> int:
        """D."""
        return self._features().shape[1]

    @cached_property
    def residuals(self) -> Tensor:
        """[N, C] softmax(logits) − onehot(label): the gradient of each example's loss with respect to its logits."""
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
        return self.loss.residuals(
            self._logits().index_select(0, indices_S), self.labels.index_select(0, indices_S)
        )

    def features_at(self, indices_S: Tensor) -> Tensor:
        """[S, D] float32 or wider, a copy."""
        return _wide(self._features().index_select(0, indices_S))

    def at(self, indices_S: Tensor) -> "Pool":
        """The pool of some of its examples, in the order given."""
        return Pool(
            self.labels[indices_S],
            None if self.logits is None else self.keep(self.logits, indices_S),
            None if self.features is None else self.keep(self.features, indices_S),
            self.ids[indices_S],
            self.keep,
            self.loss,
            _checked=True,
        )

    def without_features(self) -> "Pool":
        return replace(self, features=None, _checked=True)

    def losses(self) -> Tensor:
        """[N] each example's loss."""
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
    """Of half precision in parts that are widened: sums of many overflow there."""
    if values.itemsize >= 4:
        return values.sum()
    return torch.stack([part.float().sum() for part in values.split(ROWS_CHECKED)]).sum()


@dataclass(frozen=True)
class Subset:
    """The examples to train on, without duplicates, and how much each counts."""

    indices: Tensor
    """[K] int64, on the CPU."""
    weights: Tensor
    """[K] float32, on the CPU; the loss of a batch is the weighted mean."""
    note: str = ""
    """What the user should know of this choice, for the log: a fallback that was taken, for example."""

    @classmethod
    def of(cls, indices: Tensor, weights: Tensor | None = None, note: str = "") -> "Subset":
        """From tensors on any device; all weights 1 where none are given."""
        indices = indices.to("cpu", torch.int64)
        weights = torch.ones(len(indices)) if weights is None else weights.to("cpu", torch.float32)
        return cls(indices, weights, note)


class Strategy(Protocol):
    """Chooses which examples to train on.

    A strategy may keep a state of earlier rounds (a shuffled order, running scores): one instance serves one run.
    """

    needs_last_layer: bool
    """Whether the pools come with logits and features (a pass over all of the data). A strategy that is asked every
    epoch gets them every ``select_every`` epochs only, and pools of labels alone in between."""
    needs_validation: bool
    """Whether the validation pool comes with them, too."""
    refresh: Refresh

    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """Choose ``budget`` of ``train``'s examples.

        Args:
            train: the N examples to choose from.
            validation: M held-out examples.
            budget: K, 1 ≤ K ≤ N.
            generator: the only source of randomness, on the CPU.

        Returns:
            exactly K different indices with finite, non-negative weights that are not all zero; equal candidates are
            ranked by their position.
        """
        ...


class SoftPruning(Protocol):
    """A strategy that sets the size of each epoch by itself, from the losses that training observes."""

    final_share: float
    """Share of the epochs, the last ones, that see all examples."""

    def select(self, labels_N: Tensor, generator: torch.Generator) -> Subset:
        """The next epoch's examples: any number from 1 to N."""
        ...

    def observe(self, indices_K: Tensor, losses_K: Tensor) -> None:
        """The losses of an epoch's examples, as they were trained on; both on the CPU."""
        ...


class BatchFilter(Protocol):
    """Chooses within a batch of candidates which examples the step is taken on."""

    candidates_per_pick: float
    """How many candidates a batch offers for each example that is kept."""

    def keep(self, losses_B: Tensor, indices_B: Tensor, count: int) -> Tensor:
        """Positions [count] within the batch of those to train on.

        Args:
            losses_B: cross-entropy of the candidates, in eval mode as augmented.
            indices_B: which training examples they are, on the same device.
            count: how many to keep.
        """
        ...
