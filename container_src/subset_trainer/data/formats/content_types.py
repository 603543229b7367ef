"""Interprets a channel's ContentType, with the media types of SageMaker's built-in algorithms."""

from dataclasses import dataclass

from subset_trainer.data.channels import Channel
from subset_trainer.data.formats.format import Claim, Format
from subset_trainer.data.formats.registry import FORMATS, Layout, detect
from subset_trainer.data.formats.side_files import is_description
from subset_trainer.data.media import header_of, media_type
from subset_trainer.data.understanding import Decision
from subset_trainer.errors import shown

_IMAGES = ("application/x-image", "application/x-recordio", "image/")


@dataclass(frozen=True)
class ContentType:
    """The meaning of a content type.

    `table`: the format of the table files. `images`: whether the files are images in some format. If neither is set,
    the content type specifies nothing. `header`: "true" or "false" if it specifies whether CSV files have a header.
    """

    text: str
    table: Format | None = None
    images: bool = False
    header: str | None = None

    def layout(self, channel: Channel) -> Layout:
        """The channel's files and their format, by file name if that is conclusive, otherwise by content type.

        Raises:
            UserError: file names and content type contradict each other, or as in `detect`.
        """
        if not channel.pipe and self.table is not None and not _telling(channel, self.table):
            files = tuple(file for file in channel.files if not is_description(file)) or channel.files
            told = Decision("format", self.table.name, f"the channel's content type is {self.text}", "given")
            return Layout.of(channel, self.table, Claim(files), told=told)
        layout = detect(channel)
        fits = layout.format is self.table or (self.images and layout.format.table is None)
        if (self.table or self.images) and not fits:
            raise channel.error(
                f"its content type is {shown(self.text)}, and by its name '{layout.files[0]}' is "
                f"{layout.format.table or 'of another kind'}; expected the content type of its files."
            )
        return layout


def understand(channel: Channel, text: str | None) -> ContentType:
    """Parse a content type, which may have parameters, as in `text/csv; label_size=1; header=present`.

    Raises:
        UserError: it declares no label, or several.
    """
    if not text:
        return ContentType("")
    header, (kind, _) = header_of(channel, text), media_type(text)
    table = next((form for form in FORMATS if kind in form.content_types), None)
    return ContentType(text, table, table is None and kind.startswith(_IMAGES), header)


def _telling(channel: Channel, table: Format) -> bool:
    """Whether the name of any file identifies its format, given that tables in this format are expected."""
    told = {suffix for form in FORMATS for suffix in form.telling if suffix not in table.shared}
    return bool(channel.ending(*told))
