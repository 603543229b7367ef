"""What a channel's ContentType says of its files, in the words of SageMaker's built-in algorithms."""

from dataclasses import dataclass

from subset_trainer.data.channels import TABLE_FORMATS, Channel, Format, Layout, detect, has_telling_name
from subset_trainer.errors import shown

_TABLES: dict[str, Format] = {
    "text/csv": "csv",
    "csv": "csv",
    "application/x-parquet": "parquet",
    "application/parquet": "parquet",
    "application/vnd.apache.parquet": "parquet",
    "parquet": "parquet",
    "text/libsvm": "libsvm",
    "text/x-libsvm": "libsvm",
    "libsvm": "libsvm",
    "application/x-recordio-protobuf": "protobuf",
    "recordio-protobuf": "protobuf",
}
_IMAGES = ("application/x-image", "application/x-recordio", "image/")
_NAMES = {"csv": "CSV", "parquet": "Parquet", "libsvm": "libsvm", "protobuf": "recordio-protobuf"}


@dataclass(frozen=True)
class ContentType:
    """`table`: the one format that the files are in; `images`: they are images in some format; neither: it says
    nothing. `header`: "true" or "false" where it tells whether CSV files have one."""

    text: str
    table: Format | None = None
    images: bool = False
    header: str | None = None

    def layout(self, channel: Channel) -> Layout:
        """Which files in which format, by their names where these tell, else as the content type says.

        Raises:
            UserError: the two contradict each other, or as `detect`.
        """
        if (
            not channel.pipe
            and self.table is not None
            and not any(has_telling_name(file, self.table) for file in channel.files)
        ):
            return Layout(self.table, channel.files, ())
        layout = detect(channel)
        fits = layout.format == self.table or (self.images and layout.format not in TABLE_FORMATS)
        if (self.table or self.images) and not fits:
            raise channel.error(
                f"its content type is {shown(self.text)}, and by its name '{layout.files[0]}' is "
                f"{_NAMES.get(layout.format, 'of another kind')}; expected the content type of its files."
            )
        return layout


def understand(channel: Channel, text: str | None) -> ContentType:
    """Read a content type, with parameters such as `text/csv; label_size=1; header=present`.

    Raises:
        UserError: it says that the files have no label, or several.
    """
    if not text:
        return ContentType("")
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    values = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in parameters)}
    if (size := values.get("label_size", "1")) != "1":
        raise channel.error(
            f"its content type is {shown(text)}, with label_size={shown(size)}; expected label_size=1, "
            "a class in the first column."
        )
    header = {"present": "true", "true": "true", "absent": "false", "false": "false"}.get(
        values.get("header", "")
    )
    return ContentType(text, _TABLES.get(kind), kind.startswith(_IMAGES) and kind not in _TABLES, header)
