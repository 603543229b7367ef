"""Writes a comparison as one self-contained HTML page, which can be mailed and read without a network.

The charts are drawn by Plotly, whose script is included in the page. Tables show the same values, for accessibility.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import mean
from typing import Any

import plotly.graph_objects as go

from deploy.results.answers import common_metric
from deploy.results.compare import (
    Lost,
    Row,
    Run,
    cells_of,
    further_columns,
    is_baseline,
    money,
    reference,
    rows,
)
from subset_selection.catalogue import REFERENCE
from subset_trainer import pages
from subset_trainer.tracking.metrics import SPOKEN

# Okabe and Ito's palette for colour-blind readers, darkened where a colour was too faint on white.
COLOURS = ("#0072b2", "#b34a00", "#007a5a", "#a3507f", "#7a6400", "#1f78a8", "#5d3a9b", "#994f00")
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Chart:
    """A Plotly chart with its heading and caption."""

    name: str
    caption: str
    figure: go.Figure

    def drawn(self, script: bool) -> str:
        """Return the chart's HTML.

        Args:
            script: whether to include Plotly's own script, which a page needs once, before the first chart.
        """
        self.figure.update_layout(
            template="plotly_white",
            margin={"l": 60, "r": 10, "t": 10, "b": 50},
            height=420,
            font={"color": "#1a1a1a", "family": "system-ui, sans-serif", "size": 13},
            # Below the chart: beside it, the curves would have no room on a phone.
            legend={"orientation": "h", "yanchor": "top", "y": -0.22},
        )
        html: str = self.figure.to_html(
            full_html=False,
            include_plotlyjs=script,
            config={"responsive": True, "displaylogo": False, "displayModeBar": False},
        )
        return html


@dataclass(frozen=True)
class Settings:
    """The runs' hyperparameters."""

    differing: Sequence[str]
    """Names of the hyperparameters that differ between runs."""
    of_runs: Sequence[Sequence[str]]
    """For each run, its name and its values of the differing hyperparameters."""
    shared: Sequence[tuple[str, str]]
    """Name and value of each hyperparameter that all runs share."""


def write(
    path: Path,
    title: str,
    runs: Sequence[Run],
    lost: Sequence[Lost] = (),
    prices: Mapping[str, float] | None = None,
    answer: str | None = None,
) -> None:
    """Write the page.

    Args:
        path: path of the file; its folder is created if it is missing.
        title: title of the page.
        runs: the finished runs, at least one.
        lost: the runs without results.
        prices: instance type → dollars an hour.
        answer: a sentence that is shown at the top; text between backticks is shown as code.
    """
    lines = rows(runs, prices)
    columns, cells = _table(lines)
    page = pages.render(
        "comparison.html",
        TEMPLATES,
        title=title,
        answer=answer,
        charts=_charts(runs, lines),
        columns=columns,
        cells=cells,
        lost=lost,
        settings=_settings(runs),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _charts(runs: Sequence[Run], lines: Sequence[Row]) -> list[Chart]:
    tested = all(run.summary.get("test") for run in runs)
    measured = "Test" if tested else "Validation"
    # Runs that name different measures, or lack theirs, have accuracy in common.
    metric = common_metric(runs, tested) or "accuracy"
    spoken = SPOKEN[metric]
    charts = [
        Chart(
            "Accuracy per epoch",
            "Validation accuracy after each epoch. Dashed: the baselines.",
            _curves(runs, seconds=False),
        ),
        Chart(
            "Accuracy per second",
            "Validation accuracy over total time: training, selection and evaluation. Dashed: the baselines.",
            _curves(runs, seconds=True),
        ),
        Chart(
            f"{spoken[0].upper()}{spoken[1:]} against fraction",
            f"{measured} {spoken} over the share of the data that an epoch sees on average. Full data for fewer "
            "epochs stands at its share of the samples seen. Bars: from the lowest to the highest seed.",
            _against_fraction(
                runs, [run.measure(metric, tested) for run in runs], f"{measured.lower()} {spoken}", ".0%"
            ),
        ),
        Chart(
            "Seconds against fraction",
            "How long each run trained, selected and evaluated.",
            _seconds(runs, lines),
        ),
    ]
    costs = [line.cost for line in lines]
    if any(cost is not None for cost in costs):
        charts.append(
            Chart(
                "Cost against fraction",
                "Estimated: the instance's price times its billable seconds. Bars: from the lowest to the highest "
                "seed.",
                _against_fraction(runs, costs, "dollars", "$.3~r"),
            )
        )
    return charts


def _curves(runs: Sequence[Run], seconds: bool) -> go.Figure:
    chart = go.Figure()
    styles = _styles(runs)
    shown: set[tuple[str, float]] = set()
    for run in runs:
        if run.trained_on_validation:
            continue
        steps = run.clock if seconds else [float(entry["epoch"]) for entry in run.history]
        chart.add_scatter(
            x=steps,
            y=[entry["validation:accuracy"] for entry in run.history],
            name=escape(_label(run, runs)),
            meta=escape(run.name),
            hovertemplate="%{meta}: %{y:.2%} at %{x:.4~g}<extra></extra>",
            mode="lines+markers",
            line=styles[_group(run)],
            marker={"size": 4},
            # One legend entry for all seeds; a click on it hides all of them.
            legendgroup=str(_group(run)),
            showlegend=_group(run) not in shown,
        )
        shown.add(_group(run))
    chart.update_xaxes(title="seconds" if seconds else "epoch", rangemode="tozero")
    chart.update_yaxes(title="validation accuracy", tickformat=".0%")
    return chart


def _against_fraction(
    runs: Sequence[Run], values: Sequence[float | None], label: str, form: str
) -> go.Figure:
    """Return a chart with one line for each strategy, through the means over the seeds. `form`: of the tick labels."""
    gathered: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run, value in zip(runs, values, strict=True):
        if value is not None:
            gathered[run.summary["strategy"]][_share(run, runs)].append(value)
    styles = _styles(runs)
    chart = go.Figure()
    for strategy, by_share in gathered.items():
        shares = sorted(by_share)
        means = [mean(by_share[share]) for share in shares]
        chart.add_scatter(
            x=shares,
            y=means,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [max(by_share[share]) - at for share, at in zip(shares, means, strict=True)],
                "arrayminus": [at - min(by_share[share]) for share, at in zip(shares, means, strict=True)],
            },
            name=escape(f"{REFERENCE}, fewer epochs" if strategy == REFERENCE else strategy),
            mode="lines+markers",
            line=next(styles[_group(run)] for run in runs if run.summary["strategy"] == strategy),
        )
    chart.update_xaxes(title="share of the data", tickformat=".0%", rangemode="tozero")
    chart.update_yaxes(title=label, tickformat=form)
    return chart


