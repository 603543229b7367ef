"""The benchmark of readers: its tables are read rightly or refused here, and its verdicts are those that it says."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import readers
from benchmarks.readers import Hostile


@pytest.mark.parametrize("trouble", readers.TROUBLES)
def test_no_table_is_read_wrongly_or_left_as_text(tmp_path: Path, trouble: object) -> None:
    assert callable(trouble)
    for seed in range(3):
        made = trouble(np.random.default_rng(seed))
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / "t.csv").write_bytes(made.content)
        expected = {"refused"} if trouble is readers.more_fields_than_names else {"right"}
        assert readers.verdict(made, readers.ours(tmp_path / str(seed))) in expected


LABELS = ["yes", "no"]
LABEL = {"label": ["text", LABELS]}
NUMBERS = Hostile("number", [1.5, None], LABELS, b"")
DATES = Hostile("date", ["2024-01-31", "2024-02-01"], LABELS, b"")
NOTHING = Hostile("none", [], LABELS, b"")
OPEN = Hostile("open", [1234, 5678], LABELS, b"")


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        (NUMBERS, {**LABEL, "planted": ["number", [1.5, float("nan")]]}, "right"),
        (NUMBERS, {**LABEL, "planted": ["number", [1.5, 0.0]]}, "wrong"),
        (NUMBERS, {**LABEL, "planted": ["text", ["1,5", ""]]}, "text"),
        (NUMBERS, {"label": ["number", [1, 0]], "planted": ["number", [1.5, None]]}, "wrong"),
        (NUMBERS, {**LABEL, "other": ["number", [1.5, None]]}, "wrong"),
        (NUMBERS, None, "refused"),
        (DATES, {**LABEL, "planted": ["date", ["2024-01-31T00:00:00", "2024-02-01T00:00:00"]]}, "right"),
        (DATES, {**LABEL, "planted": ["date", ["2024-01-31T00:00:00", "2024-01-02T00:00:00"]]}, "wrong"),
        (NOTHING, LABEL, "right"),
        (NOTHING, {**LABEL, "planted": ["number", [0, 1]]}, "wrong"),
        (OPEN, None, "right"),
        (OPEN, {**LABEL, "planted": ["number", [1.234, 5.678]]}, "wrong"),
    ],
)
def test_verdicts(truth: Hostile, found: readers.Columns | None, expected: str) -> None:
    assert readers.verdict(truth, found) == expected


def test_the_counts_are_one_table(tmp_path: Path) -> None:
    page = readers.shown(readers.counted(tmp_path, 1, None)).splitlines()
    assert page[0] == "| trouble | subset-trainer |"
    assert len(page) == len(readers.TROUBLES) + 3
    assert page[-1] == f"| **all** | {len(readers.TROUBLES) - 1} right, 1 refused |"
