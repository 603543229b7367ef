"""Channels that lie on this machine, and buckets that lie elsewhere, against moto's S3."""

from pathlib import Path

import boto3
import pytest

from deploy.__main__ import main
from deploy.aws import channels, launch
from subset_trainer.errors import UserError
from tests.aws.test_launch import BUCKET, IMAGE, ROLE, launched


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (("cat/a b.png", b"cat"), ("dog/ü.png", b"dogs"), ("dog/deep/c.png", b"")):
        path = tmp_path / "training" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "training"


def stored() -> dict[str, bytes]:
    s3 = boto3.client("s3")
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=channels.PREFIX).get("Contents", [])
    return {entry["Key"]: s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in listed}


def test_a_folder_is_uploaded_once_and_by_its_content(
    bucket: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    session = launch.sagemaker_session(bucket=bucket)
    uris = channels.upload({"training": str(folder), "test": "s3://data/test"}, session)
    assert uris["test"] == "s3://data/test"
    prefix = uris["training"].removeprefix(f"s3://{bucket}/")
    assert stored() == {
        f"{prefix}/cat/a b.png": b"cat",
        f"{prefix}/dog/ü.png": b"dogs",
        f"{prefix}/dog/deep/c.png": b"",
    }
    assert "uploading training (3 files)" in capfd.readouterr().err
    # Again, and from another place: nothing is sent.
    moved = folder.rename(folder.parent / "elsewhere")
    assert channels.upload({"training": str(moved)}, session) == {"training": uris["training"]}
    assert "uploading" not in capfd.readouterr().err
    # What an upload that broke off had not sent is sent.
    boto3.client("s3").delete_object(Bucket=bucket, Key=f"{prefix}/dog/ü.png")
    channels.upload({"training": str(moved)}, session)
    assert "uploading training (1 files)" in capfd.readouterr().err
    assert len(stored()) == 3
    # Other content is other data.
    (moved / "cat/a b.png").write_bytes(b"dog")
    assert channels.upload({"training": str(moved)}, session) != {"training": uris["training"]}


def test_a_file_is_a_channel_too(bucket: str, folder: Path) -> None:
    uris = channels.upload({"training": str(folder / "cat/a b.png")}, launch.sagemaker_session(bucket=bucket))
    assert stored() == {uris["training"].removeprefix(f"s3://{bucket}/") + "/a b.png": b"cat"}


def test_a_launch_uploads_and_a_dry_run_does_not(
    bucket: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--bucket", bucket, "--training", str(folder)]
    assert main([*options, "--dry-run"]) == 0
    assert stored() == {} and "subset-trainer/data/" in capsys.readouterr().out
    assert main(options) == 0
    (channel,) = launched()["InputDataConfig"]
    uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
    assert f"{uri.removeprefix(f's3://{bucket}/')}/cat/a b.png" in stored()


def test_what_cannot_be_a_channel_is_refused(tmp_path: Path) -> None:
    for value, expected in (
        (str(tmp_path), "is empty"),
        ("/nowhere", "there is no file or folder"),
        ("gs://a/b", "expected an s3:// URI or a path"),
    ):
        with pytest.raises(UserError, match=expected):
            channels.check({"training": value})


@pytest.mark.parametrize("option", ["--training", "--output", "--checkpoints"])
def test_a_bucket_of_another_region_is_named_before_anything_is_paid_for(
    bucket: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    boto3.client("s3", region_name="eu-west-1").create_bucket(
        Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    options = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", "s3://data/training"]
    assert main([*options, option, "s3://far/x"]) == 1
    error = capsys.readouterr().err
    assert f"error: {option}: the bucket 'far' is in eu-west-1, and a job in us-east-1" in error
    assert error.count("\n") == 1
    assert not boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]


def test_a_bucket_that_is_missing_is_named(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["launch", "--image-uri", IMAGE, "--role", ROLE, "--training", "s3://nobodys/training"]
    assert main(options) == 1
    assert capsys.readouterr().err == "error: --training: there is no bucket 'nobodys'\n"
