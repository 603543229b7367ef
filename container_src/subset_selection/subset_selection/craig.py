"""CRAIG: the medoids of the examples' gradients, each weighted by the number of examples nearest to it.

Source: Mirzasoleiman et al., "Coresets for Data-efficient Training of Machine Learning Models", ICML 2020, section 3
(algorithm 1; equation 15 bounds the distance by the last layer's gradients).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from subset_selection import submodular
from subset_selection.divided import ByClass, Group, Problem
from subset_selection.facility_location import FacilityLocation, cluster_sizes
from subset_selection.settings import Settings
from subset_selection.submodular import Rows
from subset_selection.types import Pool, Refresh, Subset
from subset_selection.units import Units, gram_of_means


class Medoids(ByClass):
    """Facility location over the examples of each class or, with ``scope="supervised"``, over all examples.

    Time O(n²·(C + D)) for n examples that are searched together. Memory is 4·n² bytes up to ``submodular.DENSE_LIMIT``
    examples, and bounded beyond.

    Args:
        settings: ``scope``, ``greedy``, ``balance``.
        distances_among: (pool, indices) → the pairwise distances of the gradients or features of these examples.
        weighted: whether the weight of a pick is the number of examples nearest to it, itself included; else all
            weights are 1.
    """

    def __init__(
        self, settings: Settings, distances_among: Callable[[Pool, Tensor], Rows], weighted: bool
    ) -> None:
        super().__init__(
            settings.balance, whole=settings.scope == "supervised" and settings.balance == "none"
        )
        self._greedy = settings.greedy
        self._distances_among = distances_among
        self._weighted = weighted

    def within(self, train: Pool, validation: Pool, problem: Problem, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.divided.ByClass`."""
        indices, quota = problem.indices, problem.quota
        distances = self._distances_among(train, indices)
        picks = submodular.maximise(
            FacilityLocation(), distances, len(indices), quota, self._greedy, generator, train.device
        )
        return Subset.of(indices[picks], cluster_sizes(distances, picks) if self._weighted else None)

    def skip(self, group: Group, generator: torch.Generator) -> None:
        """See :class:`~subset_selection.divided.Divided`."""
        for problem in group:
            submodular.skip(len(problem.indices), problem.quota, self._greedy, generator)


def craig(settings: Settings) -> Medoids:
    """CRAIG over the last layer's gradients, with the paper's weights."""
    return Medoids(settings, gradient_distances, weighted=True)


def feature_medoids(settings: Settings) -> Medoids:
    """Facility location over features, unweighted (Wei et al., "Submodularity in Data Subset Selection and Active
    Learning", ICML 2015)."""
    return Medoids(settings, feature_distances, weighted=False)


class CraigPerBatch:
    """CRAIG over the mini-batches of a random partition, by their mean gradients.

    All examples of a batch get the batch's weight, and the last batch is truncated to the budget.

    Time O(N·C·D + (N/B)²·C·D), memory O((N/B)² + N·D).

    Args:
        settings: ``batch_size`` (B).
    """

    needs_last_layer = True
    needs_validation = False
    refresh: Refresh = "periodically"

    def __init__(self, settings: Settings) -> None:
        self._batch_size = settings.batch_size

    @torch.no_grad()
    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.Strategy`."""
        units = Units.random_batches(len(train), self._batch_size, generator, train.device)
        return self.among(train, units, units.needed(budget), generator).first(budget)

    def among(self, train: Pool, units: Units, picks: int, generator: torch.Generator) -> Subset:
        """As :meth:`select`, with a given partition: the examples of ``picks`` units."""
        gram_UU, _, _ = gram_of_means(train, units)
        squares_U = gram_UU.diagonal()
        everything = torch.arange(len(units), device=train.device)
        distances_UU = _roots(squares_U[:, None] + squares_U - 2 * gram_UU, everything)

        def distances(positions_S: Tensor) -> Tensor:
            return distances_UU[positions_S]

        medoids = submodular.maximise(
            FacilityLocation(), distances, len(units), picks, "auto", generator, train.device
        )
        weights = cluster_sizes(distances, medoids)
        return Subset.of(units.members(medoids), weights.repeat_interleave(units.sizes[medoids]))


def gradient_distances(train: Pool, indices: Tensor) -> Rows:
    """The pairwise distances ‖g_i − g_j‖ of the gradients of these examples, from residuals and features."""
    residuals_NC, features_ND = train.rows(indices)
    squares_N = residuals_NC.square().sum(1) * features_ND.square().sum(1).add_(1)
    one = features_ND.new_ones(1)

    def distances(positions_S: Tensor) -> Tensor:
        # Passes over the block are memory-bound, so the operations are fused and done in place.
        kernel_SN = torch.addmm(one, features_ND[positions_S], features_ND.T)
        products_SN = residuals_NC[positions_S] @ residuals_NC.T
        squares_SN = torch.addcmul(squares_N, kernel_SN, products_SN, value=-2, out=products_SN)
        return _roots(squares_SN.add_(squares_N[positions_S, None]), positions_S)

    return distances


def feature_distances(train: Pool, indices: Tensor) -> Rows:
    """The pairwise distances ‖h_i − h_j‖ of the features of these examples."""
    features_ND = train.features_at(indices)
    squares_N = features_ND.square().sum(1)

    def distances(positions_S: Tensor) -> Tensor:
        squares_SN = torch.addmm(squares_N, features_ND[positions_S], features_ND.T, alpha=-2)
        return _roots(squares_SN.add_(squares_N[positions_S, None]), positions_S)

    return distances


def _roots(squares_SN: Tensor, positions_S: Tensor) -> Tensor:
    """Square roots of squared distances, with exactly 0 for the distance of a point from itself.

    Rounding can leave a small number of either sign where the true distance is 0.
    """
    return squares_SN.clamp_(min=0).scatter_(1, positions_S[:, None], 0.0).sqrt_()
