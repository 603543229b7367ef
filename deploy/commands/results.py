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
        "--html", type=Path, metavar="FILE", help="also a page with everything, which needs no network"
    )


def present(
    runs: Sequence[Run],
    output: Path,
    title: str,
    *,
    lost: Sequence[Lost] = (),
    prices: Mapping[str, float] | None = None,
    tolerance: float | None = None,
    html: Path | None = None,
) -> None:
    """Write table and chart below `output`, and print what there is to know. Tolerance: percentage points."""
    answer = verdict.sentence(runs, tolerance / 100) if tolerance is not None else None
    if runs:
        chart = compare.write(runs, output, title, prices)
        print(f"\n{title}\n\n{compare.table(compare.rows(runs, prices))}\n\nchart: {chart}")
        if html is not None:
            from deploy.results import page

            page.write(html, title, runs, lost, prices or {}, answer)
            print(f"page: {html}")
    if lost:
        print("\nwithout results:")
        for run in lost:
            print(f"  {run.name}: {run.reason}")
    if answer is not None and runs:
        print(f"\n{answer}")


def present_jobs(
    given: argparse.Namespace,
    runs: Sequence[Run],
    lost: Sequence[Lost],
    folder: Path,
    title: str,
    tolerance: float | None = None,
) -> None:
    """The same for a command's jobs, whose page is always written."""
    present(
        runs,
        folder,
        title,
        lost=lost,
        prices=given.prices,
        tolerance=tolerance,
        html=given.html or folder / "comparison.html",
    )
