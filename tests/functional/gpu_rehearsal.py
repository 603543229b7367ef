"""Stages that go wrong in every way, for the runner of the GPU proof."""

import os
import signal
import time

from benchmarks.gpu.runner import Context, NotMeasured, Part, Stage, Values


def note(context: Context, word: str) -> Values:
    """Leaves a trace each time that it is called."""
    with (context.work.parent / "calls").open("a") as file:
        file.write(f"{word}\n")
    known = {stage: list(parts) for stage, parts in context.known.items() if parts}
    return {"word": word, "share": float("nan"), "known": known}


def fail(context: Context) -> Values:
    raise ValueError("what was found was no number")


def refuse(context: Context) -> Values:
    raise NotMeasured("nothing to measure it on")


def die(context: Context) -> Values:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def hang(context: Context) -> Values:
    time.sleep(600)
    return {}


def _part(name: str, function: str, seconds: float = 60, **settings: str) -> Part:
    return Part(name, f"tests.functional.gpu_rehearsal:{function}", seconds, settings)


STAGES = (
    Stage(
        "troubled",
        "Parts that go wrong",
        120,
        (
            _part("first", "note", word="first"),
            _part("fails", "fail"),
            _part("refuses", "refuse"),
            _part("dies", "die"),
            _part("hangs", "hang", seconds=4),
            _part("last", "note", word="last"),
        ),
    ),
    Stage("long", "A stage that is cut", 5, (_part("hangs", "hang"), _part("after", "note", word="after"))),
    Stage("end", "Another one", 60, (_part("note", "note", word="end"),)),
)
