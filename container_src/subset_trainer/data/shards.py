"""Tar archives of images: WebDataset's shards, or class folders packed together.

WebDataset's form (github.com/webdataset/webdataset, "The WebDataset Format"): members whose names agree up to the first
full stop of their last part are one example, so that `a/007.jpg` has its class in `a/007.cls` (a number or a name), or
in `a/007.json` (an object with `label`, `cls` or `class`), or in `a/007.txt` where there is neither.
"""

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from subset_trainer.data.archives import compression, open_tar
from subset_trainer.data.channels import IMAGE_SUFFIXES, Channel, is_cifar_batch
from subset_trainer.data.images import LARGEST_FILE
from subset_trainer.data.labelled import LONGEST_LINE, LabelledImages, coded
from subset_trainer.data.packed import PackedImages, Spool
from subset_trainer.errors import UserError, shown

_LABELS = ("cls", "json", "txt")
"""By rank: the first that an example has tells its class."""
_JSON_LABELS = ("label", "cls", "class")
_LOOKED_AT = 1_000


def holds(channel: Channel, file: str) -> Literal["cifar", "images"] | None:
    """What an archive's first members are; None where they are neither, or it cannot be read."""
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
    except Exception:  # damaged archives raise nearly anything; whoever reads it says so
        return None
    return None


def read_shards(channel: Channel, files: tuple[str, ...]) -> LabelledImages:
    """The images of the archives, in name order.

    Of an archive that is not compressed only the headers and the labels are read yet; of the others all images are
    copied. UserError on damaged archives, on images without a class, and on labels that are none.
    """
    sources: list[Path | Spool] = [Path(channel.root, file) for file in files]
    places: list[tuple[int, int, int]] = []
    names: list[str] = []
    keys: list[tuple[int, str]] = []
    labels: dict[tuple[int, str], tuple[int, str]] = {}
    spool: Spool | None = None
    for position, file in enumerate(files):
        path = channel.root / file
        try:
            packed = compression(path) != "r:"
            if packed and spool is None:
                spool = Spool(channel.name)
                sources.append(spool)
            with open_tar(path) as archive:
                for member, key, suffix in _examples(archive):
                    where = (position, key)
                    if member.issparse():
                        raise ValueError(f"'{member.name}' is stored with holes")
                    if "." + suffix in IMAGE_SUFFIXES:
                        if packed and spool is not None:
                            place = (
                                len(files),
                                spool.append(_content(archive, member, LARGEST_FILE)),
                                member.size,
                            )
                        else:
                            place = (position, member.offset_data, member.size)
                        places.append(place)
                        names.append(f"{file}:{member.name}")
                        keys.append(where)
                    elif suffix in _LABELS:
                        rank = _LABELS.index(suffix)
                        if where not in labels or rank < labels[where][0]:
                            text = _content(archive, member, LONGEST_LINE).decode("utf-8").strip()
                            labels[where] = (rank, _label(member.name, suffix, text))
        except UserError:
            raise
        except Exception as error:  # damaged archives and compressed files raise nearly anything
            raise channel.error(
                f"archive '{file}' cannot be read ({error}); expected an intact tar file of images and their classes."
            ) from error
    classes_by_folder = not labels
    classes: list[str] = []
    for (position, key), name in zip(keys, names, strict=True):
        if classes_by_folder:
            folder = key.rsplit("/", 2)
            label = folder[-2] if len(folder) > 1 else ""
        else:
            label = labels.get((position, key), (0, ""))[1]
        if not label:
            raise channel.error(
                f"image '{name}' has no class; expected it in a member of the same name that ends in .cls, .json or "
                ".txt, or class folders."
            )
        classes.append(label)
    if len(set(names)) < len(names):
        [(twice, times)] = Counter(names).most_common(1)
        raise channel.error(f"image '{twice}' is {times} times in its archive; expected each once.")
    codes, ordered = coded(classes)
    shards = f"{len(files)} tar archive{'s' * (len(files) > 1)}"
    by = "class folders" if classes_by_folder else "classes"
    note = f"{channel.name} channel: {len(names):,} images in {shards}, {len(ordered)} {by}."
    images = PackedImages(sources, np.array(places, np.int64).reshape(-1, 3), names, channel.name)
    return LabelledImages(images, codes, ordered, (note,))


def _examples(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """(member, the name up to its suffix, the suffix in lower case) of each file."""
    for member in archive:
        folder, _, base = member.name.rpartition("/")
        if not member.isfile() or base.startswith(".") or "__MACOSX" in folder:
            continue
        stem, _, suffixes = base.partition(".")
        # An example's parts may be called `007.rgb.jpg` and `007.cls`.
        yield member, f"{folder}/{stem}" if folder else stem, suffixes.rpartition(".")[2].lower()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    if member.size > most:
        raise ValueError(f"'{member.name}' is to have {member.size:,} bytes; expected at most {most:,}")
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
