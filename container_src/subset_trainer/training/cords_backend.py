"""Selection by CORDS's own data loaders, within this package's training loop.

CORDS chooses the examples. This package sets the schedule, eval mode, data order, seed and budget: CORDS would train
its first ``select_every`` epochs on a random subset, select in train mode, round the budget down, and reseed numpy from
the clock.
If CORDS returns more or fewer examples than the budget, the subset is cut or completed, and its note reports that.
Jobs on which CORDS is known to crash or never to return are refused before training.
"""

import contextlib
import io
import logging
import math
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from subset_selection import Subset
from subset_selection.classes import members, quotas
from subset_trainer.config import Hyperparameters
from subset_trainer.data import MemoryDataset
from subset_trainer.data.machine import memory_available
from subset_trainer.errors import UserError
from subset_trainer.models import Classifier
from subset_trainer.training.plan import Plan
from subset_trainer.training.rounds import Asking, Data, checked, everything

logger = logging.getLogger(__name__)

GLISTER, GRAD_MATCH, CRAIG = "GLISTERDataLoader", "GradMatchDataLoader", "CRAIGDataLoader"
"""CORDS's loaders that use gradients of the data."""
SELECTION_TYPES = {
    "supervised": "Supervised",
    "per-class": "PerClass",
    "per-class-per-gradient": "PerClassPerGradient",
    "per-batch": "PerBatch",
}
GREEDY = {"auto": "Stochastic", "stochastic": "Stochastic", "naive": "Naive", "rgreedy": "RGreedy"}
"""``greedy`` → the name of GLISTER's search in CORDS."""
OPTIMIZERS = {"auto": "lazy", "naive": "naive"}
"""``greedy`` → the name of CRAIG's optimizer in the package apricot. CORDS's default is 'lazy'."""
LARGEST_BATCH = 512
BATCH_BYTES = 1 << 28
"""The maximum memory for one batch's gradients, or for CRAIG's differences between two batches."""
SHUFFLED = "CORDS's CRAIG shuffles what it measures distances between, and so chooses nearly at random"


