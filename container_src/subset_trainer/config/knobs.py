"""The base class and the common types of the groups of hyperparameters."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Knobs(BaseModel):
    """A group of hyperparameters. Immutable; unknown names are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
