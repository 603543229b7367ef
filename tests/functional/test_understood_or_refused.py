"""Tables with one planted trouble each are read rightly or refused, whatever else is in them."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.tables.table import Table
from subset_trainer.data.texts.labelled import Texts
from subset_trainer.errors import UserError

MEMORY = 1 << 30


@dataclass(frozen=True)
class Planted:
    """A table with the truth about it.

    `labels`: the class of each row. `numbers`: name → the true numbers of a column. `dates`: name → the true days.
    `texts`: name → the true categories. `not_features`: columns that must not be read as inputs. `above`, `encoding`,
    `end`: the lines above the header, and how all are written.
    """

    header: list[str]
    rows: list[list[str]]
    labels: list[str]
    numbers: dict[str, list[float]] = field(default_factory=dict)
    dates: dict[str, list[date]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    not_features: frozenset[str] = frozenset()
    separator: str = ","
    files: int = 1
    above: tuple[str, ...] = ()
    encoding: str = "utf-8"
    end: str = "\n"

    def with_column(self, name: str, values: list[str], at: int) -> "Planted":
        rows = [[*row[:at], value, *row[at:]] for row, value in zip(self.rows, values, strict=True)]
        return replace(self, header=[*self.header[:at], name, *self.header[at:]], rows=rows)

    def write(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        per_file = -(-len(self.rows) // self.files)
        for number in range(self.files):
            text = io.StringIO()
            text.writelines(f"{line}{self.end}" for line in self.above)
            writer = csv.writer(text, delimiter=self.separator, lineterminator=self.end)
            writer.writerows([self.header, *self.rows[number * per_file : (number + 1) * per_file]])
            (root / f"part-{number}.csv").write_bytes(text.getvalue().encode(self.encoding))


def base(seed: int, rows: int, label: str, position: int) -> Planted:
    """Two numbers, a category and a label of two or three classes."""
    draw = np.random.default_rng(seed)
    names = [
        ["no", "yes"],
        ["0", "1"],
        ["a", "b", "c"],
        ["01", "02"],
        ["9007199254740992", "9007199254740993"],
    ]
    classes = names[seed % len(names)]
    labels = [classes[row % len(classes)] for row in draw.permutation(rows)]
    first, second = (draw.normal(0, 3, rows).round(3), draw.uniform(-50, 2_000, rows).round(2))
    colours = [("red", "green", "blue")[n] for n in draw.integers(0, 3, rows)]
    planted = Planted(
        ["alpha", "beta", "colour"],
        [[f"{a:.3f}", f"{b:.2f}", c] for a, b, c in zip(first, second, colours, strict=True)],
        labels,
        {"alpha": first.tolist(), "beta": second.tolist()},
    )
    return planted.with_column(label, labels, position % 4)


Trouble = Callable[[Planted, np.random.Generator], Planted]


def nothing(table: Planted, draw: np.random.Generator) -> Planted:
    return table


def index(table: Planted, draw: np.random.Generator) -> Planted:
    name = ["", "Unnamed: 0", "index", "id", "row_id", "no"][int(draw.integers(6))]
    start = int(draw.integers(0, 2))
    files = int(draw.integers(1, 4))
    per_file = -(-len(table.rows) // files)
    restarts = bool(draw.integers(2))
    values = [str(start + (row % per_file if restarts else row)) for row in range(len(table.rows))]
    if draw.integers(2) and not restarts:
        values = [values[at] for at in draw.permutation(len(values))]
    return replace(table.with_column(name, values, 0), not_features=frozenset((name,)), files=files)


def identifier(table: Planted, draw: np.random.Generator) -> Planted:
    count = len(table.rows)
    values = [
        [f"CUST-{n:06d}" for n in range(count)],
        ["".join(draw.choice(list("0123456789abcdef"), 32)) for _ in range(count)],
        [f"{n}@mail.example" for n in range(count)],
        [f"https://shop.example/item/{n}" for n in range(count)],
        [str(n) for n in draw.permutation(count * 40)[:count] + 100_000],
    ][int(draw.integers(5))]
    return replace(
        table.with_column("customer_id", values, int(draw.integers(5))),
        not_features=frozenset(("customer_id",)),
    )


def decimal_commas(table: Planted, draw: np.random.Generator) -> Planted:
    rows = [
        [
            cell.replace(".", ",") if name in table.numbers else cell
            for name, cell in zip(table.header, row, strict=True)
        ]
        for row in table.rows
    ]
    return replace(table, rows=rows, separator=";" if draw.integers(2) else ",")


def thousands(table: Planted, draw: np.random.Generator) -> Planted:
    grouped, point = [(",", "."), (".", ","), (" ", ","), ("'", ".")][int(draw.integers(4))]
    sign = ["", "$", "€ "][int(draw.integers(3))]
    values = draw.uniform(10, 90_000, len(table.rows)).round(2)
    written = [
        sign + f"{value:,.2f}".replace(",", "G").replace(".", point).replace("G", grouped) for value in values
    ]
    planted = table.with_column("price", written, int(draw.integers(5)))
    return replace(
        planted,
        numbers={**table.numbers, "price": values.tolist()},
        separator=";" if draw.integers(2) else ",",
    )


def whole_thousands(table: Planted, draw: np.random.Generator) -> Planted:
    values = draw.integers(1_000, 999_999, len(table.rows))
    written = [f"{value:,}" for value in values]
    planted = table.with_column("price", written, int(draw.integers(5)))
    return replace(planted, numbers={**table.numbers, "price": [float(value) for value in values]})


def percents(table: Planted, draw: np.random.Generator) -> Planted:
    values = draw.integers(0, 100, len(table.rows))
    planted = table.with_column("share", [f"{value}%" for value in values], int(draw.integers(5)))
    return replace(planted, numbers={**table.numbers, "share": [float(value) for value in values]})


def gaps(table: Planted, draw: np.random.Generator) -> Planted:
    word = ["<NA>", "#N/A", "#DIV/0!", "unknown", "n/a", "NULL", "not given", "fehlt", "-"][
        int(draw.integers(9))
    ]
    values = draw.normal(40, 9, len(table.rows)).round(1)
    absent = draw.random(len(table.rows)) < 0.1
    absent[:2] = True
    written = [word if gap else f"{value:.1f}" for value, gap in zip(values, absent, strict=True)]
    planted = table.with_column("age", written, int(draw.integers(5)))
    return replace(planted, numbers={**table.numbers, "age": np.where(absent, np.nan, values).tolist()})


def foreign_dates(table: Planted, draw: np.random.Generator) -> Planted:
    form = ["%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d-%m-%y", "%d %b %Y", "%b %d, %Y", "%Y-%m-%d"]
    span = [12, 400, 4_000][int(draw.integers(3))]
    days = [date(2021, 1, 1) + timedelta(int(n)) for n in draw.integers(0, span, len(table.rows))]
    written = [day.strftime(form[len(days) % len(form)]) for day in days]
    planted = table.with_column("when", written, int(draw.integers(5)))
    return replace(planted, dates={"when": days})


def mixed_dates(table: Planted, draw: np.random.Generator) -> Planted:
    days = [date(2021, 1, 1) + timedelta(int(n)) for n in draw.integers(0, 700, len(table.rows))]
    written = [day.strftime("%d/%m/%Y" if n % 2 else "%m/%d/%Y") for n, day in enumerate(days)]
    planted = table.with_column("when", written, int(draw.integers(5)))
    return replace(planted, dates={"when": days})


def first_date(table: Planted, draw: np.random.Generator) -> Planted:
    days = [date(2021, 1, 1) + timedelta(int(n)) for n in draw.integers(0, 900, len(table.rows))]
    planted = table.with_column("day", [day.isoformat() for day in days], 0)
    return replace(planted, dates={"day": days})


def empty_columns(table: Planted, draw: np.random.Generator) -> Planted:
    for _ in range(int(draw.integers(1, 4))):
        table = table.with_column("", [""] * len(table.rows), len(table.header))
    return table


def postal_codes(table: Planted, draw: np.random.Generator) -> Planted:
    widths = [(5, 5), (4, 5)][int(draw.integers(2))]
    known = [f"{int(draw.integers(10 ** (width - 1))):0{width}}" for width in widths for _ in range(4)]
    written = [known[n] for n in draw.integers(0, len(known), len(table.rows))]
    planted = table.with_column("zip", written, int(draw.integers(5)))
    return replace(planted, texts={"zip": written})


def lines_above(table: Planted, draw: np.random.Generator) -> Planted:
    separator = ",;\t|"[int(draw.integers(4))]
    empty = separator * (len(table.header) - 1)
    above = [
        (f"sep={separator}",),
        ("Sales of 2024",),
        ("Sales of 2024", "created on 2024-12-31", ""),
        (f"Sales of 2024{empty}", f"2024-12-31{empty}", empty),
        ("# made by a tool", "# version 2"),
        (f"sep={separator}", "Sales", ""),
    ][int(draw.integers(6))]
    encoding = ["utf-8", "utf-8-sig", "utf-16"][int(draw.integers(3))]
    end = ["\n", "\r\n", "\r"][int(draw.integers(3))]
    return replace(table, above=above, encoding=encoding, end=end, separator=separator)


REFUSED: tuple[Trouble, ...] = (whole_thousands, mixed_dates)
"""Troubles that leave two readings."""
TROUBLES: tuple[Trouble, ...] = (
    *(nothing, index, identifier, decimal_commas, thousands, whole_thousands),
    *(postal_codes, lines_above, percents, gaps, foreign_dates, mixed_dates, first_date, empty_columns),
)


def right(table: Planted, found: Table | Texts) -> None:
    """Hold a reading to the truth."""
    assert isinstance(found, Table)
    assert [found.classes[label] for label in found.labels] == table.labels
    assert not table.not_features.intersection(found.names)
    columns = dict(zip(found.names, found.columns, strict=True))
    for name, values in table.numbers.items():
        assert columns[name].dtype == np.float64, name
        np.testing.assert_allclose(columns[name], values)
    for name, days in table.dates.items():
        assert columns[name].dtype.kind == "M", name
        assert columns[name].astype("datetime64[D]").tolist() == days
    for name, texts in table.texts.items():
        assert columns[name].tolist() == texts
    assert columns["colour"].dtype == object


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    trouble=st.sampled_from(TROUBLES),
    seed=st.integers(0, 10_000),
    rows=st.integers(24, 150),
    label=st.sampled_from(["target", "label", "Class", "bought"]),
    position=st.integers(0, 3),
)
def test_a_table_with_one_trouble_is_read_rightly_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    trouble: Trouble,
    seed: int,
    rows: int,
    label: str,
    position: int,
) -> None:
    draw = np.random.default_rng(seed)
    table = trouble(base(seed, rows, label, position), draw)
    root = tmp_path_factory.mktemp("planted")
    table.write(root)
    try:
        found = read(open_channel("training", root), Options(), MEMORY)
    except UserError as error:
        refused = str(error)
        assert refused.startswith("training channel: ")
        assert "set " in refused or "line " in refused, refused
        return
    right(table, found.source)  # type: ignore[arg-type]


@pytest.mark.parametrize("trouble", [trouble for trouble in TROUBLES if trouble not in REFUSED])
def test_most_are_read_rightly(tmp_path: Path, trouble: Trouble) -> None:
    """Refusing everything would hold the test above: with a label's name, only ambiguous dates are refused."""
    refused = []
    for seed in range(20):
        table = trouble(base(seed, 60 + seed, "target", seed), np.random.default_rng(seed))
        table.write(tmp_path / str(seed))
        try:
            found = read(open_channel("training", tmp_path / str(seed)), Options(), MEMORY)
        except UserError as error:
            refused.append(str(error))
        else:
            right(table, found.source)  # type: ignore[arg-type]
    assert all("date_order=" in sentence for sentence in refused)
    assert len(refused) <= 8


@pytest.mark.parametrize(
    ("trouble", "setting", "options"),
    [
        (whole_thousands, "decimal_mark=point", Options(columns=Rules(decimal_mark="point"))),
        (mixed_dates, "ignore_columns=when", Options(columns=Rules(ignored=("when",)))),
    ],
)
def test_what_is_refused_names_the_setting_that_settles_it(
    tmp_path: Path, trouble: Trouble, setting: str, options: Options
) -> None:
    table = trouble(base(3, 80, "target", 1), np.random.default_rng(3))
    table.write(tmp_path)
    with pytest.raises(UserError, match=setting):
        read(open_channel("training", tmp_path), Options(), MEMORY)
    found = read(open_channel("training", tmp_path), options, MEMORY)
    right(replace(table, dates={}), found.source)  # type: ignore[arg-type]
