"""Checkpoints: a run that was killed resumes where it was, and ends as if it had not been killed.

A file is what torch makes of dicts, lists, tensors, numbers and text, a zip archive, whose checksums are checked before
it is read; nothing in it is unpickled but these. It is written under another name, flushed to the disk and renamed, so
that it is whole or not there.

Training waits only for a copy of the state. One thread serialises and writes it.
"""

import contextlib
import errno
import logging
import time
import zipfile
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch
from torch import Tensor

from subset_selection import Subset
from subset_trainer import artifacts
from subset_trainer.errors import UserError, first_line

logger = logging.getLogger(__name__)
PATTERN = "checkpoint-*.pt"
UNFINISHED = ".checkpoint-*.tmp"
FULL = (errno.ENOSPC, errno.EDQUOT)


class Checkpoints:
    """The checkpoints of one run, in one folder.

    Args:
        directory: of the files.
        identity: what a checkpoint must agree on to be resumed from: hyperparameters and facts of the data.
        minutes: between two checkpoints within an epoch.
        keep: how many files stay.
        resume: whether to resume from what is there.
    """

    def __init__(
        self, directory: Path, identity: Mapping[str, Any], minutes: float, keep: int = 2, resume: bool = True
    ) -> None:
        self._directory = directory
        self._identity = dict(identity)
        self._seconds = 60 * minutes
        self._keep = keep
        self._resume = resume
        self._last = time.monotonic()
        self._owed = False
        self._complained = False
        self._subsets: deque[tuple[int, Subset]] = deque()
        self._copier = _Copier()
        # The process waits for its thread at the end: what is being written is finished, also after a failure.
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None

    @property
    def subsets(self) -> Path:
        """A copy of the subsets so far: the results' folder of an earlier machine is gone."""
        return self._directory / "subsets"

    def keep_subset(self, epoch: int, subset: Subset) -> None:
        """Write the subset with the next checkpoint, before it."""
        self._subsets.append((epoch, subset))

    def due(self) -> bool:
        """Whether another checkpoint should be made within the epoch: the last is old, or one was left out."""
        return not self._busy() and (self._owed or time.monotonic() - self._last >= self._seconds)

    def save(self, epoch: int, step: int, state: Mapping[str, Any], last: bool = False) -> None:
        """Have a checkpoint written, and the oldest beyond those that are kept removed; waits for neither.

        While another is being written, none is made, and one is due as soon as that is done. Where a checkpoint
        cannot be written, the last one stays and training continues.

        Args:
            epoch: that is being made, from 1.
            step: updates of it that are done.
            state: of dicts with text for keys, lists, tensors, numbers, text and None; it may change afterwards.
            last: whether none will follow; then this waits until it is written.
        """
        if self._busy() and not last:
            self._owed = True
            return
        if self._writing:
            self._writing.result()
        self._owed = False
        self._last = time.monotonic()
        content, ready = self._copier.copy({"identity": self._identity, "state": dict(state)})
        file = self._directory / f"checkpoint-{epoch:05d}-{step:07d}.pt"
        self._writing = self._writer.submit(self._write, file, content, ready)
        if last:
            self._writing.result()

    def _busy(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def _write(self, file: Path, content: Mapping[str, Any], ready: "torch.cuda.Event | None") -> None:
        """Runs in the writer's thread."""
        if ready is not None:
            ready.synchronize()
        try:
            try:
                self._write_files(file, content)
            except OSError as error:
                older = self._files()[1:]
                if error.errno not in FULL or not older:
                    raise
                for each in older:
                    each.unlink(missing_ok=True)
                self._write_files(file, content)
        except OSError as error:
            # Logged once until it works again: a job has more to lose by stopping.
            if not self._complained:
                logger.warning(
                    "checkpoint %s could not be written (%s: %s): training continues, and a run that is started "
                    "again resumes from the last checkpoint that was written",
                    *(file.stem.removeprefix("checkpoint-"), error.strerror, error.filename or file),
                )
            self._complained = True
        else:
            if self._complained:
                logger.info("checkpoints can be written again")
            self._complained = False

    def _write_files(self, file: Path, content: Mapping[str, Any]) -> None:
        while self._subsets:
            artifacts.save_subset(self.subsets, *self._subsets[0], durable=True)
            self._subsets.popleft()
        artifacts.write(file, lambda path: _save(path, content), durable=True)
        for old in self._files()[self._keep :]:
            old.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The state in the newest whole checkpoint; None where there is none, or where ``resume`` is off.

        Raises:
            UserError: the checkpoint is of another run.
        """
        files = self._files()
        with contextlib.suppress(OSError):  # of a folder that is read-only they stay
            for unfinished in self._directory.glob(UNFINISHED):
                unfinished.unlink(missing_ok=True)
        if not self._resume:
            for file in files:
                file.unlink(missing_ok=True)
            return None
        for file in files:
            try:
                content = _read(file)
            except Exception as error:  # a damaged file makes its readers raise almost anything
                reason = first_line(error)
                if isinstance(error, UnpicklingError):
                    # Torch would advise to read it without restrictions.
                    reason = "it holds something else than tensors, numbers and text, or is cut off"
                logger.warning("checkpoint %s is damaged and left aside: %s", file.name, reason)
                continue
            self._check(file, content["identity"])
            state: dict[str, Any] = content["state"]
            return state
        return None

    def _check(self, file: Path, theirs: Mapping[str, Any]) -> None:
        names = [
            name
            for name in {**theirs, **self._identity}
            if theirs.get(name, "") != self._identity.get(name, "")
        ]
        if names:
            differences = ", ".join(
                f"{name}={theirs.get(name, '(none)')} there and {self._identity.get(name, '(none)')} here"
                for name in names[:5]
            )
            raise UserError(
                f"the checkpoint {file.name} is of another run: {differences}; use another folder of checkpoints, or "
                "resume=never to begin anew, which removes it"
            )

    def _files(self) -> list[Path]:
        """Newest first: the one of the latest step, whatever the clock says."""
        return sorted(self._directory.glob(PATTERN), reverse=True)


class _Copier:
    """Copies a state's tensors to the CPU, into the same memory every time: getting 90 MB from the system takes ten
    times as long as filling it."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[Any, ...], Tensor] = {}

    def copy(self, state: dict[str, Any]) -> "tuple[dict[str, Any], torch.cuda.Event | None]":
        """The copy, valid until the next one is made, and the event that ends it: a GPU copies asynchronously."""
        earlier, self._buffers = self._buffers, {}
        on_gpu = False

        def copied(value: Any, place: tuple[Any, ...]) -> Any:
            nonlocal on_gpu
            if isinstance(value, Tensor):
                buffer = earlier.get(place)
                if (
                    buffer is None
                    or (buffer.shape, buffer.dtype) != (value.shape, value.dtype)
                    or buffer.stride() != value.stride()
                ):
                    buffer = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
                on_gpu = on_gpu or value.is_cuda
                self._buffers[place] = buffer.copy_(value.detach(), non_blocking=True)
                return buffer
            if isinstance(value, Mapping):
                return {key: copied(item, (*place, key)) for key, item in value.items()}
            if isinstance(value, list | tuple):
                return [copied(item, (*place, number)) for number, item in enumerate(value)]
            return value

        result = copied(state, ())
        if not on_gpu:
            return result, None
        ready = torch.cuda.Event()
        ready.record()
        return result, ready


class _Sink:
    """A file for torch to write to.

    A write that fails does not raise before ``check``: torch would put an error of its own in its place.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None

    def write(self, part: Any) -> int:
        if self._error is None:
            try:
                self._file.write(part)
            except OSError as error:
                self._error = error
        return len(part)

    def flush(self) -> None:
        """Closing the file does."""

    def check(self) -> None:
        """Raises OSError where something could not be written."""
        if self._error is not None:
            raise self._error


def _save(path: Path, content: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        sink = _Sink(file)
        torch.save(dict(content), sink)  # type: ignore[arg-type]  # of a file it needs no more
        sink.check()


def _read(file: Path) -> Any:
    with zipfile.ZipFile(file) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"the checksum of {damaged} does not fit its content")
    loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    if not (
        isinstance(loaded, dict) and all(isinstance(loaded.get(part), dict) for part in ("identity", "state"))
    ):
        raise ValueError("it holds no state of a run")
    return loaded
