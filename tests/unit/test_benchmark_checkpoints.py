"""The benchmark of checkpoints: a short training with all three sides, and what is made of their times."""

import json
from pathlib import Path

import pytest

from benchmarks import checkpoints as benchmark


def test_sides_take_turns_and_are_compared_round_by_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark.devices, "cpu_count", lambda: 1)
    options = ["--models", "mlp", "--seconds", "0.02", "--rounds", "2", "--device", "cpu"]
    assert benchmark.main([*options, "--folder", str(tmp_path), "--json", str(tmp_path / "rows.json")]) == 0
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["model"], row["rounds"]) == ("mlp", 2)
    assert row["megabytes"] > 0.5
    assert row["blocked_milliseconds"] > 0 and row["waiting_milliseconds"] > 0
    assert row["overhead_low"] <= row["overhead"] <= row["overhead_high"]
    out = capsys.readouterr().out
    assert "mlp: overhead " in out and "| device | model | checkpoint, MB |" in out
    assert not list(tmp_path.glob("*/*.pt"))


def test_an_epoch_counts_for_the_side_whose_checkpoint_is_made_before_it(tmp_path: Path) -> None:
    turns = benchmark.TurnTaking(tmp_path, ["none", "beside", "waiting"])
    assert [turns.side(epoch) for epoch in range(1, 6)] == ["none", "none", "beside", "waiting", "none"]
    turns.reports = [0.0, 1.5, 3.0, 5.0]
    turns.blocked = [0.5, 0.25, 1.0, 0.0]
    assert [turns.seconds(side) for side in benchmark.SIDES] == [[1.0], [1.5], [2.0]]
    assert turns.milliseconds_blocked("beside") == 250 and turns.milliseconds_blocked("waiting") == 1000


@pytest.mark.parametrize(
    "options", [["--models", "vit"], ["--rounds", "1"], ["--seconds", "0"], ["--rouns", "3"]]
)
def test_options_that_cannot_be_served(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(options) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(("overhead", "verdict"), [(0.019, "met"), (0.021, "NOT met")])
def test_the_target(overhead: float, verdict: str) -> None:
    assert benchmark.verdict({"model": "mlp", "overhead": overhead}).endswith(f"< 2%: {verdict}")
