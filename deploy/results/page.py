"""Writes a comparison as one self-contained HTML page without scripts, which can be mailed and read without a network.

It opens with the answer. Charts are SVG pictures whose coordinates are final; tables show the same values.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from urllib.parse import quote

from deploy import text
from deploy.results import verdict
from deploy.results.answers import QUESTIONS, Answer
from deploy.results.compare import Lost, Row, Run, cells_of, further_columns, money, rows, unequal_updates
from deploy.results.judging import Judged
from deploy.results.plots import Group, Panel, Plots
from subset_trainer import pages
from subset_trainer.insight import learning_curve_section
from subset_trainer.insight.charts import Axis, Chart, Series, draw
from subset_trainer.readable import number
from subset_trainer.tracking.metrics import SPOKEN

TEMPLATES = Path(__file__).parent / "templates"
WIDE, NARROW, SMALL = (570, 330), (350, 290), (350, 210)
"""Sizes of a chart: on a screen, on a phone, and of one among several."""
MOST = 12
"""Charts, bars and candidates; more of them are folded."""
PARTS = (("training", "#0072b2"), ("selection", "#b34a00"), ("evaluation", "#777777"))
"""Of a run's total time, with their colours."""
FILES = (("report", "report.html"), ("examples", "examples.parquet"))
"""Name and file of what a run's row links to."""


@dataclass(frozen=True)
class Drawing:
    """One chart in two sizes, of which a page shows the one that fits."""

    caption: str
    wide: Chart
    narrow: Chart


@dataclass(frozen=True)
class Candidate:
    """A row of the answer."""

    cells: Sequence[str]
    interval: tuple[float, float, float] | None
    """Where the lower bound, the mean and the upper bound are, from 0 to 100; None: there are no bounds."""


@dataclass(frozen=True)
class Judgement:
    """The answer's candidates with their uncertainty."""

    columns: Sequence[str]
    rows: Sequence[Candidate]
    zero: float
    """Where no change is, from 0 to 100."""
    tolerance: float
    """Where the accepted loss is."""


@dataclass(frozen=True)
class Time:
    """Where the time of runs goes that differ in the seed alone."""

    name: str
    spoken: str
    parts: Sequence[tuple[float, str]]
    """Share of the longest bar, in percent, and colour."""


@dataclass(frozen=True)
class Table:
    """A table of the runs. The first column has their names."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Settings:
    """The runs' hyperparameters."""

    of_runs: Sequence[tuple[str, str]]
    """For each run, its name and its values of the hyperparameters that differ."""
    shared: Sequence[tuple[str, str]]
    """Name and value of each hyperparameter that all runs share."""


def write(
    path: Path,
    title: str,
    runs: Sequence[Run],
    lost: Sequence[Lost] = (),
    prices: Mapping[str, float] | None = None,
    answer: Answer | str | None = None,
) -> None:
    """Write the page.

    Args:
        path: path of the file; its folder is created if it is missing.
        title: title of the page.
        runs: the finished runs, at least one.
        lost: the runs without results.
        prices: instance type → dollars an hour.
        answer: how much is enough, or why that cannot be said; None: nobody asked.
    """
    lines = rows(runs, prices)
    judged = answer if isinstance(answer, Answer) else None
    plots = Plots(runs, judged.tolerance if judged else None)
    links = [_links(run, path.parent) for run in runs]
    path.parent.mkdir(parents=True, exist_ok=True)
    page = pages.render(
        "comparison.html",
        TEMPLATES,
        title=title,
        answer=[] if answer is None else verdict.paragraphs(runs, answer),
        judgement=_judgement(judged) if judged else None,
        measured=f"{'Test' if plots.tested else 'Validation'} {SPOKEN[plots.metric]}",
        **_drawings(plots, prices or {}),
        over_time=_panels(plots.panels(over_time=True), Axis("total time", "s", low=0)),
        over_epochs=_panels(plots.panels(over_time=False), Axis("epoch", whole=True)),
        searches=[
            replace(searched.chart, title=f"The search of {run.name}")
            for run in runs
            if run.searched and (searched := learning_curve_section.shown(run.searched)).chart
        ],
        curve_measure=SPOKEN[plots.curve_measure],
        most=MOST,
        left_out=plots.left_out,
        updates=unequal_updates(runs),
        data=[_described(data, plots) for data in plots.data] if len(plots.data) > 1 else [],
        times=_times(plots),
        parts=PARTS,
        table=_table(lines, runs),
        more=_more(lines),
        links=links if any(links) else None,
        lost=lost,
        settings=_settings(runs),
    )
    path.write_text(page, encoding="utf-8")


