"""Selection at the article's size: how long a choice takes, what the pass before it takes, and the memory of both."""

import statistics
from typing import Any

from benchmarks import selection as benchmark
from benchmarks import training
from benchmarks.gpu import device, inside
from benchmarks.gpu.runner import Context, Values
from benchmarks.selection import Case


def embedding(context: Context, repeats: int, **settings: Any) -> Values:
    """Seconds of a pass of ResNet-18 over the images that keeps logits and features."""
    here = device.here(context.dry)
    chosen = training.Settings(**settings, validation=2)
    work = inside.embed(chosen, here.machine, training.synthesise(chosen).train)
    here.seconds(work, 1)  # the data reach the device, and kernels are chosen
    seconds = [here.seconds(work, 1) for _ in range(repeats)]
    return {
        "images": chosen.images,
        "seconds": statistics.median(seconds),
        "peak_mib": here.peak_mib(work),
    }


def choice(context: Context, repeats: int, **case: Any) -> Values:
    """Seconds from logits and features to the subset."""
    here = device.here(context.dry)
    chosen = Case(**case)
    data = benchmark.synthesise(chosen, seed=0)
    row = benchmark.measure_native(
        chosen, data, repeats, seed=0, device=str(here.machine.device), batch_size=128
    )
    return {
        "strategy": chosen.strategy,
        "n": chosen.n,
        "classes": chosen.classes,
        "features": chosen.features,
        "budget": chosen.budget,
        "seconds": row["native_seconds"],
        "runs": row["native_runs"],
        "peak_mib": row["peak_device_mib"],
    }
