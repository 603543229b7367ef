"""Channels are understood as a job understands them: by the beginnings of files at first, exactly by the whole."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from subset_trainer.data import heads, inspecting, load_splits, overview
from subset_trainer.data.formats.format import Options
from subset_trainer.data.understanding import Decision, OpenDecisionsError, Understanding, refuse_open
from subset_trainer.errors import UserError
from tests.unit.data.test_layout import image, put

ROWS = 20_000
WITHOUT_TORCH = """
import sys
from deploy.__main__ import main
assert main(["inspect", sys.argv[1]]) == 0
print("torch" in sys.modules)
"""


def columns(rows: int = ROWS) -> dict[str, list[object]]:
    draw = np.random.default_rng(0)
    return {
        "number": list(range(rows)),
        "size": draw.normal(size=rows).round(12).tolist(),
        "note": [f'said "{n % 7}",\nthen left' for n in range(rows)],
        "target": draw.choice(["yes", "no"], rows).tolist(),
    }


def write_csv(path: Path, rows: int = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = columns(rows)
    lines = [",".join(values)]
    for number, size, note, target in zip(*values.values(), strict=True):
        quoted = str(note).replace('"', '""')
        lines.append(f'{number},{size},"{quoted}",{target}')
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path.parent


def write_parquet(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns()), path)
    return path.parent


def understand(root: Path, beginnings: bool, **options: str) -> Understanding:
    return inspecting.understand({"training": root}, Options(**options), beginnings=beginnings)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz", "train.parquet"])
def test_the_beginnings_of_a_table_are_read_as_the_whole_is(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "BEGINNING", 1 << 17)
    write = write_parquet if name.endswith("parquet") else write_csv
    root = write(tmp_path / "data" / name)
    first, exact = understand(root, True), understand(root, False)
    assert not first.complete and first.examples is None and 1_000 < sum(first.classes.values()) < ROWS
    assert exact.complete and exact.examples == ROWS == sum(exact.classes.values())
    kinds = [{(d.about, d.name, d.taken) for d in one.decisions} for one in (first, exact)]
    assert kinds[0] == kinds[1]
    assert ("left out", "number", "identifier") in kinds[0]
    # A job takes the same data to be the same.
    assert exact == load_splits({"training": root}).understandings[0]


def test_a_small_channel_is_read_whole_at_once(tmp_path: Path) -> None:
    root = write_csv(tmp_path / "data" / "t.csv", 300)
    first = understand(root, True)
    assert first.complete and first == understand(root, False)


def test_texts_are_read_from_every_folder(tmp_path: Path) -> None:
    for name, count in (("a", heads.MOST_TEXTS), ("b", 700), ("c", 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.txt").write_text("some words")
    first, exact = understand(tmp_path, True), understand(tmp_path, False)
    assert not first.complete and set(first.classes) == {"a", "b", "c"}
    assert exact.classes == {"a": heads.MOST_TEXTS, "b": 700, "c": 1}


def test_a_label_that_changes_further_down_is_found_by_the_whole(tmp_path: Path) -> None:
    """The beginning is of one class alone; nothing is refused before the end is read."""
    (tmp_path / "t.csv").write_text(
        "label,a\n" + "".join(f"{int(n > 190_000)},{n % 7}.5\n" for n in range(200_000))
    )
    assert list(understand(tmp_path, True).classes) == ["0"]
    assert understand(tmp_path, False).classes == {"0": 190_001, "1": 9_999}


def test_every_channel_is_matched_to_training(tmp_path: Path) -> None:
    write_csv(tmp_path / "training" / "t.csv", 300)
    write_csv(tmp_path / "test" / "t.csv", 100)
    channels = inspecting.channels_below(tmp_path)
    assert list(channels) == ["training", "test"]
    training, test = inspecting.understand(channels, Options(), beginnings=False)
    assert (training.examples, test.examples) == (300, 100)
    lines = (tmp_path / "test" / "t.csv").read_text().replace(",yes", ",perhaps")
    (tmp_path / "test" / "t.csv").write_text(lines)
    with pytest.raises(UserError, match=r"'perhaps'.* do not occur in training"):
        inspecting.understand(channels, Options(), beginnings=False)


def test_all_open_decisions_of_a_refusal_come_with_it() -> None:
    decisions = [
        Decision(
            "column", "", "two orders of day and month", "open", "when", setting="date_order=dmy or mdy"
        ),
        Decision("format", "csv", "by its name"),
        Decision(
            "column", "", "'1.234' is 1.234 or 1234", "open", "x", setting="decimal_mark=point or comma"
        ),
    ]
    with pytest.raises(OpenDecisionsError) as error:
        refuse_open("training", decisions)
    assert error.value.decisions == tuple(decisions)
    assert overview.settings(error.value.decisions) == ["date_order=dmy", "decimal_mark=point"]


def test_the_overview_has_fifteen_lines_and_counts_the_rest() -> None:
    several = tuple(Decision("column", f"kind {n}", "so", name=str(n)) for n in range(40))
    training = Understanding("training", "csv", 10, {"a": 5, "b": 5}, several)
    lines = overview.overview([training, Understanding("test", "csv", 5, {"a": 5, "b": 0})])
    assert len(lines) == 15
    assert lines[-1].startswith("test: ") and lines[-2] == "  and 29 further decisions"
    shown = sum(line.startswith("  kind ") for line in lines)
    assert shown == 40 - 29


def test_inspecting_imports_no_torch(tmp_path: Path) -> None:
    for root in (
        write_csv(tmp_path / "csv" / "t.csv", 300),
        write_parquet(tmp_path / "parquet" / "t.parquet"),
    ):
        output = subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, str(root)],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert output.stdout.splitlines()[-1] == "False"


def test_another_channels_class_folders_may_be_spelt_otherwise_as_in_training(tmp_path: Path) -> None:
    for split, names in {"training": ("New York", "rome"), "validation": ("new_york", "Rome")}.items():
        for name in names:
            put(tmp_path / split, {f"{name}/{number}.jpg": image(number) for number in range(3)})
    channels = {name: tmp_path / name for name in ("training", "validation")}
    assert [one.examples for one in inspecting.understand(channels, Options(), beginnings=False)] == [6, 6]
    put(tmp_path / "validation", {"Oslo/0.jpg": image(0)})
    with pytest.raises(UserError, match="the labels 'Oslo' do not occur in training"):
        inspecting.understand(channels, Options(), beginnings=False)
