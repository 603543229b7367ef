"""Matching pursuit against an exhaustive search's rules, and GRAD-MATCH against CORDS's solvers."""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from torch import Tensor

from subset_selection import Pool, Settings
from subset_selection import gradmatch as module
from subset_selection.divided import Problem as Part
from subset_selection.gradmatch import GradMatch, GradMatchPerBatch
from subset_selection.omp import Matched, nonnegative_omp
from subset_selection.units import Units, gram_of_means
from tests.unit.reference import Problem, generator, gradients, pool


def solve(
    atoms: list[Tensor], targets: list[Tensor], budgets: list[int], lam: float = 0.0, eps: float = 1e-9
) -> Matched:
    """Explicit atoms [n, d] of several problems, padded as the caller of the solver pads them."""
    widest = max(len(rows) for rows in atoms)
    padded = torch.nn.utils.rnn.pad_sequence(atoms, batch_first=True)
    existing = torch.tensor([[at < len(rows) for at in range(widest)] for rows in atoms])
    target = torch.stack(targets)
    problems = torch.arange(len(atoms))
    return nonnegative_omp(
        lambda picked: torch.einsum("pnd,pd->pn", padded, padded[problems, picked]),
        torch.einsum("pnd,pd->pn", padded, target),
        existing,
        target.square().sum(1),
        torch.tensor(budgets),
        lam,
        eps,
    )


def draw(count: int, depth: int, seed: int) -> Tensor:
    return torch.randn(count, depth, generator=generator(seed), dtype=torch.float64)


