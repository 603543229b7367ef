"""The device and the numeric precision of training, and whether the machine supports them."""

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from subset_trainer.data.machine import cpu_count, has_bfloat16_units
from subset_trainer.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LEAST_CHANNELS_LAST = 32
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Machine:
    """A device and the data type of forward and backward passes on it."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @property
    def needs_loss_scaling(self) -> bool:
        return self.dtype == torch.float16

    def memory_format(self, input_shape: Sequence[int]) -> torch.memory_format:
        """The memory format of inputs of this shape.

        With channels last, convolutions are faster on GPUs. On CPUs they are a tenth faster, but not for images of
        fewer than 32 pixels a side.
        """
        innermost = self.device.type == "cuda" or min(input_shape[-2:]) >= LEAST_CHANNELS_LAST
        return torch.channels_last if innermost else torch.contiguous_format

    def describe(self) -> str:
        name = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else f"{cpu_count()} processors"
        )
        return f"{self.device.type} ({name}), {str(self.dtype).removeprefix('torch.')}"


class Lap:
    """Returns the seconds since it was created or last called."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def __call__(self) -> float:
        start, self._start = self._start, time.perf_counter()
        return self._start - start


class Stopwatch:
    """Adds up the time of some sections of work; on a GPU with CUDA events, so that it does not synchronise."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        if self._on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._events.append((start, end))
        else:
            started = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - started

    def seconds(self) -> float:
        """The total time in seconds. Waits for the last section to end."""
        if self._events:
            self._events[-1][1].synchronize()
        return self._seconds + sum(start.elapsed_time(end) for start, end in self._events) / 1000


def find(device: str, local_rank: int = 0, local_size: int = 1) -> torch.device:
    """Choose the device to train on, and set torch up for it.

    Args:
        device: auto, cpu or cuda.
        local_rank: rank of this process on its host, which determines its GPU.
        local_size: number of processes on the host, which share the CPU cores.

    Raises:
        UserError: the GPU cannot be used, or ``cuda`` was requested and there is no GPU.
    """
    if device == "cpu":
        return _cpu(local_size)
    if not torch.cuda.is_available():
        if NVIDIA_DRIVER.exists():
            raise UserError(
                f"this machine has an NVIDIA GPU, but CUDA {torch.version.cuda} does not start with its driver "
                f"({_driver_version()}): use an image built with CUDA=12, a newer driver, or device=cpu"
            )
        if device == "cuda":
            raise UserError(
                "hyperparameter device='cuda', but this machine shows no GPU; start it with one or use auto"
            )
        return _cpu(local_size)
    check_capability(
        torch.cuda.get_device_name(local_rank),
        torch.cuda.get_device_capability(local_rank),
        torch.cuda.get_arch_list(),
    )
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    return torch.device("cuda", local_rank)


def prepare(device: str, precision: str, images: bool, local_rank: int = 0, local_size: int = 1) -> Machine:
    """Choose the device and the precision.

    With ``auto``, tables and n-grams use float32, because their small products are not faster in lower precision.
    Images and encoders use bfloat16 on GPUs and CPUs with hardware support (twice as fast on a CPU with AVX-512 BF16),
    float16 on older GPUs, and float32 on other CPUs.

    Args:
        device: see :func:`find`.
        precision: auto, float32, bfloat16 or float16.
        images: whether the inputs are images, or texts for an encoder, which gains as much.
        local_rank, local_size: see :func:`find`.

    Raises:
        UserError: see :func:`find`.
    """
    found = find(device, local_rank, local_size)
    if precision == "auto":
        if not images:
            precision = "float32"
        elif found.type == "cuda":
            precision = "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float16"
        else:
            precision = "bfloat16" if has_bfloat16_units() else "float32"
    return Machine(found, DTYPES[precision])


def be_deterministic() -> None:
    """Use only deterministic kernels; an operation without one raises an error.

    Call it after :func:`prepare` and before the first matrix product on a GPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it for determinism
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    # Filling memory only helps to find bugs, and nothing here reads uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def check_capability(name: str, capability: tuple[int, int], architectures: Iterable[str]) -> None:
    """Reject a GPU that torch has no code for, before CUDA fails with 'no kernel image is available'.

    Args:
        name: name of the GPU.
        capability: its compute capability, (major, minor).
        architectures: the result of ``torch.cuda.get_arch_list``. ``sm_80`` is machine code, which runs on GPUs of the
            same major and the same or a higher minor capability; ``compute_90`` is PTX, which newer GPUs compile.

    Raises:
        UserError: no entry supports the GPU.
    """
    known = []
    for architecture in architectures:
        if match := re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", architecture):
            kind, major, minor = match[1], int(match[2]), int(match[3])
            known.append(f"{major}.{minor}")
            if (kind == "sm" and major == capability[0] and minor <= capability[1]) or (
                kind == "compute" and (major, minor) <= capability
            ):
                return
    raise UserError(
        f"the GPU {name} has compute capability {capability[0]}.{capability[1]}, for which this image's torch "
        f"{torch.__version__} has no code (it has {', '.join(known)}): use an image built with CUDA=12 for older GPUs, "
        "another instance type, or device=cpu"
    )


def _cpu(processes: int) -> torch.device:
    torch.set_num_threads(_threads(cpu_count() // processes))
    return torch.device("cpu")


def _threads(most: int) -> int:
    """The number of threads: ``most``, or OMP_NUM_THREADS if it is lower. On a busy machine, threads that wait for each
    other are many times slower than one thread."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(most, int(asked)) if asked.isdigit() and int(asked) else most)


def _driver_version() -> str:
    match = re.search(r"Kernel Module\D*([\d.]+)", NVIDIA_DRIVER.read_text(errors="replace"))
    return f"driver {match[1]}" if match else "driver of unknown version"