def _seconds(runs: Sequence[Run], lines: Sequence[Row]) -> go.Figure:
    order = sorted(range(len(runs)), key=lambda place: (-_share(runs[place], runs), lines[place].run))
    names = [f"{escape(lines[place].run)} ({_share(runs[place], runs):.3g})" for place in order]
    chart = go.Figure()
    parts = (
        ("training", "seconds_training", "#0072b2"),
        ("selecting", "seconds_selecting", "#e69f00"),
        ("evaluating", "seconds_evaluating", "#999999"),
    )
    for name, column, colour in parts:
        chart.add_bar(
            y=names, x=[getattr(lines[place], column) for place in order], name=name, orientation="h"
        )
        chart.data[-1].marker.color = colour
    chart.update_layout(barmode="stack")
    chart.update_yaxes(autorange="reversed", automargin=True)
    chart.update_xaxes(title="seconds")
    return chart


def _group(run: Run) -> tuple[str, float]:
    """Return what runs that differ only in the seed share: strategy and fraction (for full data, epochs)."""
    own = float(run.summary["epochs"]) if run.is_full else float(run.summary["fraction"])
    return run.summary["strategy"], round(own, 2)


def _label(run: Run, runs: Sequence[Run]) -> str:
    """Return the run's label in a legend: its name, or with several seeds, the strategy and share."""
    if sum(_group(other) == _group(run) for other in runs) == 1:
        return run.name
    share = _share(run, runs)
    if not run.is_full:
        return f"{run.summary['strategy']} {share:.3g}"
    return REFERENCE if share == 1 else f"{REFERENCE}, {share:.3g} of the epochs"


def _styles(runs: Sequence[Run]) -> dict[tuple[str, float], dict[str, Any]]:
    """Return group → line style: the reference run is black, baselines are dashed."""
    base = reference(runs)
    groups = list(dict.fromkeys(_group(run) for run in runs))
    coloured = [group for group in groups if base is None or group != _group(base)]
    styles: dict[tuple[str, float], dict[str, Any]] = {
        group: {
            "color": COLOURS[place % len(COLOURS)],
            "dash": "dash" if is_baseline(group[0]) else "solid",
            "width": 2,
        }
        for place, group in enumerate(coloured)
    }
    if base is not None:
        styles[_group(base)] = {"color": "#000000", "dash": "solid", "width": 2}
    return styles


def _share(run: Run, runs: Sequence[Run]) -> float:
    """Return the run's fraction; for a run on full data, its samples seen as a share of the reference run's."""
    base = reference(runs)
    if run.is_full and base is not None:
        return float(run.summary["samples_visited"] / base.summary["samples_visited"])
    return float(run.summary["fraction"])


def _table(lines: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the columns' names and the cells of each run. Billing has columns if it is known for any run."""
    names = [
        *(
            "run",
            "share of data",
            "epochs",
            "validation",
            "test",
            "training s",
            "selection s",
            "evaluation s",
        ),
        *("total time, s", "samples seen", "speed-up over full"),
    ]
    cells = [cells_of(line) for line in lines]
    for (measure, part), column in further_columns(lines):
        names.append(f"{measure}, {part}")
        for row, cell in zip(cells, column, strict=True):
            row.append(cell)
    if any(line.billable_seconds is not None for line in lines):
        names.append("billable s")
        for row, line in zip(cells, lines, strict=True):
            row.append("–" if line.billable_seconds is None else f"{line.billable_seconds:,.0f}")
    if any(line.cost is not None for line in lines):
        names.append("estimated cost")
        for row, line in zip(cells, lines, strict=True):
            row.append(money(line.cost, line.spot_saving))
    return names, cells


def _settings(runs: Sequence[Run]) -> Settings:
    given = [run.summary.get("hyperparameters", {}) for run in runs]
    names = sorted(set().union(*given))
    shared = [name for name in names if len({str(values.get(name)) for values in given}) == 1]
    differing = [name for name in names if name not in shared]
    return Settings(
        differing,
        [
            [run.name, *(str(values.get(name, "–")) for name in differing)]
            for run, values in zip(runs, given, strict=True)
        ],
        [(name, str(given[0][name])) for name in shared],
    )
