"""The training loop: select, train, evaluate, report."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from subset_selection import Subset
from subset_trainer.tracking.metrics import spoken_time
from subset_trainer.training.batches import Batch, Batches
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
PROGRESS_SECONDS = 30
PACE_STEPS, PACE_SECONDS = 10, 10.0


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
    state = RunState(trainee.modules(), plan.generators(), selector, everything(plan.examples))
    saving = Saving(state, trainee.classifier, plan, trainee.place, checkpoints)
    if saving.resume():
        restore(list(state.done))
    elif rank := trainee.place.ranks.rank:
        # Each process draws its own dropout. The first one's numbers stay those of a process alone.
        torch.manual_seed(int(np.random.SeedSequence((plan.seed, rank)).generate_state(1)[0]))
    course = _Course(trainee, data, selector, plan, state, saving)
    begun = plan.epochs[len(state.done) :]
    try:
        for epoch in begun:
            course.epoch(epoch, report, paced=epoch is begun[0])
    except Terminated:
        saving.save(last=True)
        raise


@dataclass(frozen=True)
class _Course:
    """The epochs of a run, one after another."""

    trainee: Trainee
    data: Data
    selector: Selector
    plan: Plan
    state: RunState
    saving: Saving

    def epoch(self, epoch: Epoch, report: Callable[[EpochReport], None], paced: bool) -> None:
        """Select, train, evaluate and report. `paced`: whether the time of the epoch is said ahead."""
        trainee, state, plan, place = self.trainee, self.state, self.plan, self.trainee.place
        choice = _choice(epoch, self.selector, state, place)

        lap = Lap()
        trainee.classifier.train()
        visits_N = trainee.record.visits_N
        batches = Batches(choice, self.data, plan, place, state.generators, trainee.augmentation, visits_N)
        within = state.within.begun(place.device, choice.size)
        filtering = Stopwatch(place.device)
        self._steps(epoch, batches, within, _Filter(choice, filtering), lap, paced)

        mean_loss, accuracy, observed, choices = within.ended(place.ranks)
        kept = Subset.of(torch.cat(within.kept)) if within.kept else None
        seen = kept or batches.read
        self.selector.observe(seen.indices, observed)
        filtering_seconds = filtering.seconds()
        training_seconds = within.training_seconds + lap() - filtering_seconds
        score = trainee.evaluate(self.data.validation)
        evaluation_seconds = lap()
        with place.interruption.deferred():
            state.visited += choice.size
            trainee.record.observe(seen, observed)
            if 2 * epoch.number <= epoch.count:
                trainee.record.observe_choices(seen, choices, score.accuracy)
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
            self.saving.save(last=epoch is plan.epochs[-1])

    def _steps(
        self, epoch: Epoch, batches: Batches, within: Within, chosen: "_Filter", lap: Lap, paced: bool
    ) -> None:
        """Take the epoch's steps that are left. Raises Terminated on SIGTERM, after a complete step."""
        trainee, plan, place = self.trainee, self.plan, self.trainee.place
        watch = Watch(epoch.number, within.step, batches.steps, plan, place.device)
        pace = Pace(batches.steps) if paced else None
        for batch in _with_progress(batches.after(within.step), epoch, within.step, batches.steps, pace):
            with place.interruption.deferred():
                batch = batch.augmented(trainee.augmentation)
                batch = chosen.of(batch, trainee, batches.sizes[within.step], within)
                losses, choices = trainee.step(batch, plan.rate(epoch, within.step, batches.steps))
                loss_sum = within.add(batch, losses, choices, batches.starts[within.step])
            watch.look(within.step, loss_sum)
            stop, due = place.ranks.pulse(self.saving.due())
            if stop:
                raise Terminated
            if due:
                within.training_seconds += lap()
                self.saving.save()
        watch.end(trainee.classifier)


@dataclass(frozen=True)
class _Filter:
    """Leaves examples out of batches, where the epoch's choice does, and takes the time of it."""

    choice: Choice
    watch: Stopwatch

    def of(self, batch: Batch, trainee: Trainee, size: int, within: Within) -> Batch:
        """Return the batch, of `size` examples over all processes, that is trained on."""
        if not self.choice.filter:
            return batch
        with self.watch.running():
            losses = trainee.losses(batch)
            batch = batch.filtered(self.choice.filter, losses, size, trainee.place.ranks)
            within.kept.append(batch.ids)
        return batch


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


class Pace:
    """Estimates once how long an epoch takes, by its first steps: at least ten, and at least ten seconds.

    The first step is left out, because it also starts workers and chooses kernels. A shorter epoch is not estimated:
    its report gives its time.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._begun: float | None = None
        self._counted = -1

    def step(self, now: float, pixels: tuple[int, ...] = ()) -> str | None:
        """Called before each step, with the time in seconds; returns the sentence when it is known.

        Args:
            pixels: (H, W) of the images that are trained on, which the time depends on; empty for other data.
        """
        self._counted += 1
        if self._counted == 1:
            self._begun = now
        if self._begun is None or self._counted <= PACE_STEPS or now - self._begun < PACE_SECONDS:
            return None
        seconds, steps = now - self._begun, self._counted - 1
        self._begun, self._counted = None, PACE_STEPS  # said once
        images = f" with images of {pixels[0]} x {pixels[1]} pixels (image_size)" if pixels else ""
        epoch = spoken_time(seconds / steps * self._steps)
        return (
            f"an epoch of {self._steps:,} steps{images} takes about {epoch}, beside "
            f"selection and evaluation: {steps:,} steps took {seconds:.1f} s"
        )


def _with_progress(
    batches: Iterable[Batch], epoch: Epoch, first: int, steps: int, pace: Pace | None = None
) -> Iterator[Batch]:
    """Iterate over the epoch's batches, numbered from ``first``, and log the progress every half minute."""
    last_said = time.monotonic()
    for step, batch in enumerate(batches, first):
        now = time.monotonic()
        images = batch.inputs.ndim == 4
        if pace and (said := pace.step(now, tuple(batch.inputs.shape[-2:]) if images else ())):
            logger.info("%s", said)
        if now - last_said >= PROGRESS_SECONDS:
            last_said = now
            logger.info("%s: step %d of %d", epoch, step, steps)
        yield batch
