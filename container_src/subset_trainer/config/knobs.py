"""The base class and the common types of the groups of hyperparameters."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from subset_trainer.config import parsing

Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Knobs(BaseModel):
    """A group of hyperparameters. Immutable; unknown names are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _choices_in_any_spelling(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            name: parsing.canonical(value, cls.model_fields[name]) if name in cls.model_fields else value
            for name, value in given.items()
        }
