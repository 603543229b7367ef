"""Runs stages of measurements, each in a process of its own, and keeps what they find in one JSON file.

A stage is a list of parts. Its process measures one part after the other and records each in a file; this side watches
that file, the clock and the process. A part that raises is recorded with the last lines of its traceback. A part that
outlives its limit, or whose process dies, loses only itself: a new process measures the rest. The book is written
after every part, whole or not at all. Nothing here imports torch.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Values = dict[str, Any]
"""What a part has found, as JSON."""
ROOT = Path(__file__).resolve().parents[2]
MEASURED, FAILED, CUT, NOT_MEASURED = "measured", "failed", "cut", "not measured"
LAST_LINES = 16
"""Of a traceback or a log, which an error keeps."""
LEAST_SECONDS = 2.0
"""A process is not started for less."""
POLL_SECONDS = 0.1


class NotMeasured(Exception):  # noqa: N818 - it is no error
    """Raised by a part that cannot be measured here; its message gives the reason."""


@dataclass(frozen=True)
class Part:
    """One thing that is measured.

    Attributes:
        name: within its stage.
        function: `module:function`, which takes a Context and `settings`, and returns Values.
        seconds: its limit.
        settings: keyword arguments of the function.
        dry: those that differ in the rehearsal on the CPU; None: the rehearsal leaves this part out, since another one
            runs the same lines.
    """

    name: str
    function: str
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    dry: Mapping[str, Any] | None = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """Parts that share a process, and the limit of them all in seconds."""

    name: str
    title: str
    seconds: float
    parts: tuple[Part, ...]


@dataclass
class Context:
    """What a part receives besides its settings.

    Attributes:
        dry: whether this is the rehearsal.
        work: a folder that all stages of a call share, for what one leaves to another.
        data: real images: an archive or a folder; None: none were given.
        known: stage → part → values, of what is measured so far.
        ends: the `time.monotonic` at which the stage is over.
    """

    dry: bool
    work: Path
    data: Path | None
    known: dict[str, dict[str, Values]]
    ends: float

    def seconds_left(self) -> float:
        return self.ends - time.monotonic()


@dataclass(frozen=True)
class Plan:
    """What a call runs.

    Attributes:
        table: the module whose STAGES these are, which the stages' processes import.
        stages: in order.
        minutes: for all of it.
        dry, data: as in Context.
        slack: what all limits are multiplied by: of the rehearsal only the lines count, not the seconds.
        jobs: stages at a time, behind the first; more than one spoils every time that is measured.
    """

    table: str
    stages: tuple[Stage, ...]
    minutes: float
    dry: bool = False
    data: Path | None = None
    slack: float = 1.0
    jobs: int = 1


class Book:
    """The JSON file.

    Args:
        path: where it is written.
        head: facts about the whole run: commit, sources, whether it is a rehearsal.
        judge: stages → the list of targets with their verdicts.
    """

    def __init__(self, path: Path, head: Values, judge: Callable[[Values], list[Values]]) -> None:
        self.path = path
        self.head = head
        self.stages: Values = {}
        self._judge = judge
        self._lock = threading.Lock()

    def lay(self, stages: Sequence[Stage]) -> None:
        """Enter every part that is not there yet, as not measured."""
        for stage in stages:
            entry = self.stages.setdefault(stage.name, {})
            entry |= {"title": stage.title, "limit_seconds": stage.seconds}
            parts = entry.setdefault("parts", {})
            for part in stage.parts:
                parts.setdefault(part.name, {"status": NOT_MEASURED, "reason": "its turn did not come"})
        self.write()

    def enter(self, stage: str, part: str, entry: Values) -> None:
        self.stages[stage]["parts"][part] = entry
        self.write()

    def settled(self, stage: str, part: str) -> bool:
        return bool(self.stages[stage]["parts"][part]["status"] == MEASURED)

    def known(self) -> dict[str, dict[str, Values]]:
        return measured_values(self.stages)

    def adopt(self, earlier: Values) -> str:
        """Take over what an earlier book has settled of the same sources; a sentence on what was taken."""
        for name in ("sources", "dry"):
            if earlier.get(name) != self.head[name]:
                return "the earlier file is of other sources: everything is measured anew"
        self.stages = earlier["stages"]
        count = sum(len(parts) for parts in self.known().values())
        return f"{count} parts were settled before"

    def drop(self, but: str) -> None:
        """Forget all that was measured, but for one stage."""
        for name, entry in self.stages.items():
            if name != but:
                for part in entry["parts"]:
                    entry["parts"][part] = {"status": NOT_MEASURED, "reason": "its turn did not come"}

    def took(self, stage: str, seconds: float) -> None:
        self.stages[stage]["seconds"] = round(seconds, 2)
        self.write()

    def write(self) -> None:
        with self._lock:
            self._write()

    def _write(self) -> None:
        content = {**self.head, "targets": self._judge(self.stages), "stages": self.stages}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(f".{self.path.name}.tmp")
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        unfinished.replace(self.path)


def measured_values(stages: Values) -> dict[str, dict[str, Values]]:
    """Stage → part → values, of the parts that were measured."""
    return {
        name: {part: entry["values"] for part, entry in stage["parts"].items() if entry["status"] == MEASURED}
        for name, stage in stages.items()
    }


def run(plan: Plan, book: Book, say: Callable[[str], None] = print) -> bool:
    """Measure what the book has not settled yet; whether the machine could be used at all.

    The part `identity` of the stage `machine` is measured in any case: on another GPU, or with another torch, nothing
    of an earlier file holds.
    """
    deadline = time.monotonic() + 60 * plan.minutes
    before = book.known().get("machine", {}).get("identity")
    book.lay(plan.stages)
    with tempfile.TemporaryDirectory(prefix="gpu-proof-") as work:

        def through(stage: Stage) -> None:
            waiting = [
                part
                for part in stage.parts
                if (part.name == "identity" or not book.settled(stage.name, part.name))
                and not (plan.dry and part.dry is None)
            ]
            if waiting:
                _Run(plan, book, Path(work), stage, deadline, say).through(waiting)

        first, *others = plan.stages
        through(first)
        if first.name == "machine":
            now = book.known()["machine"].get("identity")
            if now is None:
                return False
            if before and before != now:
                say("another machine than the earlier file's: everything is measured anew")
                book.drop(but="machine")
        with ThreadPoolExecutor(plan.jobs) as pool:
            list(pool.map(through, others))
    return True


class _Run:
    """One stage, in as many processes as it takes."""

    def __init__(
        self,
        plan: Plan,
        book: Book,
        work: Path,
        stage: Stage,
        deadline: float,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._book = book
        self._work = work
        self._stage = stage
        self._began = time.monotonic()
        own = self._began + stage.seconds * plan.slack
        self._ends = min(own, deadline)
        self._whole = deadline < own
        self._say = say

    def through(self, waiting: list[Part]) -> None:
        while waiting:
            if self._ends - time.monotonic() < LEAST_SECONDS:
                for part in waiting:
                    self._enter(part, {"status": NOT_MEASURED, "reason": f"{self._limit()} were over"})
                break
            with _process(self._plan, self._book, self._work, self._stage, waiting, self._ends) as child:
                self._watch(child, waiting)
        took = time.monotonic() - self._began
        self._book.took(self._stage.name, took)
        self._say(f"{self._stage.name}: {took:.0f} s")

    def _limit(self) -> str:
        if self._whole:
            return "the minutes of the whole"
        return f"the stage's {self._stage.seconds * self._plan.slack:g} s"

    def _watch(self, child: "_Child", waiting: list[Part]) -> None:
        """Until the process ends, by itself or by a limit; takes out of `waiting` what is done."""
        parts = {part.name: part for part in waiting}
        current: Part | None = None
        started = time.monotonic()
        while True:
            ended = child.process.poll()  # before the answers are read: what it said last is not missed
            for answer in child.answers():
                part = parts[answer["part"]]
                if "entry" not in answer:
                    current, started = part, time.monotonic()
                    continue
                self._enter(part, answer["entry"])
                waiting.remove(part)
                current, started = None, time.monotonic()
            now = time.monotonic()
            if ended is not None:
                if waiting and (current or ended != 0):
                    lost = current or waiting[0]
                    how = f"its process ended with {_ending(ended)}"
                    self._lose(lost, FAILED, how, child, started)
                    waiting.remove(lost)
                return
            if not waiting:
                return
            limit = (current or waiting[0]).seconds * self._plan.slack
            if now > min(self._ends, started + limit):
                child.kill()
                lost = current or waiting[0]
                how = self._limit() if now > self._ends else f"the part's {limit:g} s"
                self._lose(lost, CUT, f"{how} were over", child, started)
                waiting.remove(lost)
                return
            time.sleep(POLL_SECONDS)

    def _lose(self, part: Part, status: str, reason: str, child: "_Child", started: float) -> None:
        seconds = round(time.monotonic() - started, 2)
        self._enter(
            part, {"status": status, "reason": reason, "seconds": seconds, "error": child.last_lines()}
        )

    def _enter(self, part: Part, entry: Values) -> None:
        self._book.enter(self._stage.name, part.name, entry)
        why = f" ({entry['reason']})" if entry.get("reason") else ""
        self._say(f"{self._stage.name}, {part.name}: {entry['status']}{why}")


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class _Child:
    """A stage's process, the file of its answers and its log."""

    def __init__(self, process: "subprocess.Popen[bytes]", answers: Path, log: Path) -> None:
        self.process = process
        self._answers = answers
        self._log = log
        self._read = 0

    def answers(self) -> Iterator[Values]:
        """What is new, in whole lines."""
        with suppress(FileNotFoundError), self._answers.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield json.loads(line)

    def kill(self) -> None:
        """And what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def last_lines(self) -> list[str]:
        return last_lines(self._log.read_text(errors="replace"))


@contextmanager
def _process(
    plan: Plan, book: Book, work: Path, stage: Stage, waiting: Sequence[Part], ends: float
) -> Iterator[_Child]:
    folder = Path(tempfile.mkdtemp(prefix=f"{stage.name}-", dir=work))
    request = {
        "table": plan.table,
        "stage": stage.name,
        "parts": [part.name for part in waiting],
        "dry": plan.dry,
        "work": str(work),
        "data": str(plan.data.resolve()) if plan.data else None,
        "known": book.known(),
        "ends": ends,
        "answers": str(folder / "answers.jsonl"),
    }
    (folder / "request.json").write_text(json.dumps(request))
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                *("-X", "faulthandler", "-m", "benchmarks.gpu.work"),
                str(folder / "request.json"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # so that it can be ended with all that it has started
        )
    child = _Child(process, folder / "answers.jsonl", folder / "log")
    try:
        yield child
    finally:
        child.kill()


def last_lines(text: str) -> list[str]:
    return [line.rstrip()[:400] for line in text.strip().splitlines()][-LAST_LINES:]
