"""``backend=cords``: CORDS's own loaders choose, within our rules; the selector by itself, and within whole jobs."""

import random
import signal
import warnings
from collections.abc import Callable
from typing import Any

import cords.utils.data.dataloader.SL.adaptive  # noqa: F401 - what its import warns of comes before the tests
import numpy as np
import pytest
import torch

from subset_selection import Settings, Subset, create
from subset_selection.classes import quotas
from subset_trainer import models
from subset_trainer.config import parse
from subset_trainer.config.selection import CORDS_STRATEGIES
from subset_trainer.data import MemoryDataset
from subset_trainer.errors import UserError
from subset_trainer.models import Classifier
from subset_trainer.training import cords_backend
from subset_trainer.training.cords_backend import CordsSelector
from subset_trainer.training.devices import Machine
from subset_trainer.training.evaluation import look_at
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.rounds import Data
from tests.functional.conftest import Job, write_table
from tests.kills import outcome

CPU = Place(Machine(torch.device("cpu"), torch.float32))
CLASSES, FEATURES = 3, 5
WORKING: list[dict[str, Any]] = [
    {"strategy": "random"},
    {"strategy": "adaptive-random"},
    {"strategy": "glister"},
    {"strategy": "glister", "greedy": "naive"},
    {"strategy": "glister", "greedy": "rgreedy", "greedy_rounds": 7},
    {"strategy": "glister", "scope": "per-class", "greedy": "stochastic"},
    {"strategy": "glister", "scope": "per-class", "greedy": "naive"},
    {"strategy": "glister", "scope": "per-class", "greedy": "rgreedy", "greedy_rounds": 3},
    {"strategy": "glister", "scope": "per-batch", "batch_size": 4},
    {"strategy": "glister", "scope": "per-batch", "batch_size": 4, "greedy": "naive"},
    {"strategy": "glister", "scope": "per-batch", "batch_size": 4, "greedy": "rgreedy", "greedy_rounds": 6},
    {"strategy": "gradmatch"},
    {"strategy": "gradmatch", "match": "validation"},
    {"strategy": "gradmatch", "scope": "per-class"},
    {"strategy": "gradmatch", "scope": "per-class", "match": "validation"},
    {"strategy": "gradmatch-pb", "batch_size": 4},
    {"strategy": "gradmatch-pb", "batch_size": 4, "match": "validation"},
    {"strategy": "craig"},
    {"strategy": "craig", "scope": "supervised"},
    {"strategy": "craig", "scope": "supervised", "greedy": "naive"},
    {"strategy": "craig-pb", "batch_size": 4},
]
EXAMPLES, BUDGET = 150, 44  # neither is a multiple of CLASSES or of the number of batches


def dataset(labels: torch.Tensor, seed: int = 0) -> MemoryDataset:
    draw = torch.Generator().manual_seed(seed)
    return MemoryDataset(torch.randn(len(labels), FEATURES, generator=draw) + labels[:, None] / 2, labels)


