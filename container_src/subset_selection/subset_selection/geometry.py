"""Selection within each class by the geometry of the features, the last layer's input.

Dimensions in names: n examples of a class, D features, K picks.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from subset_selection.classes import by_class, members
from subset_selection.divided import ByClass, Problem
from subset_selection.processes import ALONE, Processes
from subset_selection.progress import with_progress
from subset_selection.settings import DEFAULTS, Settings
from subset_selection.storage import rows_at_once
from subset_selection.types import ROWS_AT_ONCE, Pool, Refresh, Subset


class _OfFeatures(ByClass):
    """Selects within each class by features alone, with weights of 1.

    Args:
        settings: ``balance``, how the budget is divided over the classes.
    """

    READS = ("features",)

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        super().__init__(settings.balance)

    def within(self, train: Pool, validation: Pool, problem: Problem, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.divided.ByClass`.

        Raises:
            ValueError: ``train`` has no features.
        """
        positions = self._positions(train.features_at(problem.indices), problem.quota)
        return Subset.of(problem.indices[positions])

    @abstractmethod
    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        """Pick from one class. Returns positions, [K], in the order of picking. May overwrite ``features_nD``."""


class GraphCut(_OfFeatures):
    """Picks examples that are similar to all of the class and dissimilar to each other.

    It greedily maximises f(S) = λ·Σ_{i∈V, j∈S} s_ij − Σ_{i,j∈S} s_ij with s = (1 + cosine) / 2. The cosine of a zero
    feature vector is 0.

    λ is 2, the smallest value for which f is monotone at every budget and for all data: the last example's gain is
    (λ − 2)·Σ_i s_ij + s_jj.

    A pick's gain depends only on similarities to sums of features, so a pick takes O(n·D) without an n × n matrix.

    Source: Iyer et al., "Submodular Combinatorial Information Measures with Applications in Machine Learning",
    ALT 2021, section 2.
    """

    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        unit_nD = torch.nn.functional.normalize(features_nD, dim=1, out=features_nD)
        # The gain of j is 2·Σ_{i∈V} s_ij − s_jj − 2·Σ_{i∈S} s_ij. With s_ij = (1 + u_i·u_j) / 2 that is
        # u_j · (Σ_V u − Σ_S u) − |u_j|²/2, plus a number that is the same for all j.
        return _follow(unit_nD, unit_nD.sum(dim=0, dtype=torch.float64), picks)


class KCentre(_OfFeatures):
    """Repeatedly picks the example farthest from those already picked, by Euclidean distance, in O(n·D) per pick.

    The first pick is the example nearest to the class mean. The covering radius is at most twice the smallest possible
    radius (Gonzalez, 1985).

    Source: Sener & Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018,
    algorithm 1.
    """

    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        centred_nD = features_nD.sub_(
            features_nD.mean(dim=0)
        )  # smaller numbers lose less precision in the expansion below
        squares_n = _squares(centred_nD)
        picked_K = _no_picks(features_nD, picks)
        # −∞ for picked examples: by rounding, the distance of a pick from itself or a duplicate may not be exactly 0.
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
    """Picks examples whose mean feature vector approximates the class mean, in O(n·D) per pick.

    The t-th pick minimises the distance of the sum of the picks from t times the class mean. If all feature vectors
    have the same norm, as the sources assume, this equals their rule, which maximises the inner product with t·mean −
    the sum of the picks so far. For different norms, that rule would prefer the longest vectors and approximate the
    mean less well.

    Sources: Welling, "Herding Dynamical Weights to Learn", ICML 2009; Chen et al., "Super-Samples from Kernel Herding",
    UAI 2010, section 2; here without repeats.
    """

    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        # Subtracting the mean from all x leaves ‖t·mean − Σ_S x − x_j‖ unchanged, and smaller numbers lose less
        # precision.
        centred_nD = features_nD.sub_(features_nD.mean(dim=0))
        return _follow(centred_nD, centred_nD.new_zeros(centred_nD.shape[1], dtype=torch.float64), picks)