@given(
    sizes=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    depth=st.integers(1, 12),
    lam=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 10_000),
    repeated=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_the_weights_are_the_best_non_negative_ones_of_the_chosen(
    sizes: list[int], depth: int, lam: float, seed: int, repeated: bool
) -> None:
    atoms = [draw(size, depth, seed + at) for at, size in enumerate(sizes)]
    if repeated:
        atoms = [torch.cat([rows, rows[:1], rows[:1]]) for rows in atoms]
    targets = [rows.sum(0) for rows in atoms]
    budgets = [max(1, len(rows) // 2) for rows in atoms]
    matched = solve(atoms, targets, budgets, lam)
    for at, (rows, target) in enumerate(zip(atoms, targets, strict=True)):
        chosen = matched.chosen[at].nonzero().flatten()
        weights = matched.weights[at]
        assert len(chosen) <= budgets[at] and all(int(at) < len(rows) for at in chosen)
        assert (weights >= 0).all() and (weights[~matched.chosen[at]] == 0).all()
        picked = rows[chosen]
        left = target - picked.T @ weights[chosen]
        assert float(left.square().sum()) == pytest.approx(
            float(matched.residual_squares[at]), abs=1e-6, rel=1e-5
        )
        # scipy on the same atoms, the penalty as extra rows
        system = torch.cat([picked.T, lam**0.5 * torch.eye(len(chosen), dtype=torch.float64)])
        _, best = nnls(
            system.numpy(), torch.cat([target, torch.zeros(len(chosen), dtype=torch.float64)]).numpy()
        )
        ours = float(left.square().sum() + lam * weights.square().sum()) ** 0.5
        assert ours == pytest.approx(best, abs=1e-6, rel=1e-6)


def test_each_choice_is_the_atom_that_points_most_along_what_is_left() -> None:
    atoms, target = draw(30, 40, 0), draw(30, 40, 0).sum(0)
    chosen: list[int] = []
    weights = np.zeros(0)
    for _ in range(8):
        left = target - atoms[chosen].T @ torch.from_numpy(weights) if chosen else target
        products = atoms @ left
        products[chosen] = -torch.inf
        chosen.append(int(products.argmax()))
        weights, _ = nnls(atoms[chosen].T.numpy(), target.numpy())
        assert (weights > 0).all()  # these atoms are independent enough for none to leave
    matched = solve([atoms], [target], [8])
    assert matched.chosen[0].nonzero().flatten().tolist() == sorted(chosen)
    torch.testing.assert_close(matched.weights[0, chosen], torch.from_numpy(weights))


def test_problems_side_by_side_do_not_disturb_each_other() -> None:
    atoms = [draw(size, 9, size) for size in (20, 7, 13)]
    targets = [rows.sum(0) for rows in atoms]
    together = solve(atoms, targets, [8, 3, 13])
    for at, budget in enumerate([8, 3, 13]):
        alone = solve([atoms[at]], [targets[at]], [budget])
        torch.testing.assert_close(together.weights[at, : len(atoms[at])], alone.weights[0])


def test_a_tolerance_ends_the_matching() -> None:
    atoms = draw(40, 10, 1)
    loose, tight = (solve([atoms], [atoms.sum(0)], [40], eps=eps) for eps in (0.5, 1e-6))
    assert int(loose.chosen.sum()) < int(tight.chosen.sum()) <= 10
    assert float(loose.residual_squares[0]) <= 0.25 * float(atoms.sum(0).square().sum())


@pytest.mark.parametrize("scope", ["per-class", "per-class-per-gradient"])
@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_the_residual_is_no_larger_than_that_of_the_solvers_of_cords(scope: str, lam: float) -> None:
    from cords.selectionstrategies.helpers.omp_solvers import OrthogonalMP_REG, OrthogonalMP_REG_Parallel_V1

    train, validation = pool(200, 4, 30, dtype=torch.float64), pool(20, 4, 30, seed=1, dtype=torch.float64)
    ours = GradMatch(Settings(scope=scope, lam=lam, eps=1e-4)).select(train, validation, 40, generator())  # type: ignore[arg-type]
    rows = gradients(train)
    checked = 0
    for label in range(4):
        of_class = (train.labels == label).nonzero().flatten()
        atoms = rows[of_class]
        if scope == "per-class-per-gradient":
            own = atoms[:, 4:].view(len(atoms), 4, -1)[:, label]
            atoms = torch.cat([atoms[:, label : label + 1], own], dim=1)
        target = atoms.sum(0)
        mine = torch.isin(ours.indices, of_class)
        places = {int(index): place for place, index in enumerate(of_class)}
        picked = atoms[[places[int(index)] for index in ours.indices[mine]]]
        budget = int(mine.sum())

        def objective(rows: Tensor, weights: Tensor, target: Tensor = target) -> float:
            return float((target - rows.T @ weights).square().sum() + lam * weights.square().sum())

        solvers = [OrthogonalMP_REG(atoms.T.numpy(), target.numpy(), nnz=budget, positive=True, lam=lam)]
        with contextlib.suppress(
            RuntimeError, TypeError, IndexError
        ):  # it fails wherever a weight turns negative
            solvers.append(
                OrthogonalMP_REG_Parallel_V1(atoms.T, target, nnz=budget, positive=True, lam=lam).numpy()
            )
        for answer in solvers:
            theirs = torch.as_tensor(answer, dtype=torch.float64)
            if (theirs >= 0).all():
                assert objective(picked, ours.weights[mine].double()) <= objective(atoms, theirs) * (1 + 1e-6)
                checked += 1
    assert checked >= 4


def test_cords_stops_where_we_go_on() -> None:
    """On the CPU its solver ends at the first atom chosen twice; GradMatchStrategy then draws the rest at random."""
    problem = Problem(examples=400, validation=40, classes=4, features=3)
    _, weights = problem.gradmatch(200, "PerClassPerGradient", lam=0.5)
    random_ones = int((weights == 1).sum())
    assert random_ones > 100  # what it drew at random has weight 1
    ours = GradMatch(Settings(lam=0.0, eps=1e-6)).select(*problem.pools(), 200, generator())
    assert ours.note == ""
    assert len(ours.indices.unique()) == 200


@pytest.mark.parametrize("match", ["training", "validation"])
def test_a_whole_class_matches_its_gradient_exactly(match: str) -> None:
    train, validation = pool(60, 3, 50, dtype=torch.float64), pool(40, 3, 50, seed=1, dtype=torch.float64)
    settings = Settings(scope="per-class", lam=0.0, eps=0.0, match=match)  # type: ignore[arg-type]
    subset = GradMatch(settings).select(train, validation, 60, generator())
    matched = gradients(train)[subset.indices].T @ subset.weights.double()
    if match == "training":
        torch.testing.assert_close(subset.weights, torch.ones(60), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(matched, gradients(train).sum(0), rtol=1e-4, atol=1e-4)
    else:
        target = gradients(validation).sum(0)
        plain = gradients(train).sum(0)
        assert torch.nn.functional.cosine_similarity(matched, target, 0) > (
            torch.nn.functional.cosine_similarity(plain, target, 0) + 0.1
        )


def test_where_the_gradient_is_matched_early_the_rest_is_matched_again() -> None:
    train, validation = pool(300, 3, 4, dtype=torch.float64), pool(20, 3, 4, seed=1, dtype=torch.float64)
    subset = GradMatch(Settings(lam=0.0)).select(train, validation, 150, generator())
    assert len(subset.indices.unique()) == 150 and subset.note == ""
    for label in range(3):
        of_class = train.labels == label
        own = gradients(train)[:, 3:].view(300, 3, -1)[:, label]
        mine = train.labels[subset.indices] == label
        matched = own[subset.indices[mine]].T @ subset.weights[mine].double()
        target = own[of_class].sum(0)
        assert (matched - target).norm() < 0.15 * target.norm()  # a random fill of weight 1 leaves far more


def test_examples_without_a_gradient_are_drawn_and_said() -> None:
    certain = Pool(torch.zeros(9, dtype=torch.int64), torch.tensor([[50.0, -50.0]] * 9), torch.ones(9, 3))
    subset = GradMatch(Settings()).select(certain, certain, 4, generator())
    assert len(subset.indices.unique()) == 4 and "at random" in subset.note
    assert (subset.weights > 0).all()


def test_batches_are_matched_by_their_mean_gradients() -> None:
    train, validation = pool(70, 3, 5, dtype=torch.float64), pool(20, 3, 5, seed=1, dtype=torch.float64)
    units = Units.batches(torch.arange(70), 8)
    means = torch.stack([part.mean(0) for part in gradients(train).split(8)])
    for guide in (None, validation):
        gram, products, squares = gram_of_means(train, units, guide)
        target = gradients(guide or train).sum(0)
        torch.testing.assert_close(gram, means @ means.T)
        torch.testing.assert_close(products, means @ target)
        torch.testing.assert_close(squares, target.square().sum())
    subset = GradMatchPerBatch(Settings(batch_size=8)).select(train, validation, 20, generator(2))
    order = torch.randperm(70, generator=generator(2)).split(8)
    batches = [set(batch.tolist()) for batch in order]
    touched = [batch for batch in batches if batch & set(subset.indices.tolist())]
    assert len(touched) in (3, 4) and len(subset.indices) == 20


def test_a_large_class_is_matched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 20)
    train, validation = pool(150, 3), pool(20, 3, seed=1)
    subset = GradMatch(Settings()).select(train, validation, 31, generator())
    assert len(subset.indices.unique()) == 31


def test_classes_of_very_different_sizes_are_not_padded_to_the_largest() -> None:
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate((1000, 3, 2, 1))])
    problems = [Part(label, (labels == label).nonzero().flatten(), 1) for label in range(4)]
    groups = module._alike(problems, width=9)
    assert max(len(group) for group in groups) >= 2
    for group in groups:
        sizes = [len(problem.indices) for problem in group]
        assert max(sizes) <= 2 * min(sizes)
