"""Channels in S3 are understood by the beginnings of their files, which are fetched and no more."""

import json
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.__main__ import main

ROWS = 200_000


@pytest.fixture
def s3(bucket: str) -> Any:
    return boto3.client("s3")


def inspected(uri: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    assert main(["inspect", uri, "--json"]) == 0
    printed = capsys.readouterr()
    content: dict[str, Any] = json.loads(printed.out)
    return content, printed.err


def megabytes(said: str) -> float:
    return float(said.split("of which ")[1].split(" MB")[0])


def test_a_large_csv_file_is_read_at_its_beginning(
    bucket: str, s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "".join(f"{n % 2},{n % 997 / 7:.4f},{n % 13}\n" for n in range(ROWS))
    s3.put_object(Bucket=bucket, Key="table/training/t.csv", Body=f"label,a,b\n{lines}".encode())
    s3.put_object(
        Bucket=bucket, Key="table/test/t.csv", Body=b"label,a,b\n" + lines[:2_000].rsplit("\n", 1)[0].encode()
    )
    content, said = inspected(f"s3://{bucket}/table", capsys)
    training, test = content["channels"]
    assert (training["channel"], training["format"], training["complete"]) == ("training", "csv", False)
    assert set(training["classes"]) == {"0", "1"} and test["complete"]
    assert megabytes(said) < 1.2 < len(lines) / 1e6


def test_a_large_parquet_file_is_read_at_both_ends(
    bucket: str, s3: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = {"size": [n * 0.37 for n in range(ROWS)], "label": ["ab"[n % 2] for n in range(ROWS)]}
    pq.write_table(pa.table(values), tmp_path / "t.parquet", row_group_size=20_000, compression="none")
    s3.upload_file(str(tmp_path / "t.parquet"), bucket, "parquet/t.parquet")
    content, _ = inspected(f"s3://{bucket}/parquet", capsys)
    assert set(content["channels"][0]["classes"]) == {"a", "b"}
    assert not content["channels"][0]["complete"]


def test_images_are_understood_by_their_names(
    bucket: str, s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        s3.put_object(Bucket=bucket, Key=f"images/{name}", Body=b"x" * 1_000)
    content, said = inspected(f"s3://{bucket}/images", capsys)
    assert content["channels"][0]["classes"] == {"cat": 2, "dog": 1}
    assert megabytes(said) == 0


def test_nothing_there_is_one_sentence(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", f"s3://{bucket}/none"]) == 1
    assert f"there are no objects below s3://{bucket}/none" in capsys.readouterr().err
