"""Plans the training runs of a comparison: each strategy at each fraction with each seed, and the baselines.

The same plan is used on this machine, in containers, on SageMaker and in the benchmarks' studies. It is complete before
anything runs, so all cells can run at once.

**Equal samples seen.** At a fraction f, `full` trains for the whole number of epochs (at least one) whose samples seen
are nearest to those of a run on a subset of that fraction, warm start included. Without a warm start that is
`epochs · f`. Examples that `drop_noisy` and `drop_redundant` remove are not known beforehand, so they are not deducted.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from subset_selection.catalogue import BASELINE, CATALOGUE, REFERENCE, VALIDATION_BASELINES
from subset_trainer.config import Hyperparameters, hyperparameters
from subset_trainer.config.parsing import canonical
from subset_trainer.errors import UserError
from subset_trainer.training.plan import epochs

UNEQUAL = 0.05
"""Smallest relative difference in samples seen that is reported in a note."""
BELOW_MEAN = 0.6
"""Assumed share of examples whose loss is below the mean. It serves to estimate the samples that a strategy sees if it
prunes those examples. It is above one half because distributions of losses are skewed to the right."""
OPTIONS = {"strategy": "--strategies", "fraction": "--fractions", "seed": "--seeds"}
"""Hyperparameters that a plan sets → the option that determines their values."""


@dataclass(frozen=True)
class Grid:
    """The strategies, fractions and seeds of a comparison."""

    strategies: Mapping[str, Mapping[str, str]]
    """Row → its own hyperparameters, including `strategy`, as returned by `parse_strategies`."""
    fractions: Sequence[float]
    """Above 0 and at most 1. At 1 only `full` is trained, for all epochs."""
    seeds: Sequence[int]
    settings: Mapping[str, Any]
    """Hyperparameters that all cells share; a row's own hyperparameters take precedence."""
    baselines: bool = True
    """Whether each fraction below 1 also has `full` at equal samples seen, and `rs2`; and, beside strategies that use
    validation labels, the same on the validation set alone and on both."""
    tested: bool = False
    """Whether the runs have a test set, without which training on the validation set cannot be judged."""
    match_own_sizes: bool = False
    """How to plan strategies that set the number of samples of an epoch themselves. True: one run for each fraction,
    with the number of epochs that comes nearest to equal samples seen. False: a single run for all epochs."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One planned training run. Cells are compared by identity, so they can be keys."""

    name: str
    """Unique within the plan."""
    row: str
    fraction: float
    """Share of the samples that `full` sees in all epochs."""
    seed: int
    values: Mapping[str, Any]
    """Hyperparameters."""
    unequal: float = 0.0
    """Relative difference in samples seen to the other cells of the fraction; positive if this cell sees more."""

    @property
    def folder(self) -> str:
        """Name of the run's folder: with its seed, also in a plan of one seed, so that a plan of several finds it."""
        seed = f"-seed-{self.seed}"
        return self.name if self.name.endswith(seed) else self.name + seed


@dataclass(frozen=True)
class Plan:
    """The cells of a comparison. No two cells are the same training run.

    Cells are ordered by seed, so that an interrupted comparison has complete results for the first seeds.

    Raises ValueError if two cells have the same name.
    """

    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    """Remarks for the reader, one sentence each."""

    def __post_init__(self) -> None:
        names = [cell.name for cell in self.cells]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"cells with the same name: {', '.join(twice)}")

    def renamed(self, name: Callable[[Cell], str]) -> "Plan":
        """Return the same plan with new names of the cells."""
        return Plan(tuple(replace(cell, name=name(cell)) for cell in self.cells), self.notes)


