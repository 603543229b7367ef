"""What readers of tables make of hostile CSV files: rightly read, left as text, silently read wrongly, or refused.

    python -m venv PEERS && PEERS/bin/pip install skrub polars pyarrow      # not dependencies of this project
    python -m benchmarks.readers --peers PEERS/bin/python                   # ten draws of each trouble
    python -m benchmarks.readers --peers PEERS/bin/python --time            # and seconds for a CSV file of 100 MB

Each table has a label called `label`, a number, a category and one trouble. *right*: the trouble's column is what it
was written from, every value, with all rows and labels; or it is left out, where it is an identifier; or the file is
refused, where it allows two readings. *text*: numbers or dates are handed on as texts. *wrong*: other values,
other rows, other labels, or an identifier among the features. *refused*: an error, where there is one reading.

pandas guesses the separator (`sep=None`), polars parses dates, and skrub cleans what pandas has read; all else is as
they are by default. For skrub's TableVectorizer the kinds are those by which it encodes.
"""

import argparse
import csv
import io
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from subset_trainer.data.formats.format import Options
from subset_trainer.data.formats.reading import read
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.errors import UserError

ROWS, DRAWS, MEMORY = 120, 10, 4 << 30
OURS = "subset-trainer"
VERDICTS = ("right", "text", "wrong", "refused")
_PEERS = Path(__file__).with_name("readers_peers.py")
Draw = np.random.Generator


@dataclass(frozen=True)
class Hostile:
    """A file and the truth about it.

    `kind`: what the column `planted` is: number, date or text, "none" if it is to be left out, or "open" if it allows
    two readings. `values`: its true values. `labels`: those of the rows. `content`: the file.
    """

    kind: str
    values: list[Any]
    labels: list[str]
    content: bytes


