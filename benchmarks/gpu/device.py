"""The one place where CUDA's own calls are made, and what replaces them in the rehearsal on a CPU.

What only a GPU can run is in `Cuda`: events, its memory's statistics, the warning mode for synchronisations, graphs.
`Rehearsal` has the same methods, so that every other line of the stages runs on a CPU as well.
"""

import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.common import processor
from benchmarks.gpu.runner import ROOT, Values
from subset_trainer.data.machine import cpu_count
from subset_trainer.training import devices
from subset_trainer.training.devices import Machine

SYNCHRONISING = "called a synchronizing CUDA operation"
"""The text of the warning that torch gives for each synchronisation."""
WARM_UP = 3
"""Calls before a graph is captured: kernels are chosen and the optimiser's state is made."""


class Device(Protocol):
    """What the stages need of the machine they run on."""

    machine: Machine

    def identity(self) -> Values:
        """What the figures hold for."""
        ...

    def seconds(self, work: Callable[[], Any], times: int) -> float:
        """Seconds a call of so many in a row, without those before them."""
        ...

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        ...

    def peak_mib(self, work: Callable[[], Any]) -> float:
        """Most memory that was taken while the work was done, in MiB: the GPU's tensors, or the process's."""
        ...

    def warning(self) -> AbstractContextManager[Any]:
        """Within this context, each synchronisation of host and device gives a warning with the text SYNCHRONISING."""
        ...

    def captured(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """A call that replays the step's kernels."""
        ...

    def compiled(self, function: Callable[..., Tensor], mode: str) -> Callable[..., Tensor]:
        """`torch.compile`'s."""
        ...


class Cuda:
    """The first GPU."""

    def __init__(self) -> None:
        self.machine = devices.prepare("cuda", "auto", images=True)

    def identity(self) -> Values:
        properties = torch.cuda.get_device_properties(self.machine.device)
        return _host() | {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "driver": _driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "architectures": torch.cuda.get_arch_list(),
            "precision": str(self.machine.dtype).removeprefix("torch."),
        }

    def seconds(self, work: Callable[[], Any], times: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.wait()
        start.record()
        for _ in range(times):
            work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / times

    def wait(self) -> None:
        torch.cuda.synchronize()

    def peak_mib(self, work: Callable[[], Any]) -> float:
        self.wait()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        work()
        self.wait()
        return torch.cuda.max_memory_allocated() / 2**20

    @contextmanager
    def warning(self) -> Iterator[None]:
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def captured(self, step: Callable[[], Any]) -> Callable[[], Any]:
        # As torch's notes on CUDA graphs have it: warm up on another stream, then capture.
        other = torch.cuda.Stream()
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            for _ in range(WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(other)
        self.wait()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay

    def compiled(self, function: Callable[..., Tensor], mode: str) -> Callable[..., Tensor]:
        compiled: Callable[..., Tensor] = torch.compile(function, mode=mode)
        return compiled


class _Reads(TorchDispatchMode):
    """Warns where a number of a tensor is read: what would wait for a GPU."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            warnings.warn(SYNCHRONISING, stacklevel=2)
        return func(*args, **(kwargs or {}))


class Rehearsal:
    """A CPU, which does the same by other means: no figure of it is one of a GPU."""

    def __init__(self) -> None:
        self.machine = devices.prepare("cpu", "auto", images=True)

    def identity(self) -> Values:
        return _host() | {
            "device": "a CPU, in the rehearsal",
            "capability": "none",
            "memory_gib": 0.0,
            "multiprocessors": 0,
            "driver": None,
            "cuda": None,
            "cudnn": None,
            "architectures": [],
            "precision": str(self.machine.dtype).removeprefix("torch."),
        }

    def seconds(self, work: Callable[[], Any], times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - start) / times

    def wait(self) -> None:
        pass

    def peak_mib(self, work: Callable[[], Any]) -> float:
        work()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def warning(self) -> AbstractContextManager[Any]:
        return _Reads()

    def captured(self, step: Callable[[], Any]) -> Callable[[], Any]:
        for _ in range(WARM_UP):
            step()
        return step

    def compiled(self, function: Callable[..., Tensor], mode: str) -> Callable[..., Tensor]:
        # Its graph is made and run as it is: inductor would compile C++ for longer than all of the rehearsal takes.
        compiled: Callable[..., Tensor] = torch.compile(function, backend="eager")
        return compiled


def here(dry: bool) -> Device:
    """Raises UserError where no GPU is usable."""
    return Rehearsal() if dry else Cuda()


@contextmanager
def synchronisations(device: Device, found: Callable[[str], None]) -> Iterator[None]:
    """Calls `found` with the place, `file:line function`, of each synchronisation within."""

    def shown(message: Warning | str, *details: Any, **more: Any) -> None:
        if SYNCHRONISING in str(message):
            found(_place())

    with warnings.catch_warnings(), device.warning():
        warnings.simplefilter("always")
        warnings.showwarning = shown
        yield


def _place() -> str:
    """The innermost line of the image's code that is being run."""
    frame: FrameType | None = sys._getframe(1)
    outer = ""
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(ROOT / "container_src"):
            return f"{file.relative_to(ROOT)}:{frame.f_lineno} {frame.f_code.co_name}"
        outer = outer or f"{file.name}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return outer


def _host() -> Values:
    return {
        "processor": processor(),
        "processors": cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _driver() -> str | None:
    with suppress(OSError, subprocess.SubprocessError, IndexError):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.split()[0]
    return None


def limit_memory(gib: float) -> None:
    """Let this process have no more of the GPU's memory from now on; on a CPU there is nothing to limit."""
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / total), 0)
