"""What the machine is and what it reaches at best: the ceilings that the other figures are shares of."""

import statistics

import torch

from benchmarks.gpu import device
from benchmarks.gpu.runner import Context, Values


def identity(context: Context) -> Values:
    """GPU, driver, versions."""
    return device.here(context.dry).identity()


def matrix(context: Context, size: int, times: int, repeats: int) -> Values:
    """Operations a second of a product of square matrices, in the loop's arithmetic and in float32 (TF32 where torch
    is set up for it), on random numbers: zeros are faster."""
    here = device.here(context.dry)
    values: Values = {"size": size}
    for name, dtype in (("reduced", here.machine.dtype), ("float32", torch.float32)):
        left, right = (torch.randn(size, size, device=here.machine.device).to(dtype) for _ in range(2))
        product = torch.empty_like(left)

        def multiply(
            left: torch.Tensor = left, right: torch.Tensor = right, out: torch.Tensor = product
        ) -> None:
            torch.mm(left, right, out=out)

        here.seconds(multiply, times)  # warm
        seconds = [here.seconds(multiply, times) for _ in range(repeats)]
        values[f"{name}_flops"] = 2 * size**3 / statistics.median(seconds)
        values[f"{name}_best_flops"] = 2 * size**3 / min(seconds)
        values[f"{name}_dtype"] = str(dtype).removeprefix("torch.")
    return values


def copy(context: Context, mib: int, times: int, repeats: int) -> Values:
    """Bytes a second of a copy on the device, those read and those written."""
    here = device.here(context.dry)
    source = torch.randn(mib * 2**18, device=here.machine.device)
    target = torch.empty_like(source)
    here.seconds(lambda: target.copy_(source), times)
    seconds = [here.seconds(lambda: target.copy_(source), times) for _ in range(repeats)]
    return {"mib": mib, "bytes_per_second": 2 * mib * 2**20 / statistics.median(seconds)}


def launches(context: Context, times: int, repeats: int) -> Values:
    """Seconds a kernel of one that has nothing to do: what many small ones cost at least, one after the other."""
    here = device.here(context.dry)
    number = torch.zeros(1, device=here.machine.device)
    here.seconds(lambda: number.add_(1), times)
    return {
        "seconds_per_kernel": statistics.median(
            here.seconds(lambda: number.add_(1), times) for _ in range(repeats)
        )
    }
