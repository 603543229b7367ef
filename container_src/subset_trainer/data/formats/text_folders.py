"""`.txt` files in class folders."""

import numpy as np

from subset_trainer.data.channels import Channel
from subset_trainer.data.classes import coded
from subset_trainer.data.formats.class_folders import class_folders, classes_of_folders
from subset_trainer.data.formats.format import Claim, Format, Found, Reading
from subset_trainer.data.ids import Ids
from subset_trainer.data.texts.labelled import Texts

LARGEST_FILE = 1 << 24
"""Bytes; a longer file is refused as an example."""
_EXPECTED = "UTF-8 text, one example a file"


def read_text_folders(channel: Channel, files: tuple[str, ...], folder: str, memory: int) -> Texts:
    """Read one text per file; its class is the folder below `folder`.

    Raises:
        UserError: a file is not UTF-8 text, or the texts exceed `memory` bytes.
    """
    texts = np.empty(len(files), object)
    left = memory
    for position, file in enumerate(files):
        try:
            with (channel.root / file).open("rb") as opened:
                raw = opened.read(LARGEST_FILE + 1)
            if len(raw) > LARGEST_FILE:
                raise ValueError(f"it has more than {LARGEST_FILE >> 20} MiB")
            texts[position] = raw.decode("utf-8-sig")
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, UnicodeDecodeError) else error
            raise channel.error(f"text '{file}' cannot be read ({reason}); expected {_EXPECTED}.") from error
        left -= len(raw)
        if left < 0:
            raise channel.error(
                f"the texts up to '{file}' take more than the {memory / 1e9:.1f} GB of memory that are left; expected "
                "less data, or an instance with more memory."
            )
    labels, classes = coded(classes_of_folders(files, folder))
    note = f"{channel.name} channel: {len(files):,} texts in {len(classes)} class folders."
    ids = Ids.of_paths(np.array([file.encode("utf-8", "surrogateescape") for file in files]))
    return Texts(texts, labels, classes, ids, (note,))


class TextFolders(Format):
    """Class folders of `.txt` files. Tried last, because data in any format may have a readme.txt beside it."""

    name = "texts"
    expected = ("", "class folders of .txt files", "")
    last_resort = True

    def recognise(self, channel: Channel) -> Claim | None:
        files = tuple(file for file in channel.ending(".txt") if "/" in file)
        return Claim(files) if files else None

    def read(self, channel: Channel, claim: Claim, reading: Reading) -> Found:
        folder = class_folders(channel, claim.files, (".txt",), "text")
        texts = read_text_folders(channel, claim.files, folder, reading.memory)
        return Found(self, texts, notes=texts.notes)
