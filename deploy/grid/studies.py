"""The folder of a study: runs on the same data with the same settings, whatever their strategies, fractions and seeds.

A study's folder holds `study.json`, `runs/NAME` for each run, and the comparison's files. A later comparison of the
same data and settings finds its runs there. One of other data or settings gets another folder.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.grid.plan import OPTIONS
from subset_trainer.config import hyperparameters
from subset_trainer.errors import UserError

FILE = "study.json"
FIRST_SEEDS = "first_seeds"
"""Key of `study.json`."""
RUNS = "runs"
WHOLE_BYTES = 1 << 30
"""Channels of at most this size in all are known by their content, larger ones by names, sizes and times of change."""
_BLOCK = 1 << 20
_PLAIN = ("training", "train", "data", "")
"""Names of folders that do not tell one data set from another."""


@dataclass(frozen=True)
class Study:
    """What the runs of a study share."""

    data: Mapping[str, Mapping[str, str]]
    """Channel → `path` and `digest`."""
    settings: Mapping[str, Any]
    """Hyperparameters that all runs share, as they are understood."""
    digest: str
    """Of the data and the settings."""

    @property
    def name(self) -> str:
        """A name for people with the digest, such as `digits-3f9a01bc`."""
        parts = [
            part
            for part in Path(self.data["training"]["path"]).absolute().parts
            if part.lower() not in _PLAIN
        ]
        stem = Path(parts[-1]).stem if parts else "data"
        plain = "-".join(filter(None, "".join(c if c.isalnum() else "-" for c in stem).split("-")))
        return f"{plain[:40] or 'data'}-{self.digest}"

    def write(self, folder: Path) -> None:
        """Write `study.json` into the study's folder, unless it is there."""
        begin(folder, self.digest, {"data": self.data, "settings": dict(self.settings)})


def study(channels: Mapping[str, Path], settings: Mapping[str, Any]) -> Study:
    """Return the study of these channels and settings. It reads the data once.

    Args:
        channels: name → local folder or file.
        settings: the hyperparameters that all runs share, as the user wrote them.
    """
    # The plan sets these, and one study holds the runs of all their values.
    meant = understood({name: value for name, value in settings.items() if name not in OPTIONS})
    data = fingerprint(channels)
    decisive = {"data": data, "settings": meant}
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()[:8]
    described = {name: {"path": str(path), "digest": data[name]} for name, path in channels.items()}
    return Study(described, meant, digest)


def understood(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with their values parsed, so that it makes no difference how they are written."""
    try:
        return hyperparameters.parse(settings).model_dump(mode="json", exclude_unset=True)
    except UserError:  # settings that only go with some of the strategies
        return {name: str(value) for name, value in settings.items()}


def place(root: Path, wanted: Study) -> Path:
    """Return the study's folder: `root` itself if it is new or holds this study, else a folder of its own below it."""
    if not root.exists() or not any(root.iterdir()) or digest_of(root) == wanted.digest:
        return root
    return root / wanted.name


def digest_of(folder: Path) -> str | None:
    """Return the digest of the study in a folder; None if it holds none."""
    content = read(folder)
    return None if content is None else str(content.get("digest"))


def read(folder: Path) -> dict[str, Any] | None:
    """Return what `study.json` in a folder holds; None without a readable one."""
    try:
        content = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def begin(folder: Path, digest: str, content: Mapping[str, Any]) -> None:
    """Write `study.json` into a study's folder, unless it is there."""
    if digest_of(folder) == digest:
        return
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"version": 1, "digest": digest, **content}
    write_whole(folder / FILE, json.dumps(whole, indent=2) + "\n")


def first_seeds(folder: Path) -> list[int] | None:
    """Return the seeds of a study's first answer, by which answers with further seeds are judged; None before it."""
    kept = (read(folder) or {}).get(FIRST_SEEDS)
    return [int(seed) for seed in kept] if isinstance(kept, list) else None


def keep(folder: Path, name: str, value: Any) -> None:
    """Keep something in the `study.json` of a folder that has one: later calls read it."""
    write_whole(folder / FILE, json.dumps({**(read(folder) or {}), name: value}, indent=2) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is complete or as before, whenever the process ends."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(text)
    aside.replace(path)


def is_unfinished(path: Path) -> bool:
    """Whether this is a file that `write_whole` had not completed."""
    return path.name.startswith(".") and path.suffix == ".tmp"


# The data


def fingerprint(channels: Mapping[str, Path]) -> dict[str, str]:
    """Return channel → digest of its files' names and content.

    Of channels that hold more than `WHOLE_BYTES` together, the digest is of names, sizes and times of change: reading
    them would take long, and a copy of the same files counts as other data.
    """
    listed = {name: list(_files(path)) for name, path in channels.items()}
    whole = sum(file.stat().st_size for files in listed.values() for _, file in files) <= WHOLE_BYTES
    return {name: _digest(files, whole) for name, files in listed.items()}


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a channel with their names, in an order that is the same everywhere."""
    if path.is_file():
        yield path.name, path
        return
    for parent, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(parent, name)
            if file.is_file():
                yield file.relative_to(path).as_posix(), file


def _digest(files: list[tuple[str, Path]], whole: bool) -> str:
    found = hashlib.blake2b(digest_size=16)
    for name, file in files:
        state = file.stat()
        found.update(f"{len(name)}:{name}:{state.st_size}".encode("utf-8", "surrogateescape"))
        if not whole:
            found.update(f":{state.st_mtime_ns}".encode())
            continue
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                found.update(block)
    return found.hexdigest()
