"""Images of odd sizes in a job's report, however the images are read."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.functional.conftest import Job
from tests.functional.injection import no_memory_for_pixels, within


def write_images(root: Path) -> None:
    """Two colours; one image is an icon, one a banner."""
    draw = np.random.default_rng(0)
    for label, name in enumerate(("red", "green")):
        (root / name).mkdir(parents=True)
        for number in range(30):
            height, width = {(0, 4): (6, 8), (1, 9): (20, 300)}.get(
                (label, number), (draw.integers(40, 60), draw.integers(50, 70))
            )
            pixels = draw.integers(0, 120, (height, width, 3), dtype=np.uint8)
            pixels[..., label] += 100
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")


@pytest.mark.parametrize("way", ["memory", "streamed", "two processes"])
def test_odd_sizes_are_shown_and_marked(job: Job, tmp_path: Path, way: str) -> None:
    write_images(job.channel("training"))
    write_images(job.channel("validation"))
    settings: dict[str, object] = {"processes_per_host": 2} if way == "two processes" else {}
    if way == "streamed":
        within(job, no_memory_for_pixels(tmp_path))
    job.run({"model": "mlp", "epochs": 3, "batch_size": 16, "report": True, "device": "cpu", **settings})
    assert job.exit_code == 0, job.log
    rows = pq.read_table(job.base / "output/data/examples.parquet").to_pylist()
    found = {row["id"]: row["odd_size"] for row in rows if row["odd_size"] is not None}
    assert found == {"red/04.png": "6 x 8 pixels", "green/09.png": "20 x 300 pixels"}
    html = (job.base / "output/data/report.html").read_text(encoding="utf-8")
    assert "Odd sizes: 2" in html and ", 20 x 300 pixels" in html
