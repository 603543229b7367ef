"""docs/reference/reliability.md and the tests that it names do not drift apart."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = "tests/functional/test_faults.py"
TABLES = re.findall(
    r"^\| fault \|.*\n\| --- .*\n((?:\|.*\n)+)",
    (ROOT / "docs/reference/reliability.md").read_text(encoding="utf-8"),
    re.M,
)
ROWS = [line for table in TABLES for line in table.splitlines()]
NAME = re.compile(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`")


def named(row: str) -> set[tuple[str, str]]:
    return {(file or HERE, test) for file, test in NAME.findall(row.rsplit("|", 2)[1])}


def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_every_row_names_tests_that_there_are(row: str) -> None:
    assert named(row)
    assert [f"{file}::{test}" for file, test in named(row) if test not in functions(file)] == []


def test_every_test_of_faults_has_its_row() -> None:
    in_table = {test for row in ROWS for file, test in named(row) if file == HERE}
    assert functions(HERE) == in_table
