"""GRAD-MATCH: a small weighted subset whose gradient matches that of all examples.

Source: Killamsetty et al., "GRAD-MATCH: Gradient Matching based Data Subset Selection for Efficient Deep Model
Training", ICML 2021, section 3 (algorithm 2, with the penalty λ and the tolerance ε).
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from subset_selection.classes import joined, members, quotas
from subset_selection.divided import Divided, Group, Problem, guides_of
from subset_selection.omp import nonnegative_omp
from subset_selection.progress import with_progress
from subset_selection.settings import Settings
from subset_selection.types import Pool, Refresh, Subset
from subset_selection.units import Units, gram_of_means

PART = 10_000
"""Number of examples that are matched together. A larger class is divided at random, and each part matches its own
gradient. This bounds the memory of the matrices, and keeps time proportional to N."""
GRAM_KEPT = 1 << 26
"""Number of elements up to which all inner products of a group of problems are computed at once (256 MiB in
float32)."""
GROUP_ELEMENTS = 1 << 27
"""Limit on the number of elements of the problems that are solved together (512 MiB in float32)."""


class GradMatch(Divided):
    """GRAD-MATCH class by class.

    Scopes: ``per-class-per-gradient`` matches the gradient of the class's own logit alone (D + 1 numbers);
    ``per-class`` matches the gradient of the whole last layer. Inner products are computed from residuals and features,
    ⟨g_i, g_j⟩ = (r_i·r_j)(1 + h_i·h_j). Time O(K·N/C·(C + D + K/C)), memory O(K·N/C).

    If a class's gradient is matched before its quota is used up, the gradient is matched again by the rest of the
    class, and the weights of the rounds are averaged. Examples are drawn at random only if no gradient is left to
    match, and the subset's note then reports it.

    Args:
        settings: ``scope``, ``lam``, ``eps``, ``match``, ``balance``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.needs_validation = settings.match == "validation"
        self._own_logit_only = settings.scope != "per-class"

    def problems(
        self, labels_N: Tensor, classes: int, width: int, budget: int, generator: torch.Generator
    ) -> list[Group]:
        """See :class:`~subset_selection.divided.Divided`."""
        by_class = members(labels_N, classes)
        sizes = torch.tensor([len(indices) for indices in by_class])
        problems: list[Problem] = []
        for label, quota in enumerate(quotas(sizes, budget, self._settings.balance).tolist()):
            parts = _parts(by_class[label], generator)
            part_sizes = torch.tensor([len(part) for part in parts])
            shares = quotas(part_sizes, quota).tolist() if quota else []
            problems += [
                Problem(label, part, share) for part, share in zip(parts, shares, strict=False) if share
            ]
        return _alike(problems, width)

    def watched(self, groups: Sequence[Group]) -> Iterable[Group]:
        """See :class:`~subset_selection.divided.Divided`."""
        return with_progress(groups, len(groups))

    def solve(self, train: Pool, validation: Pool, group: Group, generator: torch.Generator) -> list[Subset]:
        """See :class:`~subset_selection.divided.Divided`. A solution may have fewer examples than its quota."""
        found = zip(group, *self._match(group, train, validation), strict=True)
        ranked = [(problem, *_heaviest(weights, chosen)) for problem, weights, chosen in found]
        return [Subset.of(problem.indices[positions], weights) for problem, positions, weights in ranked]

    def joined(
        self, groups: Sequence[Group], found: Sequence[Sequence[Subset]], generator: torch.Generator
    ) -> Subset:
        """See :class:`~subset_selection.divided.Divided`. Draws what the solutions lack."""
        problems = [problem for group in groups for problem in group]
        subsets = [subset for of_group in found for subset in of_group]
        return joined(
            [
                _completed(subset, problem.indices.cpu(), problem.quota, generator)
                for problem, subset in zip(problems, subsets, strict=True)
            ]
        )

    def _match(self, group: Group, train: Pool, validation: Pool) -> tuple[list[Tensor], list[Tensor]]:
        """For each problem, the weights of its examples and whether each is chosen."""
        sizes = [len(problem.indices) for problem in group]
        labels = [problem.label for problem in group]
        widest = max(sizes)
        residuals, features = train.rows(torch.cat([problem.indices for problem in group]))
        residuals_PNC = _padded(self._seen(residuals, sizes, labels), sizes, widest)
        features_PND = _padded(features, sizes, widest)
        existing_PN = torch.arange(widest, device=train.device) < torch.tensor(
            sizes, device=train.device
        ).view(-1, 1)
        bias_PC, matrix_PCD = self._targets(group, residuals_PNC, features_PND, validation)
        # ⟨g_i, b⟩ = r_i · (b_bias + b_weights h_i)
        correlations_PN = (
            residuals_PNC * torch.baddbmm(bias_PC[:, None, :], features_PND, matrix_PCD.mT)
        ).sum(2)
        squares_P = bias_PC.double().square().sum(1) + matrix_PCD.double().square().sum((1, 2))
        rows_P = torch.arange(len(group), device=train.device)
        gram_PNN: Tensor | None = None
        if len(group) * widest**2 <= GRAM_KEPT:
            # One large product takes less than a tenth of the time of computing its columns one by one.
            gram_PNN = torch.bmm(features_PND, features_PND.mT).add_(1)
            gram_PNN *= torch.bmm(residuals_PNC, residuals_PNC.mT)

        def columns(atoms_P: Tensor) -> Tensor:
            if gram_PNN is not None:
                return gram_PNN[rows_P, atoms_P]
            residual_PC1 = residuals_PNC[rows_P, atoms_P, :, None]
            feature_PD1 = features_PND[rows_P, atoms_P, :, None]
            kernel = torch.bmm(features_PND, feature_PD1).add_(1)
            return (torch.bmm(residuals_PNC, residual_PC1) * kernel).squeeze(2)

        budgets_P = torch.tensor([problem.quota for problem in group], device=train.device)
        weights_PN, chosen_PN = match_again(
            columns, correlations_PN, existing_PN, squares_P, budgets_P, self._settings
        )
        return (
            [row[:size] for row, size in zip(weights_PN, sizes, strict=True)],
            [row[:size] for row, size in zip(chosen_PN, sizes, strict=True)],
        )

    def _seen(self, residuals: Tensor, sizes: Sequence[int], labels: Sequence[int]) -> Tensor:
        """The residuals to match: those of all logits, or of each class's own logit."""
        if not self._own_logit_only:
            return residuals
        return torch.cat(
            [part[:, label : label + 1] for part, label in zip(residuals.split(sizes), labels, strict=True)]
        )

    def _targets(
        self, group: Group, residuals_PNC: Tensor, features_PND: Tensor, validation: Pool
    ) -> tuple[Tensor, Tensor]:
        """The bias part [P, C] and the weight part [P, C, D] of the gradients to match."""
        if self._settings.match == "training":
            return residuals_PNC.sum(1), torch.bmm(residuals_PNC.mT, features_PND)
        biases, matrices = [], []
        for label in (problem.label for problem in group):
            guides = guides_of(validation.labels, label)
            residuals, features = validation.rows(guides)
            residuals = self._seen(residuals, [len(guides)], [label])
            biases.append(residuals.sum(0))
            matrices.append(residuals.T @ features)
        return torch.stack(biases), torch.stack(matrices)


