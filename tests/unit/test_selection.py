"""The rules that hold for every strategy, and the random ones."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subset_selection import NotFiniteError, Pool, Settings, create, names
from subset_selection.catalogue import CATALOGUE
from subset_selection.classes import by_class, members, quotas
from subset_selection.filters import LossFilter, ReducibleLossFilter
from subset_selection.infobatch import InfoBatch
from subset_selection.types import RESIDUALS_KEPT, Subset
from subset_trainer.config import Hyperparameters, parse
from subset_trainer.errors import UserError
from tests.unit.reference import generator, gradients, pool

ROOT = Path(__file__).parents[2]
STRATEGIES = names("everything", "subset")
LOOKING = [name for name in STRATEGIES if create(name).needs_last_layer]
VARIANTS = [
    *[(name, Settings(batch_size=4)) for name in STRATEGIES],
    *[("glister", Settings(greedy=kind)) for kind in ("naive", "rgreedy")],
    *[("glister", Settings(scope=scope, batch_size=4)) for scope in ("supervised", "per-batch")],
    ("glister", Settings(scope="supervised", greedy="rgreedy", greedy_rounds=3)),
    ("gradmatch", Settings(scope="per-class", lam=0.0)),
    ("gradmatch", Settings(match="validation")),
    ("craig", Settings(scope="supervised")),
    ("craig", Settings(greedy="stochastic")),
    *[(name, Settings(balance="class")) for name in STRATEGIES if "balance" in CATALOGUE[name].knobs],
]
DETERMINISTIC = [
    *[("glister", Settings(greedy=kind, eta=0.1)) for kind in ("naive", "rgreedy")],
    ("glister", Settings(greedy="naive", scope="supervised", eta=0.1)),
    ("gradmatch", Settings()),
    ("gradmatch", Settings(scope="per-class")),
    ("craig", Settings()),
    ("craig", Settings(scope="supervised")),
    *[(name, Settings()) for name in ("facility-location", "graph-cut", "k-centre", "herding")],
    *[(name, Settings()) for name in ("el2n", "forgetting", "moderate")],
]


def named(variant: tuple[str, Settings]) -> str:
    name, own = variant
    default = Settings()
    told = {field: value for field, value in vars(own).items() if value != getattr(default, field)}
    return "-".join([name, *(f"{field}={value}" for field, value in told.items())])


def hold_to_the_rules(subset: Subset, examples: int, budget: int) -> None:
    assert subset.indices.dtype == torch.int64 and subset.weights.dtype == torch.float32
    assert subset.indices.device.type == subset.weights.device.type == "cpu"
    assert len(subset.indices) == len(subset.indices.unique()) == len(subset.weights) == budget
    assert int(subset.indices.min()) >= 0 and int(subset.indices.max()) < examples
    assert subset.weights.isfinite().all() and (subset.weights >= 0).all() and subset.weights.sum() > 0


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_says_what_the_strategy_does(name: str) -> None:
    spec = CATALOGUE[name]
    assert set(spec.knobs) <= set(Hyperparameters.model_fields)
    assert set(spec.choices) <= set(vars(Settings()))
    made = spec.load()
    if spec.shape in ("everything", "subset"):
        strategy = create(name)
        assert strategy.refresh == spec.refresh
        assert strategy.needs_last_layer == ("last layer" in spec.needs)
        assert strategy.needs_validation == ("validation" in spec.needs)
    else:
        assert {"own_size": "observe", "within_batch": "keep"}[spec.shape] in vars(made)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_strategy_accepts_the_values_that_it_names_and_refuses_others(name: str) -> None:
    spec = CATALOGUE[name]
    for knob in set(spec.choices) & set(spec.knobs):
        accepted = Hyperparameters.model_fields[knob].annotation
        for value in {choice for other in CATALOGUE.values() for choice in other.choices.get(knob, ())}:
            if value in spec.choices[knob]:
                parse({"strategy": name, knob: value})
            else:
                with pytest.raises(UserError, match=f"{knob}='{value}' works only with"):
                    parse({"strategy": name, knob: value})
        assert accepted is not None


def test_nothing_else_names_a_strategy() -> None:
    """What a strategy is stands in the catalogue: elsewhere its name would be a table of its own."""
    allowed = {
        # Of torch's generators, in checkpoints.
        ("container_src/subset_trainer/training/state.py", "random"),
        ("container_src/subset_trainer/training/saving.py", "random"),
        # A word in the name of a file, as in full-train.csv.
        ("container_src/subset_trainer/data/split_names.py", "full"),
        # Of flips, as `random` or alternating.
        ("container_src/subset_trainer/config/data.py", "random"),
        # The order of transformers' own sampler.
        ("container_src/subset_selection/subset_selection/hf.py", "random"),
        # A search of SageMaker's tuner.
        ("deploy/commands/tune.py", "random"),
    }
    found = {
        (str(path.relative_to(ROOT)), node.value)
        for folder in ("container_src", "deploy")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "catalogue.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in CATALOGUE
    }
    assert found == allowed


@pytest.mark.parametrize("variant", VARIANTS, ids=named)
@given(
    examples=st.integers(1, 40),
    classes=st.integers(1, 6),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["random", "duplicates", "one class", "half precision", "certain"]),
)
@settings(max_examples=12, deadline=None)
def test_the_budget_holds_and_the_same_seed_repeats(
    variant: tuple[str, Settings], examples: int, classes: int, share: float, seed: int, kind: str
) -> None:
    name, own = variant
    train, validation = pool(examples, classes, 5, seed), pool(9, classes, 5, seed + 1)
    assert train.logits is not None and train.features is not None
    if kind == "duplicates":
        train = train.at(torch.arange(examples) // 3)
        train = Pool(train.labels, train.logits, train.features)
    elif kind == "one class":
        train = Pool(torch.zeros_like(train.labels), train.logits, train.features)
    elif kind == "half precision":
        train = Pool(train.labels, pool(examples, classes, 5, seed).logits.half(), train.features.half())  # type: ignore[union-attr]
    elif kind == "certain":  # nothing left to learn: all gradients are zero
        certain = 200.0 * torch.nn.functional.one_hot(train.labels, classes)
        train = Pool(train.labels, certain, train.features)
    budget = examples if name == "full" else max(1, round(share * examples))
    strategy, same = create(name, own), create(name, own)
    for turn in range(2):  # some remember
        subset = strategy.select(train, validation, budget, generator(seed + turn))
        again = same.select(train, validation, budget, generator(seed + turn))
        hold_to_the_rules(subset, examples, budget)
        assert torch.equal(subset.indices, again.indices) and torch.equal(subset.weights, again.weights)


@pytest.mark.parametrize("variant", VARIANTS, ids=named)
def test_one_example_a_class_and_a_class_that_validation_lacks(variant: tuple[str, Settings]) -> None:
    name, own = variant
    train = pool(6, 6, 4)
    assert train.logits is not None
    train = Pool(torch.arange(6), train.logits, train.features)
    validation = pool(8, 6, 4, seed=1)
    validation = Pool(validation.labels.clamp(max=3), validation.logits, validation.features)
    for budget in {6} if name == "full" else {1, 3, 6}:
        subset = create(name, own).select(train, validation, budget, generator())
        hold_to_the_rules(subset, 6, budget)


@pytest.mark.parametrize("variant", DETERMINISTIC, ids=named)
def test_the_order_of_the_data_does_not_matter(variant: tuple[str, Settings]) -> None:
    name, own = variant
    train, validation = (pool(size, 4, 6, seed, torch.float64) for size, seed in ((90, 0), (20, 1)))
    order = torch.randperm(90, generator=generator(2))
    moved = train.at(order)
    moved = Pool(moved.labels, moved.logits, moved.features)
    # Facility location ties where two points that nothing else has come near are each other's nearest: a matter of
    # large budgets, and settled by position.
    budget = 12 if name in ("craig", "facility-location") else 27
    here = create(name, own).select(train, validation, budget, generator())
    there = create(name, own).select(moved, validation, budget, generator())
    assert here.indices.sort().values.tolist() == order[there.indices].sort().values.tolist()
    weight_of = dict(zip(order[there.indices].tolist(), there.weights.tolist(), strict=True))
    assert [weight_of[index] for index in here.indices.tolist()] == pytest.approx(
        here.weights.tolist(), rel=1e-4
    )


@pytest.mark.gpu
@pytest.mark.parametrize("variant", VARIANTS, ids=named)
def test_a_gpu_picks_what_the_cpu_picks_in_float64(variant: tuple[str, Settings]) -> None:
    name, own = variant
    train, validation = (pool(size, 4, 6, seed, torch.float64) for size, seed in ((120, 0), (20, 1)))
    train = train.at(torch.arange(120) // 2)  # pairs of duplicates: ties
    train = Pool(train.labels, train.logits, train.features)
    train_there, validation_there = (
        Pool(part.labels.cuda(), part.logits.cuda(), part.features.cuda())  # type: ignore[union-attr]
        for part in (train, validation)
    )
    budget = 120 if name == "full" else 30
    here = create(name, own).select(train, validation, budget, generator())
    there = create(name, own).select(train_there, validation_there, budget, generator())
    assert here.indices.tolist() == there.indices.tolist()
    torch.testing.assert_close(here.weights, there.weights)


@pytest.mark.parametrize("name", LOOKING)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["logits", "features"])
def test_outputs_that_are_not_finite_are_one_clear_error(name: str, value: float, where: str) -> None:
    good = pool(20)
    assert good.logits is not None and good.features is not None
    logits, features = good.logits.clone(), good.features.clone()
    (logits if where == "logits" else features)[7, 1] = value
    with pytest.raises(NotFiniteError, match=f"{where} of 1 of 20 examples are not finite .* example 7"):
        create(name).select(Pool(good.labels, logits, features), good, 5, generator())


@pytest.mark.parametrize("name", ["random", "adaptive-random", "rs2", "glister", "ccs", "gradmatch-pb"])
def test_another_seed_gives_another_subset(name: str) -> None:
    train, validation = pool(200), pool(20, seed=1)
    own = Settings(batch_size=8)
    subsets = [
        set(create(name, own).select(train, validation, 20, generator(seed)).indices.tolist())
        for seed in (0, 1)
    ]
    assert subsets[0] != subsets[1]


@pytest.mark.parametrize("name", [name for name in STRATEGIES if "balance" in CATALOGUE[name].knobs])
def test_balance_gives_every_class_the_same_number(name: str) -> None:
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate((70, 20, 5))])
    train = pool(95, 3, 5)
    train = Pool(labels, train.logits, train.features)
    subset = create(name, Settings(balance="class")).select(train, pool(30, 3, 5, seed=1), 30, generator())
    assert torch.bincount(labels[subset.indices]).tolist() == [13, 12, 5]


def test_rs2_visits_all_equally_often() -> None:
    strategy, draw = create("rs2"), generator()
    train = Pool(torch.zeros(10, dtype=torch.int64))
    visits = torch.zeros(10, dtype=torch.int64)
    for _ in range(10):  # 10 rounds of 7: each of 10 examples 7 times
        indices = strategy.select(train, train, 7, draw).indices
        assert len(indices.unique()) == 7
        visits[indices] += 1
    assert visits.tolist() == [7] * 10


def test_rs2_keeps_its_order_when_the_pool_loses_examples() -> None:
    strategy, draw = create("rs2"), generator()
    train = Pool(torch.zeros(10, dtype=torch.int64))
    first = strategy.select(train, train, 4, draw).indices
    unseen = [index for index in range(10) if index not in first]
    left = torch.tensor(sorted([*first.tolist(), *unseen[2:]]))
    second = left[strategy.select(train.at(left), train, 3, draw).indices]
    assert set(second.tolist()) < set(unseen[2:])


def test_rs2_is_a_walk_through_shuffled_orders_whatever_the_pool() -> None:
    """Beside lists, over pools that lose and regain examples."""
    strategy, draw, same = create("rs2"), generator(), generator()
    whole = Pool(torch.zeros(40, dtype=torch.int64))
    upcoming: list[int] = []
    for seed in range(30):
        part = torch.randperm(40, generator=generator(seed))[: 25 + seed % 15].sort().values
        train, ids = (whole, list(range(40))) if seed % 3 == 0 else (whole.at(part), part.tolist())
        budget = 5 + seed % 17
        upcoming = [example for example in upcoming if example in ids]
        expected, upcoming = upcoming[:budget], upcoming[budget:]
        if missing := budget - len(expected):
            order = [ids[position] for position in torch.randperm(len(ids), generator=same).tolist()]
            fresh = [example for example in order if example not in expected][:missing]
            expected += fresh
            upcoming = [example for example in order if example not in fresh]
        picks = strategy.select(train, train, budget, draw).indices.tolist()
        assert [ids[position] for position in picks] == expected


def test_residuals_are_the_gradient_of_the_loss() -> None:
    examples = pool(12)
    torch.testing.assert_close(examples.residuals, gradients(examples)[:, :4])


def test_large_pools_make_residuals_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = pool(12)
    monkeypatch.setattr("subset_selection.types.RESIDUALS_KEPT", 0)
    assert RESIDUALS_KEPT > 0
    rows = torch.tensor([3, 1, 3])
    residuals, features = examples.rows(rows)
    assert "residuals" not in vars(examples)
    torch.testing.assert_close(residuals, examples.residuals[rows])
    assert torch.equal(features, examples.features[rows])  # type: ignore[index]


def test_pools_without_logits_say_what_is_missing() -> None:
    labels_only = Pool(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="needs the last layer"):
        _ = labels_only.residuals
    with pytest.raises(ValueError, match="needs the last layer"):
        create("glister").select(labels_only, labels_only, 1, generator())


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=8), share=st.floats(0, 1), even=st.booleans())
def test_quotas_add_up_and_are_as_even_as_can_be(sizes: list[int], share: float, even: bool) -> None:
    total = sum(sizes)
    budget = round(share * total)
    if not total:
        return
    got = quotas(torch.tensor(sizes), budget, "class" if even else "none").tolist()
    assert sum(got) == budget and all(0 <= quota <= size for quota, size in zip(got, sizes, strict=True))
    for quota, size in zip(got, sizes, strict=True):
        if even:
            # A class below the largest quota by more than rounding has given all it has.
            assert quota == size or quota >= max(got) - 1
        else:
            assert abs(quota - budget * size / total) < 1


def test_by_class_hands_each_class_its_examples_and_quota() -> None:
    labels = torch.tensor([1, 0, 1, 1, 0, 3])
    asked = []

    def choose(label: int, indices: torch.Tensor, quota: int) -> Subset:
        asked.append((label, indices.tolist(), quota))
        return Subset.of(indices[:quota], note="said once")

    train = Pool(labels, torch.zeros(6, 4))
    subset = by_class(train, 4, "none", choose)
    assert asked == [(0, [1, 4], 1), (1, [0, 2, 3], 2), (3, [5], 1)]
    assert subset.indices.tolist() == [1, 0, 2, 5] and subset.note == "said once"
    assert [part.tolist() for part in members(labels, 4)] == [[1, 4], [0, 2, 3], [], [5]]


def test_infobatch_prunes_the_learned_and_keeps_the_expected_gradient() -> None:
    labels = torch.zeros(4000, dtype=torch.int64)
    strategy = InfoBatch(replace(Settings(), prune_probability=0.5))
    assert len(strategy.select(labels, generator()).indices) == 4000
    losses = torch.cat([torch.full((3000,), 0.1), torch.full((1000,), 3.0)])
    strategy.observe(torch.arange(4000), losses)
    subset = strategy.select(labels, generator())
    learned = subset.indices < 3000
    assert int((~learned).sum()) == 1000  # what is above the mean stays, at weight 1
    assert 1400 < int(learned.sum()) < 1600
    assert (subset.weights[learned] == 2).all() and (subset.weights[~learned] == 1).all()
    strategy.observe(subset.indices[:2000], torch.full((2000,), 9.0))
    assert len(strategy.select(labels, generator(1)).indices) > len(subset.indices)


def test_filters_keep_the_largest_and_the_reducible_losses() -> None:
    losses, indices = torch.tensor([1.0, 4.0, 2.0, 4.0]), torch.tensor([5, 0, 3, 1])
    assert LossFilter(Settings()).keep(losses, indices, 2).tolist() == [1, 3]
    irreducible = torch.tensor([4.0, 0.5, 9.0, 0.0, 0.0, 0.9])
    assert ReducibleLossFilter(Settings(), irreducible).keep(losses, indices, 2).tolist() == [3, 2]


def test_a_long_choice_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("subset_selection.progress.SECONDS", 0)
    caplog.set_level("INFO")
    create("glister", Settings(scope="supervised")).select(pool(30), pool(9, seed=1), 3, generator())
    assert [record.message for record in caplog.records] == [f"selection: {done} of 3" for done in range(3)]
