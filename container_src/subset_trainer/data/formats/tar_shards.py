"""Tar archives of images: WebDataset's shards, or packed class folders.

WebDataset's format (github.com/webdataset/webdataset, "The WebDataset Format"): members whose names agree up to the
first full stop of their base name form one example. The class of `a/007.jpg` is in `a/007.cls` (a number or a name), in
`a/007.json` (an object with `label` or another label's name), or, without these, in `a/007.txt`. A label of the image's
whole name but the suffix comes first, so that `2022.00.jpg` and `2022.01.jpg` have their own.
"""

import json
import sys
import tarfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from subset_trainer.data.archives import ARCHIVE_SUFFIXES, compression, open_tar
from subset_trainer.data.channels import IMAGE_SUFFIXES, Channel, is_system
from subset_trainer.data.classes import coded
from subset_trainer.data.formats.cifar import CIFAR, extras, is_cifar_batch
from subset_trainer.data.formats.class_folders import (
    NO_CLASSES,
    classes_of_folders,
    doubts_of_folders,
    label_of_folders,
    root_of,
)
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.formats.lists import LONGEST_LINE, refuse_splits
from subset_trainer.data.formats.side_files import is_class_list, is_description, members
from subset_trainer.data.images.decoding import LARGEST_FILE
from subset_trainer.data.images.labelled import LabelledImages
from subset_trainer.data.images.packed import PackedImages, Spool
from subset_trainer.data.label_columns import beside_images
from subset_trainer.data.understanding import Decision, refuse_open
from subset_trainer.errors import UserError, shown

_LABELS = ("cls", "json", "txt")
"""Suffixes by rank: the first one that an example has holds its class."""
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


@dataclass
class _Shard:
    """The images and labels of one archive, by their stems: paths without the last suffix.

    `images`: the (name, key, stem) of each image in order, where the key ends at the first full stop of the base name.
    `labels`: the best label of each stem as (rank, text), where an error stands for a label that cannot be used.
    `stems`: the stems of the labels of each key. `others`: an unused member of each folder.
    """

    images: list[tuple[str, str, str]] = field(default_factory=list)
    labels: dict[str, tuple[int, str | ValueError]] = field(default_factory=dict)
    stems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    others: dict[str, str] = field(default_factory=dict)

    def add_label(self, key: str, stem: str, rank: int, text: str | ValueError) -> None:
        known = self.labels.get(stem)
        if known is None:
            self.stems[key].append(stem)
        usable = not isinstance(text, ValueError)
        # A file without a label, such as metadata in JSON, yields to any with one.
        better = known is None or (usable, -rank) > (not isinstance(known[1], ValueError), -known[0])
        if better:
            self.labels[stem] = (rank, text)

    def classes(self) -> list[str]:
        """The class of each image, '' if it has none.

        An image's label has its stem or else its key, as WebDataset pairs them. Raises ValueError where a key has
        several labels, or where several images share one.
        """
        told: list[str] = []
        shared: dict[str, str] = {}
        for name, key, stem in self.images:
            source = stem if stem in self.labels else self._of_key(name, key)
            if source is None:
                told.append("")
                continue
            if source in shared:
                raise ValueError(
                    f"'{shared[source]}' and '{name}' share one label, as two images of one example; expected one "
                    "image for each label"
                )
            shared[source] = name
            text = self.labels[source][1]
            if isinstance(text, ValueError):
                raise text
            told.append(sys.intern(text))
        return told

    def _of_key(self, name: str, key: str) -> str | None:
        usable = [
            stem for stem in self.stems.get(key, ()) if not isinstance(self.labels[stem][1], ValueError)
        ]
        stems = usable or self.stems.get(key, [])
        if len(stems) > 1:
            raise ValueError(
                f"'{name}' may belong to the labels of '{stems[0]}' and of '{stems[1]}', whose names agree up to the "
                "first full stop; expected a label of the image's own name, or no full stops in names"
            )
        return stems[0] if stems else None


