"""The hyperparameters that control what a run reports about the data, and which examples it leaves out."""

from typing import Annotated, Literal

from pydantic import Field

from subset_trainer.config.knobs import Knobs

MOST_EXPLAINED = 200
"""Limit of ``explain``: each explained error adds up to a few dozen kilobytes to the report."""


class InsightKnobs(Knobs):
    """What is reported about the examples, and which are left out."""

    report: bool = Field(
        True,
        description="write `output/data/report.html` and `examples.parquet`, which holds what training learned "
        "about each example; costs one pass over the training set (`seconds.report` in `summary.json`)",
    )

    metric: Literal["accuracy", "macro_f1", "balanced_accuracy", "auc"] = Field(
        "accuracy",
        description="the measure that verdicts go by: the best epoch in `summary.json`, how much data is enough in "
        "a comparison, and what `tune` optimises by default. All of them are logged; `auc` needs two classes",
    )
    label_check: Literal["training-signals", "cross-validation"] = Field(
        "training-signals",
        description="how wrong labels are found: `training-signals` uses the losses observed in training, at no "
        "extra cost; `cross-validation` runs cleanlab on the predictions of three extra models, which are "
        "trained before the run, each without a third of the examples",
    )
    explain: Annotated[int, Field(ge=0, le=MOST_EXPLAINED)] = Field(
        0,
        description="number of validation errors that are explained at the end of the job, the most confident of "
        "each class first: KernelSHAP finds the regions of an image, columns of a row or words of a text that "
        "support the wrong class. The result is in the report and in `output/data/explanations.json`; each "
        "error costs 1,000 to 3,000 evaluations of the model (`seconds.explanation` in `summary.json`)",
    )
    drop_noisy: bool = Field(
        False,
        description="leave out examples with suspect labels before training; with "
        "`label_check=training-signals` the job trains twice, the first time to find these examples",
    )
    drop_redundant: bool = Field(
        False,
        description="leave out duplicate and near-duplicate images, and duplicate rows of tables, before "
        "training; the first of each group is kept",
    )
