"""CORDS's loaders that select once, before the training; see :mod:`subset_selection.cords`.

The four that take ``size_chunk`` compare the inputs themselves, ``size_chunk`` at a time in the order of the data
set: s_ij = max d² − d²_ij, with d the Euclidean distance and the maximum over the chunk. As in CORDS, similarities
are rounded to the inputs' precision and gains are summed in float64, so that the same examples are picked in the same
order, and equal gains are told apart in CORDS's way. (In double precision rounding may tell them apart there.)
"""

import heapq
import math
from collections.abc import Iterator
from importlib import import_module
from itertools import count
from typing import Any, ClassVar

import torch
from torch import Tensor

from subset_selection.cords.base import Craig, DSSDataLoader, in_order
from subset_selection.facility_location import FacilityLocation
from subset_selection.saturated_coverage import Coverage
from subset_selection.submodular import Function

ROWS = 1024
"""Number of rows of similarities that are computed at a time."""


class NonAdaptiveDSSDataLoader(DSSDataLoader):
    """Selects once, when it is made. Other arguments are those of :class:`DSSDataLoader`.

    Args:
        train_loader: its data set is selected from, with its ``batch_size``, ``collate_fn`` and ``num_workers``.
        val_loader: not used.
        dss_args: ``fraction``, ``device`` and the strategy's own.
    """

    def __init__(
        self, train_loader: Any, val_loader: Any, dss_args: Any, logger: Any, *args: Any, **kwargs: Any
    ) -> None:
        self.train_loader, self.val_loader = train_loader, val_loader
        super().__init__(train_loader.dataset, dss_args, logger, *args, **kwargs)

    def _begin(self) -> None:
        self.resample()


class CRAIGDataLoader(Craig, NonAdaptiveDSSDataLoader):
    """CRAIG by the model as it is when the loader is made, or by the inputs (``if_convex``), as its paper does for
    convex losses. CORDS's own cannot be made: it selects before it has a strategy.

    Args: see :class:`~subset_selection.cords.base.Craig`.
    """


class SubmodDataLoader(NonAdaptiveDSSDataLoader):
    """What the four loaders share that pick by similarities of inputs. All weights are 1.

    Time O(n²·D), memory 8·n² bytes, for the n = ``size_chunk`` examples that are compared at a time.

    Args: see :class:`NonAdaptiveDSSDataLoader`; ``dss_args`` also has ``size_chunk`` and, with ``data_type="text"``,
        ``model``, whose ``embedding`` is averaged over an input's tokens.
    """

    needs: ClassVar[tuple[str, ...]] = ("size_chunk",)

    def _prepare(self) -> None:
        size = self.dss_args["size_chunk"]
        if size != int(size) or size < 1:
            raise ValueError(f"size_chunk={size!r}: expected a whole number of examples, at least 1")
        self._size = int(size)
        self._embedding: Any = None
        if self.dss_args.get("data_type") == "text":
            self._embedding = getattr(self.dss_args.get("model"), "embedding", None)
            if self._embedding is None:
                raise ValueError("data_type='text': expected a model with an attribute embedding in dss_args")

    def _selected(self) -> tuple[Any, Any]:
        picks = []
        for number, (rows_nD, quota) in enumerate(zip(self._chunks(), self._quotas(), strict=True)):
            if quota:
                picks.append(self._chosen(similarities(rows_nD), quota) + number * self._size)
        return import_module("numpy").concatenate(picks), torch.ones(self.budget)

    def _chosen(self, similarities_nn: Tensor, quota: int) -> Tensor:
        """The positions of the picks, [quota], in the order of picking. May change the matrix."""
        raise NotImplementedError

    def _quotas(self) -> list[int]:
        """The picks of each chunk: ⌈K / chunks⌉ until K are picked, as in CORDS. What a short last chunk cannot give,
        the first chunks give."""
        sizes = [min(self._size, self.len_full - at) for at in range(0, self.len_full, self._size)]
        quotas = [0] * len(sizes)
        for most in (math.ceil(self.budget / len(sizes)), self.len_full):
            for number, size in enumerate(sizes):
                quotas[number] += min(most, size - quotas[number], self.budget - sum(quotas))
        return quotas

    @torch.no_grad()
    def _chunks(self) -> Iterator[Tensor]:
        """The inputs of each chunk, [n, D], on the CPU."""
        rows_nD: list[Tensor] = []
        for inputs, _ in in_order(self.train_loader):
            rows_nD.extend(self._rows(inputs).split(1))
            while len(rows_nD) >= self._size:
                yield torch.cat(rows_nD[: self._size])
                del rows_nD[: self._size]
        if rows_nD:
            yield torch.cat(rows_nD)

    def _rows(self, inputs: Tensor) -> Tensor:
        if self._embedding is not None:
            inputs = self._embedding(inputs.to(self.device)).mean(dim=1).cpu()
        return inputs.flatten(1)


