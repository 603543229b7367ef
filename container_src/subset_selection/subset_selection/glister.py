"""GLISTER-ONLINE: greedily pick the examples whose gradient step lowers the validation loss most.

Source: Killamsetty et al., "GLISTER: Generalization based Data Subset Selection for Efficient and Robust
Learning", AAAI 2021, section 4 (algorithm 1 and the Taylor approximation of its inner loop). The subset
maximises the drop in validation loss after one gradient step on the last layer, taken on the sum over the
subset.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from subset_selection.classes import by_class
from subset_selection.progress import with_progress
from subset_selection.settings import Settings
from subset_selection.types import ROWS_AT_ONCE, Pool, Refresh, Subset
from subset_selection.units import Units

SAMPLING_ERROR = 0.01
"""ε of stochastic greedy: each pick scores N/K·ln(1/ε) candidates (Mirzasoleiman et al., "Lazier Than Lazy Greedy",
AAAI 2015), the value that CORDS uses."""
KERNEL_KEPT = 2**26
"""Elements up to which the kernel between all examples and the validation set is kept (256 MiB in float32)."""
COLUMNS, FEW_CLASSES = 16, 256
"""A product with the validation residuals whose columns are a multiple of ``COLUMNS`` takes a half to two thirds of the
time (10 classes padded to 16: 0.59 instead of 1.11 ms on two cores), up to where the copy costs more than it saves."""
VALIDATION_LIMIT = 5_000
"""Validation examples that steer a selection. Each pick costs time in proportion to them; of more, a sample is drawn,
so that the whole costs time in proportion to N."""


class Glister:
    """GLISTER over the whole pool, class by class, or over mini-batches.

    A pick's gain is g_i · ḡ, with g_i = r_i ⊗ [1, h_i] the example's last-layer gradient and ḡ the mean
    validation gradient. After picking e the validation logits take the step Z ← Z − η·(1 + H·h_e)·r_eᵀ and ḡ is
    computed anew. Both factorise over residuals r and features h, so that memory is O((N + M)·(C + D)) where
    CORDS, which selects the same examples from the same candidates, stores N × (C + C·D). Time is
    O(K·M·C·min(D, S)) for the stochastic search with its S candidates a pick, O(K·N·D·C) for the naive one,
    O(rounds·N·D·C) for RGreedy.

    Scopes: ``supervised`` searches the whole pool; ``per-class`` each class against the validation examples of
    that class (all of them, where the class has none); ``per-batch`` picks whole mini-batches of a random
    partition by their mean gradients, and cuts the last to the budget.

    Args:
        settings: ``eta`` (η; it multiplies a sum over the picks, as in CORDS), ``scope``, ``greedy``,
            ``greedy_rounds``, ``batch_size``, ``balance``.
    """

    needs_last_layer = True
    needs_validation = True
    refresh: Refresh = "periodically"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scope = settings.scope or "per-class"
        self._search: Search = {
            "auto": _stochastic,
            "stochastic": _stochastic,
            "naive": _naive,
            "rgreedy": _in_rounds(settings.greedy_rounds),
        }[settings.greedy]

    @torch.no_grad()
    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.Strategy`."""
        validation = _sample(validation, generator)

        def search(units: Units, guide: Pool, picks: int) -> Tensor:
            steps, looks = self._effort(len(units), picks)
            form = cheapest_form(train, guide, units, steps, looks)
            state = ValidationState(guide, self._settings.eta, form)
            seen, seen_units = train, units
            if form == "known kernel":
                # The search then reads the kernel's rows where it would read features.
                members = units.members(torch.arange(len(units), device=train.device))
                kernel = torch.cat(
                    [state.kernel(train.features_at(block)) for block in members.split(ROWS_AT_ONCE)]
                )
                seen = replace(train.without_features().at(members), features=kernel)
                seen_units = Units.of_all(seen)
            return self._search(seen, seen_units, state, picks, generator)

        def within_class(label: int, indices: Tensor, quota: int) -> Subset:
            of_class = (validation.labels == label).nonzero().flatten()
            guide = validation.at(of_class) if len(of_class) else validation
            return Subset.of(indices[search(Units.singles(indices), guide, quota)])

        if self._scope == "per-batch":
            units = Units.random_batches(len(train), self._settings.batch_size, generator, train.device)
            return Subset.of(units.members(search(units, validation, units.needed(budget)))[:budget])
        if self._scope == "per-class" or self._settings.balance == "class":
            return by_class(train, budget, self._settings.balance, within_class)
        return Subset.of(search(Units.of_all(train), validation, budget))

    def _effort(self, units: int, picks: int) -> tuple[int, int]:
        """How many steps a search takes, and how many units it scores in each."""
        if self._settings.greedy == "naive":
            return picks, units
        if self._settings.greedy == "rgreedy":
            return min(picks, self._settings.greedy_rounds + 1), units
        return picks, candidates_per_pick(units, picks)


def _sample(validation: Pool, generator: torch.Generator) -> Pool:
    if len(validation) <= VALIDATION_LIMIT:
        return validation
    drawn = torch.randperm(len(validation), generator=generator)[:VALIDATION_LIMIT].sort().values
    return validation.at(drawn.to(validation.device))


Form = Literal["gradient", "kernel", "known kernel"]
"""What a gain is computed from: the mean gradient [C, D], made anew at each step; the kernel 1 + h_i·h_v between the
examples scored and the validation examples; or that kernel of all examples, made once."""


