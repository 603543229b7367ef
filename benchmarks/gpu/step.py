"""The same step as it is, under a CUDA graph and compiled: whether building on either would pay."""

import time
from typing import Any

from benchmarks import training as benchmark
from benchmarks.gpu import device, inside
from benchmarks.gpu.runner import Context, Values
from benchmarks.training import Settings


def measure(context: Context, way: str, times: int, repeats: int, **settings: Any) -> Values:
    """Seconds a step, and before the first one: of capture, or of compilation with the first steps."""
    here = device.here(context.dry)
    chosen = Settings(**settings, images=settings["batch_size"], validation=2)
    step = inside.Step(chosen, here.machine, benchmark.synthesise(chosen))
    step()  # kernels are loaded and chosen, whatever the way
    here.wait()
    started = time.perf_counter()
    if way.startswith("compiled"):
        mode = "reduce-overhead" if way == "compiled with graphs" else "default"
        step.network = here.compiled(step.network, mode)
    run = here.captured(step) if way == "graph" else step
    # Capturing makes as many steps itself: every way has made the same number when its loss is summed up.
    for _ in range(device.WARM_UP * (1 if way == "graph" else 2)):
        run()
    here.wait()
    preparing = time.perf_counter() - started
    step.loss_sum.zero_()
    seconds = [here.seconds(run, times) for _ in range(repeats)]
    return {
        "batch_size": chosen.batch_size,
        "way": way,
        "seconds_per_step": sorted(seconds)[len(seconds) // 2],
        "fastest_seconds_per_step": min(seconds),
        "preparing_seconds": preparing,
        # Of the same batch again and again, so it falls; ways that differ much in it do not do the same.
        "mean_loss": float(step.loss_sum) / (times * repeats),
    }
