"""The benchmark of selection: small cases, with CORDS itself on the other side."""

import json
import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import selection as benchmark
from benchmarks.selection import Case, SameCandidates, Target, Timing
from subset_selection.glister import candidate_positions

ROOT = Path(__file__).parents[2]
SMALL = ["--n", "90", "--features", "8", "--classes", "3", "--validation", "30", "--batch-size", "16"]
KEYS = {
    "strategy",
    "greedy",
    "scope",
    "n",
    "classes",
    "features",
    "fraction",
    "native_seconds",
    "cords_seconds",
}
KEYS |= {"ratio", "overlap", "peak_rss_mib"}


@pytest.fixture
def _no_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own imports torch for seconds; one test below does it for real."""
    memory = {"peak_rss_mib": 2.0, "rss_before_mib": 1.0, "peak_device_mib": None}
    monkeypatch.setattr(benchmark, "_in_own_process", lambda case, options: memory)


def case(**changes: Any) -> Case:
    return Case(**{"n": 90, "features": 8, "classes": 3, "validation": 30} | changes)


@pytest.mark.usefixtures("_no_own_process")
@pytest.mark.parametrize(
    ("options", "agree"),
    [
        (["--greedy", "stochastic", "--scope", "supervised"], 1.0),
        (["--greedy", "naive", "--scope", "supervised"], 1.0),
        (["--greedy", "rgreedy", "--scope", "supervised", "--fraction", "0.4"], 1.0),
        (["--greedy", "naive", "--scope", "per-class"], 1.0),
        (["--greedy", "naive", "--scope", "per-batch", "--fraction", "0.3"], None),
        (["--strategy", "gradmatch", "--scope", "per-class"], "some"),
        (["--strategy", "gradmatch-pb", "--fraction", "0.3"], None),
    ],
)
def test_both_sides_are_measured_on_the_same_case(
    options: list[str], agree: float | str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark.main([*SMALL, *options, "--repeats", "2", "--json", str(tmp_path / "rows.json")])
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row.keys() >= KEYS
    assert row["cords_note"] == "" and row["cords_runs"] == row["native_runs"] == 2
    assert row["native_seconds"] > 0 and row["cords_seconds"] > 0 and row["forward_seconds"] > 0
    assert row["ratio"] == pytest.approx(row["cords_seconds"] / row["native_seconds"])
    assert row["ratio_cpu"] == pytest.approx(row["cords_cpu_seconds"] / row["native_cpu_seconds"])
    # What is taken off is the forward pass and nothing else.
    taken_off = (row["ratio"] - row["ratio_without_forward"]) * row["native_seconds"]
    assert taken_off == pytest.approx(row["forward_seconds"])
    if agree == "some":
        assert 0 <= row["overlap"] <= 1
    else:
        assert row["overlap"] == agree
    assert "less forward" in capsys.readouterr().out


def test_memory_is_that_of_a_process_which_runs_the_native_side_alone() -> None:
    small = case(n=64, classes=2)
    row = benchmark._in_own_process(small, benchmark.Options(repeats=1))
    assert row["cords_seconds"] is None and row["ratio"] is None and row["overlap"] is None
    assert {name: row[name] for name in ("n", "classes", "features", "validation", "scope")} == {
        "n": 64,
        "classes": 2,
        "features": 8,
        "validation": 30,
        "scope": "per-class",
    }
    assert 50 < row["rss_before_mib"] <= row["peak_rss_mib"] + 1


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the kernel's mark cannot be set back here"
)
def test_the_peak_sees_memory_given_back_since_the_mark_was_set_back() -> None:
    """In a process of its own: in this one, what earlier tests gave back to malloc may serve without growing it."""
    code = """
        import torch
        from benchmarks import selection as benchmark

        torch.ones(120 * 2**20 // 4)  # 120 MiB, touched and freed
        benchmark.reset_peak()
        before = benchmark.resident_mib()
        torch.ones(40 * 2**20 // 4)
        print(before, benchmark.peak_mib())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    before, peak = map(float, done.stdout.split())
    assert before + 35 <= peak < before + 80


def test_the_tensors_are_the_same_each_time_and_worth_selecting_from() -> None:
    first, again = (benchmark.synthesise(Case(n=2_000, features=64), seed=3) for _ in range(2))
    assert torch.equal(first.train.features, again.train.features)
    assert torch.equal(first.train.logits, again.train.logits)
    with torch.no_grad():
        torch.testing.assert_close(first.head(first.train.features), first.train.logits)
    assert torch.bincount(first.train.labels).tolist() == [200] * 10
    assert float(first.train.features.min()) == 0  # rectified
    accuracy = (first.validation.logits.argmax(1) == first.validation.labels).float().mean()
    assert 0.5 < float(accuracy) < 0.98
    sizes = first.train.pool().residuals.norm(dim=1)
    assert float(sizes.quantile(0.9)) > 3 * float(sizes.quantile(0.1))


def test_one_class_keeps_residuals_that_differ() -> None:
    data = benchmark.synthesise(case(one_class=True, classes=10), seed=0, dtype=torch.float16)
    assert data.train.features.dtype == torch.float16
    assert len(data.train.labels) == 90 and not data.train.labels.any()
    assert float(data.train.pool().residuals.norm(dim=1).std()) > 0.05


def test_the_population_tells_which_candidate_was_picked() -> None:
    examples, picks = 40, 40
    positions = candidate_positions(examples, picks, torch.Generator().manual_seed(1))
    sample, population, remaining = (
        SameCandidates(positions, examples),
        list(range(examples)),
        list(range(examples)),
    )
    chooser = random.Random(0)
    for draw in positions.tolist():
        candidates = sample(population, 1)
        assert candidates == list(dict.fromkeys(remaining[position] for position in draw))
        picked = chooser.choice(candidates)
        population.remove(picked)
        remaining[remaining.index(picked)] = remaining[-1]
        remaining.pop()


@pytest.mark.usefixtures("_no_own_process")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--greedy", "rgreedy"], "would not return"),  # 9 picks in 15 rounds
        (["--strategy", "facility-location"], "no such strategy"),
        (["--strategy", "glister", "--fraction", "1"], "ValueError"),
    ],
)
def test_where_cords_cannot_run_the_row_says_why(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = benchmark.main([*SMALL, *options, "--repeats", "1"])
    assert row["cords_seconds"] is None and row["ratio"] is None and row["overlap"] is None
    assert row["native_seconds"] > 0
    assert reason in row["cords_note"] and reason in capsys.readouterr().out


def test_a_long_run_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, processor = iter([0.0, 1.0, 10.0, 12.0, 20.0, 90.0]), iter([0.0, 1.0, 1.0, 3.0, 3.0, 8.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(time, "process_time", lambda: next(processor))
    calls: list[int] = []

    def run() -> int:
        calls.append(len(calls))
        return calls[-1]

    assert benchmark.timed(run, repeats=5, warm_up=True) == ([Timing(70.0, 5.0)], 2)
    assert calls == [0, 1, 2]


def test_the_warm_up_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 50.0, 60.0, 61.0, 70.0, 72.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    timings, _ = benchmark.timed(lambda: None, repeats=2, warm_up=True)
    assert timings == [Timing(1.0, 0.0), Timing(2.0, 0.0)]


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(case()), None),
        (Target(case(), ratio=9), True),
        (Target(case(), ratio=10), False),  # 10 with the forward pass, 9 without
        (Target(case(), seconds=2, mib=100), True),
        (Target(case(), seconds=2, mib=99), False),
        (Target(case(), ratio=9, seconds=1), False),
    ],
)
def test_a_target_is_met_only_if_all_of_it_is(target: Target, met: bool | None) -> None:
    row = {"ratio": 10.0, "ratio_without_forward": 9.0, "native_seconds": 2.0, "peak_rss_mib": 100.0}
    assert target.judged(row)["met"] is met


