"""`fraction=auto`: trains on growing shares until one is enough, and keeps the model of the smallest that is."""

import contextlib
import copy
import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from subset_trainer import artifacts, outputs
from subset_trainer.data import Dataset
from subset_trainer.errors import UserError
from subset_trainer.insight import enough
from subset_trainer.insight.cleaning import Examined
from subset_trainer.insight.enough import Answer, Trial
from subset_trainer.job import build, fit
from subset_trainer.job.build import Built
from subset_trainer.job.fit import Fitted
from subset_trainer.job.history import History
from subset_trainer.job.read import Material
from subset_trainer.job.values import Run
from subset_trainer.tracking import metrics
from subset_trainer.tracking.trackers import Trackers
from subset_trainer.training import checkpoints, strategies
from subset_trainer.training.averaging import MovingAverage
from subset_trainer.training.interruption import Terminated

logger = logging.getLogger(__name__)
FOLDER, RESULTS = "fractions", "results.json"
"""In the folder of checkpoints: one folder for each training, and the scores of those that have ended."""
FULL: Trial = (1.0, 0)


def search(run: Run, data: Material, examined: Examined, built: Built) -> Fitted:
    """Train on growing shares of the examples; see :mod:`subset_trainer.insight.enough`.

    What is kept is the first model of the share that is settled on, or else of the largest. Its epochs are reported
    when the search has ended. With checkpoints, a search that is started again resumes: trainings that have ended are
    not repeated.

    Raises:
        UserError: there are too few examples, or a training fails.
    """
    search = _Search(run, data, examined, built)
    answer = search.run()
    return search.kept(answer)


@dataclass(frozen=True)
class Spent:
    """What one training took. Times are in seconds."""

    training: float
    selection: float
    evaluation: float
    samples: int

    @classmethod
    def of(cls, fitted: Fitted, judging: float = 0.0) -> "Spent":
        reports = fitted.history.reports
        return cls(
            sum(epoch.training_seconds for epoch in reports),
            sum(epoch.selection_seconds for epoch in reports),
            sum(epoch.evaluation_seconds for epoch in reports) + judging,
            reports[-1].samples_visited if reports else 0,
        )


