"""Too little memory, with errors as torch and Python raise them."""

import errno

import pytest
import torch
from torch import Tensor

from subset_trainer import entrypoint
from subset_trainer.errors import PlatformError, UserError, short_of_memory
from subset_trainer.training.out_of_memory import Parts, understood

CUDA = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 14.58 GiB\nSee documentation"
)
HOST = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "3670016000 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (CUDA, "GPU"),
        (
            RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
            "GPU",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "GPU"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "GPU"),
        (HOST, "host"),
        (MemoryError("Unable to allocate 9.31 GiB for an array with shape (10,)"), "host"),
    ],
)
def test_whose_memory_ran_out(error: Exception, where: str) -> None:
    assert short_of_memory(error) == where
    with pytest.raises(UserError) as failure:
        understood(error, 64)
    assert str(failure.value) == (
        f"out of memory on the {where} with batch_size=64: try batch_size=32, a smaller image_size or model, or an "
        f"instance with more memory ({str(error).splitlines()[0]})"
    )
    outside = entrypoint.failure_of(error)
    assert isinstance(outside, UserError)
    assert str(outside).startswith(f"out of memory on the {where}: use a smaller batch_size")


def test_the_least_batch_has_no_smaller_one() -> None:
    with pytest.raises(UserError, match="with batch_size=2: try a smaller image_size or model"):
        understood(CUDA, 2)


def test_other_errors_go_on() -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as raised:
        understood(error, 64)
    assert raised.value is error
    assert short_of_memory(OSError(errno.ENOENT, "x")) is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/m/x"),
            "no space left on the disk for /m/x: a larger",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/m/x"),
            "the file system is read-only for /m/x; expected",
        ),
        (
            FileExistsError(errno.EEXIST, "File exists", "/m"),
            "a file stands where a folder should for /m; expected",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/m"),
            "permission denied for /m; expected a place",
        ),
        (OSError(errno.EIO, "Input/output error", "/m"), "the disk fails (input/output error) for /m"),
        (
            RuntimeError("DataLoader worker (pid 123) is killed by signal: Killed. "),
            "a process that decodes images ended unexpectedly, as when the machine is short of memory (DataLoader",
        ),
    ],
)
def test_what_the_machine_does(error: Exception, expected: str) -> None:
    failure = entrypoint.failure_of(error)
    assert isinstance(failure, PlatformError)
    assert str(failure).startswith(expected)


class Network:
    """Takes so many examples at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.sizes: list[int] = []

    def logits(self, batch: Tensor) -> Tensor:
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 2 * batch

    def logits_and_features(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits(batch), batch + 1


def test_evaluation_goes_in_parts_that_fit() -> None:
    network, parts, batch = Network(3), Parts(), torch.arange(10.0)
    assert torch.equal(parts.of(network.logits, batch), 2 * batch)
    assert network.sizes == [10, 5, 3, 3, 3, 1]
    network.sizes.clear()
    logits, features = parts.of(network.logits_and_features, batch)
    assert torch.equal(logits, 2 * batch) and torch.equal(features, batch + 1)
    # What was learned stays.
    assert network.sizes == [3, 3, 3, 1]


def test_where_not_even_one_fits_the_error_goes_on() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Parts().of(Network(0).logits, torch.arange(4.0))