class GradMatchPerBatch:
    """GRAD-MATCH over mini-batches.

    It picks batches of a random partition by their mean gradients. All examples of a batch get the batch's weight, and
    the last batch is truncated to the budget.

    Time O(N·C·D + (N/B)²·C·D), memory O((N/B)² + N·D).

    Args:
        settings: ``batch_size`` (B), ``lam``, ``eps``, ``match``.
    """

    needs_last_layer = True
    refresh: Refresh = "periodically"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.needs_validation = settings.match == "validation"

    @torch.no_grad()
    def select(self, train: Pool, validation: Pool, budget: int, generator: torch.Generator) -> Subset:
        """See :class:`~subset_selection.types.Strategy`."""
        units = Units.random_batches(len(train), self._settings.batch_size, generator, train.device)
        return self.among(train, units, validation, units.needed(budget), generator).first(budget)

    def among(
        self, train: Pool, units: Units, validation: Pool, picks: int, generator: torch.Generator
    ) -> Subset:
        """As :meth:`select`, with a given partition: the examples of ``picks`` units."""
        guide = validation if self._settings.match == "validation" else None
        gram_UU, correlations_U, squares = gram_of_means(train, units, guide)
        weights, chosen = match_again(
            lambda atoms: gram_UU[atoms],
            correlations_U[None],
            torch.ones_like(correlations_U[None], dtype=torch.bool),
            squares[None],
            torch.tensor([picks], device=train.device),
            self._settings,
        )
        found = Subset.of(*_heaviest(weights[0], chosen[0]))
        found = _completed(found, torch.arange(len(units)), picks, generator)
        positions = found.indices.to(train.device)
        lengths = units.sizes[positions].cpu()
        return Subset.of(units.members(positions), found.weights.repeat_interleave(lengths), found.note)