class CordsProtocolModel(nn.Module):
    """Adapts a classifier to the two methods through which CORDS accesses the last layer."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def get_embedding_dim(self) -> int:
        return self.classifier.head.in_features

    def forward(self, inputs: Tensor, last: bool = False, freeze: bool = False) -> Any:
        """Compute logits.

        Args:
            inputs: [B, …].
            last: also return the last layer's input.
            freeze: compute no gradients below the last layer.

        Returns:
            Logits [B, C], or a pair of these and the last layer's input [B, D].
        """
        with torch.set_grad_enabled(not freeze):
            _, features = self.classifier.logits_and_features(inputs)
        logits = self.classifier.head(features)
        return (logits, features) if last else logits


class CordsSelector(Asking):
    """Passes the data to CORDS once, and has its loader resample in each round.

    It has no state: CORDS's loaders do not expose theirs, so runs with this backend keep no checkpoints.

    Args:
        hp: ``strategy``, ``scope``, ``greedy``, ``greedy_rounds``, ``eta``, ``lam``, ``eps``, ``match``, ``batch_size``
            (for the strategies that choose batches) and ``seed``.
        classes: C.

    Raises:
        UserError: CORDS cannot be imported; the data, or what CORDS computes from it, would not fit in memory; CORDS
            does not support a hyperparameter's value, or fails on data of these sizes.
    """

    def __init__(
        self,
        hp: Hyperparameters,
        classifier: Classifier,
        data: Data,
        plan: Plan,
        device: torch.device,
        classes: int,
    ) -> None:
        super().__init__(None, hp.spec.refresh, plan.budget)
        train, validation, budget = data.train, data.validation, plan.budget
        try:
            from cords.utils.data.dataloader.SL import adaptive
            from dotmap import DotMap
        except ImportError as error:
            raise UserError(
                f"hyperparameter backend='cords' needs CORDS, which does not import here: {error}"
            ) from error
        if not isinstance(train, MemoryDataset) or not isinstance(validation, MemoryDataset):
            raise UserError(
                "hyperparameter backend='cords' expects data that fits in memory; use backend='native'"
            )
        _check_choices(hp, device)
        examples = len(train)
        self._strategy = hp.strategy
        self._kind = hp.spec.cords
        self._scope = _scope(hp)
        self._labels = train.labels
        self._classes = classes
        self._log = _Log()
        # Shuffled because CORDS forms batches in data order, and data from class folders is ordered by class.
        shuffled = torch.randperm(examples, generator=torch.Generator().manual_seed(hp.seed))
        self._order = shuffled if self._scope == "per-batch" else torch.arange(examples)
        batch_size, needs_gradients = hp.batch_size, bool(hp.spec.needs)
        if needs_gradients:
            width = classes * (classifier.head.in_features + 1)
            if self._scope != "per-batch":
                batch_size = _batch_size(width, pairs=hp.spec.cords == CRAIG)
            if budget < examples:
                _check_sizes(hp, self._scope, train.labels, validation.labels, budget, classes)
                searches = _searches(hp, self._scope, _sizes(train.labels, classes), budget)
                _check_memory(hp, self._scope, searches, len(validation), width, device)
        arguments = DotMap(_arguments(hp, classifier, plan, device, classes))
        loaders = [_sequential(train, self._order, batch_size)]
        if needs_gradients:
            # The batch is at most the validation set, because GLISTER needs at least one batch of it.
            everyone = torch.arange(len(validation))
            loaders.append(_sequential(validation, everyone, min(batch_size, len(validation))))
        with _contained(torch.Generator().manual_seed(0)):
            self._loader = getattr(adaptive, str(hp.spec.cords))(*loaders, arguments, self._log)

    def select(self, generator: torch.Generator, look: bool = True) -> Subset:
        """See :class:`~subset_trainer.training.rounds.Asking`. CORDS evaluates the data in every call.

        Raises:
            UserError: CORDS fails, or returns duplicate examples or unusable weights.
        """
        examples, budget = len(self._labels), self.budget
        if budget == examples:
            # CORDS's stochastic greedy would raise here, because it samples more candidates than remain.
            return everything(examples)
        self._loader.budget = budget
        self._log.filled_up = 0
        try:
            with _contained(generator):
                self._loader.resample()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise UserError(
                f"CORDS's {self._strategy} fails on this data ({reason}); use backend='native'"
            ) from error
        indices = self._order[np.asarray(self._loader.subset_indices, dtype=np.int64)]
        weights = torch.as_tensor(self._loader.subset_weights, dtype=torch.float32)
        if self._kind == GLISTER:
            # CORDS returns as many weights as the budget, even if it picked more examples.
            weights = torch.ones(len(indices))
        return checked(self._usable(self._of_size(budget, indices, weights, generator)), examples, budget)

    def _of_size(self, budget: int, indices: Tensor, weights: Tensor, generator: torch.Generator) -> Subset:
        """CORDS's subset, cut or completed to the budget, with notes for the user."""
        notes = [SHUFFLED] if self._kind == CRAIG else []
        if self._log.filled_up > 0:
            notes.append(
                f"CORDS found {len(indices) - self._log.filled_up} of {budget} examples by matching and filled up with "
                f"{self._log.filled_up} drawn at random, of weight 1"
            )
        if len(indices) > budget:
            kept, reason = self._kept(indices, weights, budget)
            notes.append(
                f"CORDS chose {len(indices)} examples for a budget of {budget}: {reason} are left out"
            )
            indices, weights = indices[kept], weights[kept]
        elif missing := budget - len(indices):
            free = torch.ones(len(self._labels), dtype=torch.bool).index_fill_(0, indices, False)
            rest = free.nonzero().flatten()
            drawn = rest[torch.randperm(len(rest), generator=generator)[:missing]]
            notes.append(
                f"CORDS chose {len(indices)} examples for a budget of {budget}: {missing} drawn at random complete it"
            )
            indices = torch.cat([indices, drawn])
            weights = torch.cat([weights, weights.mean().expand(missing)])
        return Subset(indices, weights, "; ".join(notes))

    def _kept(self, indices: Tensor, weights: Tensor, budget: int) -> tuple[Tensor, str]:
        """Positions of the examples to keep from a subset that is too large, and a description of the others."""
        if not self._scope.startswith("per-class"):
            return torch.arange(budget), "the last picks"
        # CORDS rounds every class's share up.
        if self._kind == GLISTER:  # in the order of classes, then of picking
            picks = members(self._labels[indices], self._classes)
            shares = quotas(torch.tensor(_sizes(self._labels, self._classes)), budget).tolist()
            kept = [part[:share] for part, share in zip(picks, shares, strict=True)]
            return torch.cat(kept), "the last picks of some classes"
        heaviest = weights.sort(descending=True, stable=True).indices[:budget]
        return heaviest.sort().values, "those of the least weight"

    def _usable(self, subset: Subset) -> Subset:
        indices, weights = subset.indices, subset.weights
        if repeated := len(indices) - len(set(indices.tolist())):
            raise UserError(
                f"CORDS's {self._strategy} chose {repeated} examples twice, as it does where examples have equal "
                "gradients; use backend='native'"
            )
        if not (bool((weights.isfinite() & (weights >= 0)).all()) and bool(weights.any())):
            raise UserError(
                f"CORDS's {self._strategy} gave weights that are negative, not finite, or all zero; "
                "use backend='native'"
            )
        return subset


