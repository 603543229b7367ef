"""The hyperparameters of what a run says about the data."""

from typing import Annotated, Literal

from pydantic import Field

from subset_trainer.config.knobs import Knobs

MOST_EXPLAINED = 200
"""Errors: each adds up to a few dozen kilobytes to the report."""


class InsightKnobs(Knobs):
    """What is learned about the examples, and which are left out."""

    report: bool = Field(
        True,
        description="write `output/data/report.html` and `examples.parquet`, what training learned about each"
        " example; costs a pass over the training set (`seconds.report` in `summary.json`)",
    )

    label_check: Literal["training-signals", "cross-validation"] = Field(
        "training-signals",
        description="how wrong labels are found: by the losses of training, which cost nothing, or by "
        "cleanlab from three models that are trained before the run, each without a third of the "
        "examples",
    )
    explain: Annotated[int, Field(ge=0, le=MOST_EXPLAINED)] = Field(
        0,
        description="how many validation errors are explained at the end of the job, the surest of each class"
        " first: by KernelSHAP, which regions of an image, columns of a row or words of a text "
        "speak for the wrong class. The result is in the report and in "
        "`output/data/explanations.json`; each error costs 1,000 to 3,000 evaluations of the "
        "model (`seconds.explanation` in `summary.json`)",
    )
    drop_noisy: bool = Field(
        False,
        description="leave out examples with suspect labels before training; with "
        "`label_check=training-signals` the run trains twice, the first time to find them",
    )
    drop_redundant: bool = Field(
        False,
        description="leave out duplicates and near-duplicates of images, and equal rows of tables, before "
        "training; the first of each stays",
    )
