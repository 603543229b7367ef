"""A job's channels: checks URIs in S3, and uploads local files and folders.

Uploads are stored under a digest of their content. So the same data is uploaded only once, even by different users,
and an interrupted upload resumes with the missing files.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from deploy.aws.storage import uri_fault
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    from sagemaker.session import Session

PREFIX = "subset-trainer/data"
THREADS = 16


def is_uri(value: str) -> bool:
    """Return whether the value is a URI rather than a local path."""
    return "://" in value


def check(channels: Mapping[str, str]) -> None:
    """Check each channel without contacting AWS.

    Args:
        channels: name → s3:// URI or local path.

    Raises UserError for any other URI, a path that does not exist, and an empty folder.
    """
    for name, value in channels.items():
        if is_uri(value):
            if not value.startswith("s3://"):
                raise UserError(f"--{name}: expected an s3:// URI or a path, got {value!r}")
            if fault := uri_fault(value):
                raise UserError(f"--{name} {value!r}: {fault}")
        elif not Path(value).exists():
            raise UserError(f"--{name}: there is no file or folder {value!r}")
        elif not _files(Path(value)):
            raise UserError(f"--{name}: the folder {value!r} is empty")


def check_region(session: "Session", uris: Mapping[str, str]) -> None:
    """Check that each bucket exists in the job's region: a job cannot use buckets of other regions.

    Args:
        session: the SDK's, in the job's region.
        uris: option → S3 URI.

    Raises UserError if a bucket is missing or in another region.
    """
    s3 = session.boto_session.client("s3")
    region = session.boto_region_name
    for option, uri in uris.items():
        bucket = uri.removeprefix("s3://").partition("/")[0]
        try:
            answer = s3.head_bucket(Bucket=bucket)
        except s3.exceptions.ClientError as error:
            answer = error.response
            if answer["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise UserError(f"--{option}: there is no bucket {bucket!r}") from error
        # S3 reports a bucket's region even if access is denied.
        found = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", region)
        if found != region:
            raise UserError(
                f"--{option}: the bucket {bucket!r} is in {found}, and a job in {region} can only use buckets of "
                f"its own region; give --region {found}, or a bucket in {region}"
            )


def check_objects(session: "Session", uris: Mapping[str, str]) -> None:
    """Check that there are objects below each URI: SageMaker refuses a job with an empty channel.

    Args:
        session: the SDK's.
        uris: channel → S3 URI or local path.

    Raises UserError if there is nothing. Where listing is denied, nothing is known, and nothing is raised.
    """
    s3 = session.boto_session.client("s3")
    for channel, uri in uris.items():
        if not is_uri(uri):
            continue
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        try:
            found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
        except s3.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
                continue
            raise
        if not found.get("Contents"):
            raise UserError(f"--{channel}: there are no objects below {uri}")


def upload(channels: Mapping[str, str], session: "Session", send: bool = True) -> dict[str, str]:
    """Upload local files and folders to the session's bucket, and return the S3 URI of each channel.

    Args:
        channels: name → S3 URI or local path.
        session: the SDK's.
        send: False only computes the URIs and uploads nothing.
    """
    return {
        name: value if is_uri(value) else _upload(name, Path(value), session, send)
        for name, value in channels.items()
    }


def _upload(channel: str, path: Path, session: "Session", send: bool) -> str:
    files = _files(path)
    root = path if path.is_dir() else path.parent
    bucket = session.default_bucket()
    prefix = f"{PREFIX}/{_digest(channel, root, files)}"
    if send:
        s3 = session.boto_session.client("s3")
        there = _listed(s3, bucket, prefix)
        missing = [
            file for file in files if there.get(f"{prefix}/{_name(root, file)}") != file.stat().st_size
        ]
        if missing:
            _send(channel, s3, bucket, {file: f"{prefix}/{_name(root, file)}" for file in missing})
    return f"s3://{bucket}/{prefix}"


def _send(channel: str, s3: Any, bucket: str, keys: Mapping[Path, str]) -> None:
    size = sum(file.stat().st_size for file in keys)
    label = f"uploading {channel} ({len(keys):,} files)"
    with tqdm(total=size, desc=label, unit="B", unit_scale=True) as bar, ThreadPoolExecutor(THREADS) as pool:

        def send(file: Path, key: str) -> None:
            s3.upload_file(str(file), bucket, key, Callback=bar.update)

        try:
            list(pool.map(send, keys.keys(), keys.values()))
        except BaseException:
            # Uploads that have not started would only delay the error.
            pool.shutdown(cancel_futures=True)
            raise


def _listed(s3: Any, bucket: str, prefix: str) -> dict[str, int]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _name(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix()


def _digest(channel: str, root: Path, files: list[Path]) -> str:
    total = hashlib.sha256()
    size = sum(file.stat().st_size for file in files)
    with tqdm(total=size, desc=f"reading {channel}", unit="B", unit_scale=True, leave=False) as bar:
        for file in files:
            with file.open("rb") as opened:
                own = hashlib.file_digest(opened, "sha256").hexdigest()
                bar.update(opened.tell())
            total.update(f"{_name(root, file)}\0{own}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:16]
