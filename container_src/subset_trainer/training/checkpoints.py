"""Checkpoints: a killed run resumes where it stopped, and ends with the same result as an uninterrupted run.

A file is a zip archive that ``torch.save`` writes, with dicts, lists, tensors, numbers and text. Its checksums are
verified before it is read, and no other types are unpickled. It is written under a temporary name, flushed to the disk
and renamed, so that it is either complete or absent.

Training waits only until the state is copied. A thread serialises and writes the copy.
"""

import contextlib
import errno
import json
import logging
import os
import time
import zipfile
import zlib
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
from subset_trainer.errors import PlatformError, UserError, first_line, shown

logger = logging.getLogger(__name__)
PATTERN = "checkpoint-*.pt"
UNFINISHED = ".checkpoint-*.tmp"
SUBSETS = "epoch-*.npz"
FORMAT = 2
"""The form of a checkpoint: 1 has no number and no list of subsets, and is read, too."""
_LONG = 16
"""Lists up to this length are of parts, such as groups of parameters; longer ones grow with the epochs."""
FULL = (errno.ENOSPC, errno.EDQUOT)


class Checkpoints:
    """The checkpoints of one run, in one folder.

    Args:
        directory: the folder of the files.
        identity: hyperparameters and properties of the data; a run resumes only from a checkpoint with the same ones.
        minutes: minutes between two checkpoints within an epoch.
        keep: number of files to keep.
        resume: whether to resume from existing checkpoints.
        defaults: values of the identity that stand for a name that a checkpoint of an earlier version lacks.
    """

    def __init__(
        self,
        directory: Path,
        identity: Mapping[str, Any],
        minutes: float,
        keep: int = 2,
        resume: bool = True,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self._directory = directory
        self._identity = dict(identity)
        self._defaults = dict(defaults or {})
        self._seconds = 60 * minutes
        self._keep = keep
        self._resume = resume
        self._last = time.monotonic()
        self._owed = False
        self._complained = False
        self._subsets: deque[tuple[int, Subset]] = deque()
        self._checksums: dict[int, int] = {}
        """Epoch → checksum of its subset, of all subsets of the run so far."""
        self.loaded: str | None = None
        """Name of the checkpoint that was loaded."""
        self._listed = True
        """Whether the checkpoint that was loaded lists its subsets; those of earlier versions do not."""
        self._current: Subset | None = None
        """The last selection, which the checkpoint that was loaded holds itself."""
        self._copier = _Copier()
        # At its end the process waits for this thread, so that a write in progress is completed even after a failure.
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None

    @property
    def subsets(self) -> Path:
        """The folder with a copy of the subsets so far. After a restart on another machine, the results' folder is
        empty."""
        return self._directory / "subsets"

    def keep_subset(self, epoch: int, subset: Subset) -> None:
        """Write the subset immediately before the next checkpoint."""
        self._subsets.append((epoch, subset))
        self._checksums[epoch] = _checksum(subset)

    def due(self) -> bool:
        """Whether a checkpoint is due within the epoch, because the last one is old or one was skipped."""
        return not self._busy() and (self._owed or time.monotonic() - self._last >= self._seconds)

    def save(self, epoch: int, step: int, state: Mapping[str, Any], last: bool = False) -> None:
        """Start writing a checkpoint, then remove the oldest files beyond those to keep. Does not wait for either.

        If another checkpoint is still being written, this one is skipped, and one is due when that write is complete.
        If a checkpoint cannot be written, the previous one stays and training continues.

        Args:
            epoch: the current epoch, from 1.
            step: number of completed updates of the epoch.
            state: dicts with text keys, lists, tensors, numbers, text and None; may be changed after this returns.
            last: whether this is the last checkpoint; then this waits until it is written.
        """
        if self._busy() and not last:
            self._owed = True
            return
        if self._writing:
            self._writing.result()
        self._owed = False
        self._last = time.monotonic()
        whole: dict[str, Any] = {"format": FORMAT, "identity": self._identity, "state": dict(state)}
        whole["layout"] = json.dumps(_layout(state))
        if self._listed:
            whole["subsets"] = dict(self._checksums)
        content, ready = self._copier.copy(whole)
        file = self._directory / f"checkpoint-{epoch:05d}-{step:07d}.pt"
        self._writing = self._writer.submit(self._write, file, content, ready)
        if last:
            self._writing.result()

    def _busy(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def _write(self, file: Path, content: Mapping[str, Any], ready: "torch.cuda.Event | None") -> None:
        """Write a checkpoint, in the writer's thread."""
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
            # Logged once until a write succeeds again. Stopping would cost the job more than a missing checkpoint.
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
        """The state in the newest intact checkpoint; None if there is none or if ``resume`` is false.

        Raises:
            UserError: the checkpoint belongs to another run or version.
            PlatformError: the checkpoint may not be read.
        """
        files = self._files()
        with contextlib.suppress(OSError):  # in a read-only folder they stay
            for unfinished in self._directory.glob(UNFINISHED):
                unfinished.unlink(missing_ok=True)
        if not self._resume:
            for file in files:
                file.unlink(missing_ok=True)
            self._forget_subsets()
            return None
        for file in files:
            try:
                content = _read(file)
            except PermissionError as error:
                # Not left aside as damaged: what other users' files hold would be lost in silence.
                raise PlatformError(
                    f"the checkpoint {file} cannot be read (permission denied); expected files that the user of this "
                    f"process (id {os.geteuid()}) can read, or another folder of checkpoints"
                ) from error
            except Exception as error:  # reading a damaged file can raise almost any exception
                reason = first_line(error)
                if isinstance(error, UnpicklingError):
                    # Torch's own message advises loading the file without restrictions, which would be unsafe.
                    reason = "it holds something else than tensors, numbers and text, or is cut off"
                logger.warning("checkpoint %s is damaged and left aside: %s", file.name, reason)
                continue
            if content.get("format", 1) not in (1, FORMAT):
                raise UserError(
                    f"the checkpoint {file.name} is of another version (format {shown(content['format'])}; this "
                    f"version reads up to {FORMAT}); use the image that wrote it, or resume=never to start anew, which "
                    "removes it"
                )
            self._check(file, content["identity"])
            if missed := _misfit(content):
                raise UserError(
                    f"the checkpoint {file.name} does not fit this run ({missed}); expected it as it was written; use "
                    "another folder of checkpoints, or resume=never to start anew, which removes it"
                )
            self.loaded = file.name
            state: dict[str, Any] = content["state"]
            self._listed = "subsets" in content
            self._checksums = dict(content.get("subsets", {}))
            with contextlib.suppress(TypeError):  # where it does not fit, the state is refused as a whole
                self._current = Subset(**state["subset"]) if state.get("subset") else None
            return state
        self._forget_subsets()
        return None

    def _forget_subsets(self) -> None:
        """Remove the subsets of an earlier run, which a run that is resumed later would take for its own."""
        with contextlib.suppress(OSError):  # in a read-only folder they stay
            for file in self.subsets.glob(SUBSETS):
                file.unlink(missing_ok=True)

    def restore_subsets(self, results: Path, epochs: int) -> list[int]:
        """Write the subsets of the first ``epochs`` epochs to the folder of results, after :meth:`load`.

        A subset whose file is missing or damaged is written from the checkpoint itself if it is the last selection.

        Returns:
            the epochs whose subsets are lost; a warning names them.
        """
        there = {int(path.stem.removeprefix("epoch-")): path for path in self.subsets.glob(SUBSETS)}
        wanted = self._checksums if self._listed else there
        lost: dict[int, str] = {}
        for epoch in sorted(epoch for epoch in wanted if epoch <= epochs):
            try:
                if epoch not in there:
                    raise FileNotFoundError("it is missing")
                subset = artifacts.load_subset(there[epoch])
                if self._listed and _checksum(subset) != self._checksums[epoch]:
                    raise ValueError("it is another run's, or damaged")
            except Exception as error:  # reading a damaged file can raise almost any exception
                if self._current is None or _checksum(self._current) != self._checksums.get(epoch):
                    lost[epoch] = first_line(error)
                    continue
                subset = self._current
                self.keep_subset(epoch, subset)
            artifacts.save_subset(results, epoch, subset)
        if lost:
            named = ", ".join(f"epoch-{epoch:04d}.npz ({reason})" for epoch, reason in [*lost.items()][:10])
            logger.warning(
                "%d of the subsets among the checkpoints cannot be used and are left out of the results: %s; training "
                "does not need them, and resumes",
                len(lost),
                named,
            )
        return [*lost]

    def _check(self, file: Path, theirs: Mapping[str, Any]) -> None:
        names = differing(theirs, self._identity, self._defaults)
        if names:
            known = {**self._defaults, **theirs}
            differences = ", ".join(
                f"{name}={known.get(name, '(none)')} there and {self._identity.get(name, '(none)')} here"
                for name in names[:5]
            )
            raise UserError(
                f"the checkpoint {file.name} is of another run: {differences}; give the values of there, use another "
                "folder of checkpoints, or resume=never to start anew, which removes it"
            )

    def _files(self) -> list[Path]:
        """The files, in descending order of their step, not of their modification time."""
        return sorted(self._directory.glob(PATTERN), reverse=True)


def differing(theirs: Mapping[str, Any], own: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """The names by which two runs' identities differ.

    Args:
        defaults: values that stand for a name that only the other version lacks: a hyperparameter that it did not have
            yet is one that was not given.
    """
    known = {**{name: value for name, value in defaults.items() if name in own}, **theirs}
    return [name for name in {**known, **own} if known.get(name) != own.get(name)]


def _layout(value: Any, place: str = "") -> dict[str, str]:
    """Each part of a state → what it is: of tensors the type and shape. torch passes over parts that are missing."""
    if isinstance(value, Mapping):
        parts = [(str(name), part) for name, part in value.items()]
    elif isinstance(value, list | tuple) and len(value) <= _LONG:
        parts = [(str(number), part) for number, part in enumerate(value)]
    else:
        return {place: f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else "a value"}
    found = {place: f"of {len(parts)}"} if place else {}
    for name, part in parts:
        found |= _layout(part, f"{place}.{name}" if place else name)
    return found


def _misfit(content: Mapping[str, Any]) -> str | None:
    """What of a checkpoint's state is not as it was written; None: nothing, or an earlier version did not say."""
    if not isinstance(content.get("layout"), str):
        return None
    found = _layout(content["state"])
    promised: dict[str, str] = json.loads(content["layout"])
    for place in promised:
        if place not in found:
            return f"it lacks {place!r}"
    for place, kind in promised.items():
        if found[place] != kind:
            return f"{place!r} is {found[place]}, and was {kind}"
    return None


def _checksum(subset: Subset) -> int:
    return zlib.crc32(subset.weights.numpy().tobytes(), zlib.crc32(subset.indices.numpy().tobytes()))


class _Copier:
    """Copies a state's tensors to the CPU, and reuses the memory, because allocating 90 MB takes ten times as long as
    filling them."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[Any, ...], Tensor] = {}

    def copy(self, state: dict[str, Any]) -> "tuple[dict[str, Any], torch.cuda.Event | None]":
        """The copy, valid until the next call, and the event that marks its end, because a GPU copies
        asynchronously."""
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
    """A file for ``torch.save`` to write to.

    A failed write raises only in ``check``, because torch would replace the exception by its own.
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
        """Does nothing; closing the file flushes it."""

    def check(self) -> None:
        """Raise the OSError of the first write that failed."""
        if self._error is not None:
            raise self._error


def _save(path: Path, content: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        sink = _Sink(file)
        torch.save(dict(content), sink)  # type: ignore[arg-type]  # torch needs no other methods of a file
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
