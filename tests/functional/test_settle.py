"""`compare --settle` from beginning to end on real runs whose first answer is 'not yet known', by another measure than
accuracy."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from deploy.__main__ import main
from deploy.results import folders
from deploy.results.answers import Answer, answer
from deploy.results.compare import Run
from deploy.results.judging import FIRST_LEVEL, LATER_LEVEL, State
from deploy.results.settling import settling

SETTINGS = [
    "--set",
    "model=mlp",
    "epochs=4",
    "batch_size=64",
    "device=cpu",
    "report=false",
    "metric=macro_f1",
]
ROWS = {"training": 600, "test": 4000}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two overlapping classes, one of them a quarter of the rows."""
    random = np.random.default_rng(0)
    for channel, rows in ROWS.items():
        labels = (random.random(rows) < 0.25).astype(int)
        features = random.standard_normal((rows, 6)) + 0.8 * labels[:, None] * [1, 1, 1, 0, 0, 0]
        lines = [
            f"{','.join(f'{x:.4f}' for x in row)},{'ab'[label]}"
            for row, label in zip(features, labels, strict=True)
        ]
        (tmp_path / "data" / channel).mkdir(parents=True)
        (tmp_path / "data" / channel / "rows.csv").write_text("\n".join(["u,v,w,x,y,z,label", *lines]) + "\n")
    return tmp_path / "data"


def judged(runs: list[Run], tolerance: float, first: list[int] | None = None) -> Answer:
    found = answer(runs, tolerance, first)
    assert isinstance(found, Answer)
    return found


def open_at_first(runs: list[Run]) -> float:
    """Return the tolerance, a share, at which the fewest further seeds would probably settle what is open."""
    further = {}
    for tolerance in np.arange(0.0005, 0.2, 0.0005):
        for proposal in settling(judged(runs, float(tolerance))):
            if proposal.more_seeds:
                further[float(tolerance)] = proposal.more_seeds
    fewest = min(further, key=lambda tolerance: further[tolerance])
    assert further[fewest] <= 6
    return fewest


def test_what_is_not_yet_known_is_settled_by_further_seeds(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", str(data), "--fractions", "1,0.3", "--strategies", "rs2", "--no-baselines"]
    command += ["--output", str(tmp_path / "study"), *SETTINGS]
    assert main(command) == 0
    capsys.readouterr()
    study = json.loads((tmp_path / "study/study.json").read_text())
    assert study["first_seeds"] == [0, 1, 2]
    runs, _ = folders.read([tmp_path / "study"])
    tolerance = open_at_first(runs)
    (proposal,) = settling(judged(runs, tolerance))
    points = ["--tolerance", f"{100 * tolerance:g}"]

    assert main([*command, *points, "--settle"]) == 0
    said = capsys.readouterr().out
    assert "6 of 6 runs are finished and used again" in said
    assert f"to settle what is not yet known: {2 * proposal.more_seeds} runs" in said
    assert re.search(rf"left: {2 * proposal.more_seeds} runs, about \d+ (s|min)", said)
    assert "of macro-F1" in said and "of accuracy" not in said

    runs, _ = folders.read([tmp_path / "study"])
    assert len(runs) == 6 + 2 * proposal.more_seeds
    assert json.loads((tmp_path / "study/study.json").read_text())["first_seeds"] == [0, 1, 2]
    later = judged(runs, tolerance, [0, 1, 2])
    (result,) = later.judged
    assert (result.seeds, result.level) == (3 + proposal.more_seeds, LATER_LEVEL)
    assert judged(runs, tolerance).judged[0].level == FIRST_LEVEL
    assert ("is enough for a loss" in said) == (result.state == State.ENOUGH)
    # What was judged is the measure that `metric` names.
    full, half = later.values(later.full), later.values(later.rows[0].runs)
    assert full == {run.summary["seed"]: run.summary["test"]["macro_f1"] for run in later.full.values()}
    assert result.mean == pytest.approx(np.mean([half[seed] - full[seed] for seed in half]))
    assert result.mean != pytest.approx(
        np.mean(
            [
                later.rows[0].runs[s].summary["test"]["accuracy"] - later.full[s].summary["test"]["accuracy"]
                for s in half
            ]
        )
    )
    page = (tmp_path / "study/comparison.html").read_text()
    assert "macro-F1" in page

    # Again it trains nothing and says the same; so does `compare` of the folder.
    answered = said[said.index("Train less") :].split("\n\n")[0]
    stamps = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "study/runs").glob("*/output/data/summary.json")
    }
    for again in ([*command, *points, "--settle"], ["compare", str(tmp_path / "study"), *points]):
        assert main(again) == 0
        assert capsys.readouterr().out.count(answered) == 1
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
