"""The report's page in a real browser, without a network: of a job's own images and of a table."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser

from tests.functional.conftest import Job, write_table
from tests.functional.test_page import DESKTOP, PHONE, Opened

CLASSES = ("<b>cat</b> & 'co'", "a" * 60, "dog")


def write_images(root: Path) -> None:
    """Three colours, with names that are markup to a careless page, a copy under another label, a wrong label."""
    draw = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(40):
            pixels = draw.integers(0, 120, (10, 14, 3), dtype=np.uint8)
            pixels[..., 1 if (label, number) == (0, 7) else label] += 100
            Image.fromarray(pixels).save(root / name / f"{number:02}<script>alert(1)<.png")
    shutil.copy(root / CLASSES[2] / "03<script>alert(1)<.png", root / CLASSES[0] / "copy.png")


@pytest.fixture(scope="module", params=["images", "table"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = Job(tmp_path_factory.mktemp(request.param) / "ml")
    if request.param == "images":
        write_images(job.channel("training"))
    else:
        write_table(job.channel("training") / "train.csv")
    settings = {"model": "mlp", "epochs": 12, "batch_size": 16, "fraction": 0.5, "augmentation": "none"}
    job.run({**settings, "device": "cpu", "validation_fraction": 0.2, "report": True})
    assert job.exit_code == 0, job.log
    return job.base / "output/data/report.html"


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def looked(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    context = browser.new_context(viewport=request.param, offline=True)
    yield Opened(context.new_page(), report)
    context.close()


def test_it_renders_and_can_be_read(looked: Opened, report: Path) -> None:
    page = looked.page
    assert looked.said == []
    assert [url for url in looked.asked if not url.startswith("data:")] == [report.as_uri()]
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    images = "images" in str(report)
    assert all(width > 0 for width in widths) and (len(widths) > 20) is images
    assert page.locator("polyline").count() == 4
    for chart in page.query_selector_all("svg"):
        box = chart.bounding_box()
        assert box is not None and box["width"] > 200 and box["height"] > 100
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]
    assert report.stat().st_size < 300_000

    text = page.inner_text("main")
    for part in ("What to look at first", "Most useful", "Least useful", "Probably mislabelled"):
        assert part in text
    if images:
        assert "<b>cat</b> & 'co'" in text and "<script>alert(1)<.png" in text
        # Its copy has another label.
        assert "have different labels" in text and f"{CLASSES[0]}/copy.png" in text
        assert "07<script>" in page.inner_text(".cards >> nth=0")
    else:
        assert page.locator("dt", has_text="a").count() > 10 and "train.csv:" in text

    for summary in page.query_selector_all("summary"):
        summary.click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
