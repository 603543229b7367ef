"""Data in a form that is not read is refused with the step that makes it one that is."""

import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pytest

from subset_trainer.data.formats.registry import detect, open_channel
from subset_trainer.errors import UserError

RECORDS = [{"text": f"so it goes, {n}", "label": "ab"[n % 2]} for n in range(20)]


def complaint(root: Path) -> str:
    with pytest.raises(UserError) as error:
        detect(open_channel("training", root))
    return str(error.value)


def test_json_lines(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    assert "pandas.read_json('train.jsonl', lines=True).to_parquet('train.parquet')" in complaint(tmp_path)


def test_json(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(RECORDS))
    assert "pandas.read_json('rows.json').to_parquet('rows.parquet')" in complaint(tmp_path)


@pytest.mark.parametrize("stream", [True, False])
def test_arrow(tmp_path: Path, stream: bool) -> None:
    table = pa.Table.from_pylist(RECORDS)
    path = str(tmp_path / "data-00000-of-00001.arrow")
    if stream:
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        (tmp_path / "state.json").write_text("{}")
    else:
        feather.write_feather(table, path)
    assert "holds Arrow's records; expected Parquet, which datasets.load_from_disk" in complaint(tmp_path)


def test_a_workbook(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "sheet.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    assert "pandas.read_excel('sheet.xlsx').to_parquet('sheet.parquet')" in complaint(tmp_path)


@pytest.mark.parametrize("suffix", ["", ".html", ".eml"])
def test_texts_in_folders_by_other_names(tmp_path: Path, suffix: str) -> None:
    for n in range(12):
        (tmp_path / "ab"[n % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[n % 2] / f"{5000 + n}{suffix}").write_text("From: somebody\n\nso it goes")
    assert "hold text in folders; expected names that end in .txt" in complaint(tmp_path)
