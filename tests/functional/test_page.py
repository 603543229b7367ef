"""The comparison's page in a real browser, without a network."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Page, ViewportSize

from deploy.aws.jobs import Job
from deploy.results import answers, compare, page
from subset_selection.catalogue import CATALOGUE
from tests.looks import faults
from tests.unit.test_charts import contrast_with_white
from tests.unit.test_compare import write_run
from tests.unit.test_plots import grid, made

DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 375, "height": 740}
PRICES = {"ml.g5.xlarge": 1.41}
CHARTS = [
    "Test accuracy against total time",
    "Test accuracy against the share of the data",
    "Test accuracy against cost",
]


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
            values = {"strategy": strategy, "fraction": fraction, "epochs": epochs, "seed": seed}
            values["batch_size"] = 128
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
    (folder / "rs2-0-1-1/output/data/report.html").write_text("a report")
    (folder / "rs2-0-1-1/output/data/examples.parquet").write_bytes(b"examples")
    page.write(path, "Sweep <cifar>", runs, lost, PRICES, answers.answer(runs, 0.01))
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


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def looked(browser: Browser, written: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    context = browser.new_context(viewport=request.param, offline=True)
    yield Opened(context.new_page(), written)
    context.close()


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


def test_it_renders_without_a_word_or_a_network_or_a_script(looked: Opened, written: Path) -> None:
    assert looked.said == []
    assert [url for url in looked.asked if not url.startswith("data:")] == [written.as_uri()]
    assert looked.page.locator("script").count() == 0
    # A page with Plotly in it has 4.8 MB.
    assert written.stat().st_size < 400_000


def test_it_opens_with_the_answer_then_accuracy_against_cost(looked: Opened) -> None:
    order = looked.page.locator("main > :is(h1, section, h2)").all_inner_texts()
    assert order[0] == "Sweep <cifar>"
    assert order[1].startswith("Train less: no share of the samples seen that was tried keeps within 1 point")
    assert "truly loses more is at most 5%" in order[1]
    assert order[2:] == [
        "How sure that is",
        "Test accuracy against cost",
        "In training",
        "Where the time goes",
        "The runs",
        "Without results",
    ]


def drawings(page: Page) -> dict[str, dict[str, Any]]:
    """The charts that are shown of what runs reach and cost: name → series' name → what is drawn."""
    found: dict[str, dict[str, Any]] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('.charts svg.chart')]
            .filter(svg => svg.checkVisibility()).map(svg => [
                svg.getAttribute('aria-label').split('.')[0],
                Object.fromEntries([...svg.querySelectorAll('g.series')].map(group => [group.dataset.name, {
                    notes: [...group.querySelectorAll('title')].map(title => title.textContent),
                    bands: group.querySelectorAll('.band').length,
                    colour: group.getAttribute('stroke')}]))]))"""
    )
    return found


def test_the_charts_hold_the_data_with_seeds_as_bands(looked: Opened) -> None:
    charts = drawings(looked.page)
    assert list(charts) == CHARTS
    time = charts[CHARTS[0]]
    assert list(time) == [
        "what full reaches",
        "1 point below",
        "full, also for fewer epochs",
        "glister",
        "rs2 (baseline)",
    ]
    assert time["glister"]["notes"] == [
        "glister at 10%: 77.1% (77.0% to 77.2%, 3 seeds), in 26.0 s",
        "glister at 50%: 85.1% (85.0% to 85.2%, 3 seeds), in 58.0 s",
    ]
    # An area through the shares, and a bar at each.
    assert time["glister"]["bands"] == 3
    assert len({one["colour"] for one in time.values()}) == 4
    for chart in charts.values():
        assert {name: one["colour"] for name, one in chart.items()} == {
            name: one["colour"] for name, one in time.items()
        }


def test_no_label_of_a_chart_is_cut_and_no_two_of_an_axis_are_alike(looked: Opened) -> None:
    unfold(looked.page)
    labels = looked.page.evaluate(
        """() => [...document.querySelectorAll('svg.chart')].filter(svg => svg.checkVisibility()).map(svg => {
            const frame = svg.getBoundingClientRect()
            return [...svg.querySelectorAll('text')].map(text => {
                const box = text.getBoundingClientRect()
                return [text.textContent, text.getAttribute('text-anchor') === 'end',
                    box.left >= frame.left - 0.5 && box.right <= frame.right + 0.5
                    && box.top >= frame.top - 0.5 && box.bottom <= frame.bottom + 0.5,
                    parseFloat(getComputedStyle(text).fontSize) * frame.width / svg.viewBox.baseVal.width]})})"""
    )
    assert len(labels) == 3 + 2 * 3
    for texts in labels:
        assert all(inside for _, _, inside, _ in texts), texts
        upright = [text for text, end, *_ in texts if end]
        assert len(set(upright)) == len(upright) >= 2
        assert all(size >= 11 for *_, size in texts), texts


def test_charts_are_right_before_any_resize_and_after_it(looked: Opened) -> None:
    """Plotly cut the first one at load."""
    where = """() => [...document.querySelectorAll('svg.chart')].filter(svg => svg.checkVisibility()).map(svg => {
        const box = svg.getBoundingClientRect(); return [box.left, box.right, box.height]})"""
    before = looked.page.evaluate(where)
    size = looked.page.viewport_size
    assert size is not None
    for left, right, height in before:
        assert left >= 0 and right <= size["width"] and height > 150
    looked.page.set_viewport_size({"width": 700, "height": 700})
    looked.page.set_viewport_size(size)
    assert looked.page.evaluate(where) == before


def test_every_run_has_a_row_with_its_seed_and_links_to_what_it_wrote(looked: Opened, written: Path) -> None:
    table = looked.page.get_by_role("table", name="The runs", exact=True)
    rows = [
        row.get_by_role("cell").all_inner_texts() for row in table.locator("tbody").get_by_role("row").all()
    ]
    assert len(rows) == 15
    assert [row[1] for row in rows] == [str(seed) for seed in range(3) for _ in range(5)]
    links = table.get_by_role("link").all()
    assert [link.get_attribute("aria-label") for link in links] == [
        "report of rs2-0-1-1",
        "examples of rs2-0-1-1",
    ]
    for link in links:
        address = link.get_attribute("href")
        assert address and (written.parent / address).is_file()


def test_what_failed_is_told_and_markup_is_shown_as_it_is(looked: Opened) -> None:
    text = looked.page.inner_text("main")
    assert "the loss is not a number in epoch 3 <script>" in text
    assert "<b>full</b> & all" in text
    assert text.count("Train less: no share of the samples seen that was tried keeps within 1 point") == 1
    assert "(spot −70%)" in text


def test_nothing_is_cut_or_off_the_screen(looked: Opened) -> None:
    unfold(looked.page)
    assert faults(looked.page) == []
    width = looked.page.evaluate("document.documentElement.scrollWidth")
    assert width <= looked.page.viewport_size["width"]  # type: ignore[index]
    # Nor is anything hidden in what would have to be scrolled.
    hidden = looked.page.evaluate(
        """() => [...document.querySelectorAll('main *')].filter(one => one.checkVisibility()
            && !one.closest('thead, svg') && one.scrollWidth > one.clientWidth + 1 && one.clientWidth
            ).map(one => one.outerHTML.slice(0, 80))"""
    )
    assert hidden == []
    assert looked.page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 16


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All strategies, settings with long names, two data sets, and a run that was stopped."""
    folder = tmp_path_factory.mktemp("crowded")
    runs = grid(folder, list(CATALOGUE), seeds=2)
    for rate in (0.1, 0.0125):
        own = {"learning_rate": rate, "keep_columns": "income_of_household_before_taxes,age"}
        runs += [made(folder, "glister", 0.5, seed, hyperparameters=own) for seed in range(2)]
    runs += [made(folder, "rs2", 0.5, examples={"training": 90, "validation": 10, "test": 20}, accuracy=0.0)]
    runs[-2].summary["status"] = "stopped"
    runs = [replace(run, name=f"a-long-prefix-of-a-study/{run.name}") for run in runs]
    path = folder / "comparison.html"
    page.write(path, "Every strategy", runs, answer=answers.answer(runs[:-1], 0.01))
    return path


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_crowded_comparison_can_be_read_too(
    browser: Browser, crowded: Path, viewport: ViewportSize
) -> None:
    context = browser.new_context(viewport=viewport, offline=True)
    looked = Opened(context.new_page(), crowded)
    unfold(looked.page)
    assert faults(looked.page) == []
    assert looked.page.locator(".charts svg.chart:visible").count() == 2
    names = looked.page.locator("h2:has-text('against cost') ~ .legend li").all_inner_texts()
    assert len(set(names)) == len(names) >= len(CATALOGUE) + 2
    found = Axe().run(looked.page)
    assert found.violations_count == 0, found.generate_report()
    context.close()


def test_the_keyboard_reaches_tables_and_details(looked: Opened) -> None:
    reached = []
    for _ in range(14):
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


def test_nothing_that_axe_objects_to(looked: Opened) -> None:
    """Contrast, names, roles and structure, by the rules of WCAG that a program can check."""
    unfold(looked.page)
    found = Axe().run(looked.page)
    assert found.violations_count == 0, found.generate_report()


def test_the_eye_is_given_what_it_can_see(looked: Opened) -> None:
    """The lines' colours against white: at least 3 to 1, as WCAG asks of graphics."""
    colours = looked.page.evaluate(
        "[...document.querySelectorAll('polyline, .mark')].map(line => getComputedStyle(line).stroke)"
    )
    assert colours
    for colour in {colour for colour in colours if colour != "none"}:
        assert (
            contrast_with_white("#" + "".join(f"{int(part):02x}" for part in colour[4:-1].split(","))) >= 3
        ), colour