# The answer


def _judgement(found: Answer) -> Judgement:
    pairs = sorted(
        zip(found.rows, found.judged, strict=True),
        key=lambda pair: (list(QUESTIONS).index(pair[0].question), pair[0].name, -pair[0].share),
    )
    bounded = [one for _, one in pairs if one.seeds > 1 and abs(one.loses_at_most) < 1]
    ends = [-found.tolerance, 0.0, *(-one.mean for one in bounded)]
    ends += [-bound for one in bounded for bound in (one.loses_at_most, one.loses_at_least)]
    low, high = min(ends), max(ends)

    def place(change: float) -> float:
        return 2 + 96 * (change - low) / (high - low)

    several = len({row.question for row, _ in pairs}) > 1
    return Judgement(
        [
            "candidate",
            *(["question"] if several else []),
            "change in points",
            "time, of full",
            "seeds",
            "enough?",
        ],
        [
            Candidate(
                [
                    str(row).replace("`", ""),
                    *([QUESTIONS[row.question][0].lower()] if several else []),
                    _change(judged),
                    _zero(f"{row.time:.0%}"),
                    str(judged.seeds),
                    judged.state.value,
                ],
                (place(-judged.loses_at_most), place(judged.mean), place(-judged.loses_at_least))
                if judged in bounded
                else None,
            )
            for row, judged in pairs
        ],
        place(0.0),
        place(-found.tolerance),
    )


def _change(judged: Judged) -> str:
    mean, low, high = (100 * value for value in (judged.mean, -judged.loses_at_most, -judged.loses_at_least))
    bounds = f" ({number(low, '+.1f')} to {number(high, '+.1f')})" if abs(low) < 100 else ""
    return f"{number(mean, '+.1f')}{bounds}"


# Charts


def _drawings(plots: Plots, prices: Mapping[str, float]) -> dict[str, object]:
    """Return the charts of what the runs reach against what they cost, and their legend."""
    across: list[tuple[str, str, Axis, Callable[[Group, Run], float | None]]] = [
        (
            "total time",
            "Over total time: training, selection and evaluation.",
            Axis("total time", "s", low=0),
            lambda _, run: run.seconds,
        ),
        (
            "the share of the data",
            "Over the share of the data: for strategies that keep a subset, of the examples, else of the samples "
            "seen.",
            Axis("share of the data", "%", low=0, high=1.05),
            lambda group, _: group.share,
        ),
        (
            "cost",
            "Over the estimated cost: the instance's price times its billable seconds.",
            Axis("cost", "$", low=0),
            lambda _, run: run.cost(prices),
        ),
    ]
    drawings: list[Drawing] = []
    legend: Sequence[Series] = ()
    measure = f"{'test' if plots.tested else 'validation'} {SPOKEN[plots.metric]}"
    for spoken, caption, axis, cost in across:
        series = plots.against(cost)
        if not any(one.marker for one in series):
            continue
        legend = legend or series
        notes = "; ".join(note for one in series for note in one.notes)
        wide, narrow = (
            draw(
                "",
                series,
                axis,
                Axis(measure, "%"),
                description=f"{measure.capitalize()} against {spoken}. {notes}",
                size=size,
                legend=False,
            )
            for size in (WIDE, NARROW)
        )
        drawings.append(Drawing(caption, wide, narrow))
    return {"drawings": drawings, "legend": legend}


def _panels(panels: Sequence[Panel], across: Axis) -> list[Chart]:
    """Draw panels; those on the same data have common axes, because they are compared with each other."""
    return [
        draw(
            panel.name,
            panel.series,
            *_common([one for other in panels if other.data == panel.data for one in other.series], across),
            description=f"{panel.name}: "
            + "; ".join(f"{one.name} ends at {one.points[-1][1]:.1%}" for one in panel.series),
            size=SMALL,
        )
        for panel in panels
    ]


def _common(lines: Sequence[Series], across: Axis) -> tuple[Axis, Axis]:
    """Return axes that reach over all lines."""
    xs = [x for one in lines for x, _ in one.points]
    ys = [
        y for one in lines for y in (*(y for _, y in one.points), *(y for _, *ends in one.band for y in ends))
    ]
    first = min(xs) if across.low is None else across.low
    return (
        replace(across, low=first, high=max(*xs, first + 1e-9)),
        Axis(unit="%", low=max(0.0, min(ys) - 0.01), high=min(1.0, max(ys) + 0.01)),
    )


