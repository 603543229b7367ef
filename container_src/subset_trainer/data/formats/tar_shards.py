"""Tar archives of images: WebDataset's shards, or packed class folders.

WebDataset's format (github.com/webdataset/webdataset, "The WebDataset Format"): members whose names agree up to the
first full stop of their base name form one example. The class of `a/007.jpg` is in `a/007.cls` (a number or a name), in
`a/007.json` (an object with `label`, `cls` or `class`), or, without these, in `a/007.txt`.
"""

import json
import sys
import tarfile
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from subset_trainer.data.archives import ARCHIVE_SUFFIXES, compression, open_tar
from subset_trainer.data.channels import IMAGE_SUFFIXES, Channel
from subset_trainer.data.classes import coded
from subset_trainer.data.formats.cifar import CIFAR, extras, is_cifar_batch
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.formats.lists import LONGEST_LINE
from subset_trainer.data.images.decoding import LARGEST_FILE
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.images.packed import PackedImages, Spool
from subset_trainer.errors import UserError, shown

_LABELS = ("cls", "json", "txt")
"""Suffixes by rank: the first one that an example has holds its class."""
_JSON_LABELS = ("label", "cls", "class")
_LOOKED_AT = 1_000


def holds(channel: Channel, file: str) -> Literal["cifar", "images"] | None:
    """The content of an archive, by its first members; None if it is neither, or cannot be read."""
    try:
        with open_tar(channel.root / file) as archive:
            for position, member in enumerate(archive):
                base = member.name.rsplit("/", 1)[-1]
                if member.isfile() and is_cifar_batch(base):
                    return "cifar"
                if member.isfile() and not base.startswith(".") and base.lower().endswith(IMAGE_SUFFIXES):
                    return "images"
                if position == _LOOKED_AT:
                    break
    except Exception:  # damaged archives raise almost any exception; the error is reported when it is read
        return None
    return None


def read_shards(channel: Channel, files: tuple[str, ...]) -> LabelledImages:
    """Read the images of the archives, in name order.

    In an uncompressed archive only the headers and labels are read, and images are read on demand. The images of
    compressed archives are copied to a temporary file.

    Raises:
        UserError: an archive is damaged, an image has no class, or a label is invalid.
    """
    sources: list[Path | Spool] = [Path(channel.root, file) for file in files]
    # Few objects even for a million images: numbers in an array, and one string for each folder and each class.
    places = array("q")
    names: list[str] = []
    told: list[str] = []
    folders: list[str] = []
    spool: Spool | None = None
    any_told = False
    for position, file in enumerate(files):
        path = channel.root / file
        keys: list[str] = []
        labels: dict[str, tuple[int, str]] = {}
        try:
            packed = compression(path) != "r:"
            if packed and spool is None:
                spool = Spool(channel.name)
                sources.append(spool)
            with open_tar(path) as archive:
                for member, key, suffix in _examples(archive):
                    if member.issparse():
                        raise ValueError(f"'{member.name}' is stored with holes")
                    if "." + suffix in IMAGE_SUFFIXES:
                        if packed and spool is not None:
                            begin = spool.append(_content(archive, member, LARGEST_FILE))
                            places.extend((len(files), begin, member.size))
                        else:
                            places.extend((position, member.offset_data, member.size))
                        names.append(f"{file}:{member.name}")
                        keys.append(key)
                    elif suffix in _LABELS:
                        rank = _LABELS.index(suffix)
                        if key not in labels or rank < labels[key][0]:
                            text = _content(archive, member, LONGEST_LINE).decode("utf-8").strip()
                            labels[key] = (rank, _label(member.name, suffix, text))
        except UserError:
            raise
        except Exception as error:  # damaged archives and compressed files raise almost any exception
            raise channel.error(
                f"archive '{file}' cannot be read ({error}); expected an intact tar file of images and their classes."
            ) from error
        any_told = any_told or bool(labels)
        told += [sys.intern(labels.get(key, (0, ""))[1]) for key in keys]
        folders += [sys.intern(key.rpartition("/")[0].rpartition("/")[2]) for key in keys]
    classes = told if any_told else folders
    if "" in classes:
        raise channel.error(
            f"image '{names[classes.index('')]}' has no class; expected it in a member of the same name that ends in "
            ".cls, .json or .txt, or class folders."
        )
    if len(set(names)) < len(names):
        [(twice, times)] = Counter(names).most_common(1)
        raise channel.error(f"image '{twice}' is {times} times in its archive; expected each once.")
    codes, ordered = coded(classes)
    shards = f"{len(files)} tar archive{'s' * (len(files) > 1)}"
    by = "classes" if any_told else "class folders"
    note = f"{channel.name} channel: {len(names):,} images in {shards}, {len(ordered)} {by}."
    images = PackedImages(sources, np.frombuffer(places, np.int64).reshape(-1, 3), names, channel.name)
    return LabelledImages(images, codes, ordered, (note,))


def _examples(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """(member, name without suffix, suffix in lower case) of each file."""
    for member in archive:
        archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep a kilobyte per member
        folder, _, base = member.name.rpartition("/")
        if not member.isfile() or base.startswith(".") or "__MACOSX" in folder:
            continue
        stem, _, suffixes = base.partition(".")
        # The parts of an example may be named `007.rgb.jpg` and `007.cls`.
        yield member, f"{folder}/{stem}" if folder else stem, suffixes.rpartition(".")[2].lower()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    if member.size > most:
        raise ValueError(f"'{member.name}' has {member.size:,} bytes; expected at most {most:,}")
    opened = archive.extractfile(member)
    assert opened is not None
    content = opened.read()
    if len(content) < member.size:
        raise ValueError(f"it ends within '{member.name}'")
    return content


def _label(name: str, suffix: str, text: str) -> str:
    if suffix != "json":
        if len(text.splitlines()) != 1:
            raise ValueError(f"'{name}' holds {shown(text, 60)}; expected one line, the class")
        return text
    content = json.loads(text)
    value = content
    if isinstance(content, dict):
        value = next((content[key] for key in _JSON_LABELS if key in content), None)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise ValueError(
            f"'{name}' holds {shown(text, 60)}; expected an object with {', '.join(map(repr, _JSON_LABELS))}: a "
            "class's name or number"
        )
    return str(value)


class TarArchives(Format):
    """Tar archives of images or of CIFAR batches."""

    name = "archives"
    expected = ("", "tar shards", "")
    telling = ARCHIVE_SUFFIXES

    def recognise(self, channel: Channel) -> Claim | None:
        files = channel.ending(*ARCHIVE_SUFFIXES)
        if not files or any(
            map(is_cifar_batch, channel.files)
        ):  # the batches lie unpacked beside their archives
            return None
        return Claim(files, beside=extras(channel))

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        if all(holds(channel, file) != "images" for file in claim.files):
            return CIFAR.read(channel, claim, reading)
        images = read_shards(channel, claim.files)
        return Found(self, images, notes=images.notes)
