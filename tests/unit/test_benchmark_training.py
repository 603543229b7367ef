"""The benchmark of training: a few images through all three loops, and what is made of their times."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import training as benchmark
from benchmarks.training import TARGETS, Target
from subset_trainer.training import devices

TINY = ["--model", "cnn", "--images", "24", "--validation", "6", "--batch-size", "12", "--device", "cpu"]
KEYS = {
    "device",
    "model",
    "fraction",
    "seconds_per_epoch",
    "article_seconds_per_epoch",
    "bare_seconds_per_epoch",
    "selection_seconds",
    "article_selection_seconds",
    "images_per_second",
    "ratio_article",
    "ratio_bare",
    "input_seconds",
    "forward_backward_seconds",
    "optimizer_seconds",
    "evaluation_seconds",
    "peak_share",
    "peak_flops",
    "flops_per_image",
    "torch",
    "threads",
    "batch_size",
    "images",
    "validation",
    "epochs",
    "repeats",
    "article_workers",
    "article",
    "precision",
    "seed",
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread: where others are at work, two wait for each other longer than a few images take."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(benchmark, "MATRIX_SIZE", {"cpu": 64})
    monkeypatch.setattr(devices, "cpu_count", lambda: 1)
    yield
    torch.set_num_threads(threads)


def rows_of(path: Path, *options: str) -> list[dict[str, Any]]:
    assert benchmark.main([*TINY, *options, "--json", str(path / "rows.json")]) == 0
    rows: list[dict[str, Any]] = json.loads((path / "rows.json").read_text())
    return rows


def test_a_fraction_is_measured_beside_the_article_and_the_bare_loop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = np.geterr()
    (row,) = rows_of(tmp_path, "--fractions", "0.5", "--repeats", "2", "--precision", "float32")
    assert np.geterr() == errors
    assert row.keys() == KEYS
    assert (row["model"], row["fraction"], row["images"], row["validation"]) == ("cnn", 0.5, 24, 6)
    assert (row["batch_size"], row["epochs"], row["repeats"], row["precision"]) == (12, 1, 2, "float32")
    assert all(row[key] > 0 for key in KEYS if key.endswith("_seconds") or key.startswith("seconds_"))
    # The first convolution alone multiplies 32 · 16² · 48 times forward, and again for its kernel's gradient.
    assert row["flops_per_image"] > 2 * 2 * 32 * 16**2 * 48
    assert row["peak_share"] > 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith(row["device"])
    assert "| device | model | fraction | epoch, s | article's, s |" in out
    assert "met" not in out  # targets are set for ResNet-18


def test_what_is_not_measured_is_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, half = rows_of(tmp_path, "--fractions", "1,0.5", "--skip-article")
    assert whole.keys() == half.keys() == KEYS
    article = {"article_seconds_per_epoch", "article_selection_seconds", "ratio_article"}
    assert {key for key in KEYS if whole[key] is None} == article | {"selection_seconds"}
    assert {key for key in KEYS if half[key] is None} == article
    assert "| – |" in capsys.readouterr().out


def test_a_run_that_resumes_keeps_the_rows_of_the_same_settings(tmp_path: Path) -> None:
    (half,) = rows_of(tmp_path, "--fractions", "0.5", "--skip-article")
    again = rows_of(tmp_path, "--fractions", "0.5,1", "--skip-article", "--resume")
    assert again[0] == half and [row["fraction"] for row in again] == [0.5, 1]
    (other,) = rows_of(tmp_path, "--fractions", "0.5", "--skip-article", "--resume", "--seed", "1")
    assert other != half
    (anew,) = rows_of(tmp_path, "--fractions", "0.5", "--skip-article")
    assert anew != half


def test_ratios_are_the_right_way_round() -> None:
    times = {"seconds_per_epoch": 2.0, "article_seconds_per_epoch": 6.0, "bare_seconds_per_epoch": 1.6}
    row = times | {"fraction": 0.25, "images": 400, "flops_per_image": 1e6, "peak_flops": 1e9}
    done = benchmark.derived(row)
    assert done["ratio_article"] == 3.0  # how many times faster than the article's
    assert done["ratio_bare"] == 1.25  # how many times slower than the limit
    assert done["images_per_second"] == 50
    assert done["peak_share"] == pytest.approx(0.05)
    assert benchmark.derived(row | {"article_seconds_per_epoch": None})["ratio_article"] is None


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (Target("ratio_article", 0.1, 1.5, at_least=True), "ratio_article at fraction 0.1 ≥ 1.5: 1.5, met"),
        (
            Target("ratio_article", 0.1, 1.6, at_least=True),
            "ratio_article at fraction 0.1 ≥ 1.6: 1.5, NOT met",
        ),
        (Target("ratio_bare", 0.1, 1.1), "ratio_bare at fraction 0.1 ≤ 1.1: 1.1, met"),
        (Target("ratio_bare", 0.1, 1.05), "ratio_bare at fraction 0.1 ≤ 1.05: 1.1, NOT met"),
        (Target("seconds_per_epoch", 0.1, 1.0), "seconds_per_epoch at fraction 0.1 ≤ 1: not measured"),
        (Target("ratio_bare", 1.0, 1.1), None),
        (Target("ratio_bare", 0.1, 1.1, images=50_000), None),
    ],
)
def test_targets_are_judged_row_by_row(target: Target, verdict: str | None) -> None:
    row = {"fraction": 0.1, "images": 2_000, "ratio_article": 1.5, "ratio_bare": 1.1}
    assert target.verdict([row | {"fraction": 0.5}, row | {"seconds_per_epoch": None}]) == verdict


def test_the_targets_are_the_projects() -> None:
    asked = {
        device: {(target.key, target.fraction, target.bound) for target in targets}
        for device, targets in TARGETS.items()
    }
    assert asked["cpu"] == {("ratio_article", 0.1, 1.5), ("ratio_bare", 0.1, 1.1)}
    assert asked["cuda"] == {
        ("seconds_per_epoch", 1.0, 1.0),
        ("seconds_per_epoch", 0.1, 0.12),
        ("ratio_article", 1.0, 15),
        ("ratio_article", 0.1, 15),
        ("ratio_bare", 1.0, 1.15),
        ("ratio_bare", 0.1, 1.15),
    }


def test_what_is_not_said_depends_on_the_device() -> None:
    options = benchmark.parser().parse_args([])
    cpu, gpu = (benchmark.plan_settings(options, on_gpu) for on_gpu in (False, True))
    assert (cpu.images, cpu.validation, cpu.batch_size, cpu.epochs, cpu.repeats) == (2_000, 200, 128, 1, 1)
    assert (gpu.images, gpu.validation, gpu.batch_size, gpu.epochs, gpu.repeats) == (50_000, 5_000, 512, 3, 3)
    assert cpu.fractions == (1.0, 0.5, 0.3, 0.1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--fractions", "1,2"], "at most 1, with commas between, got '1,2'"),
        (["--fractions", "1,,"], "with commas between"),
        (["--fractions", "half"], "got 'half'"),
        (["--fractions", "nan"], "got 'nan'"),
        (["--fractions", "0.01"], "fraction=0.01 of 24 training examples"),
        (["--images", "0"], "--images: expected a whole number of at least 1, got '0'"),
        (["--model", "mlp"], "invalid choice: 'mlp'"),
        (["--precision", "int8"], "invalid choice: 'int8'"),
    ],
)
def test_bad_options_are_told_in_one_sentence(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main([*TINY, *options]) == 1
    said = capsys.readouterr()
    assert reason in said.err and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert said.out == ""
