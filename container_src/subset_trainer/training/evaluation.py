"""Evaluation of a model on a data set: its measures, and the outputs that selection and insights need."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from subset_selection import Pool
from subset_selection.embedding import collect
from subset_selection.storage import Embeddings
from subset_trainer.data import Dataset
from subset_trainer.models import Classifier
from subset_trainer.training.embeddings import take
from subset_trainer.training.measures import Predictions, Score, Tally
from subset_trainer.training.out_of_memory import Parts
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.place import Place

LEAST_PROBABILITY = 1e-12
BATCH = 512
SMALL_BATCH_ON_A_CPU = 64
"""Batch size for large layers on a CPU. Batches of images then fit in its caches, which is a tenth (ResNet-18) to a
fifth (cnn) faster than the larger batch. Text encoders have wider layers, and the smaller batch limits their memory."""


def _in_order(dataset: Dataset, classifier: Classifier, place: Place) -> list[Tensor]:
    """This process's batches of a pass over the data set, as indices."""
    small = place.device.type == "cpu" and classifier.has_large_layers
    return place.ranks.passing(dataset, SMALL_BATCH_ON_A_CPU if small else BATCH)


def evaluate(classifier: Classifier, dataset: Dataset, place: Place, flip: bool = False) -> Score:
    """The measures of :func:`predict`, without the predictions."""
    return _evaluate(classifier, dataset, place, flip)[0]


def predict(
    classifier: Classifier, dataset: Dataset, place: Place, flip: bool = False
) -> tuple[Score, Predictions | None]:
    """The measures in eval mode, without augmentation or label smoothing, over all processes, and the predictions for
    each example; None where the labels are no classes. Every process returns the same.

    Args:
        classifier: the model; it is left in eval mode.
        dataset: the examples.
        place: the device and the processes.
        flip: whether to average an image's logits over the image and its mirror image.

    Raises:
        Terminated: SIGTERM has reached one of several processes.
    """
    score, tally, order = _evaluate(classifier, dataset, place, flip)
    if dataset.labels.is_floating_point():
        return score, None
    return score, tally.predictions(place.ranks, order)


@torch.inference_mode()
def _evaluate(
    classifier: Classifier, dataset: Dataset, place: Place, flip: bool
) -> tuple[Score, Tally, list[Tensor]]:
    """The measures, this process's tally, and its batches as indices."""
    machine, ranks = place.machine, place.ranks
    ranks.same_buffers(classifier)
    classifier.eval()
    loss = torch.zeros((), device=machine.device, dtype=torch.float64)
    correct = torch.zeros((), device=machine.device, dtype=torch.int64)
    tally = Tally(classifier.head.out_features)
    order = _in_order(dataset, classifier, place)
    parts = Parts()
    for indices, inputs in ranks.until_asked(zip(order, dataset.batches(order, machine.device), strict=True)):
        labels = dataset.labels[indices].to(machine.device, non_blocking=True)
        with machine.autocast():
            logits = parts.of(classifier, inputs)
            if flip:
                logits = (logits + parts.of(classifier, inputs.flip(3))) / 2
        loss += classifier.objective.loss_sum(logits, labels)
        correct += classifier.objective.scores(logits, labels).sum()
        if not labels.is_floating_point():  # measures of classes, not of a regression
            tally.add(logits, labels)
    ranks.check()
    mean_loss, accuracy = float(ranks.total(loss)) / len(dataset), int(ranks.total(correct)) / len(dataset)
    if dataset.labels.is_floating_point():
        return Score(mean_loss, accuracy), tally, order
    return tally.score(mean_loss, accuracy, ranks, machine.device), tally, order


@torch.inference_mode()
def look_at(classifier: Classifier, dataset: Dataset, place: Place) -> tuple[Pool, Tensor]:
    """Compute the logits and last-layer features of this process's examples, in data order.

    They are stored on the device, in memory or in a file, in float32 or float16; see :mod:`subset_selection.storage`
    and :mod:`~subset_trainer.training.embeddings`.

    Returns:
        a pool of this process's examples, and their indices, int64.

    Raises:
        Terminated: SIGTERM has reached one of several processes.
        UserError: neither memory nor the disk has enough space.
    """
    machine, ranks = place.machine, place.ranks
    ranks.same_buffers(classifier)
    classifier.eval()
    order = _in_order(dataset, classifier, place)
    own = torch.cat(order) if order else torch.empty(0, dtype=torch.int64)

    def room(*widths: int) -> Embeddings:
        return Embeddings(len(own), widths, machine.device, len(dataset), ranks.allocate)

    parts = Parts()

    def outputs() -> Iterator[tuple[Tensor, Tensor]]:
        for inputs in ranks.until_asked(dataset.batches(order, machine.device)):
            with machine.autocast():
                made = parts.of(classifier.logits_and_features, inputs)
            yield made

    found = collect(outputs(), room)
    ranks.check()
    # If there are more processes than batches, a process without batches needs empty columns of the same widths.
    found = found or room(classifier.head.out_features, classifier.head.in_features)
    logits_NC, features_ND = found.columns
    labels_N = dataset.labels[own].to(logits_NC.device)
    keep = partial(take, processes=ranks.local_size)
    return Pool(labels_N, logits_NC, features_ND, keep=keep, loss=classifier.objective), own


