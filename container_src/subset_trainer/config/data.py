"""The hyperparameters of the data: what is read of the channels, and how."""

from typing import Annotated, Literal

from pydantic import Field

from subset_trainer.config.knobs import Knobs, Share

MOST_TOKENS = 8192
LARGEST_IMAGE = 1024
"""Pixels of a side."""


class DataKnobs(Knobs):
    """How the data is read."""

    validation_fraction: float = Field(
        0.1,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="share of the training channel set aside by class, where there is no validation channel",
    )
    label_column: str | None = Field(
        None,
        description="the label: a column's name or position from 0, or a manifest's attribute; default: a "
        "table's first column, the column called `label` or similar beside images, a manifest's "
        "only attribute",
    )
    text_column: str | None = Field(
        None,
        description="tables: the column of texts to classify, by name (without a header by position from 0); "
        "default: the only feature, if it holds texts of several words that mostly differ",
    )
    max_tokens: Annotated[int, Field(ge=8, le=MOST_TOKENS)] = Field(
        128,
        description="`encoder`: how many of a text's first tokens are used; at most as many as the encoder "
        "has positions for",
    )
    csv_header: Literal["auto", "true", "false"] = Field(
        "auto", description="CSV: whether the first line holds column names"
    )
    min_confidence: Share = Field(
        0.0, description="manifests: leave out examples whose label has less confidence"
    )
    confidence_weighting: bool = Field(
        False, description="manifests: weight an example's loss by its label's confidence"
    )
    human_annotated_only: bool = Field(
        False, description="manifests: leave out labels from automated labelling"
    )
    verified_as: str | None = Field(
        None,
        description="manifests: verdicts of a label-verification job whose examples are kept, separated by "
        "commas; default: `good`, `correct`, `accept` and similar",
    )
    s3_images: bool = Field(
        False,
        description="manifests: read images named by an `s3://` URI from S3 when they are needed, not from "
        "the channel; the job's role needs `s3:GetObject` on them",
    )
    fine_tune: Literal["all", "head"] = Field(
        "all",
        description="with a `pretrained` channel: train the whole network, or only the last layer on a frozen"
        " backbone",
    )
    image_size: Annotated[int, Field(ge=8, le=LARGEST_IMAGE)] | None = Field(
        None,
        description="height and width in pixels to which images are scaled; default: their own if all are "
        "alike and at most 256, else 224",
    )
    augmentation: Literal["flip-crop", "crop", "none"] = Field(
        "flip-crop",
        description="random changes to training images; use `crop` where mirroring changes the meaning",
    )
    cutout: Share = Field(
        0.0,
        description="side of a square that is blanked in every training image, as a share of the image's side",
    )
    num_workers: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="processes that decode images which do not fit in memory; default: from the number of "
        "processors",
    )
