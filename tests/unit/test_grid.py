"""The one plan of runs: its cells, its names, what it says; and what makes a run on this machine the same as a cell."""

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.grid import program, studies
from deploy.grid.backend import digest, job_name
from deploy.grid.here import Here, _alone
from deploy.grid.plan import Cell, Grid, Plan, parse_strategies, passes, plan
from subset_selection.catalogue import CATALOGUE
from subset_trainer.config import hyperparameters
from subset_trainer.errors import UserError

ARTICLE = (1.0, 0.5, 0.3, 0.1)


def planned(
    strategies: str = "rs2",
    fractions: tuple[float, ...] = ARTICLE,
    seeds: tuple[int, ...] = (0,),
    baselines: bool = True,
    **settings: str,
) -> Plan:
    return plan(Grid(parse_strategies(strategies), fractions, seeds, settings, baselines))


def names(plan: Plan) -> list[str]:
    return [cell.name for cell in plan.cells]


def test_the_baselines_stand_beside_every_fraction_once() -> None:
    equal = ["full-at-0.5", "full-at-0.3", "full-at-0.1"]
    rs2 = ["rs2-0.5", "rs2-0.3", "rs2-0.1"]
    own = planned(epochs="30")
    assert names(own) == ["full", *(name for pair in zip(rs2, equal, strict=True) for name in pair)]
    assert own.notes == ()
    other = planned("glister", epochs="30")
    assert set(names(other)) == {"full", *equal, *rs2, "glister-0.5", "glister-0.3", "glister-0.1"}
    assert names(planned("glister", baselines=False)) == ["full", "glister-0.5", "glister-0.3", "glister-0.1"]


@pytest.mark.parametrize(
    ("row", "used"),
    [
        ("rho-loss", True),
        ("glister", True),
        ("gradmatch:match=validation", True),
        ("rs2:mislabelled=drop", True),
        ("gradmatch", False),
        ("infobatch", False),
    ],
)
def test_what_uses_validation_labels_has_them_as_baselines(row: str, used: bool) -> None:
    expected = {"validation-only-0.3", "training-and-validation-0.3"} if used else set()
    tested = plan(Grid(parse_strategies(row), (1.0, 0.3), (0,), {}, tested=True))
    assert {name for name in names(tested) if "validation-" in name or "-validation" in name} - {
        cell.name for cell in tested.cells if cell.row == row
    } == expected
    assert len(tested.cells) == len(plan(Grid(parse_strategies(row), (1.0, 0.3), (0,), {})).cells) + len(
        expected
    )


def test_a_strategy_that_sets_its_own_size_is_one_cell_and_a_sentence_says_so() -> None:
    found = planned("infobatch", epochs="30")
    (cell,) = [cell for cell in found.cells if cell.row == "infobatch"]
    assert cell.name == "infobatch"
    assert "fraction" not in cell.values
    assert found.notes == (
        "`infobatch` sets by itself how many samples an epoch sees: at 0.5, 0.3 and 0.1 it would be the same training, "
        "so it is planned once.",
    )
    # And has its own `full` at about equal samples: 5 epochs see all, 25 leave out half of the 60% below the mean.
    (equal,) = [cell for cell in found.cells if cell.name == "full-at-0.75"]
    assert equal.values["epochs"] == "22"
    assert "full-at-0.75" not in names(planned("infobatch", baselines=False))


def test_full_at_equal_samples_counts_the_warm_start() -> None:
    epochs = {
        warm: {
            cell.fraction: cell.values["epochs"]
            for cell in planned(epochs="40", warm_fraction=warm).cells
            if cell.name.startswith("full-at")
        }
        for warm in ("0", "0.5")
    }
    assert epochs["0"] == {0.5: "20", 0.3: "12", 0.1: "4"}
    # A warm start rounds up: 20 of 40 epochs at 0.3 are 6 on all, beside 20 · 0.3 passes.
    assert epochs["0.5"] == {0.5: "20", 0.3: "12", 0.1: "4"}
    short = {cell.name: cell for cell in planned(fractions=(0.1,), epochs="15", warm_fraction="0.4").cells}
    # 1 epoch on all and 9 on a tenth: 1.9 passes, and not the 1.5 of the fraction alone.
    assert short["full-at-0.1"].values["epochs"] == "2"
    assert abs(short["full-at-0.1"].unequal) < 0.06


