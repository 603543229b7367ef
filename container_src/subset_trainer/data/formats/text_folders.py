"""`.txt` files in class folders."""

import sys

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import coded
from subset_trainer.data.encodings import refusal
from subset_trainer.data.formats.class_folders import (
    checked_folder,
    class_folders,
    classes_of_folders,
    doubts_of_folders,
    label_of_folders,
    vanishing,
)
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.formats.side_files import is_class_list, is_description
from subset_trainer.data.ids import Ids
from subset_trainer.data.room import Room
from subset_trainer.data.texts.labelled import Texts
from subset_trainer.data.understanding import Decision

LARGEST_FILE = 1 << 24
"""Bytes; a longer file is refused as an example."""
_EACH = 300
"""Bytes that a text takes beside its characters: its path, its number, its place."""
_EXPECTED = "UTF-8 text, one example a file"


def read_text_folders(channel: Channel, files: tuple[str, ...], folder: str, memory: int) -> Texts:
    """Read one text per file; its class is the folder below `folder`.

    Raises:
        UserError: a file is not UTF-8 text, or the texts exceed `memory` bytes.
    """
    texts = np.empty(len(files), object)
    room = Room(channel, memory)
    for position, file in enumerate(files):
        try:
            with (channel.root / file).open("rb") as opened:
                raw = opened.read(LARGEST_FILE + 1)
            if len(raw) > LARGEST_FILE:
                raise ValueError(f"it has more than {LARGEST_FILE >> 20} MiB")
            texts[position] = raw.decode(channel.encoding or "utf-8-sig")
        except UnicodeDecodeError as error:
            raise channel.error(f"text '{file}': {refusal(raw, channel.encoding)}.") from error
        except (OSError, ValueError) as error:
            raise channel.error(f"text '{file}' cannot be read ({error}); expected {_EXPECTED}.") from error
        room.take(sys.getsizeof(texts[position]) + _EACH, f"the text of '{file}', with those before it,")
    labels, classes = coded(classes_of_folders(files, folder, channel.label_folder))
    ids = Ids.of_paths(np.array([file.encode("utf-8", "surrogateescape") for file in files]))
    return Texts(texts, labels, classes, ids)


class TextFolders(Format):
    """Class folders of `.txt` files. Data in any format may have a readme.txt beside it, and images their captions, so
    that only several such folders without images are certain to be examples."""

    name = "texts"
    heeds = ("label_folder", "text_encoding")
    beginning = "some"
    expected = ("", "class folders of .txt files", "")
    splits = "folders"

    def recognise(self, channel: Channel) -> Claim | None:
        files = tuple(file for file in _texts(channel) if "/" in file)
        alone, beside = len({file.rpartition("/")[0] for file in files}) < 2, bool(channel.images)
        if not files or (alone and beside):  # captions, or boxes
            return None
        return Claim(files, weak=alone or beside)

    def doubts(self, channel: Channel, claim: Claim) -> list[Decision]:
        folder = checked_folder(channel, claim.files, _texts(channel), "text")
        if folder is None:
            return []
        nested = doubts_of_folders(claim.files, folder, channel.label_folder)
        return [*vanishing(channel, claim.files, folder, ".txt files"), *nested]

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        folder = class_folders(channel, claim.files, _texts(channel), "text")
        texts = read_text_folders(channel, claim.files, folder, reading.memory)
        return Found(self, texts, decisions=(label_of_folders(folder, channel.label_folder),))


def _texts(channel: Channel) -> tuple[str, ...]:
    """The `.txt` files but those that describe the data, and lists of classes beside the folders."""
    found = [file for file in channel.ending(".txt") if not is_description(file)]
    top = min((file.count("/") for file in found), default=0)
    return tuple(file for file in found if file.count("/") > top or not is_class_list(file))
