"""Labelled inputs in batches, either held in memory (on the device if they fit) or streamed from image files."""

import gc
import itertools
import logging
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from subset_trainer.data.images.decoding import (
    DamagedImageError,
    EncodedImages,
    ImageFiles,
    complaint,
    damaged_among,
)
from subset_trainer.data.machine import cpu_count, shared_memory_free
from subset_trainer.errors import UserError, first_line

logger = logging.getLogger(__name__)

MOST_WORKERS = 16
_PREFETCH = 2  # batches in flight per worker
SEEKING_SECONDS = 60.0
"""How long other damaged images are looked for before a run ends. Other ranks wait meanwhile."""
_SOUGHT_AT_ONCE = 64

# What the parent process has left to the garbage collector is not for a worker to end: a loader's iterator that is
# collected in a worker shuts down queues and processes that are the parent's ("Bad file descriptor").
if "fork" in multiprocessing.get_all_start_methods():
    os.register_at_fork(after_in_child=gc.freeze)


class Dataset(Protocol):
    """N labelled inputs.

    `labels`: [N] int64 on the CPU. `owners`: [N] int16, the rank of the process that reads each example; None if every
    process can read all examples.
    """

    labels: torch.Tensor
    owners: torch.Tensor | None

    def __len__(self) -> int: ...

    def batches(self, order: Sequence[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
        """Yield the inputs on `device` for each index tensor [B] (int64, CPU) of `order`, in order.

        Images are uint8 [B, 3, H, W], neither normalised nor augmented; tables are float32 [B, D], encoded. The caller
        must not write to a batch.
        """

    def original_sizes(self, indices: torch.Tensor) -> torch.Tensor | None:
        """int32 [B, 2]: (H, W) that the images at `indices` have in their files, 0 before `batches` has yielded them;
        None if the inputs are as they were read."""

    def subset(self, indices: torch.Tensor) -> "Dataset":
        """The examples at `indices` [K] int64, renumbered 0..K-1; shares memory, device storage and workers."""

    def place(self, device: torch.device) -> bool:
        """Try to keep all inputs on `device` from now on; returns whether they are there."""


class MemoryDataset:
    """Inputs [N, ...] in memory. `batches` first copies them to a CUDA device with free memory of twice their size.

    `original_sizes`: [N, 2] int32, see :class:`Dataset`.
    """

    owners: torch.Tensor | None = None

    def __init__(self, inputs: torch.Tensor, labels: torch.Tensor, original_sizes: np.ndarray | None = None):
        if len(inputs) != len(labels):
            raise ValueError(f"{len(inputs)} inputs and {len(labels)} labels")
        self.labels = labels
        self._store = _Store(inputs, original_sizes)
        self._indices: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def inputs(self) -> torch.Tensor:
        """All inputs [N, ...] in main memory; for a subset, a copy in its order."""
        return self._store.inputs if self._indices is None else self._store.inputs[self._indices]

    def place(self, device: torch.device) -> bool:
        return self._store.place(device)

    def batches(self, order: Sequence[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
        sizes = [len(indices) for indices in order]
        if not sizes:
            return
        rows = torch.cat(list(order))
        if self._indices is not None:
            rows = self._indices[rows]
        if self._store.place(device):
            inputs = self._store.on(device)
            # One transfer of all indices is faster than one per batch.
            for part in rows.to(device).split(sizes):
                yield inputs.index_select(0, part)
        else:
            inputs = self._store.inputs
            pinned = (inputs.index_select(0, part).pin_memory() for part in rows.split(sizes))
            yield from _to_device(pinned, device)

    def original_sizes(self, indices: torch.Tensor) -> torch.Tensor | None:
        return _sizes_at(self._store.original_sizes, self._indices, indices)

    def subset(self, indices: torch.Tensor) -> "MemoryDataset":
        part = MemoryDataset.__new__(MemoryDataset)
        part.labels = self.labels[indices]
        part._store = self._store
        part._indices = indices if self._indices is None else self._indices[indices]
        return part


class _Store:
    """Inputs on the CPU and their copies on devices, shared by a data set and its subsets."""

    def __init__(self, inputs: torch.Tensor, original_sizes: np.ndarray | None) -> None:
        self.inputs, self.original_sizes = inputs, original_sizes
        self._copies: dict[torch.device, torch.Tensor | None] = {}  # None: there was no room

    def place(self, device: torch.device) -> bool:
        if device == self.inputs.device:
            return True
        if device not in self._copies:
            size = self.inputs.numel() * self.inputs.element_size()
            room = device.type != "cuda" or torch.cuda.mem_get_info(device)[0] >= 2 * size
            self._copies[device] = self.inputs.to(device) if room else None
            if not room:
                logger.info(
                    "The data (%.1f GB) stays in main memory: %s has too little free memory.",
                    size / 1e9,
                    device,
                )
        return self._copies[device] is not None

    def on(self, device: torch.device) -> torch.Tensor:
        copy = self.inputs if device == self.inputs.device else self._copies[device]
        assert copy is not None
        return copy


class StreamingDataset:
    """Images that worker processes decode on demand; the workers persist between calls.

    Args:
        paths: files relative to `root`, or encoded images.
        labels: [N] int64.
        image_size: (H, W).
        num_workers: None starts one per processor, up to 16; 0 decodes in this process.
        channel: the channel's name in messages.

    If /dev/shm is too small for the batches in flight, they are sent through pipes instead, which is logged once.

    Raises:
        UserError: a file cannot be read; the message names it.
    """

    owners: torch.Tensor | None = None

    def __init__(
        self,
        paths: EncodedImages | Sequence[str | os.PathLike[str]],
        labels: torch.Tensor,
        image_size: tuple[int, int],
        num_workers: int | None = None,
        root: str | os.PathLike[str] = "",
        channel: str = "",
    ):
        files = paths if isinstance(paths, EncodedImages) else ImageFiles(paths, root, channel)
        if len(files) != len(labels):
            raise ValueError(f"{len(files)} paths and {len(labels)} labels")
        self.labels = labels
        workers = min(cpu_count(), MOST_WORKERS) if num_workers is None else num_workers
        self._stream = _Stream(files, image_size, workers)
        self._indices: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, device: torch.device) -> bool:
        return False

    def batches(self, order: Sequence[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
        rows = [indices if self._indices is None else self._indices[indices] for indices in order]
        return self._stream.read([indices.numpy() for indices in rows], device)

    def original_sizes(self, indices: torch.Tensor) -> torch.Tensor | None:
        return _sizes_at(self._stream.decoder.files.original_sizes, self._indices, indices)

    def subset(self, indices: torch.Tensor) -> "StreamingDataset":
        part = StreamingDataset.__new__(StreamingDataset)
        part.labels = self.labels[indices]
        part._stream = self._stream
        part._indices = indices if self._indices is None else self._indices[indices]
        return part


class JoinedDataset:
    """The examples of one data set, then those of another with inputs of the same shape."""

    owners: torch.Tensor | None = None

    def __init__(self, first: Dataset, second: Dataset, indices: torch.Tensor | None = None) -> None:
        self._parts = (first, second)
        self._indices = torch.arange(len(first) + len(second)) if indices is None else indices
        self.labels = torch.cat([first.labels, second.labels])[self._indices]

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, device: torch.device) -> bool:
        first, second = (part.place(device) for part in self._parts)
        return first and second

    def batches(self, order: Sequence[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
        count = len(self._parts[0])
        rows = [self._indices[indices] for indices in order]
        of_second = [own >= count for own in rows]
        streams = (
            self._parts[0].batches([own[~there] for own, there in zip(rows, of_second, strict=True)], device),
            self._parts[1].batches(
                [own[there] - count for own, there in zip(rows, of_second, strict=True)], device
            ),
        )
        for there, first, second in zip(of_second, *streams, strict=True):
            # Row k of the joined inputs goes where the batch has its k-th example of the first set, then of the second.
            places = torch.cat([(~there).nonzero(), there.nonzero()]).flatten().argsort().to(device)
            yield torch.cat([first, second]).index_select(0, places)

    def original_sizes(self, indices: torch.Tensor) -> torch.Tensor | None:
        rows, count = self._indices[indices], len(self._parts[0])
        there = rows >= count
        first = self._parts[0].original_sizes(rows[~there])
        second = self._parts[1].original_sizes(rows[there] - count)
        if first is None or second is None:
            return None
        found = torch.empty((len(rows), 2), dtype=first.dtype)
        found[~there], found[there] = first, second
        return found

    def subset(self, indices: torch.Tensor) -> "JoinedDataset":
        return JoinedDataset(*self._parts, self._indices[indices])


def _sizes_at(
    sizes: np.ndarray | None, subset: torch.Tensor | None, indices: torch.Tensor
) -> torch.Tensor | None:
    rows = indices if subset is None else subset[indices]
    return None if sizes is None else torch.from_numpy(sizes[rows.numpy()])


class _Stream:
    """The workers that decode one channel's files, shared by a data set and its subsets."""

    def __init__(self, files: EncodedImages, size: tuple[int, int], workers: int):
        self.decoder = _Decoder(files, size)
        self.workers = workers
        self.order = _Order()
        self.loader: DataLoader[Any] | None = None
        self.busy = False
        self.through_pipes = False

    def read(self, order: list[np.ndarray], device: torch.device) -> Iterator[torch.Tensor]:
        if not order:
            return
        pinned = device.type == "cuda"
        self._choose_transport(max(len(indices) for indices in order))
        requests = [(indices, self.through_pipes) for indices in order]
        if self.busy:  # concurrent passes, as in zip(train, validation), need separate workers
            yield from self._deliver(self._loader(_Order(requests), pinned, persistent=False), device)
            return
        if self.loader is None or self.loader.pin_memory != pinned:
            self.loader = self._loader(self.order, pinned, persistent=True)
        self.order.requests = requests
        self.busy, whole = True, False
        try:
            yield from self._deliver(self.loader, device)
            whole = True
        finally:
            self.busy = False
            if not whole:
                self.loader = None

    def _choose_transport(self, largest: int) -> None:
        free = shared_memory_free()
        if self.workers and free < 1 << 20:
            logger.warning(
                "Shared memory (/dev/shm) is absent or full: the images are decoded without worker processes."
            )
            self.workers = 0
            self.loader = None
        # The batches in flight in the workers, and one that is being received.
        needed = (self.workers * _PREFETCH + 1) * largest * self.decoder.bytes_each
        if self.workers and not self.through_pipes and needed > 0.9 * free and not self.busy:
            logger.warning(
                "Shared memory (/dev/shm) has %.0f MB free, less than the %.0f MB of batches in flight: they are "
                "sent through pipes instead.",
                free / 1e6,
                needed / 1e6,
            )
            self.through_pipes = True

    def _loader(
        self, order: "_Order", pinned: bool, persistent: bool, job: TorchDataset[Any] | None = None
    ) -> DataLoader[Any]:
        fork = "fork" in multiprocessing.get_all_start_methods()
        return DataLoader(
            job or self.decoder,
            batch_sampler=order,  # type: ignore[arg-type]
            num_workers=self.workers,
            collate_fn=_as_is,
            pin_memory=pinned,
            persistent_workers=persistent and self.workers > 0,
            prefetch_factor=_PREFETCH if self.workers else None,
            worker_init_fn=_start_worker,
            multiprocessing_context="fork" if self.workers and fork else None,
            # Without its own generator every pass would draw a seed from the global one and change later draws.
            generator=torch.Generator(),
        )

    def _deliver(self, loader: DataLoader[Any], device: torch.device) -> Iterator[torch.Tensor]:
        batches = iter(loader)
        try:
            yield from _to_device(map(_tensor_or_complaint, batches), device)
        except BaseException as error:  # also where the pass is left before its end
            _end(batches)
            if isinstance(error, DamagedImageError):
                raise self._with_others(error) from error
            raise

    def _with_others(self, first: DamagedImageError) -> UserError:
        """One error about all damaged images of the channel, after that of one; as many as are found in a minute."""
        files = self.decoder.files
        logger.info("Image '%s' is damaged. The run ends once others have been looked for.", first.name)
        count = len(files)
        requests = [
            (indices, True) for indices in np.array_split(np.arange(count), -(-count // _SOUGHT_AT_ONCE))
        ]
        found: list[DamagedImageError] = []
        looked_at, until = 0, time.monotonic() + SEEKING_SECONDS
        loader = self._loader(_Order(requests), False, persistent=False, job=_Seeker(files))
        batches = None
        try:
            batches = iter(loader)
            for number, damaged in batches:
                looked_at += number
                found += damaged
                if time.monotonic() > until:
                    break
        except (OSError, RuntimeError) as error:
            # Workers do not start or end. The run ends anyway, with the error about the image.
            logger.warning("The search for other damaged images ended: %s", first_line(error))
        finally:
            _end(batches)
        if not looked_at:
            return first
        if first.name not in {error.name for error in found}:
            found = [first, *found]
        return complaint(found, count, looked_at)


def _end(batches: Any, ending: Callable[[], bool] = sys.is_finalizing) -> None:
    """End the workers of a pass that is broken off: nobody waits for what they still decode.

    They are not left to the garbage collector, which closes what their queues' threads close once more, by numbers
    that may be other files' by then.
    """
    if ending():  # of Python itself: it has ended them, and what would end them is gone
        return
    for worker in getattr(batches, "_workers", ()):
        worker.terminate()
    getattr(batches, "_shutdown_workers", lambda: None)()


class _Order:
    """A batch sampler whose batches can be replaced while a loader keeps its workers."""

    def __init__(self, requests: Sequence[tuple[np.ndarray, bool]] = ()):
        self.requests = requests

    def __iter__(self) -> Iterator[tuple[np.ndarray, bool]]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)


class _Decoder(TorchDataset[Any]):
    """Runs in a worker: decodes a batch of indices to pixels [B, 3, H, W], or returns an error.

    It is returned rather than raised, because the loader wraps exceptions of workers in a traceback.
    """

    def __init__(self, files: EncodedImages, size: tuple[int, int]):
        self.files, self.size = files, size
        self.bytes_each = 3 * math.prod(size)

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError("batches only")

    def __getitems__(self, request: tuple[np.ndarray, bool]) -> torch.Tensor | np.ndarray | UserError:
        indices, through_pipe = request
        # Arrays are sent through a pipe, tensors through shared memory.
        batch = np.empty((len(indices), 3, *self.size), np.uint8)
        try:
            self.files.prepare(indices)
            for position, index in enumerate(indices):
                batch[position] = self.files.decode(int(index), self.size).transpose(2, 0, 1)
        except DamagedImageError as error:
            return error
        except UserError as error:
            return UserError(str(error))
        return batch if through_pipe else torch.from_numpy(batch)


class _Seeker(TorchDataset[Any]):
    """Runs in a worker: decodes a batch of indices to a few pixels, and returns their number and what is damaged."""

    def __init__(self, files: EncodedImages):
        self.files = files

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError("batches only")

    def __getitems__(self, request: tuple[np.ndarray, bool]) -> tuple[int, list[DamagedImageError]]:
        return len(request[0]), damaged_among(self.files, request[0])


def _tensor_or_complaint(batch: Any) -> torch.Tensor:
    if isinstance(batch, UserError):
        raise batch
    return torch.from_numpy(batch) if isinstance(batch, np.ndarray) else batch


def _to_device(batches: Iterable[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
    """Move the batches to the device.

    On a GPU each batch is copied while the previous one is processed: copies use a separate stream, one batch ahead, so
    that they do not queue behind the computation.
    """
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    copying = torch.cuda.Stream(device)
    ahead: tuple[torch.Tensor, torch.cuda.Event] | None = None
    for batch in itertools.chain(batches, [None]):
        before = ahead
        if batch is not None:
            with torch.cuda.stream(copying):
                ahead = batch.to(device, non_blocking=True), copying.record_event()
        if before is not None:
            copied, done = before
            working = torch.cuda.current_stream(device)
            working.wait_event(done)
            # The allocator must not reuse this memory for a later copy before the computation on it has finished.
            copied.record_stream(working)
            yield copied


def _as_is(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:
    # The parent process stops its workers itself. torch already installs a handler for SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
