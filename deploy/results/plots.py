"""What the charts of a comparison show: runs that differ in the seed alone are one point or curve, with a band.

A strategy has one colour, a share one dash, and each setting of a strategy one marker, in all charts of a comparison.
"""

import colorsys
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean

from deploy.results import answers
from deploy.results.answers import spoken_points, spoken_share
from deploy.results.compare import Run, is_baseline, reference
from subset_selection.catalogue import CATALOGUE, REFERENCE
from subset_trainer.insight.charts import COLOURS, DASHES, MARKERS, Series

BLACK = "#000000"
"""Of full data."""
GREY = "#666666"
MOST_AREAS = 8
"""Bands of more lines would hide each other, so they are bars alone."""
LOOKS = [(marker, hollow) for hollow in (False, True) for marker in MARKERS]
"""Of a strategy's settings."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone."""

    runs: Sequence[Run]
    chain: str
    """What groups have in common that differ in the share alone."""
    name: str
    """Of the chain."""
    data: str
    """What tells its data from others'."""
    share: float
    """Of the samples that the full runs see, or of the distinct examples, or as it was given."""

    @property
    def strategy(self) -> str:
        return str(self.runs[0].summary["strategy"])

    @property
    def seconds(self) -> float:
        """Mean total time."""
        return mean(run.seconds for run in self.runs)

    @cached_property
    def label(self) -> str:
        """Name and share."""
        spec = CATALOGUE.get(self.strategy)
        if self.strategy == REFERENCE:
            return self.name if self.share == 1 else f"{self.name}, {spoken_share(self.share)} of the epochs"
        own = spec is not None and not spec.takes_fraction
        return (
            f"{self.name}, sees {spoken_share(self.share)}"
            if own
            else f"{self.name} at {spoken_share(self.share)}"
        )


@dataclass(frozen=True)
class Look:
    """How a chain is drawn."""

    colour: str
    marker: str
    hollow: bool


@dataclass(frozen=True)
class Panel:
    """One chain's curves in training beside those of full data."""

    name: str
    data: str
    series: Sequence[Series]


class Plots:
    """The series of a comparison's charts. Runs that did not complete are left out where any did."""

    def __init__(self, runs: Sequence[Run], tolerance: float | None = None) -> None:
        """Group the runs.

        Args:
            runs: at least one.
            tolerance: accepted loss, a share; None: there is none.
        """
        completed = [run for run in runs if run.summary["status"] == "completed"]
        self.left_out = [run.name for run in runs if run not in completed] if completed else []
        self.runs = completed or list(runs)
        self.tolerance = tolerance
        self.tested = all(run.summary.get("test") for run in self.runs)
        # Runs that name different measures, or lack theirs, have accuracy in common.
        self.metric = answers.common_metric(self.runs, self.tested) or "accuracy"
        self.data = list(dict.fromkeys(run.data for run in self.runs))
        self.references: dict[str, Group] = {}
        """Data → the full runs that the others are compared with."""
        self.groups = self._grouped()
        self.chains: dict[str, list[Group]] = defaultdict(list)
        for group in self.groups:
            self.chains[group.chain].append(group)
        self.looks = looks({chain: groups[0].strategy for chain, groups in self.chains.items()})
        shares = sorted({round(group.share, 2) for group in self.groups}, reverse=True)
        self.dashes = {share: dash(place) for place, share in enumerate(shares)}

    def _grouped(self) -> list[Group]:
        gathered: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for run in self.runs:
            gathered[run.data, answers.settings_key(run) + (" auto" if run.searched else "")].append(run)
        bases = {
            data: base
            for data in self.data
            if (base := reference([run for run in self.runs if run.data == data])) is not None
        }
        # Settings that differ between data differ for all of their runs, and tell nothing apart; so do a search's own.
        firsts: dict[tuple[str, bool], list[Run]] = defaultdict(list)
        for (data, _), own in gathered.items():
            firsts[data, bool(own[0].searched)].append(own[0])
        names = {kind: answers.chain_names(some) for kind, some in firsts.items()}
        groups = []
        for (data, _), own in gathered.items():
            base = bases.get(data)
            full = next((group for group in gathered.values() if base is not None and base in group), [])
            first = own[0]
            chain = answers.chain_key(first)
            name = names[data, bool(first.searched)][chain]
            if first.searched:
                name, chain = f"{name} with fraction=auto", f"{chain} auto"
            if len(self.data) > 1:
                name, chain = f"{name}, data {self.data.index(data) + 1}", f"{chain} {data}"
            group = Group(own, chain, name, data, _share(own, full))
            if base is not None and base in own:
                self.references[data] = group
            groups.append(group)
        # Full data first; the strategies in the order of the runs, each with all of its settings.
        order = list(dict.fromkeys([REFERENCE, *(group.strategy for group in groups)]))
        return sorted(groups, key=lambda group: order.index(group.strategy))

    def value(self, run: Run) -> float:
        """Return the measure that the charts show; not a number: the run has none."""
        found = run.measure(self.metric, self.tested)
        return math.nan if found is None else found

    def against(self, cost: Callable[[Group, Run], float | None]) -> list[Series]:
        """Return a line through the shares of each chain, with the range over the seeds, and what full data reach.

        Args:
            cost: of a run of a group; None: not known.
        """
        drawn = [
            line for chain, groups in self.chains.items() if (line := self._line(chain, groups, cost)).points
        ]
        ends = [x for line in drawn for x, _ in line.points]
        return [*self._levels(max(ends, default=1.0)), *drawn]

    def _line(
        self,
        chain: str,
        groups: Sequence[Group],
        cost: Callable[[Group, Run], float | None],
    ) -> Series:
        look, points = self.looks[chain], []
        for group in groups:
            pairs = [(cost(group, run), self.value(run)) for run in group.runs]
            known = [(x, y) for x, y in pairs if x is not None and math.isfinite(x + y)]
            if known:
                ys = [y for _, y in known]
                x, y = mean(x for x, _ in known), mean(ys)
                points.append(
                    (x, y, min(ys), max(ys), f"{group.label}: {_ranged(ys)}, in {group.seconds:,.1f} s")
                )
        points.sort()
        name = groups[0].name
        if groups[0].strategy == REFERENCE and len(groups) > 1:
            name = f"{name}, also for fewer epochs"
        return Series(
            f"{name} (baseline)"
            if is_baseline(groups[0].strategy) and groups[0].strategy != REFERENCE
            else name,
            [(x, y) for x, y, *_ in points],
            [(x, low, high) for x, _, low, high, _ in points],
            look.colour,
            "",
            look.marker,
            look.hollow,
            notes=[note for *_, note in points],
            shaded=len(self.chains) <= MOST_AREAS,
        )

    def _levels(self, end: float) -> list[Series]:
        """Return what full data reach, and the least that is tolerated, as level lines."""
        if len(self.references) != 1:
            return []
        (group,) = self.references.values()
        values = [value for run in group.runs if math.isfinite(value := self.value(run))]
        if not values:
            return []
        level, ends = mean(values), (0.0, 1.06 * end)
        band = [(x, min(values), max(values)) for x in ends]
        name = f"what {group.name} reaches"
        lines = [Series(name, [(x, level) for x in ends], band, BLACK, "4 4", ends=False)]
        if self.tolerance:
            below = [(x, level - self.tolerance) for x in ends]
            lines.append(
                Series(f"{spoken_points(self.tolerance)} below", below, colour=GREY, dash="1 4", ends=False)
            )
        return lines

    def panels(self, over_time: bool) -> list[Panel]:
        """Return for each chain the validation measure in training, over epochs or total time, in seconds."""
        measure = self.curve_measure
        panels = []
        for groups in self.chains.values():
            full = self.references.get(groups[0].data)
            if groups == [full] and len(self.chains) > 1:
                continue
            own = [group for group in groups if group is not full]
            series = [
                drawn
                for group in (*([full] if full else []), *own)
                if (drawn := self._curve(group, measure, over_time)).points
            ]
            if series:
                panels.append(Panel(groups[0].name, groups[0].data, series))
        return panels

    @cached_property
    def curve_measure(self) -> str:
        """The measure of the curves: of the validation set, which is the one that is measured after each epoch."""
        every = [entry for run in self.runs for entry in run.history]
        return self.metric if all(f"validation:{self.metric}" in entry for entry in every) else "accuracy"

    def _curve(self, group: Group, measure: str, over_time: bool) -> Series:
        curves = [
            [
                (x, float(math.nan if (value := entry.get(f"validation:{measure}")) is None else value))
                for x, entry in zip(run.clock if over_time else _epochs(run), run.history, strict=True)
            ]
            for run in group.runs
            if not run.trained_on_validation
        ]
        points, band = [], []
        for at in zip(*curves, strict=False):
            ys = [y for _, y in at if math.isfinite(y)]
            if ys:
                x = mean(x for x, _ in at)
                points.append((x, mean(ys)))
                band.append((x, min(ys), max(ys)))
        return Series(
            group.label,
            points,
            band if len(curves) > 1 else (),
            self.looks[group.chain].colour,
            self.dashes[round(group.share, 2)],
        )


