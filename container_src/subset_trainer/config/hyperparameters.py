"""All hyperparameters, with their types, ranges, defaults and descriptions.

Each group of hyperparameters is declared in its own module; this module combines the groups. Names that begin with
``sagemaker_``, and ``_tuning_objective_metric``, belong to the platform and are ignored.

``python -m subset_trainer.config`` prints the table. Nothing here imports torch, so that a launcher can validate
hyperparameters before it starts an instance.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError, model_validator

from subset_trainer.config import parsing
from subset_trainer.config.data import DataKnobs
from subset_trainer.config.insight import InsightKnobs
from subset_trainer.config.knobs import Knobs
from subset_trainer.config.selection import SelectionKnobs
from subset_trainer.config.tracking import TrackingKnobs
from subset_trainer.config.training import TrainingKnobs
from subset_trainer.errors import UserError

PLATFORM_PREFIXES = ("sagemaker_", "_tuning_objective_metric")


# Pydantic takes the fields of the last base first.
class Hyperparameters(TrackingKnobs, InsightKnobs, TrainingKnobs, DataKnobs, SelectionKnobs):
    """The hyperparameters of the built-in trainer. Immutable; unknown names are rejected."""

    @model_validator(mode="after")
    def _cleaning_has_what_it_needs(self) -> "Hyperparameters":
        if self.fraction == "auto" and self.drop_noisy:
            raise ValueError(
                "drop_noisy trains once on the fraction before the run's own training, so it needs a number; got "
                "fraction='auto'"
            )
        if self.backend == "cords" and (self.drop_noisy or self.label_check == "cross-validation"):
            raise ValueError("drop_noisy and label_check='cross-validation' require backend='native'")
        return self

    @property
    def uses_validation_labels(self) -> bool:
        """Whether the labels of the validation set have an influence on what is trained on."""
        guided = "match" in self.spec.knobs and self.match == "validation"
        dropped = "mislabelled" in self.spec.knobs and self.mislabelled == "drop"
        return "validation" in self.spec.needs or guided or dropped

    def with_defaults(self, values: Mapping[str, Any]) -> "Hyperparameters":
        """With these values where none, or `auto`, were given; they do not count as given."""
        unsaid = {
            name: value
            for name, value in values.items()
            if name not in self.model_fields_set or getattr(self, name) == "auto"
        }
        return Hyperparameters.model_construct(
            _fields_set=set(self.model_fields_set), **{**dict(self), **unsaid}
        )


def parse(raw: Mapping[str, Any]) -> Hyperparameters:
    """Validate hyperparameters from the platform, an SDK or the command line.

    Args:
        raw: name → value, as a string or already typed.

    Raises:
        UserError: at least one name or value is wrong; the message lists every error.
    """
    try:
        return _validated(raw)
    except ValidationError as error:
        # A value that is neither of two things is two faults to pydantic.
        sentences = dict.fromkeys(parsing.sentence(fault, Hyperparameters) for fault in error.errors())
        raise UserError("; ".join(sentences)) from error


def faults(raw: Mapping[str, Any]) -> list[str]:
    """Return a sentence on each hyperparameter whose name or value is wrong, whatever the others are."""
    try:
        _validated(raw)
    except ValidationError as error:
        own = (fault for fault in error.errors() if fault["loc"])
        return list(dict.fromkeys(parsing.sentence(fault, Hyperparameters) for fault in own))
    return []


def _validated(raw: Mapping[str, Any]) -> Hyperparameters:
    own = {
        name: parsing.decode(value) for name, value in raw.items() if not name.startswith(PLATFORM_PREFIXES)
    }
    # Some launchers send an empty string for a hyperparameter that was not set.
    return Hyperparameters.model_validate({k: v for k, v in own.items() if v is not None and v != ""})


def markdown_table(group: type[Knobs] = Hyperparameters) -> str:
    """A Markdown table for docs/reference/hyperparameters.md, with one row for each hyperparameter of ``group``."""
    rows = ["| hyperparameter | default | accepts | meaning |", "| --- | --- | --- | --- |"]
    for name, field in group.model_fields.items():
        default = "–" if field.default is None else f"`{str(field.default).lower()}`"
        rows.append(f"| `{name}` | {default} | {parsing.expectation(field)} | {field.description} |")
    return "\n".join(rows)
