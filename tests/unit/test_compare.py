import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deploy.__main__ import main
from deploy.results import compare
from subset_trainer.errors import UserError


def write_run(
    directory: Path, strategy: str, fraction: float, epochs: int, seconds: float, **changes: Any
) -> Path:
    """A run of 1,000 examples: `seconds` a full epoch, 2 s every fifth epoch's selection, 0.5 s an evaluation."""
    data = directory / "output/data"
    data.mkdir(parents=True)
    history = [
        {
            "epoch": epoch,
            "validation:accuracy": 1 - 0.5 / epoch,
            "epoch:seconds": seconds * fraction,
            "selection:seconds": 2.0 if strategy == "glister" and epoch % 5 == 1 else 0.0,
            "evaluation:seconds": 0.5,
        }
        for epoch in range(1, epochs + 1)
    ]
    (data / "history.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in history))
    summary = {
        "status": "completed",
        "strategy": strategy,
        "fraction": fraction,
        "epochs": epochs,
        "validation": {"loss": 0.1, "accuracy": history[-1]["validation:accuracy"]},
        "test": {"loss": 0.1, "accuracy": 0.9},
        "samples_visited": round(1000 * fraction * epochs),
        "seconds": {
            "training": seconds * fraction * epochs,
            "selection": sum(entry["selection:seconds"] for entry in history),
            "evaluation": 0.5 * epochs,
            "loading": 100.0,
            "total": 1000.0,
        },
        **changes,
    }
    (data / "summary.json").write_text(json.dumps(summary))
    return directory


@pytest.fixture
def runs(tmp_path: Path) -> list[compare.Run]:
    folders = [
        write_run(tmp_path / "glister-0.5", "glister", 0.5, 10, 4.0),
        write_run(tmp_path / "full-at-0.5", "full", 1.0, 5, 4.0),
        write_run(tmp_path / "full", "full", 1.0, 10, 4.0, test=None),
    ]
    return [compare.read_run(folder) for folder in folders]


def test_the_cost_counts_selection_and_evaluation(runs: list[compare.Run]) -> None:
    glister, short, full = compare.rows(runs)
    assert glister.seconds_total == pytest.approx(20 + 4 + 5)
    assert full.seconds_total == pytest.approx(40 + 5)
    # Full data for fewer epochs is a baseline, not what the others are measured by.
    assert full.speedup == 1
    assert glister.speedup == pytest.approx(45 / 29)
    assert short.speedup == pytest.approx(45 / 22.5)


def test_the_cost_counts_what_was_done_before_the_first_epoch(runs: list[compare.Run]) -> None:
    """drop_noisy trains once before the training proper."""
    cleaned = [
        replace(run, summary={**run.summary, "seconds": {**run.summary["seconds"], "cleaning": 12.0}})
        for run in runs
    ]
    for before, after in zip(compare.rows(runs), compare.rows(cleaned), strict=True):
        assert after.seconds_selecting == pytest.approx(before.seconds_selecting + 12)
        assert after.seconds_total == pytest.approx(before.seconds_total + 12)
    for plain, run in zip(runs, cleaned, strict=True):
        assert run.clock == pytest.approx([at + 12 for at in plain.clock])
        assert run.clock[-1] == pytest.approx(run.seconds)


def test_without_a_full_run_there_is_no_speedup(runs: list[compare.Run]) -> None:
    (row,) = compare.rows(runs[:1])
    assert row.speedup is None
    assert compare.table([row]).splitlines()[-1].endswith("–")


def test_the_speedup_is_over_the_full_run_of_the_same_seed(tmp_path: Path) -> None:
    made = [("full-0", "full", 1.0, 4.0, 0), ("full-1", "full", 1.0, 8.0, 1), ("rs2-1", "rs2", 0.5, 8.0, 1)]
    found = [
        compare.read_run(write_run(tmp_path / name, strategy, fraction, 3, seconds, seed=seed))
        for name, strategy, fraction, seconds, seed in made
    ]
    first, second, half = compare.rows(found)
    assert first.speedup == second.speedup == 1
    # (8 + 0.5) seconds an epoch, and (4 + 0.5).
    assert half.speedup == pytest.approx(8.5 / 4.5)


def test_table(runs: list[compare.Run]) -> None:
    lines = compare.table(compare.rows(runs)).splitlines()
    shown = "glister-0.5 0.5 10 95.00% 90.00% 20.0 4.0 5.0 29.0 5,000 1.55×"
    assert lines[3].split() == shown.split()
    assert lines[5].split()[:5] == ["full", "1", "10", "95.00%", "–"]
    assert len({len(line) for line in lines[2:]}) == 1


def test_measures_that_a_run_has_get_a_column(runs: list[compare.Run]) -> None:
    runs[0].summary["validation"].update(macro_f1=0.81, auc=0.77)
    rows = compare.rows(runs)
    assert (rows[0].validation_macro_f1, rows[1].validation_macro_f1, rows[0].test_auc) == (0.81, None, None)
    lines = compare.table(rows).splitlines()
    assert lines[3].split()[-2:] == ["81.00%", "77.00%"] and lines[4].split()[-2:] == ["–", "–"]
    assert "macro-F1" in lines[0] and "balanced accuracy" not in lines[0]


def test_a_shorter_run_on_full_data_is_no_reference_for_speed(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "rs2-0.1", "rs2", 0.1, 10, 4.0),
        write_run(tmp_path / "full-at-0.1", "full", 1.0, 1, 4.0),
    ]
    rows = compare.rows([compare.read_run(folder) for folder in folders])
    assert [row.speedup for row in rows] == [None, None]
    # One that stopped early was planned for as long.
    stopped = write_run(tmp_path / "full", "full", 1.0, 6, 4.0, hyperparameters={"epochs": 10})
    rows = compare.rows([compare.read_run(folder) for folder in [*folders, stopped]])
    assert rows[2].speedup == 1 and rows[0].speedup is not None and rows[0].speedup > 2