def test_a_target_that_was_not_measured_is_neither_met_nor_missed() -> None:
    row = {"ratio": None, "ratio_without_forward": None, "native_seconds": 2.0, "peak_rss_mib": 100.0}
    assert Target(case(), ratio=5).judged(row)["met"] is None


def test_the_default_run_is_the_table_of_targets() -> None:
    targets, options, native_only = benchmark.plan(benchmark.parser().parse_args([]))
    asked = {
        (t.case.strategy, t.case.scope, t.case.greedy, t.case.n, t.case.classes): t.ratio for t in targets
    }
    assert asked == {
        ("glister", "supervised", "stochastic", 5_000, 10): 15,
        ("glister", "supervised", "stochastic", 5_000, 100): 100,
        ("glister", "supervised", "rgreedy", 10_000, 10): 50,
        ("glister", "supervised", "naive", 5_000, 10): 40,
        ("gradmatch", "per-class", "auto", 5_000, 10): 15,
        ("gradmatch", "per-class-per-gradient", "auto", 5_000, 10): 5,
        ("gradmatch-pb", "per-batch", "auto", 5_000, 10): 5,
        ("craig", "per-class", "auto", 2_000, 10): 100,
    }
    assert all(t.case.validation == t.case.n // 10 and t.case.features == 512 for t in targets)
    assert options == benchmark.Options(dtype="float32") and not native_only


def test_the_curve_keeps_validation_fixed_and_says_how_time_grows() -> None:
    targets, options, native_only = benchmark.plan(benchmark.parser().parse_args(["--curve"]))
    assert [target.case.n for target in targets] == [10_000, 100_000, 1_000_000]
    assert {target.case.validation for target in targets} == {1_000}
    assert native_only and options.dtype == "float16"
    rows = [{"n": 10_000, "native_seconds": 2.0}, {"n": 100_000, "native_seconds": 21.0}]
    assert benchmark.growth(rows) == ["n 10,000 → 100,000: 10× the examples, 10.5× the time"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--strategy", "craig", "--scope", "per-batch"], "craig has per-class, supervised"),
        (["--strategy", "gradmatch", "--greedy", "naive"], "gradmatch has auto"),
        (["--curve", "--n", "10"], "leave out --n"),
    ],
)
def test_what_does_not_go_together_is_refused(options: list[str], reason: str) -> None:
    with pytest.raises(SystemExit, match=reason):
        benchmark.plan(benchmark.parser().parse_args(options))
