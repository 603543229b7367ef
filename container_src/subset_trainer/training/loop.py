"""The training loop: select, train, evaluate, report."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from subset_selection import Subset
from subset_trainer.training.batches import Batches
from subset_trainer.training.checkpoints import Checkpoints
from subset_trainer.training.devices import Lap, Stopwatch
from subset_trainer.training.divergence import Watch
from subset_trainer.training.interruption import Terminated
from subset_trainer.training.measures import Score
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Epoch, Plan
from subset_trainer.training.reports import EpochReport
from subset_trainer.training.rounds import Choice, Data, Selector, everything
from subset_trainer.training.saving import Saving
from subset_trainer.training.state import RunState, Within
from subset_trainer.training.trainee import Trainee

logger = logging.getLogger(__name__)
T = TypeVar("T")
PROGRESS_SECONDS = 30


def train(
    trainee: Trainee,
    data: Data,
    selector: Selector,
    plan: Plan,
    report: Callable[[EpochReport], None] = lambda report: None,
    checkpoints: Checkpoints | None = None,
    restore: Callable[[list[EpochReport]], None] = lambda reports: None,
) -> None:
    """Train the trainee in place.

    If several processes train together, each calls this with the same arguments and its own place. Only the first
    process passes a ``report`` and ``checkpoints`` that have an effect.

    With checkpoints, a killed run resumes where it stopped.

    Args:
        trainee: the model and everything that a step changes.
        data: the training and validation sets.
        selector: selects each epoch's examples.
        plan: the epochs, batch sizes and learning rates.
        report: called with the report of each epoch.
        checkpoints: None: no checkpoint is written.
        restore: called on resuming, with the reports of the completed epochs, without their subsets.

    Raises:
        UserError: the loss is not finite, or the checkpoint belongs to another run.
        Terminated: SIGTERM arrived; the weights are those after the last complete step.
    """
    place, ranks, deferred = trainee.place, trainee.place.ranks, trainee.place.interruption.deferred
    state = RunState(trainee.modules(), plan.generators(), selector, everything(plan.examples))
    saving = Saving(state, trainee.classifier, plan, place, checkpoints)
    if saving.resume():
        restore(list(state.done))
    try:
        for epoch in plan.epochs[len(state.done) :]:
            choice = _choice(epoch, selector, state, place)

            lap = Lap()
            trainee.classifier.train()
            batches = Batches(choice, data, plan, place, state.generators, trainee.augmentation)
            within = state.within.begun(place.device, choice.size)
            watch = Watch(epoch.number, within.step, batches.steps, plan, place.device)
            filtering = Stopwatch(place.device)
            for batch in _with_progress(batches.after(within.step), epoch, within.step, batches.steps):
                with deferred():
                    batch = batch.augmented(trainee.augmentation)
                    if choice.filter:
                        with filtering.running():
                            losses, count = trainee.losses(batch), batches.sizes[within.step]
                            batch = batch.filtered(choice.filter, losses, count, ranks)
                            within.kept.append(batch.ids)
                    losses, hits = trainee.step(batch, plan.rate(epoch, within.step, batches.steps))
                    loss_sum = within.add(batch, losses, hits, batches.starts[within.step])
                watch.look(within.step, loss_sum)
                stop, due = ranks.pulse(saving.due())
                if stop:
                    raise Terminated
                if due:
                    within.training_seconds += lap()
                    saving.save()
            watch.end(trainee.classifier)

            mean_loss, accuracy, observed = within.ended(ranks)
            kept = Subset.of(torch.cat(within.kept)) if within.kept else None
            seen = kept or batches.read
            selector.observe(seen.indices, observed)
            filtering_seconds = filtering.seconds()
            training_seconds = within.training_seconds + lap() - filtering_seconds
            score = trainee.evaluate(data.validation)
            evaluation_seconds = lap()
            with deferred():
                state.visited += choice.size
                trainee.record.observe(seen, observed)
                state.done.append(
                    EpochReport(
                        epoch=epoch,
                        subset=kept or within.chosen,
                        subset_size=choice.size,
                        train=Score(mean_loss, accuracy),
                        validation=score,
                        learning_rate=plan.rate(epoch, batches.steps, batches.steps),
                        training_seconds=training_seconds,
                        selection_seconds=within.selection_seconds + filtering_seconds,
                        evaluation_seconds=evaluation_seconds,
                        samples_visited=state.visited,
                    )
                )
                report(state.done[-1])
                state.mark()
                state.within = Within()
                saving.save(last=epoch is plan.epochs[-1])
    except Terminated:
        saving.save(last=True)
        raise


def _choice(epoch: Epoch, selector: Selector, state: RunState, place: Place) -> Choice:
    """What the epoch trains on. It is selected now, unless the run resumes within the epoch."""
    if not state.within.selected:
        lap = Lap()
        chosen = None if epoch.everything else selector.choose(epoch, state.generators["selection"])
        with place.interruption.deferred():
            state.choice = chosen or state.choice
            state.mark()
            state.within.chosen = chosen.subset if chosen else None
            state.within.selected = True
            state.within.selection_seconds = lap()
    return Choice(state.everything) if epoch.everything else state.choice


def _with_progress(batches: Iterable[T], epoch: Epoch, first: int, steps: int) -> Iterator[T]:
    """Iterate over the epoch's batches, numbered from ``first``, and log the progress every half minute."""
    last_said = time.monotonic()
    for step, batch in enumerate(batches, first):
        if time.monotonic() - last_said >= PROGRESS_SECONDS:
            last_said = time.monotonic()
            logger.info("%s: step %d of %d", epoch, step, steps)
        yield batch