def test_samples_are_those_that_the_run_plans() -> None:
    hp = hyperparameters.parse({"epochs": 15, "warm_fraction": 0.4, "strategy": "rs2"})
    assert passes(hp, 0.1) == pytest.approx(1.9)
    assert passes(hyperparameters.parse({"epochs": 15}), 0.1) == pytest.approx(1.5)


def test_whole_epochs_that_are_far_from_equal_are_said() -> None:
    found = planned(fractions=(0.1,), epochs="15")
    assert found.notes == (
        "`full` at 0.1 trains for whole epochs, 2 here, and so sees 33% more samples than the others.",
    )


def test_the_same_training_is_planned_once_however_it_is_written() -> None:
    found = planned("glister,glister:scope=per-class", fractions=(0.1, 0.05), epochs="4")
    assert names(found) == ["glister-0.1", "rs2-0.1", "full-at-0.1", "glister-0.05", "rs2-0.05"]
    assert (
        "`glister:scope=per-class` at 0.1 would be the same training as `glister` at 0.1: it is planned once."
        in found.notes
    )
    assert "`full` at 0.05 would be the same training as `full` at 0.1: it is planned once." in found.notes
    assert names(planned("rs2,rs2:momentum=0.90", (0.5,))) == ["rs2-0.5", "full-at-0.5"]


def test_strategies_with_settings() -> None:
    rows = parse_strategies("random, glister:scope=per-class,eta=0.01,infobatch")
    assert rows == {
        "random": {"strategy": "random"},
        "glister:scope=per-class,eta=0.01": {"strategy": "glister", "scope": "per-class", "eta": "0.01"},
        "infobatch": {"strategy": "infobatch"},
    }
    assert parse_strategies("") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eta=1", "follows no strategy"),
        ("glister,eta=1", "follows no strategy"),
        ("glister:eta", "expected NAME=VALUE, got 'eta'"),
        ("rs2,rs2", "twice"),
    ],
)
def test_strategies_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_strategies(text)


def test_what_the_plan_sets_is_not_set_elsewhere() -> None:
    for shared, message in (
        ({"seed": "1"}, "--set: seed=1: expected --seeds instead"),
        ({"fraction": "0.2"}, "--set: fraction=0.2: expected --fractions instead"),
        ({"strategy": "glister"}, "--set: strategy=glister: expected --strategies instead"),
    ):
        with pytest.raises(UserError, match=message):
            plan(Grid({}, (0.5,), (0,), shared))
    with pytest.raises(UserError, match="the same epochs in every row"):
        planned("rs2:epochs=3")


def test_a_wrong_hyperparameter_is_refused_with_the_plan_and_its_row_is_named() -> None:
    with pytest.raises(UserError, match="epochs"):
        planned(fractions=(1.0,), epochs="0")
    with pytest.raises(UserError, match=r"`glister:eta=none`: .*eta"):
        planned("glister:eta=none")


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.sampled_from([*CATALOGUE, "glister:eta=0.1", "glister:eta:0.1=x"]), unique=True, max_size=4
    ),
    fractions=st.lists(st.sampled_from([1.0, 0.999, 0.5, 0.05, 0.01, 1e-5]), unique=True, min_size=1),
    seeds=st.lists(st.integers(0, 9), unique=True, min_size=1, max_size=2),
    epochs=st.integers(1, 40),
    baselines=st.booleans(),
)
def test_no_two_cells_are_the_same_training_or_have_the_same_name(
    rows: list[str], fractions: list[float], seeds: list[int], epochs: int, baselines: bool
) -> None:
    strategies = {row: {"strategy": row.split(":")[0]} for row in rows}
    for row in rows:
        strategies[row] |= {"eta": f"0.{len(row)}"} if ":" in row else {}
    found = plan(Grid(strategies, fractions, seeds, {"epochs": str(epochs)}, baselines))
    trainings = [
        json.dumps(hyperparameters.parse(cell.values).model_dump(mode="json")) for cell in found.cells
    ]
    assert len(set(trainings)) == len(trainings)
    assert len({job_name(cell) for cell in found.cells}) == len(found.cells)


