"""The training loop: select, train, evaluate, report."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from subset_trainer.data import Dataset
from subset_trainer.errors import UserError
from subset_trainer.hyperparameters import Hyperparameters
from subset_trainer.models import Classifier
from subset_trainer.selection import Subset
from subset_trainer.training import plan
from subset_trainer.training.augmentation import Augmentation
from subset_trainer.training.averaging import MovingAverage
from subset_trainer.training.devices import Machine, Stopwatch
from subset_trainer.training.evaluation import Score, evaluate, losses_in_eval_mode
from subset_trainer.training.gradients import Gradients
from subset_trainer.training.interruption import Interruption
from subset_trainer.training.optimizer import SGD
from subset_trainer.training.rounds import FilterSelector, Selector, SoftPruningSelector, everything

logger = logging.getLogger(__name__)
PROGRESS_SECONDS = 30


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did and cost."""

    epoch: plan.Epoch
    subset: Subset | None
    """The subset, where this epoch chose it (from a filter within batches: what it kept)."""
    subset_size: int
    train: Score
    """Over the epoch's own batches as they were trained on: augmented, with label smoothing and weights."""
    validation: Score
    learning_rate: float
    """At the epoch's end."""
    training_seconds: float
    selection_seconds: float
    evaluation_seconds: float
    samples_visited: int
    """From the start of the run."""


def train(
    classifier: Classifier,
    training: Dataset,
    validation: Dataset,
    selector: Selector,
    budget: int,
    hp: Hyperparameters,
    machine: Machine,
    images: bool,
    interruption: Interruption,
    report: Callable[[EpochReport], None],
    average: MovingAverage | None = None,
) -> None:
    """Train the classifier in place, and its average with it, which is then what is evaluated.

    Raises:
        UserError: the loss is no longer finite.
        Terminated: SIGTERM arrived; the weights are those after the last whole step.
    """
    fraction = 1.0 if budget == len(training) else hp.fraction
    final_share = selector.final_share if isinstance(selector, SoftPruningSelector) else 0.0
    epochs = plan.epochs(hp.epochs, fraction, hp.select_every, hp.warm_fraction, final_share)
    planned = [plan.batch_count(_visits(epoch, budget, len(training)), hp.batch_size) for epoch in epochs]
    steps = sum(planned)
    shorten_batch_norm_memory(classifier, steps)
    optimizer = make_optimizer(classifier, hp, machine)
    scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.needs_loss_scaling)
    gradients = Gradients(classifier, machine, scaler, hp.label_smoothing, hp.microbatch_size)
    augmentation = Augmentation(hp.augmentation, hp.cutout, mean_colour(classifier)) if images else None
    # One generator for each purpose: a strategy that draws more numbers does not change the order of examples.
    for_selection, for_order, for_augmentation = (
        torch.Generator().manual_seed(hp.seed * 3 + purpose) for purpose in range(3)
    )
    subset = everything(len(training))
    visited = 0

    for epoch, planned_steps in zip(epochs, planned, strict=True):
        steps_before = sum(planned[: epoch.number - 1])
        selection_start = time.perf_counter()
        chosen = None
        if not epoch.everything and is_due(selector, epoch):
            if selector.refresh != "every epoch":
                logger.info("epoch %d of %d: choosing %d examples", epoch.number, len(epochs), budget)
            look = epoch.first_on_subset or epoch.selection_due
            subset = chosen = selector.select(budget, for_selection, look)
            if chosen.note and look:
                logger.info("epoch %d of %d: %s", epoch.number, len(epochs), chosen.note)
        batch_filter = None
        if isinstance(selector, FilterSelector) and not epoch.everything:
            batch_filter = selector.filter
        selection_seconds = time.perf_counter() - selection_start

        training_start = time.perf_counter()
        classifier.train()
        current = everything(len(training)) if epoch.everything else subset
        visits = budget if batch_filter else len(current.indices)
        epoch_steps = plan.batch_count(visits, hp.batch_size)
        shuffled = torch.randperm(len(current.indices), generator=for_order)
        indices = current.indices[shuffled]
        # To the device once an epoch: a transfer in every step would wait for the step before.
        on_device = [
            part.to(machine.device).tensor_split(epoch_steps)
            for part in (indices, training.labels[indices], current.weights[shuffled])
        ]
        chances: Sequence[Tensor | None] = [None] * epoch_steps
        if augmentation:
            drawn = augmentation.draw(len(indices), for_augmentation)
            chances = drawn.to(machine.device).tensor_split(epoch_steps)
        kept_counts = [len(part) for part in torch.arange(visits).tensor_split(epoch_steps)]
        inputs = training.batches(indices.tensor_split(epoch_steps), machine.device)
        filtering = Stopwatch(machine.device)
        kept: list[Tensor] = []
        observed: list[Tensor] = []
        # Sums stay on the device: reading one would wait for the step that makes it.
        loss_sum = torch.zeros((), device=machine.device)
        correct = torch.zeros((), device=machine.device, dtype=torch.int64)
        for step, (batch, chance, ids, labels, weight) in enumerate(
            _with_progress(
                zip(inputs, chances, *on_device, strict=True), epoch_steps, f"{epoch.number} of {len(epochs)}"
            )
        ):
            with interruption.deferred():
                if augmentation:
                    batch = augmentation.apply(batch, chance)
                if batch_filter:
                    with filtering.running():
                        losses = losses_in_eval_mode(classifier, batch, labels, machine)
                        positions = batch_filter.keep(losses, ids, kept_counts[step])
                        batch, labels, weight = batch[positions], labels[positions], weight[positions]
                        kept.append(ids[positions])
                losses, hits = gradients.of(batch, labels, weight)
                # An epoch that makes fewer updates than planned passes over its part of the schedule all the same.
                at = steps_before + step * planned_steps / epoch_steps
                set_learning_rate(optimizer, hp, plan.learning_rate_factor(at, steps, hp.warmup_ratio))
                scaler.step(optimizer)
                scaler.update()
                if average:
                    average.update_parameters(classifier)
                loss_sum += torch.dot(losses, weight) / weight.sum() * len(labels)
                correct += hits.sum()
                if isinstance(selector, SoftPruningSelector):
                    observed.append(losses)
        if isinstance(selector, SoftPruningSelector):
            selector.observe(indices, torch.cat(observed).cpu())
        if kept:
            chosen = Subset.of(torch.cat(kept))
        visited += visits
        train_score = Score(float(loss_sum) / visits, int(correct) / visits)
        filtering_seconds = filtering.seconds()
        selection_seconds += filtering_seconds
        training_seconds = time.perf_counter() - training_start - filtering_seconds
        if not math.isfinite(train_score.loss):
            raise UserError(
                f"training diverged in epoch {epoch.number}: the loss is {train_score.loss}; "
                f"learning_rate={hp.learning_rate:g} with batch_size={hp.batch_size} is likely too high for this model"
            )

        evaluation_start = time.perf_counter()
        evaluated = average.module if average else classifier
        validation_score = evaluate(evaluated, validation, machine, hp.test_time_flip and images)
        evaluation_seconds = time.perf_counter() - evaluation_start
        with interruption.deferred():
            report(
                EpochReport(
                    epoch=epoch,
                    subset=chosen,
                    subset_size=visits,
                    train=train_score,
                    validation=validation_score,
                    learning_rate=hp.learning_rate
                    * plan.learning_rate_factor(steps_before + planned_steps, steps, hp.warmup_ratio),
                    training_seconds=training_seconds,
                    selection_seconds=selection_seconds,
                    evaluation_seconds=evaluation_seconds,
                    samples_visited=visited,
                )
            )


