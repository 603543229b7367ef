"""GLISTER-ONLINE: greedily picks the examples whose gradient step reduces the validation loss most.

Source: Killamsetty et al., "GLISTER: Generalization based Data Subset Selection for Efficient and Robust
Learning", AAAI 2021, section 4 (algorithm 1 and the Taylor approximation of its inner loop). The subset
maximises the reduction of the validation loss by one gradient step of the last layer on the subset's summed loss.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from subset_selection.divided import ANY, ByClass, Group, Problem, of_class
from subset_selection.progress import with_progress
from subset_selection.settings import Settings
from subset_selection.types import ROWS_AT_ONCE, Pool, Subset
from subset_selection.units import Units

SAMPLING_ERROR = 0.01
"""ε of stochastic greedy, with the value that CORDS uses. Each pick scores N/K·ln(1/ε) candidates (Mirzasoleiman et
al., "Lazier Than Lazy Greedy", AAAI 2015)."""
KERNEL_KEPT = 2**26
"""Number of elements up to which the kernel between all examples and the validation set is stored (256 MiB in
float32)."""
COLUMNS, FEW_CLASSES = 16, 256
"""Validation residuals of fewer than ``FEW_CLASSES`` columns are padded to a multiple of ``COLUMNS``, because the
matrix product then takes a half to two thirds of the time (10 classes padded to 16: 0.59 instead of 1.11 ms on two
cores). With more columns, the copy costs more than it saves."""
VALIDATION_LIMIT = 5_000
"""Number of validation examples that a selection uses at most; from a larger set a sample is drawn. The cost of a pick
is proportional to this number, so the limit keeps the total cost proportional to N."""


class Glister(ByClass):
    """GLISTER over the whole pool, class by class, or over mini-batches.

    A pick's gain is g_i · ḡ, where g_i = r_i ⊗ [1, h_i] is the example's last-layer gradient and ḡ is the mean
    validation gradient. After example e is picked, the validation logits take the step Z ← Z − η·(1 + H·h_e)·r_eᵀ, and
    ḡ is recomputed. Both factorise over residuals r and features h, so memory is O((N + M)·(C + D)). CORDS, which
    selects the same examples from the same candidates, stores N × (C + C·D) numbers. Time is O(K·M·C·min(D, S)) for the
    stochastic search with S candidates per pick, O(K·N·D·C) for the naive search and O(rounds·N·D·C) for RGreedy.

    Scopes: ``supervised`` searches the whole pool. ``per-class`` searches each class, and scores it on the validation
    examples of that class, or on all of them if the class has none. ``per-batch`` picks whole mini-batches of a random
    partition by their mean gradients, and truncates the last one to the budget.

    Args:
        settings: ``eta`` (η, which multiplies the sum over the picks, as in CORDS), ``scope``, ``greedy``,
            ``greedy_rounds``, ``batch_size``, ``balance``.
    """

    needs_validation = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scope = settings.scope or "per-class"
        by_class = self._scope == "per-class" or (self._scope == "supervised" and settings.balance == "class")
        super().__init__(settings.balance, whole=not by_class)
        self._search: Search = {
            "auto": _stochastic,
            "stochastic": _stochastic,
            "naive": _naive,
            "rgreedy": _in_rounds(settings.greedy_rounds),
        }[settings.greedy]

    def guides(self, validation: int, generator: torch.Generator) -> Tensor | None:
        """See :class:`~subset_selection.divided.Divided`. At most ``VALIDATION_LIMIT``."""
        if validation <= VALIDATION_LIMIT:
            return None
        return torch.randperm(validation, generator=generator)[:VALIDATION_LIMIT].sort().values

    def within(self, train: Pool, validation: Pool, problem: Problem, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.divided.ByClass`."""
        quota = problem.quota
        if self._scope == "per-batch":
            units = Units.random_batches(len(train), self._settings.batch_size, generator, train.device)
            picks = self.search(train, units, validation, units.needed(quota), generator)
            return Subset.of(units.members(picks)[:quota])
        if problem.label == ANY:
            return Subset.of(self.search(train, Units.of_all(train), validation, quota, generator))
        guide = of_class(validation, problem.label)
        picks = self.search(train, Units.singles(problem.indices), guide, quota, generator)
        return Subset.of(problem.indices[picks])

    def skip(self, group: Group, generator: torch.Generator) -> None:
        """See :class:`~subset_selection.divided.Divided`."""
        for problem in group:
            count, picks = len(problem.indices), problem.quota
            if self._scope == "per-batch":
                units = Units.random_batches(
                    count, self._settings.batch_size, generator, problem.indices.device
                )
                count, picks = len(units), units.needed(picks)
            if self._settings.greedy in ("auto", "stochastic"):
                candidate_positions(count, picks, generator)

    def search(
        self, train: Pool, units: Units, guide: Pool, picks: int, generator: torch.Generator
    ) -> Tensor:
        """Search some units of a pool. Returns the positions of the picked units, [K], in the order of picking."""
        steps, looks = self._effort(len(units), picks)
        form = cheapest_form(train, guide, units, steps, looks)
        state = ValidationState(guide, self._settings.eta, form)
        seen, seen_units = train, units
        if form == "known kernel":
            # In this form the search reads rows of the kernel in place of features.
            members = units.members(torch.arange(len(units), device=train.device))
            kernel = torch.cat(
                [state.kernel(train.features_at(block)) for block in members.split(ROWS_AT_ONCE)]
            )
            seen = replace(train.without_features().at(members), features=kernel)
            seen_units = Units.of_all(seen)
        return self._search(seen, seen_units, state, picks, generator)

    def _effort(self, units: int, picks: int) -> tuple[int, int]:
        """The number of steps of a search, and the number of units that it scores in each step."""
        if self._settings.greedy == "naive":
            return picks, units
        if self._settings.greedy == "rgreedy":
            return min(picks, self._settings.greedy_rounds + 1), units
        return picks, candidates_per_pick(units, picks)


