"""Errors of models whose reasons are known: what the explanations say of them, as data and on the page."""

import base64
import io
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from subset_trainer import pages
from subset_trainer.config import Hyperparameters
from subset_trainer.contract import Contract
from subset_trainer.data import MemoryDataset, Splits, load_splits
from subset_trainer.data.parts import Columns
from subset_trainer.errors import UserError
from subset_trainer.insight import errors_section
from subset_trainer.insight.explaining import explain, log_odds
from subset_trainer.insight.explanations import Explained, Explanations, surest, to_json
from subset_trainer.job import insights
from subset_trainer.job.stages import Stages
from subset_trainer.job.values import Run
from subset_trainer.models import Classifier
from subset_trainer.tracking.trackers import Trackers
from subset_trainer.training.devices import Machine
from subset_trainer.training.evaluation import judge
from subset_trainer.training.place import Place
from subset_trainer.training.record import Record
from tests.kinds import text_kind

CPU = torch.device("cpu")


def explained(network: nn.Module, splits: Splits, count: int = 4, seed: int = 0) -> Explanations:
    told = splits.preprocessing.network
    classifier = Classifier(network, told.get("mean"), told.get("std"))
    judged = judge(classifier, splits.validation, Place(Machine(CPU, torch.float32)))
    return explain(classifier, splits, judged, CPU, count, seed)


def section(found: Explanations) -> str:
    """As the page has it."""
    return pages.render("errors.html", errors=errors_section.shown(found))


def linear(weights: Sequence[float], bias: float = 0.0) -> nn.Linear:
    """Of two classes; the second one's log-odds are the weighted sum."""
    layer = nn.Linear(len(weights), 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0] * len(weights), list(weights)]))
        layer.bias.copy_(torch.tensor([0.0, bias]))
    return layer


# Tables

COLOURS = ("blue", "green", "red")


def table(root: Path) -> Splits:
    """Labels that say nothing, so that half of all are errors; 1 + 3 + 5 inputs."""
    draw = np.random.default_rng(0)
    lines = ["label,size,colour,day"] + [
        f"{draw.choice(['no', 'yes'])},{draw.normal(50, 10):.2f},{draw.choice(COLOURS)},2024-0{month}-1{day}"
        for month in range(1, 10)
        for day in range(10)
    ]
    root.mkdir()
    (root / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    return load_splits({"training": root}, validation_fraction=0.3)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return table(tmp_path_factory.mktemp("rows") / "training")


def test_of_a_linear_model_each_column_has_its_weight_times_its_distance_from_the_mean(rows: Splits) -> None:
    assert isinstance(rows.train, MemoryDataset) and isinstance(rows.validation, MemoryDataset)
    weights = torch.linspace(-2, 1.5, rows.preprocessing.input_shape[0])
    found = explained(linear(weights.tolist()), rows)
    assert len(found.examples) == 4
    assert found.errors > 4
    for one in found.examples:
        row = next(at for at, name in enumerate(rows.validation_ids) if name == one.id)
        towards = 1 if one.predicted == "yes" else -1
        each = towards * weights * (rows.validation.inputs[row] - rows.train.inputs.mean(0))
        # The colour's three inputs are one column, the day's and its sines and cosines another.
        expected = [float(part.sum()) for part in each.split([1, 3, len(weights) - 4])]
        assert one.names == ["size", "colour", "day"] and one.exact
        assert one.contributions == pytest.approx(expected, abs=1e-4)
        assert sum(expected) == pytest.approx(one.log_odds - one.log_odds_absent, abs=1e-4)
        assert one.values[1] in COLOURS and one.values[2].startswith("2024-0")


def test_one_column_decides(rows: Splits) -> None:
    (one, *_) = explained(
        linear([0, 3, -3, 0] + [0] * (rows.preprocessing.input_shape[0] - 4)), rows
    ).examples
    assert one.contributions[[0, 2]] == pytest.approx([0, 0], abs=1e-5)
    assert abs(one.contributions[1]) > 1 and one.values[1] in ("blue", "green")


# Images


class UpperLeft(nn.Module):
    """The second class is what is bright in one quadrant."""

    def forward(self, inputs: Tensor) -> Tensor:
        half = inputs.shape[2] // 2
        bright = inputs[:, :, :half, :half].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(bright), 4 * bright], 1)


