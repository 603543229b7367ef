"""The page of GPU figures is what the file in the repository gives, or its absence."""

import json
from pathlib import Path

import pytest

from benchmarks import gpu_tables
from benchmarks.gpu import tests as marked
from benchmarks.gpu.runner import MEASURED, ROOT
from benchmarks.gpu.stages import judge
from benchmarks.gpu.wheels import LOCK, _pinned, _without


def test_the_page_is_what_the_file_gives() -> None:
    page = gpu_tables.PAGE.read_text(encoding="utf-8")
    assert gpu_tables.fill(page, gpu_tables.read(gpu_tables.FILE)) == page
    assert set(gpu_tables.BLOCK.findall(page)) and {
        name for _, name, _ in gpu_tables.BLOCK.findall(page)
    } == set(gpu_tables.TABLES)


def test_a_file_in_the_repository_is_of_a_gpu() -> None:
    if gpu_tables.FILE.exists():
        assert json.loads(gpu_tables.FILE.read_text())["dry"] is False


def test_a_figure_is_judged_at_the_better_batch_size(tmp_path: Path) -> None:
    def epoch(seconds: float) -> dict[str, object]:
        return {"status": MEASURED, "values": {"seconds_per_epoch": seconds, "ratio_bare": seconds}}

    article = {"status": MEASURED, "values": {"article_seconds_per_epoch": 12.0}}
    parts = {
        "batch 512, fraction 1": epoch(0.8),
        "batch 128, fraction 1": epoch(1.2),
        "article's loop, batch 512, fraction 1": article,
        "batch 128, fraction 0.1": epoch(0.15),
    }
    verdicts = {target["name"]: target for target in judge({"loop": {"parts": parts}})}
    whole = verdicts["an epoch of all the data, at the better batch size"]
    assert (whole["value"], whole["verdict"]) == (0.8, "met")
    faster = verdicts["times as fast as the article's loop, fraction 1"]
    assert (faster["value"], faster["verdict"]) == (pytest.approx(15), "met")
    assert verdicts["an epoch of 10%, at the better batch size"]["verdict"] == "not met"
    assert verdicts["times as fast as the article's loop, fraction 0.1"]["verdict"] == "not measured"


def test_every_test_that_asks_for_a_gpu_has_the_mark() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in marked.marked_files()}
    assert "tests/unit/test_selection.py" in files and "tests/unit/data/test_datasets.py" in files
    others = [
        path.name
        for path in (ROOT / "tests").rglob("test_*.py")
        if "skipif(not torch.cuda" in path.read_text()
    ]
    assert others == [Path(__file__).name]


def test_what_a_machine_has_is_not_carried() -> None:
    assert _without(
        ["numpy", "pytest-timeout", "torchvision==0.26.0"], ["Pytest_Timeout", "torchvision"]
    ) == ["numpy"]
    pinned = _pinned(LOCK.read_text())
    assert any(line.startswith("pydantic==") for line in pinned)
    assert not any("sha256" in line or line.startswith(("torch", "nvidia")) for line in pinned)
