"""Which examples are labelled anew first, and where they are found."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.__main__ import main
from deploy.labels import relabel
from subset_trainer.errors import UserError

NAN = float("nan")
# id, mislabelled, running loss, duplicate group
EXAMPLES = [
    ("cat/1.png", 0.2, 1.0, -1),
    ("cat/2.png", 0.9, 1.0, 7),
    ("dog/3.png", 0.8, 1.0, 7),
    ("dog/4.png", NAN, NAN, -1),
    ("dog/5.png", 0.2, 2.0, -1),
    ("dog/6.png", 0.2, NAN, 3),
    ("dog/7.png", 0.1, 9.0, 3),
]


def parquet(examples: list[tuple[str, float, float, int]], **changes: Any) -> bytes:
    """As the image writes it, with some of its columns."""
    ids, mislabelled, loss, group = zip(*examples, strict=True)
    columns = {
        "id": pa.array(ids, pa.string()),
        "label": pa.array(["cat"] * len(ids), pa.string()),
        "selected": pa.array([1] * len(ids), pa.int32()),
        "running_loss": pa.array(loss, pa.float32()),
        "probable_label": pa.array(["dog"] * len(ids), pa.string()),
        "mislabelled": pa.array(mislabelled, pa.float32()),
        "duplicate_group": pa.array(group, pa.int32()),
        **changes,
    }
    content = io.BytesIO()
    pq.write_table(
        pa.table({name: values for name, values in columns.items() if values is not None}), content
    )
    return content.getvalue()


def packed(content: bytes) -> bytes:
    """An output.tar.gz with it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as opened:
        for name, data in (("data/examples.parquet", content), ("data/summary.json", b"{}")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            opened.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def table(*examples: tuple[str, float, float, int], **changes: Any) -> pa.Table:
    return pq.read_table(io.BytesIO(parquet(list(examples), **changes)))


def ids(examples: pa.Table, budget: int) -> list[str]:
    return [one.id for one in relabel.first(examples, budget)]


def test_the_most_probably_mislabelled_come_first_and_duplicates_after_all_others() -> None:
    order = ["cat/2.png", "dog/5.png", "cat/1.png", "dog/6.png", "dog/4.png", "dog/3.png", "dog/7.png"]
    assert ids(table(*EXAMPLES), 99) == order
    assert ids(table(*EXAMPLES), 3) == order[:3]
    (first,) = relabel.first(table(*EXAMPLES), 1)
    assert (first.label, first.probable_label, first.duplicate_group) == ("cat", "dog", 7)


def test_missing_values_are_as_those_that_were_not_judged() -> None:
    empty = pa.array([None, 0.5], pa.float32())
    found = table(
        EXAMPLES[0], EXAMPLES[1], mislabelled=empty, duplicate_group=pa.array([None, None], pa.int32())
    )
    assert ids(found, 9) == ["cat/2.png", "cat/1.png"]


@pytest.mark.parametrize("form", ["run", "output", "unpacked", "archive"])
def test_a_run_is_found_in_every_form(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = {"run": "output/data", "output": "data", "unpacked": "."}
    place = tmp_path / "run"
    if form == "archive":
        place = tmp_path / "output.tar.gz"
        place.write_bytes(packed(parquet(EXAMPLES)))
    else:
        (place / folders[form]).mkdir(parents=True)
        (place / folders[form] / "examples.parquet").write_bytes(parquet(EXAMPLES))
    output = tmp_path / "next/round.manifest"
    assert (
        main(["labels", "next", str(place), str(output), "--budget", "2", "--prefix", "s3://b/train/"]) == 0
    )
    assert [json.loads(line) for line in output.read_text().splitlines()] == [
        {"source-ref": "s3://b/train/cat/2.png"},
        {"source-ref": "s3://b/train/dog/5.png"},
    ]
    shown = capsys.readouterr().out
    assert "2 of 7 training examples" in shown
    assert "cat/2.png: labelled cat, wrong with probability 0.90, looks like dog" in shown


def test_a_manifests_examples_are_named_by_their_uri() -> None:
    chosen = relabel.first(table(("s3://b/a:1.png", 0.5, 1.0, -1)), 1)
    assert relabel.lines(chosen) == [{"source-ref": "s3://b/a:1.png"}]


def test_an_image_that_cannot_be_read_is_shown_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "examples.parquet").write_bytes(
        parquet(EXAMPLES, removed=pa.array(["unreadable", None, "noisy", *[None] * 3, "unreadable"]))
    )
    chosen = relabel.first(relabel.read(str(tmp_path)), 100)
    assert sorted(one.id for one in chosen) == sorted(row[0] for row in EXAMPLES[1:6])


def test_a_tables_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "training"
    folder.mkdir()
    (folder / "a.csv").write_text('label,text\n1,plain\n0,"over\ntwo lines"\n1,"with, comma"\n')
    run = tmp_path / "run"
    run.mkdir()
    rows = [(f"a.csv:{line}", 0.9 - line / 10, 1.0, -1) for line in (2, 3, 5)]
    (run / "examples.parquet").write_bytes(parquet(rows))
    output = tmp_path / "x.manifest"
    command = ["labels", "next", str(run), str(output), "--budget", "9"]
    assert main(command) == 0
    assert json.loads(output.read_text().splitlines()[1]) == {"source": "a.csv:3"}
    for column in ("text", "1"):
        assert main([*command, "--rows", str(folder), "--column", column]) == 0
        assert [json.loads(line) for line in output.read_text().splitlines()] == [
            {"source": "plain", "id": "a.csv:2"},
            {"source": "over\ntwo lines", "id": "a.csv:3"},
            {"source": "with, comma", "id": "a.csv:5"},
        ]
    capsys.readouterr()
    for wrong, expected in (
        (["--rows", str(folder)], "--rows and --column go together"),
        (["--rows", str(folder), "--column", "title"], "has no column 'title'"),
        (["--rows", str(folder), "--column", "2"], "has no column '2'"),
        (["--rows", str(tmp_path), "--column", "text"], "a.csv' cannot be read: "),
    ):
        assert main([*command, *wrong]) == 1
        assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.csv:4", "has no row that begins at line 4"), ("../b.csv:1", "'../b.csv' is not in ")],
)
def test_a_row_that_is_not_there(name: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('label,text\n1,plain\n0,"over\ntwo lines"\n')
    read = relabel.row_reader(tmp_path, "text")
    with pytest.raises(UserError, match=expected):
        read(name)


@pytest.mark.parametrize(
    ("name", "prefix", "expected"),
    [
        ("cat/1.png", None, "a file of the training channel: give the channel"),
        ("cat/1.png", "train", "--prefix: expected an s3:// URI"),
        ("x.npz[3]", "s3://b", "is an element of an array"),
    ],
)
def test_examples_that_nobody_can_be_shown(name: str, prefix: str | None, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        relabel.lines(relabel.first(table((name, 0.5, 1.0, -1)), 1), prefix)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"PAR1", "cannot be read: "),
        (b"", "cannot be read: "),
        (parquet(EXAMPLES)[:-9], "cannot be read: "),
        (parquet(EXAMPLES, mislabelled=None), "expected a column mislabelled of numbers, got none"),
        (parquet(EXAMPLES, id=pa.array(range(7))), "expected a column id of text, got int64"),
        (parquet(EXAMPLES, id=[*"abcdef", None]), "expected a value of id in every row, got none in some"),
        (
            parquet(EXAMPLES, id=pa.Array.from_buffers(pa.string(), 7, pa.array([b"\xff"] * 7).buffers())),
            "cannot be read: ",
        ),
    ],
)
def test_examples_that_cannot_be_read(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "examples.parquet").write_bytes(content)
    with pytest.raises(UserError, match=expected):
        relabel.read(str(tmp_path))


def test_runs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no examples.parquet: expected the results of a training"):
        relabel.read(str(tmp_path))
    with pytest.raises(UserError, match=r"a run's folder, its output.tar.gz, or a training job's name"):
        relabel.read(str(tmp_path / "nothing"))
    broken = tmp_path / "output.tar.gz"
    broken.write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be unpacked"):
        relabel.read(str(broken))
