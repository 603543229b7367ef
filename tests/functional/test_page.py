"""The comparison's page in a real browser, without a network."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Page, ViewportSize

from deploy.aws.jobs import Job
from deploy.results import compare, page, verdict
from tests.unit.test_compare import write_run

DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 360, "height": 740}
PRICES = {"ml.g5.xlarge": 1.41}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of three seeds, one run of which failed, with names that are markup to a careless page."""
    folder = tmp_path_factory.mktemp("page")
    runs = []
    for seed in range(3):
        for name, strategy, fraction, epochs in (
            ("full", "full", 1.0, 20),
            ("glister-0-5", "glister", 0.5, 20),
            ("glister-0-1", "glister", 0.1, 20),
            ("rs2-0-1", "rs2", 0.1, 20),
            ("full-at-0-1", "full", 1.0, 2),
        ):
            accuracy = 0.95 - 0.2 * (1 - min(1.0, fraction * epochs / 20)) + 0.001 * seed
            test = {"loss": 0.1, "accuracy": accuracy}
            values = {"strategy": strategy, "epochs": epochs, "seed": seed, "batch_size": 128}
            made = write_run(
                folder / f"{name}-{seed}",
                strategy,
                fraction,
                epochs,
                4.0,
                test=test,
                seed=seed,
                hyperparameters=values,
            )
            job = Job(name, "Completed", "", "", "ml.g5.xlarge", 1, 200 * fraction, 60 * fraction)
            runs.append(replace(compare.read_run(made), job=job))
    runs[0] = replace(runs[0], name="<b>full</b> & all")
    lost = [
        compare.Lost(
            "glister-0-3", 'AlgorithmError: the loss is not a number in epoch 3 <script>alert("x")</script>'
        )
    ]
    path = folder / "comparison.html"
    page.write(path, "Sweep <cifar>", runs, lost, PRICES, verdict.sentence(runs, 0.01))
    return path