def table(
    draw: Draw,
    planted: Sequence[str],
    kind: str,
    values: Sequence[Any],
    labels: Sequence[str] | None = None,
    separator: str = ",",
    name: str = "planted",
) -> Hostile:
    """A table of the planted column, a number, a category and the label."""
    labels = labels or ["yes" if one else "no" for one in draw.integers(0, 2, ROWS)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow((name, "size", "colour", "label"))
    colours = draw.choice(["red", "green", "blue"], ROWS)
    sizes = [str(one) for one in draw.integers(1, 90, ROWS)]
    writer.writerows(zip(planted, sizes, colours, labels, strict=True))
    return Hostile(kind, list(values), list(labels), text.getvalue().encode())


def plain(draw: Draw) -> Hostile:
    values = draw.normal(0, 9, ROWS).round(3).tolist()
    return table(draw, [str(one) for one in values], "number", values)


def row_numbers(draw: Draw) -> Hostile:
    return table(draw, [str(row) for row in range(ROWS)], "none", [], name="Unnamed: 0")


def identifiers(draw: Draw) -> Hostile:
    return table(
        draw, [f"CUST-{one:06}" for one in draw.permutation(10**6)[:ROWS]], "none", [], name="customer_id"
    )


def postal_codes(draw: Draw) -> Hostile:
    known = [f"{one:05}" for one in (*draw.integers(0, 10_000, 4), *draw.integers(10_000, 99_999, 6))]
    values = draw.choice(known, ROWS).tolist()
    values[0] = known[0]
    return table(draw, values, "text", values)


def coded_labels(draw: Draw) -> Hostile:
    labels = draw.choice(["01", "02"], ROWS).tolist()
    return table(draw, ["1.5"] * ROWS, "number", [1.5] * ROWS, labels)


def large_labels(draw: Draw) -> Hostile:
    labels = draw.choice(["9007199254740992", "9007199254740993"], ROWS).tolist()
    return table(draw, ["1.5"] * ROWS, "number", [1.5] * ROWS, labels)


def decimal_commas(draw: Draw) -> Hostile:
    values = draw.normal(0, 9, ROWS).round(2).tolist()
    return table(draw, [f"{one:.2f}".replace(".", ",") for one in values], "number", values, separator=";")


def thousands(draw: Draw) -> Hostile:
    values = draw.uniform(10, 90_000, ROWS).round(2).tolist()
    return table(draw, [f"{one:,.2f}" for one in values], "number", values)


def currency(draw: Draw) -> Hostile:
    values = draw.uniform(10, 90_000, ROWS).round(2).tolist()
    return table(draw, [f"${one:,.2f}" for one in values], "number", values)


def percents(draw: Draw) -> Hostile:
    values = draw.integers(0, 100, ROWS).tolist()
    return table(draw, [f"{one}%" for one in values], "number", values)


def words_for_missing(draw: Draw) -> Hostile:
    word = str(draw.choice(["unknown", "#DIV/0!", "not given", "-"]))
    ages = draw.normal(40, 9, ROWS).round(1).tolist()
    gaps = draw.random(ROWS) < 0.1
    values = [None if gap or row < 2 else age for row, (gap, age) in enumerate(zip(gaps, ages, strict=True))]
    return table(draw, [word if one is None else f"{one:.1f}" for one in values], "number", values)


def days(draw: Draw, form: str, kind: str = "date", span: int = 900) -> Hostile:
    values = [date(2021, 1, 1) + timedelta(int(one)) for one in draw.integers(0, span, ROWS)]
    values[0] = date(2021, 1, 25) if span > 30 else values[0]
    return table(draw, [one.strftime(form) for one in values], kind, [one.isoformat() for one in values])


def day_first(draw: Draw) -> Hostile:
    return days(draw, str(draw.choice(["%d.%m.%Y", "%d/%m/%Y"])))


def month_first(draw: Draw) -> Hostile:
    return days(draw, "%m/%d/%Y")


def dates_of_two_readings(draw: Draw) -> Hostile:
    return days(draw, str(draw.choice(["%d/%m/%Y", "%m/%d/%Y"])), "open", span=12)


def mixed_dates(draw: Draw) -> Hostile:
    first, second = days(draw, "%d/%m/%Y"), days(draw, "%m/%d/%Y")
    pairs = zip(first.content.split(b"\n"), second.content.split(b"\n"), strict=True)
    lines = [one if at % 2 else other for at, (one, other) in enumerate(pairs)]
    some = zip(first.labels, second.labels, first.values, second.values, strict=True)
    mixed = [(a, c) if at % 2 else (b, d) for at, (a, b, c, d) in enumerate(some, 1)]
    return Hostile("open", [value for _, value in mixed], [label for label, _ in mixed], b"\n".join(lines))


def numbers_of_two_readings(draw: Draw) -> Hostile:
    values = draw.integers(1_000, 999_999, ROWS)
    return table(draw, [f"{one:,}" for one in values], "open", values.tolist())


def excels_first_line(draw: Draw) -> Hostile:
    values = draw.normal(0, 9, ROWS).round(3).tolist()
    made = table(draw, [str(one) for one in values], "number", values, separator=";")
    return replace(made, content=b"sep=;\n" + made.content)


def titles(draw: Draw) -> Hostile:
    made = plain(draw)
    return replace(made, content=b"Sales of 2024\ncreated by a person\n" + made.content)


def repeated_headers(draw: Draw) -> Hostile:
    made = plain(draw)
    lines = made.content.splitlines()
    return replace(
        made, content=b"\n".join([*lines[:50], lines[0], *lines[50:90], lines[0], *lines[90:]]) + b"\n"
    )


def utf_16(draw: Draw) -> Hostile:
    made = plain(draw)
    return replace(made, content=made.content.decode().encode("utf-16"))


def more_fields_than_names(draw: Draw) -> Hostile:
    made = plain(draw)
    header, *rows = made.content.splitlines()
    return replace(made, content=b"\n".join([header, *[row + b"," for row in rows]]) + b"\n")


TROUBLES: tuple[Callable[[Draw], Hostile], ...] = (
    *(
        plain,
        row_numbers,
        identifiers,
        postal_codes,
        coded_labels,
        large_labels,
        decimal_commas,
        thousands,
        currency,
    ),
    *(percents, words_for_missing, day_first, month_first, dates_of_two_readings, mixed_dates),
    *(numbers_of_two_readings, excels_first_line, titles, repeated_headers, utf_16, more_fields_than_names),
)
Columns = Mapping[str, Sequence[Any]]


def ours(folder: Path) -> Columns | None:
    """What this project makes of a table, as readers_peers writes it; None: it is refused."""
    try:
        source: Any = read(open_channel("training", folder), Options(), MEMORY).source
    except UserError:
        return None
    found: dict[str, Sequence[Any]] = {"label": ["text", [source.classes[one] for one in source.labels]]}
    for name, values in zip(source.names, source.columns, strict=True):
        kind = {"O": "text", "M": "date"}.get(values.dtype.kind, "number")
        found[name] = [kind, [str(one) if kind == "date" else one for one in values.tolist()]]
    return found


def verdict(truth: Hostile, found: Columns | None) -> str:
    """One of VERDICTS."""
    if found is None:
        return "right" if truth.kind == "open" else "refused"
    if "label" not in found or [str(one) for one in found["label"][1]] != truth.labels:
        return "wrong"
    names = [name for name in found if name not in ("size", "colour", "label")]
    if truth.kind == "none":
        return "wrong" if names else "right"
    if names != ["planted"]:
        return "wrong"
    kind, values = found["planted"]
    expected = {"open": "date" if isinstance(truth.values[0], str) else "number"}.get(truth.kind, truth.kind)
    if kind == "text" != expected:
        return "text"
    return "right" if kind == expected and all(map(_same, values, truth.values)) else "wrong"


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, str) and isinstance(one, str):
        return one == other or one[:10] == other == str(_day(one))
    missing = one is None or (isinstance(one, float) and math.isnan(one))
    return missing if other is None else not missing and not isinstance(one, str) and math.isclose(one, other)


