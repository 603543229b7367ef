"""A job says first what it took its data to be, in its log, in a file of its own and in its report."""

import html
import json
from pathlib import Path

from tests.functional.conftest import Job

QUICK = {"epochs": 1, "device": "cpu", "report": True}


def block(job: Job) -> list[str]:
    """The log's first lines, from the training channel's to the first of another kind."""
    lines = [line.split(" INFO ", 1)[1] for line in job.log.splitlines() if " INFO " in line]
    start = next(at for at, line in enumerate(lines) if line.startswith("training: "))
    assert start == 1, lines[:3]  # after the version
    end = next(
        at for at in range(start, len(lines)) if not lines[at].startswith(("training: ", "test: ", "  "))
    )
    return lines[start:end]


def test_the_log_the_file_and_the_report_say_what_the_data_was_taken_to_be(job: Job, digits: Path) -> None:
    for name in ("training", "test"):
        job.link_channel(name, digits / name)
    job.run({**QUICK, "model": "cnn"})
    assert job.exit_code == 0, job.log
    lines = block(job)
    assert len(lines) <= 15
    assert lines[0].startswith("training: folders (by '") and lines[0].endswith("examples in 10 classes")
    assert "  label: the folders (one for each class)" in lines
    assert lines[-1].startswith("test: folders")
    training, test = json.loads((job.base / "output/data/understanding.json").read_text())["channels"]
    assert (training["channel"], test["channel"]) == ("training", "test")
    counted = {folder.name: len(list(folder.iterdir())) for folder in sorted((digits / "training").iterdir())}
    assert training["classes"] == counted and training["examples"] == sum(counted.values())
    assert training["complete"]
    report = html.unescape((job.base / "output/data/report.html").read_text())
    assert all(line.strip() in report for line in lines)
    assert "What the data was taken to be" in report


def test_an_earlier_run_s_understanding_does_not_pass_for_one_of_refused_data(table: Job) -> None:
    table.run(QUICK)
    file = table.base / "output/data/understanding.json"
    assert table.exit_code == 0 and file.exists(), table.log
    (table.channel("training") / "train.csv").write_text("label,a\n1,2\n1,2,3\n")
    table.run(QUICK)
    assert table.exit_code == 1 and not file.exists()


def test_a_resumed_run_states_its_own_understanding(table: Job) -> None:
    (table.base / "checkpoints").mkdir()
    table.run({**QUICK, "epochs": 2})
    file = table.base / "output/data/understanding.json"
    first = file.read_bytes()
    file.write_text("{}")
    table.run({**QUICK, "epochs": 2})
    assert table.exit_code == 0 and "resum" in table.log, table.log
    assert file.read_bytes() == first
