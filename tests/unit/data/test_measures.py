"""Numbers with units, times and dates as people and programs write them: read, or refused where that is open."""

import json
from collections.abc import Callable, Sequence
from datetime import date, time, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from subset_trainer.data import load_splits, overview
from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.tables.interpret import Rules
from subset_trainer.data.tables.table import Table
from subset_trainer.data.understanding import Decision, OpenDecisionsError
from tests.kinds import table_kind

ROWS = 90
DRAW = np.random.default_rng(21)
V = DRAW.normal(60, 15, ROWS).round(2).tolist()
DAYS = [date(2019, 1, 1) + timedelta(int(n)) for n in DRAW.integers(0, 1_500, ROWS)]
LABELS = ["ab"[n] for n in DRAW.integers(0, 2, ROWS)]


def write(root: Path, name: str, cells: Sequence[str], channel: str = "training") -> Path:
    folder = root / channel
    folder.mkdir()
    rows = ['"' + cell.replace('"', '""') + f'",{n * 7 % 31},{LABELS[n]}' for n, cell in enumerate(cells)]
    (folder / "a.csv").write_text("\n".join([f"{name},n,label", *rows]) + "\n", encoding="utf-8")
    return folder


def table(folder: Path, rules: Rules | None = None) -> Table:
    options = Options(columns=rules or Rules())
    source = read(open_channel("training", folder), options, 1 << 30).source
    assert isinstance(source, Table)
    return source


def decision(source: Table, name: str) -> Decision:
    return next(one for one in source.decisions if one.name == name)


@pytest.mark.parametrize(
    ("form", "unit"),
    [
        ("{:.2f} kg", "kg"),
        ("{:.2f}cm", "cm"),
        ("{:.2f} °C", "°C"),
        ("{:.2f}°", "°"),
        ("{:.2f} km/h", "km/h"),
        ("{:.2f} m²", "m²"),
        ("{:.2f} sq ft", "sq ft"),
        ("{:.2f} years", "year"),
    ],
)
def test_numbers_in_one_unit_are_numbers_in_files_and_requests(tmp_path: Path, form: str, unit: str) -> None:
    cells = [form.format(value) for value in V]
    for channel in ("training", "validation"):
        write(tmp_path, "size", cells, channel)
    source = table(tmp_path / "training")
    assert source.columns[0].tolist() == V
    assert decision(source, "size").reason.endswith(f"in {unit}")
    splits = load_splits({name: tmp_path / name for name in ("training", "validation")})
    kind = table_kind(splits.preprocessing)
    (inputs,) = kind.batches(
        json.dumps({"size": cells[5], "n": 0}).encode(), "application/json", "application/json"
    )
    assert inputs[0, 0] == pytest.approx((V[5] - np.mean(V)) / np.std(V), abs=1e-5)


@pytest.mark.parametrize(
    ("forms", "said"),
    [
        (("{:.1f} kg", "{:.1f} g"), "several units (g, kg)"),
        (("{:.1f}k", "{:.1f}M"), "several units (M, k)"),
        (("${:.2f}", "€{:.2f}"), "several units ($, €)"),
        (("{:.2f} USD", "{:.2f} EUR"), "several units (EUR, USD)"),
        (("{:.1f}%", "{:.3f}"), "several units (none, %)"),
        (("{:.0f}/80", "{:.0f}/70"), "several numbers"),
        (("{:.0f}x20", "{:.1f}x20"), "several numbers"),
        (("[{0}, {0}]", "[{0}]"), "lists or objects"),
        (('{{"a": {0}}}', '{{"b": {0}}}'), "lists or objects"),
    ],
)
def test_numbers_that_cannot_be_compared_are_refused_and_what_is_named_settles_it(
    tmp_path: Path, forms: tuple[str, str], said: str
) -> None:
    folder = write(tmp_path, "size", [forms[n % 2].format(value) for n, value in enumerate(V)])
    with pytest.raises(OpenDecisionsError) as error:
        table(folder)
    assert said in str(error.value)
    assert overview.settings(error.value.decisions) == ["ignore_columns=size"]
    assert table(folder, Rules(ignored=("size",))).names == ("n",)
    assert table(folder, Rules(kept=("size",))).columns[0].dtype == object


@pytest.mark.parametrize(
    "cells",
    [
        [f"{n % 9}{'ABC'[n % 3]}" for n in range(ROWS)],
        [f"{10 * (n % 5)}-{10 * (n % 5) + 10}" for n in range(ROWS)],
        [("1st", "2nd", "3rd")[n % 3] for n in range(ROWS)],
        [("16:9", "4:3", "1:1")[n % 3] for n in range(ROWS)],
        [("36 months", "60 months")[n % 2] for n in range(ROWS)],
    ],
)
def test_few_texts_with_numbers_and_codes_are_categories(tmp_path: Path, cells: list[str]) -> None:
    assert decision(table(write(tmp_path, "seat", cells)), "seat").taken == "category"


def test_names_with_digits_are_a_header(tmp_path: Path) -> None:
    folder = tmp_path / "training"
    folder.mkdir()
    rows = [f"{V[n]},{n * 7 % 31},{LABELS[n]}" for n in range(ROWS)]
    (folder / "a.csv").write_text("\n".join(["1stFlrSF,2ndFlrSF,label", *rows]) + "\n")
    assert table(folder).names == ("1stFlrSF", "2ndFlrSF")


# Times