def test_jobs_are_called_and_found_as_before() -> None:
    cells = planned("glister", (1.0, 0.3), (0, 1), epochs="30").renamed(job_name).cells
    assert [cell.name for cell in cells[:4]] == [
        "full-seed-0",
        "glister-0-3-seed-0",
        "rs2-0-3-seed-0",
        "full-at-0-3-seed-0",
    ]
    assert cells[3].values == {"epochs": "9", "strategy": "full", "seed": "0"}
    found = [digest(cell.values, "image@sha256:1", {"training": "s3://data/training"}) for cell in cells[:4]]
    # What commit f7d9a11 made of them.
    assert found == ["ff7c1e13", "4a58d987", "ddbafd57", "931a08e5"]


def test_two_cells_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name: full"):
        planned().renamed(lambda cell: "full")


def test_planning_loads_neither_torch_nor_an_sdk() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, deploy.grid.plan; print({'torch', 'boto3', 'sagemaker'} & {*sys.modules})",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


# Resumption


def write_summary(base: Path, cell: Cell, **changes: Any) -> None:
    data = base / "output/data"
    data.mkdir(parents=True, exist_ok=True)
    content = {
        "status": "completed",
        "test": {"accuracy": 0.5},
        "hyperparameters": hyperparameters.parse(cell.values).model_dump(),
        **changes,
    }
    (data / "summary.json").write_text(json.dumps(content))
    program.lay_out(base, {}, cell.values)


def test_only_a_completed_run_of_the_same_hyperparameters_is_finished(tmp_path: Path) -> None:
    here = Here(tmp_path, {"training": tmp_path, "test": tmp_path})
    values = {"strategy": "rs2", "fraction": "0.1", "seed": "0"}

    def finished(**changes: str) -> bool:
        return here.finished(Cell("rs2", "rs2", 0.1, 0, {**values, **changes})) is not None

    assert not finished()
    cell = Cell("rs2", "rs2", 0.1, 0, values)
    write_summary(tmp_path / "rs2-seed-0", cell)
    assert finished()
    # How a value is written makes no difference.
    assert finished(fraction="0.10")
    assert not finished(epochs="7")
    write_summary(tmp_path / "rs2-seed-0", cell, test=None)
    assert not finished()
    write_summary(tmp_path / "rs2-seed-0", cell, status="stopped")
    assert not finished()
    (tmp_path / "rs2-seed-0/output/data/summary.json").write_text('{"status": "comp')
    assert not finished()


def test_a_run_of_other_settings_is_left_alone(tmp_path: Path) -> None:
    here = Here(tmp_path, {})
    first = Cell("rs2-0.1-seed-0", "rs2", 0.1, 0, {"strategy": "rs2", "fraction": "0.1", "epochs": "3"})
    assert here.place(first) == tmp_path / "rs2-0.1-seed-0"
    write_summary(here.place(first), first)
    second = replace(first, values={**first.values, "epochs": "4"})
    assert here.place(second) == tmp_path / "rs2-0.1-seed-0-2"
    assert here.place(replace(first, values={**first.values, "epochs": "03"})) == tmp_path / "rs2-0.1-seed-0"
    # Somebody's own files are no run, and stay.
    (tmp_path / "rs2-0.1-seed-0-2").mkdir()
    (tmp_path / "rs2-0.1-seed-0-2/thesis.txt").write_text("precious")
    assert here.place(second) == tmp_path / "rs2-0.1-seed-0-3"
    # What a kill leaves while a folder is laid out is free.
    (tmp_path / "rs2-0.1-seed-0-3/input/config").mkdir(parents=True)
    (tmp_path / "rs2-0.1-seed-0-3/input/config/.hyperparameters.json.tmp").write_text("{")
    assert here.place(second) == tmp_path / "rs2-0.1-seed-0-3"


