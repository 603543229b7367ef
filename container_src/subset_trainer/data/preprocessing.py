"""What is learned from the training examples and needed again at inference: classes, sizes, means, categories."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

CYCLES = {"year": 365.2425, "week": 7.0, "day": 1.0}
"""What comes again in dates, and after how many days."""


@dataclass(frozen=True)
class Column:
    """One feature column of a table.

    numeric: the encoded value is (value - mean) / std. date: the same of the days since 1970 began (UTC), then the
    sine and cosine of 2π · days / period for each of `cycles`. Of both: with `missing` a last column is 1 where there
    is no value, which then counts as the mean, and its sines and cosines as 0. categorical: one column of zeros and
    ones a category, in the order of `categories`, of which '' is a missing text; a category that is not listed becomes
    all zeros. empty: no column, because training had no value.
    """

    name: str
    kind: Literal["numeric", "categorical", "date", "empty"]
    mean: float = 0.0
    std: float = 1.0
    categories: tuple[str, ...] = ()
    missing: bool = False
    cycles: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Encoded columns that this column becomes."""
        if self.kind in ("categorical", "empty"):
            return len(self.categories)
        return 1 + 2 * len(self.cycles) + self.missing


@dataclass(frozen=True)
class Preprocessing:
    """Everything learned from training data that inference needs.

    image: `image_size` is (height, width) in pixels; `mean` and `std` are per channel (red, green, blue), of values
    scaled to 0..1; batches stay uint8, so whoever feeds the model normalises. table: `columns` in the order of the
    encoded inputs; batches are encoded already. `header` tells whether the training files had a header,
    `label_column` is the label's name there (its 0-based position as text where there was none), `label_index` its
    position.
    """

    kind: Literal["image", "table"]
    classes: tuple[str, ...]
    image_size: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    columns: tuple[Column, ...] = ()
    header: bool = False
    label_column: str | None = None
    label_index: int = 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: (3, height, width) or (encoded columns,)."""
        if self.image_size is not None:
            return (3, *self.image_size)
        return (sum(column.width for column in self.columns),)

    def to_json(self) -> dict[str, Any]:
        """Plain values that survive JSON; `from_json` gives an equal object back."""
        fields = asdict(self)
        names: tuple[str, ...]
        if self.kind == "image":
            names = ("kind", "classes", "image_size", "mean", "std")
        else:
            names = ("kind", "classes", "columns", "header", "label_column", "label_index")
            fields["columns"] = [_column_to_json(column) for column in self.columns]
        return {
            name: list(fields[name]) if isinstance(fields[name], tuple) else fields[name] for name in names
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_json`; KeyError or TypeError on anything else."""
        fields = dict(value)
        for name in ("classes", "mean", "std", "image_size"):
            if fields.get(name) is not None:
                fields[name] = tuple(fields[name])
        fields["columns"] = tuple(
            Column(
                **{**column, **{name: tuple(column.get(name, ())) for name in ("categories", "cycles")}},
            )
            for column in fields.get("columns", ())
        )
        return cls(**fields)


def _column_to_json(column: Column) -> dict[str, Any]:
    names = {"categorical": ("categories",), "empty": (), "numeric": ("mean", "std", "missing")}.get(
        column.kind, ("mean", "std", "missing", "cycles")
    )
    return {
        "name": column.name,
        "kind": column.kind,
        **{
            name: list(value) if isinstance(value := getattr(column, name), tuple) else value
            for name in names
        },
    }
