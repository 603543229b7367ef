"""Checkpoints: a run that was killed goes on where it was, and ends as if it had not been.

A file is a SHA-256 digest and what torch makes of dicts, lists, tensors, numbers and text; nothing in it is unpickled
but these. It is written under another name, flushed to the disk and renamed, so that it is whole or not there.
"""

import hashlib
import io
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from subset_trainer import artifacts
from subset_trainer.errors import UserError

logger = logging.getLogger(__name__)
PATTERN = "checkpoint-*.pt"


class Checkpoints:
    """Those of one run, in one folder.

    Args:
        directory: of the files.
        identity: what a checkpoint must agree on, to be gone on from: hyperparameters and facts of the data.
        minutes: between two checkpoints within an epoch.
        keep: how many files stay.
        resume: whether to go on from what is there.
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

    @property
    def subsets(self) -> Path:
        """Where the subsets of the epochs before are kept: the folder of results may be another machine's."""
        return self._directory / "subsets"

    def due(self) -> bool:
        """Whether the last one is so old that there should be another within the epoch."""
        return time.monotonic() - self._last >= self._seconds

    def save(self, epoch: int, step: int, state: Mapping[str, Any]) -> None:
        """Write one, and remove the oldest beyond those that are kept.

        Args:
            epoch: that is being made, from 1.
            step: updates of it that are done.
            state: of dicts with text for keys, lists, tensors, numbers, text and None.
        """
        content = io.BytesIO()
        torch.save({"identity": self._identity, "state": dict(state)}, content)

        def write(path: Path) -> None:
            with path.open("wb") as file:
                file.write(hashlib.sha256(content.getbuffer()).digest())
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())

        artifacts.write(self._directory / f"checkpoint-{epoch:05d}-{step:07d}.pt", write)
        for old in self._files()[self._keep :]:
            old.unlink(missing_ok=True)
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state of the newest that is whole; None where there is none, or none is wanted.

        Raises:
            UserError: it is another run's.
        """
        files = self._files()
        if not self._resume:
            for file in files:
                file.unlink(missing_ok=True)
            return None
        for file in files:
            try:
                content = _read(file)
            except Exception as error:  # what torch raises on damaged pickles is nearly anything
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
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
        """Newest first: by how far the run was, not by a clock."""
        return sorted(self._directory.glob(PATTERN), reverse=True)


def _read(file: Path) -> Any:
    content = file.read_bytes()
    digest, payload = content[:32], content[32:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("its digest does not fit its content")
    loaded: Any = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if not (
        isinstance(loaded, dict) and all(isinstance(loaded.get(part), dict) for part in ("identity", "state"))
    ):
        raise ValueError("it holds no state of a run")
    return loaded
