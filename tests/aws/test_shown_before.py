"""What `launch` prints of the data before it uploads or pays, and what it refuses before that."""

from pathlib import Path
from typing import Any

import boto3
import pytest

from deploy.__main__ import main

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/subset-trainer@sha256:" + "0" * 64
ROLE = "arn:aws:iam::123456789012:role/trainer"
UNDERSTOOD = ["label,size", *[f"{'ab'[row % 2]},{row / 7:.3f}" for row in range(60)]]
TWO_READINGS = ["label,when", *[f"{row % 2},{row % 12 + 1:02}/{row % 11 + 1:02}/2024" for row in range(60)]]


@pytest.fixture
def s3(bucket: str) -> Any:
    return boto3.client("s3")


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def launch(bucket: str, training: str) -> int:
    command = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--bucket", bucket, "--training", training]
    return main([*command, "--set", "strategy=full"])


def jobs() -> list[Any]:
    found: list[Any] = boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    return found


def test_a_local_channel_is_shown_before_it_is_uploaded(
    bucket: str, s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text(text(UNDERSTOOD))
    assert launch(bucket, str(tmp_path)) == 0
    printed = capsys.readouterr()
    # Scripts read the job's name from stdout, so that the block is on stderr.
    assert jobs()[0]["TrainingJobName"] in printed.out
    assert "60 examples" in printed.err and "'label'" in printed.err
    assert "60 examples" not in printed.out
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] > 0


def test_a_local_channel_of_two_readings_is_refused_before_anything_is_uploaded_or_paid_for(
    bucket: str, s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text(text(TWO_READINGS))
    assert launch(bucket, str(tmp_path)) == 1
    assert "set date_order=dmy or mdy" in capsys.readouterr().err
    assert jobs() == []
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_channel_in_s3_is_shown_by_the_beginnings_of_its_files(
    bucket: str, s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put_object(Bucket=bucket, Key="good/t.csv", Body=text(UNDERSTOOD).encode())
    assert launch(bucket, f"s3://{bucket}/good") == 0
    said = capsys.readouterr().err
    assert "training: 1 objects, of which 0.0 MB were read (the beginnings of files)" in said
    assert "'label'" in said
    assert len(jobs()) == 1


def test_a_channel_in_s3_that_would_be_refused_is_said_with_what_settles_it(
    bucket: str, s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The beginnings of files may mislead, so that the job decides."""
    s3.put_object(Bucket=bucket, Key="doubtful/t.csv", Body=text(TWO_READINGS).encode())
    assert launch(bucket, f"s3://{bucket}/doubtful") == 0
    said = capsys.readouterr().err
    assert (
        "by the beginnings of its files, a job would refuse this data: training channel: column 'when'"
        in said
    )
    assert "set date_order=dmy or mdy" in said
