"""Presents finished runs, wherever they ran."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from deploy import text
from deploy.commands import options
from deploy.commands.declared import Option

if TYPE_CHECKING:
    from deploy.results.answers import Answer
    from deploy.results.compare import Lost, Run


@dataclass(frozen=True, kw_only=True)
class Presentation(options.Prices):
    """For commands that present runs."""

    tolerance: Annotated[
        float, Option("accepted loss, in points of the runs' `metric` (accuracy)", "POINTS", options.points)
    ] = 1.0
    html: Annotated[
        Path | None,
        Option(
            "where the page is written (comparison.html in the folder of the results)", "FILE", options.file
        ),
    ] = None


def show(
    runs: "Sequence[Run]",
    folder: Path | None,
    title: str,
    prices: Mapping[str, float],
    tolerance: float | None = None,
) -> None:
    """Print the table, and write it with the chart into a folder, if there is one.

    Args:
        runs: the runs.
        folder: None writes nothing.
        title: title of the comparison.
        prices: instance type → dollars an hour.
        tolerance: accepted loss, a share; None: there is none.
    """
    from deploy.results import compare

    note = f"\n\n{text.wrapped(said)}" if (said := compare.unequal_updates(runs)) else ""
    print(f"\n{title}\n\n{compare.table(compare.rows(runs, prices))}{note}")
    if folder is not None:
        # Imported here because matplotlib takes a second to import.
        from deploy.results import picture

        compare.write(runs, folder, prices)
        print(f"\nchart: {picture.write(folder, runs, title, tolerance)}")


def present(
    given: Presentation,
    runs: "Sequence[Run]",
    lost: "Sequence[Lost]",
    folder: Path | None,
    title: str,
    tolerance: float | None = None,
    first_seeds: Collection[int] | None = None,
    refusal: str | None = None,
) -> dict[str, Any]:
    """Print the answer, runs without results and the table, and write them with chart and page into a folder.

    Args:
        given: prices, and where the page goes.
        runs: the finished runs.
        lost: the runs without results.
        folder: folder for the files; None writes none but the page that `--html` names.
        title: title of the comparison.
        tolerance: accepted loss in points of the runs' metric; None prints no answer.
        first_seeds: the seeds of the first answer, where others were added because it left something open.
        refusal: why the runs allow no answer, where the runs themselves do not say it.

    Returns:
        The same for `--json`.
    """
    from deploy.results import answers, compare, verdict

    judged: Answer | str | None = refusal
    if judged is None and tolerance is not None:
        judged = answers.answer(runs, tolerance / 100, first_seeds)
    answer = None if judged is None else " ".join(verdict.paragraphs(runs, judged))
    if answer is not None and runs:
        print(f"\n{text.wrapped(answer)}")
    if lost:
        print("\nwithout results:")
        for run in lost:
            print(f"  {run.name}: {run.reason}")
    html = given.html or (folder / "comparison.html" if folder is not None else None)
    if runs:
        show(runs, folder, title, given.prices, None if tolerance is None else tolerance / 100)
        if html is not None:
            from deploy.results import page

            page.write(html, title, runs, lost, given.prices, judged)
            print(f"page: {html}")
        if folder is not None:
            print(f"folder: {folder}")
    return {
        "title": title,
        "answer": answer,
        "runs": [asdict(row) for row in compare.rows(runs, given.prices)],
        "without_results": [asdict(one) for one in lost],
        "folder": folder,
        "page": html if runs else None,
    }
