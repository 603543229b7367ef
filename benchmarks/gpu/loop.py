"""The loop beside the bare one and the article's, and how often the host waits for the GPU within an epoch."""

import importlib
import random
import statistics
import warnings
from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np

from benchmarks import training as benchmark
from benchmarks.gpu import device, inside
from benchmarks.gpu.runner import Context, NotMeasured, Values
from benchmarks.training import Settings
from subset_trainer.training import plan

WATCH = "divergence.py"
"""Where the loop reads its loss every so many steps, on purpose."""


def epochs(context: Context, fraction: float, **settings: Any) -> Values:
    """Seconds an epoch of ours and of the bare loop, and the share of the measured peak."""
    here = device.here(context.dry)
    chosen = Settings(**settings, fractions=(fraction,), skip_article=True)
    times = benchmark.measure(fraction, benchmark.synthesise(chosen), chosen, here.machine)
    row = benchmark.derived(
        times
        | {
            "fraction": fraction,
            "images": chosen.images,
            "batch_size": chosen.batch_size,
            "flops_per_image": benchmark.flops_per_image(chosen, here.machine),
            "peak_flops": _peak(context, here),
        }
    )
    return {name: value for name, value in row.items() if not name.startswith(("article", "ratio_article"))}


def _peak(context: Context, here: device.Device) -> float:
    known = context.known.get("machine", {}).get("matrix")
    return float(known["reduced_flops"]) if known else benchmark.peak_flops(here.machine)


def article(context: Context, fraction: float, steps: int, repeats: int, **settings: Any) -> Values:
    """Seconds an epoch of the article's loop, from a few of its steps; below fraction 1 through CORDS's loader.

    A pass of more steps less a pass of two, so that starting the loaders' processes is not counted.
    """
    here = device.here(context.dry)
    chosen = Settings(**settings, fractions=(fraction,))
    budget = plan.budget(chosen.images, fraction)
    random.seed(chosen.seed)  # CORDS draws from the global generators
    np.random.seed(chosen.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CORDS's, about pinned memory and its own copies
        if budget < chosen.images:
            _import_cords()
        loop = benchmark.ArticleLoop(benchmark.synthesise(chosen), budget, chosen, here.machine.device)
        few = 2
        loop.epoch(few)
        loop.epoch(few)
        seconds = [(loop.epoch(few + steps) - loop.epoch(few)) / steps for _ in range(repeats)]
    per_step = statistics.median(seconds)
    return {
        "fraction": fraction,
        "batch_size": chosen.batch_size,
        "workers": chosen.workers,
        "steps": steps,
        "seconds_per_step": per_step,
        "article_seconds_per_epoch": per_step * plan.batch_count(budget, chosen.batch_size),
    }


def _import_cords() -> None:
    try:
        with suppress(ModuleNotFoundError):
            # Importing it is all: a .pth file has done so, but where packages are laid out in a plain folder.
            importlib.import_module("cords_shim")
        import cords.utils.data.dataloader.SL.adaptive  # noqa: F401
    except ModuleNotFoundError as error:
        raise NotMeasured(f"CORDS cannot be imported: {error}") from error


def waits(context: Context, epochs: int, **settings: Any) -> Values:
    """Synchronisations of host and device in the last epoch of a real run on all of the data.

    Between the first batch's arrival and the last one's there should be none but the loss that is read every so many
    steps. Those before and after are listed too.
    """
    here = device.here(context.dry)
    chosen = Settings(**settings)
    data = benchmark.synthesise(chosen)
    within = False
    epoch = 0
    places: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}

    def moved(first: bool) -> None:
        nonlocal within, epoch
        within, epoch = first, epoch + first

    def found(place: str) -> None:
        if epoch == epochs or (epoch == epochs - 1 and not within):
            places[within][place] += 1

    watched = inside.Watched(data.train.inputs, data.train.labels)
    watched.moved = moved
    ours = benchmark.OurLoop(data, chosen.images, chosen, here.machine)
    with device.synchronisations(here, found):
        ours.train(watched, chosen.images, epochs)
    steps = plan.batch_count(chosen.images, chosen.batch_size)
    planned = sum(count for place, count in places[True].items() if WATCH in place)
    return {
        "batch_size": chosen.batch_size,
        "steps": steps,
        "within": places[True].total(),
        "reads_of_the_loss": planned,
        "others_within": places[True].total() - planned,
        "places_within": dict(places[True].most_common(20)),
        "places_around": dict(places[False].most_common(20)),
    }
