"""A run's insights about its data: the explanations of errors, and the report."""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from subset_trainer import artifacts
from subset_trainer.data import Splits
from subset_trainer.errors import UserError
from subset_trainer.insight import duplicates, explaining, explanations, findings, issues
from subset_trainer.insight.cleaning import Examined, looked_at
from subset_trainer.insight.explanations import Explanations
from subset_trainer.insight.page import About, Findings, Shown, cards_of, page
from subset_trainer.job.values import Run
from subset_trainer.models import Classifier
from subset_trainer.training.evaluation import Judgement, judge
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.record import Record

logger = logging.getLogger(__name__)


@dataclass
class Insights:
    """Insights of a trained model into its training and validation data."""

    run: Run
    splits: Splits
    trained: Classifier
    record: Record
    """The record of the training."""
    read: Splits | None = None
    """What ``trained`` reads, if it is not the splits' inputs but a frozen backbone's outputs for them."""
    whole: Classifier | None = None
    """Then the model of the splits' inputs."""
    explained: Explanations | None = None
    """The result of :meth:`explain`; None: explanations were not requested, or are not possible."""

    @cached_property
    def validated(self) -> Judgement:
        """Results on the validation set, computed once and shared.

        Raises:
            Terminated: SIGTERM arrived; raised on every process.
        """
        validation = (self.read or self.splits).validation
        return judge(
            self.trained, validation, self.run.place, keep_probabilities=True, observe=issues.observe
        )

    def _of_training(self) -> Judgement:
        """Results on the training set, with fingerprints and what is seen of images.

        Raises:
            Terminated: SIGTERM arrived; raised on every process.
        """
        place, inputs = self.run.place, self.splits.train
        if self.read is None:
            return judge(self.trained, inputs, place, duplicates.fingerprint, observe=issues.observe)
        judged = judge(self.trained, self.read.train, place, observe=issues.observe)
        prints, seen = looked_at(inputs, place, lambda images, _: duplicates.fingerprint(images), issues.seen)
        observed = torch.cat([judged.observed, seen], 1)
        return dataclasses.replace(judged, fingerprints=prints, observed=observed)

    def explain(self) -> None:
        """Explain validation errors on the first process, while the others wait.

        Raises:
            Terminated: SIGTERM arrived; raised on every process.
        """
        place, config = self.run.place, self.run.config
        validated = self.validated
        try:
            self.explained = place.ranks.from_first(
                lambda: explaining.explain(
                    self.whole or self.trained,
                    self.splits,
                    validated,
                    place.device,
                    config.explain,
                    config.seed,
                )
            )
        except UserError as error:
            # Images are streamed from files, which may be gone. The model is saved, so the run does not fail.
            logger.warning("there are no explanations: %s", error)
            return
        if self.run.first:
            path = self.run.contract.output_data / explanations.FILE
            with place.interruption.deferred():
                artifacts.write_json(path, explanations.to_json(self.explained))

    def report(self, examined: Examined, history: list[dict[str, Any]], about: About) -> None:
        """Write report.html and examples.parquet.

        Raises:
            Terminated: SIGTERM reached one of several processes; raised on every process.
        """
        splits, place, output = self.splits, self.run.place, self.run.contract.output_data
        splits.tell_names()
        judged = self._of_training()
        validated = self.validated

        def look() -> Findings:
            return findings.findings(
                splits,
                examined,
                self.record,
                judged,
                validated,
                history,
                about,
                place.device,
                self.explained,
            )

        try:
            found = _shown_by_all(look, splits, place.ranks) if splits.train.owners is not None else None
            if not self.run.first:
                return
            with place.interruption.abandonable():
                found = found or look()
                html = page(found)
            with place.interruption.deferred():
                columns = findings.columns(found, examined, self.record)
                for out in splits.left_out:
                    if out.channel == "training":
                        columns = findings.with_unreadable(columns, out)
                artifacts.save_examples(output / "examples.parquet", columns)
                artifacts.write_text(output / "report.html", html)
        except UserError as error:
            # Names are read from the channel's files, which may be gone. The model is saved, so the run does not fail.
            logger.warning("there is no report: %s", error)


def _shown_by_all(look: Callable[[], Findings], splits: Splits, ranks: Ranks) -> Findings | None:
    """The findings for a sharded channel. Each example that they show is rendered by the process that holds it.

    Returns:
        The findings on the first process, None on the others.

    Raises:
        UserError: a file of the channel is gone; raised on every process.
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
    except UserError as error:  # a file is gone
        mine = error
    cards: dict[int, Shown] = {}
    for part in ranks.everyones(mine):
        if isinstance(part, UserError):
            raise part
        cards |= part
    return found and dataclasses.replace(found, show=lambda wanted: [cards[row] for row in wanted])
