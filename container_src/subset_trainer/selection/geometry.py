"""Subsets by where examples lie in the space of the last layer's input, class by class."""

import torch
from torch import Tensor

from subset_trainer.selection.classes import Balance, by_class
from subset_trainer.selection.types import Pool, Refresh, Subset


class _OfFeatures:
    """Chooses within each class by its features alone; weights are 1."""

    needs_last_layer = True
    refresh: Refresh = "periodically"

    def __init__(self, balance: Balance = "none") -> None:
        self._balance = balance

    @torch.no_grad()
    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_trainer.selection.types.Strategy`."""

        def choose(label: int, indices: Tensor, quota: int) -> Subset:
            _, features_nD = train.rows(indices)
            return Subset.of(indices[self._positions(features_nD, quota)])

        return by_class(train, budget, self._balance, choose)

    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        """[n, D] of one class → the positions picked, [K]."""
        raise NotImplementedError


class GraphCut(_OfFeatures):
    """Similar to all of the class, dissimilar to each other: f(S) = 2·Σ_{i∈V, j∈S} s_ij − Σ_{i,j∈S} s_ij, greedily, with
    s = (1 + cosine) / 2. The factor 2 is the least that keeps f monotone at every budget.

    A pick's gain needs similarities to sums of features only: O(n·D) a pick, and no n × n matrix.

    Source: Iyer et al., "Submodular Combinatorial Information Measures with Applications in Machine Learning", ALT 2021,
    section 2.
    """

    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        unit_nD = torch.nn.functional.normalize(features_nD, dim=1)
        to_all_n = (len(unit_nD) + unit_nD @ unit_nD.sum(dim=0)) / 2
        # Twice the similarity to all, less that to itself; a picked example takes away twice its similarity.
        gains_n = 2 * to_all_n - (1 + unit_nD.square().sum(dim=1)) / 2
        picked_K = _no_picks(features_nD, picks)
        for position in range(picks):
            best_1 = gains_n.argmax().view(1)
            picked_K[position : position + 1] = best_1
            gains_n = gains_n - 1 - unit_nD @ unit_nD.index_select(0, best_1)[0]
            gains_n.index_fill_(0, best_1, -torch.inf)
        return picked_K


class KCentre(_OfFeatures):
    """Always the example farthest from those picked, from the one nearest the class's mean on: within twice the smallest
    possible radius (Gonzalez, 1985). O(n·D) a pick.

    Source: Sener & Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018,
    algorithm 1.
    """

    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        centred_nD = features_nD - features_nD.mean(dim=0)  # small numbers lose less in the expansion below
        squares_n = centred_nD.square().sum(dim=1)
        picked_K = _no_picks(features_nD, picks)
        free_n = torch.zeros_like(squares_n)
        nearest_n = -squares_n
        for position in range(picks):
            best_1 = (nearest_n + free_n).argmax().view(1)
            picked_K[position : position + 1] = best_1
            free_n.index_fill_(0, best_1, -torch.inf)
            products_n = centred_nD @ centred_nD.index_select(0, best_1)[0]
            distances_n = (squares_n + squares_n.index_select(0, best_1) - 2 * products_n).clamp_(min=0)
            nearest_n = distances_n if position == 0 else torch.minimum(nearest_n, distances_n)
        return picked_K


class Herding(_OfFeatures):
    """Follows the class's mean: each pick is the example most along what the picks so far lack of it. O(n·D) a pick.

    Sources: Welling, "Herding Dynamical Weights to Learn", ICML 2009; Chen et al., "Super-Samples from Kernel Herding",
    UAI 2010, section 2; here without repeats.
    """

    def _positions(self, features_nD: Tensor, picks: int) -> Tensor:
        mean_D = features_nD.mean(dim=0)
        # ⟨w_t, h⟩ with w_t = (t + 1)·mean − the sum of the picks
        toward_mean_n = features_nD @ mean_D
        scores_n = toward_mean_n.clone()
        picked_K = _no_picks(features_nD, picks)
        for position in range(picks):
            best_1 = scores_n.argmax().view(1)
            picked_K[position : position + 1] = best_1
            scores_n = scores_n + toward_mean_n - features_nD @ features_nD.index_select(0, best_1)[0]
            scores_n.index_fill_(0, best_1, -torch.inf)
        return picked_K


def _no_picks(features_nD: Tensor, picks: int) -> Tensor:
    return torch.empty(picks, dtype=torch.int64, device=features_nD.device)
