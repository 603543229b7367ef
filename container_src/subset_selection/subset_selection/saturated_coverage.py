"""Saturated coverage: picks that cover their whole class, with the coverage of each example capped."""

import torch
from torch import Tensor

from subset_selection import submodular
from subset_selection.divided import ByClass, Group, Problem
from subset_selection.settings import DEFAULTS, Settings
from subset_selection.types import Pool, Subset


class SaturatedCoverage(ByClass):
    """Greedily maximises f(S) = Σ_{v∈V} min(Σ_{j∈S} s_vj, α·Σ_{j∈V} s_vj) over the n examples V of each class, with
    s = (1 + cosine) / 2 of their features. The cosine of a zero feature vector is 0.

    An example that is covered gains nothing from further picks near it, so later picks cover other examples. α is K/n:
    an example is covered when its similarity to the K picks equals what K random picks would give on average.

    Source: Lin & Bilmes, "A Class of Submodular Functions for Document Summarization", ACL 2011, section 4.1
    (equation 3).

    Time O(n²·D), memory 4·n² bytes up to ``submodular.DENSE_LIMIT`` examples of a class and bounded beyond.

    Args:
        settings: ``greedy``, ``balance``.
    """

    READS = ("features",)

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        super().__init__(settings.balance)
        self._greedy = settings.greedy

    def within(self, train: Pool, validation: Pool, problem: Problem, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.divided.ByClass`."""
        unit_nD = torch.nn.functional.normalize(train.features_at(problem.indices), dim=1)
        count, quota = len(unit_nD), problem.quota

        def similarities(positions_S: Tensor) -> Tensor:
            return torch.addmm(unit_nD.new_ones(1), unit_nD[positions_S], unit_nD.T).div_(2)

        # Σ_{j∈V} s_vj = (n + u_v · Σ_j u_j) / 2
        totals_n = torch.addmv(unit_nD.new_full((1,), count), unit_nD, unit_nD.sum(dim=0)) / 2
        covered = Coverage(totals_n * (quota / count))
        picks = submodular.maximise(
            covered, similarities, count, quota, self._greedy, generator, train.device
        )
        return Subset.of(problem.indices[picks])

    def skip(self, group: Group, generator: torch.Generator) -> None:
        """See :class:`~subset_selection.divided.Divided`."""
        for problem in group:
            submodular.skip(len(problem.indices), problem.quota, self._greedy, generator)


class Coverage:
    """f as a :class:`~subset_selection.submodular.Function` of rows of non-negative similarities.

    Args:
        most_n: [n] the coverage at which each example is saturated.
    """

    def __init__(self, most_n: Tensor) -> None:
        self._left_n = most_n

    def start(self, similarities_nn: Tensor) -> Tensor:
        """See :class:`~subset_selection.submodular.Function`."""
        return self.gains(similarities_nn)

    def gains(self, similarities_Sn: Tensor) -> Tensor:
        """See :class:`~subset_selection.submodular.Function`."""
        return similarities_Sn.minimum(self._left_n).sum(dim=1)

    def add(self, similarities_n: Tensor) -> None:
        """See :class:`~subset_selection.submodular.Function`."""
        self._left_n = (self._left_n - similarities_n).clamp_(min=0)