def _day(text: str) -> date | None:
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        return None


def counted(folder: Path, draws: int, peers: str | None) -> dict[str, dict[str, Counter[str]]]:
    """trouble → reader → number of tables by verdict."""
    truths: dict[str, tuple[str, Hostile]] = {}
    for trouble in TROUBLES:
        for seed in range(draws):
            place = folder / f"{trouble.__name__}-{seed}"
            place.mkdir()
            made = trouble(np.random.default_rng(seed))
            (place / "t.csv").write_bytes(made.content)
            truths[str(place)] = trouble.__name__, made
    found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for name, (trouble_name, made) in truths.items():
        found[trouble_name][OURS][verdict(made, ours(Path(name)))] += 1
    for line in _of_peers(peers, list(truths)) if peers else ():
        trouble_name, made = truths[line["folder"]]
        found[trouble_name][line["peer"]][verdict(made, line.get("columns"))] += 1
    return found


def _of_peers(python: str, arguments: list[str]) -> list[dict[str, Any]]:
    done = subprocess.run([python, str(_PEERS), *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def shown(found: Mapping[str, Mapping[str, Counter[str]]]) -> str:
    """A table in Markdown: the counts of each verdict."""
    readers = list(found["plain"])
    lines = [f"| trouble | {' | '.join(readers)} |", f"| --- |{' --- |' * len(readers)}"]
    for trouble, by_reader in found.items():
        cells = [_counts(by_reader[name]) for name in readers]
        lines.append(f"| {trouble.replace('_', ' ')} | {' | '.join(cells)} |")
    totals = [sum((found[trouble][name] for trouble in found), Counter[str]()) for name in readers]
    return "\n".join([*lines, f"| **all** | {' | '.join(map(_counts, totals))} |"])


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{found[one]} {one}" for one in VERDICTS if found[one])


def timed(folder: Path, peers: str | None) -> str:
    """Seconds for a CSV file of 100 MB: nine columns of numbers, one of texts and a label."""
    file = folder / "large" / "t.csv"
    file.parent.mkdir()
    draw = np.random.default_rng(0)
    with file.open("w") as opened:
        opened.write(f"city,{','.join(f'x{n}' for n in range(9))},label\n")
        while opened.tell() < 100_000_000:
            for row in draw.normal(size=(20_000, 9)).tolist():
                city = ("Rome", "Oslo", "Bern")[int(row[0] > 0)]
                opened.write(f"{city},{','.join(f'{one:.5f}' for one in row)},{int(row[1] > 0)}\n")
    lines = ["| reader | CPU time, s | wall time, s |", "| --- | ---: | ---: |"]
    cpu, wall = time.process_time(), time.perf_counter()
    ours(file.parent)
    lines.append(f"| {OURS} | {time.process_time() - cpu:.1f} | {time.perf_counter() - wall:.1f} |")
    for line in _of_peers(peers, ["--time", str(file)]) if peers else ():
        lines.append(f"| {line['peer']} | {line['cpu']:.1f} | {line['wall']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Readers of tables beside each other")
    parser.add_argument("--peers", help="the Python of an environment with skrub, polars and pyarrow")
    parser.add_argument("--draws", type=int, default=DRAWS, help="tables of each trouble")
    parser.add_argument("--time", action="store_true", help="read a CSV file of 100 MB, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(shown(counted(Path(folder), given.draws, given.peers)), flush=True)
        if given.time:
            print(f"\n{timed(Path(folder), given.peers)}")


if __name__ == "__main__":
    main()
