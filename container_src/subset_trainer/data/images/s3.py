"""Images that stay in S3: each is fetched on first use by Amazon's S3 connector, and cached on disk.

Only those images of a manifest are fetched that the run uses. As for other AWS clients, the environment configures
the region (AWS_REGION or AWS_DEFAULT_REGION) and the endpoint (AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL), and the
credentials are those of the job's role.
"""

import multiprocessing
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np

from subset_trainer.data.images.decoding import LARGEST_FILE, EncodedImages, ImageFiles
from subset_trainer.errors import UserError, first_line

SCHEME = "s3://"
AT_ONCE = 16
"""Concurrent requests per process. Waiting for each takes longer than reading it."""
ATTEMPTS = 5
LEAST_FREE = 2 << 30
"""Bytes of disk space to leave free; with less, fetched images are not cached."""
_REASONS = {
    "key does not exist": "there is no such object",
    "bucket does not exist": "there is no such bucket",
    "no signing credentials": "there are no credentials",
    "forbidden": "access is denied",
    "access denied": "access is denied",
    "incorrect region": "the bucket is in another region than AWS_REGION says",
}
"""Part of a message from the connector → its meaning."""


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Split a URI into bucket and key; either is empty if the URI has none."""
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    return bucket, key


class S3Images(ImageFiles):
    """Images of a manifest: URIs are read from S3, other names are files of the channel.

    `names`: URIs, or paths relative to `root`.

    Raises:
        UserError: no AWS region is known.
    """

    apart = True  # a client's threads would not survive a fork

    def __init__(self, names: Sequence[str | os.PathLike[str]], root: str | os.PathLike[str], channel: str):
        super().__init__(names, root, channel)
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not region:
            raise UserError(
                f"{channel} channel: hyperparameter s3_images=true, but no AWS region is set; expected "
                "AWS_REGION in the environment, where SageMaker puts it."
            )
        # S3MapDataset, which builds on this client, would create an object for every URI in every process.
        from s3torchconnector import S3ClientConfig
        from s3torchconnector._s3client import S3Client

        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        # The client connects on first use, separately in each process.
        self._client = S3Client(
            region,
            endpoint=endpoint,
            s3client_config=S3ClientConfig(force_path_style=endpoint is not None, max_attempts=ATTEMPTS),
        )
        self._folder = tempfile.TemporaryDirectory(prefix="s3-images-")
        self._held = threading.local()
        self._numbers = np.arange(len(self.names))

    def subset(self, rows: np.ndarray) -> Self:
        part = super().subset(rows)
        part._numbers = self._numbers[rows]  # what is cached stays valid
        part._held = threading.local()
        return part

    def far(self, index: int) -> bool:
        """Whether the image is in S3."""
        return bool(self.names[index].startswith(SCHEME.encode()))

    def size(self, index: int) -> int:
        return len(self.read(index)) if self.far(index) else super().size(index)

    def dimensions(self, index: int) -> tuple[int, int]:
        return EncodedImages.dimensions(self, index) if self.far(index) else super().dimensions(index)

    def read(self, index: int) -> bytes:
        if not self.far(index):
            return super().read(index)
        held: dict[int, bytes | Exception] = getattr(self._held, "images", {})
        found = held.pop(index, None)
        if isinstance(found, Exception):
            raise found
        return found or self._kept(index) or self._fetched(index)

    def prepare(self, indices: np.ndarray) -> None:
        """See :class:`EncodedImages`: fetches what is not cached, with concurrent requests."""
        missing = [
            index for index in set(indices.tolist()) if self.far(index) and not self._file(index).exists()
        ]
        held: dict[int, bytes | Exception] = {}
        if missing:
            with ThreadPoolExecutor(min(AT_ONCE, len(missing))) as threads:
                held = dict(zip(missing, threads.map(self._fetched_or_why_not, missing), strict=True))
        self._held.images = held

    def prepare_apart(self, indices: np.ndarray) -> None:
        """Like `prepare`, but in a separate process: a client's threads would not survive a later fork of workers."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
            process = multiprocessing.get_context("fork").Process(target=self.prepare, args=(indices,))
            process.start()
        process.join()

    def unreadable(self, index: int, error: Exception) -> UserError:
        if type(error).__name__ != "S3Exception":
            return super().unreadable(index, error)
        said = first_line(error)
        reason = next((words for part, words in _REASONS.items() if part in said.lower()), said)
        return UserError(
            f"{self.channel} channel: '{os.fsdecode(self.names[index])}' cannot be read from S3 ({reason}); expected "
            "an object that the job's role may read (s3:GetObject), and network access to S3."
        )

    def _file(self, index: int) -> Path:
        return Path(self._folder.name, str(self._numbers[index]))

    def _kept(self, index: int) -> bytes | None:
        try:
            return self._file(index).read_bytes()
        except OSError:
            return None

    def _fetched_or_why_not(self, index: int) -> bytes | Exception:
        try:
            return self._fetched(index)
        except Exception as error:
            return error

    def _fetched(self, index: int) -> bytes:
        uri = self.names[index].decode("utf-8", "surrogateescape")
        data: Any = self._client.get_object(*bucket_and_key(uri)).read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE >> 20} MiB")
        self._keep(index, data)
        return bytes(data)

    def _keep(self, index: int, data: bytes) -> None:
        if shutil.disk_usage(self._folder.name).free < LEAST_FREE + len(data):
            return
        unfinished = self._file(index).with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        try:
            unfinished.write_bytes(data)
            unfinished.replace(self._file(index))
        except OSError:
            unfinished.unlink(missing_ok=True)  # the disk is full, so the image is fetched again next time
