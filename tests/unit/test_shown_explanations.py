"""`deploy explain RUN`: a finished run's explanations in a terminal."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from deploy.__main__ import main

FOUND: dict[str, Any] = {
    "method": "KernelSHAP",
    "explains": "log-odds of the predicted class",
    "validation_examples": 1200,
    "validation_errors": 31,
    "examples": [
        {
            "id": "t.csv:7",
            "label": "no",
            "predicted": "yes\x1b[2J",
            "probabilities": {"yes\x1b[2J": 0.9, "no": 0.1},
            "parts": [
                {"columns": ["age"], "value": "31", "contribution": -0.25},
                {"columns": ["income"], "value": None, "contribution": 1.5},
                {"columns": ["a", "b", "c"], "value": None, "contribution": 0.5},
                *({"columns": [str(at)], "value": "0", "contribution": 0.01} for at in range(9)),
            ],
        },
        {
            "id": "x.png",
            "label": "no",
            "predicted": "yes",
            "probabilities": {"yes": 0.8, "no": 0.2},
            "parts": [{"place": "upper left", "pixels": 1234, "contribution": 2.0}],
        },
        {
            "id": "x.txt",
            "label": "no",
            "predicted": "yes",
            "probabilities": {"yes": 0.8, "no": 0.2},
            "parts": [{"token": "Wow", "begin": 0, "end": 3, "contribution": -2.0}],
        },
    ],
}
SHOWN = """\
3 of 31 errors in 1,200 validation examples; contributions to the log-odds of the predicted class, by KernelSHAP

t.csv:7: no, taken for yes\\x1b[2J (yes\\x1b[2J 90.0%, no 10.0%)
     +1.50  income
     +0.50  a … c
     -0.25  age = 31
     +0.01  0 = 0
     +0.01  1 = 0
     +0.01  2 = 0
     +0.01  3 = 0
     +0.01  4 = 0

x.png: no, taken for yes (yes 80.0%, no 20.0%)
     +2.00  upper left (1,234 pixels)

x.txt: no, taken for yes (yes 80.0%, no 20.0%)
     -2.00  Wow
"""


@pytest.mark.parametrize("form", ["run", "archive"])
def test_of_a_run_in_each_form(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.dumps(FOUND).encode()
    place = tmp_path / "run"
    if form == "archive":
        place = tmp_path / "output.tar.gz"
        with tarfile.open(place, "w:gz") as archive:
            member = tarfile.TarInfo("data/explanations.json")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    else:
        (place / "output/data").mkdir(parents=True)
        (place / "output/data/explanations.json").write_bytes(content)
    assert main(["explain", str(place)]) == 0
    assert capsys.readouterr().out == SHOWN


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (
            None,
            [],
            "holds no explanations.json: expected the results of a training with explain=N, the number of ",
        ),
        (
            "{}",
            [],
            "explanations.json of '{run}' is damaged ('examples'); expected what a training has written",
        ),
        ("[" * 100_000, [], "explanations.json of '{run}' is damaged ("),
        ('{"examples": 3, "validation_errors": 3}', [], "explanations.json of '{run}' is damaged ("),
        (
            None,
            ["--data", "s3://data/rows.csv"],
            "--data goes with --clarify only",
        ),
        (
            None,
            ["--clarify", "--data", "s3://data/rows.csv"],
            "--output: an s3:// URI is needed with --clarify",
        ),
    ],
)
def test_what_cannot_be_shown(
    content: str | None,
    options: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "explanations.json").write_text(content)
    assert main(["explain", str(tmp_path), *options]) == 1
    error = capsys.readouterr().err
    assert sentence.replace("{run}", str(tmp_path)) in error
    assert error.startswith("error: ") and error.count("\n") == 1
