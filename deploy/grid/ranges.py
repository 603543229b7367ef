"""What a tuning job searches: ranges, lists of values, the objective, the number of jobs. Without SageMaker's SDK."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from deploy.aws.requests import check_name
from subset_trainer.config import hyperparameters
from subset_trainer.errors import UserError
from subset_trainer.tracking.metrics import FORMATS, SPOKEN

LONGEST_NAME = 32
SCALES = {"log": "Logarithmic", "reverse-log": "ReverseLogarithmic", "linear": "Linear", "": "Auto"}
JOBS = 12
MOST, MOST_PARENTS = 30, 5
"""Hyperparameters, and values of one, that SageMaker tunes at most; tuning jobs that it starts from at most."""


@dataclass(frozen=True)
class Listed:
    """Values to choose from."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Between:
    """All numbers from `low` to `high`; whole numbers if both ends are int."""

    low: int | float
    high: int | float
    scale: str
    """SageMaker's name of the scale on which values are drawn."""


Range = Listed | Between


def ranges(texts: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Range]:
    """Parse ranges such as `0.05:0.5`, `0.001:0.1:log` and `glister,rs2`; return hyperparameter → range.

    Args:
        texts: hyperparameter → text of its range.
        settings: values of the other hyperparameters, with which both ends of each range must be valid.

    Raises:
        UserError: a range has another form, or the image would refuse one of its ends.
    """
    found: dict[str, Range] = {}
    if "auto" in (str(settings.get("fraction", "")), *texts.get("fraction", "").split(",")):
        raise UserError(
            "fraction=auto: each job would choose a fraction of its own, so their scores could not be compared; "
            "expected a number, or a range such as fraction=0.05:0.3 (`launch --set fraction=auto` finds it in one job)"
        )
    for name, text in texts.items():
        if name in settings:
            raise UserError(f"{name} is both set and tuned")
        if name not in hyperparameters.Hyperparameters.model_fields:
            hyperparameters.parse({**settings, name: text})  # raises, with the name that was probably meant
        kinds = set(_kinds(hyperparameters.Hyperparameters.model_fields[name].annotation))
        number = int if int in kinds else float if float in kinds else None
        if "," in text:
            ends: Sequence[str] = text.split(",")
            found[name] = Listed(tuple(ends))
        elif number is not None and (match := re.fullmatch(r"([^:]+):([^:]+)(?::(.+))?", text)):
            low, high, scale = match[1], match[2], match[3] or ""
            ends = (low, high)
            hyperparameters.parse({**settings, name: low})
            hyperparameters.parse({**settings, name: high})
            if scale not in SCALES or not number(low) < number(high):
                raise UserError(f"{name}={text}: expected LOW:HIGH or LOW:HIGH:log, the lower end first")
            found[name] = Between(number(low), number(high), SCALES[scale])
        else:
            raise UserError(
                f"{name}={text}: expected values separated by commas"
                + (", or LOW:HIGH, or LOW:HIGH:log" if number is not None else "")
            )
        for end in ends:
            hyperparameters.parse({**settings, name: end})
    return found


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the plain types of a hyperparameter, which may have bounds and alternatives."""
    if get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _kinds(one)
    else:
        yield annotation


def job_count(search: str, tuned: Mapping[str, Range], asked: int | None) -> int:
    """Return the number of training jobs of a search.

    A grid is all combinations of listed values, and SageMaker wants exactly their number.

    Args:
        search: Bayesian, Random, Grid or Hyperband.
        tuned: hyperparameter → range, as returned by `ranges`.
        asked: the number that the user gave; None for the default.

    Raises:
        UserError: a grid has a range of numbers, or another number of combinations than was asked for.
    """
    if search != "Grid":
        return asked or JOBS
    for name, one in tuned.items():
        if isinstance(one, Between):
            raise UserError(
                f"--tune {name}={one.low}:{one.high}: a grid searches listed values alone; expected them "
                f"separated by commas, such as {name}={one.low},{one.high}"
            )
    combinations = math.prod(len(one.values) for one in tuned.values() if isinstance(one, Listed))
    if asked not in (None, combinations):
        raise UserError(f"--jobs {asked}: the grid has {combinations} combinations, and each is one job")
    return combinations


def check_sizes(tuned: Mapping[str, Range], warm_start: Sequence[str]) -> None:
    """Raise UserError for more than SageMaker takes: hyperparameters, listed values, earlier tuning jobs."""
    if len(tuned) > MOST:
        raise UserError(f"--tune: {len(tuned)} hyperparameters, at most {MOST}")
    for name, one in tuned.items():
        if isinstance(one, Listed) and len(one.values) > MOST:
            raise UserError(f"--tune {name}: {len(one.values)} values, at most {MOST}")
    if len(set(warm_start)) > MOST_PARENTS:
        raise UserError(f"--warm-start: {len(set(warm_start))} tuning jobs, at most {MOST_PARENTS}")
    for name in warm_start:
        check_name(name, LONGEST_NAME)


def objective_type(metric: str) -> str:
    """Return `Maximize` or `Minimize` for a metric of the image.

    Raises UserError for any other metric, and for metrics of the test set.
    """
    if metric not in FORMATS or not metric.startswith(("train:", "validation:")):
        known = ", ".join(name for name in FORMATS if name.startswith("validation:"))
        why = (
            ": what is tuned by the test set can no longer be judged by it"
            if metric.startswith("test:")
            else ""
        )
        raise UserError(f"the objective {metric!r}: expected one of {known}{why}")
    return "Maximize" if metric.split(":")[1] in SPOKEN else "Minimize"
