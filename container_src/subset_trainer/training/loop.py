"""The training loop: select, train, evaluate, report."""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from subset_selection import Subset
from subset_trainer.data import Dataset
from subset_trainer.hyperparameters import Hyperparameters
from subset_trainer.models import Classifier
from subset_trainer.training import divergence, plan
from subset_trainer.training.augmentation import Augmentation
from subset_trainer.training.averaging import MovingAverage
from subset_trainer.training.checkpoints import Checkpoints
from subset_trainer.training.devices import Machine, Stopwatch
from subset_trainer.training.evaluation import Score, evaluate, losses_in_eval_mode
from subset_trainer.training.gradients import Gradients
from subset_trainer.training.interruption import Terminated
from subset_trainer.training.optimizer import SGD, AdamW
from subset_trainer.training.ranks import Ranks
from subset_trainer.training.record import Record
from subset_trainer.training.rounds import FilterSelector, Selector, SoftPruningSelector, everything
from subset_trainer.training.shares import Share
from subset_trainer.training.state import RunState, Stateful, Within

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
    ranks: Ranks,
    report: Callable[[EpochReport], None],
    average: MovingAverage | None = None,
    checkpoints: Checkpoints | None = None,
    restore: Callable[[list[EpochReport]], None] = lambda reports: None,
    importance: Tensor | None = None,
    record: Record | None = None,
) -> None:
    """Train the classifier in place, and its average with it, which is then what is evaluated.

    importance [N] float32: what each example's loss counts besides the weight that selection gives it; None: all alike.

    Where several processes train together, each calls this with the same arguments, its own ``ranks`` and, but for the
    first, a ``report`` and ``checkpoints`` that do nothing.

    With checkpoints, a run that was killed goes on where it was; ``restore`` is called with the reports of the epochs
    that are done, which lack their subsets. ``record`` keeps what training sees of each example.

    Raises:
        UserError: the loss is no longer finite, or the checkpoint is another run's.
        Terminated: SIGTERM arrived; the weights are those after the last whole step.
    """
    fraction = 1.0 if budget == len(training) else hp.fraction
    final_share = selector.final_share if isinstance(selector, SoftPruningSelector) else 0.0
    epochs = plan.epochs(hp.epochs, fraction, hp.select_every, hp.warm_fraction, final_share)
    interruption = ranks.interruption
    planned = [
        plan.batch_count(_visits(epoch, budget, len(training)), hp.batch_size, ranks.size) for epoch in epochs
    ]
    steps = sum(planned)
    shorten_batch_norm_memory(classifier, steps)
    optimizer = make_optimizer(classifier, hp, machine)
    scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.needs_loss_scaling)
    network = ranks.wrap(classifier)
    gradients = Gradients(network, machine, ranks, scaler, hp.label_smoothing, hp.microbatch_size)
    augmentation = Augmentation(hp.augmentation, hp.cutout, mean_colour(classifier)) if images else None
    # One generator for each purpose: a strategy that draws more numbers does not change the order of examples.
    for_selection, for_order, for_augmentation = (
        torch.Generator().manual_seed(hp.seed * 3 + purpose) for purpose in range(3)
    )
    record = record or Record(len(training))
    modules: dict[str, Stateful] = {
        "record": record,
        "classifier": classifier,
        "optimizer": optimizer,
        "scaler": scaler,
        "gradients": gradients,
    }
    if average:
        modules["average"] = average
    generators = {"selection": for_selection, "order": for_order, "augmentation": for_augmentation}
    state = RunState(modules, generators, selector, everything(len(training)))
    within = Within()
    done: list[EpochReport] = []
    if gathered := ranks.from_first(lambda: checkpoints.load() if checkpoints else None):
        within = state.load_state_dict(gathered)
        within.take_own(ranks.rank)
        done = [_report_of(packed, epochs) for packed in gathered["reports"]]
        restore(done)
        at = f"epoch {len(done) + 1}, step {within.step}" if len(done) < len(epochs) else "its end"
        logger.info("going on from a checkpoint: %d of %d epochs are done (%s)", len(done), len(epochs), at)

    keeps_checkpoints = ranks.from_first(lambda: checkpoints is not None)

    def save(last: bool = False) -> None:
        if not keeps_checkpoints:
            return
        with interruption.deferred():
            summed = within.summed(ranks.total)
            if within.loss_sum is not None:
                # Each process's own, since sums in another order have other last bits.
                own = slice(ranks.rank, ranks.rank + 1)
                summed.loss_sum = ranks.whole(within.loss_sum.view(1), own, ranks.size)
            # Nothing goes on from weights that are not finite: the checkpoint before stays the last one.
            if checkpoints and divergence.finite(classifier):
                packed = [_packed_report(earlier) for earlier in done]
                gathered = {**state.gather(summed), "reports": packed}
                checkpoints.save(len(done) + 1, within.step, gathered, last)

    try:
        for epoch, planned_steps in list(zip(epochs, planned, strict=True))[len(done) :]:
            steps_before = sum(planned[: epoch.number - 1])
            if not within.selected:
                selection_start = time.perf_counter()
                chosen = None
                if not epoch.everything and is_due(selector, epoch):
                    if selector.refresh != "every epoch":
                        logger.info("epoch %d of %d: choosing %d examples", epoch.number, len(epochs), budget)
                    look = epoch.first_on_subset or epoch.selection_due
                    chosen = selector.select(budget, for_selection, look)
                    if chosen.note and look:
                        logger.info("epoch %d of %d: %s", epoch.number, len(epochs), chosen.note)
                with interruption.deferred():
                    state.subset = chosen or state.subset
                    state.mark()
                    within.chosen, within.selected = chosen, True
                    within.selection_seconds = time.perf_counter() - selection_start
            batch_filter = None
            if isinstance(selector, FilterSelector) and not epoch.everything:
                batch_filter = selector.filter

            training_start = time.perf_counter()
            classifier.train()
            current = everything(len(training)) if epoch.everything else state.subset
            visits = budget if batch_filter else len(current.indices)
            epoch_steps = plan.batch_count(visits, hp.batch_size, ranks.size)
            shuffled = torch.randperm(len(current.indices), generator=for_order)
            if training.owners is not None:
                # Else a process would have many of one batch's examples and few of the next one's.
                shuffled = shuffled[plan.spread_evenly(training.owners[current.indices[shuffled]])]
            indices = current.indices[shuffled]
            weights = current.weights[shuffled]
            if importance is not None:
                weights = weights * importance[indices]
            # To the device once an epoch: a transfer in every step would wait for the step before.
            on_device = [
                part.to(machine.device).tensor_split(epoch_steps)[within.step :]
                for part in (indices, training.labels[indices], weights)
            ]
            chances: Sequence[Tensor | None] = [None] * epoch_steps
            if augmentation:
                drawn = augmentation.draw(len(indices), for_augmentation)
                chances = drawn.to(machine.device).tensor_split(epoch_steps)
            kept_counts = [len(part) for part in torch.arange(visits).tensor_split(epoch_steps)]
            starts = [0, *itertools.accumulate(kept_counts)]
            shares = [
                Share.of(part, training, ranks) for part in indices.tensor_split(epoch_steps)[within.step :]
            ]
            inputs = training.batches([share.indices for share in shares], machine.device)
            filtering = Stopwatch(machine.device)
            # Sums stay on the device: reading one would wait for the step that makes it.
            within.loss_sum = _on(machine, within.loss_sum, torch.float32)
            within.correct = _on(machine, within.correct, torch.int64)
            within.observed = _on(machine, within.observed, torch.float32, visits)
            watch = divergence.Watch(epoch.number, within.step, epoch_steps, hp, machine)
            for batch, share, chance, ids, labels, weight in _with_progress(
                zip(inputs, shares, chances[within.step :], *on_device, strict=True),
                within.step,
                epoch_steps,
                f"{epoch.number} of {len(epochs)}",
            ):
                with interruption.deferred():
                    own = share.on(machine.device)
                    if augmentation:
                        batch = augmentation.apply(batch, share.filled_up(chance[own]))
                    if batch_filter:
                        with filtering.running():
                            own_losses = losses_in_eval_mode(
                                classifier, batch, share.filled_up(labels[own]), machine
                            )
                            losses = ranks.whole(share.counted(own_losses), own, len(ids))
                            positions = batch_filter.keep(losses, ids, kept_counts[within.step])
                            batch = ranks.shared_anew(share.counted(batch), own, len(ids), positions)
                            labels, weight = labels[positions], weight[positions]
                            share = Share(ids[:0], ranks.share(len(positions)))
                            own = share.places
                            within.kept.append(ids[positions])
                    total = weight.sum()
                    losses, hits = map(
                        share.counted,
                        gradients.of(
                            batch, share.filled_up(labels[own]), share.filled_up(weight[own]), total
                        ),
                    )
                    # An epoch that makes fewer updates than planned passes over its part of the schedule all the same.
                    at_step = steps_before + within.step * planned_steps / epoch_steps
                    factor = plan.learning_rate_factor(at_step, steps, hp.warmup_ratio)
                    set_learning_rate(optimizer, hp, factor)
                    scaler.step(optimizer)
                    scaler.update()
                    if average:
                        average.update_parameters(classifier)
                    within.loss_sum += torch.dot(losses, weight[own]) / total * len(labels)
                    within.correct += hits.sum()
                    place = starts[within.step]
                    within.observed[place : place + len(labels)][own] = losses
                    within.step += 1
                watch.look(within.step, within.loss_sum)
                stop, due = ranks.pulse(checkpoints is not None and checkpoints.due())
                if stop:
                    raise Terminated
                if due:
                    now = time.perf_counter()
                    within.training_seconds += now - training_start
                    training_start = now
                    save()
            watch.end(classifier)
            summed = within.summed(ranks.total)
            assert summed.observed is not None
            if isinstance(selector, SoftPruningSelector):
                selector.observe(indices, summed.observed.cpu())
            kept = Subset.of(torch.cat(within.kept)) if within.kept else None
            chosen = kept or within.chosen
            assert summed.loss_sum is not None
            assert summed.correct is not None
            train_score = Score(float(summed.loss_sum) / visits, int(summed.correct) / visits)
            filtering_seconds = filtering.seconds()
            spent = time.perf_counter() - training_start - filtering_seconds

            evaluation_start = time.perf_counter()
            evaluated = average.module if average else classifier
            validation_score = evaluate(evaluated, validation, machine, ranks, hp.test_time_flip and images)
            evaluation_seconds = time.perf_counter() - evaluation_start
            with interruption.deferred():
                state.visited += visits
                record.observe(kept or Subset(indices, current.weights[shuffled]), summed.observed.cpu())
                done.append(
                    EpochReport(
                        epoch=epoch,
                        subset=chosen,
                        subset_size=visits,
                        train=train_score,
                        validation=validation_score,
                        learning_rate=hp.learning_rate
                        * plan.learning_rate_factor(steps_before + planned_steps, steps, hp.warmup_ratio),
                        training_seconds=within.training_seconds + spent,
                        selection_seconds=within.selection_seconds + filtering_seconds,
                        evaluation_seconds=evaluation_seconds,
                        samples_visited=state.visited,
                    )
                )
                report(done[-1])
                state.mark()
                within = Within()
                save(last=len(done) == len(epochs))
    except Terminated:
        save(last=True)
        raise


