"""Answers in words how small a share is enough for a tolerated loss, with one error rate for the whole answer."""

from collections.abc import Collection, Iterator, Sequence

from deploy.results.answers import QUESTIONS, Answer, answer, spoken_points, spoken_share
from deploy.results.compare import Run
from deploy.results.forecast import forecast
from deploy.results.judging import LEAST_SEEDS, LEVEL, Judged, State
from deploy.results.settling import Settling, settling
from subset_selection.catalogue import Question
from subset_trainer.tracking.metrics import SPOKEN

LEAST_SHOWN = 0.05
"""Points below which a difference of means is shown as none: one decimal would be zero."""


def sentence(runs: Sequence[Run], tolerance: float, first_seeds: Collection[int] | None = None) -> str:
    """Return the answer in words, a sentence or more for each question that the runs bear on.

    Args:
        runs: runs with results; only completed ones are used.
        tolerance: tolerated loss, a share.
        first_seeds: the seeds of the first answer, where others were added because it left something open.
    """
    return " ".join(paragraphs(runs, answer(runs, tolerance, first_seeds)))


def paragraphs(runs: Sequence[Run], found: Answer | str) -> list[str]:
    """Return the sentences of an answer: those on each question, what they rest on, and what further runs say.

    Args:
        runs: the runs that it is of.
        found: the answer, or why there is none.
    """
    searched = [_of_search(run) for run in runs if run.searched is not None]
    if isinstance(found, str):
        return [*searched, *([found] if len(searched) < len(runs) else [])]
    proposals = {one.question: one for one in settling(found)}
    asked = [question for question in QUESTIONS if found.of(question)]
    if all(judged.seeds < LEAST_SEEDS for judged in found.judged):
        parts = [_too_few_seeds(found, asked)]
    else:
        parts = [" ".join(_of_question(found, one, proposals.get(one))) for one in asked]
    further = forecast(found)
    return [*parts, _basis(found), *([str(further)] if further else []), *searched]


def _of_search(run: Run) -> str:
    """Quote the answer of a run with `fraction=auto`."""
    assert run.searched
    return f"One job, `{run.name}` with `fraction=auto`, says: {run.searched['sentence']}."


def _of_question(found: Answer, question: Question, proposal: Settling | None) -> Iterator[str]:
    """Yield the sentences on one question."""
    title, whole = QUESTIONS[question]
    points = _points(found)
    pairs = found.of(question)
    best = found.best(question)
    if best is not None:
        row, judged = best
        yield (
            f"{title}: {spoken_share(row.share)} of {whole} is enough for a loss of at most {points}. "
            f"{_capital(str(row))} {_change(judged)}, in {spoken_share(row.time)} of the full runs' total time."
        )
        if proposal:
            yield f"Whether {proposal.row} is enough is not yet known. {proposal}"
        return
    near, judged = max(pairs, key=lambda pair: -pair[1].loses_at_most if pair[1].seeds > 1 else pair[1].mean)
    if judged.seeds < LEAST_SEEDS:
        yield _too_few_seeds(found, [question])
    elif proposal is None:
        yield (
            f"{title}: no share of {whole} that was tried keeps within {points}. The nearest is {near}, which "
            f"{_change(judged)}."
        )
    else:
        near, judged = next(pair for pair in pairs if str(pair[0]) == proposal.row)
        yield (
            f"{title}: whether less than all of {whole} keeps within {points} is not yet known. {_capital(str(near))} "
            f"{_change(judged)}. {proposal}"
        )


def _points(found: Answer) -> str:
    return f"{spoken_points(found.tolerance)} of {SPOKEN[found.metric]}"


def _too_few_seeds(found: Answer, questions: Sequence[Question]) -> str:
    """Say once, for all questions to which it applies, that an answer takes more seeds."""
    seeds = max(judged.seeds for question in questions for _, judged in found.of(question))
    titles = "; ".join(QUESTIONS[question][0] for question in questions).capitalize()
    of = ", or of ".join(QUESTIONS[question][1] for question in questions) + "," * (len(questions) > 1)
    return (
        f"{titles}: whether less of {of} costs more than {_points(found)} cannot be known from "
        f"{'one seed' if seeds == 1 else f'{seeds} seeds'}: an answer takes at least {LEAST_SEEDS} (--seeds 0,1,2), "
        "compared together."
    )


def _change(judged: Judged) -> str:
    """Say what was measured: a mean, and the bound that matters."""
    lost, most, least = (100 * value for value in (-judged.mean, judged.loses_at_most, judged.loses_at_least))
    if judged.state == State.LESS:
        return f"loses {lost:.1f} points on average and at least {least:.1f}"
    if abs(lost) < LEAST_SHOWN:
        return f"equals the full runs on average and loses at most {_number(most)} points"
    if lost > 0:
        return f"loses {lost:.1f} points on average and at most {_number(most)}"
    bound = f"at least {_number(-most)}" if most < 0 else f"loses at most {_number(most)}"
    return f"gains {-lost:.1f} points on average and {bound}"


def _number(points: float) -> str:
    """Return points with a decimal, or as many as it takes so that they are not shown as zero."""
    return f"{points:.1f}" if points >= LEAST_SHOWN or points == 0 else f"{points:.1g}"


def _basis(found: Answer) -> str:
    """Say what the answer rests on."""
    fewest, most = found.seeds
    seeds = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    part = "test" if found.tested else "validation"
    examples = (
        f"{found.examples:,} {part} examples" if found.examples else f"an unknown number of {part} examples"
    )
    count = len(found.rows)
    rests = f"{seeds} seed{'' if most == 1 else 's'}, {examples}"
    over, one = f", over {'both' if count == 2 else f'all {count}'} candidates together", ""
    if count == 1:
        over, one = "", "1 candidate, "
    if any(found.best(question) for question in QUESTIONS):
        lost = "a share called enough" if count > 1 else "it"
        return f"The chance that {lost} truly loses more is at most {LEVEL:.0%}{over} ({one}{rests})."
    return (
        f"A share is called enough only if the chance that it truly loses more is at most {LEVEL:.0%}{over} "
        f"({one}{rests})."
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
