"""A run that leaves damaged images out says so everywhere."""

import pyarrow.parquet as pq

from tests.functional.conftest import Job, write_image
from tests.functional.test_faults import failed

QUICK = {"model": "mlp", "epochs": 2, "batch_size": 16, "device": "cpu", "image_size": 8, "report": True}
BAD = ["cat/7.png", "dog/11.png"]


def images(job: Job) -> None:
    folder = job.channel("training")
    for name in ("cat", "dog"):
        for number in range(40):
            write_image(folder / name / f"{number}.png", seed=number)
    (folder / BAD[0]).write_bytes((folder / BAD[0]).read_bytes()[:60])
    (folder / BAD[1]).write_bytes(b"")


def test_what_is_left_out_is_counted_in_log_summary_report_and_examples(job: Job) -> None:
    images(job)
    (job.base / "checkpoints").mkdir()
    job.run({**QUICK, "on_unreadable": "skip", "unreadable_limit": 0.03})
    assert job.exit_code == 0, job.log
    assert (
        "training channel: 2 of 80 images (0.025) cannot be read and are left out: 'cat/7.png' (" in job.log
    )
    summary = job.summary
    assert summary["unreadable"] == {"training": 2}
    trained = summary["examples"]["training"]
    assert trained + summary["examples"]["validation"] == 78
    rows = pq.read_table(job.base / "output/data/examples.parquet").to_pylist()
    assert len(rows) == trained + 2
    assert [(row["id"], row["label"], row["removed"]) for row in rows[trained:]] == [
        (name, name[:3], "unreadable") for name in BAD
    ]
    assert all(
        row["selected"] == 0 and row["duplicate_group"] == -1 and not row["suspect"] for row in rows[trained:]
    )
    assert {row["removed"] for row in rows[:trained]} == {None}
    assert all(row["probable_label"] for row in rows[:trained])
    for subset in job.subsets().values():
        assert subset["indices"].max() < trained
    page = (job.base / "output/data/report.html").read_text(encoding="utf-8")
    assert "unreadable, training" in page and "2 of 80" in page

    # The same data: a resumed run goes on, also with another limit.
    job.run({**QUICK, "epochs": 2, "on_unreadable": "skip", "unreadable_limit": 0.5})
    assert job.exit_code == 0, job.log
    assert "2 of 2 epochs are done" in job.log

    # Without one of the two it is other data.
    write_image(job.channel("training") / BAD[1], seed=11)
    job.run({**QUICK, "on_unreadable": "skip", "unreadable_limit": 0.5})
    failed(job, 1, "of another run", "data=")


def test_by_default_the_run_ends_and_names_all(job: Job) -> None:
    images(job)
    job.run(QUICK)
    failed(job, 1, "2 of 80 images cannot be read: 'cat/7.png' (", "'dog/11.png'", "on_unreadable=skip")
