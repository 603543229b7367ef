"""Runs within a job that is to be killed: says when the job is at the moment that the test aims at, and waits there.

Python imports it before anything else where this folder is in PYTHONPATH; tests/warm.py runs it in a fork. The job's
code stays as it is. Lines of this project's code are counted in each call of a moment's functions. At the line that
was drawn, the log is told, and the thread waits, if it is to hold still. Other threads go on.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

Called = Callable[..., Any]
MOMENTS: dict[str, dict[str, Called]] = {
    "training": {"subset_trainer.training.trainee:Trainee.step": lambda *_: True},
    "selection": {
        "subset_selection.selectors:Asking.choose": lambda asking, epoch, _: epoch.is_due(asking.refresh),
        "subset_trainer.training.loop:_Filter.of": lambda chosen, *_: chosen.choice.filter is not None,
    },
    "checkpoint": {"subset_trainer.training.checkpoints:Checkpoints._write": lambda *_: True},
    "outputs": {"subset_trainer.artifacts:write": lambda path, *_: "checkpoints" not in path.parts},
    "explanation": {"subset_trainer.job.insights:Insights.explain": lambda *_: True},
    "report": {"subset_trainer.job.insights:Insights.report": lambda *_: True},
}
"""Moment → the functions that do it, with the condition on their arguments under which they do."""
STAGES = {
    "subset_trainer.job.finish:_save_model": 1,
    "subset_trainer.job.insights:Insights.explain": 2,
    "subset_trainer.job.insights:Insights.report": 3,
    "subset_trainer.job.finish:_summary": 4,
}
"""What comes after the last checkpoint, in its order; 0 before."""
OURS = ("subset_trainer", "subset_selection")


def say(what: str) -> None:
    # Not through sys.stdout, whose lock another thread may hold.
    os.write(1, f"\nsoak: {what}\n".encode())


class Halting:
    """Follows a job to the drawn line of a moment.

    Args:
        moment: None: each moment's lines are counted and said.
        stage: of the job, from which on it counts.
        checkpoints: that must have been written since the start.
        calls: of the moment's functions, which are passed over after that.
        line: of the lines from there, the one at which to halt.
        hold: seconds to wait there.
    """

    def __init__(
        self,
        moment: str | None = None,
        stage: int = 0,
        checkpoints: int = 0,
        calls: int = 0,
        line: int = 0,
        hold: float = 0,
    ) -> None:
        self._moment, self._stage, self._line, self._hold = moment, stage, line, hold
        self._at_stage, self._lines, self._halted = 0, 0, False
        self._checkpoints, self._calls = checkpoints, calls

    def install(self) -> None:
        for moment, functions in MOMENTS.items():
            for place, does in functions.items():
                if self._moment in (None, moment):
                    wrap(place, functools.partial(self._followed, moment, does))
        for place, stage in STAGES.items():
            wrap(place, functools.partial(self._entered, stage))
        wrap(next(iter(MOMENTS["checkpoint"])), self._counted)

    def _entered(self, stage: int, function: Called, *arguments: Any, **named: Any) -> Any:
        self._at_stage = stage
        return function(*arguments, **named)

    def _counted(self, function: Called, *arguments: Any, **named: Any) -> Any:
        returned = function(*arguments, **named)
        self._checkpoints -= 1
        return returned

    def _followed(self, moment: str, does: Called, function: Called, *arguments: Any, **named: Any) -> Any:
        if not does(*arguments) or not (self._moment is None or self._armed()):
            return function(*arguments, **named)
        before, began = sys.gettrace(), self._lines
        sys.settrace(self._trace)
        try:
            return function(*arguments, **named)
        finally:
            sys.settrace(before)
            if self._moment is None:
                say(f"{self._lines - began} lines of {moment}")
            elif self._halted:
                say("gone on")

    def _armed(self) -> bool:
        if self._halted or self._at_stage < self._stage or self._checkpoints > 0:
            return False
        self._calls -= 1
        return self._calls < 0

    def _trace(self, frame: FrameType, event: str, argument: object) -> Called | None:
        if not any(name in frame.f_code.co_filename for name in OURS):
            return None
        if event == "line":
            self._lines += 1
            if self._lines == self._line:
                self._halted = True
                say(f"in {self._moment} at stage {self._at_stage}, {frame.f_code.co_name}:{frame.f_lineno}")
                time.sleep(self._hold)
        return self._trace


def wrap(place: str, around: Called) -> None:
    """Replace a function by one that calls ``around`` with it and its arguments."""
    module, path = place.split(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, import_module(module))
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        return around(function, *arguments, **named)

    setattr(owner, name, wrapped)


if "HALT" in os.environ:
    aim = json.loads(os.environ["HALT"])
    if aim["several"] and "RANK" not in os.environ:
        # Torch's launcher: its first process, which writes, is followed.
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    elif os.environ.get("RANK", "0") == "0":
        Halting(**aim["at"]).install()
