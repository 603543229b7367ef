"""What the charts of a comparison show: colours, dashes and markers, seeds as bands, and what is left out."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.results import answers, compare, picture, plots
from deploy.results.compare import Run
from deploy.results.page import write
from deploy.results.plots import Plots
from subset_selection.catalogue import CATALOGUE
from subset_trainer.insight.charts import Series
from tests.unit.test_compare import write_run


def made(
    folder: Path, strategy: str, fraction: float = 1.0, seed: int = 0, epochs: int = 4, **changes: Any
) -> Run:
    """A run whose test accuracy rises with the fraction and a little with the seed."""
    own = {"strategy": strategy, "fraction": fraction, "epochs": epochs, "seed": seed}
    knobs = {**own, **changes.pop("hyperparameters", {})}
    name = "-".join(str(value) for value in (*knobs.values(), len(list(folder.iterdir()))))
    accuracy = changes.pop("accuracy", 0.8 + 0.1 * fraction * epochs / 4 + 0.01 * seed)
    examples = changes.pop("examples", {"training": 1000, "validation": 100, "test": 500})
    return compare.read_run(
        write_run(
            folder / name,
            strategy,
            fraction,
            epochs,
            4.0 + seed,
            seed=seed,
            hyperparameters=knobs,
            test={"loss": 0.1, "accuracy": accuracy},
            examples=examples,
            **changes,
        )
    )


def by_time(found: Plots) -> dict[str, Series]:
    return {one.name: one for one in found.against(lambda _, run: run.seconds)}


def look(one: Series) -> tuple[str, str, bool]:
    return one.colour, one.marker, one.hollow


def test_two_settings_of_one_strategy_share_its_colour_and_have_lines_of_their_own(tmp_path: Path) -> None:
    """They once shared a line, which zigzagged between the two."""
    runs = [made(tmp_path, "full", seed=seed) for seed in (0, 1)]
    for rate in (0.1, 0.01):
        for fraction in (0.5, 0.25):
            runs += [
                made(tmp_path, "glister", fraction, seed, hyperparameters={"learning_rate": rate})
                for seed in (0, 1)
            ]
    lines = by_time(Plots(runs))
    first, second = lines["glister:learning_rate=0.1"], lines["glister:learning_rate=0.01"]
    assert first.colour == second.colour
    assert look(first) != look(second)
    assert len(first.points) == len(second.points) == 2
    panels = [panel.name for panel in Plots(runs).panels(over_time=False)]
    assert panels == ["glister:learning_rate=0.1", "glister:learning_rate=0.01"]


def test_a_strategy_has_one_colour_and_a_share_one_dash_in_all_charts(tmp_path: Path) -> None:
    runs = [made(tmp_path, "full"), made(tmp_path, "full", epochs=2)]
    runs += [
        made(tmp_path, strategy, fraction) for strategy in ("rs2", "glister") for fraction in (0.5, 0.25)
    ]
    found = Plots(runs)
    curves = [one for panel in found.panels(over_time=True) for one in panel.series]
    lines = by_time(found)
    for strategy in ("rs2", "glister"):
        (line,) = [one for name, one in lines.items() if name.startswith(strategy)]
        assert {one.colour for one in curves if one.name.startswith(strategy)} == {line.colour}
    for share in ("50%", "25%"):
        dashes = {one.dash for one in curves if share in one.name}
        assert len(dashes) == 1
    # Half of the epochs are half of the samples.
    assert {one.dash for one in curves if "50%" in one.name} == {found.dashes[0.5]}
    assert len({*found.dashes.values()}) == 3 and found.dashes[1.0] == ""


def test_seeds_are_one_point_with_a_band_and_never_a_sum(tmp_path: Path) -> None:
    runs = [made(tmp_path, "rs2", 0.5, seed, accuracy=0.8 + 0.02 * seed) for seed in range(3)]
    (line,) = by_time(Plots(runs)).values()
    ((seconds, middle),) = line.points
    assert middle == pytest.approx(0.82)
    # 0.5 × 4 epochs of 4, 5 and 6 seconds, and half a second for each evaluation.
    assert seconds == pytest.approx((8 + 10 + 12) / 3 + 2)
    assert line.band[0][1:] == pytest.approx((0.8, 0.84))
    assert line.notes == ["rs2 at 50%: 82.0% (80.0% to 84.0%, 3 seeds), in 12.0 s"]
    (panel,) = Plots(runs).panels(over_time=False)
    (curve,) = panel.series
    assert [x for x, _ in curve.points] == [1, 2, 3, 4]
    assert len(curve.band) == 4


def test_one_seed_has_no_band(tmp_path: Path) -> None:
    (panel,) = Plots([made(tmp_path, "rs2", 0.5)]).panels(over_time=False)
    assert panel.series[0].band == ()
    (line,) = by_time(Plots([made(tmp_path, "rs2", 0.5)])).values()
    assert line.notes == ["rs2 at 50%: 85.0% (one seed), in 10.0 s"]


def test_values_that_are_no_numbers_and_runs_that_stopped_are_not_drawn(tmp_path: Path) -> None:
    runs = [made(tmp_path, "rs2", 0.5, seed) for seed in range(3)]
    runs[1].summary["test"]["accuracy"] = math.nan
    runs[1].history[-1]["validation:accuracy"] = math.nan
    runs[2].summary["status"] = "stopped"
    found = Plots(runs)
    (line,) = by_time(found).values()
    assert [y for _, y in line.points] == [pytest.approx(0.85)]
    assert found.left_out == [runs[2].name]
    (panel,) = found.panels(over_time=False)
    assert all(math.isfinite(y) for _, y in panel.series[0].points)
    assert panel.series[0].points[-1] == (4, runs[0].history[-1]["validation:accuracy"])


def test_nothing_but_stopped_runs_is_drawn_all_the_same(tmp_path: Path) -> None:
    found = Plots([made(tmp_path, "rs2", 0.5, status="stopped")])
    assert len(by_time(found)) == 1 and found.left_out == []


def test_runs_of_different_data_are_never_averaged(tmp_path: Path) -> None:
    runs = [
        made(
            tmp_path,
            "rs2",
            0.5,
            seed,
            accuracy=accuracy,
            examples={"training": 90, "validation": 9, "test": count},
        )
        for seed in range(2)
        for accuracy, count in ((0.9, 50), (0.6, 500))
    ]
    lines = by_time(Plots(runs))
    assert {name: round(one.points[0][1], 3) for name, one in lines.items()} == {
        "rs2, data 1 (baseline)": 0.9,
        "rs2, data 2 (baseline)": 0.6,
    }
    first, second = lines.values()
    assert first.colour == second.colour and look(first) != look(second)


def test_a_search_is_a_line_of_its_own(tmp_path: Path) -> None:
    """Its time is that of all its trainings, so it is no share of the strategy's line."""
    runs = [made(tmp_path, "full"), made(tmp_path, "random", 0.5)]
    searched = made(tmp_path, "random", 0.5, hyperparameters={"question": "label", "tolerance": 2.0})
    searched.summary["answer"] = {"sentence": "half is enough", "samples_visited": 9000}
    lines = by_time(Plots([*runs, searched]))
    assert {name for name, one in lines.items() if one.marker} == {
        "full",
        "random (baseline)",
        "random with fraction=auto (baseline)",
    }


