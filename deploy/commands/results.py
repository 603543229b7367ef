"""Presents finished runs, wherever they ran."""

import argparse
from collections.abc import Collection, Mapping, Sequence
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
        type=options.file,
        metavar="FILE",
        help="where the page is written (comparison.html in the folder of the results)",
    )


def show(runs: Sequence[Run], folder: Path | None, title: str, prices: Mapping[str, float]) -> None:
    """Print the table, and write it with the chart into a folder, if there is one.

    Args:
        runs: the runs.
        folder: None writes nothing.
        title: title of the comparison.
        prices: instance type → dollars an hour.
    """
    chart = f"\n\nchart: {compare.write(runs, folder, title, prices)}" if folder is not None else ""
    print(f"\n{title}\n\n{compare.table(compare.rows(runs, prices))}{chart}")


def present(
    given: argparse.Namespace,
    runs: Sequence[Run],
    lost: Sequence[Lost],
    folder: Path | None,
    title: str,
    tolerance: float | None = None,
    first_seeds: Collection[int] | None = None,
) -> None:
    """Print the answer, runs without results and the table, and write them with the chart and the page into a folder.

    Args:
        given: the options of `add_presentation`.
        runs: the finished runs.
        lost: the runs without results.
        folder: folder for the files; None writes none but the page that `--html` names.
        title: title of the comparison.
        tolerance: accepted loss in points of the runs' metric; None prints no answer.
        first_seeds: the seeds of the first answer, where others were added because it left something open.
    """
    answer = verdict.sentence(runs, tolerance / 100, first_seeds) if tolerance is not None else None
    if answer is not None and runs:
        print(f"\n{answer}")
    if lost:
        print("\nwithout results:")
        for run in lost:
            print(f"  {run.name}: {run.reason}")
    if runs:
        show(runs, folder, title, given.prices)
        html = given.html or (folder / "comparison.html" if folder is not None else None)
        if html is not None:
            # Imported here because Plotly takes a second to import.
            from deploy.results import page

            page.write(html, title, runs, lost, given.prices, answer)
            print(f"page: {html}")
        if folder is not None:
            print(f"folder: {folder}")
