"""The clock of a run, and what SIGTERM does to its stages."""

import pytest

from subset_trainer.job import stages
from subset_trainer.job.stages import Stages
from subset_trainer.training.interruption import Terminated


def terminate() -> None:
    raise Terminated


def test_each_stage_is_timed_also_one_that_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 4.0, 8.0, 9.0])
    monkeypatch.setattr(stages.time, "perf_counter", lambda: next(clock))
    run = Stages()
    with run.stage("loading"):
        pass
    with run.stage("test", lambda: " while testing"):
        terminate()
    assert (run.seconds("loading"), run.seconds("test"), run.seconds("report")) == (2.0, 4.0, 0.0)
    assert run.total() == 9.0


def test_sigterm_ends_a_run_that_has_nothing_to_save() -> None:
    run = Stages()
    with pytest.raises(Terminated), run.stage("loading"):
        terminate()
    assert not run.stopped


def test_sigterm_ends_a_stage_after_which_there_is_something_to_save(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Stages()
    with caplog.at_level("INFO"), run.stage("training", lambda: " after 3 epochs"):
        terminate()
    assert run.stopped
    assert "SIGTERM received after 3 epochs" in caplog.text


def test_other_errors_are_the_runs() -> None:
    run = Stages()
    with pytest.raises(ValueError, match="no"), run.stage("report", lambda: ""):
        raise ValueError("no")
    assert not run.stopped