def test_a_stopped_run_says_so(tmp_path: Path) -> None:
    run = compare.read_run(write_run(tmp_path / "full", "full", 1.0, 3, 1.0, status="stopped"))
    (row,) = compare.rows([run])
    assert row.epochs == 3
    assert "full (stopped)" in compare.table([row])


def test_command_writes_chart_csv_and_json(
    runs: list[compare.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    folders = [str(tmp_path / name) for name in ("full", "glister-0.5")]
    assert main(["compare", "--local", *folders, "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    assert str(output / "comparison.png") in shown
    assert "1 point of accuracy cannot be known from one seed" in shown
    with Image.open(output / "comparison.png") as chart:
        assert chart.width >= 1000
        assert chart.convert("L").getextrema() == (0, 255)
    rows = json.loads((output / "comparison.json").read_text())
    assert [row["run"] for row in rows] == ["full", "glister-0.5"]
    with (output / "comparison.csv").open() as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["full", "glister-0.5"]


def test_an_unpacked_output_archive_is_a_run_too(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", "full", 1.0, 2, 1.0)
    (folder / "output").rename(tmp_path / "unpacked")
    assert compare.read_run(tmp_path / "unpacked").summary["epochs"] == 2


@pytest.mark.parametrize("content", [None, "{"])
def test_what_is_no_run_is_named(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UserError, match=str(tmp_path)):
        compare.read_run(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--training", "nowhere"], "channel 'training'.*nowhere"),
        (["no/where"], "there is no folder 'no/where'"),
        (["runs", "--training", "."], "runs and --training .: expected only one of the two"),
        (["--strategies", "rs2"], "expected data, folders of runs, or the name of an Experiment"),
        (["--training", ".", "--set", "seed=x"], "seed"),
        (["--training", ".", "--set", "strategy=glister"], "strategy=glister: expected --strategies instead"),
        (["--training", ".", "--fractions", "1,0"], "'0'.*above 0"),
        (["--training", ".", "--fractions", "0.3,0.3"], "twice"),
        (["--training", ".", "--strategy", "glistr"], "glister"),
        (["--training", ".", "--set", "epochs=none"], "epochs"),
        (["--training", ".", "--set", "epochs"], "NAME=VALUE"),
        (["--training", ".", "--tolerance", "-1"], "percentage points, from 0 to 100"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_runs(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments, "--output", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert re.search(expected, captured.err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spelling", [[], ["--local"]])
def test_command_writes_a_page_a_frame_and_costs(
    spelling: list[str], runs: list[compare.Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(tmp_path / run.name) for run in runs]
    options = ["--output", str(tmp_path / "out"), "--html", str(tmp_path / "a/page.html")]
    options += ["--csv", str(tmp_path / "b/frame.parquet"), "--prices", "local=3.6"]
    assert main(["compare", *spelling, *folders, *options]) == 0
    import pandas as pd

    frame = pd.read_parquet(tmp_path / "b/frame.parquet")
    assert list(frame["run"]) == [run.name for run in runs]
    # A tenth of a cent a second.
    assert frame["cost"].tolist() == pytest.approx([run.seconds / 1000 for run in runs])
    assert "estimated" in capsys.readouterr().out
    assert "glister-0.5" in (tmp_path / "a/page.html").read_text(encoding="utf-8")


def test_speed_is_compared_with_full_runs_of_the_same_model(tmp_path: Path) -> None:
    shapes = {
        "a/full": ("full", 1.0, 10, 4.0),
        "a/rs2": ("rs2", 0.5, 10, 4.0),
        "b/full": ("full", 1.0, 10, 400.0),
    }
    found = [
        compare.read_run(write_run(tmp_path / name, *shape, model="cnn" if name[0] == "a" else "resnet18"))
        for name, shape in shapes.items()
    ]
    speeds = [row.speedup for row in compare.rows(found)]
    assert speeds == [1.0, pytest.approx(found[0].seconds / found[1].seconds), 1.0]


def test_updates_that_differ_at_equal_samples_are_said(tmp_path: Path) -> None:
    def run(name: str, strategy: str, sizes: list[int], seed: int = 0, batch: int = 128) -> compare.Run:
        own = {"batch_size": batch}
        summary = {"strategy": strategy, "seed": seed, "hyperparameters": own, "samples_visited": sum(sizes)}
        return compare.Run(name, summary, [{"subset_size": size} for size in sizes])

    subset, full = run("rs2-0.1", "rs2", [130] * 30), run("full-at-0.1", "full", [1300] * 3)
    assert (subset.updates, full.updates) == (60, 33)
    assert compare.unequal_updates([full, subset]) == (
        "Equal samples are not equal updates here: rs2-0.1 made 60 updates and full-at-0.1 33, because a subset of "
        "130 examples is not much larger than a batch of 128."
    )
    said = compare.unequal_updates(
        [run("full-at-0.1", "full", [1300] * 3), run("rs2-0.01", "rs2", [13] * 300)]
    )
    assert said is not None and "a subset of 13 examples is smaller than a batch of 128" in said
    larger = run("rs2-0.1", "rs2", [13_000] * 30), run("full-at-0.1", "full", [130_000] * 3)
    assert compare.unequal_updates(larger) is None
    # Of other seeds, of other numbers of samples, and of a strategy that sets its own size nothing is said.
    assert compare.unequal_updates([full, run("rs2-0.1", "rs2", [130] * 30, seed=1)]) is None
    assert compare.unequal_updates([full, run("rs2-0.2", "rs2", [130] * 60)]) is None
    assert compare.unequal_updates([full, run("infobatch", "infobatch", [130] * 30)]) is None
    assert (
        compare.unequal_updates([full, compare.Run("old", {"strategy": "rs2", "samples_visited": 3900}, [])])
        is None
    )
