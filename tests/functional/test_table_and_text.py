"""Tables with free text beside numbers and categories: trained on both, served, explained, resumed and sharded."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import reviews
from subset_trainer.artifacts import load_model
from subset_trainer.data import load_channel
from subset_trainer.serving import requests
from subset_trainer.serving.predictor import Predictor
from tests.encoders import WORDS
from tests.encoders import write as write_encoder
from tests.functional.conftest import Job
from tests.functional.test_ranks import HOSTS
from tests.functional.test_sharded import run as run_sharded

SETTINGS = {"device": "cpu", "epochs": 12, "label_column": "outcome", "strategy": "full"}


def prepare(job: Job, columns: tuple[str, ...] = reviews.COLUMNS) -> Job:
    reviews.write(job.channel("training") / "t.csv", reviews.rows(1500), columns)
    reviews.write(job.channel("test") / "t.csv", reviews.rows(1000, 1), columns)
    return job


def served(job: Job, content: bytes, content_type: str) -> np.ndarray:
    model = load_model(job.base / "model")
    return Predictor(model, torch.device("cpu")).probabilities(
        requests.batches(content, content_type, model.preprocessing)
    )


def right(job: Job, probabilities: np.ndarray, rows: list[dict[str, Any]], label: str = "outcome") -> float:
    classes = np.array(load_model(job.base / "model").preprocessing.classes)
    return float((classes[probabilities.argmax(1)] == [row[label] for row in rows]).mean())


def test_text_and_columns_together_tell_more_than_either(make_job: Callable[[str], Job]) -> None:
    parts = {
        "both": reviews.COLUMNS,
        "texts": ("outcome", "review", "title"),
        "columns": ("outcome", "price", "shop"),
    }
    accuracy = {}
    for name, columns in parts.items():
        job = prepare(make_job(name), columns).run(SETTINGS)
        assert (job.exit_code, job.failure) == (0, None), job.log
        accuracy[name] = job.summary["test"]["accuracy"]
    assert accuracy["both"] > max(accuracy["texts"], accuracy["columns"]) + 0.03, accuracy


def test_a_chosen_part_is_trained_on_reported_explained_and_served(job: Job) -> None:
    prepare(job).run(
        {**SETTINGS, "strategy": "craig", "fraction": 0.5, "select_every": 4, "report": True, "explain": 3}
    )
    assert (job.exit_code, job.failure) == (0, None), job.log
    assert job.summary["model"] == "ngrams" and sorted(job.subsets()) == [1, 5, 9]
    assert "free text in 'review' (words and pairs of words), 'title'" in job.log
    # Serving gives the run's own answers.
    rows = reviews.rows(1000, 1)
    names = ("review", "title", "price", "shop")
    csv = reviews.write(job.base / "request.csv", rows, names).read_bytes()
    of_csv = served(job, csv.split(b"\r\n", 1)[1], "text/csv")
    of_json = served(job, json.dumps({"instances": rows}).encode(), "application/json")
    np.testing.assert_array_equal(of_csv, of_json)
    assert right(job, of_csv, rows) == pytest.approx(job.summary["test"]["accuracy"])
    # Explanations name words and columns.
    told = json.loads((job.base / "output/data/explanations.json").read_text())
    assert told["kind"] == "table_and_text" and len(told["examples"]) == 3
    for example in told["examples"]:
        assert set(example["texts"]) == {"review", "title"}
        assert {one["columns"][0] for one in example["parts"] if "columns" in one} == {"price", "shop"}
        words = [one for one in example["parts"] if "token" in one]
        assert all(
            example["texts"][one["column"]][one["begin"] : one["end"]] == one["token"] for one in words
        )
        total = sum(one["contribution"] for one in example["parts"])
        assert total == pytest.approx(example["log_odds"] - example["log_odds_absent"], abs=1e-3)
    strongest = [max(one["parts"], key=lambda part: abs(part["contribution"])) for one in told["examples"]]
    assert all(
        one.get("token") in (*reviews.GOOD, *reviews.BAD) or one.get("columns") for one in strongest
    ), strongest
    page = (job.base / "output/data/report.html").read_text(encoding="utf-8")
    assert "<dt>review</dt>" in page and "<dt>shop</dt>" in page and "<mark" in page
    assert "The columns of a row and the words of its texts" in page


def test_equal_rows_are_duplicates_and_other_texts_are_not(job: Job) -> None:
    import pyarrow.parquet as pq

    rows = reviews.rows(200)
    rows += [rows[5], {**rows[6], "review": "another review, of other words"}]
    reviews.write(job.channel("training") / "t.csv", rows)
    reviews.write(job.channel("validation") / "t.csv", reviews.rows(100, 1))
    job.run({**SETTINGS, "epochs": 2, "report": True})
    assert (job.exit_code, job.failure) == (0, None), job.log
    groups = pq.read_table(job.base / "output/data/examples.parquet")["duplicate_group"].to_numpy()
    assert np.flatnonzero(groups >= 0).tolist() == [5, 200]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(make_job: Callable[[str], Job]) -> None:
    values = {**SETTINGS, "strategy": "glister", "fraction": 0.4, "select_every": 2, "epochs": 6}
    whole, stopped = make_job("whole"), make_job("stopped")
    for one in (whole, stopped):
        prepare(one)
        (one.base / "checkpoints").mkdir()
    whole.run(values)
    stopped.terminate_when(values, "epoch=3")
    stopped.run(values)
    assert (whole.exit_code, stopped.exit_code) == (0, 0), stopped.log
    assert "resuming" in stopped.log or "resumes" in stopped.log, stopped.log
    weights = [(one.base / "model/model.safetensors").read_bytes() for one in (whole, stopped)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("fine_tune", ["all", "head"])
def test_an_encoder_joins(fine_tune: str, job: Job) -> None:
    """The label is the text's kind, or the other where the number is large: neither part tells it."""
    draw = np.random.default_rng(0)
    rows = []
    for number in range(600):
        kind = str(draw.choice(list(WORDS)))
        large = bool(draw.random() < 0.5)
        rows.append(
            {
                "label": kind if not large else next(other for other in WORDS if other != kind),
                "text": f"Today {draw.choice(WORDS[kind])}, and number {number} of it.",
                "size": round(float(draw.normal(9 if large else 3)), 3),
            }
        )
    write_encoder(job.channel("pretrained"))
    for channel, some in (("training", rows[:450]), ("test", rows[450:])):
        reviews.write(job.channel(channel) / "t.csv", some, ("label", "text", "size"))
    rates = {"learning_rate": 0.001} if fine_tune == "all" else {"learning_rate": 0.01}
    job.run(
        {
            **SETTINGS,
            **{
                "label_column": "label",
                "strategy": "craig",
                "fraction": 0.8,
                "select_every": 10,
                "epochs": 20,
            },
            **{
                "fine_tune": fine_tune,
                "max_tokens": 24,
                "precision": "float32",
                "batch_size": 16,
                "dropout": 0.1,
            },
            **rates,
            "explain": 1,
        }
    )
    assert (job.exit_code, job.failure) == (0, None), job.log
    assert job.summary["model"] == "encoder"
    assert job.summary["test"]["accuracy"] > 0.85, job.log
    answers = served(job, json.dumps({"instances": rows[450:]}).encode(), "application/json")
    assert right(job, answers, rows[450:], "label") == pytest.approx(job.summary["test"]["accuracy"])


