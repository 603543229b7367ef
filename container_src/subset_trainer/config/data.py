"""The hyperparameters that control how the channels are read."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from subset_trainer.config.defaults import FRESH_IMAGE_DEFAULTS, FRESH_IMAGES
from subset_trainer.config.knobs import Knobs, Share
from subset_trainer.errors import shown

MOST_TOKENS = 8192
LARGEST_IMAGE = 1024
"""Largest accepted height and width of an image, in pixels."""
MOST_IMAGE_PIXELS = 178_956_970
"""Of an image that is decoded. The number is that at which Pillow refuses an image."""


class DataKnobs(Knobs):
    """How the data is read."""

    validation_fraction: float = Field(
        0.1,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="fraction of the training channel that is held out for validation, stratified by class; "
        "used only without a validation channel",
    )
    test_fraction: Share = Field(
        0.0,
        description="fraction of the training channel that is set aside for testing, stratified by class, before "
        "anything else; used only without a test channel. The examples are the same for every `seed`, and those of a "
        "smaller fraction are among those of a larger one",
    )
    label_column: str | None = Field(
        None,
        description="where the label is: a column's name or its position (counted from 0), or an attribute of a "
        "manifest; default: the first column of a table, the column called `label` or similar in a file that "
        "lists images, or the only label attribute of a manifest",
    )
    label_names: Literal["as-given", "merged"] | None = Field(
        None,
        description="names of classes that differ only in case, blanks, hyphens or underscores, that say that there is "
        "no label, or that hold several classes, as in `cat|dog`: `as-given` makes each text a class, `merged` makes "
        "the first kind one class, in lower case; default: such names are refused",
    )
    label_folder: Literal["outer", "inner"] | None = Field(
        None,
        description="class folders that have folders of their own: whether the `outer` folders are the classes, or the "
        "`inner` ones, in which the files lie; default: the outer ones, and nested folders that may be classes are "
        "refused",
    )
    text_column: str | None = Field(
        None,
        description="tables: the columns that are read as free text, by name, separated by commas, or by position "
        "(counted from 0) if there is no header; other columns are used beside them. Default: columns whose values "
        "are mostly distinct texts of several words",
    )
    ignore_columns: str | None = Field(
        None,
        description="tables: columns that are left out, by name, separated by commas; `*` stands for any characters, "
        "as in `id,meta_*`; by position (counted from 0) if there is no header",
    )
    keep_columns: str | None = Field(
        None,
        description="tables: columns that stay inputs though they look like identifiers or row numbers, as in "
        "`ignore_columns`",
    )
    number_columns: str | None = Field(
        None,
        description="tables: columns that are numbers although they look like codes, because they are digits with "
        "leading zeros or are declared as texts, as in `ignore_columns`",
    )
    date_order: Literal["dmy", "mdy", "ymd"] | None = Field(
        None,
        description="tables: the order of day, month and year in dates that allow more than one reading, such as "
        "03/04/2024; default: such dates are refused",
    )
    decimal_mark: Literal["point", "comma"] | None = Field(
        None,
        description="tables: the decimal mark of numbers that allow more than one reading, such as 1,234; default: "
        "such numbers are refused",
    )
    missing_values: str | None = Field(
        None,
        description="tables: further words for a missing number or date, separated by commas, such as `n.n.,-999`",
    )
    text_encoding: str | None = Field(
        None,
        description="CSV files and `.txt` files: their encoding, under a name that Python knows, such as `cp1252`, "
        "`shift_jis` or `gb18030`; default: UTF-8, or what a byte order mark says",
    )
    max_tokens: Annotated[int, Field(ge=8, le=MOST_TOKENS)] = Field(
        128,
        description="`encoder`: longer texts are truncated to this many tokens; at most the number of positions "
        "of the encoder",
    )
    csv_header: Literal["auto", "true", "false"] = Field(
        "auto", description="CSV: whether the first line holds column names"
    )
    min_confidence: Share = Field(
        0.0, description="manifests: leave out examples whose label confidence is below this value"
    )
    confidence_weighting: bool = Field(
        False, description="manifests: weight each example's loss by the confidence of its label"
    )
    human_annotated_only: bool = Field(
        False, description="manifests: leave out examples that were labelled automatically"
    )
    verified_as: str | None = Field(
        None,
        description="manifests of a label-verification job: keep only examples with one of these verdicts, "
        "separated by commas; default: `good`, `correct`, `accept` and similar",
    )
    s3_images: bool = Field(
        False,
        description="manifests: download images with an `s3://` URI from S3 when they are needed, instead of "
        "reading them from the channel; the job's role needs `s3:GetObject` on them",
    )
    fine_tune: Literal["all", "head"] = Field(
        "all",
        description="with a `pretrained` channel: `all` trains the whole network, `head` only the last layer on a "
        "frozen backbone",
    )
    image_size: Annotated[int, Field(ge=8, le=LARGEST_IMAGE)] | None = Field(
        None,
        description="images are resized to this height and width, in pixels; default: their own size if all have "
        "the same size of 8 to 256, else the median of √(height × width), as a multiple of 8 from 32 to 224",
    )
    max_image_pixels: Annotated[int, Field(ge=1, le=1 << 40)] = Field(
        MOST_IMAGE_PIXELS,
        description="images of more pixels are refused before they are decoded; a JPEG's pixels count once for each 10 "
        "of its scans, those of 16 bits a colour twice, and a TIFF's tiles in full",
    )
    on_unreadable: Literal["fail", "skip"] = Field(
        "fail",
        description="images whose content is damaged: `fail` ends the run with their names, `skip` leaves them out; "
        "`skip` first decodes every image once more, to a few pixels",
    )
    unreadable_limit: Share = Field(
        0.01,
        description="`on_unreadable=skip`: the largest fraction of a channel's images that is left out; more end the "
        "run",
    )
    augmentation: Literal["flip-crop", "crop", "none"] = Field(
        "flip-crop",
        description="random augmentation of training images; use `crop` if mirroring an image changes its class",
    )
    augmentation_reach: Share = Field(
        0.125,
        description="the largest random shift of a training image, as a fraction of its side, and at least a pixel "
        "unless it is 0; 0.125 is 4 of 32 pixels. "
        f"Default for {FRESH_IMAGES}: {FRESH_IMAGE_DEFAULTS['augmentation_reach']}",
    )
    flip: Literal["random", "alternating"] = Field(
        "random",
        description="`augmentation=flip-crop`: which images are mirrored: half of all samples at `random`, or each "
        "image in every second of the epochs that use it (`alternating`). "
        f"Default for {FRESH_IMAGES}: `{FRESH_IMAGE_DEFAULTS['flip']}`",
    )
    cutout: Share = Field(
        0.0,
        description="side length of the square that is blanked in each training image, as a fraction of the "
        "image's side; 0: none",
    )
    num_workers: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="number of processes that decode images, if the images do not fit in memory; default: chosen "
        "from the number of CPU cores",
    )

    @field_validator("text_encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            b"a".decode(value or "none")
        except UnicodeDecodeError:
            return value  # it is an encoding, such as UTF-16, which takes more bytes
        except LookupError:
            raise PydanticCustomError(
                "text_encoding",
                "hyperparameter text_encoding={given}: expected the name of a text encoding, such as cp1252, "
                "shift_jis or gb18030",
                {"given": shown(value)},
            ) from None
        return value
