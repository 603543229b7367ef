"""Finds wrong labels and duplicates before training, and removes them if hyperparameters request it."""

import copy
import io
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subset_trainer import artifacts
from subset_trainer.config import Hyperparameters
from subset_trainer.data import Dataset, Ids, Splits
from subset_trainer.insight import duplicates, labels
from subset_trainer.models import Classifier
from subset_trainer.training import loop
from subset_trainer.training.evaluation import BATCH, judge
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.record import Record
from subset_trainer.training.rounds import Data, Selector
from subset_trainer.training.trainee import Trainee

logger = logging.getLogger(__name__)
FILE = "examination.npz"
NOISY, REDUNDANT = "noisy", "redundant"


@dataclass(frozen=True)
class Examined:
    """The results for the N training examples of the channels, and which examples the run trains on."""

    ids: Ids
    labels: Tensor
    """[N] int64."""
    removed: np.ndarray
    """[N] object: `noisy`, `redundant`, or None for examples that are kept."""
    mislabelled: Tensor | None = None
    """[N] float32: score of a wrong label, 0 to 1. None, here and below, means not computed."""
    suspect: Tensor | None = None
    """[N] bool: whether the label counts as wrong."""
    groups: Tensor | None = None
    """[N] int32: group of (near-)duplicates, or -1."""

    @property
    def kept(self) -> np.ndarray:
        """[K] int64: positions of the examples that are kept."""
        return np.flatnonzero(self.removed == None)  # noqa: E711  element by element

    def counts(self) -> dict[str, int]:
        return {reason: int((self.removed == reason).sum()) for reason in (NOISY, REDUNDANT)}