def test_shards_agree_on_what_is_text(make_job: Callable[[str], Job], meeting_port: None) -> None:
    """In the second host's part each review is there several times, as a category is."""
    jobs = [make_job(name) for name in HOSTS]
    for part, job in enumerate(jobs):
        rows = reviews.rows(300, part)
        if part:
            rows = [{**row, "review": rows[at % 4]["review"]} for at, row in enumerate(rows)]
        reviews.write(job.channel("training") / f"part-{part}.csv", rows)
        reviews.write(job.channel("test") / "t.csv", reviews.rows(200, 7))
    values: Mapping[str, Any] = {
        **{name: value for name, value in SETTINGS.items() if name != "strategy"},
        **{"strategy": "craig", "fraction": 0.5, "select_every": 3, "epochs": 4, "batch_size": 32},
        "report": True,
    }
    assert run_sharded(jobs, values) == [0, 0], [job.log for job in jobs]
    described = json.loads((jobs[0].base / "model/model.json").read_text())["preprocessing"]
    assert [text["text_column"] for text in described["texts"]] == ["review", "title"]
    dataset = load_channel(
        Path(jobs[0].channel("test")), load_model(jobs[0].base / "model").preprocessing, name="test"
    )
    assert len(dataset) == 200
    assert "<dt>review</dt>" in (jobs[0].base / "output/data/report.html").read_text(encoding="utf-8")
