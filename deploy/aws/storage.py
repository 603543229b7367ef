"""Reads and writes files by name, where a name is a local path or an s3:// URI."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from subset_trainer.errors import UserError, first_line

SCHEME = "s3://"
THREADS = 10
"""The default size of a boto3 client's connection pool."""
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
MISSING = ("404", "NoSuchKey", "NoSuchBucket")


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


class Storage:
    """Reads and writes local files and objects in S3. AWS is contacted only for names in S3."""

    def __init__(self, region: str | None = None) -> None:
        self._region = region

    @cached_property
    def s3(self) -> Any:
        """The S3 client, created on first use."""
        # Imported here because boto3 is slow to import and local files do not need it.
        from deploy.aws import calls

        return calls.boto_session(self._region).client("s3")

    def read(self, name: str) -> bytes:
        """Return a file's content. Raises UserError if it does not exist or cannot be read."""
        if not in_s3(name):
            try:
                return Path(name).read_bytes()
            except (OSError, ValueError) as error:
                raise UserError(f"{name!r} cannot be read: {_reason(error)}") from error
        bucket, key = split(name)
        try:
            return bytes(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        except self.s3.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") not in MISSING:
                raise
            raise UserError(f"there is nothing at {name}") from error

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """Return the contents of several files, in the order of `names`. Raises UserError as `read` does."""
        if not any(in_s3(name) for name in names):
            return [self.read(name) for name in names]
        _ = self.s3  # create the client once, before the threads start
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                return list(pool.map(self.read, names))
            except BaseException:
                # Downloads that have not started would only delay the error.
                pool.shutdown(cancel_futures=True)
                raise

    def write(self, name: str, content: bytes) -> None:
        """Write a file, creating local folders as needed. Raises UserError if a local file cannot be written."""
        if in_s3(name):
            bucket, key = split(name)
            self.s3.put_object(Bucket=bucket, Key=key, Body=content)
            return
        path = Path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except (OSError, ValueError) as error:
            raise UserError(f"{name!r} cannot be written: {_reason(error)}") from error

    def is_folder(self, name: str) -> bool:
        """Return whether the name is a folder. In S3 that is a prefix, followed by /, of at least one object's key."""
        if not in_s3(name):
            return Path(name).is_dir()
        bucket, key = split(f"{name.rstrip('/')}/")
        return bool(self.s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents"))

    def below(self, name: str) -> list[str]:
        """Return the full names of all files in a folder and its subfolders, sorted."""
        if not in_s3(name):
            return sorted(str(path) for path in Path(name).rglob("*") if path.is_file())
        bucket, key = split(f"{name.rstrip('/')}/")
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return [f"{SCHEME}{bucket}/{key}" for key in sorted(keys) if not key.endswith("/")]


def in_s3(name: str) -> bool:
    """Return whether the name is an s3:// URI rather than a local path. Raises UserError for other URIs."""
    if "://" in name and not name.startswith(SCHEME):
        raise UserError(f"expected an s3:// URI or a path, got {name!r}")
    return name.startswith(SCHEME)


def split(uri: str) -> tuple[str, str]:
    """Return the bucket and key of an s3:// URI. Raises UserError if either is empty."""
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if not bucket or not key:
        raise UserError(f"expected s3://BUCKET/KEY, got {uri!r}")
    return bucket, key


def bucket_fault(name: str) -> str | None:
    """Return what is wrong with a bucket's name; None if nothing is."""
    if BUCKET.fullmatch(name) and ".." not in name:
        return None
    where = name.removeprefix(SCHEME).partition("/")[0]
    hint = f"; did you mean {where!r}?" if where != name and BUCKET.fullmatch(where) else ""
    return f"expected the name of a bucket alone, 3 to 63 lower-case letters, digits, dots and hyphens{hint}"


def uri_fault(uri: str) -> str | None:
    """Return what is wrong with the s3:// URI of a folder; None if nothing is."""
    if not uri.startswith(SCHEME):
        return f"expected an {SCHEME} URI"
    if bucket_fault(uri.removeprefix(SCHEME).partition("/")[0]):
        return "expected s3://BUCKET/PREFIX, where a bucket has 3 to 63 lower-case letters, digits, dots and hyphens"
    return None


def joined(folder: str, name: str) -> str:
    """Return the name of a file in a folder, which is a local path or an s3:// URI."""
    return f"{folder.rstrip('/')}/{name}" if in_s3(folder) else str(Path(folder) / name)