def cheapest_form(train: Pool, validation: Pool, units: Units, steps: int, looks: int) -> Form:
    """By the number of multiplications. A single large matrix product makes four while many small ones make one."""
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
    """The validation set's logits as the picks so far have moved them, and the mean gradient there.

    Args:
        validation: with logits [M, C] and features [M, D].
        eta: step size.
        form: what ``gains`` and ``step`` are given beside residuals: features [S, D], or with ``known kernel`` rows of
            the kernel [S, M].

    P in names: C, padded with columns of zeros.
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
        """1 + h_i·h_v, [S, M]."""
        return (features_SD @ self._features_MD.T).add_(1)

    def gains(self, residuals_SC: Tensor, seen: Tensor) -> Tensor:
        """g_i · ḡ of examples, [S]: the first-order drop in validation loss per unit of step."""
        if self._form == "gradient":
            # g_i · ḡ = r_i · ḡ_bias + r_i · (Ḡ_weights h_i)
            projected_SP = torch.addmm(self._bias_gradient_P, seen, self._weight_gradient_PD.T)
        else:
            kernel_SM = seen if self._form == "known kernel" else self.kernel(seen)
            projected_SP = kernel_SM @ self._mean_residuals_MP
        return (residuals_SC * projected_SP[:, : residuals_SC.shape[1]]).sum(dim=1)

    def step(self, residuals_SC: Tensor, seen: Tensor) -> None:
        """Move the validation logits by the gradient step on the sum of some examples."""
        kernel_SM = seen if self._form == "known kernel" else self.kernel(seen)
        self._logits_MC.addmm_(kernel_SM.T, residuals_SC, alpha=-self.eta)
        self._refresh()

    def _refresh(self) -> None:
        residuals_MC = self._logits_MC.softmax(dim=1)
        residuals_MC.view(-1).index_add_(0, self._label_positions_M, self._minus_ones_M)
        self._mean_residuals_MP = residuals_MC.div_(len(residuals_MC))
        if self._padding:  # pad() copies even where there is nothing to add
            self._mean_residuals_MP = torch.nn.functional.pad(residuals_MC, (0, self._padding))
        if self._form == "gradient":
            self._bias_gradient_P = self._mean_residuals_MP.sum(dim=0)
            self._weight_gradient_PD = self._mean_residuals_MP.T @ self._features_MD


Search = Callable[[Pool, Units, ValidationState, int, torch.Generator], Tensor]
"""(train, units, state, picks K, generator) → positions of the picked units, [K], in the order of picking."""


def candidates_per_pick(units: int, picks: int) -> int:
    return min(units, max(1, int(units / picks * math.log(1 / SAMPLING_ERROR))))


def candidate_positions(units: int, picks: int, generator: torch.Generator) -> Tensor:
    """For each pick, the positions (among those that remain) of the candidates that it scores, [K, S].

    Drawn with replacement, which stochastic greedy's guarantee allows: then all draws are made at once.
    """
    left_K = torch.arange(units, units - picks, -1, dtype=torch.float64)
    shape = (picks, candidates_per_pick(units, picks))
    draws_KS = torch.rand(shape, generator=generator, dtype=torch.float64)
    return draws_KS.mul_(left_K[:, None]).long()


def _stochastic(
    train: Pool, units: Units, state: ValidationState, picks: int, generator: torch.Generator
) -> Tensor:
    """Stochastic greedy. No step waits for the device: indices stay there until the end."""
    remaining_U = torch.arange(len(units), device=train.device)
    picked_K = torch.empty(picks, dtype=torch.int64, device=train.device)
    positions_KS = candidate_positions(len(units), picks, generator).to(train.device)
    for count, positions_S in enumerate(with_progress(positions_KS, picks)):
        candidates_S = remaining_U.index_select(0, positions_S)
        residuals, features = units.rows(train, candidates_S)
        best_1 = units.mean(state.gains(residuals, features)).argmax().view(1)
        picked_K[count : count + 1] = candidates_S.index_select(0, best_1)
        # The last of those that remain takes the place of the picked one.
        last = len(units) - 1 - count
        remaining_U.index_copy_(0, positions_S.index_select(0, best_1), remaining_U[last : last + 1].clone())
        if count + 1 < picks:
            state.step(*units.share(residuals, features, best_1))
    return picked_K


def _naive(
    train: Pool, units: Units, state: ValidationState, picks: int, generator: torch.Generator
) -> Tensor:
    """Looks at every remaining example for each pick."""
    return _rounds(train, units, state, [1] * picks)


def _in_rounds(rounds: int) -> Search:
    """RGreedy: K // rounds picks at a time (at least one), the last round what is missing."""

    def search(
        train: Pool, units: Units, state: ValidationState, picks: int, generator: torch.Generator
    ) -> Tensor:
        size = max(1, picks // rounds)
        sizes = [min(size, picks - start) for start in range(0, picks, size)]
        return _rounds(train, units, state, sizes)

    return search


def _rounds(train: Pool, units: Units, state: ValidationState, sizes: list[int]) -> Tensor:
    blocks = torch.arange(len(units), device=train.device).split(units.block)
    # One gather serves all rounds where the rows of everything fit into one block.
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
    """Positions of the largest, equal ones in order."""
    if count == 1:
        return gains_U.argmax().view(1)
    return gains_U.sort(descending=True, stable=True).indices[:count]