@pytest.mark.parametrize(
    ("form", "of_minutes"),
    [
        ("{h}:{m:02}", lambda n: n),
        ("{h:02}:{m:02}", lambda n: n),
        ("{h:02}:{m:02}:00", lambda n: 60 * n),
        ("{half}:{m:02} {noon}", lambda n: n),
        ("{half}:{m:02}{noon}", lambda n: n),
    ],
)
def test_times_are_numbers(tmp_path: Path, form: str, of_minutes: Callable[[int], int]) -> None:
    minutes = DRAW.integers(0, 1_440, ROWS).tolist()
    cells = [
        form.format(h=n // 60, m=n % 60, half=n // 60 % 12 or 12, noon="pm" if n >= 720 else "AM")
        for n in minutes
    ]
    assert table(write(tmp_path, "at", cells)).columns[0].tolist() == [of_minutes(n) for n in minutes]


def test_times_of_parquet_are_those_of_csv(tmp_path: Path) -> None:
    minutes = DRAW.integers(0, 1_440, ROWS).tolist()
    write(tmp_path, "at", [f"{n // 60:02}:{n % 60:02}:00" for n in minutes], "csv")
    (tmp_path / "parquet").mkdir()
    columns = {"at": [time(n // 60, n % 60) for n in minutes], "n": list(range(ROWS)), "label": LABELS}
    pq.write_table(pa.table(columns), tmp_path / "parquet" / "a.parquet")
    csv, parquet = table(tmp_path / "csv"), table(tmp_path / "parquet")
    assert csv.columns[0].tolist() == parquet.columns[0].tolist() == [60 * n for n in minutes]


# Dates

MONTHS = {
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
}


@pytest.mark.parametrize(
    "cells",
    [
        [day.strftime("%Y%m%d") for day in DAYS],
        [day.strftime("%a, %d %b %Y 00:00:00 +0000") for day in DAYS],
        [day.strftime("%a %b %d 00:00:00 +0000 %Y") for day in DAYS],
        [f"{day.day} de {MONTHS['es'].split()[day.month - 1]} de {day.year}" for day in DAYS],
        *(
            [f"{day.day}. {names.split()[day.month - 1]} {day.year}" for day in DAYS]
            for names in MONTHS.values()
        ),
    ],
)
def test_dates_of_programs_and_countries_are_dates(tmp_path: Path, cells: list[str]) -> None:
    source = table(write(tmp_path, "when", cells))
    assert source.columns[0].astype("datetime64[D]").tolist() == DAYS
    assert decision(source, "when").reason.startswith(f"from {min(DAYS)} to {max(DAYS)}")


def test_compact_dates_are_read_alike_in_other_channels_and_requests(tmp_path: Path) -> None:
    cells = [day.strftime("%Y%m%d") for day in DAYS]
    for channel in ("training", "validation"):
        write(tmp_path, "when", cells, channel)
    splits = load_splits({name: tmp_path / name for name in ("training", "validation")})
    kind = table_kind(splits.preprocessing)
    assert kind.columns[0].kind == "date"
    found = [
        next(
            iter(
                kind.batches(
                    json.dumps({"when": value, "n": 3}).encode(), "application/json", "application/json"
                )
            )
        )
        for value in (cells[0], int(cells[0]), DAYS[0].isoformat())
    ]
    assert all(np.array_equal(one, found[0]) for one in found)


def test_numbers_of_eight_digits_are_numbers(tmp_path: Path) -> None:
    cells = [str(20_190_000 + 13 * (n % 40)) for n in range(ROWS)]
    assert table(write(tmp_path, "when", cells)).columns[0].dtype == np.float64
    other = tmp_path / "other"
    other.mkdir()
    days = [day.strftime("%Y%m%d") for day in DAYS]
    assert table(write(other, "when", days), Rules(kept=("when",))).columns[0].dtype == np.float64


def test_a_zero_date_is_missing(tmp_path: Path) -> None:
    cells = ["0000-00-00" if n % 9 == 0 else day.isoformat() for n, day in enumerate(DAYS)]
    assert np.isnat(table(write(tmp_path, "when", cells)).columns[0]).sum() == 10


# Texts that are none


def test_telephone_numbers_are_no_free_text(tmp_path: Path) -> None:
    cells = [f"+49 170 {n}" for n in DRAW.permutation(9_000_000)[:ROWS] + 1_000_000]
    assert decision(table(write(tmp_path, "phone", cells)), "phone").taken == "identifier"


@pytest.mark.parametrize("word", ["这部电影真的很好看", "とても良い映画でした", "หนังเรื่องนี้ดีมาก"])
def test_texts_of_scripts_without_blanks_are_texts(tmp_path: Path, word: str) -> None:
    source = table(write(tmp_path, "said", [f"{word}{n}" for n in range(ROWS)]))
    assert source.text_columns == ("said",)


# Numbers that stand for a missing value


@pytest.mark.parametrize("stand_in", ["-999", "-99", "9999", "-9999.0"])
def test_a_number_far_from_all_others_is_said_to_be_perhaps_missing(tmp_path: Path, stand_in: str) -> None:
    cells = [stand_in if n % 9 == 0 else f"{value / 4:.2f}" for n, value in enumerate(V)]
    reason = decision(table(write(tmp_path, "heat", cells)), "heat").reason
    assert reason.endswith(f"in 10 rows, may be missing (missing_values={float(stand_in):.0f})")


def test_a_nine_among_its_like_is_a_number(tmp_path: Path) -> None:
    cells = ["99" if n % 9 == 0 else f"{value:.2f}" for n, value in enumerate(V)]
    assert "missing" not in decision(table(write(tmp_path, "heat", cells)), "heat").reason
