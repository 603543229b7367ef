"""The hyperparameters of what a run says about the data."""

from typing import Annotated, Literal

from pydantic import Field

from subset_trainer.config.knobs import Knobs

MOST_EXPLAINED = 200
"""Errors: each adds up to a few dozen kilobytes to the report."""


class InsightKnobs(Knobs):
    """What is learned of the examples, and left out for it."""

    report: bool = Field(
        True,
        description="write `output/data/report.html` and `examples.parquet`: what training has learned of each "
        "example, at the cost of a pass over the training set, which `seconds.report` in `summary.json` counts",
    )

    label_check: Literal["training-signals", "cross-validation"] = Field(
        "training-signals",
        description="how labels are suspected: by the losses of training, which cost nothing, or by cleanlab from "
        "three models, trained before the run's own, each without a third of the examples",
    )
    explain: Annotated[int, Field(ge=0, le=MOST_EXPLAINED)] = Field(
        0,
        description="how many of the validation errors, the surest of each class first, are explained at the end of "
        "the job, by KernelSHAP: which regions of an image, columns of a row or words of a text speak for the wrong "
        "class; into the report and `output/data/explanations.json`, at the cost of 1,000 to 3,000 evaluations of the "
        "model for each, which `seconds.explanation` in `summary.json` counts",
    )
    drop_noisy: bool = Field(
        False,
        description="leave out, before training, the examples whose labels are suspect; with "
        "`label_check=training-signals` the run trains twice, the first time to see which",
    )
    drop_redundant: bool = Field(
        False,
        description="leave out, before training, copies and near copies of images, and equal rows of tables, but for "
        "the first of each",
    )
