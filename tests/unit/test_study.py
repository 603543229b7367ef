"""The study's parts: scenarios, the grid, and the table."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import scenarios, study, study_report
from benchmarks.scenarios import Scenario
from benchmarks.study import Outcome
from benchmarks.study_report import Row
from deploy.grid.plan import Cell, parse_strategies
from deploy.results.compare import Run
from subset_trainer.config import hyperparameters
from subset_trainer.errors import UserError


def write_channel(directory: Path, per_class: int, classes: int = 4, seed: int = 0) -> Path:
    """Images whose first pixel says their class and whose second and third their number."""
    labels = np.repeat(np.arange(classes), per_class)
    x = np.random.default_rng(seed).integers(256, size=(len(labels), 3, 8, 8)).astype(np.uint8)
    x[:, 0, 0, 0] = labels
    x[:, 0, 0, 1], x[:, 0, 0, 2] = np.divmod(np.arange(len(labels)), 256)
    directory.mkdir(parents=True)
    np.savez(directory / "data.npz", x=x, y=labels)
    return directory


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    return {
        "training": write_channel(tmp_path / "training", 100),
        "test": write_channel(tmp_path / "test", 10, seed=1),
    }


def true_labels(inputs: np.ndarray) -> np.ndarray:
    return inputs[:, 0, 0, 0].astype(np.int64)


def numbers(inputs: np.ndarray) -> list[int]:
    return (inputs[:, 0, 0, 1].astype(int) * 256 + inputs[:, 0, 0, 2]).tolist()


# Scenarios


def test_noise_hits_exactly_its_share_of_training_alone(sources: dict[str, Path]) -> None:
    loaded = scenarios.load(sources, Scenario(noise=0.4))
    for name in ("validation", "test"):
        inputs, labels = loaded[name]
        np.testing.assert_array_equal(labels, true_labels(inputs))
    inputs, labels = loaded["training"]
    assert len(labels) == 360
    assert (labels != true_labels(inputs)).sum() == round(0.4 * 360)
    # Every class loses some, and every class is drawn.
    wrong = labels != true_labels(inputs)
    assert set(labels[wrong].tolist()) == set(true_labels(inputs)[wrong].tolist()) == {0, 1, 2, 3}
    assert not set(numbers(inputs)) & set(numbers(loaded["validation"][0]))


def test_near_copies_take_the_place_of_their_share_of_each_class(sources: dict[str, Path]) -> None:
    clean, copied = (scenarios.load(sources, Scenario(duplicates=share)) for share in (0.0, 0.5))
    for name in ("validation", "test"):
        np.testing.assert_array_equal(copied[name][0], clean[name][0])
    (before, labels), (after, same) = clean["training"], copied["training"]
    np.testing.assert_array_equal(same, labels)
    replaced = (after != before).any((1, 2, 3))
    assert np.bincount(labels[replaced]).tolist() == [45] * 4
    # Each is near one of its class that stayed, but it is another image.
    for row in np.flatnonzero(replaced):
        others = before[(labels == labels[row]) & ~replaced].astype(float)
        image = after[row].astype(float)
        cosines = [float((image * o).sum() / np.linalg.norm(image) / np.linalg.norm(o)) for o in others]
        aside = [np.array_equal(after[row][..., 1:], o[..., :-1]) for o in others]
        assert max(cosines) > 0.97 or any(aside)
        assert not any(np.array_equal(image, o) for o in others)


def test_rows_of_tables_are_copied_nearly() -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(40, 3)).astype(np.float32) * [1, 10, 100]
    rows = rows.astype(np.float32)
    copied = scenarios.replace_by_copies(rows, np.zeros(40, np.int64), 0.25, generator)
    replaced = np.flatnonzero((copied != rows).any(1))
    assert len(replaced) == 10
    kept = np.delete(rows, replaced, 0)
    nearest = [(np.abs(copied[row] - kept) / rows.std(0)).max(1).min() for row in replaced]
    assert 0 < max(nearest) < 0.06


def test_noise_changes_labels_and_nothing_else(sources: dict[str, Path]) -> None:
    clean = scenarios.load(sources, Scenario())
    noisy = scenarios.load(sources, Scenario(noise=0.4))
    for name, (inputs, _) in clean.items():
        np.testing.assert_array_equal(noisy[name][0], inputs)


def test_the_long_tail_is_exponential_and_in_training_alone(sources: dict[str, Path]) -> None:
    loaded = scenarios.load(sources, Scenario(imbalance=8))
    assert np.bincount(loaded["training"][1]).tolist() == [90, 45, 22, 11]  # 90, 45, 22.5, 11.25
    assert np.bincount(loaded["validation"][1]).tolist() == [10] * 4
    assert np.bincount(loaded["test"][1]).tolist() == [10] * 4
    np.testing.assert_array_equal(loaded["training"][1], true_labels(loaded["training"][0]))


def test_a_part_of_each_class_is_drawn_before_the_split(sources: dict[str, Path]) -> None:
    loaded = scenarios.load(sources, Scenario(per_class=20, validation_fraction=0.25))
    assert np.bincount(loaded["training"][1]).tolist() == [15] * 4
    assert np.bincount(loaded["validation"][1]).tolist() == [5] * 4
    assert len(loaded["test"][1]) == 40
    drawn = numbers(loaded["training"][0]) + numbers(loaded["validation"][0])
    assert len(set(drawn)) == 80
    assert max(drawn) > 310  # at random, not the first of each class


def test_a_validation_folder_is_taken_whole(sources: dict[str, Path], tmp_path: Path) -> None:
    sources["validation"] = write_channel(tmp_path / "validation", 7, seed=2)
    loaded = scenarios.load(sources, Scenario(per_class=20, noise=0.5))
    assert [len(labels) for _, labels in loaded.values()] == [80, 28, 40]
    np.testing.assert_array_equal(loaded["validation"][1], true_labels(loaded["validation"][0]))


def test_texts_are_studied_as_they_are(tmp_path: Path) -> None:
    words = np.random.default_rng(0).choice(["ant", "bee", "cow", "dog"], size=(80, 6))
    lines = [
        f"{'even' if row % 2 else 'odd'},{' '.join(line)} number {row}" for row, line in enumerate(words)
    ]
    sources = {name: tmp_path / name for name in ("training", "test")}
    for path in sources.values():
        path.mkdir()
        (path / "texts.csv").write_text("\n".join(["label,text", *lines]) + "\n")
    for _ in range(2):
        assert scenarios.prepare(tmp_path / "out", sources, Scenario()) == sources
    description = scenarios.read_description(tmp_path / "out")
    assert description is not None and description["examples"] == {
        "training": 72,
        "validation": 8,
        "test": 80,
    }
    with pytest.raises(UserError, match=r"texts are studied as they are; expected none of --noise"):
        scenarios.prepare(tmp_path / "noisy", sources, Scenario(noise=0.4))


def test_channels_are_made_once_and_for_one_scenario(sources: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    channels = scenarios.prepare(out, sources, Scenario(noise=0.4))
    written = channels["training"] / "data.npz"
    before = written.stat().st_mtime_ns
    assert np.load(written)["x"].dtype == np.uint8
    assert scenarios.prepare(out, sources, Scenario(noise=0.4)) == channels
    assert written.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="another noise, seed; name another --out"):
        scenarios.prepare(out, sources, Scenario(noise=0.3, seed=1))
    with pytest.raises(UserError, match="another sources"):
        scenarios.prepare(out, {**sources, "test": sources["training"]}, Scenario(noise=0.4))
    # A preparation that was cut off is made anew.
    (out / scenarios.DESCRIPTION).unlink()
    scenarios.prepare(out, sources, Scenario(noise=0.4))
    assert written.stat().st_mtime_ns > before


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 9),
)
def test_replaced_labels_are_other_classes(labels: list[int], share: float, seed: int) -> None:
    before = np.array(labels)
    after = scenarios.replace_labels(before, share, 5, np.random.default_rng(seed))
    assert (before != after).sum() == round(share * len(labels))
    assert before.tolist() == labels
    assert ((after >= 0) & (after < 5)).all()


def test_replacement_is_uniform_over_the_other_classes() -> None:
    after = scenarios.replace_labels(np.full(9_000, 2), 0.999, 4, np.random.default_rng(0))
    # 2,997 ± 45 each, one standard deviation.
    assert all(abs((after == other).sum() - 2_997) < 200 for other in (0, 1, 3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"noise": 1.0}, "--noise 1: expected at least 0 and less than 1"),
        ({"imbalance": 0.5}, "--imbalance 0.5"),
        ({"duplicates": 1.0}, "--duplicates 1: expected at least 0 and less than 1"),
        ({"per_class": 1}, "--per-class 1"),
        ({"validation_fraction": 0.0}, "--validation-fraction 0"),
    ],
)
def test_scenarios_out_of_range(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Scenario(**wrong)


# The grid


def test_the_grid_makes_equal_visits_and_holds_the_baselines() -> None:
    cells = study.planned(parse_strategies("glister"), (0.1, 0.5), (3, 4), {"epochs": "30"}).cells
    assert len(cells) == 2 * 2 * 5
    assert [cell.seed for cell in cells] == [3] * 10 + [4] * 10  # a whole comparison first
    visits = set()
    for cell in cells:
        hp = hyperparameters.parse(cell.values)
        assert hp.seed == cell.seed
        part = 1.0 if hp.strategy == "full" else hp.share
        visits.add((cell.fraction, round(hp.epochs * part, 9)))
    assert visits == {(0.1, 3.0), (0.5, 15.0)}
    baselines = {"full", "rs2", "validation-only", "training-and-validation"}
    assert {cell.row for cell in cells} == {*baselines, "glister"}
    assert {cell.name for cell in cells if cell.seed == 3} >= {"full-at-0.1-seed-3", "glister-at-0.5-seed-3"}


def test_a_baseline_that_is_asked_for_is_there_once() -> None:
    cells = study.planned(parse_strategies("rs2,random"), (0.1,), (0,), {"epochs": "10"}).cells
    assert [cell.row for cell in cells] == ["rs2", "random", "full"]


def test_at_the_whole_stands_full_alone() -> None:
    cells = study.planned(parse_strategies("random"), (1.0, 0.5), (0, 1), {"epochs": "10"}).cells
    whole = [cell for cell in cells if cell.fraction == 1]
    assert [(cell.row, cell.seed, cell.values["epochs"]) for cell in whole] == [
        ("full", 0, "10"),
        ("full", 1, "10"),
    ]
    assert len(cells) == 2 + 2 * 3


def test_infobatch_gets_the_epochs_that_come_nearest() -> None:
    (cell,) = [
        cell
        for cell in study.planned(parse_strategies("infobatch"), (0.1,), (0,), {"epochs": "100"}).cells
        if cell.row == "infobatch"
    ]
    # 13 epochs: the first and the last two (an eighth) whole, ten of 70%: ten passes.
    assert cell.values["epochs"] == "13"
    assert "fraction" not in cell.values


@pytest.mark.parametrize(
    ("strategies", "fraction", "settings", "message"),
    [
        ("random", 0.1, {"epochs": "15"}, "samples it sees would differ by 33%"),
        ("random", 0.1, {"epochs": "10", "seed": "1"}, "--set: seed=1: expected --seeds instead"),
        (
            "random:fraction=0.2",
            0.1,
            {"epochs": "10"},
            "random:fraction=0.2: fraction=0.2: expected --fractions",
        ),
        ("random", 1.5, {"epochs": "10"}, "above 0 and at most 1"),
        ("glistr", 0.1, {"epochs": "10"}, "glister"),
        ("random:eta=none", 0.1, {"epochs": "10"}, "eta"),
    ],
)
def test_grids_that_cannot_be_run(
    strategies: str, fraction: float, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        study.planned(parse_strategies(strategies), (fraction,), (0,), settings)


# The table


def row(strategy: str, *accuracies: float, **changes: Any) -> Row:
    count = len(accuracies)
    values: dict[str, Any] = {
        "scenario": "clean",
        "strategy": strategy,
        "fraction": 0.1,
        "epochs": 30,
        "seeds": tuple(range(count)),
        "test_accuracies": accuracies,
        "validation_accuracies": accuracies,
        "seconds": (10.0,) * count,
        "selection_seconds": (1.0,) * count,
        "samples_visited": (54_000,) * count,
        "header": "Machine.",
        **changes,
    }
    return Row(**values)


def test_rows_of_runs_in_the_order_of_seeds() -> None:
    cells = [Cell(f"rs2-{seed}", "rs2", 0.1, seed, {"strategy": "rs2"}) for seed in (0, 1, 2)]

    def summary(accuracy: float) -> dict[str, Any]:
        seconds = {"training": 5.0, "selection": 2.0, "evaluation": 1.0, "total": 99.0}
        return {
            "test": {"accuracy": accuracy},
            "validation": {"accuracy": 0.1},
            "seconds": seconds,
            "samples_visited": 7,
        }

    def ended(accuracy: float) -> Run:
        own = {**summary(accuracy), "hyperparameters": {"batch_size": 32}}
        return Run("rs2", own, [{"subset_size": 33}, {"subset_size": 32}])

    outcome = Outcome({cells[2]: ended(0.7), cells[0]: ended(0.5)}, {cells[1]: "diverged"})
    (found,) = study.rows_of(cells, outcome, "clean", "h", {"epochs": "30"})
    assert found.seeds == (0, 2)
    assert found.test_accuracies == (0.5, 0.7)
    assert found.seconds == (8.0, 8.0)
    assert found.updates == (3, 3)
    assert found.failures == {"1": "diverged"}
    assert found.accuracy == pytest.approx(0.6)
    assert found.deviation == pytest.approx(0.02**0.5)  # n − 1


def test_the_best_and_those_within_a_deviation_are_marked() -> None:
    best = row("best", 0.68, 0.70, 0.72)  # 0.70 ± 0.02
    near = row("near", 0.679, 0.681, 0.683)  # 0.681: within 0.02
    wide = row("wide", 0.60, 0.66, 0.72)  # 0.66 ± 0.06: within its own
    far = row("far", 0.67, 0.671, 0.672)
    assert study_report.marks([far, wide, best, near]) == ["", "close", "best", "close"]


def test_markdown() -> None:
    rows = [
        row("rs2", 0.50, 0.52),
        row("full", 0.60, 0.62, samples_visited=(54_000, 54_001), updates=(846, 846)),
        row("broken", seeds=(), failures={"0": "diverged"}),
        row("half", 0.40, seeds=(1,), failures={"0": "diverged"}, processor_seconds=(12.34,)),
        row("rs2", 0.30, 0.30, scenario="noisy", header="Other."),
        row("rs2", 0.70, 0.70, fraction=0.5),
    ]
    text = study_report.markdown(rows)
    clean, noisy = text.split("### noisy")
    lines = [line for line in clean.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert [line.split("|")[1].strip() for line in lines] == [
        "**rs2**",
        "**full**",
        "rs2",
        "half (1 of 2 seeds)",
        "broken",
    ]
    assert lines[1] == "| **full** | 0.1 | 30 | **61.00 ± 1.41%** | 61.00% | 10.0 | 1.0 | 54,000 | 846 | – |"
    assert lines[3].endswith(" 12.3 |")
    assert "| failed |" in lines[4] and lines[4].count("|") == lines[3].count("|")
    assert "- broken at 0.1, seed 0: diverged" in clean
    assert "Machine." in clean
    assert "Other." in noisy


def test_files_and_what_a_later_call_keeps(tmp_path: Path) -> None:
    old = [
        row("rs2", 0.5, settings={"epochs": "30"}),
        row("random", 0.4, settings={"epochs": "30"}),
        row("rs2", 0.3, scenario="noisy", settings={"epochs": "10"}),
    ]
    study_report.write(old, tmp_path, "digits")
    assert (tmp_path / "study.png").read_bytes()[:4] == b"\x89PNG"
    listed = json.loads((tmp_path / "study.json").read_text())
    assert [entry["test_accuracy"] for entry in listed] == [0.5, 0.4, 0.3]
    read = study_report.read(tmp_path)
    assert read == old
    same = study.gather([row("rs2", 0.6, settings={"epochs": "30"})], read)
    assert sorted((r.scenario, r.strategy, r.accuracy) for r in same) == [
        ("clean", "random", 0.4),
        ("clean", "rs2", 0.6),
        ("noisy", "rs2", 0.3),
    ]
    # Rows of the same scenario under other settings are no comparison.
    other = study.gather([row("full", 0.6, settings={"epochs": "60"})], read)
    assert sorted((r.scenario, r.strategy) for r in other) == [("clean", "full"), ("noisy", "rs2")]


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    for arguments, expected in (
        (["--fractions", "x"], "list of different numbers"),
        (["--training", str(tmp_path / "nowhere")], "nowhere"),
        (["--set", "epochs=3"], "use --epochs"),
        (["--test", str(tmp_path)], "go with --training"),
    ):
        assert study.main([*arguments, *out]) == 1
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        assert expected in captured.err
    assert not (tmp_path / "out").exists()