class _Log:
    """Replaces CORDS's logger to record how many examples GRAD-MATCH drew at random, which it reports only there."""

    def __init__(self) -> None:
        self.filled_up = 0

    def debug(self, message: str, *values: Any) -> None:
        if message.startswith("Random points added"):
            self.filled_up = values[0]
        logger.debug(message, *values)

    info = debug


def _arguments(
    hp: Hyperparameters, classifier: Classifier, plan: Plan, device: torch.device, classes: int
) -> dict[str, Any]:
    """The arguments of CORDS's loaders."""
    return {
        # CORDS copies the model with its mode and later loads weights into the copy, so the copy stays in eval mode.
        "model": CordsProtocolModel(classifier).eval(),
        "loss": nn.CrossEntropyLoss(reduction="none"),
        "eta": hp.eta or plan.learning_rate,
        "num_classes": classes,
        "num_epochs": 1,
        "device": str(device),
        "fraction": plan.budget / plan.examples,
        "select_every": 1,
        "kappa": 0,
        "linear_layer": True,
        "selection_type": SELECTION_TYPES[_scope(hp)],
        "greedy": GREEDY[hp.greedy],
        "r": hp.greedy_rounds,
        "valid": hp.match == "validation",
        "v1": True,
        "lam": hp.lam,
        "eps": hp.eps,
        "if_convex": False,
        "optimizer": OPTIMIZERS.get(hp.greedy),
    }


def _scope(hp: Hyperparameters) -> str:
    return hp.scope or hp.spec.choices.get("scope", ("supervised",))[0]


def _check_choices(hp: Hyperparameters, device: torch.device) -> None:
    if hp.spec.cords == CRAIG and hp.greedy not in OPTIMIZERS:
        raise UserError(
            f"hyperparameter greedy={hp.greedy!r}: CORDS's CRAIG would draw hardly one candidate a pick, and the "
            "same in every round; expected one of auto, naive, or backend='native'"
        )
    ignored = [name for name in ("lam", "eps") if name in hp.model_fields_set]
    if hp.spec.cords == GRAD_MATCH and device.type == "cpu" and ignored:
        logger.warning(
            "on a CPU, CORDS's GRAD-MATCH takes lam=0 and eps=0.0001 whatever is asked for (here: %s)",
            ", ".join(f"{name}={getattr(hp, name):g}" for name in ignored),
        )


def _sizes(labels: Tensor, classes: int) -> list[int]:
    """The number of examples of each class."""
    sizes: list[int] = torch.bincount(labels, minlength=classes).tolist()
    return sizes


def _searches(hp: Hyperparameters, scope: str, sizes: list[int], budget: int) -> list[tuple[int, int]]:
    """(picks, candidates) of each search that CORDS makes."""
    examples = sum(sizes)
    if scope == "per-batch":
        return [(math.ceil(budget / hp.batch_size), math.ceil(examples / hp.batch_size))]
    if scope == "supervised":
        return [(budget, examples)]
    return [(math.ceil(budget * size / examples), size) for size in sizes]