class Moderate:
    """Picks the examples whose distance from the class's mean feature vector is closest to the median distance.

    Source: Xia et al., "Moderate Coreset: A Universal Method of Data Selection for Real-World Data-Efficient Deep
    Learning", ICLR 2023, section 3.

    Args:
        settings: ``balance``, how the budget is divided over the classes.
    """

    needs_last_layer = True
    needs_validation = False
    refresh: Refresh = "periodically"

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        self._balance = settings.balance

    @torch.no_grad()
    def scores(self, train: Pool, processes: Processes = ALONE) -> Tensor:
        """See :class:`~subset_selection.types.Scoring`. The distance of each example from its class's mean, [N, 1].

        Raises:
            ValueError: ``train`` has no features.
        """
        means_CD = class_means(train, processes)
        distances_N1 = means_CD.new_empty(len(train), 1)
        for part in torch.arange(len(train), device=train.device).split(rows_at_once(train.depth)):
            centred = train.features_at(part).sub_(means_CD[train.labels[part]])
            distances_N1[part] = centred.norm(dim=1, keepdim=True)
        return distances_N1

    @torch.no_grad()
    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.Strategy`."""
        distances_N = (self.scores(train) if train.scores is None else train.scores)[:, 0]

        def choose(label: int, indices: Tensor, quota: int) -> Subset:
            distances_n = distances_N[indices]
            sorted_n = distances_n.sort().values  # quantile() would refuse more than 2^24 examples
            median = (sorted_n[(len(sorted_n) - 1) // 2] + sorted_n[len(sorted_n) // 2]) / 2
            order_n = (distances_n - median).abs().sort(stable=True).indices
            return Subset.of(indices[order_n[:quota]])

        return by_class(train, budget, self._balance, choose)


EXACT = 2**52
"""Integers up to twice this number are exact in float64."""


def class_means(train: Pool, processes: Processes) -> Tensor:
    """The mean feature vector of each class over all processes, [C, D], float32 or wider; 0 for a class without
    examples.

    The means do not depend on the order of the sums, and so not on how the examples are divided: every feature is
    rounded to a multiple of a step so small that all sums are integers which float64 holds exactly. The rounding
    changes a mean by at most N/2⁵³ of the largest feature.
    """
    at_once, device = rows_at_once(train.depth), train.device
    every = torch.arange(len(train), device=device)
    peak = torch.zeros((), dtype=torch.float64, device=device)
    for part in every.split(at_once) if len(train) else ():
        peak = peak.maximum(train.features_at(part).abs().amax())
    count = int(processes.total(torch.tensor(len(train), device=device)))
    # A power of two, so that the divisions below are exact.
    step = math.ldexp(1.0, math.frexp(float(processes.largest(peak)) * count / EXACT)[1])
    sums_CD = torch.zeros(train.classes, train.depth, dtype=torch.float64, device=device)
    for sum_D, indices in zip(sums_CD, members(train.labels, train.classes), strict=True):
        for part in indices.split(at_once):
            sum_D += train.features_at(part).double().div_(step).round_().sum(dim=0)
    sizes_C = processes.total(torch.bincount(train.labels, minlength=train.classes))
    means_CD = processes.total(sums_CD).mul_(step).div_(sizes_C.clamp(min=1)[:, None])
    return means_CD.to(train.features_at(every[:0]).dtype)


def _follow(rows_nD: Tensor, wanted_D: Tensor, picks: int) -> Tensor:
    """Greedily pick rows without repeats: each pick is argmin ‖wanted − row‖, then wanted ← wanted − row.

    ``wanted`` is float64, because thousands of subtractions would accumulate errors in float32. The products, which
    take most of the time, are computed in the rows' own type.
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
    """Squared norms of the rows, [n], without a copy of all rows."""
    return torch.cat([part.square().sum(dim=1) for part in rows_nD.split(ROWS_AT_ONCE)])


def _no_picks(features_nD: Tensor, picks: int) -> Tensor:
    return torch.empty(picks, dtype=torch.int64, device=features_nD.device)
