"""What a run says about its data: the explanations of errors, and the report."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from subset_trainer import artifacts
from subset_trainer.data import Splits
from subset_trainer.errors import UserError
from subset_trainer.insight import duplicates, explaining, explanations, findings
from subset_trainer.insight.cleaning import Examined
from subset_trainer.insight.explanations import Explanations
from subset_trainer.insight.page import Findings, Shown, cards_of, page
from subset_trainer.job.values import Run
from subset_trainer.models import Classifier
from subset_trainer.training.evaluation import judge
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.trainee import Trainee

logger = logging.getLogger(__name__)


def explain(run: Run, splits: Splits, trained: Classifier) -> Explanations | None:
    """By the first process, for which the others wait. Raises Terminated on every process."""
    place, config = run.place, run.config
    judged = judge(trained, splits.validation, place)
    try:
        found = place.ranks.from_first(
            lambda: explaining.explain(trained, splits, judged, place.device, config.explain, config.seed)
        )
    except UserError as error:
        # Images are streamed from the channel's files. The model is saved: no reason for the run to fail.
        logger.warning("there are no explanations: %s", error)
        return None
    if run.first:
        with place.interruption.deferred():
            artifacts.write_json(run.contract.output_data / explanations.FILE, explanations.to_json(found))
    return found


def report(
    run: Run,
    splits: Splits,
    examined: Examined,
    trainee: Trainee,
    history: list[dict[str, Any]],
    facts: Mapping[str, str],
    explained: Explanations | None,
) -> None:
    """Raises Terminated on every process where SIGTERM has reached one of several."""
    splits.tell_names()
    place, record, output = run.place, trainee.record, run.contract.output_data
    judged = judge(trainee.evaluated, splits.train, place, duplicates.fingerprint)
    validated = judge(trainee.evaluated, splits.validation, place, keep_probabilities=True)

    def look() -> Findings:
        return findings.findings(
            splits, examined, record, judged, validated, history, facts, place.device, explained
        )

    try:
        found = _shown_by_all(look, splits, place.ranks) if splits.train.owners is not None else None
        if not run.first:
            return
        with place.interruption.abandonable():
            found = found or look()
            html = page(found)
        with place.interruption.deferred():
            columns = findings.columns(found, examined, record)
            artifacts.save_examples(output / "examples.parquet", columns)
            artifacts.write_text(output / "report.html", html)
    except UserError as error:
        # Names are read from the channel's files again. The model is saved: no reason for the run to fail.
        logger.warning("there is no report: %s", error)


def _shown_by_all(look: Callable[[], Findings], splits: Splits, ranks: Ranks) -> Findings | None:
    """Of a sharded channel, what the first process finds, with examples that whoever has them shows; None: not first.

    Raises:
        UserError: on all, where names cannot be read.
    """
    found: Findings | None = None

    def asked() -> list[int]:
        nonlocal found
        found = look()
        return cards_of(found).rows

    assert splits.train.owners is not None
    rows = ranks.from_first(asked)
    own = [row for row in rows if splits.train.owners[row] == ranks.rank]
    mine: dict[int, Shown] | UserError
    try:
        mine = dict(
            zip(own, findings.show(splits.train, own, splits.preprocessing, splits.train_texts), strict=True)
        )
    except UserError as error:  # of a file that is gone
        mine = error
    cards: dict[int, Shown] = {}
    for part in ranks.everyones(mine):
        if isinstance(part, UserError):
            raise part
        cards |= part
    return found and dataclasses.replace(found, show=lambda wanted: [cards[row] for row in wanted])
