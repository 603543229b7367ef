"""Data that nothing was chosen on: how it is read from packages, and its tables."""

import gzip
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import held_out, study
from benchmarks.held_out import CLEAN, MLP, NOISY, SETS, HeldOut
from benchmarks.study_report import Row
from subset_trainer.errors import UserError

TABLE = HeldOut(
    "t",
    "tables",
    "data/rows.csv.gz",
    0.3,
    30,
    MLP,
    label="kind",
    left_out=("id",),
    write=held_out.write_table,
)


def csv_of(counts: dict[str, int]) -> str:
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    return "id,value,kind\n" + "".join(f"{row},{row % 7},{kind}\n" for row, kind in enumerate(kinds))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tables-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(
            "tables/data/rows.csv.gz", gzip.compress(csv_of({"a": 80, "b": 40, "rare": 19}).encode())
        )
    return folder


def test_a_table_is_split_by_class_once_and_without_what_is_no_feature(
    packages: Path, tmp_path: Path
) -> None:
    folder = held_out.channels(TABLE, "t", packages, tmp_path / "out")
    test, training = (pd.read_csv(folder / channel / "rows.csv") for channel in ("test", "training"))
    assert test["label"].value_counts().to_dict() == {"a": 20, "b": 10}
    assert training["label"].value_counts().to_dict() == {"a": 60, "b": 30}
    assert list(training) == ["label", "value"]
    before = (folder / "test/rows.csv").stat().st_mtime_ns
    assert held_out.channels(TABLE, "t", packages, tmp_path / "out") == folder
    assert (folder / "test/rows.csv").stat().st_mtime_ns == before


def test_images_are_read_from_debians_package(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/share/datasets/fashion-mnist").mkdir(parents=True)
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        "Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\nMaintainer: n <n@example.org>\n"
        "Description: d\n"
    )
    images = {
        part: np.arange(count * 28 * 28).astype(np.uint8) for part, count in (("train", 3), ("t10k", 2))
    }
    for part, pixels in images.items():
        count = len(pixels) // 784
        for name, header, body in (
            ("images-idx3", [2051, count, 28, 28], pixels),
            ("labels-idx1", [2049, count], np.arange(count, dtype=np.uint8)),
        ):
            content = np.array(header, ">u4").tobytes() + body.tobytes()
            file = root / f"usr/share/datasets/fashion-mnist/{part}-{name}-ubyte.gz"
            file.write_bytes(gzip.compress(content))
    package = tmp_path / "dataset-fashion-mnist_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", root, package], check=True, capture_output=True)
    held_out.write_images(SETS["fashion"], package, tmp_path / "out")
    for channel, part in (("training", "train"), ("test", "t10k")):
        with np.load(tmp_path / "out" / channel / "data.npz") as read:
            assert np.array_equal(read["x"].ravel(), images[part])
            assert read["x"].shape[1:] == (1, 28, 28)
            assert read["y"].tolist() == list(range(len(read["x"])))


def test_packages_of_npm_are_read_and_what_is_missing_is_said(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "package/data").mkdir(parents=True)
    (tmp_path / "package/data/rows.csv").write_text("1\n")
    with tarfile.open(packages / "tables-2.tgz", "w:gz") as archive:
        archive.add(tmp_path / "package", "package")
    assert held_out._member(packages / "tables-2.tgz", "data/rows.csv").read() == b"1\n"
    with pytest.raises(UserError, match=r"has no file 'data/others\.csv'; another version of the package\?"):
        held_out._member(packages / "tables-2.tgz", "data/others.csv")
    with pytest.raises(UserError, match="has no package lifelines; get it with --fetch"):
        held_out.channels(SETS["actg175"], "actg175", packages, tmp_path / "out")


def test_every_set_has_the_first_seed_before_any_has_the_second(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(held_out, "channels", lambda own, name, packages, out: out / name)
    asked: list[list[str]] = []
    code = 1

    def main(call: list[str]) -> int:
        asked.append(call)
        return code

    monkeypatch.setattr(study, "main", main)
    assert held_out.main(["--sets", "fair", "newsgroups", "--out", str(tmp_path)]) == 1  # a mistake ends it
    assert len(asked) == 1
    asked.clear()
    code = 0
    assert held_out.main(["--sets", "fair", "newsgroups", "--seeds", "0,1", "--out", str(tmp_path)]) == 0
    found = [
        (call[call.index("--seeds") + 1], call[call.index("--title") + 1], call[call.index("--noise") + 1])
        for call in asked
    ]
    once = [("fair", "0"), ("20 newsgroups", "0"), ("fair", "0.4")]
    assert found == [(seeds, *each) for seeds in ("0", "0,1") for each in once]


def row(strategy: str, scenario: str, *accuracies: float, samples: int = 100) -> Row:
    seeds = tuple(range(len(accuracies)))
    several = tuple(1.0 for _ in seeds)
    seen = tuple(samples for _ in seeds)
    return Row(scenario, strategy, 0.3, 30, seeds, accuracies, accuracies, several, several, seen, seen)


def test_the_tables() -> None:
    found = {
        "fair": [
            row("glister", CLEAN.sentence, 0.5, 0.6),
            row("rs2", CLEAN.sentence, 0.6, 0.7),
            row("full", CLEAN.sentence, 0.6, 0.6, samples=99),
            row("infobatch", CLEAN.sentence, 0.6, 0.6, samples=93),
            row("rs2", NOISY.sentence, 0.4, 0.4),
        ],
        "newsgroups": [row("rs2", CLEAN.sentence, 0.3)],
    }
    assert held_out.table(found, CLEAN).splitlines() == [
        "| data | `full` | `rs2` | `glister` | `infobatch` |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| fair | 60.0 ± 0.0 | **65.0 ± 7.1** | 55.0 ± 7.1 | 60.0 ± 0.0 |",
        "| 20 newsgroups |  | **30.0 (one seed)** |  |  |",
    ]
    assert held_out.table(found, NOISY).splitlines()[2:] == ["| fair | **40.0 ± 0.0** |"]
    assert held_out.samples_table(found).splitlines()[2:] == [
        "| fair | 100 | 99 (−1%) | 93 (−7%) | 100 | 99 | 93 |"
    ]
    page = held_out.document(found, "sizes", "0,1")
    assert "## The runs\n\n### fair\n\n#### clean" in page
