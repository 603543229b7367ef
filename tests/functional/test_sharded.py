"""Two hosts that have other files of a channel each: two programs, each with a base directory of its own."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.functional.conftest import Job, write_table
from tests.functional.test_ranks import HOSTS, SECONDS, read, start

SETTINGS = {
    **{"strategy": "glister", "fraction": 0.4, "select_every": 2, "epochs": 5, "model": "mlp"},
    **{"device": "cpu", "batch_size": 32, "report": True, "learning_rate_scaling": "none"},
}


def shards(job: Job, part: int) -> None:
    """A half of the rows, with none of class 2 for the first host and none of class 0 for the second."""
    whole = job.base / "whole.csv"
    write_table(whole, 600)
    header, *rows = whole.read_text(encoding="utf-8").splitlines()
    own = [
        row
        for number, row in enumerate(rows)
        if int(row[0]) == 2 * part or (number % 2 == part and row[0] == "1")
    ]
    (job.channel("training") / f"part-{part}.csv").write_text("\n".join([header, *own]), encoding="utf-8")


def run(jobs: list[Job], values: Mapping[str, Any]) -> list[int]:
    for job, name in zip(jobs, HOSTS, strict=True):
        job.configure(values, HOSTS, name)
        path = job.base / "input/config/inputdataconfig.json"
        channels = json.loads(path.read_text(encoding="utf-8"))
        channels["training"]["S3DistributionType"] = "ShardedByS3Key"
        path.write_text(json.dumps(channels), encoding="utf-8")
    codes = [process.wait(SECONDS) for process in [start(job) for job in jobs]]
    read(jobs)
    return codes


@pytest.mark.usefixtures("meeting_port")
def test_hosts_with_other_files_train_as_one(make_job: Callable[[str], Job]) -> None:
    jobs = [make_job(name) for name in HOSTS]
    for part, job in enumerate(jobs):
        job.base.mkdir(parents=True, exist_ok=True)
        shards(job, part)
        write_table(job.channel("test") / "test.csv", 300, seed=1)
    (jobs[0].base / "checkpoints").mkdir()
    assert run(jobs, SETTINGS) == [0, 0], [job.log for job in jobs]
    first, second = jobs
    assert first.summary["classes"] == ["0", "1", "2"]
    counts = first.summary["examples"]
    sizes = [
        len((job.base / f"input/data/training/part-{part}.csv").read_text().split()) - 1
        for part, job in enumerate(jobs)
    ]
    assert counts["training"] + counts["validation"] == sum(sizes)
    assert f"sharded, {sum(sizes)} examples on 2 hosts (localhost {sizes[0]}, algo-2 {sizes[1]})" in first.log
    assert "sync_batch_norm: on" in first.log
    # As well as they can be told apart is 0.79; a host by itself knows two of the three.
    assert first.summary["test"]["accuracy"] > 0.7
    of_second = round(counts["training"] * sizes[0] / sum(sizes))
    for file in first.subsets().values():
        assert file["indices"].min() < of_second - 5 and file["indices"].max() > of_second + 5
    import pyarrow.parquet as pq

    table = pq.read_table(first.base / "output/data/examples.parquet").to_pydict()
    files = [name.split(":")[0] for name in table["id"]]
    assert files == sorted(files) and set(files) == {"part-0.csv", "part-1.csv"}
    assert {label for label, file in zip(table["label"], files, strict=True) if file == "part-0.csv"} == {
        "0",
        "1",
    }
    page = (first.base / "output/data/report.html").read_text(encoding="utf-8")
    assert f"on {len(table['id']):,} rows in 3 classes</title>" in page
    assert "part-0.csv:" in page and "part-1.csv:" in page and "<dd>" in page
    assert not (second.base / "output/data").exists()

    # Begun again with the parts the other way round, no example has the number that it had.
    for job, part in zip(jobs, (1, 0), strict=True):
        for path in job.channel("training").iterdir():
            path.unlink()
        shards(job, part)
    assert run(jobs, SETTINGS) == [1, 1]
    for job in jobs:
        assert "is of another run: data=" in str(job.failure)