Form = Literal["gradient", "kernel", "known kernel"]
"""How gains are computed: from the mean gradient [C, D], recomputed at each step; from the kernel 1 + h_i·h_v between
the scored examples and the validation examples; or from that kernel for all examples, computed once."""


def cheapest_form(train: Pool, validation: Pool, units: Units, steps: int, looks: int) -> Form:
    """The form with the lowest estimated cost, by the number of multiplications.

    A multiplication in a single large matrix product is counted as a quarter, because it is about four times as fast as
    in many small products.

    Args:
        train: the examples.
        validation: the validation examples that guide the search.
        units: the units of the search.
        steps: number of steps of the search.
        looks: number of units scored in each step.
    """
    examples, guides = len(units) * units.width, len(validation)
    rows, classes, features = looks * units.width, train.classes, train.depth
    costs: dict[Form, float] = {
        "gradient": steps * classes * features * (guides + rows),
        "kernel": steps * rows * guides * (classes + features),
    }
    if units.width == 1 and examples * guides <= KERNEL_KEPT:
        costs["known kernel"] = examples * guides * features / 4 + steps * rows * guides * classes
    return min(costs, key=lambda form: costs[form])


class ValidationState:
    """The validation set's logits after the steps on the picks so far, and the mean gradient at these logits.

    The dimension P in names is C, padded with columns of zeros.

    Args:
        validation: a pool with logits [M, C] and features [M, D].
        eta: step size.
        form: determines the second argument of ``gains`` and ``step``: features [S, D], or for ``known kernel`` rows of
            the kernel [S, M].
    """

    def __init__(self, validation: Pool, eta: float, form: Form = "gradient") -> None:
        residuals_MC, self._features_MD = validation.all_rows()
        self._logits_MC = validation.logits.to(residuals_MC.dtype, copy=True)  # type: ignore[union-attr]
        rows_M = torch.arange(len(validation), device=validation.device)
        self._label_positions_M = rows_M * residuals_MC.shape[1] + validation.labels
        self._minus_ones_M = residuals_MC.new_full((len(validation),), -1.0)
        classes = residuals_MC.shape[1]
        self._padding = -classes % COLUMNS if classes < FEW_CLASSES else 0
        self._form = form
        self.eta = eta
        self._refresh()

    def kernel(self, features_SD: Tensor) -> Tensor:
        """The kernel 1 + h_i·h_v of some examples with all validation examples, [S, M]."""
        return (features_SD @ self._features_MD.T).add_(1)

    def gains(self, residuals_SC: Tensor, seen: Tensor) -> Tensor:
        """The gains g_i · ḡ of some examples, [S]: the first-order reduction of the validation loss per unit of step
        size."""
        if self._form == "gradient":
            # g_i · ḡ = r_i · ḡ_bias + r_i · (Ḡ_weights h_i)
            projected_SP = torch.addmm(self._bias_gradient_P, seen, self._weight_gradient_PD.T)
        else:
            kernel_SM = seen if self._form == "known kernel" else self.kernel(seen)
            projected_SP = kernel_SM @ self._mean_residuals_MP
        return (residuals_SC * projected_SP[:, : residuals_SC.shape[1]]).sum(dim=1)

    def step(self, residuals_SC: Tensor, seen: Tensor) -> None:
        """Update the validation logits by a gradient step on the summed loss of some examples."""
        kernel_SM = seen if self._form == "known kernel" else self.kernel(seen)
        self._logits_MC.addmm_(kernel_SM.T, residuals_SC, alpha=-self.eta)
        self._refresh()

    def _refresh(self) -> None:
        residuals_MC = self._logits_MC.softmax(dim=1)
        residuals_MC.view(-1).index_add_(0, self._label_positions_M, self._minus_ones_M)
        self._mean_residuals_MP = residuals_MC.div_(len(residuals_MC))
        if self._padding:  # pad() copies even if it adds nothing
            self._mean_residuals_MP = torch.nn.functional.pad(residuals_MC, (0, self._padding))
        if self._form == "gradient":
            self._bias_gradient_P = self._mean_residuals_MP.sum(dim=0)
            self._weight_gradient_PD = self._mean_residuals_MP.T @ self._features_MD