def match_again(
    columns: Callable[[Tensor], Tensor],
    correlations_PN: Tensor,
    available_PN: Tensor,
    squares_P: Tensor,
    budgets_P: Tensor,
    settings: Settings,
) -> tuple[Tensor, Tensor]:
    """Repeat orthogonal matching pursuit until the budgets are used up.

    If a round does not use up its budget, the next round spends the rest on the atoms that are not chosen yet. The
    weights of a round are scaled by the fraction of the budget that it used.

    Args:
        columns, correlations_PN, available_PN, budgets_P: see :func:`~subset_selection.omp.nonnegative_omp`.
        squares_P: squared norms of the targets.
        settings: ``lam``, ``eps``.

    Returns:
        the weights of all atoms, and whether each is chosen, both [P, N].
    """
    weights_PN = torch.zeros_like(correlations_PN)
    chosen_PN = torch.zeros_like(available_PN)
    left_P = budgets_P.clone()
    while True:
        matched = nonnegative_omp(
            columns,
            correlations_PN,
            available_PN & ~chosen_PN,
            squares_P,
            left_P,
            settings.lam,
            settings.eps,
        )
        found_P = matched.chosen.sum(1)
        weights_PN += matched.weights * (found_P / budgets_P.clamp(min=1))[:, None]
        chosen_PN |= matched.chosen
        left_P = (left_P - found_P) * (found_P > 0)
        if not bool(left_P.any()):
            return weights_PN, chosen_PN


def _heaviest(weights_N: Tensor, chosen_N: Tensor) -> tuple[Tensor, Tensor]:
    """Positions and weights of the chosen examples, heaviest first."""
    positions = chosen_N.nonzero().flatten()
    weights, order = weights_N[positions].sort(descending=True, stable=True)
    return positions[order], weights


def _completed(chosen: Subset, among: Tensor, quota: int, generator: torch.Generator) -> Subset:
    """A subset of ``quota`` examples: if fewer are chosen, the rest is drawn at random, and a note reports it.

    Args:
        chosen: the chosen examples.
        among: int64, on the CPU, the examples that the chosen ones are from.
        quota: number of examples.
        generator: the source of randomness.
    """
    missing = quota - len(chosen.indices)
    if not missing:
        return chosen
    others = among[~torch.isin(among, chosen.indices)]
    drawn = others[torch.randperm(len(others), generator=generator)[:missing]]
    mean = chosen.weights.mean() if len(chosen.weights) else torch.ones(())
    return Subset(
        torch.cat([chosen.indices, drawn]),
        torch.cat([chosen.weights, mean.expand(missing)]),
        "GRAD-MATCH drew examples at random where no gradient was left to match",
    )


def _parts(indices: Tensor, generator: torch.Generator) -> list[Tensor]:
    if len(indices) <= PART:
        return [indices]
    order = torch.randperm(len(indices), generator=generator).to(indices.device)
    return [indices[part.sort().values] for part in order.tensor_split(-(-len(indices) // PART))]


def _alike(problems: list[Problem], width: int) -> list[Group]:
    """Group problems of similar size, so that little padding is needed, within the limit of memory."""
    groups: list[list[Problem]] = []
    for problem in sorted(problems, key=lambda problem: (len(problem.indices), problem.label)):
        size = len(problem.indices)
        if groups:
            together = len(groups[-1]) + 1
            slots = max(problem.quota, max(other.quota for other in groups[-1]))
            fits = together * (size * (width + slots) + slots * slots * 2) <= GROUP_ELEMENTS
            if fits and size <= 2 * len(groups[-1][0].indices):
                groups[-1].append(problem)
                continue
        groups.append([problem])
    return list(groups)


def _padded(rows: Tensor, sizes: Sequence[int], widest: int) -> Tensor:
    """Split the concatenated rows of P problems, and pad each problem with zeros: [P, widest, …]."""
    return torch.nn.utils.rnn.pad_sequence(list(rows.split(list(sizes))), batch_first=True)