def test_of_runs_on_different_data_no_answer_follows(tmp_path: Path) -> None:
    other = {"training": 90, "validation": 9, "test": 50}
    runs = [made(tmp_path, "full", seed=seed) for seed in range(3)]
    runs += [made(tmp_path, "rs2", 0.5, seed, examples=other) for seed in range(3)]
    said = answers.answer(runs, 0.01)
    assert (
        isinstance(said, str) and "different data" in said and runs[0].name in said and runs[3].name in said
    )


def test_every_strategy_has_a_colour_of_its_own(tmp_path: Path) -> None:
    runs = [made(tmp_path, strategy, 1.0 if strategy == "full" else 0.5) for strategy in CATALOGUE]
    assert len(CATALOGUE) >= 21
    lines = [one for one in Plots(runs).against(lambda _, run: run.seconds) if one.marker]
    assert len({one.colour for one in lines}) == len(lines) == len(CATALOGUE)


def test_any_number_of_strategies_settings_and_shares_look_different() -> None:
    chains = {f"{strategy}-{setting}": f"s{strategy}" for strategy in range(60) for setting in range(3)}
    chains |= {f"many-{setting}": "many" for setting in range(40)}
    found = plots.looks(chains)
    assert len(set(found.values())) == len(chains)
    of_strategy: dict[str, set[str]] = {}
    for chain, strategy in chains.items():
        of_strategy.setdefault(strategy, set()).add(found[chain].colour)
    assert all(len(colours) == 1 for strategy, colours in of_strategy.items() if strategy != "many")
    every: list[str] = [colour for colours in of_strategy.values() for colour in colours]
    assert len(set(every)) == len(every)
    assert len({plots.dash(place) for place in range(40)}) == 40


def test_what_is_tolerated_is_a_line_below_what_full_data_reach(tmp_path: Path) -> None:
    runs = [made(tmp_path, "full", seed=seed) for seed in range(2)] + [made(tmp_path, "rs2", 0.5)]
    lines = by_time(Plots(runs, 0.02))
    assert [y for _, y in lines["what full reaches"].points] == pytest.approx([0.905, 0.905])
    assert [y for _, y in lines["2 points below"].points] == pytest.approx([0.885, 0.885])


def grid(folder: Path, strategies: Sequence[str], seeds: int = 3) -> list[Run]:
    return [
        made(folder, strategy, fraction, seed)
        for strategy in strategies
        for fraction in ((1.0,) if strategy == "full" else (0.5, 0.25))
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("count", [1, 3, 22])
def test_the_pictures_legend_covers_no_axes(count: int, tmp_path: Path) -> None:
    runs = grid(tmp_path, list(CATALOGUE)[:count])
    figure = picture.figure(runs, "Comparison", 0.01)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    for axes in figure.axes:
        assert not box.overlaps(axes.get_window_extent())
        # Nor is it the chart that makes way for a legend of any size.
        assert axes.get_window_extent().width > 0.25 * figure.bbox.width
    assert box.x1 <= figure.bbox.x1 + 1 and box.y0 >= figure.bbox.y0
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(set(labels)) == len(labels) >= 2


@pytest.mark.parametrize("count", [1, 22])
def test_the_page_is_written_whatever_the_runs(count: int, tmp_path: Path) -> None:
    runs = grid(tmp_path, list(CATALOGUE)[:count], seeds=1)
    runs[0].summary["test"] = None
    page = tmp_path / "page/comparison.html"
    write(page, "Comparison", runs, answer=answers.answer(runs, 0.01))
    text = page.read_text(encoding="utf-8")
    assert "nan" not in text.replace("nance", "") and "validation accuracy" in text
