"""Files by one name, wherever they lie: a path of this machine, or an s3:// URI."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from subset_trainer.errors import UserError, first_line

SCHEME = "s3://"
THREADS = 10
"""As many as a client of boto3 keeps connections."""
MISSING = ("404", "NoSuchKey", "NoSuchBucket")


class Storage:
    """Reads and writes them. AWS is asked only for what lies in S3."""

    def __init__(self, region: str | None = None) -> None:
        self._region = region

    @cached_property
    def s3(self) -> Any:
        """A client."""
        # boto3 is imported where it is needed: what lies here is read without it.
        from deploy.aws import calls

        return calls.boto_session(self._region).client("s3")

    def read(self, name: str) -> bytes:
        """The content; UserError where there is nothing of that name."""
        if not in_s3(name):
            try:
                return Path(name).read_bytes()
            except (OSError, ValueError) as error:
                raise UserError(f"{name!r} cannot be read: {first_line(error)}") from error
        bucket, key = split(name)
        try:
            return bytes(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        except self.s3.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") not in MISSING:
                raise
            raise UserError(f"there is nothing at {name}") from error

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """The contents, in that order."""
        if not any(in_s3(name) for name in names):
            return [self.read(name) for name in names]
        _ = self.s3  # made here, once, and not by every thread
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                return list(pool.map(self.read, names))
            except BaseException:
                # What has not begun would only keep the error waiting.
                pool.shutdown(cancel_futures=True)
                raise

    def write(self, name: str, content: bytes) -> None:
        """Put it there; folders of this machine are made."""
        if in_s3(name):
            bucket, key = split(name)
            self.s3.put_object(Bucket=bucket, Key=key, Body=content)
            return
        path = Path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except (OSError, ValueError) as error:
            raise UserError(f"{name!r} cannot be written: {first_line(error)}") from error

    def is_folder(self, name: str) -> bool:
        """Of S3's, any name that ends in / or that something lies below."""
        if not in_s3(name):
            return Path(name).is_dir()
        bucket, key = split(f"{name.rstrip('/')}/")
        return bool(self.s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents"))

    def below(self, name: str) -> list[str]:
        """What lies in a folder and in its folders, by whole names, in order."""
        if not in_s3(name):
            return sorted(str(path) for path in Path(name).rglob("*") if path.is_file())
        bucket, key = split(f"{name.rstrip('/')}/")
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return [f"{SCHEME}{bucket}/{key}" for key in sorted(keys) if not key.endswith("/")]


def in_s3(name: str) -> bool:
    """Whether it names something in S3, and not a path. Raises UserError for other URIs."""
    if "://" in name and not name.startswith(SCHEME):
        raise UserError(f"expected an s3:// URI or a path, got {name!r}")
    return name.startswith(SCHEME)


def split(uri: str) -> tuple[str, str]:
    """Bucket and key."""
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if not bucket or not key:
        raise UserError(f"expected s3://BUCKET/KEY, got {uri!r}")
    return bucket, key


def joined(folder: str, name: str) -> str:
    """The name of what lies in a folder."""
    return f"{folder.rstrip('/')}/{name}" if in_s3(folder) else str(Path(folder) / name)
