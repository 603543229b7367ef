"""What is learned from the training examples and needed again at inference: classes, sizes, means, categories."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

CYCLES = {"year": 365.2425, "week": 7.0, "day": 1.0}
"""What comes again in dates, and after how many days."""


BUCKETS, MOST_NGRAMS = 1 << 16, 512
"""That texts' n-grams are hashed to, and that one text has."""


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
class Hashing:
    """How a text becomes at most `length` of `buckets` numbers: see :mod:`subset_trainer.data.texts.ngrams`."""

    unit: Literal["word", "character"]
    buckets: int
    length: int


@dataclass(frozen=True)
class Tokens:
    """How a text becomes at most `length` token ids below `vocabulary`: see :mod:`subset_trainer.data.texts.tokens`.

    definition: what the tokenizer.json holds that is saved beside the JSON of all else; digest: its SHA-256.
    """

    length: int
    vocabulary: int
    digest: str
    definition: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Preprocessing:
    """Everything learned from training data that inference needs.

    image: `image_size` is (height, width) in pixels; `mean` and `std` are per channel (red, green, blue), of values
    scaled to 0..1; batches stay uint8, so whoever feeds the model normalises. table: `columns` in the order of the
    encoded inputs; batches are encoded already. `header` tells whether the training files had a header,
    `label_column` is the label's name there (its 0-based position as text where there was none), `label_index` its
    position. text: `hashing` or, for an encoder, `tokens`, with `text_column` and the table's fields where the texts
    stood in one; batches are encoded.
    """

    kind: Literal["image", "table", "text"]
    classes: tuple[str, ...]
    image_size: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    columns: tuple[Column, ...] = ()
    header: bool = False
    label_column: str | None = None
    label_index: int = 0
    hashing: Hashing | None = None
    text_column: str | None = None
    tokens: Tokens | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: (3, height, width), (encoded columns,), (n-grams,) or (tokens,)."""
        if self.tokens is not None:
            return (self.tokens.length,)
        if self.hashing is not None:
            return (self.hashing.length,)
        if self.image_size is not None:
            return (3, *self.image_size)
        return (sum(column.width for column in self.columns),)

    def to_json(self) -> dict[str, Any]:
        """Plain values that survive JSON; `from_json` gives an equal object back, but for a tokenizer's definition."""
        fields = asdict(self)
        names: tuple[str, ...]
        if self.kind == "image":
            names = ("kind", "classes", "image_size", "mean", "std")
        elif self.kind == "text":
            names = ("kind", "classes", "hashing", "text_column", "header", "label_column", "label_index")
            if self.tokens is not None:
                names = tuple("tokens" if name == "hashing" else name for name in names)
                del fields["tokens"]["definition"]
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
        if fields.get("hashing") is not None:
            fields["hashing"] = Hashing(**fields["hashing"])
        if fields.get("tokens") is not None:
            fields["tokens"] = Tokens(**fields["tokens"])
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
