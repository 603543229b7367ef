import importlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from subset_trainer.training.interruption import Interruption, Terminated


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    previous, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    installed = Interruption()
    installed.install()
    yield installed
    signal.signal(signal.SIGTERM, previous)
    sys.unraisablehook = hook


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


def test_an_import_runs_to_its_end(
    interruption: Interruption, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's C++ would end the process on an exception within its import."""
    (tmp_path / "imported_while_terminated.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(0.01)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("imported_while_terminated")
    assert module.whole and interruption.requested
    with pytest.raises(Terminated):
        time.sleep(10)


class Removed:
    def __del__(self) -> None:
        terminate()


def test_what_is_raised_while_an_object_is_removed_is_raised_again(interruption: Interruption) -> None:
    """There Python ignores every exception."""
    removed = [Removed()]
    removed.clear()
    with pytest.raises(Terminated):
        time.sleep(20)


def test_it_comes_at_the_end_of_a_deferred_stretch_at_the_latest(interruption: Interruption) -> None:
    removed = [Removed()]
    removed.clear()
    with pytest.raises(Terminated), interruption.deferred():
        pass
    time.sleep(0.2)


def test_at_the_end_it_is_ignored(interruption: Interruption) -> None:
    interruption.ignore()
    terminate()
