import os
import signal
from collections.abc import Iterator

import pytest

from subset_trainer.training.interruption import Interruption, Terminated


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    previous = signal.getsignal(signal.SIGTERM)
    installed = Interruption()
    installed.install()
    yield installed
    signal.signal(signal.SIGTERM, previous)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_is_raised_at_once(interruption: Interruption) -> None:
    with pytest.raises(Terminated):
        terminate()


def test_a_deferred_stretch_runs_to_its_end(interruption: Interruption) -> None:
    done = []
    with pytest.raises(Terminated), interruption.deferred():
        with interruption.deferred():
            terminate()
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_it_is_raised_once(interruption: Interruption) -> None:
    with pytest.raises(Terminated):
        terminate()
    terminate()
    with interruption.deferred():
        terminate()


def test_a_failure_within_a_deferred_stretch_is_not_replaced(interruption: Interruption) -> None:
    with pytest.raises(ValueError, match="the failure"), interruption.deferred():
        terminate()
        raise ValueError("the failure")
