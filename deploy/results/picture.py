"""Draws a comparison as one PNG file, for where a page cannot be shown: what each run costs and reaches."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.results.compare import Run
from deploy.results.plots import Plots
from subset_trainer.insight.charts import MARKERS, Series, labels, ticks
from subset_trainer.tracking.metrics import SPOKEN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = "comparison.png"
SIGNS = dict(zip(MARKERS, "os^DvHP*", strict=True))
MOST_IN_A_COLUMN = 30
"""Entries of the legend."""


def write(folder: Path, runs: Sequence[Run], title: str, tolerance: float | None = None) -> Path:
    """Write the picture into an existing folder, and return its path.

    Args:
        runs: at least one.
        tolerance: accepted loss, a share; None: there is none.
    """
    path = folder / FILE
    figure(runs, title, tolerance).savefig(path, dpi=130)
    return path


def figure(runs: Sequence[Run], title: str, tolerance: float | None = None) -> "Figure":
    """Draw the runs' measure against total time, and against the share of the data, with the legend beside both."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    plots = Plots(runs, tolerance)
    entries = len(plots.chains) + 2
    # An entry of the legend takes a fifth of an inch.
    drawn = Figure(figsize=(14, max(5.6, 0.21 * min(entries, MOST_IN_A_COLUMN) + 0.4)), layout="constrained")
    FigureCanvasAgg(drawn)
    by_time, by_share = drawn.subplots(1, 2, sharey=True)
    for series in plots.against(lambda _, run: run.seconds):
        _draw(by_time, series)
    for series in plots.against(lambda group, _: group.share):
        _draw(by_share, series)
    by_time.set(xlabel="total time (seconds), selection and evaluation included")
    by_share.set(xlabel="share of the data")
    by_share.xaxis.set_major_formatter(PercentFormatter(1.0))
    low, high = by_time.get_ylim()
    marks, _ = labels(ticks(max(0.0, low), min(1.0, high), 7), "%")
    by_time.set_yticks([at for at, _ in marks], [text for _, text in marks])
    by_time.set_ylabel(f"{'test' if plots.tested else 'validation'} {SPOKEN[plots.metric]}")
    for axes in (by_time, by_share):
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = by_time.get_legend_handles_labels()
    drawn.legend(
        handles,
        names,
        loc="outside right upper",
        fontsize=9,
        frameon=False,
        ncols=-(-len(names) // MOST_IN_A_COLUMN) or 1,
    )
    drawn.suptitle(title, x=0.01, ha="left")
    return drawn


def _draw(axes: "Axes", series: Series) -> None:
    dashes = tuple(float(part) for part in series.dash.split())
    xs, ys = zip(*series.points, strict=True)
    axes.plot(
        xs,
        ys,
        color=series.colour,
        linestyle=(0, dashes) if dashes else "-",
        linewidth=1.6,
        marker=SIGNS.get(series.marker, ""),
        markersize=6,
        markerfacecolor="white" if series.hollow else series.colour,
        label=series.name,
    )
    if series.band:
        at, low, high = zip(*series.band, strict=True)
        if series.shaded:
            axes.fill_between(at, low, high, color=series.colour, alpha=0.12, linewidth=0)
        if series.marker:
            axes.vlines(at, low, high, color=series.colour, linewidth=1.2)