@dataclass(frozen=True)
class Examination:
    """The search for wrong labels and duplicates.

    Args:
        fresh: the run's untrained classifier. Copies of it are trained and discarded.
        splits: what it reads.
        inputs: the training examples as they were given, for which `splits` may have a frozen backbone's outputs.
        hp: the run's hyperparameters, which also apply to the training of the copies.
        selector: makes the selector for a copy, its data and its plan.
        place: the device and the processes.
        file: file that stores the label results for a resumed run; None: they are not stored.
        identity: identifies the run and its data.
    """

    fresh: Classifier
    splits: Splits
    inputs: Dataset
    hp: Hyperparameters
    selector: Callable[[Classifier, Data, Plan], Selector]
    place: Place
    file: Path | None
    identity: Mapping[str, Any]

    def run(self) -> Examined:
        """Find wrong labels and duplicates, as the hyperparameters request.

        Raises:
            Terminated: SIGTERM arrived.
            UserError: training diverged.
        """
        given, hp = self.splits.train.labels, self.hp
        found = Examined(self.splits.train_ids, given, np.full(len(given), None, object))
        if hp.drop_redundant:
            found = replace(found, groups=self._groups())
        if hp.drop_noisy or hp.label_check == "cross-validation":
            mislabelled, suspect = self.place.ranks.from_first(self._known) or self._labels()
            found = replace(found, mislabelled=mislabelled, suspect=suspect)
        if hp.drop_noisy:
            assert found.suspect is not None
            found.removed[found.suspect.numpy()] = NOISY
        if hp.drop_redundant:
            assert found.groups is not None
            found.removed[_later_ones(found.groups.numpy(), found.removed)] = REDUNDANT
        # Every class keeps at least one example.
        for label in np.setdiff1d(given.numpy(), given.numpy()[found.kept]):
            found.removed[np.flatnonzero(given.numpy() == label)[0]] = None
        for reason, count in found.counts().items():
            if count:
                logger.info(
                    "%d of %d training examples are left out: %s (drop_%s)", count, len(given), reason, reason
                )
        return found

    def _groups(self) -> Tensor:
        (prints,) = looked_at(self.inputs, self.place, lambda inputs, _: duplicates.fingerprint(inputs))
        return self.place.ranks.from_first(
            lambda: duplicates.groups(prints, self.splits.train.labels, self.place.device)
        )

    def _labels(self) -> tuple[Tensor, Tensor]:
        """[N] score of each training label, 0 to 1 (likely wrong), and bool [N] whether it counts as wrong."""
        training, validation = self.splits.train, self.splits.validation
        if self.hp.label_check == "cross-validation":
            logger.info("label_check: training %d models, each without a part of the examples", labels.FOLDS)
            probabilities = torch.zeros(len(training), len(self.splits.preprocessing.classes))
            strata = torch.from_numpy(self.fresh.objective.strata(training.labels.numpy()))
            for left in labels.folds(strata, self.hp.seed):
                kept = np.setdiff1d(np.arange(len(training)), left.numpy())
                model, _ = self._trained(self.splits.keeping(kept))
                held = judge(model, training.subset(left), self.place, keep_probabilities=True)
                probabilities[left] = held.probabilities
            found = self.place.ranks.from_first(lambda: labels.cross_checked(training.labels, probabilities))
        else:
            logger.info(
                "drop_noisy: training once before the run's own training, to see which labels are learned late"
            )
            model, record = self._trained(self.splits)
            judged = judge(model, training, self.place)
            validated = judge(model, validation, self.place, keep_probabilities=True)
            excess = labels.excess(record.excess_losses(), judged.losses)
            share = labels.wrong_share(validation.labels, validated.probabilities)
            found = excess.sigmoid(), labels.suspects(excess, share)
        if self.file is not None and self.place.ranks.first:
            self._keep(self.file, *found)
        return found

    def _trained(self, splits: Splits) -> tuple[Classifier, Record]:
        model, data = copy.deepcopy(self.fresh), Data(splits.train, splits.validation, splits.train_weights)
        plan = Plan.of(self.hp, len(splits.train), self.place.ranks.size)
        selector = self.selector(model, data, plan)
        trainee = Trainee(model, self.hp, plan, self.place)
        loop.train(trainee, data, selector, plan)
        return model, trainee.record

    # A resumed run reads the stored results instead of repeating the training.

    def _keep(self, file: Path, mislabelled: Tensor, suspect: Tensor) -> None:
        content = io.BytesIO()
        about = json.dumps(dict(self.identity), sort_keys=True)
        np.savez(content, mislabelled=mislabelled.numpy(), suspect=suspect.numpy(), identity=about)
        try:
            artifacts.write(file, lambda path: path.write_bytes(content.getvalue()), durable=True)
        except OSError as error:
            logger.warning(
                "%s could not be written (%s): a run that is resumed examines the data again",
                FILE,
                error.strerror,
            )

    def _known(self) -> tuple[Tensor, Tensor] | None:
        if self.file is None or self.hp.resume == "never" or not self.file.exists():
            return None
        try:
            with np.load(self.file, allow_pickle=False) as content:
                found = torch.from_numpy(content["mislabelled"]), torch.from_numpy(content["suspect"])
                same = str(content["identity"]) == json.dumps(dict(self.identity), sort_keys=True)
        except Exception as error:  # a damaged archive may raise many kinds of error
            logger.warning("%s is damaged and left aside: %s", FILE, error)
            return None
        return found if same else None


def looked_at(
    dataset: Dataset, place: Place, *looks: Callable[[Tensor, Tensor | None], Tensor]
) -> tuple[Tensor, ...]:
    """What each function returns for all examples, [N, K], in one pass without a network; on every process.

    Args:
        looks: raw inputs [B, …] and images' original sizes ([B, 2] or None) → [B, K].

    Raises:
        Terminated: SIGTERM has reached one of several processes.
    """
    ranks = place.ranks
    order = ranks.passing(dataset, BATCH)
    own = []
    for rows, inputs in ranks.until_asked(zip(order, dataset.batches(order, place.device), strict=True)):
        sizes = dataset.original_sizes(rows)
        own.append(tuple(look(inputs, sizes).cpu() for look in looks))
    ranks.check()
    return ranks.in_order(tuple(map(torch.cat, zip(*own, strict=True))), order)


def _later_ones(groups_N: np.ndarray, removed_N: np.ndarray) -> np.ndarray:
    """Positions, ascending, of the redundant examples: those after the first of their group that is still kept."""
    rows = np.flatnonzero((groups_N >= 0) & (removed_N == None))  # noqa: E711  element by element
    _, first = np.unique(groups_N[rows], return_index=True)
    return np.delete(rows, first)
