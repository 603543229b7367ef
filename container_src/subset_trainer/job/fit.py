"""Trains the model on the examples that remain after cleaning."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from subset_selection import Settings
from subset_trainer.config import Hyperparameters
from subset_trainer.insight.cleaning import Examined
from subset_trainer.job.build import Built
from subset_trainer.job.history import History
from subset_trainer.job.read import Material
from subset_trainer.job.values import Run
from subset_trainer.models import Classifier
from subset_trainer.training import loop, out_of_memory, strategies
from subset_trainer.training.checkpoints import Checkpoints
from subset_trainer.training.frozen import Frozen
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.trainee import Trainee

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """The result of a training that was completed or ended by SIGTERM."""

    trainee: Trainee
    plan: Plan
    history: History
    frozen: Frozen | None
    answer: Mapping[str, Any] | None = None
    """What a search for the fraction has found."""
    spent: Mapping[str, float] | None = None
    """Then the seconds of training, selection and evaluation of all its trainings."""

    @property
    def model(self) -> Classifier:
        """What is saved: of the channels' inputs."""
        trained = self.trainee.evaluated
        return self.frozen.joined(trained) if self.frozen else trained


def fit(run: Run, data: Material, examined: Examined, built: Built) -> Fitted:
    """Train, resuming from a checkpoint if there is one.

    Raises:
        UserError: the loss is no longer finite, memory ran out, or the checkpoint belongs to another run.
    """
    config, place = run.config, run.place
    plan = plan_of(config, data, examined, place)
    _announce(config, data, plan)
    _announce_processes(run, plan)
    track(run, data, plan)
    checkpoints = checkpoints_of(run, data, run.contract.checkpoints)
    return train(run, data, built, plan, History(run, checkpoints), checkpoints)


def plan_of(config: Hyperparameters, data: Material, examined: Examined, place: Place) -> Plan:
    # Counted before cleaning, so that runs with and without cleaning see equally many samples.
    counted = data.splits.counted or len(examined.labels)
    return Plan.of(config, len(data.splits.train), place.ranks.size, given=counted)


def train(
    run: Run, data: Material, built: Built, plan: Plan, history: History, checkpoints: Checkpoints | None
) -> Fitted:
    """Train one model by its plan. SIGTERM ends it; what was trained is returned.

    Raises:
        UserError: as for :func:`fit`.
    """
    config, place = run.config, run.place
    classes = len(data.splits.preprocessing.classes)
    selector = strategies.selector(config, built.classifier, data.training, plan, place, classes)
    trainee = Trainee(built.classifier, config, plan, place, built.average)
    with run.stages.stage(
        "training", lambda: f" after {len(history.reports)} whole epochs: saving what there is"
    ):
        try:
            loop.train(trainee, data.training, selector, plan, history.add, checkpoints, history.restore)
        except (RuntimeError, MemoryError) as error:
            out_of_memory.understood(error, config.batch_size)
    return Fitted(trainee, plan, history, built.frozen)


def track(run: Run, data: Material, plan: Plan) -> None:
    """Send the run's parameters to the trackers."""
    run.trackers.parameters(
        {
            **run.config.model_dump(),
            "model": data.model,
            "budget": plan.budget,
            "processes": plan.processes,
            "effective_batch_size": plan.effective_batch_size,
            "effective_learning_rate": plan.learning_rate,
        }
    )


def checkpoints_of(run: Run, data: Material, folder: Path) -> Checkpoints | None:
    """The checkpoints in a folder, on the first process; None if the job has no folder for them."""
    config = run.config
    if not run.first or not run.contract.checkpoints.is_dir():
        return None
    if config.backend == "cords":
        logger.warning("backend='cords' keeps no checkpoints: its loaders cannot be asked what they remember")
        return None
    identity = data.identity(run.place.ranks.size)
    resume = config.resume == "auto"
    return Checkpoints(
        folder, identity, config.checkpoint_minutes, config.checkpoints_kept, resume, data.before
    )


def _announce(config: Hyperparameters, data: Material, plan: Plan) -> None:
    splits, examples, budget = data.splits, plan.examples, plan.budget
    logger.info(
        "%d training, %d validation and %s test examples of %d classes; %s with %s",
        examples,
        len(splits.validation),
        "no" if splits.test is None else len(splits.test),
        len(splits.preprocessing.classes),
        data.model,
        ", ".join(f"{name}={value}" for name, value in config.model_dump(exclude_defaults=True).items())
        or "all defaults",
    )
    if not config.spec.takes_fraction:
        if "fraction" in config.model_fields_set and config.share < 1:
            sized = (
                "sees all examples"
                if config.spec.shape == "everything"
                else "sets the size of each epoch itself"
            )
            logger.warning("strategy %r %s: fraction=%g is not used", config.strategy, sized, config.share)
    else:
        logger.info("%s chooses %d of them, %.4g%%", config.strategy, budget, 100 * budget / examples)
        if "select_every" in config.spec.knobs and config.select_every >= config.epochs:
            logger.log(
                _level(config, "select_every"),
                "select_every=%d with epochs=%d: the subset is chosen once",
                config.select_every,
                config.epochs,
            )
    _warn_of_unused(config)
    if config.batch_size > budget:
        logger.log(
            _level(config, "batch_size"),
            "batch_size=%d is larger than the subset: each epoch is one step of %d examples",
            config.batch_size,
            budget,
        )


def _level(config: Hyperparameters, name: str) -> int:
    """Of what is said of a hyperparameter: no warning about one that was not given."""
    return logging.WARNING if name in config.model_fields_set else logging.INFO


def _warn_of_unused(config: Hyperparameters) -> None:
    """Warn about hyperparameters of other strategies that are set but that this strategy does not use."""
    knobs = {*(each.name for each in fields(Settings)), "select_every", "mislabelled"}
    used = {"batch_size", *config.spec.knobs}
    if config.mislabelled == "drop":
        used.add("select_every")  # how often the examples are scored
    unused = sorted((knobs & config.model_fields_set) - used)
    if unused:
        logger.warning("strategy %r does not use %s", config.strategy, ", ".join(unused))


def _announce_processes(run: Run, plan: Plan) -> None:
    if plan.processes == 1:
        return
    logger.info(
        "%d processes on %d host%s: effective batch %d × %d = %d examples, learning rate %g (%s scaling of %g)",
        plan.processes,
        len(run.contract.hosts),
        "s" * (len(run.contract.hosts) > 1),
        plan.processes,
        plan.batch_size,
        plan.effective_batch_size,
        plan.learning_rate,
        run.config.learning_rate_scaling,
        run.config.learning_rate,
    )
