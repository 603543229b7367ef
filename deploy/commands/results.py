"""Presents finished runs, wherever they ran."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.commands import options
from deploy.results import compare, verdict
from deploy.results.compare import Lost, Run


def add_presentation(to: argparse.ArgumentParser) -> None:
    """Add the options for presenting results."""
    options.add_tolerance(to)
    options.add_prices(to)
    to.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="where the page is written (comparison.html beside the table)",
    )


def show(runs: Sequence[Run], folder: Path, title: str, prices: Mapping[str, float]) -> None:
    """Write the table and the chart into a folder, and print the table. `prices`: instance type → dollars an hour."""
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
    """Write the table, the chart and the page into a folder, and print the answer, runs without results and the table.

    Args:
        given: the options of `add_presentation`.
        runs: the finished runs.
        lost: the runs without results.
        folder: folder for the files.
        title: title of the comparison.
        tolerance: accepted loss of accuracy in percentage points; None prints no answer.
    """
    answer = verdict.sentence(runs, tolerance / 100) if tolerance is not None else None
    if answer is not None and runs:
        print(f"\n{answer}")
    if lost:
        print("\nwithout results:")
        for run in lost:
            print(f"  {run.name}: {run.reason}")
    if runs:
        show(runs, folder, title, given.prices)
        # Imported here because Plotly takes a second to import.
        from deploy.results import page

        html = given.html or folder / "comparison.html"
        page.write(html, title, runs, lost, given.prices, answer)
        print(f"page: {html}\nfolder: {folder}")
