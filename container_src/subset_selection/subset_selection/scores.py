"""Subsets by a score of each example.

Dimensions in names: N examples.
"""

import torch
from torch import Tensor

from subset_selection.processes import ALONE, Processes
from subset_selection.settings import DEFAULTS, Settings
from subset_selection.stateful import Stateful
from subset_selection.types import ROWS_AT_ONCE, Pool, Refresh, Subset

BINS = 50
"""Number of difficulty bins of :class:`CoverageCentric`, as in its paper."""


class _Memory(Stateful):
    """One number per example of the run, zero until it is set. It grows as new indices appear.

    The numbers are float64, so that scores of a wide range keep their order and sums over many selections stay exact
    enough.
    """

    STATE = ("_values",)

    def __init__(self) -> None:
        self._values = torch.zeros(0, dtype=torch.float64)

    def at(self, ids: Tensor) -> Tensor:
        """The numbers of these examples, [N], on the device of ``ids``."""
        self._grow(ids)
        return self._values[ids]

    def set(self, ids: Tensor, values: Tensor) -> None:
        self._grow(ids)
        self._values[ids] = values

    def _grow(self, ids: Tensor) -> None:
        missing = max(0, int(ids.max()) + 1 - len(self._values))
        self._values = torch.cat([self._values.to(ids.device), ids.new_zeros(missing, dtype=torch.float64)])


class _Averaged(Stateful):
    """EL2N scores, averaged over the selections in which an example was a candidate."""

    STATE = ("_sums", "_rounds")

    def __init__(self) -> None:
        self._sums = _Memory()
        self._rounds = _Memory()

    def update(self, ids: Tensor, errors_N: Tensor) -> Tensor:
        """Add this selection's scores, and return the averages, [N] float64."""
        sums_N, rounds_N = self._sums.at(ids) + errors_N, self._rounds.at(ids) + 1
        self._sums.set(ids, sums_N)
        self._rounds.set(ids, rounds_N)
        return sums_N / rounds_N


class _ByDifficulty(Stateful):
    """Reads the error ‖softmax − onehot‖₂ of each example, averaged over the selections so far."""

    needs_last_layer = True
    needs_validation = False
    refresh: Refresh = "periodically"

    STATE = ("_scores",)

    def __init__(self) -> None:
        self._scores = _Averaged()

    @torch.no_grad()
    def scores(self, train: Pool, processes: Processes = ALONE) -> Tensor:
        """See :class:`~subset_selection.types.Scoring`. The errors, [N, 1]."""
        everything = torch.arange(len(train), device=train.device)
        # Computed in parts, because the residuals of a large pool may not fit in memory.
        return torch.cat(
            [train.residuals_at(part).norm(dim=1, keepdim=True) for part in everything.split(ROWS_AT_ONCE)]
        )

    def _averages(self, train: Pool) -> Tensor:
        """Add this selection's errors, and return the averages, [N] float64."""
        errors_N1 = self.scores(train) if train.scores is None else train.scores
        return self._scores.update(train.ids, errors_N1[:, 0].double())


class EL2N(_ByDifficulty):
    """Selects the examples of largest error ‖softmax − onehot‖₂, averaged over the selections so far.

    Source: Paul et al., "Deep Learning on a Data Diet", NeurIPS 2021, definition 2.2. The paper averages over several
    models early in training; this class averages over the selections of one model.
    """

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        super().__init__()

    @torch.no_grad()
    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.Strategy`."""
        return Subset.of(_descending(self._averages(train))[:budget])


class Forgetting(Stateful):
    """Selects the examples most often forgotten: classified correctly at one selection, wrongly at the next.

    Examples that were never classified correctly come first. Ties go to the larger loss.

    Source: Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning", ICLR 2019,
    section 3. The paper counts forgetting events in every epoch; this class counts them between selections.
    """

    needs_last_layer = True
    needs_validation = False
    refresh: Refresh = "periodically"

    STATE = ("_was_right", "_ever_right", "_forgotten")

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        self._was_right = _Memory()
        self._ever_right = _Memory()
        self._forgotten = _Memory()

    @torch.no_grad()
    def scores(self, train: Pool, processes: Processes = ALONE) -> Tensor:
        """See :class:`~subset_selection.types.Scoring`. The losses, and whether the model is right: [N, 2]."""
        if train.logits is None:
            raise ValueError("this pool has no logits: forgetting needs the last layer")
        losses_N = train.losses()
        right_N = train.logits.argmax(dim=1) == train.labels
        return torch.stack([losses_N, right_N.to(losses_N.dtype)], dim=1)

    @torch.no_grad()
    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.Strategy`."""
        ids = train.ids
        scores_N2 = self.scores(train) if train.scores is None else train.scores
        losses_N, right_N = scores_N2[:, 0], scores_N2[:, 1].double()
        forgotten_N = self._forgotten.at(ids) + self._was_right.at(ids) * (1 - right_N)
        ever_right_N = torch.maximum(self._ever_right.at(ids), right_N)
        self._forgotten.set(ids, forgotten_N)
        self._ever_right.set(ids, ever_right_N)
        self._was_right.set(ids, right_N)
        by_loss = _descending(losses_N)
        counts_N = forgotten_N.masked_fill(ever_right_N == 0, torch.inf)
        return Subset.of(by_loss[_descending(counts_N[by_loss])][:budget])


class CoverageCentric(_ByDifficulty):
    """Selects equal numbers of examples from each level of difficulty, without the hardest.

    The hardest examples are dropped first. The others are divided into bins of equal width, and the budget is divided
    over the bins, smallest bin first. Within a bin, examples are drawn at random.

    Source: Zheng et al., "Coverage-centric Coreset Selection for High Pruning Rates", ICLR 2023, algorithm 1, with EL2N
    as the difficulty score.

    Args:
        settings: ``hardest_dropped`` (β, from 0 to 1), the fraction of examples that is dropped. Fewer are dropped if
            fewer than the budget would remain.
    """

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        super().__init__()
        self._hardest_dropped = settings.hardest_dropped

    @torch.no_grad()
    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.Strategy`."""
        scores_N = self._averages(train).cpu()
        dropped = min(round(self._hardest_dropped * len(train)), len(train) - budget)
        kept = _descending(scores_N)[dropped:].sort().values
        scores = scores_N[kept]
        span = float(scores.max() - scores.min()) or 1.0
        bins = ((scores - scores.min()) / span * BINS).long().clamp(max=BINS - 1)
        shuffled = torch.randperm(len(kept), generator=generator)
        by_bin = sorted((shuffled[bins[shuffled] == place] for place in bins.unique()), key=len)
        picked: list[Tensor] = []
        left = budget
        for done, members in enumerate(by_bin):
            # Small bins come first, so that the budget which they cannot fill passes to the larger bins.
            share = left // (len(by_bin) - done)
            picked.append(members[:share])
            left -= len(picked[-1])
        return Subset.of(kept[torch.cat(picked)])


def _descending(scores: Tensor) -> Tensor:
    """Positions in order of descending score; ties keep their order."""
    return scores.sort(descending=True, stable=True).indices