def looks(strategies: Mapping[str, str]) -> dict[str, Look]:
    """Return how each chain is drawn: in its strategy's colour, with a marker of its own.

    Args:
        strategies: chain → its strategy.
    """
    found: dict[str, Look] = {}
    colours: dict[tuple[str, int], str] = {}
    of_strategy: dict[str, int] = defaultdict(int)
    for place, (chain, strategy) in enumerate(strategies.items()):
        # More settings than there are markers take a further colour.
        key = strategy, of_strategy[strategy] // len(LOOKS)
        of_strategy[strategy] += 1
        if key not in colours:
            used = sum(colour != BLACK for colour in colours.values())
            colours[key] = BLACK if key == (REFERENCE, 0) else colour(used)
        # Neighbours in the legend differ in the marker, too, whatever their strategies.
        found[chain] = Look(colours[key], *LOOKS[place % len(LOOKS)])
    return found


def colour(place: int) -> str:
    """Return a colour; no two places have the same. Those of the palette come first."""
    if place < len(COLOURS):
        return COLOURS[place]
    hue = (place * 0.618034) % 1
    return "#" + "".join(
        f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, 0.22 + 0.04 * (place % 3), 0.7)
    )


def dash(place: int) -> str:
    """Return a dash, as of SVG; no two places have the same."""
    return DASHES[place] if place < len(DASHES) else f"{place} 3 1 3"


def _share(runs: Sequence[Run], full: Sequence[Run]) -> float:
    first = runs[0].summary
    spec = CATALOGUE.get(first["strategy"])
    if not full or runs[0].searched or (spec and spec.question == "label"):
        return float(first["fraction"])
    if spec and spec.takes_fraction and runs[0].planned_epochs == full[0].planned_epochs:
        return float(first["fraction"])
    whole = mean(run.summary["samples_visited"] for run in full)
    return mean(run.summary["samples_visited"] for run in runs) / whole


def _epochs(run: Run) -> list[float]:
    return [float(entry["epoch"]) for entry in run.history]


def _ranged(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1%} (one seed)"
    return f"{mean(values):.1%} ({min(values):.1%} to {max(values):.1%}, {len(values)} seeds)"
