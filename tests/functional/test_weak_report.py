"""The report of a model that cannot judge labels."""

from pathlib import Path

import pyarrow.parquet as pq

from tests.functional.conftest import Job


def test_a_weak_model_gives_no_number_of_wrong_labels(job: Job, digits: Path) -> None:
    job.link_channel("training", digits / "training")
    job.run({"model": "cnn", "epochs": 2, "learning_rate": 0.0001, "report": True})
    assert job.exit_code == 0, job.log
    html = (job.base / "output/data/report.html").read_text(encoding="utf-8")
    assert "The model is too weak to judge labels (" in html and "may be mislabelled" not in html
    examples = pq.read_table(job.base / "output/data/examples.parquet").to_pylist()
    assert not any(example["suspect"] for example in examples)
    assert len({example["mislabelled"] for example in examples}) > 100