class Opened:
    """An opened page, what its console and its dialogs said, and what it asked for."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", self._hear)
        page.goto(path.as_uri())

    def _hear(self, dialog: Dialog) -> None:
        self.said.append(dialog.message)
        dialog.dismiss()


class Looked(Opened):
    """Of a comparison, with its charts drawn."""

    def __init__(self, page: Page, path: Path, charts: int = 5) -> None:
        super().__init__(page, path)
        page.wait_for_function(
            """charts => document.readyState === 'complete' &&
                [...document.querySelectorAll('.plotly-graph-div')].filter(
                    chart => chart.querySelector('.main-svg') && chart.querySelector('.legend')).length === charts""",
            arg=charts,
        )

    def charts(self) -> dict[str, Any]:
        """A chart's name → its data, as Plotly has them."""
        found: dict[str, Any] = self.page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll('figure')].map(figure =>
                [figure.getAttribute('aria-label'), figure.querySelector('.plotly-graph-div').data.map(
                    trace => ({name: trace.meta || trace.name, x: Array.from(trace.x), y: Array.from(trace.y)}))]))"""
        )
        return found


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def looked(browser: Browser, written: Path, request: pytest.FixtureRequest) -> Iterator[Looked]:
    context = browser.new_context(viewport=request.param, offline=True)
    yield Looked(context.new_page(), written)
    context.close()


def test_it_renders_without_a_word_or_a_network(looked: Looked, written: Path) -> None:
    assert looked.said == []
    assert [url for url in looked.asked if not url.startswith(("data:", "blob:"))] == [written.as_uri()]
    for chart in looked.page.query_selector_all(".plotly-graph-div"):
        box = chart.bounding_box()
        assert box is not None and box["width"] > 250 and box["height"] > 300
    # Plotly fits charts to their places by and by; one that it does not is waited for in vain.
    looked.page.wait_for_function(
        """[...document.querySelectorAll('.plotly-graph-div')].every(
            chart => chart.querySelector('.main-svg').clientWidth <= chart.closest('figure').clientWidth)"""
    )
    # Drawn, and not an empty pair of axes.
    assert looked.page.locator(".scatterlayer path.js-line").count() >= 15
    assert looked.page.locator(".barlayer .point").count() == 3 * 15
    # Three seeds have one entry in a legend.
    assert looked.page.locator("figure").first.locator(".legend .traces").count() == 5


def test_the_charts_hold_the_data(looked: Looked) -> None:
    charts = looked.charts()
    assert list(charts) == [
        "Accuracy per epoch",
        "Accuracy per second",
        "Accuracy against fraction",
        "Seconds against fraction",
        "Cost against fraction",
    ]
    per_epoch = {trace["name"]: trace for trace in charts["Accuracy per epoch"]}
    assert len(per_epoch) == 15
    assert per_epoch["glister-0-5-0"]["x"] == list(range(1, 21))
    assert per_epoch["glister-0-5-0"]["y"][:2] == [0.5, 0.75]
    # 2 s of training, 2 s of selecting and half a second of evaluating.
    assert {t["name"]: t for t in charts["Accuracy per second"]}["glister-0-5-0"]["x"][0] == 4.5
    against = {trace["name"]: trace for trace in charts["Accuracy against fraction"]}
    assert set(against) == {"full, fewer epochs", "glister", "rs2"}
    assert against["glister"]["x"] == [0.1, 0.5]
    assert against["glister"]["y"] == pytest.approx([0.771, 0.851])
    assert against["full, fewer epochs"]["x"] == [0.1, 1]
    seconds = {trace["name"]: trace for trace in charts["Seconds against fraction"]}
    assert max(seconds["selecting"]["x"]) == 8 and max(seconds["training"]["x"]) == 80
    cost = {trace["name"]: trace for trace in charts["Cost against fraction"]}
    assert cost["full, fewer epochs"]["y"][-1] == pytest.approx(1.41 * 60 / 3600)


def test_what_failed_is_told_and_markup_is_shown_as_it_is(looked: Looked) -> None:
    text = looked.page.inner_text("main")
    assert "the loss is not a number in epoch 3 <script>" in text
    assert "<b>full</b> & all" in text
    assert text.count("Train less: no share of the samples seen that was tried keeps within 1 point") == 1
    assert "(spot −70%)" in text


def test_a_phone_shows_it_without_scrolling_sideways(looked: Looked) -> None:
    width = looked.page.evaluate("document.documentElement.scrollWidth")
    assert width <= looked.page.viewport_size["width"]  # type: ignore[index]
    assert looked.page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 16


def test_the_keyboard_reaches_tables_and_details(looked: Looked) -> None:
    reached = []
    for _ in range(12):
        looked.page.keyboard.press("Tab")
        reached.append(
            looked.page.evaluate(
                "document.activeElement.getAttribute('aria-label') || document.activeElement.tagName"
            )
        )
    assert "The runs" in reached and "SUMMARY" in reached
    assert looked.page.evaluate("document.querySelector('details').open") is False
    looked.page.focus("summary")
    looked.page.keyboard.press("Enter")
    assert looked.page.evaluate("document.querySelector('details').open") is True


def test_nothing_that_axe_objects_to(looked: Looked) -> None:
    """Contrast, names, roles and structure, by the rules of WCAG that a program can check."""
    looked.page.click("summary")
    found = Axe().run(looked.page)
    assert found.violations_count == 0, found.generate_report()


def test_the_eye_is_given_what_it_can_see(looked: Looked, tmp_path: Path) -> None:
    """The lines' colours against white: at least 3 to 1, as WCAG asks of graphics."""
    colours = looked.page.evaluate(
        "[...document.querySelectorAll('.scatterlayer path.js-line')].map(line => getComputedStyle(line).stroke)"
    )
    assert colours
    for colour in set(colours):
        red, green, blue = (int(part) / 255 for part in colour[4:-1].split(","))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 3, colour