def _check_sizes(
    hp: Hyperparameters, scope: str, labels: Tensor, validation_labels: Tensor, budget: int, classes: int
) -> None:
    """Refuse jobs on which CORDS crashes or never returns.

    Raises:
        UserError: this is such a job.
    """
    sizes = _sizes(labels, classes)
    if scope.startswith("per-class"):
        places = {"training": sizes}
        if hp.spec.cords == GLISTER or (hp.spec.cords == GRAD_MATCH and hp.match == "validation"):
            places["validation"] = _sizes(validation_labels, classes)
        for place, counts in places.items():
            if 0 in counts:
                raise UserError(
                    f"hyperparameter scope={scope!r} with backend='cords' expects every class in the {place} set; "
                    f"{counts.count(0)} of {classes} are not there"
                )
    if hp.spec.cords != GLISTER:
        return
    for picks, candidates in _searches(hp, scope, sizes, budget):
        what = f"{picks} of {candidates} " + ("batches" if scope == "per-batch" else "examples")
        if GREEDY[hp.greedy] == "Stochastic":
            sample, left = int(candidates / picks * math.log(100)), candidates - picks + 1
            if sample > left:
                raise UserError(
                    f"CORDS's stochastic search cannot pick {what}: for the last it samples {sample} of the {left} "
                    "that are left; use greedy='naive', another fraction, or backend='native'"
                )
        elif GREEDY[hp.greedy] == "RGreedy":
            together = picks // hp.greedy_rounds
            if not together:
                raise UserError(
                    f"hyperparameter greedy_rounds={hp.greedy_rounds}: CORDS does not return from picking {what} in as "
                    f"many rounds; expected at most {picks}"
                )
            if scope == "per-batch" and min(math.ceil(picks / together) * together, candidates) > picks:
                raise UserError(
                    f"hyperparameter greedy_rounds={hp.greedy_rounds}: CORDS crashes on picking {what} in rounds of "
                    f"{together}, which does not divide {picks}; use another, or backend='native'"
                )


def _check_memory(
    hp: Hyperparameters,
    scope: str,
    searches: list[tuple[int, int]],
    validation: int,
    width: int,
    device: torch.device,
) -> None:
    """Refuse jobs that would not fit in memory: CORDS stores all gradients, and CRAIG stores pairwise differences.

    Args:
        searches: the result of :func:`_searches`.
        validation: M, the number of validation examples.
        width: C·(D + 1), the size of one example's gradient.

    Raises:
        UserError: memory would run out.
    """
    picks, rows = (max(sizes) for sizes in zip(*searches, strict=True))
    if hp.spec.cords == CRAIG and scope == "per-batch":
        numbers = 3 * rows**2 * width
    elif hp.spec.cords == CRAIG:
        # Distances and, for scope 'supervised', a sparse matrix of all distances with its coordinates.
        numbers = rows * width + (12 if scope == "supervised" else 3) * rows**2
    else:
        # The gradients, a copy of them (by concatenation or removal), and the same for the validation set.
        guided = hp.spec.cords == GLISTER or hp.match == "validation"
        numbers = (2 * (rows + picks) + 4 * validation * guided) * width
    needed = 4 * numbers
    room = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory_available()
    if needed > room:
        raise UserError(
            f"CORDS's {hp.strategy} would need about {needed / 1e9:,.1f} GB of memory for this data, and "
            f"{room / 1e9:,.1f} GB are free; use backend='native', which needs a small part of that"
        )


def _batch_size(width: int, pairs: bool) -> int:
    """The batch size at which CORDS's gradients (``pairs``: all pairs of two batches) fit in ``BATCH_BYTES``."""
    most = BATCH_BYTES // (12 * width)  # three float32 copies
    return max(1, min(LARGEST_BATCH, math.isqrt(most) if pairs else most))


def _sequential(
    dataset: MemoryDataset, order: Tensor, batch_size: int
) -> torch.utils.data.DataLoader[tuple[Tensor, ...]]:
    """A loader without shuffling, because CORDS uses positions in the loader's order as indices."""
    examples = torch.utils.data.TensorDataset(dataset.inputs[order], dataset.labels[order])
    return torch.utils.data.DataLoader(examples, batch_size=batch_size, shuffle=False)


@contextmanager
def _contained(generator: torch.Generator) -> Iterator[None]:
    """Isolate CORDS's side effects.

    CORDS draws from the global generators of random, numpy and torch, and prints. These are seeded from `generator` and
    restored afterwards, and the output is suppressed. CORDS's random loaders reseed numpy from the clock, which has no
    effect here.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    seed = int(torch.randint(2**31, (), generator=generator))
    random.seed(seed)
    np.random.seed(seed)
    try:
        with (
            torch.random.fork_rng(devices=[]),
            mock.patch.object(np.random, "seed"),
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