def read_shards(channel: Channel, files: tuple[str, ...]) -> LabelledImages:
    """Read the images of the archives, in name order.

    In an uncompressed archive only the headers and labels are read, and images are read on demand. The images of
    compressed archives are copied to a temporary file.

    Raises:
        UserError: an archive is damaged, an image has no class or shares one, a label is invalid, a class would have no
            image, or the members' names say several splits.
    """
    sources: list[Path | Spool] = [Path(channel.root, file) for file in files]
    # Few objects even for a million images: numbers in an array, and one string for each class.
    places = array("q")
    names: list[str] = []
    told: list[str] = []
    others: dict[str, str] = {}
    spool: Spool | None = None
    for position, file in enumerate(files):
        path = channel.root / file
        shard = _Shard()
        try:
            packed = compression(path) != "r:"
            if packed and spool is None:
                spool = Spool(channel.name)
                sources.append(spool)
            with open_tar(path) as archive:
                for member in _read(archive, shard):
                    if packed and spool is not None:
                        place = (
                            len(files),
                            spool.append(_content(archive, member, LARGEST_FILE)),
                            member.size,
                        )
                    else:
                        place = (position, member.offset_data, member.size)
                    places.extend(place)
            told += shard.classes()
        except UserError:
            raise
        except Exception as error:  # damaged archives and compressed files raise almost any exception
            raise channel.error(
                f"archive '{file}' cannot be read ({error}); expected an intact tar file of images and their classes."
            ) from error
        names += [f"{file}:{name}" for name, _, _ in shard.images]
        others |= {folder: f"{file}:{name}" for folder, name in shard.others.items()}
    any_told = any(told)  # a readme.txt or a list of classes is no image's label
    inside = [name.partition(":")[2] for name in names]
    refuse_splits(channel, inside)
    level, folder = channel.label_folder, "" if any_told else root_of(inside)
    in_folders = all("/" in name[len(folder) :] for name in inside)
    classes = told if any_told or not in_folders else classes_of_folders(inside, folder, level)
    _check(channel, names, classes)
    if not any_told:
        refuse_open(
            channel.name, [*_vanishing(folder, inside, others), *doubts_of_folders(inside, folder, level)]
        )
    codes, ordered = coded(classes)
    shards = f"{len(files)} tar archive{'s' * (len(files) > 1)}"
    by = "classes" if any_told else "class folders"
    note = f"{channel.name} channel: {len(names):,} images in {shards}, {len(ordered)} {by}."
    images = PackedImages(sources, np.frombuffer(places, np.int64).reshape(-1, 3), names, channel.name)
    decision = (
        Decision("label", "a member beside each image", "the member of each image's name")
        if any_told
        else label_of_folders(folder, level)
    )
    return LabelledImages(images, codes, ordered, (note,), decisions=(decision,))


def _read(archive: tarfile.TarFile, shard: _Shard) -> Iterator[tarfile.TarInfo]:
    """Read the labels into `shard`, and yield each image, which the caller locates before it takes the next."""
    for member, key, suffix in _examples(archive):
        if member.issparse():
            raise ValueError(f"'{member.name}' is stored with holes")
        stem = member.name.rpartition(".")[0] if suffix else member.name
        if "." + suffix in IMAGE_SUFFIXES:
            shard.images.append((member.name, key, stem))
            yield member
        elif suffix in _LABELS:
            try:
                text: str | ValueError = _label(
                    member.name, suffix, _content(archive, member, LONGEST_LINE).decode("utf-8").strip()
                )
            except UnicodeDecodeError:
                raise
            except _NoLabelError as error:
                text = error
            shard.add_label(key, stem, _LABELS.index(suffix), text)
        elif not is_description(member.name) and not is_class_list(member.name):
            shard.others.setdefault(member.name.rpartition("/")[0] + "/", member.name)


def _check(channel: Channel, names: Sequence[str], classes: Sequence[str]) -> None:
    if "" in classes:
        raise channel.error(
            f"image '{names[classes.index('')]}' has no class; expected it in a member of the same name that ends in "
            ".cls, .json or .txt, or class folders."
        )
    if len(set(names)) < len(names):
        [(twice, times)] = Counter(names).most_common(1)
        raise channel.error(f"image '{twice}' is {times} times in its archive; expected each once.")


def _vanishing(folder: str, images: Sequence[str], others: Mapping[str, str]) -> list[Decision]:
    """The open decisions on class folders below `folder` without images. `others`: a file of each folder."""
    known = set(classes_of_folders(images, folder))
    lost: dict[str, str] = {}
    for inside, name in others.items():
        top = inside[len(folder) :].split("/", 1)[0] if inside.startswith(folder) else ""
        if top and top not in known and top.lower() not in NO_CLASSES:
            lost.setdefault(top, name)
    return [
        Decision(
            "classes",
            "a class without examples",
            f"no file of this folder is read, such as '{name}'; expected images in each class folder",
            "open",
            name=folder + top + "/",
        )
        for top, name in lost.items()
    ]


def _examples(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """(member, WebDataset's key, suffix in lower case) of each file."""
    for member in archive:
        archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep a kilobyte per member
        folder, _, base = member.name.rpartition("/")
        if not member.isfile() or base.startswith(".") or any(map(is_system, folder.split("/"))):
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


class _NoLabelError(ValueError):
    """A file beside an image that holds no label, and may hold something else."""


def _label(name: str, suffix: str, text: str) -> str:
    if suffix != "json":
        if len(text.splitlines()) != 1:
            kind = ValueError if suffix == "cls" else _NoLabelError
            raise kind(f"'{name}' holds {shown(text, 60)}; expected one line, the class")
        return text
    content = json.loads(text)
    value = content
    if isinstance(content, dict):
        value = next((content[key] for key in beside_images(content)), None)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise _NoLabelError(
            f"'{name}' holds {shown(text, 60)}; expected an object with 'label' or another label's "
            "name: a class's name or number"
        )
    return str(value)


class TarArchives(Format):
    """Tar archives of images or of CIFAR batches."""

    name = "archives"
    heeds = ("label_folder",)
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
        held = [holds(channel, file) for file in claim.files]
        if not any(held) and (inside := members(channel, claim.files[0], 1)):
            raise channel.error(
                f"archive '{claim.files[0]}' holds neither images nor CIFAR batches, but '{inside[0]}'; expected "
                "its files unpacked."
            )
        if "images" not in held:
            return CIFAR.read(channel, claim, reading)
        images = read_shards(channel, claim.files)
        return Found(self, images, notes=images.notes, decisions=images.decisions)