def images(root: Path) -> Splits:
    for name, level in (("dark", 200), ("light", 60)):  # the other way round: all are errors
        (root / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
            pixels[:8, :8] = level + number
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return load_splits({"training": root}, validation_fraction=0.34, num_workers=0)


def test_one_quadrant_decides(tmp_path: Path) -> None:
    found = explained(UpperLeft(), images(tmp_path / "training"))
    assert [(one.label, one.predicted) for one in found.examples] == [
        ("dark", "light"),
        ("light", "dark"),
    ] * 2
    for one in found.examples:
        region = one.parts.region  # type: ignore[attr-defined]
        inside = np.isin(np.arange(len(one.contributions)), region[:8, :8].unique())
        outside = ~np.isin(np.arange(len(one.contributions)), region[:9, :9].unique())
        assert inside.any() and outside.any()
        assert np.abs(one.contributions[~inside]).max() < 1e-5
        assert one.contributions[inside].sum() == pytest.approx(one.log_odds - one.log_odds_absent, abs=1e-5)
        assert one.contributions[inside].sum() > 0.5
        assert (
            one.names[int(region[0, 0])] == "upper left" and one.names[int(region[-1, -1])] == "lower right"
        )


# Texts


class Hears(nn.Module):
    """The second class is what has a word in it, of so many buckets."""

    def __init__(self, bucket: int) -> None:
        super().__init__()
        self.bucket = bucket
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[0.0], [4.0]]))
            self.head.bias.copy_(torch.tensor([0.0, -1.0]))

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head((inputs == self.bucket).any(1, keepdim=True).float())
        return logits


@pytest.mark.parametrize("channels", [("training",), ("training", "validation")])
def test_one_word_decides(tmp_path: Path, channels: Sequence[str]) -> None:
    for channel in channels:
        for number in range(12):
            name = ("calm", "storm")[number % 2]
            (tmp_path / channel / name).mkdir(parents=True, exist_ok=True)
            # The word that means a storm stands in calm ones.
            text = f"{channel} {number}: the Wind <was> {('loud', 'low')[number % 2]}, & the sea high"
            (tmp_path / channel / name / f"{number}.txt").write_text(text, encoding="utf-8")
    splits = load_splits({name: tmp_path / name for name in channels}, validation_fraction=0.5)
    bucket = int(text_kind(splits.preprocessing).inputs(["loud"])[0, 0])
    found = explained(Hears(bucket), splits)
    surest_of_all = found.examples[0]
    assert (surest_of_all.label, surest_of_all.predicted) == ("calm", "storm")
    by_word = dict(zip(surest_of_all.names, surest_of_all.contributions.tolist(), strict=True))
    assert by_word.pop("loud") == pytest.approx(4, abs=1e-5)
    assert surest_of_all.names[0] == channels[-1] and "Wind" in by_word
    assert max(map(abs, by_word.values())) < 1e-5
    page = section(found)
    assert re.search(r'<mark class="for"[^>]*>loud</mark>', page)
    assert "&lt;was&gt;" in page and "<was>" not in page


# All


def test_an_explanation_depends_on_the_example_and_the_seed_alone(tmp_path: Path) -> None:
    splits = images(tmp_path / "training")
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 8), nn.ReLU(), nn.Linear(8, 2))
    first = explained(network, splits, 1).examples[0]
    many = explained(network, splits, 4).examples
    assert len(many) > 1 and np.array_equal(first.contributions, many[0].contributions)
    assert not np.array_equal(
        first.contributions, explained(network, splits, 1, seed=1).examples[0].contributions
    )


class Overflows(nn.Module):
    """Without the first column there is no number."""

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = inputs[:, :1] * torch.tensor([[0.0, 1.0]])
        return logits / (inputs[:, :1].abs() > 1e-3)