@dataclass(frozen=True)
class Judgement:
    """A model's outputs for N labelled examples in eval mode; on the CPU."""

    own: Tensor
    """[N] float32: the predicted probability of the label."""
    rival: Tensor
    """[N] float32: the largest predicted probability of another class."""
    rival_class: Tensor
    """[N] int64: the class with this probability."""
    probabilities: Tensor
    """[N, C] float32, if they were requested; else [N, 0]."""
    fingerprints: Tensor
    """[N, K]: the fingerprints of the inputs; [N, 0] without ``fingerprint``."""
    observed: Tensor
    """[N, K] float32: what ``observe`` returned; [N, 0] without it."""

    @property
    def margins(self) -> Tensor:
        """[N] from -1 to 1; an example with a margin of at least 0 is classified as labelled."""
        return self.own - self.rival

    @property
    def losses(self) -> Tensor:
        """[N] in nats, never infinite."""
        return -self.own.clamp(min=LEAST_PROBABILITY).log()

    def predicted(self, labels_N: Tensor) -> Tensor:
        return torch.where(self.margins >= 0, labels_N, self.rival_class)


@torch.inference_mode()
def judge(
    classifier: Classifier,
    dataset: Dataset,
    place: Place,
    fingerprint: Callable[[Tensor], Tensor] | None = None,
    keep_probabilities: bool = False,
    observe: Callable[[Tensor, Tensor, Tensor | None], Tensor] | None = None,
) -> Judgement:
    """Evaluate all examples in one pass. Every process returns the same result.

    Args:
        classifier: the model; it is left in eval mode.
        dataset: the examples.
        place: the device and the processes.
        fingerprint: raw inputs [B, …] → [B, K].
        keep_probabilities: whether to keep the probabilities of all classes, which takes 4·C bytes per example.
        observe: raw inputs [B, …], last-layer features [B, D] and images' original sizes ([B, 2] or None) → [B, K]
            float32.

    Raises:
        Terminated: SIGTERM has reached one of several processes.
    """
    machine, ranks = place.machine, place.ranks
    ranks.same_buffers(classifier)
    classifier.eval()
    order = _in_order(dataset, classifier, place)
    count, done = sum(map(len, order)), 0
    found: list[Tensor] = []
    parts = Parts()
    for indices, inputs in ranks.until_asked(zip(order, dataset.batches(order, machine.device), strict=True)):
        with machine.autocast():
            if observe is None:
                logits, observed = parts.of(classifier, inputs), inputs[:, :0].flatten(1)
            else:
                logits, features = parts.of(classifier.logits_and_features, inputs)
                observed = observe(inputs, features, dataset.original_sizes(indices))
        labels = dataset.labels[indices].to(machine.device, non_blocking=True)[:, None]
        probabilities = classifier.objective.answer(logits)
        own = probabilities.gather(1, labels).flatten()
        rival, rival_class = probabilities.scatter(1, labels, -1.0).max(1)
        prints = inputs[:, :0].flatten(1) if fingerprint is None else fingerprint(inputs)
        kept = probabilities if keep_probabilities else probabilities[:, :0]
        batch = (own, rival, rival_class, kept, prints, observed)
        found = found or [_room_for(part, count, ranks) for part in batch]
        for column, part in zip(found, batch, strict=True):
            column[done : done + len(part)] = part
        done += len(indices)
    ranks.check()
    return Judgement(*ranks.in_order(tuple(found), order))


def _room_for(like: Tensor, rows: int, ranks: Ranks) -> Tensor:
    """An empty column for rows like these, on the CPU, or in a file if it needs more memory than is available."""
    if like.ndim == 2 and like.is_floating_point():
        return ranks.allocate(rows, [(like.shape[1], like.dtype)], torch.device("cpu"))[0]
    return torch.empty(rows, *like.shape[1:], dtype=like.dtype)


@torch.no_grad()
def losses_in_eval_mode(classifier: Classifier, inputs: Tensor, labels: Tensor, place: Place) -> Tensor:
    """The losses of a training batch, [B], in eval mode, so that the statistics of batch normalisation do not change.

    The classifier is left in training mode. All processes judge by the statistics of the first, which checkpoints hold.
    """
    place.ranks.same_buffers(classifier)
    classifier.eval()
    with place.machine.autocast():
        logits = Parts().of(classifier, inputs)
    classifier.train()
    return classifier.objective.losses(logits, labels)
