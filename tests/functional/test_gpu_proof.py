"""The GPU proof: every line of it that a CPU can run, and what its runner makes of parts that go wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_proof, gpu_tables
from benchmarks.gpu import runner
from benchmarks.gpu.runner import MEASURED, NOT_MEASURED, ROOT, Book, Plan, Values
from benchmarks.gpu.stages import STAGES
from tests.functional import gpu_rehearsal

SECONDS = 550


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


# One test, since the rehearsal takes a minute, and tests that run side by side would each make their own.
@pytest.mark.timeout(SECONDS + 120)
def test_every_stage_is_rehearsed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu_proof", "--dry", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = content(path)
    assert found["dry"] and found["sources"] == gpu_proof.sources()
    entries = {
        (stage.name, part.name): found["stages"][stage.name]["parts"][part.name]
        for stage in STAGES
        for part in stage.parts
        if part.dry is not None
    }
    assert not {place: entry for place, entry in entries.items() if entry["status"] != MEASURED}
    assert [target["name"] for target in found["targets"] if target["value"] is None] == []
    holds_on_any_device(runner.measured_values(found["stages"]))
    tables_are_made(path, tmp_path / "gpu.md")
    is_continued(path, tmp_path / "again.json", capsys)


def holds_on_any_device(known: dict[str, dict[str, Values]]) -> None:
    """What the rehearsal finds that is no matter of speed."""
    (tests,) = known["tests"].values()
    assert not tests["failed"] and tests["tests"] > 48
    resumed = known["exactness"]["killed and resumed"]
    assert resumed["resumed"] and resumed["history_same"] and resumed["weights_same"]
    assert known["exactness"]["out of memory"]["parts_of"] == [4]
    assert known["exactness"]["no code for the GPU"]["as_expected"]
    waits = known["loop"]["synchronisations, batch 512"]
    # A CPU's loss is read in every step; that of the last one is not between two steps.
    assert waits["reads_of_the_loss"] == waits["steps"] - 1 > 1
    losses = {name: values["mean_loss"] for name, values in known["step"].items()}
    assert max(losses.values()) == pytest.approx(min(losses.values()), rel=0.05), losses


def tables_are_made(file: Path, page: Path) -> None:
    """Of the rehearsal's file, which they say is one."""
    page.write_text(gpu_tables.PAGE.read_text())
    assert gpu_tables.main(["--json", str(file), "--page", str(page)]) == 0
    text = page.read_text()
    assert "A rehearsal on a CPU: none of this is a figure of a GPU." in text
    assert "| killed and resumed | yes | yes | yes |" in text
    left_out = sum(part.dry is None for stage in STAGES for part in stage.parts)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert sum("its turn did not come" in row for row in rows) == left_out


def is_continued(path: Path, again: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is settled is not measured once more, but for the machine."""
    before = content(path)
    command = ["--dry", "--json", str(again), "--resume", str(path), "--stages", "selection"]
    assert gpu_proof.main(command) == 0
    after = content(again)
    said = capsys.readouterr().out
    assert "parts were settled before" in said
    assert "machine, identity: measured" in said and "selection, " not in said
    for stage in ("selection", "experiment"):
        assert after["stages"][stage] == before["stages"][stage]


def test_a_file_of_other_sources_settles_nothing(tmp_path: Path) -> None:
    book = Book(tmp_path / "new.json", gpu_proof.head(dry=True), lambda stages: [])
    old = {**gpu_proof.head(dry=True), "sources": "others", "stages": {"machine": {"parts": {}}}}
    assert "of other sources" in book.adopt(old)
    assert book.stages == {}


@pytest.fixture
def troubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """The file of stages that go wrong, and what was called."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    path = tmp_path / "book.json"
    plan = Plan(gpu_rehearsal.__name__, gpu_rehearsal.STAGES, minutes=5)
    for resuming in (False, True):
        book = Book(path, {"sources": "these", "dry": False}, lambda stages: [])
        if resuming:
            book.adopt(content(path))
            plan = Plan(gpu_rehearsal.__name__, gpu_rehearsal.STAGES[2:], minutes=5)
        assert runner.run(plan, book, say=lambda text: None)
    return path, (tmp_path / "calls").read_text().split()


def test_what_goes_wrong_is_recorded_and_costs_only_itself(troubled: tuple[Path, list[str]]) -> None:
    path, calls = troubled
    stages = content(path)["stages"]
    parts: dict[str, Values] = stages["troubled"]["parts"]
    assert {name: entry["status"] for name, entry in parts.items()} == {
        "first": MEASURED,
        "fails": "failed",
        "refuses": NOT_MEASURED,
        "dies": "failed",
        "hangs": "cut",
        "last": MEASURED,
    }
    # No number is null, as JSON has it; a part of a later process knows what an earlier one has measured.
    assert parts["last"]["values"] == {"word": "last", "share": None, "known": {"troubled": ["first"]}}
    assert parts["fails"]["reason"] == "ValueError: what was found was no number"
    assert parts["fails"]["error"][-1] == "ValueError: what was found was no number"
    assert parts["refuses"]["reason"] == "nothing to measure it on"
    assert parts["dies"]["reason"] == "its process ended with SIGSEGV"
    assert any("Segmentation fault" in line for line in parts["dies"]["error"])
    assert parts["hangs"]["reason"] == "the part's 4 s were over"
    cut = stages["long"]["parts"]
    assert (cut["hangs"]["status"], cut["hangs"]["reason"]) == ("cut", "the stage's 5 s were over")
    assert (cut["after"]["status"], cut["after"]["reason"]) == (NOT_MEASURED, "the stage's 5 s were over")
    # Resuming has not called the last stage's part once more.
    assert calls == ["first", "last", "end"]


def test_the_minutes_of_the_whole_end_it(tmp_path: Path) -> None:
    book = Book(tmp_path / "book.json", {"sources": "these", "dry": False}, lambda stages: [])
    runner.run(Plan(gpu_rehearsal.__name__, gpu_rehearsal.STAGES, minutes=0), book, say=lambda text: None)
    entries = [part for stage in content(book.path)["stages"].values() for part in stage["parts"].values()]
    assert {entry["reason"] for entry in entries} == {"the minutes of the whole were over"}


def test_a_machine_without_a_gpu_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert gpu_proof.main(["--json", str(tmp_path / "gpu.json")]) == 1
    assert "this machine shows no GPU" in capsys.readouterr().err
    assert content(tmp_path / "gpu.json")["stages"]["loop"]["parts"]
