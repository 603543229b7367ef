"""The `train` program on a machine that lacks something: `python -m benchmarks.gpu.faults memory|code`.

- `memory`: this process gets only so much of the GPU's memory. In the rehearsal, where there is none to limit, torch
  raises once that a batch does not fit.
- `code`: torch has no code for the GPU, judging by the architectures that it was built for.
"""

import os
import sys
from typing import Any

import torch

from benchmarks.gpu import device
from subset_trainer import entrypoint

GIB = "GPU_PROOF_MEMORY_GIB"
"""The environment variable that gives how much `memory` leaves."""
OTHER_ARCHITECTURES = ["sm_50", "sm_60"]
"""What no GPU of today runs."""


def memory() -> None:
    if torch.cuda.is_available():
        device.limit_memory(float(os.environ[GIB]))
        return
    real = torch.nn.functional.cross_entropy
    failed: list[bool] = []

    def once(*arguments: Any, **options: Any) -> Any:
        if torch.is_grad_enabled() and not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("CUDA out of memory, in the rehearsal")
        return real(*arguments, **options)

    torch.nn.functional.cross_entropy = once


def code() -> None:
    torch.cuda.get_arch_list = lambda: OTHER_ARCHITECTURES
    if not torch.cuda.is_available():
        torch.cuda.is_available = lambda: True
        torch.cuda.device_count = lambda: 1
        torch.cuda.get_device_name = lambda *device: "of the rehearsal"
        torch.cuda.get_device_capability = lambda *device: (9, 0)


if __name__ == "__main__":
    {"memory": memory, "code": code}[sys.argv[1]]()
    sys.argv[1:] = []
    entrypoint.main()
