"""Subsets by where examples lie in the space of the last layer's input, class by class.

Dimensions in names: n examples of a class, D features, K picks.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from subset_selection.classes import by_class
from subset_selection.progress import with_progress
from subset_selection.settings import DEFAULTS, Settings
from subset_selection.types import ROWS_AT_ONCE, Pool, Refresh, Subset


class _OfFeatures(ABC):
    """Chooses within each class by its features alone; weights are 1.

    Args:
        settings: ``balance``, how the budget is divided over the classes.
    """

    needs_last_layer = True
    needs_validation = False
    refresh: Refresh = "periodically"

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        self._balance = settings.balance

    @torch.no_grad()
    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.Strategy`.

        Raises:
            ValueError: ``train`` has no features.
        """

        def choose(label: int, indices: Tensor, quota: int) -> Subset:
            return Subset.of(indices[self._positions(train.features_at(indices), quota)])

        return by_class(train, budget, self._balance, choose)

    @abstractmethod
    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        """[n, D] of one class, to be changed at will → the positions picked, [K] in the order of picking."""


class GraphCut(_OfFeatures):
    """Similar to all of the class, dissimilar to each other: f(S) = λ·Σ_{i∈V, j∈S} s_ij − Σ_{i,j∈S} s_ij, greedily,
    with s = (1 + cosine) / 2, cosine 0 for a feature vector of zeros.

    λ is 2, the least that keeps f monotone at every budget whatever the data: the last example's gain is
    (λ − 2)·Σ_i s_ij + s_jj.

    A pick's gain needs similarities to sums of features only: O(n·D) a pick, and no n × n matrix.

    Source: Iyer et al., "Submodular Combinatorial Information Measures with Applications in Machine Learning",
    ALT 2021, section 2.
    """

    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        unit_nD = torch.nn.functional.normalize(features_nD, dim=1, out=features_nD)
        # The gain of j is 2·Σ_{i∈V} s_ij − s_jj − 2·Σ_{i∈S} s_ij. With s_ij = (1 + u_i·u_j) / 2 that is
        # u_j · (Σ_V u − Σ_S u) − |u_j|²/2 and a number that is the same for all j.
        return _follow(unit_nD, unit_nD.sum(dim=0, dtype=torch.float64), picks)


class KCentre(_OfFeatures):
    """Always the example farthest from those picked, from the one nearest the class's mean on: within twice the
    smallest possible radius (Gonzalez, 1985). Euclidean distances; O(n·D) a pick.

    Source: Sener & Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018,
    algorithm 1.
    """

    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        centred_nD = features_nD.sub_(
            features_nD.mean(dim=0)
        )  # small numbers lose less in the expansion below
        squares_n = _squares(centred_nD)
        picked_K = _no_picks(features_nD, picks)
        # −∞ once picked: a pick's own distance is 0 only up to rounding, and so are its duplicates'.
        free_n = torch.zeros_like(squares_n)
        nearest_n = -squares_n
        for position in with_progress(range(picks), picks):
            best_1 = (nearest_n + free_n).argmax().view(1)
            picked_K[position : position + 1] = best_1
            free_n.index_fill_(0, best_1, -torch.inf)
            products_n = centred_nD @ centred_nD.index_select(0, best_1)[0]
            distances_n = (squares_n + squares_n.index_select(0, best_1) - 2 * products_n).clamp_(min=0)
            nearest_n = distances_n if position == 0 else torch.minimum(nearest_n, distances_n)
        return picked_K


class Herding(_OfFeatures):
    """Follows the class's mean: the t-th pick brings the sum of the picks closest to t times the mean. O(n·D) a pick.

    Where all feature vectors have one length, as the sources assume, this is their rule: the example most along
    t·mean − the sum of the picks so far. Where they have not, that rule prefers the longest, and its mean lies
    farther off.

    Sources: Welling, "Herding Dynamical Weights to Learn", ICML 2009; Chen et al., "Super-Samples from Kernel Herding",
    UAI 2010, section 2; here without repeats.
    """

    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        # ‖t·mean − Σ_S x − x_j‖ does not change when all move by −mean, and smaller numbers lose less.
        centred_nD = features_nD.sub_(features_nD.mean(dim=0))
        return _follow(centred_nD, centred_nD.new_zeros(centred_nD.shape[1], dtype=torch.float64), picks)


class Moderate(_OfFeatures):
    """Those at the median distance from their class's mean feature: neither the typical nor the odd.

    Source: Xia et al., "Moderate Coreset: A Universal Method of Data Selection for Real-World Data-Efficient Deep
    Learning", ICLR 2023, section 3.
    """

    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        distances_n = features_nD.sub_(features_nD.mean(dim=0)).norm(dim=1)
        sorted_n = distances_n.sort().values  # quantile() would refuse more than 2^24 examples
        median = (sorted_n[(len(sorted_n) - 1) // 2] + sorted_n[len(sorted_n) // 2]) / 2
        return (distances_n - median).abs().sort(stable=True).indices[:picks]


def _follow(rows_nD: Tensor, wanted_D: Tensor, picks: int) -> Tensor:
    """Greedily, without repeats, the row that leaves least of what is wanted: argmin ‖wanted − row‖;
    then wanted ← wanted − row.

    ``wanted`` is in float64: after thousands of differences it would have drifted in float32. The products, which take
    the time, are in the rows' own type.
    """
    halves_n = _squares(rows_nD) / 2
    picked_K = _no_picks(rows_nD, picks)
    for position in with_progress(range(picks), picks):
        best_1 = (rows_nD @ wanted_D.to(rows_nD.dtype) - halves_n).argmax().view(1)
        picked_K[position : position + 1] = best_1
        halves_n.index_fill_(0, best_1, torch.inf)
        wanted_D = wanted_D - rows_nD.index_select(0, best_1)[0]
    return picked_K


def _squares(rows_nD: Tensor) -> Tensor:
    """[n] squared lengths, without a copy of all rows."""
    return torch.cat([part.square().sum(dim=1) for part in rows_nD.split(ROWS_AT_ONCE)])


def _no_picks(features_nD: Tensor, picks: int) -> Tensor:
    return torch.empty(picks, dtype=torch.int64, device=features_nD.device)
