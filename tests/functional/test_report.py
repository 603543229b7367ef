"""The report's page in a real browser, without a network: of a job's own images and of a table."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ViewportSize

from subset_trainer import pages
from subset_trainer.data.parts import Words
from subset_trainer.insight import errors_section
from subset_trainer.insight.explanations import Explained, Explanations
from tests.functional.conftest import Job, write_table
from tests.functional.test_page import DESKTOP, PHONE, Opened
from tests.looks import faults

ALONE = """{% extends "page.html" %}
{% block style %}{% include "report.css" %}{% endblock %}
{% block content %}{% include "errors.html" %}{% endblock %}"""
CLASSES = ("<b>cat</b> & 'co'", "a" * 80, "dog", "قطة منزلية صغيرة", "a_very-long.name_of_a_class_2024")


def write_images(root: Path, count: int = 40, seed: int = 0) -> None:
    """Colours, with names that are markup to a careless page, a copy under another label, a wrong label."""
    draw = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(count):
            colour = 1 if (label, number) == (0, 7) else label
            pixels = draw.integers(0, 120, (10, 14, 3), dtype=np.uint8)
            pixels[..., [colour] if colour < 3 else [colour % 3, (colour + 1) % 3]] += 100
            Image.fromarray(pixels).save(root / name / f"{number:02}<script>alert(1)<.png")
    shutil.copy(root / CLASSES[2] / "03<script>alert(1)<.png", root / CLASSES[0] / "copy.png")


def write_texts(path: Path, count: int = 300) -> None:
    """With a word that no line holds, and one that is markup."""
    draw = np.random.default_rng(0)
    words = {"sport": ["match", "goal", "team", "player"], "law": ["vote", "bill", "party", "senate"]}
    lines = ["label,text"]
    for number in range(count):
        label = list(words)[number % 2]
        odd = f"http://example.com/{'x' * 70}" if number % 9 == 0 else "<i>tag</i>"
        lines.append(f"{label},{' '.join(draw.choice(words[label], 4))} {odd}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_classes(path: Path, classes: int = 200, rows: int = 2400) -> None:
    """A table of many classes, with long names and columns."""
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.arange(rows) % classes)
    columns = draw.normal(size=(rows, 2)) + np.stack([np.cos(labels), labels / classes], 1)
    cities = draw.choice(["Llanfairpwllgwyngyllgogerychwyrndrobwll", "New York City", ""], rows)
    lines = ["label,a_long_name_of_a_column_without_a_blank,b,city"]
    lines += [
        f"{'species' if label % 2 else 'a-class_of.a/long-name'}_{label},{x:.4f},{y:.4f},{city}"
        for label, (x, y), city in zip(labels.tolist(), columns.tolist(), cities, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


KINDS = ("images", "table", "texts", "classes", "search")


@pytest.fixture(scope="module", params=KINDS)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = Job(tmp_path_factory.mktemp(request.param) / "run-7")
    settings = {"model": "mlp", "epochs": 12, "batch_size": 16, "fraction": 0.5, "augmentation": "none"}
    if request.param == "images":
        write_images(job.channel("training"))
        # The wrong label and the copy are its errors.
        write_images(job.channel("validation"), 8, seed=1)
    elif request.param == "texts":
        write_texts(job.channel("training") / "texts.csv")
        settings = {"epochs": 2}
        job.environment["TRAINING_JOB_NAME"] = "nightly-texts"
    elif request.param == "classes":
        write_classes(job.channel("training") / "classes.csv")
        settings = {"epochs": 1}
    elif request.param == "search":
        write_table(job.channel("training") / "train.csv", 1200)
        settings = {"fraction": "auto", "epochs": 2, "batch_size": 32, "tolerance": 5, "question": "label"}
    else:
        write_table(job.channel("training") / "train.csv")
    job.run({**settings, "device": "cpu", "validation_fraction": 0.2, "report": True, "explain": 2})
    assert job.exit_code == 0, job.log
    return job.base / "output/data/report.html"


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def looked(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    context = browser.new_context(viewport=request.param, offline=True)
    yield Opened(context.new_page(), report)
    context.close()


def test_nothing_is_cut_broken_or_a_zero_with_decimals(looked: Opened) -> None:
    """Folded and unfolded, at both widths."""
    page = looked.page
    assert looked.said == [] and faults(page) == []
    for summary in page.query_selector_all("summary"):
        summary.click()
    assert faults(page) == []
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert len({"".join(title.split()) for title in (page.title(), page.inner_text("h1"))}) == 1
    assert page.title().startswith(("run-7: ", "nightly-texts: "))


@pytest.mark.parametrize("report", ["search"], indirect=True)
def test_the_learning_curve_of_a_search_is_drawn(looked: Opened, report: Path) -> None:
    answer = json.loads((report.parent / "summary.json").read_text(encoding="utf-8"))["answer"]
    page = looked.page
    percent = f"{100 * answer['kept']:.3g}%"
    assert page.title() == f"run-7: random at {percent} on train.csv"
    section = page.locator(".first").first.inner_text()
    assert answer["sentence"][1:] in section
    assert ("The answer" in section) is answer["enough"]
    drawn = page.locator("figure").first
    legend = drawn.locator(".legend").inner_text()
    assert "90% interval" in legend and "forecast" in legend and percent in legend
    assert drawn.locator("polygon.band").count() == 1 and drawn.locator("polyline").count() == 2
    measured, forecast = (
        str(line.get_attribute("points")).split() for line in drawn.locator("polyline").all()
    )
    assert forecast[0] == measured[-1] and len(forecast) > 5
    assert drawn.locator("polyline").last.get_attribute("stroke-dasharray")
    # All trainings, the kept one as a star.
    marks = [series.locator(".mark").count() for series in drawn.locator("g.series").all()]
    assert marks[2] == len(answer["runs"]) - 1 and marks[3] == 1
    colours = {
        series.get_attribute("data-name"): series.get_attribute("stroke")
        for series in drawn.locator("g.series").all()
    }
    assert len(set(colours.values())) == 3  # the curve and its forecast are one
    page.locator("summary").first.click()
    rows = page.locator("table").first.locator("tbody tr")
    assert rows.count() == len(answer["runs"])


@pytest.mark.parametrize("report", ["images", "table"], indirect=True)
def test_it_renders_and_can_be_read(looked: Opened, report: Path) -> None:
    page = looked.page
    assert looked.said == []
    assert [url for url in looked.asked if not url.startswith("data:")] == [report.as_uri()]
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    images = "images" in str(report)
    assert all(width > 0 for width in widths) and (len(widths) > 20) is images
    assert page.locator("polyline").count() == 4
    for chart in page.query_selector_all("svg.chart"):
        box = chart.bounding_box()
        assert box is not None and box["width"] > 200 and box["height"] > 100
    assert report.stat().st_size < 300_000

    text = page.inner_text("main")
    for part in (
        "What to look at first",
        "Most useful",
        "Least useful",
        "Probably mislabelled",
        "Why it errs",
    ):
        assert part in text
    if images:
        assert "<b>cat</b> & 'co'" in text and "<script>alert(1)<.png" in text
        # Its copy has another label.
        assert "has different labels" in text and f"{CLASSES[0]}/copy.png" in text
        assert "07<script>" in page.inner_text(".cards >> nth=0")  # the wrong label
    else:
        assert page.locator("dt", has_text="a").count() > 10 and "train.csv:" in text

    explained = json.loads((report.parent / "explanations.json").read_text(encoding="utf-8"))
    assert len(explained["examples"]) == page.locator(".why > li").count() == 2
    for one, shown in zip(explained["examples"], page.locator(".why > li").all(), strict=True):
        assert f"{one['label']}, taken for {one['predicted']}" in shown.inner_text()
        assert one["id"] in shown.inner_text()
        strongest = max(one["parts"], key=lambda part: abs(part["contribution"]))
        assert f"{strongest['contribution']:+.2f}".replace("-", "−") in shown.inner_text()
        if images:
            alternatives = [image.get_attribute("alt") for image in shown.locator("img").all()]
            assert alternatives[0] == "The image as it is"
            assert strongest["place"] in alternatives[1]  # type: ignore[operator]
        else:
            # The strongest column comes first, with the longest bar.
            assert shown.locator("tbody th").first.inner_text() == strongest["columns"][0]
            bars = [bar.bounding_box()["width"] for bar in shown.locator(".bar span").all()]  # type: ignore[index]
            assert bars == sorted(bars, reverse=True) and bars[0] > 20


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_words_are_marked(browser: Browser, viewport: ViewportSize, tmp_path: Path) -> None:
    """Of a long text, by what they contribute; what they are is no markup."""
    words = ["<script>alert(1)</script>", "not", "x" * 90, "bad"] * 40
    ends = np.cumsum([len(word) + 1 for word in words])
    spans = torch.from_numpy(np.stack([ends - [len(word) + 1 for word in words], ends - 1], 1))
    nothing = torch.zeros(0, dtype=torch.int64)
    parts = Words(" ".join(words), spans, nothing, nothing, nothing, 0)
    contributions = np.tile([0.8, -1.0, 0.01, 0.3], 40)
    one = Explained("t.csv:3", "good", "bad", {"bad": 0.9, "good": 0.1}, 2.2, 0.0, contributions, parts)
    (tmp_path / "alone.html").write_text(ALONE, encoding="utf-8")
    errors = errors_section.shown(Explanations("text", 50, 7, [one]))
    path = tmp_path / "page.html"
    path.write_text(pages.render("alone.html", tmp_path, title="t", errors=errors), encoding="utf-8")
    context = browser.new_context(viewport=viewport, offline=True)
    opened = Opened(context.new_page(), path)
    assert opened.said == []
    page = opened.page
    assert faults(page) == []
    marks = page.locator("mark")
    assert [marks.nth(at).inner_text() for at in range(3)] == [words[0], "not", "bad"]
    assert [marks.nth(at).get_attribute("class") for at in range(3)] == ["for", "against", "for"]
    shades = [marks.nth(at).evaluate("mark => getComputedStyle(mark).backgroundColor") for at in range(3)]
    assert shades == ["rgba(179, 74, 0, 0.4)", "rgba(0, 114, 178, 0.5)", "rgba(179, 74, 0, 0.15)"]
    assert page.locator("blockquote").inner_text().endswith("…")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    context.close()