def _times(plots: Plots) -> list[Time]:
    groups = sorted(plots.groups, key=lambda group: -group.seconds)
    longest = max(groups[0].seconds, 1e-9)
    found = []
    for group in groups:
        parts = [
            mean(values)
            for values in (
                [run.summary["seconds"]["training"] for run in group.runs],
                [run.selecting for run in group.runs],
                [run.summary["seconds"]["evaluation"] for run in group.runs],
            )
        ]
        seconds = [run.seconds for run in group.runs]
        shortest, longest_run = (number(value, ",.1f") for value in (min(seconds), max(seconds)))
        spread = f" ({shortest} to {longest_run})" if len(seconds) > 1 else ""
        found.append(
            Time(
                group.label,
                f"{number(mean(seconds), ',.1f')} s{spread}",
                [(100 * part / longest, colour) for part, (_, colour) in zip(parts, PARTS, strict=True)],
            )
        )
    return found


def _described(data: str, plots: Plots) -> str:
    """Say what tells data from other data of the comparison."""
    own = [group for group in plots.groups if group.data == data]
    summary = own[0].runs[0].summary
    examples = summary.get("examples") or {}
    counts = ", ".join(f"{count:,} {part} examples" for part, count in examples.items() if count)
    spoken = text.runs(sum(len(group.runs) for group in own))
    classes = f"{len(summary['classes'])} classes, " if summary.get("classes") else ""
    return f"data {plots.data.index(data) + 1}: {classes}{counts or 'unknown examples'} ({spoken})"


# Tables


def _table(lines: Sequence[Row], runs: Sequence[Run]) -> Table:
    """Return what a reader looks for first: what each run reached, and what it cost."""
    names, _, epochs, validation, test, *_, total, _, speedup = zip(*map(cells_of, lines), strict=True)
    shares = [f"{line.fraction:.3g}" for line in lines]
    seeds = [str(run.summary.get("seed", "–")) for run in runs]
    columns: dict[str, Sequence[str]] = {"run": names, "seed": seeds, "fraction": shares, "epochs": epochs}
    if any(value != "–" for value in test):
        columns["test"] = test
    columns["validation"] = validation
    columns["total time, s"] = total
    columns["speed-up"] = speedup
    if any(line.cost is not None for line in lines):
        columns["estimated cost"] = [money(line.cost, line.spot_saving) for line in lines]
    return _of(columns)


def _more(lines: Sequence[Row]) -> Table:
    """Return where the time of each run went, and its further measures."""
    cells = list(zip(*map(cells_of, lines), strict=True))
    columns: dict[str, Sequence[str]] = {
        "run": cells[0],
        "training, s": cells[5],
        "selection, s": cells[6],
        "evaluation, s": cells[7],
        "samples seen": cells[9],
    }
    for (measure, part), column in further_columns(lines):
        columns[f"{measure}, {part}"] = column
    if any(line.billable_seconds is not None for line in lines):
        columns["billable, s"] = [
            "–" if line.billable_seconds is None else f"{line.billable_seconds:,.0f}" for line in lines
        ]
    return _of(columns)


def _of(columns: Mapping[str, Sequence[str]]) -> Table:
    first, *others = columns.values()
    rest = [[_zero(cell) for cell in column] for column in others]
    return Table(list(columns), list(zip(first, *rest, strict=True)))


def _zero(cell: str) -> str:
    """Zero is `0`."""
    return "0" if re.fullmatch(r"[$0.,%]*0[0.,%]*", cell) else cell


def _links(run: Run, folder: Path) -> list[tuple[str, str]]:
    """Return name and address, relative to the page's folder, of the run's files that there are."""
    if run.place is None:
        return []
    return [
        (name, quote(os.path.relpath(run.place / file, folder.resolve())))
        for name, file in FILES
        if (run.place / file).exists()
    ]


def _settings(runs: Sequence[Run]) -> Settings:
    given = [run.summary.get("hyperparameters", {}) for run in runs]
    names = sorted(set().union(*given))
    shared = [name for name in names if len({str(values.get(name)) for values in given}) == 1]
    return Settings(
        [
            (run.name, ", ".join(f"{name}={values.get(name, '–')}" for name in names if name not in shared))
            for run, values in zip(runs, given, strict=True)
        ],
        [(name, str(given[0][name])) for name in shared],
    )