def labels(examples: int) -> torch.Tensor:
    """Unequal classes, in the order of classes as class folders are: 1/2, 1/3 and 1/6 of the examples."""
    return torch.tensor([0, 0, 0, 1, 1, 2]).repeat(examples // 6 + 1)[:examples].sort().values


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        classifier = models.build("mlp", (FEATURES,), CLASSES)
        for _ in range(20):  # batch normalisation gets statistics that differ from any one batch's
            classifier(torch.randn(32, FEATURES) + 1)
    return classifier


def selector(
    classifier: Classifier,
    options: dict[str, Any],
    *,
    budget: int = BUDGET,
    train: MemoryDataset | None = None,
    validation: MemoryDataset | None = None,
) -> CordsSelector:
    train = train or dataset(labels(EXAMPLES))
    return CordsSelector(
        parse({**options, "backend": "cords"}),
        classifier,
        Data(train, validation or dataset(labels(36), seed=1)),
        Plan.of(parse({**options, "backend": "cords", "fraction": budget / len(train)}), len(train)),
        CPU.device,
        CLASSES,
    )


def select(selector: CordsSelector, budget: int = BUDGET, seed: int = 0) -> Subset:
    selector.budget = budget
    return selector.select(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("options", WORKING, ids=lambda options: "-".join(map(str, options.values())))
def test_the_rules_hold(
    classifier: Classifier, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    classifier.train()
    weights = {name: value.clone() for name, value in classifier.state_dict().items()}
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chooser = selector(classifier, options)
        subset = select(chooser)
    after = (random.random(), np.random.rand(), float(torch.rand(())))
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    assert after == (random.random(), np.random.rand(), float(torch.rand(())))
    assert capsys.readouterr().out == ""

    assert len(subset.indices) == len(set(subset.indices.tolist())) == len(subset.weights) == BUDGET
    assert subset.indices.dtype == torch.int64 and subset.weights.dtype == torch.float32
    assert int(subset.indices.min()) >= 0 and int(subset.indices.max()) < EXAMPLES
    assert all(torch.equal(value, weights[name]) for name, value in classifier.state_dict().items())
    assert chooser.refresh == ("once" if options["strategy"] == "random" else "periodically")
    if options["strategy"] != "random":  # which CORDS draws once
        again = select(selector(classifier, options))
        assert torch.equal(again.indices, subset.indices) and torch.equal(again.weights, subset.weights)


def test_every_strategy_of_cords_is_among_those() -> None:
    assert {str(options["strategy"]) for options in WORKING} == set(CORDS_STRATEGIES)


@pytest.mark.parametrize("options", [{"strategy": "adaptive-random"}, {"strategy": "glister"}])
def test_another_seed_gives_another_subset(classifier: Classifier, options: dict[str, Any]) -> None:
    chooser = selector(classifier, options)
    assert set(select(chooser, seed=0).indices.tolist()) != set(select(chooser, seed=1).indices.tolist())


@pytest.mark.parametrize(
    ("scope", "greedy", "rounds"),
    [
        ("supervised", "naive", 1),
        ("supervised", "rgreedy", 7),
        ("per-class", "naive", 1),
    ],
)
def test_glister_equals_the_native_one(classifier: Classifier, scope: Any, greedy: Any, rounds: int) -> None:
    """Where nothing is drawn at random: so CORDS works in eval mode and in data order, and is cut where ours ends."""
    train, validation = dataset(labels(EXAMPLES)), dataset(labels(36), seed=1)
    options = {"strategy": "glister", "scope": scope, "greedy": greedy, "greedy_rounds": rounds, "eta": 0.1}
    subset = select(selector(classifier.train(), options, train=train, validation=validation))
    settings = Settings(scope=scope, greedy=greedy, greedy_rounds=rounds, eta=0.1)
    ours = create("glister", settings).select(
        look_at(classifier, train, CPU)[0],
        look_at(classifier, validation, CPU)[0],
        BUDGET,
        torch.Generator(),
    )
    assert subset.indices.tolist() == ours.indices.tolist()
    assert subset.weights.tolist() == [1.0] * BUDGET


@pytest.mark.parametrize("strategy", ["glister", "craig", "gradmatch"])
def test_what_per_class_picks_too_many_is_left_out_and_said(classifier: Classifier, strategy: str) -> None:
    """CORDS rounds 44/150 of 75, 50 and 25 up: 22, 15 and 8, one more than the budget."""
    options = {"strategy": strategy, "scope": "per-class"}
    if strategy == "glister":
        options["greedy"] = "naive"
    subset = select(selector(classifier, options))
    counts = torch.bincount(labels(EXAMPLES)[subset.indices], minlength=CLASSES)
    if strategy == "glister":
        assert counts.tolist() == quotas(torch.bincount(labels(EXAMPLES)), BUDGET).tolist()
    assert f"CORDS chose 45 examples for a budget of {BUDGET}: " in subset.note
    assert ("nearly at random" in subset.note) == (strategy == "craig")


def test_a_short_batch_is_completed_and_said(classifier: Classifier) -> None:
    """22 examples make four batches of 5 and one of 2: four of the five hold 20 or 17."""
    notes = set()
    for seed in range(12):
        options = {
            "strategy": "glister",
            "scope": "per-batch",
            "batch_size": 5,
            "greedy": "naive",
            "seed": seed,
        }
        subset = select(selector(classifier, options, budget=20, train=dataset(labels(22))), 20)
        assert len(set(subset.indices.tolist())) == 20
        notes.add(subset.note)
    assert notes == {"", "CORDS chose 17 examples for a budget of 20: 3 drawn at random complete it"}


def test_batches_are_mixed_though_class_folders_are_not(classifier: Classifier) -> None:
    options = {"strategy": "glister", "scope": "per-batch", "batch_size": 10, "greedy": "naive"}
    subset = select(selector(classifier, options, budget=10), 10)
    assert len(set(labels(EXAMPLES)[subset.indices].tolist())) > 1


def test_gradmatch_says_how_many_are_random(classifier: Classifier) -> None:
    """Examples that are alike: the solver would pick them again, stops, and CORDS fills up."""
    inputs = torch.randn(3, FEATURES, generator=torch.Generator().manual_seed(0)).repeat_interleave(20, dim=0)
    train = MemoryDataset(inputs, torch.arange(3).repeat_interleave(20))
    subset = select(selector(classifier, {"strategy": "gradmatch"}, budget=30, train=train), 30)
    assert (
        subset.note
        == "CORDS found 3 of 30 examples by matching and filled up with 27 drawn at random, of weight 1"
    )


def test_equal_examples_end_in_a_sentence(classifier: Classifier) -> None:
    inputs = torch.randn(3, FEATURES, generator=torch.Generator().manual_seed(0)).repeat_interleave(20, dim=0)
    train = MemoryDataset(inputs, torch.arange(3).repeat_interleave(20))
    chooser = selector(classifier, {"strategy": "craig", "scope": "supervised"}, budget=30, train=train)
    with pytest.raises(UserError, match=r"CORDS's craig chose .* examples twice, .* use backend='native'"):
        select(chooser, 30)


def test_a_crash_within_cords_ends_in_a_sentence(classifier: Classifier) -> None:
    chooser = selector(classifier, {"strategy": "glister"})
    with pytest.raises(
        UserError, match=r"CORDS's glister fails on this data \(ValueError: Sample larger.*native"
    ):
        select(chooser, 2)  # another budget than the selector was made for


@pytest.mark.parametrize("strategy", CORDS_STRATEGIES)
def test_the_whole_is_everything(classifier: Classifier, strategy: str) -> None:
    subset = select(selector(classifier, {"strategy": strategy}, budget=EXAMPLES), EXAMPLES)
    assert subset.indices.tolist() == list(range(EXAMPLES))
    assert subset.weights.tolist() == [1.0] * EXAMPLES


@pytest.mark.parametrize(
    ("options", "budget", "sentence"),
    [
        (
            {"strategy": "glister", "scope": "supervised"},
            4,
            "cannot pick 4 of 150 examples: for the last it samples 172 of the 147 that are left; use greedy='naive'",
        ),
        (
            {"strategy": "glister", "scope": "per-batch", "batch_size": 16},
            BUDGET,
            "cannot pick 3 of 10 batches",
        ),
        (
            {"strategy": "glister", "scope": "supervised", "greedy": "rgreedy"},
            14,
            "greedy_rounds=15: CORDS does not return from picking 14 of 150 examples in as many rounds; expected at "
            "most 14",
        ),
        (
            {
                "strategy": "glister",
                "scope": "per-batch",
                "greedy": "rgreedy",
                "batch_size": 4,
                "greedy_rounds": 4,
            },
            BUDGET,
            "greedy_rounds=4: CORDS crashes on picking 11 of 38 batches in rounds of 2, which does not divide 11",
        ),
        (
            {"strategy": "craig", "greedy": "stochastic"},
            BUDGET,
            "greedy='stochastic': .* expected one of auto, naive",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(
    classifier: Classifier, options: dict[str, Any], budget: int, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        selector(classifier, options, budget=budget)


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"strategy": "glister", "scope": "per-class"}, True),
        ({"strategy": "gradmatch", "match": "validation"}, True),
        ({"strategy": "gradmatch"}, False),
        ({"strategy": "glister", "scope": "supervised"}, False),
    ],
)
def test_a_class_absent_from_validation(
    classifier: Classifier, options: dict[str, Any], refused: bool
) -> None:
    validation = dataset(torch.tensor([0, 2]).repeat(10), seed=1)
    if not refused:
        assert len(select(selector(classifier, options, validation=validation)).indices) == BUDGET
        return
    with pytest.raises(UserError, match="expects every class in the validation set; 1 of 3 are not there"):
        selector(classifier, options, validation=validation)


@pytest.mark.parametrize("strategy", ["glister", "gradmatch", "craig", "craig-pb"])
def test_what_does_not_fit_in_memory_is_refused(
    classifier: Classifier, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cords_backend, "memory_available", lambda: 100_000)
    with pytest.raises(
        UserError, match=f"CORDS's {strategy} would need about .* GB of memory .* backend='native'"
    ):
        selector(classifier, {"strategy": strategy, "batch_size": 8})


def test_craig_needs_the_square_of_the_examples(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All examples together: 20,000² distances and their coordinates are 19 GB, and gradients of 771 numbers 62 MB."""
    monkeypatch.setattr(cords_backend, "memory_available", lambda: 19_000_000_000)
    train = dataset(labels(20_000))
    with pytest.raises(UserError, match=r"about 19\.3 GB of memory for this data, and 19\.0 GB are free"):
        selector(classifier, {"strategy": "craig", "scope": "supervised"}, budget=2_000, train=train)
    monkeypatch.setattr(cords_backend, "memory_available", lambda: 20_000_000_000)
    selector(classifier, {"strategy": "craig", "scope": "supervised"}, budget=2_000, train=train)


QUICK = {"model": "mlp", "batch_size": 32, "augmentation": "none", "device": "cpu", "backend": "cords"}


@pytest.mark.parametrize(
    ("options", "chosen_at"),
    [
        ({"strategy": "random"}, [1]),
        ({"strategy": "glister", "eta": 0.1}, [1, 3]),
        ({"strategy": "gradmatch", "scope": "per-class"}, [1, 3]),
        ({"strategy": "craig-pb", "batch_size": 8}, [1, 3]),
    ],
    ids=lambda options: options["strategy"] if isinstance(options, dict) else "",
)
def test_a_job_trains_on_what_cords_chooses(
    table: Job, options: dict[str, Any], chosen_at: list[int]
) -> None:
    table.run({**QUICK, "fraction": 0.25, "epochs": 3, "select_every": 2, **options})
    assert table.exit_code == 0, table.log
    subsets, budget = table.subsets(), round(0.25 * table.summary["examples"]["training"])
    assert list(subsets) == chosen_at
    assert all(len(np.unique(subset["indices"])) == budget for subset in subsets.values())
    assert table.summary["backend"] == "cords" and table.summary["samples_visited"] == 3 * budget
    assert table.summary["validation"]["accuracy"] > 0.5  # chance is a third


def test_a_killed_job_begins_anew_and_ends_the_same(
    make_job: Callable[[str], Job],
) -> None:
    """CORDS's loaders cannot be asked what they remember."""
    values = {**QUICK, "strategy": "glister", "fraction": 0.25, "epochs": 4, "select_every": 2, "eta": 0.1}
    whole, job = make_job("whole"), make_job("killed")
    for each in (whole, job):
        write_table(each.channel("training") / "train.csv")
        (each.base / "checkpoints").mkdir()
    whole.run(values)
    job.when(values, "epoch=3 ", lambda process: process.kill())
    assert job.exit_code == -signal.SIGKILL, job.log
    assert "backend='cords' keeps no checkpoints" in job.log
    assert list((job.base / "checkpoints").iterdir()) == []
    job.run(values)
    assert job.exit_code == 0 and "resuming" not in job.log, job.log
    assert outcome(job) == outcome(whole)


def test_a_job_that_cords_would_not_end_fails_before_it_trains(table: Job) -> None:
    table.run({**QUICK, "strategy": "glister", "fraction": 0.25, "greedy": "rgreedy", "greedy_rounds": 100})
    assert table.exit_code == 1, table.log
    assert table.failure is not None and "greedy_rounds=100: CORDS does not return" in table.failure
    assert table.failure in table.last_line and not table.subsets()