class _Search:
    def __init__(self, run: Run, data: Material, examined: Examined, built: Built) -> None:
        self._run, self._data, self._examined, self._built = run, data, examined, built
        config = run.config
        self._examples = len(examined.labels)
        if self._examples < enough.LEAST_EXAMPLES:
            raise UserError(
                f"fraction=auto needs at least {enough.LEAST_EXAMPLES} training examples, and there are "
                f"{self._examples}; expected a number, such as fraction=0.5"
            )
        self._steps = enough.affordable(config.max_cost)
        self._planned = [trial for step in self._steps for trial in step]
        # Copied before anything is trained, because a frozen backbone is not read again.
        self._begun = copy.deepcopy(built.classifier) if built.frozen else None
        self._seen = self._rows_seen()
        self._unseen: Dataset | None = None
        if self._seen is not None:
            rows = np.setdiff1d(np.arange(self._examples), self._seen)
            self._unseen = data.training.train.subset(torch.from_numpy(rows))
        self._judged = len(data.training.validation) + len(self._unseen or ())
        self._folder = run.contract.checkpoints / FOLDER if run.contract.checkpoints.is_dir() else None
        self._identity = json.loads(
            json.dumps({**data.identity(run.place.ranks.size), "metric": config.metric})
        )
        self._scores: dict[Trial, float] = {}
        self._spent: dict[Trial, Spent] = {}
        for trial, (score, *spent) in run.place.ranks.from_first(self._recorded).items():
            self._scores[trial], self._spent[trial] = score, Spent(*spent)
        self._fitted: dict[Trial, Fitted] = {}
        """Of the trainings whose models may be kept, or else what SIGTERM left of the first one. Those that had ended
        before the run was resumed are not loaded yet."""

    def run(self) -> Answer | None:
        """Train the steps until one settles the question. None: SIGTERM came before the first step had ended."""
        config, answer = self._run.config, None
        logger.info("%s", self._announcement())
        if self._scores:
            logger.info("resuming the search: %d of its trainings have ended", len(self._scores))
        for number, step in enumerate(self._steps):
            for trial in step:
                if trial not in self._scores and not self._train_unless_stopped(trial):
                    return answer
            so_far = {trial: self._scores[trial] for done in self._steps[: number + 1] for trial in done}
            answer = enough.answer(
                so_far,
                self._examples,
                config.tolerance / 100,
                number,
                self._judged,
                last=number == len(self._steps) - 1,
            )
            if answer.enough:
                return answer
            logger.info("not settled yet: %s", enough.sentence(answer, config.question, config.tolerance))
        if enough.cost([*self._planned, FULL]) <= config.max_cost and FULL not in self._scores:
            self._train_unless_stopped(FULL)
        return answer

    def kept(self, answer: Answer | None) -> Fitted:
        """The model that is kept, with its history published."""
        settled = answer is not None and answer.enough
        trial = (answer.share, 0) if answer and settled else _largest(self._scores or self._planned[:1])
        if trial not in self._fitted:
            # It had ended before the run was resumed, and comes back from its checkpoint.
            self._train(trial)
        fitted = self._fitted[trial]
        if not self._run.stages.stopped:  # a search that goes on may settle on another
            self._forget(self._scores.keys() - {trial})
        fit.track(self._run, self._of(trial), fitted.plan)
        fitted.history.publish()
        config = self._run.config
        said = (
            "stopped before anything is known"
            if answer is None
            else enough.sentence(answer, config.question, config.tolerance)
        )
        if trial == FULL:
            said += "; the model that is kept has trained on all of them"
        logger.info("%s", said)
        found = {} if answer is None else answer.to_json()
        spent = [*self._spent.values()] or [Spent.of(fitted)]
        return replace(
            fitted,
            spent={
                what: sum(getattr(each, what) for each in spent)
                for what in ("training", "selection", "evaluation")
            },
            answer={
                "question": config.question,
                "tolerance": config.tolerance,
                "metric": config.metric,
                **found,
                "kept": trial[0],
                "cost": enough.cost(self._scores),
                "samples_visited": sum(each.samples for each in spent),
                "curve": enough.band(self._scores, self._examples),
                "runs": [
                    {"fraction": share, "run": number, config.metric: score}
                    for (share, number), score in sorted(self._scores.items())
                ],
                "sentence": said,
            },
        )

    def _train_unless_stopped(self, trial: Trial) -> bool:
        """The same, where SIGTERM may also come before the training has begun."""
        try:
            return self._train(trial)
        except Terminated:
            if not self._scores:
                raise
            self._run.stages.stopped = True
            logger.info("SIGTERM received: keeping the largest fraction that has ended")
            return False

    def _train(self, trial: Trial) -> bool:
        """Train one model, and record its score. False: SIGTERM ended it."""
        data = self._of(trial)
        run = replace(self._run, config=data.config, trackers=Trackers([]))
        built = self._network(data)
        plan = fit.plan_of(data.config, data, self._examined, built.place)
        folder = self._folder_of(trial)
        if folder and run.first:
            folder.mkdir(parents=True, exist_ok=True)
        kept = fit.checkpoints_of(run, data, folder) if folder else None
        history = History(replace(run, trackers=self._run.trackers), kept, silent=True)
        logger.info("training on %d examples, %.4g%% of all", plan.budget, 100 * trial[0])
        fitted = fit.train(run, data, built, plan, history, kept)
        if len(history.reports) < len(plan.epochs):
            if not self._scores or trial in self._scores:
                self._fitted[trial] = fitted
            return False
        metric = self._run.config.metric
        if trial not in self._scores:
            begun = time.perf_counter()
            self._scores[trial] = self._score(fitted)
            self._spent[trial] = Spent.of(fitted, time.perf_counter() - begun)
            self._record()
        self._fitted[trial] = fitted
        self._forget(self._scores.keys() - {_largest(self._scores), *enough.CANDIDATES})
        spent = enough.cost(self._scores)
        logger.info(
            "%.4g%%: %s %.2f%%; %.2f of at most %.2f trainings on all examples are spent",
            100 * trial[0],
            metrics.SPOKEN[metric],
            100 * self._scores[trial],
            spent,
            self._run.config.max_cost,
        )
        return not self._run.stages.stopped

    def _score(self, fitted: Fitted) -> float:
        """The measure by which a training is judged: of the validation set, and of the examples that none has seen."""
        metric, validation = self._run.config.metric, self._data.training.validation
        score = float(fitted.history.reports[-1].validation.measures()[metric])
        if self._unseen is None:
            return score
        own = float(fitted.trainee.evaluate(self._unseen).measures()[metric])
        return (len(validation) * score + len(self._unseen) * own) / self._judged

    def _rows_seen(self) -> np.ndarray | None:
        """The training examples [K] that trainings on fixed subsets see; all others judge, beside the validation set.
        None: those that are not chosen do not stand for new ones as the validation set does, or there are none.

        A tenth of the data is often too little to know a point, and half of it has not been seen yet.
        """
        config, share = self._run.config, max(share for share, _ in self._planned)
        largest = self._of((share, 0))
        plan = fit.plan_of(largest.config, largest, self._examined, self._built.place)
        if (
            config.question != "label"
            or "validation" in self._run.contract.channels
            or len(self._examined.kept) < self._examples
            or plan.epochs[0].everything
            or plan.budget >= plan.examples
        ):
            return None
        classes = len(self._data.splits.preprocessing.classes)
        place, classifier = self._built.place, self._built.classifier
        selector = strategies.selector(largest.config, classifier, largest.training, plan, place, classes)
        choice = selector.choose(plan.epochs[0], plan.generators()["selection"])
        assert choice  # it is due in the first epoch
        return np.sort(choice.subset.indices.numpy())

    def _of(self, trial: Trial) -> Material:
        """The data with the hyperparameters of one training. Repeats draw from what the largest subset holds."""
        share, number = trial
        config = self._data.config.model_copy(
            update={"fraction": share, "seed": self._data.config.seed + number}
        )
        data = self._data.keeping(self._seen) if number and self._seen is not None else self._data
        return replace(data, config=config)

    def _network(self, data: Material) -> Built:
        torch.manual_seed(data.config.seed)
        if self._begun is None:
            return build.build(data, self._built.place.ranks, announced=True)
        classifier = copy.deepcopy(self._begun)
        average = MovingAverage(classifier, data.config.ema_decay) if data.config.ema_decay else None
        return replace(self._built, classifier=classifier, average=average)

    def _folder_of(self, trial: Trial) -> Path | None:
        """For the training's checkpoints."""
        return self._folder / f"{trial[0]:.5f}-{trial[1]}" if self._folder else None

    def _forget(self, trials: Iterable[Trial]) -> None:
        """Drop the models of trainings that have ended, and remove their checkpoints: they are not kept."""
        for trial in trials:
            self._fitted.pop(trial, None)
            folder = self._folder_of(trial)
            if folder is None or not folder.is_dir() or not self._run.first:
                continue
            with contextlib.suppress(OSError):  # what cannot be removed does no harm
                for file in (*folder.glob(outputs.CHECKPOINTS), *folder.glob(f"subsets/{outputs.SUBSETS}")):
                    file.unlink()
                if (folder / "subsets").is_dir():
                    (folder / "subsets").rmdir()
                folder.rmdir()

    def _recorded(self) -> dict[Trial, tuple[Any, ...]]:
        """The score of each training that had ended before the run was resumed, and what it took."""
        file = self._results
        if file is None or self._run.config.resume != "auto":
            return {}
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            theirs: Mapping[str, Any] = content["identity"]
            found = {
                (float(share), int(number)): (float(score), *map(float, seconds), int(samples))
                for share, number, score, *seconds, samples in content["trainings"]
            }
            if any(len(each) != 1 + len(fields(Spent)) for each in found.values()):
                raise ValueError("a training's record has another number of values")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError) as error:
            logger.warning("%s is damaged and left aside: the search starts anew", file)
            logger.debug("%s", error)
            return {}
        if differing := checkpoints.differing(theirs, self._identity, self._data.before):
            raise UserError(
                f"the search in {file.parent} is of another run, by {', '.join(differing[:5])}; use another folder of "
                "checkpoints, or resume=never to start anew"
            )
        return found

    def _record(self) -> None:
        if self._results and self._run.first:
            trainings = [
                [*trial, score, *astuple(self._spent[trial])] for trial, score in self._scores.items()
            ]
            content = {"identity": self._identity, "trainings": trainings}
            artifacts.write(
                self._results,
                lambda path: path.write_text(json.dumps(content), encoding="utf-8"),
                durable=True,
            )

    @property
    def _results(self) -> Path | None:
        return self._folder / RESULTS if self._folder else None

    def _announcement(self) -> str:
        config = self._run.config
        spoken = metrics.SPOKEN[config.metric]
        said = enough.announcement(config.max_cost, config.tolerance, spoken, config.question)
        return f"{said}; {self._judged:,} examples judge"


def _largest(trials: Iterable[Trial]) -> Trial:
    """The largest share's first run."""
    return max(trials, key=lambda trial: (trial[0], -trial[1]))
