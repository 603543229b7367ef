"""How finished runs are presented, wherever they ran."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.commands import options
from deploy.results import compare, verdict
from deploy.results.compare import Lost, Run


def add_presentation(to: argparse.ArgumentParser) -> None:
    """What is shown beside the table and the chart."""
    options.add_tolerance(to)
    options.add_prices(to)
    to.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="where the page is written (comparison.html beside the table)",
    )


def show(runs: Sequence[Run], folder: Path, title: str, prices: Mapping[str, float]) -> None:
    """Write table and chart below a folder, and print the table."""
    chart = compare.write(runs, folder, title, prices)
    print(f"\n{title}\n\n{compare.table(compare.rows(runs, prices))}\n\nchart: {chart}")


def present(
    given: argparse.Namespace,
    runs: Sequence[Run],
    lost: Sequence[Lost],
    folder: Path,
    title: str,
    tolerance: float | None = None,
) -> None:
    """Write table, chart and page below a folder, and print what there is to know.

    Args:
        given: the options of `add_presentation`.
        tolerance: percentage points; with one the answer is given in words.
    """
    answer = verdict.sentence(runs, tolerance / 100) if tolerance is not None else None
    if runs:
        show(runs, folder, title, given.prices)
        # Plotly takes a second to import.
        from deploy.results import page

        html = given.html or folder / "comparison.html"
        page.write(html, title, runs, lost, given.prices, answer)
        print(f"page: {html}")
    if lost:
        print("\nwithout results:")
        for run in lost:
            print(f"  {run.name}: {run.reason}")
    if answer is not None and runs:
        print(f"\n{answer}")