def _on(machine: Machine, value: Tensor | None, dtype: torch.dtype, *shape: int) -> Tensor:
    """What is summed up so far, zero at an epoch's beginning, on the device."""
    return (
        torch.zeros(shape, device=machine.device, dtype=dtype) if value is None else value.to(machine.device)
    )


def _packed_report(report: EpochReport) -> dict[str, Any]:
    """Without its subset, which is a file of its own."""
    return {
        **vars(report),
        "epoch": report.epoch.number,
        "subset": None,
        "train": list(astuple(report.train)),
        "validation": list(astuple(report.validation)),
    }


def _report_of(packed: dict[str, Any], epochs: Sequence[plan.Epoch]) -> EpochReport:
    scores = {name: Score(*packed[name]) for name in ("train", "validation")}
    return EpochReport(**{**packed, **scores, "epoch": epochs[packed["epoch"] - 1]})


def is_due(selector: Selector, epoch: plan.Epoch) -> bool:
    """Whether the subset is chosen anew before this epoch."""
    if selector.refresh == "every epoch":
        return True
    return epoch.first_on_subset or (selector.refresh == "periodically" and epoch.selection_due)


def make_optimizer(classifier: nn.Module, hp: Hyperparameters, machine: Machine) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, for encoders of texts AdamW; weight decay on matrices and kernels alone."""
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    exempt = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": hp.weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    if hp.model == "encoder":
        return AdamW(groups, lr=hp.learning_rate, fused=True)
    return SGD(
        groups,
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


def _with_progress(batches: Iterable[Any], first: int, steps: int, epoch: str) -> Iterator[Any]:
    """The epoch's batches from the first on; says how far it is, every half minute."""
    last_said = time.monotonic()
    for step, item in enumerate(batches, first):
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
