"""Tables in the forms that SageMaker's algorithms take, from files that public tools wrote."""

import io
import json

import numpy as np
import pandas as pd
from sagemaker.amazon.common import write_numpy_to_dense_tensor
from sklearn.datasets import dump_svmlight_file, load_digits

from subset_trainer.artifacts import load_model
from tests.functional.conftest import Job
from tests.kinds import table_kind

QUICK = {"strategy": "rs2", "epochs": 6, "batch_size": 64, "device": "cpu"}


def test_channels_of_numbered_features_in_three_formats(job: Job) -> None:
    """recordio-protobuf trains, libsvm validates, CSV tests; a name tells nothing, a content type does."""
    x, y = load_digits(return_X_y=True)
    training, validation, test = np.split(np.random.default_rng(0).permutation(len(x)), [1200, 1500])
    content = io.BytesIO()
    write_numpy_to_dense_tensor(content, x[training].astype("float32"), y[training])
    (job.channel("training") / "part-00000").write_bytes(content.getvalue())
    dump_svmlight_file(
        x[validation], y[validation], str(job.channel("validation") / "part-00000"), zero_based=True
    )
    rows = np.column_stack([y[test], x[test]])
    np.savetxt(job.channel("test") / "part-00000", rows, delimiter=",", fmt="%g")
    job.content_types = {
        "training": "application/x-recordio-protobuf",
        "validation": "text/libsvm",
        "test": "text/csv; label_size=1",
    }
    job.run(QUICK)
    assert (job.exit_code, job.failure) == (0, None), job.log
    summary = job.summary
    assert summary["model"] == "mlp" and summary["examples"] == {
        "training": 1200,
        "validation": 300,
        "test": 297,
    }
    assert summary["classes"] == [str(digit) for digit in range(10)]
    # As many of either: what validates and what tests is read as what trained.
    assert summary["validation"]["accuracy"] > 0.85 and summary["test"]["accuracy"] > 0.85


def test_named_columns_with_gaps_and_dates(job: Job) -> None:
    """Parquet trains, CSV tests; what was learned of the columns is in model.json."""
    draw = np.random.default_rng(0)
    rows = 600
    frame = pd.DataFrame(
        {
            "size": draw.normal(50, 10, rows),
            "colour": pd.Categorical(draw.choice(["red", "green", "blue"], rows)),
            "sold": pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 700, rows), "D"),
            "note": pd.Series([None] * rows, dtype="string"),
        }
    )
    weekend = frame["sold"].dt.day_of_week >= 5
    frame["busy"] = np.where(weekend | (frame["colour"] == "red"), "yes", "no")
    frame.loc[::7, "size"] = np.nan
    frame.loc[::11, "colour"] = None
    frame[:450].to_parquet(job.channel("training") / "t.snappy.parquet")
    frame[450:].to_csv(job.channel("test") / "t.csv", index=False)
    job.run({**QUICK, "strategy": "full", "epochs": 30, "label_column": "busy"})
    assert (job.exit_code, job.failure) == (0, None), job.log
    # The weekday is of no use as a number of days.
    assert job.summary["test"]["accuracy"] > 0.85
    described = json.loads((job.base / "model" / "model.json").read_text())["preprocessing"]
    assert [(column["name"], column["kind"]) for column in described["columns"]] == [
        ("size", "numeric"),
        ("colour", "categorical"),
        ("sold", "date"),
        ("note", "empty"),
    ]
    size, colour, sold, _ = table_kind(load_model(job.base / "model").preprocessing).columns
    assert size.missing and abs(size.mean - 50) < 2
    assert (colour.categories, sold.cycles) == (("", "blue", "green", "red"), ("year", "week"))
    assert "values are missing in column 'size', column 'colour'" in job.log