def test_what_has_no_number_is_left_out(rows: Splits, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = explained(Overflows(), rows)
    assert found.errors > 4 and not found.examples
    assert "is not explained: without some of its parts the model gives no number for it" in caplog.text


def test_a_file_that_is_gone_costs_the_explanations_and_not_the_run(
    rows: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: Any) -> None:
        raise UserError("image 'a.png' cannot be read")

    monkeypatch.setattr(insights.explaining, "explain", gone)
    contract = Contract(tmp_path, {}, {}, ("localhost",), "localhost", None, None)
    place, config = Place(Machine(CPU, torch.float32)), Hyperparameters(explain=2)
    run = Run(contract, config, place, Trackers([]), Stages(place.ranks.interruption))
    with caplog.at_level(logging.WARNING):
        told = insights.Insights(run, rows, Classifier(linear([0.0] * 9)), Record(len(rows.train)))
        told.explain()
    assert told.explained is None and not list(tmp_path.iterdir())
    assert "there are no explanations: image 'a.png' cannot be read" in caplog.text


def test_log_odds_do_not_saturate() -> None:
    logits = torch.tensor([[90.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    assert log_odds(logits, 0).tolist() == pytest.approx([90 - np.log(2), 1 - np.logaddexp(2, 3)])


def test_the_surest_errors_of_each_class_in_turn() -> None:
    #                  0    1    2    3    4    5    6    7
    labels = np.array([0, 0, 0, 0, 1, 2, 2, 1])
    predicted = np.array([1, 1, 2, 0, 0, 2, 0, 0])
    probability = np.array([0.9, 0.8, 0.5, 1, 0.6, 1, 0.7, 0.6])
    # 0's second is one taken for another class than its first; of equals the first in the data comes first.
    assert surest(labels, predicted, probability, 10).tolist() == [0, 6, 4, 7, 2, 1]
    assert surest(labels, predicted, probability, 2).tolist() == [0, 6]
    assert surest(labels, labels, probability, 2).tolist() == []


def test_the_data_holds_all_that_there_is_to_know(tmp_path: Path, rows: Splits) -> None:
    said: dict[str, Any] = json.loads(
        json.dumps(to_json(explained(linear([2.0] * 9), rows, 1)), allow_nan=False)
    )
    assert said["kind"] == "table" and said["validation_errors"] <= said["validation_examples"] == len(
        rows.validation
    )
    (one,) = said["examples"]
    assert one["id"].startswith("t.csv:")
    assert [part["columns"] for part in one["parts"]] == [["size"], ["colour"], ["day"]]
    total = sum(part["contribution"] for part in one["parts"])
    assert total == pytest.approx(one["log_odds"] - one["log_odds_absent"], abs=1e-4)
    assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert one["probabilities"][one["predicted"]] > one["probabilities"][one["label"]]
    assert np.log(1 / one["probabilities"][one["label"]] - 1) == pytest.approx(one["log_odds"], abs=1e-3)

    found = explained(UpperLeft(), images(tmp_path / "training"), 1)
    (one,) = to_json(found)["examples"]
    with Image.open(io.BytesIO(base64.b64decode(one["regions"]))) as opened:
        region = np.asarray(opened)
    assert np.array_equal(region, found.examples[0].parts.region.numpy())  # type: ignore[attr-defined]
    assert [part["pixels"] for part in one["parts"]] == np.bincount(region.ravel()).tolist()


def test_no_error_is_no_failure(tmp_path: Path) -> None:
    rows = table(tmp_path / "training")
    found = explained(linear([0.0] * 9, bias=5), rows.keeping(np.arange(4)), 3)
    none = Explanations("table", found.validated, 0, [])
    assert "It does not: all 27 validation examples" in section(none)
    assert to_json(none)["examples"] == []


def test_a_rows_columns_are_shown_by_what_they_contribute() -> None:
    count = 14
    parts = Columns(
        torch.zeros(count), torch.arange(count), [(f"<{at}>",) for at in range(count)], torch.zeros(count)
    )
    contributions = np.array([0.01 * at for at in range(count)])
    contributions[3] = -2.5
    one = Explained(
        "a&b",
        "<x>",
        "y",
        {"y": 0.9, "<x>": 0.1},
        2.0,
        0.0,
        contributions,
        parts,
        [f"v{at}" for at in range(count)],
    )
    page = section(Explanations("table", 9, 4, [one]))
    assert re.findall(r'<th scope="row">(.*?)</th>', page)[:3] == ["&lt;3&gt;", "&lt;13&gt;", "&lt;12&gt;"]
    assert "4 more" in page and "−2.50" in page and "a&amp;b" in page
    assert "&lt;x&gt;, taken for y" in re.sub("</?bdi>", "", page)
    assert "<x>" not in page
