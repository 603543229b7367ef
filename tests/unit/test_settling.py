import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.grid import studies
from deploy.grid.agenda import Agenda
from deploy.grid.course import settling_cells
from deploy.grid.plan import Grid, plan
from deploy.results import folders
from deploy.results.answers import Answer, answer
from deploy.results.compare import Run
from deploy.results.settling import Settling, runs, settling
from deploy.results.verdict import sentence
from subset_trainer.tracking.metrics import spoken_time
from tests.unit.test_verdict import FULL, run
from tests.unit.test_verdict import runs as made_of


def answered(made: list[Run], tolerance: float = 0.01) -> Answer:
    found = answer(made, tolerance)
    assert isinstance(found, Answer)
    return found


def proposed(made: list[Run], tolerance: float = 0.01) -> Settling:
    (one,) = settling(answered(made, tolerance))
    return one


NEARLY = {**FULL, ("rs2", 0.3): [0.893, 0.913, 0.914]}


def test_further_seeds_with_their_full_runs_and_their_time() -> None:
    one = proposed(made_of(NEARLY))
    assert one.more_seeds > 0
    assert [run.seed for run in one.runs[::2]] == list(range(3, 3 + one.more_seeds))
    assert [run.values["strategy"] for run in one.runs[:2]] == ["rs2", "full"]
    assert one.runs[0].like == "rs2-0.3-0"
    # The full runs take 100 seconds each, those at 30% take 30.
    assert one.seconds == pytest.approx(one.more_seeds * 130)
    said = sentence(made_of(NEARLY), 0.01)
    assert "is not yet known. `rs2` at 30% loses 0.3 points on average and at most" in said
    assert (
        f"of `rs2` at 30%, with full runs of these seeds (about {spoken_time(one.seconds)}), would probably settle it."
        in said
    )


def test_the_proposed_seeds_settle_it_in_four_of_five_cases() -> None:
    one = proposed(made_of(NEARLY))
    (judged,) = answered(made_of(NEARLY)).judged
    random = np.random.default_rng(0)
    deviation = np.std([0.007, -0.003, 0.006], ddof=1) / np.sqrt(2)
    count, settled = 3 + one.more_seeds, 0
    for _ in range(200):
        full, own = 0.91 + deviation * random.standard_normal((2, count))
        again = made_of({("full", 1.0): list(full), ("rs2", 0.3): list(own + judged.mean)})
        found = answer(again, 0.01, first_seeds=range(3))
        settled += isinstance(found, Answer) and found.best("train") is not None
    assert 0.65 < settled / 200 < 0.95


def test_full_runs_that_are_there_are_used() -> None:
    made = [*made_of(NEARLY), run("full", 1.0, 9, 0.92)]
    assert proposed(made).runs[0].seed == 9
    assert [(one.values["strategy"], one.seed) for one in proposed(made).runs[:3]] == [
        ("rs2", 9),
        ("rs2", 3),
        ("full", 3),
    ]


def test_one_seed_asks_for_three() -> None:
    one = proposed(made_of({("full", 1.0): [0.9], ("rs2", 0.3): [0.9], ("rs2", 0.1): [0.9]}))
    assert (one.more_seeds, [run.seed for run in one.runs]) == (2, [1, 1, 2, 2])
    assert one.share == pytest.approx(0.3)


def test_a_small_test_set_is_named() -> None:
    made = made_of({**FULL, ("rs2", 0.3): [0.9, 0.91, 0.92]})
    for each in made:
        each.summary["examples"]["test"] = 400
    one = proposed(made)
    assert one.more_seeds == 0 and one.test_examples is not None and one.test_examples > 4000
    assert "test examples to settle it, not more seeds." in sentence(made, 0.01)


def test_what_lies_at_the_tolerance_is_not_settled_by_seeds() -> None:
    made = made_of({**FULL, ("rs2", 0.3): [0.885, 0.905, 0.91]})
    assert proposed(made).more_seeds == 0
    assert sentence(made, 0.01).count("Neither 30 seeds nor a far larger test set would settle it") == 1


def test_what_is_settled_asks_for_nothing() -> None:
    made = made_of({**FULL, ("rs2", 0.5): [0.9, 0.91, 0.92], ("rs2", 0.1): [0.5, 0.51, 0.52]})
    assert settling(answered(made)) == []


def test_the_next_share_is_proposed_below_one_that_is_enough() -> None:
    made = made_of({**FULL, ("rs2", 0.7): [0.9, 0.91, 0.92], ("rs2", 0.3): [0.893, 0.913, 0.914]})
    assert proposed(made).row == "`rs2` at 30%"
    assert "70% of the samples seen is enough" in sentence(made, 0.01)
    assert "Whether `rs2` at 30% is enough is not yet known." in sentence(made, 0.01)


def test_a_planner_reads_each_run_once_and_as_json() -> None:
    made = made_of({**NEARLY, ("random", 0.3): [0.893, 0.913, 0.914]})
    proposals = settling(answered(made))
    assert [one.question for one in proposals] == ["train", "label"]
    wanted = runs(proposals)
    assert len([one for one in wanted if one.values["strategy"] == "full"]) == max(
        one.more_seeds for one in proposals
    )
    read = json.loads(json.dumps([one.to_json() for one in proposals], allow_nan=False))
    assert read[0]["runs"][0]["values"]["seed"] == 3
    json.dumps(answered(made).to_json(), allow_nan=False)


def test_the_planner_repeats_the_cells_that_are_open_with_new_seeds() -> None:
    grid = Grid({"rs2": {"strategy": "rs2"}}, (1.0, 0.3), (0, 1, 2), {}, baselines=False)
    agenda = Agenda(plan(grid).cells)
    measured = {("full", seed): accuracy for seed, accuracy in enumerate(NEARLY["full", 1.0])}
    measured |= {("rs2", seed): accuracy for seed, accuracy in enumerate(NEARLY["rs2", 0.3])}
    for cell in agenda.cells:
        ended = run(cell.row, cell.fraction, cell.seed, measured[cell.row, cell.seed])
        agenda.record(cell, replace(ended, name=cell.name))
    cells = settling_cells(agenda, 0.01)
    wanted = proposed(made_of(NEARLY)).more_seeds
    assert len(cells) == 2 * wanted > 0
    assert {cell.row for cell in cells} == {"rs2", "full"}
    assert {cell.seed for cell in cells} == set(range(3, 3 + wanted))
    first = min(cells, key=lambda cell: (cell.seed, cell.row == "full"))
    assert (first.name, first.values["seed"], first.values["fraction"]) == ("rs2-0.3-seed-3", "3", "0.3")


def test_a_study_keeps_the_seeds_of_its_first_answer(tmp_path: Path) -> None:
    base = tmp_path / "study" / "runs" / "full-seed-0"
    (base / "input/config").mkdir(parents=True)
    (base / "input/config/hyperparameters.json").write_text("{}")
    (tmp_path / "study" / "study.json").write_text("{}")
    assert folders.first_seeds([tmp_path]) is None
    studies.keep(tmp_path / "study", studies.FIRST_SEEDS, [0, 1, 2])
    assert folders.first_seeds([tmp_path]) == folders.first_seeds([base]) == [0, 1, 2]
    assert studies.first_seeds(tmp_path) is None
