"""Orthogonal matching pursuit with non-negative weights, for many small problems at once.

Each problem approximates a vector b by a few of its atoms g_i: min ‖b − Σ x_i g_i‖² + λ‖x‖², x ≥ 0. Only inner products
are used. The next atom is chosen greedily as in Tropp, "Greed is Good", IEEE Trans. Inf. Theory 2004. The weights are
then updated by Lawson and Hanson's active-set step ("Solving Least Squares Problems", 1974, chapter 23), which drops
atoms whose weight would become negative, and cannot cycle. The inverse of the chosen atoms' Gram matrix is maintained
by rank-one updates in O(k²) per step, without a new factorisation.

Dimensions: P problems, N atoms (padded), k slots of chosen atoms.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

DEPENDENT = 1e-8
"""An atom is treated as linearly dependent on the chosen atoms if the squared norm of its orthogonal part is below this
fraction of its squared norm."""


@dataclass(frozen=True)
class Matched:
    """The weights of all atoms, [P, N], zero for atoms that are not chosen; whether each atom is chosen, [P, N]; and
    ‖b − Σ x_i g_i‖², [P]."""

    weights: Tensor
    chosen: Tensor
    residual_squares: Tensor


def nonnegative_omp(
    columns: Callable[[Tensor], Tensor],
    correlations_PN: Tensor,
    available_PN: Tensor,
    target_squares_P: Tensor,
    budgets_P: Tensor,
    lam: float,
    eps: float,
) -> Matched:
    """Choose up to ``budgets_P`` atoms in each problem.

    Args:
        columns: (one atom per problem, [P]) → its inner products with all atoms of its problem, [P, N].
        correlations_PN: ⟨g_i, b⟩.
        available_PN: bool, the atoms that may be chosen.
        target_squares_P: ‖b‖².
        budgets_P: int64, the maximum number of atoms. A problem ends early if ‖b − Σ x_i g_i‖ ≤ ε·‖b‖, or if no atom
            has a positive inner product with the residual (the non-negative optimum).
        lam: λ.
        eps: ε.
    """
    device = correlations_PN.device
    problems, slots = len(correlations_PN), int(budgets_P.max())
    row_P = torch.arange(problems, device=device)
    available_PN = available_PN.clone()
    atoms_Pk = torch.zeros(problems, slots, dtype=torch.int64, device=device)
    active_Pk = torch.zeros(problems, slots, dtype=torch.bool, device=device)
    columns_PkN = correlations_PN.new_zeros(problems, slots, correlations_PN.shape[1])
    # The small system is solved in float64, because gradients of one class are often nearly parallel.
    weights_Pk = torch.zeros(problems, slots, dtype=torch.float64, device=device)
    targets_Pk = torch.zeros_like(weights_Pk)
    inverse_Pkk = torch.zeros(problems, slots, slots, dtype=torch.float64, device=device)
    done_P = budgets_P <= 0

    width = 1  # slots in use: the matrices grow with the number of chosen atoms, not with the budget
    for _ in range(3 * slots + 8):
        explained_PN = torch.bmm(
            weights_Pk[:, None, :width].to(columns_PkN.dtype), columns_PkN[:, :width]
        ).squeeze(1)
        left_PN = correlations_PN - explained_PN
        residual_squares_P = (
            target_squares_P
            - (weights_Pk * targets_Pk).sum(1)
            - (weights_Pk * left_PN.gather(1, atoms_Pk)).sum(1)
        )
        best_P, atom_P = left_PN.masked_fill(~available_PN, -torch.inf).max(dim=1)
        done_P = (
            done_P
            | (active_Pk.sum(1) >= budgets_P)
            | (residual_squares_P <= eps**2 * target_squares_P)
            | (best_P <= 0)
        )
        if bool(done_P.all()):
            break

        slot_P = (~active_Pk).to(torch.uint8).argmax(dim=1)  # the first free slot
        width = max(width, min(slots, int(active_Pk.sum(1).max()) + 1))
        column_PN = columns(atom_P)
        available_PN[row_P, atom_P] &= done_P
        gram_Pk = column_PN.gather(1, atoms_Pk).double() * active_Pk
        squared_P = column_PN.gather(1, atom_P[:, None]).squeeze(1).double() + lam
        direction_Pk = torch.zeros_like(gram_Pk)
        direction_Pk[:, :width] = torch.bmm(inverse_Pkk[:, :width, :width], gram_Pk[:, :width, None]).squeeze(
            2
        )
        orthogonal_P = squared_P - (gram_Pk * direction_Pk).sum(1)
        entering_P = ~done_P & (orthogonal_P > DEPENDENT * squared_P)

        # Bordered inverse: one rank-one term with −1 in the new slot.
        border_Pk = direction_Pk.clone()
        border_Pk[row_P, slot_P] = -1.0
        scale_P = torch.where(entering_P, 1 / orthogonal_P.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
        inverse_Pkk[:, :width, :width].baddbmm_(
            (border_Pk * scale_P[:, None])[:, :width, None], border_Pk[:, None, :width]
        )
        entered_P = entering_P.nonzero().flatten()
        at = (entered_P, slot_P[entered_P])
        atoms_Pk[at] = atom_P[entered_P]
        active_Pk[at] = True
        targets_Pk[at] = correlations_PN[entered_P, atom_P[entered_P]].double()
        columns_PkN[at] = column_PN[entered_P]
        weights_Pk = _feasible(
            weights_Pk, targets_Pk, inverse_Pkk, active_Pk, atoms_Pk, available_PN, slot_P, width
        )

    weights_PN = torch.zeros_like(correlations_PN).scatter_add_(
        1, atoms_Pk, (weights_Pk * active_Pk).to(correlations_PN.dtype)
    )
    chosen_PN = torch.zeros_like(available_PN, dtype=torch.int32)
    chosen_PN.scatter_add_(1, atoms_Pk, active_Pk.int())
    return Matched(weights_PN, chosen_PN > 0, residual_squares_P)


def _feasible(
    weights_Pk: Tensor,
    targets_Pk: Tensor,
    inverse_Pkk: Tensor,
    active_Pk: Tensor,
    atoms_Pk: Tensor,
    available_PN: Tensor,
    newest_P: Tensor,
    width: int,
) -> Tensor:
    """The optimal non-negative weights of the active slots.

    The weights move from their present values towards the unconstrained optimum, and the slot whose weight first
    reaches zero is removed, until no weight of the optimum is negative. Changes the inverse, ``active_Pk`` and
    ``available_PN`` in place.
    """
    while True:
        optimum_Pk = torch.zeros_like(weights_Pk)
        optimum_Pk[:, :width] = torch.bmm(
            inverse_Pkk[:, :width, :width], (targets_Pk * active_Pk)[:, :width, None]
        ).squeeze(2)
        negative_Pk = active_Pk & (optimum_Pk <= 0)
        blocked_P = negative_Pk.any(dim=1).nonzero().flatten()
        if not len(blocked_P):
            return optimum_Pk * active_Pk
        now, goal = weights_Pk[blocked_P], optimum_Pk[blocked_P]
        reach = torch.where(negative_Pk[blocked_P], now / (now - goal).clamp(min=1e-300), torch.inf)
        share, slot = reach.min(dim=1)
        weights_Pk = optimum_Pk.clone()
        moved = now + share[:, None].clamp(0, 1) * (goal - now)
        weights_Pk[blocked_P] = moved.clamp_(min=0)
        weights_Pk[blocked_P, slot] = 0.0
        column = inverse_Pkk[blocked_P, :, slot]
        inverse_Pkk[blocked_P] -= (
            column[:, :, None] * column[:, None, :] / column.gather(1, slot[:, None])[:, :, None]
        )
        inverse_Pkk[blocked_P, :, slot] = 0.0
        inverse_Pkk[blocked_P, slot, :] = 0.0
        active_Pk[blocked_P, slot] = False
        # A removed atom may be chosen again later, unless it is removed in the step that added it.
        returns = slot != newest_P[blocked_P]
        available_PN[blocked_P[returns], atoms_Pk[blocked_P, slot][returns]] = True
