"""The comparison of recipes and the time to accuracy: cases, order and tables, from rows made up here."""

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import airbench, recipe, time_to_accuracy
from benchmarks.recipe import Case, Compared, parse_case, planned
from benchmarks.scenarios import Scenario
from benchmarks.study_report import Row
from benchmarks.time_to_accuracy import Whole, order, reached
from subset_trainer.config import hyperparameters
from subset_trainer.errors import UserError

DATA = Path("data")


def test_a_case_says_what_both_recipes_are_given() -> None:
    case = parse_case("digits:model=cnn,epochs=30,fraction=0.1,noise=0.4,per_class=9,batch_size=32", DATA)
    assert (case.data, case.epochs, case.fraction) == (DATA / "digits", "30", 0.1)
    assert case.scenario == Scenario(noise=0.4, per_class=9)
    assert case.settings == {"model": "cnn", "batch_size": "32"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("digits:model=cnn", "epochs=N"),
        ("digits:epochs", "NAME=VALUE"),
        ("digits:epochs=1,noise=much", "expected numbers"),
        ("digits:epochs=1,noise=2", "less than 1"),
    ],
)
def test_a_case_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_case(text, DATA)


@pytest.mark.parametrize(("settings", "strategy", "epochs"), [("", "full", 3), ("fraction=0.1", "rs2", 3)])
def test_recipes_differ_in_their_own_settings_alone(settings: str, strategy: str, epochs: int) -> None:
    case = parse_case(f"digits:model=cnn,epochs=3,learning_rate=0.02,{settings}", DATA)
    values = {}
    for name, own in recipe.RECIPES.items():
        cells = planned(case, own, (0, 1))
        assert [(cell.row, cell.seed) for cell in cells] == [(strategy, 0), (strategy, 1)]
        values[name] = hyperparameters.parse(cells[0].values).model_dump(mode="json")
    assert (values["old"]["epochs"], values["old"]["learning_rate"]) == (epochs, 0.02)
    differing = {key for key, value in values["old"].items() if value != values["new"][key]}
    assert differing == set(recipe.RECIPES["new"])


def row(accuracies: tuple[float, ...], seconds: float, used: float) -> Row:
    times = (seconds,) * len(accuracies)
    return Row(
        scenario="clean",
        strategy="rs2",
        fraction=0.1,
        epochs=30,
        seeds=tuple(range(len(accuracies))),
        test_accuracies=accuracies,
        validation_accuracies=accuracies,
        seconds=times,
        selection_seconds=(0.0,) * len(accuracies),
        samples_visited=(300,) * len(accuracies),
        processor_seconds=(used,) * len(accuracies),
    )


def test_the_table_pairs_seeds_and_its_last_line_is_the_mean_of_the_cases() -> None:
    def compared(name: str, old: Row, new: Row) -> Compared:
        case = Case(name, DATA / name, Scenario(), "30", 0.1, {"model": "cnn"})
        return Compared(case, rows={"old": old, "new": new})

    found = [
        compared("a", row((0.70, 0.72), 10, 12), row((0.74, 0.74), 11, 15)),
        # The second seed of the new recipe has no run.
        compared("b", row((0.90, 0.10), 10, 10), row((0.89,), 9, 10)),
        compared("c", row((), 0, 0), row((0.5,), 1, 1)),
    ]
    lines = recipe.table(found).splitlines()[2:]
    assert lines[0] == (
        "| a | `cnn` | 300 | 71.0 ± 1.4 | 74.0 ± 0.0 | +3.0 ± 1.4 | 10.0 → 11.0 s (1.10×) | 12.0 → 15.0 s (1.25×) |"
    )
    assert "| −1.0 |" in lines[1]
    assert "failed" in lines[2]
    assert lines[3].startswith("| **mean** | | | | | **+1.0** | 1.00× | 1.12× |")


def whole(side: str, epochs: int, accuracy: float, seconds: float, seed: int = 0) -> Whole:
    return Whole(side, epochs, seed, accuracy, seconds, 2 * seconds)


LADDER = [
    whole("old", 1, 0.6, 10),
    whole("old", 2, 0.68, 20, 0),
    whole("old", 2, 0.72, 20, 1),
    whole("old", 4, 0.8, 40),
]


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.5, (10, False)), (0.65, (15, True)), (0.7, (20, True)), (0.75, (30, True)), (0.81, None)],
)
def test_a_level_is_reached_between_two_whole_runs(level: float, expected: tuple[float, bool] | None) -> None:
    found = reached(LADDER, level, lambda run: run.seconds)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found[0] == pytest.approx(expected[0])
        assert found[1] == expected[1]


def test_ratios_are_given_where_both_sides_reach_a_level_between_their_runs() -> None:
    runs = [*LADDER, whole("new", 1, 0.65, 12), whole("new", 2, 0.75, 24)]
    old, new = time_to_accuracy.levels_table(runs, (0.62, 0.7, 0.8), lambda run: run.seconds).splitlines()[2:]
    assert old == "| `cnn`, old recipe | 12.0 | 20.0 | 40.0 |"
    assert new == "| `cnn`, new recipe | ≤ 12.0 | 18.0 (0.90×) | not reached |"


def test_each_side_begins_in_its_turn_and_a_seed_is_whole_before_the_next() -> None:
    runs = order(["a", "b"], [1, 2, 3], [0, 1])
    assert [side for side, _, _ in runs[::2]] == ["a", "b", "a", "b", "a", "b"]
    assert len(set(runs)) == 12
    assert [seed for _, _, seed in runs] == [0] * 6 + [1] * 6


# The peer


def test_the_peers_first_layer_whitens_and_the_others_pass_their_input_on() -> None:
    generator = torch.Generator().manual_seed(0)
    # Neighbouring pixels are alike.
    coarse = torch.randint(256, (200, 3, 8, 8), generator=generator).float()
    images = nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear").to(torch.uint8)
    classifier = airbench.build("airbench", (images, torch.arange(200) % 4))
    first, second, *_ = (layer for layer in classifier.modules() if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        output = first(classifier.prepare(images))[:, :12].transpose(0, 1).flatten(1)
        assert torch.equal(first.weight[:12], -first.weight[12:])
        passed = nn.functional.conv2d(
            torch.eye(5)[None, None].expand(1, 24, -1, -1), second.weight, padding=1
        )
    assert output.pow(2).mean(1) == pytest.approx(1, abs=0.1)
    assert torch.allclose(passed[0, :16], torch.eye(5).expand(16, -1, -1))
    assert not first.weight.requires_grad


def test_the_peers_learning_rate_is_a_triangle() -> None:
    assert [round(airbench.share_of_rate(step, 100), 3) for step in (0, 23, 100)] == [0.2, 1.0, 0.07]