def parse_strategies(text: str) -> dict[str, dict[str, str]]:
    """Parse `a,b:k=v,k=v,c`; return row → hyperparameters. A part with `=` belongs to the strategy before it.

    Raises:
        UserError: a setting has no strategy before it or is not NAME=VALUE, or a row is named twice.
    """
    rows: list[list[str]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        head = part.partition("=")[0]
        if "=" in part and ":" not in head:
            if not rows or ":" not in rows[-1][0]:
                raise UserError(f"--strategies: {part!r} follows no strategy; expected NAME:SETTING=VALUE,…")
            rows[-1].append(part)
        else:
            rows.append([part])
    parsed: dict[str, dict[str, str]] = {}
    for parts in rows:
        name = ",".join(parts)
        written, colon, first = parts[0].partition(":")
        strategy = canonical(written, Hyperparameters.model_fields["strategy"])
        name = strategy + colon + name.removeprefix(written + colon)
        settings = {"strategy": strategy}
        for pair in [*([first] if first else []), *parts[1:]]:
            key, equals, value = pair.partition("=")
            if not (key and equals and value):
                raise UserError(f"--strategies: {name!r}: expected NAME=VALUE, got {pair!r}")
            settings[key.strip()] = value.strip()
        if name in parsed:
            raise UserError(f"--strategies names {name!r} twice")
        parsed[name] = settings
    return parsed


def plan(grid: Grid) -> Plan:
    """Return the plan of a grid. Cells have names such as `glister-0.3`, or `glister-0.3-seed-1` with several seeds.

    Raises:
        UserError: a hyperparameter is invalid or set by the plan itself, or a fraction is out of range.
    """
    _check(grid)
    cells: dict[str, Cell] = {}
    notes: dict[str, None] = {}
    for seed in grid.seeds:
        for fraction in grid.fractions:
            for row, own, at, unequal in _rows(grid, fraction):
                values = {**grid.settings, **own, "seed": str(seed)}
                name = _name(row, at, seed if len(grid.seeds) > 1 else None)
                cell = Cell(name, row, at or fraction, seed, values, unequal)
                same = cells.setdefault(_result_of(row, values), cell)
                if same is cell:
                    notes |= dict.fromkeys(_sentences(grid, cell))
                elif _shown(same) != _shown(cell):
                    notes[
                        f"{_shown(cell)} would be the same training as {_shown(same)}: it is planned once."
                    ] = None
    return Plan(tuple(cells.values()), tuple(notes))


def _name(row: str, fraction: float | None, seed: int | None) -> str:
    name = file_name(row)
    if fraction is not None:
        name += f"-at-{fraction:g}" if row == REFERENCE else f"-{fraction:g}"
    return name if seed is None else f"{name}-seed-{seed}"


def file_name(row: str) -> str:
    """Return a row's name with only characters that are safe in file names, plus a hash if it had to be changed."""
    plain = re.sub(r"[^A-Za-z0-9.=-]+", "-", row)
    return plain if plain == row else f"{plain}-{hashlib.sha256(row.encode()).hexdigest()[:6]}"


def passes(hp: Hyperparameters, fraction: float) -> float:
    """Return the samples that a run sees at a fraction, in passes over all examples, from its plan of epochs."""
    own_size = hp.spec.shape == "own_size"
    share = 1 - hp.prune_probability * BELOW_MEAN if own_size else fraction
    planned = epochs(
        hp.epochs,
        1.0 if own_size else fraction,
        hp.select_every,
        hp.warm_fraction,
        hp.final_share if own_size else 0.0,
    )
    # In the first epoch there are no losses yet, so nothing can be pruned.
    whole = sum(epoch.everything or (own_size and epoch.number == 1) for epoch in planned)
    return whole + (len(planned) - whole) * share


def full_epochs(hp: Hyperparameters, fraction: float) -> tuple[int, float]:
    """Return the number of epochs of `full` at equal samples seen, and the relative difference in samples seen.

    Args:
        hp: hyperparameters of the runs that `full` is compared with.
        fraction: their fraction.
    """
    seen = passes(hp, fraction)
    whole = max(1, round(seen))
    return whole, whole / seen - 1


def _check(grid: Grid) -> None:
    """Raise UserError for hyperparameters that the plan itself sets, and for fractions out of range."""
    given: dict[str, tuple[Mapping[str, Any], Mapping[str, str]]] = {"--set": (grid.settings, OPTIONS)}
    within = {**OPTIONS, "epochs": "the same epochs in every row"}
    del within["strategy"]
    given |= {f"--strategies {row}": (own, within) for row, own in grid.strategies.items()}
    for where, (own, planned) in given.items():
        for name, instead in planned.items():
            if name in own:
                auto = name == "fraction" and str(own[name]).strip("\"'").lower() == "auto"
                one = "; `launch --set fraction=auto` finds the fraction in one job" if auto else ""
                raise UserError(f"{where}: {name}={own[name]}: expected {instead} instead{one}")
    if faults := hyperparameters.faults(grid.settings):
        said = "; ".join(faults)
        for name, instead in OPTIONS.items():
            said = said.replace(f"did you mean {name!r}?", f"did you mean {instead}?")
        raise UserError(f"--set: {said}")
    for fraction in grid.fractions:
        if not 0 < fraction <= 1:
            raise UserError(f"--fractions: {fraction:g}: expected numbers above 0 and at most 1")


def _parse(row: str, values: Mapping[str, Any]) -> Hyperparameters:
    try:
        return hyperparameters.parse(values)
    except UserError as error:
        raise UserError(f"`{row}`: {error}") from error


def _result_of(row: str, values: Mapping[str, Any]) -> str:
    """Return a key of everything that determines a training run's result, however the hyperparameters were written."""
    hp = _parse(row, values)
    resolved = hp.model_dump(mode="json")
    resolved |= {knob: choices[0] for knob, choices in hp.spec.choices.items() if resolved[knob] is None}
    return json.dumps(resolved, sort_keys=True)


def _rows(grid: Grid, fraction: float) -> Iterator[tuple[str, dict[str, Any], float | None, float]]:
    """Yield for each row at a fraction: row, hyperparameters, the fraction in its name, and `Cell.unequal`."""
    if fraction == 1:
        yield REFERENCE, {"strategy": REFERENCE}, None, 0.0
        return
    # Only what determines the length of a run on a subset: other invalid settings are reported for the rows themselves.
    length = {name: grid.settings[name] for name in ("epochs", "warm_fraction") if name in grid.settings}
    beside = hyperparameters.parse({**length, "strategy": BASELINE})
    rows = {row: dict(own) for row, own in grid.strategies.items()}
    if grid.baselines:
        used = any(_parse(row, {**grid.settings, **own}).uses_validation_labels for row, own in rows.items())
        names = (BASELINE, REFERENCE, *(VALIDATION_BASELINES if used and grid.tested else ()))
        rows = {**rows, **{name: {"strategy": name} for name in names if name not in rows}}
    for row, own in rows.items():
        hp = _parse(row, {**grid.settings, **own})
        if hp.spec.shape == "everything":
            count, unequal = full_epochs(beside, fraction)
            yield row, {**own, "epochs": str(count)}, fraction, unequal
        elif hp.spec.shape != "own_size":
            yield row, {**own, "fraction": f"{fraction:g}"}, fraction, 0.0
        elif grid.match_own_sizes:
            yield row, {**own, "epochs": str(_matched_epochs(hp, fraction))}, fraction, 0.0
        else:
            yield row, own, None, 0.0
            if grid.baselines:
                seen = float(f"{passes(hp, 1.0) / hp.epochs:.2g}")
                count, unequal = full_epochs(beside, seen)
                yield REFERENCE, {"strategy": REFERENCE, "epochs": str(count)}, seen, unequal


def _matched_epochs(hp: Hyperparameters, fraction: float) -> int:
    """Return the epochs in which a strategy that sets its own size sees about as many samples as the others."""
    wanted = passes(hp.model_copy(update={"strategy": BASELINE}), fraction)

    def distance(count: int) -> float:
        return abs(passes(hp.model_copy(update={"epochs": count}), 1.0) - wanted)

    return min(range(1, max(2, int(2 * wanted) + 2)), key=distance)


def _shown(cell: Cell) -> str:
    own_size = CATALOGUE[cell.values["strategy"]].shape == "own_size"
    return f"`{cell.row}`" if own_size else f"`{cell.row}` at {cell.fraction:g}"


def _sentences(grid: Grid, cell: Cell) -> Iterator[str]:
    """Yield the notes on a cell."""
    below = [f"{fraction:g}" for fraction in grid.fractions if fraction < 1]
    own_size = CATALOGUE[cell.values["strategy"]].shape == "own_size"
    if own_size and not grid.match_own_sizes and len(below) > 1:
        yield (
            f"`{cell.row}` sets by itself how many samples an epoch sees: at {', '.join(below[:-1])} and {below[-1]} "
            "it would be the same training, so it is planned once."
        )
    if abs(cell.unequal) > UNEQUAL:
        yield (
            f"`{cell.row}` at {cell.fraction:g} trains for whole epochs, {cell.values['epochs']} here, and so sees "
            f"{abs(cell.unequal):.0%} {'more' if cell.unequal > 0 else 'fewer'} samples than the others."
        )