Search = Callable[[Pool, Units, ValidationState, int, torch.Generator], Tensor]
"""(train, units, state, picks K, generator) → positions of the picked units, [K], in the order of picking."""


def candidates_per_pick(units: int, picks: int) -> int:
    return min(units, max(1, int(units / picks * math.log(1 / SAMPLING_ERROR))))


def candidate_positions(units: int, picks: int, generator: torch.Generator) -> Tensor:
    """For each pick, the positions of its candidates among the remaining units, [K, S].

    Candidates are drawn with replacement, so that all draws are made at once. The guarantee of stochastic greedy allows
    this.
    """
    left_K = torch.arange(units, units - picks, -1, dtype=torch.float64)
    shape = (picks, candidates_per_pick(units, picks))
    draws_KS = torch.rand(shape, generator=generator, dtype=torch.float64)
    return draws_KS.mul_(left_K[:, None]).long()


def _stochastic(
    train: Pool, units: Units, state: ValidationState, picks: int, generator: torch.Generator
) -> Tensor:
    """Stochastic greedy. Indices stay on the device until the end, so that no step waits for the device."""
    remaining_U = torch.arange(len(units), device=train.device)
    picked_K = torch.empty(picks, dtype=torch.int64, device=train.device)
    positions_KS = candidate_positions(len(units), picks, generator).to(train.device)
    for count, positions_S in enumerate(with_progress(positions_KS, picks)):
        candidates_S = remaining_U.index_select(0, positions_S)
        residuals, features = units.rows(train, candidates_S)
        best_1 = units.mean(state.gains(residuals, features)).argmax().view(1)
        picked_K[count : count + 1] = candidates_S.index_select(0, best_1)
        # The last remaining unit replaces the picked one.
        last = len(units) - 1 - count
        remaining_U.index_copy_(0, positions_S.index_select(0, best_1), remaining_U[last : last + 1].clone())
        if count + 1 < picks:
            state.step(*units.share(residuals, features, best_1))
    return picked_K


def _naive(
    train: Pool, units: Units, state: ValidationState, picks: int, generator: torch.Generator
) -> Tensor:
    """Exact greedy: scores every remaining unit for each pick."""
    return _rounds(train, units, state, [1] * picks)


def _in_rounds(rounds: int) -> Search:
    """RGreedy: each round picks K // rounds units, at least one; the last round picks the remainder."""

    def search(
        train: Pool, units: Units, state: ValidationState, picks: int, generator: torch.Generator
    ) -> Tensor:
        size = max(1, picks // rounds)
        sizes = [min(size, picks - start) for start in range(0, picks, size)]
        return _rounds(train, units, state, sizes)

    return search


def _rounds(train: Pool, units: Units, state: ValidationState, sizes: list[int]) -> Tensor:
    blocks = torch.arange(len(units), device=train.device).split(units.block)
    # If all rows fit in one block, they are gathered once for all rounds.
    kept = units.all_rows(train) if len(blocks) == 1 else None
    taken_U = torch.zeros(len(units), dtype=torch.bool, device=train.device)
    picked: list[Tensor] = []
    for count, size in enumerate(with_progress(sizes, len(sizes))):
        rows = (units.rows(train, block) for block in blocks) if kept is None else [kept]
        gains_U = torch.cat([units.mean(state.gains(*block)) for block in rows])
        gains_U.masked_fill_(taken_U, -torch.inf)
        best = _largest(gains_U, size)
        picked.append(best)
        taken_U[best] = True
        if count + 1 < len(sizes):
            state.step(*units.rows(train, best))
    return torch.cat(picked)


def _largest(gains_U: Tensor, count: int) -> Tensor:
    """Positions of the largest gains; ties keep their order."""
    if count == 1:
        return gains_U.argmax().view(1)
    return gains_U.sort(descending=True, stable=True).indices[:count]