def is_due(selector: Selector, epoch: plan.Epoch) -> bool:
    """Whether the subset is chosen anew before this epoch."""
    if selector.refresh == "every epoch":
        return True
    return epoch.first_on_subset or (selector.refresh == "periodically" and epoch.selection_due)


def make_optimizer(classifier: nn.Module, hp: Hyperparameters, machine: Machine) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; weight decay on matrices and kernels alone."""
    decayed = [parameter for parameter in classifier.parameters() if parameter.ndim > 1]
    exempt = [parameter for parameter in classifier.parameters() if parameter.ndim <= 1]
    return SGD(
        [{"params": decayed, "weight_decay": hp.weight_decay}, {"params": exempt, "weight_decay": 0.0}],
        lr=hp.learning_rate,
        momentum=hp.momentum,
        nesterov=hp.momentum > 0,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, hp: Hyperparameters, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = hp.learning_rate * factor


def mean_colour(classifier: Classifier) -> Tensor | None:
    """[3, 1, 1] uint8: what normalisation takes to zero; None for tables."""
    return None if classifier.mean is None else (255 * classifier.mean[0]).round().to(torch.uint8)


def shorten_batch_norm_memory(classifier: nn.Module, steps: int) -> None:
    """Let batch normalisation's running statistics follow faster in a run of few updates.

    At torch's momentum of 0.1 they look back over some thirty batches. A small subset makes hardly more updates than
    that in all, so that evaluation would use statistics of weights long gone.
    """
    momentum = min(0.5, max(0.1, 20 / steps))
    for module in classifier.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum == 0.1:
            module.momentum = momentum


def _visits(epoch: plan.Epoch, budget: int, examples: int) -> int:
    return examples if epoch.everything else budget


def _with_progress(batches: Iterable[Any], steps: int, epoch: str) -> Iterator[Any]:
    """The epoch's batches; says how far it is, every half minute."""
    last_said = time.monotonic()
    for step, item in enumerate(batches):
        if time.monotonic() - last_said >= PROGRESS_SECONDS:
            last_said = time.monotonic()
            logger.info("epoch %s: step %d of %d", epoch, step, steps)
        yield item


def totals(reports: list[EpochReport]) -> dict[str, Any]:
    """The run's totals, for summary.json."""
    if not reports:
        return {
            "validation": None,
            "best_validation_accuracy": None,
            "best_epoch": None,
            "samples_visited": 0,
        }
    best = max(reports, key=lambda report: report.validation.accuracy)
    last = reports[-1]
    return {
        "validation": {"loss": last.validation.loss, "accuracy": last.validation.accuracy},
        "best_validation_accuracy": best.validation.accuracy,
        "best_epoch": best.epoch.number,
        "samples_visited": last.samples_visited,
    }
