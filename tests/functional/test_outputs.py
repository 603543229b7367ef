"""docs/reference/outputs.md names every file that a job leaves, and every key in it."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.documentation import ROOT
from tests.functional.conftest import Job

PAGE = (ROOT / "docs/reference/outputs.md").read_text(encoding="utf-8")
ONLY_SOMETIMES = {"encoder"}
"""Keys of other kinds of data."""


def named(heading: str, table: int = 0) -> set[str]:
    """The names in the first column of a table below a heading."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[table].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """What a job has left that was given a test channel and asked for explanations."""
    job = Job(tmp_path_factory.mktemp("outputs"))
    for channel in ("training", "test"):
        job.link_channel(channel, digits / channel)
    job.run({"model": "cnn", "epochs": 2, "fraction": 0.1, "select_every": 2, "report": True, "explain": 1})
    assert job.exit_code == 0, job.log
    return job.base


def test_every_file_is_named(done: Path) -> None:
    left = {
        re.sub(r"\d{4}", "NNNN", str(path.relative_to(done)))
        for folder in ("model", "output")
        for path in (done / folder).rglob("*")
        if path.is_file()
    }
    (table,) = re.findall(r"^\| file \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert left <= set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE))


def test_the_keys_of_the_json_files(done: Path) -> None:
    data = done / "output/data"
    rows = [json.loads(line) for line in (data / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {name for row in rows for name in row} == named("history.jsonl") - {"validation:auc"}
    assert set(json.loads((data / "summary.json").read_text(encoding="utf-8"))) == named("summary.json") - {
        "answer"
    }
    model = json.loads((done / "model/model.json").read_text(encoding="utf-8"))
    assert set(model) == named("model.json") - ONLY_SOMETIMES
    explained = json.loads((data / "explanations.json").read_text(encoding="utf-8"))
    assert set(explained) == named("explanations.json")
    assert set(explained["examples"][0]) == named("explanations.json", 1)


def test_the_columns_of_the_examples(done: Path) -> None:
    columns = pq.read_schema(done / "output/data/examples.parquet").names
    assert set(columns) == named("examples.parquet")
