"""Which cells run next: nothing that the answer does not depend on, and everything that it does."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from deploy.grid import pace
from deploy.grid.agenda import Agenda, judge
from deploy.grid.course import settling_cells
from deploy.grid.duration import Pace, seconds_left, work
from deploy.grid.plan import Cell, Grid, parse_strategies, plan
from deploy.results.compare import Lost, Run
from deploy.results.verdict import sentence
from subset_trainer.config import hyperparameters

SEEDS = (0, 1, 2)


def cells(strategies: str = "rs2", seeds: tuple[int, ...] = SEEDS) -> tuple[Cell, ...]:
    grid = Grid(parse_strategies(strategies), (1.0, 0.5, 0.3, 0.1), seeds, {"epochs": "20"})
    return plan(grid).cells


def run(cell: Cell, accuracy: float, seconds: float = 10.0) -> Run:
    hp = hyperparameters.parse(cell.values)
    samples = round(1000 * work(cell))
    scores = {"loss": 1.0, "accuracy": accuracy}
    summary = {
        "status": "completed",
        "strategy": hp.strategy,
        "fraction": 1.0 if hp.strategy == "full" else hp.fraction,
        "epochs": hp.epochs,
        "seed": cell.seed,
        "samples_visited": samples,
        "examples": {"training": 1000, "validation": 100, "test": 1_000_000},
        "validation": scores,
        "test": scores,
        "seconds": {"training": seconds, "selection": 0.0, "evaluation": 0.0, "total": seconds},
        "hyperparameters": hp.model_dump(mode="json"),
    }
    return Run(cell.name, summary, [])


def go_on(agenda: Agenda, losses: Mapping[tuple[str, float], float]) -> list[str]:
    """Run what the agenda gives one after another; return the names. losses: (row, fraction) → points that it loses."""
    ran = []
    while (cell := agenda.take()) is not None:
        ran.append(cell.name)
        # Runs of a seed differ from each other a little, in a way that is fixed.
        wobble = 0.0001 * (len(cell.name) * 7 % 5 + cell.seed)
        agenda.record(cell, run(cell, 0.9 + wobble - losses.get((cell.row, cell.fraction), 0.0) / 100))
    return ran


def test_a_smaller_fraction_runs_only_if_the_larger_one_is_enough() -> None:
    agenda = Agenda(cells(), judge(0.01))
    first = agenda.needed()
    assert {cell.name.partition("-seed")[0] for cell in first} == {"full", "rs2-0.5", "full-at-0.5"}
    ran = go_on(agenda, {("rs2", 0.3): 5.0, ("full", 0.5): 5.0})
    assert {name.partition("-seed")[0] for name in ran} == {"full", "rs2-0.5", "full-at-0.5", "rs2-0.3"}
    assert len(ran) == 12
    assert {cell.name.partition("-seed")[0] for cell in agenda.spared()} == {
        "rs2-0.1",
        "full-at-0.3",
        "full-at-0.1",
    }
    assert agenda.possible() == []


def test_if_everything_is_enough_everything_runs() -> None:
    planned = cells()
    agenda = Agenda(planned, judge(0.01))
    assert sorted(go_on(agenda, {})) == sorted(cell.name for cell in planned)
    assert agenda.spared() == []


def test_the_first_seed_of_every_row_comes_before_the_second() -> None:
    ran = go_on(Agenda(cells(), judge(0.01)), {("rs2", 0.5): 5.0, ("full", 0.5): 5.0})
    assert [name.rpartition("-")[2] for name in ran] == list("000111222")


def test_nothing_is_left_out_where_no_answer_can_be_given_or_all_is_wanted() -> None:
    for agenda in (Agenda(cells(seeds=(0, 1)), judge(0.01)), Agenda(cells())):
        assert not agenda.settles_early
        ran = go_on(agenda, {("rs2", 0.5): 5.0, ("full", 0.5): 5.0})
        assert ran == [cell.name for cell in agenda.cells]


def test_a_cell_waits_while_the_ones_above_it_are_active() -> None:
    agenda = Agenda(cells(), judge(0.01))
    active = []
    while (cell := agenda.take()) is not None:
        active.append(cell)
    assert len(active) == 9
    for cell in active[:-1]:
        agenda.record(cell, run(cell, 0.9 + 0.0001 * cell.seed * len(cell.row)))
    # `rs2` goes on; `full` for fewer epochs has one active run, before whose end nothing smaller begins.
    assert active[-1].name == "full-at-0.5-seed-2"
    needed = {cell.name.partition("-seed")[0] for cell in agenda.needed()}
    assert needed == {"rs2-0.3", "full-at-0.5"}


def test_a_row_with_a_lost_run_ends_and_the_others_go_on() -> None:
    agenda = Agenda(cells(), judge(0.01))
    while (cell := agenda.take()) is not None:
        fails = cell.row == "rs2" and cell.seed == 1
        agenda.record(
            cell, Lost(cell.name, "out of memory") if fails else run(cell, 0.9 + 0.0001 * cell.seed)
        )
    runs, lost = agenda.results()
    assert [one.name for one in lost] == ["rs2-0.5-seed-1"]
    assert "full-at-0.1-seed-2" in {one.name for one in runs}
    assert "rs2-0.3-seed-0" not in {one.name for one in runs}


def test_results_of_an_earlier_call_are_not_taken_and_count() -> None:
    agenda = Agenda(cells(), judge(0.01))
    for cell in agenda.cells:
        if cell.fraction == 0.1:
            agenda.record(cell, run(cell, 0.5))
    ran = go_on(agenda, {("rs2", 0.5): 5.0, ("full", 0.5): 5.0})
    assert not [name for name in ran if "0.1" in name]
    assert len(agenda.results()[0]) == 9 + 6


def test_what_is_left_takes_as_long_as_its_like_did_and_else_as_its_samples() -> None:
    (full, half, _, tenth) = [cell for cell in cells(seeds=(0,)) if cell.row != "full" or cell.fraction == 1]
    assert seconds_left([full], {}) is None
    known = Pace(boot=3.0, reading=1.0, epoch=2.0, evaluation=0.1)
    assert seconds_left([full], {}, known) == pytest.approx(3 + 1 + 40 + 2)
    assert seconds_left([half, tenth], {}, known) == pytest.approx(2 * (3 + 1 + 2) + 20 + 4)
    # The machine was half as fast as in its first steps.
    assert seconds_left([half], {full: run(full, 0.9, seconds=86)}, known) == pytest.approx(
        3 + 2 * (1 + 20 + 2)
    )
    assert seconds_left([half], {full: run(full, 0.9, seconds=40)}) == pytest.approx(20)
    again = Cell("rs2-0.5-seed-7", "rs2", 0.5, 7, half.values)
    ended = {full: run(full, 0.9, seconds=40), half: run(half, 0.9, seconds=31)}
    assert seconds_left([again], ended, known) == pytest.approx(34)


def test_what_is_open_is_settled_by_further_seeds_of_a_row_and_of_full() -> None:
    agenda = Agenda(cells(), judge(0.01))
    # Just within the tolerance, by seeds that differ: three of them cannot tell.
    noise = {"full": (0.0, 0.004, -0.004), "rs2": (0.003, -0.003, 0.001)}
    while (cell := agenda.take()) is not None:
        loss = {1.0: 0.0, 0.5: 0.006}.get(cell.fraction, 0.2) + (
            0.1 if cell.row == "full" and cell.fraction < 1 else 0
        )
        agenda.record(cell, run(cell, 0.9 - loss + noise[cell.row][cell.seed]))
    assert "rs2-0.3-seed-0" not in {one.name for one in agenda.results()[0]}
    further = settling_cells(agenda, 0.01)
    seeds = sorted({cell.seed for cell in further})
    assert seeds[0] == 3 and seeds == list(range(3, 3 + len(seeds)))
    assert {cell.name for cell in further} == {
        f"{row}-seed-{n}" for row in ("full", "rs2-0.5") for n in seeds
    }
    assert all(cell.values["seed"] == str(cell.seed) for cell in further)
    agenda.extend(further)
    assert set(agenda.needed()) == set(further)
    for cell in further:
        agenda.record(cell, run(cell, 0.9 - (0.001 if cell.row == "rs2" else 0.0)))
    # Now it is enough, and the next smaller fraction follows.
    assert {cell.name.partition("-seed")[0] for cell in agenda.needed()} == {"rs2-0.3"}
    assert settling_cells(Agenda(cells()), 0.01) == []


def test_the_planner_judges_added_seeds_as_the_answer_in_words_does() -> None:
    """A fourth seed makes 50% enough at the level of a first answer, and not at that of later ones."""
    noise = {"full": (0.0, 0.004, -0.004, 0.0), "rs2": (0.003, -0.003, 0.001, 0.001)}

    def value(cell: Cell) -> float:
        return 0.9 - (0.0 if cell.row == "full" else 0.003) + noise[cell.row][cell.seed]

    grid = Grid(parse_strategies("rs2"), (1.0, 0.5, 0.3), (0, 1, 2), {"epochs": "20"}, baselines=False)
    opened = {}
    for first in (None, SEEDS):
        agenda = Agenda(plan(grid).cells, judge(0.01, first))
        while (cell := agenda.take()) is not None:
            agenda.record(cell, run(cell, value(cell)))
        further = [
            replace(cell, name=f"{cell.name[:-1]}3", seed=3, values={**cell.values, "seed": "3"})
            for cell in agenda.cells
            if cell.seed == 0 and cell.fraction >= 0.5
        ]
        agenda.extend(further)
        for cell in further:
            agenda.record(cell, run(cell, value(cell)))
        said = sentence(agenda.results()[0], 0.01, SEEDS)
        assert "is not yet known" in said
        opened[first] = {cell.fraction for cell in agenda.needed()}
    assert opened == {None: {0.3}, SEEDS: set()}


def test_all_threads_are_used_only_where_they_are_faster() -> None:
    assert pace.chosen({1: 10.0, 2: 7.0}) == 2
    assert pace.chosen({1: 10.0, 2: 9.9}) == 1
    assert pace.chosen({1: 10.0, 2: 140.0}) == 1
    assert pace.chosen({4: 3.0}) == 4
    assert pace.Measured(Pace(3, 1, 10, 1), 1, {1: 10.0}).hint is None
    slow = pace.Measured(Pace(3, 1, 10, 1), 1, {1: 10.0}, "resnet18")
    assert slow.hint is not None and "--set model=cnn" in slow.hint
    measured = pace.Measured(Pace(3, 1, 10, 1), 1, {1: 10.0, 2: 140.0})
    assert str(measured) == "one thread is 14 times as fast as 2 threads: runs use 1 thread"
