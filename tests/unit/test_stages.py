"""The clock of a run, and what SIGTERM does to its stages."""

import os
import signal
import time

import pytest

from subset_trainer.job import stages
from subset_trainer.job.stages import Stages
from subset_trainer.training.interruption import Interruption, Terminated


def terminate() -> None:
    raise Terminated


def test_each_stage_is_timed_also_one_that_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 4.0, 8.0, 9.0])
    monkeypatch.setattr(stages.time, "perf_counter", lambda: next(clock))
    run = Stages(Interruption())
    with run.stage("loading"):
        pass
    with run.stage("test", lambda: " while testing"):
        terminate()
    assert (run.seconds("loading"), run.seconds("test"), run.seconds("report")) == (2.0, 4.0, 0.0)
    assert run.total() == 9.0


def test_sigterm_ends_a_run_that_has_nothing_to_save() -> None:
    run = Stages(Interruption())
    with pytest.raises(Terminated), run.stage("loading"):
        terminate()
    assert not run.stopped


def test_sigterm_ends_a_stage_after_which_there_is_something_to_save(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Stages(Interruption())
    with caplog.at_level("INFO"), run.stage("training", lambda: " after 3 epochs"):
        terminate()
    assert run.stopped
    assert "SIGTERM received after 3 epochs" in caplog.text


def test_other_errors_are_the_runs() -> None:
    run = Stages(Interruption())
    with pytest.raises(ValueError, match="no"), run.stage("report", lambda: ""):
        raise ValueError("no")
    assert not run.stopped


def test_what_there_is_to_save_is_saved_whenever_sigterm_comes() -> None:
    """Between two stages it ends the next one, and after the last one none."""
    before = signal.getsignal(signal.SIGTERM)
    done: list[tuple[int, object]] = []
    for moment in range(4):
        interruption = Interruption()
        interruption.install()
        run = Stages(interruption)

        def reach(at: int, moment: int = moment) -> None:
            if at == moment:
                os.kill(os.getpid(), signal.SIGTERM)
            done.append((moment, at))

        with run.stage("training", lambda: " while training"):
            reach(0)
        reach(1)
        with interruption.deferred():
            done.append((moment, "saved"))
        with run.stage("test", lambda: " while testing"):
            time.sleep(0.5 if moment == 1 else 0)
            reach(2)
        reach(3)
        assert run.stopped == (moment < 3)
    signal.signal(signal.SIGTERM, before)
    assert [at for moment, at in done if moment == 0] == [1, "saved", 2, 3]
    assert [at for moment, at in done if moment == 1] == [0, 1, "saved", 3]
    assert [at for moment, at in done if moment == 2] == [0, 1, "saved", 3]
    assert [at for moment, at in done if moment == 3] == [0, 1, "saved", 2, 3]