def test_a_run_of_an_earlier_version_is_used_unless_a_default_has_changed(tmp_path: Path) -> None:
    here = Here(tmp_path, {})
    cell = Cell("rs2-0.1-seed-0", "rs2", 0.1, 0, {"strategy": "rs2", "fraction": "0.1", "seed": "0"})
    resolved = hyperparameters.parse(cell.values).model_dump(mode="json")
    write_summary(here.place(cell), cell, hyperparameters=resolved)
    assert here.finished(cell) is not None
    # That version did not have this hyperparameter yet.
    older = {name: value for name, value in resolved.items() if name != "test_fraction"}
    write_summary(here.place(cell), cell, hyperparameters=older)
    assert here.finished(cell) is not None
    # In that version, the learning rate that was not given was another one: its run stays, beside a new one.
    write_summary(here.place(cell), cell, hyperparameters={**resolved, "learning_rate": 0.123})
    assert here.finished(cell) is None
    assert here.place(cell) == tmp_path / "rs2-0.1-seed-0-2"
    # Images without pretrained weights were trained otherwise then.
    write_summary(here.place(cell), cell, hyperparameters=older, model="resnet18")
    assert here.finished(cell) is None


def test_a_plan_of_one_seed_finds_the_run_of_a_plan_of_several() -> None:
    (alone,) = planned(fractions=(1.0,)).cells
    assert alone.name == "full"
    assert alone.folder in {cell.folder for cell in planned(fractions=(1.0,), seeds=(0, 1, 2)).cells}


def test_a_study_is_known_by_its_data_and_its_settings(tmp_path: Path) -> None:
    data = tmp_path / "digits/training"
    (data / "0").mkdir(parents=True)
    (data / "0/a.png").write_bytes(b"one")
    channels = {"training": data}
    first = studies.study(channels, {"epochs": "30"})
    assert first.name == f"digits-{first.digest}"
    assert studies.study(channels, {"epochs": 30, "seed": "7"}).digest == first.digest
    assert studies.study(channels, {"epochs": "31"}).digest != first.digest
    moved = tmp_path / "elsewhere"
    shutil.copytree(data, moved)
    assert studies.study({"training": moved}, {"epochs": "30"}).digest == first.digest
    (moved / "0/a.png").write_bytes(b"two")
    assert studies.study({"training": moved}, {"epochs": "30"}).digest != first.digest
    (moved / "0/a.png").rename(moved / "0/b.png")
    (moved / "0/b.png").write_bytes(b"one")
    assert studies.study({"training": moved}, {"epochs": "30"}).digest != first.digest


def test_a_study_gets_a_folder_of_its_own_where_another_is(tmp_path: Path) -> None:
    data = tmp_path / "animals"
    data.mkdir()
    (data / "cat.png").write_bytes(b"1")
    first, second = (studies.study({"training": data}, {"epochs": n}) for n in ("1", "2"))
    root = tmp_path / "out"
    assert studies.place(root, first) == root
    first.write(root)
    assert studies.place(root, first) == root
    assert studies.place(root, second) == root / second.name
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    assert studies.place(tmp_path / "mine", first) == tmp_path / "mine" / first.name


def test_strategies_are_understood_in_any_case_and_listed_as_they_are_called() -> None:
    rows = parse_strategies("GLISTER:eta=0.01,GradMatch_PB")
    assert list(rows) == ["glister:eta=0.01", "gradmatch-pb"]
    assert rows["glister:eta=0.01"] == {"strategy": "glister", "eta": "0.01"}
    with pytest.raises(UserError, match="twice"):
        parse_strategies("rs2,RS2")


def test_a_run_is_trained_by_one_process_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = threading.Event()

    def second() -> None:
        with _alone(tmp_path / "runs/full", "full"):
            inside.set()

    waiting = threading.Thread(target=second)
    with _alone(tmp_path / "runs/full", "full") as lock:
        waiting.start()
        assert not inside.wait(0.5)
        assert "waiting for another process" in capsys.readouterr().out
        # A run that outlives its comparison has inherited the lock, and keeps it.
        inherited = os.dup(lock)
    assert not inside.wait(0.3)
    os.close(inherited)
    assert inside.wait(10)
    waiting.join()


def test_a_training_is_never_said_to_be_the_same_as_itself() -> None:
    rows = parse_strategies("rs2,infobatch")
    notes = plan(Grid(rows, (1, 0.5), (0, 1, 2), {"epochs": "1"})).notes
    assert not [note for note in notes if "`full` at 1 would be the same training as `full` at 1" in note]
    assert any("`full` at 0.5 would be the same training as `full` at 1" in note for note in notes)
