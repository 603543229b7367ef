"""Fetches the beginnings of a channel's files in S3, as a local folder that is read like a channel."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.aws import storage
from subset_trainer.data.channels import IMAGE_SUFFIXES
from subset_trainer.data.heads import BEGINNING, MOST_TABLES
from subset_trainer.errors import UserError

MOST_OBJECTS = 20_000
"""Objects that are listed: twenty requests."""
MOST_FETCHED = 320
"""Objects whose beginnings are fetched, from all folders."""
LARGEST_ROWS = 64 << 20
"""Bytes of a Parquet file's first row group, at most, that are fetched."""
THREADS = 16


@dataclass(frozen=True)
class Fetched:
    """`objects`: the number that was listed. `all_listed`: whether that is all. `bytes`: how many were fetched."""

    objects: int
    all_listed: bool
    bytes: int


def fetch(s3: Any, uri: str, folder: Path) -> Fetched:
    """Fetch into an empty folder.

    Images are empty of content and have their size and their name. Of other files some are fetched, from every folder
    of the channel. A file larger than its beginning has its size, and holes.

    Raises:
        UserError: there is nothing at the URI.
        ClientError: AWS refuses it.
    """
    bucket, prefix = storage.split(f"{uri.rstrip('/')}/")
    sizes, all_listed = _listed(s3, bucket, prefix)
    if not sizes:  # the URI of a single object, or a prefix that ends within a name
        raise UserError(f"there are no objects below {uri}")
    images = [name for name in sizes if name.lower().endswith(IMAGE_SUFFIXES)]
    others = _of_each_folder([name for name in sizes if name not in set(images)])
    for name in images:
        _sparse(folder / name, sizes[name])
    with ThreadPoolExecutor(THREADS) as pool:
        fetched = pool.map(lambda name: _fetch(s3, bucket, prefix + name, folder / name, sizes[name]), others)
        return Fetched(len(sizes), all_listed, sum(fetched))


def _listed(s3: Any, bucket: str, prefix: str) -> tuple[dict[str, int], bool]:
    """Name below the prefix → size in bytes, and whether these are all."""
    sizes: dict[str, int] = {}
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for entry in page.get("Contents", ()):
            name = entry["Key"].removeprefix(prefix)
            parts = name.split("/")
            if name and not name.endswith("/") and not {"", ".", ".."} & set(parts):
                sizes[name] = entry["Size"]
        if len(sizes) >= MOST_OBJECTS and page.get("IsTruncated"):
            return sizes, False
    return sizes, True


def _of_each_folder(names: list[str]) -> list[str]:
    """Some of the names: few of each folder if there are many folders, none of which is left out."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folders[name.rpartition("/")[0]].append(name)
    each = max(1, MOST_FETCHED // max(1, len(folders)))
    # Files of tables beside each other are read in their order, and more than a few need not be.
    return [name for members in folders.values() for name in members[: max(MOST_TABLES, each)]]


def _sparse(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def _fetch(s3: Any, bucket: str, key: str, path: Path, size: int) -> int:
    """Write an object's beginning, and of Parquet also its end; return the number of bytes fetched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if size <= BEGINNING:
        body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read() if size else b""
        path.write_bytes(body)
        return len(body)
    _sparse(path, size)
    got = _fill(s3, bucket, key, path, 0, BEGINNING)
    if path.name.endswith((".parquet", ".pq", ".parq")):
        got += _fill(s3, bucket, key, path, max(BEGINNING, size - BEGINNING), size)
        start, end = _first_rows(path)
        if BEGINNING < end <= start + LARGEST_ROWS:
            got += _fill(s3, bucket, key, path, max(start, BEGINNING), end)
    return got


def _first_rows(path: Path) -> tuple[int, int]:
    """The bytes of the first row group; (0, 0) if the file's metadata cannot be read."""
    import pyarrow.parquet as pq

    try:
        group = pq.ParquetFile(path).metadata.row_group(0)
    except Exception:  # damaged, or metadata of more than what was fetched; reading it reports the error
        return 0, 0
    chunks = [group.column(at) for at in range(group.num_columns)]
    starts = [min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset))) for chunk in chunks]
    ends = [start + chunk.total_compressed_size for start, chunk in zip(starts, chunks, strict=True)]
    return min(starts, default=0), max(ends, default=0)


def _fill(s3: Any, bucket: str, key: str, path: Path, start: int, end: int) -> int:
    body: bytes = s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}")["Body"].read()
    with path.open("r+b") as file:
        file.seek(start)
        file.write(body)
    return len(body)