class FacLocDataLoader(SubmodDataLoader):
    """Facility location: every example has a pick near it."""

    def _chosen(self, similarities_nn: Tensor, quota: int) -> Tensor:
        distances_nn = similarities_nn.neg_().sub_(similarities_nn.min())
        return _lazily(FacilityLocation(), distances_nn, quota)


class SaturatedCoverageDataLoader(SubmodDataLoader):
    """Saturated coverage: Σ_i min(Σ_{j∈S} s_ij, α·Σ_j s_ij) with α = K/n, see
    :class:`~subset_selection.saturated_coverage.SaturatedCoverage`. CORDS's loader of this name maximises facility
    location."""

    def _chosen(self, similarities_nn: Tensor, quota: int) -> Tensor:
        most_n = similarities_nn.sum(dim=1) * (quota / len(similarities_nn))
        return _lazily(Coverage(most_n), similarities_nn, quota)


class GraphCutDataLoader(SubmodDataLoader):
    """Graph cut: Σ_{i∈S} Σ_j s_ij − Σ_{i,j∈S} s_ij. Picks are similar to all examples, and not to each other."""

    def _chosen(self, similarities_nn: Tensor, quota: int) -> Tensor:
        return _apart(similarities_nn.sum(dim=1), similarities_nn, quota)


class SumRedundancyDataLoader(SubmodDataLoader):
    """Sum redundancy: −Σ_{i,j∈S} s_ij. Picks are not similar to each other; the first is the first example."""

    def _chosen(self, similarities_nn: Tensor, quota: int) -> Tensor:
        return _apart(similarities_nn.new_zeros(len(similarities_nn)), similarities_nn, quota)


def similarities(rows_nD: Tensor) -> Tensor:
    """max d² − d²_ij of all pairs of rows, [n, n] float64, with values that float32 holds if the rows are float32."""
    wide_nD, narrow = rows_nD.double(), torch.float32 if rows_nD.dtype == torch.float32 else torch.float64
    squares_n = wide_nD.square().sum(dim=1)
    matrix_nn = wide_nD.new_empty(len(rows_nD), len(rows_nD))
    for first in range(0, len(rows_nD), ROWS):  # each pair once
        part, rest = slice(first, first + ROWS), slice(first, None)
        block = torch.addmm(squares_n[rest], wide_nD[part], wide_nD[rest].T, alpha=-2)
        block = block.add_(squares_n[part, None]).clamp_(min=0).to(narrow)
        matrix_nn[rest, part] = block.T
        matrix_nn[part, rest] = block
    largest = matrix_nn.fill_diagonal_(0).max()
    for block in matrix_nn.split(ROWS):
        block.copy_((largest - block).to(narrow))
    return matrix_nn


def _lazily(function: Function, rows_nn: Tensor, picks: int) -> Tensor:
    """The search of :func:`~subset_selection.submodular.lazy_greedy`, one gain at a time in the order of the library
    apricot, which CORDS uses. Of equal gains it takes the one that was larger when it was last evaluated."""
    numbers = count()
    bounds = [(-gain, next(numbers), place) for place, gain in enumerate(function.start(rows_nn).tolist())]
    heapq.heapify(bounds)
    picked: list[int] = []
    while len(picked) < picks:
        best, best_gain = -1, -math.inf
        while True:
            bound, _, place = heapq.heappop(bounds)
            if place == best or bound == 0:  # without gain are duplicates of picks, in any order
                break
            gain = float(function.gains(rows_nn[place : place + 1]))
            heapq.heappush(bounds, (-gain, next(numbers), place))
            if gain > best_gain:
                best, best_gain = place, gain
        picked.append(place)
        function.add(rows_nn[place])
    return torch.tensor(picked)


def _apart(worths_n: Tensor, similarities_nn: Tensor, picks: int) -> Tensor:
    """Exact greedy search of Σ_{i∈S} worth_i − Σ_{i,j∈S} s_ij, whose gains may be negative: positions [picks]."""
    covered_n = similarities_nn.diagonal().clone()
    picked = []
    for _ in range(picks):
        picked.append(int((worths_n - covered_n).argmax()))
        covered_n.add_(similarities_nn[picked[-1]], alpha=2)
        covered_n[picked[-1]] = torch.inf
    return torch.tensor(picked)
