"""Reads channels into training, validation and test sets, with the preprocessing fitted on the training examples."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch

from subset_selection.catalogue import TrainsOn
from subset_trainer.config.data import MOST_IMAGE_PIXELS
from subset_trainer.data.agreement import agreed
from subset_trainer.data.channels import Channel
from subset_trainer.data.class_names import check_classes
from subset_trainer.data.datasets import Dataset, JoinedDataset
from subset_trainer.data.formats.format import Found, Options
from subset_trainer.data.formats.reading import read as read_channel
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.hosts import Names, Shard, Shards
from subset_trainer.data.ids import Ids
from subset_trainer.data.images.unreadable import LeftOut
from subset_trainer.data.kinds import registry as kinds
from subset_trainer.data.kinds.kind import Kind, Source
from subset_trainer.data.loading import Fitting, Loading
from subset_trainer.data.machine import memory_available
from subset_trainer.data.repeated import repeated
from subset_trainer.data.texts.tokens import Tokens
from subset_trainer.data.understanding import Decision, Understanding
from subset_trainer.errors import UserError
from subset_trainer.objectives import CLASSIFICATION, Objective

TEST_SEED = 0
"""All runs of a comparison are tested on the same examples, whatever their seed."""
_LEAST_WEIGHT = np.float32(0.01)


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Splits:
    """The data sets of a run.

    `notes`: sentences to log about what was found, decoded, left out and split. `train_ids`, `validation_ids`: where
    each example is in the channels' files. `train_weights` [N] float32: the weight of each training example, with mean
    1; None for equal weights. `train_texts`, `validation_texts`: the original texts, which cannot be recovered from
    the inputs: [N] object (of str), or [N, T] for a table with T columns of text; None for other data.
    """

    train: Dataset
    validation: Dataset
    test: Dataset | None
    preprocessing: Kind
    notes: list[str]
    train_ids: Ids
    validation_ids: Ids
    train_weights: torch.Tensor | None = None
    train_texts: np.ndarray | None = None
    validation_texts: np.ndarray | None = None
    understandings: tuple[Understanding, ...] = ()
    """What each channel was taken to be, training first."""
    tell_names: Callable[[], None] = _nothing
    """Exchanges the names of examples between hosts. All processes must call it together, before any reads the name of
    an example of another host. The texts of other hosts' examples stay None."""
    left_out: tuple[LeftOut, ...] = ()
    """The images that could not be read, of each channel that had any."""
    counted: int | None = None
    """Number of training examples that a fraction refers to, where `train` holds others."""

    def trained_on(self, which: TrainsOn, seed: int) -> "Splits":
        """The same data with the validation examples to train on, alone or after the training examples.

        Alone, the validation set is a stratified sample of the training examples, as large as it was. For both, it
        stays, and its measures are those of examples that are trained on.
        """
        count = len(self.train)
        texts = (self.train_texts, self.validation_texts)
        if which == "validation":
            share = len(self.validation) / count
            rows = np.arange(count)
            if share < 1:
                rows = stratified_split(self.train.labels.numpy(), share, seed)[1]
            return replace(
                self,
                train=self.validation,
                validation=self.train.subset(torch.from_numpy(rows)),
                train_ids=self.validation_ids,
                validation_ids=self.train_ids.subset(rows),
                train_weights=None,
                train_texts=texts[1],
                validation_texts=None if texts[0] is None else texts[0][rows],
                counted=count,
                notes=[
                    *self.notes,
                    f"The {len(self.validation):,} validation examples are trained on; validation measures are of "
                    f"{len(rows):,} training examples, with their labels.",
                ],
            )
        weights = self.train_weights
        joined = JoinedDataset(self.train, self.validation)
        return replace(
            self,
            train=joined,
            train_ids=self.train_ids.followed_by(self.validation_ids),
            train_weights=None if weights is None else torch.cat([weights, torch.ones(len(self.validation))]),
            train_texts=None
            if texts[0] is None or texts[1] is None
            else np.concatenate([texts[0], texts[1]]),
            counted=count,
            notes=[
                *self.notes,
                f"The {len(self.validation):,} validation examples are trained on, too: validation measures are of "
                "examples that the model has seen.",
            ],
        )

    def keeping(self, rows: np.ndarray) -> "Splits":
        """The same data with only the training examples at `rows` [K] int64, ascending."""
        indices = torch.from_numpy(rows)
        weights = None if self.train_weights is None else self.train_weights[indices]
        return replace(
            self,
            train=self.train.subset(indices),
            train_ids=self.train_ids.subset(rows),
            train_weights=weights,
            train_texts=None if self.train_texts is None else self.train_texts[rows],
        )


class How(TypedDict, total=False):
    """How `load_splits` divides and reads, by keyword.

    `validation_fraction` (0.1): share of each class that is set aside without a validation channel. `test_fraction`
    (0): share of each class that is set aside for testing, where there is no other test set; whatever the seed, the
    same examples. `seed` (0): for drawing the validation examples. `objective`: defines the strata of both.
    `image_size`: side in pixels; None: chosen by the images. `num_workers`: processes that decode images (None: one per
    processor; 0: none). `memory_limit`: bytes that all inputs together may take, by default half of the available
    memory; images that exceed it are streamed. `tokens`: the tokenizer for texts; None: n-grams. `shards`: for sharded
    channels; all processes must then call this function together. `unreadable_limit`: the largest share of a channel's
    images that are left out if they cannot be read; None: a single one is an error. All images are then decoded once
    more, before anything else. `most_pixels`: the largest image that is decoded.
    """

    validation_fraction: float
    test_fraction: float
    seed: int
    objective: Objective
    image_size: int | None
    num_workers: int | None
    memory_limit: int | None
    tokens: Tokens | None
    shards: Shards | None
    unreadable_limit: float | None
    most_pixels: int


@dataclass(frozen=True)
class _Division:
    """What is set aside of the training channel."""

    validation_fraction: float
    test_fraction: float
    seed: int
    objective: Objective

    @classmethod
    def of(cls, how: How) -> "_Division":
        return cls(
            how.get("validation_fraction", 0.1),
            how.get("test_fraction", 0.0),
            how.get("seed", 0),
            how.get("objective", CLASSIFICATION),
        )

    def for_testing(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The positions that are kept, and those that are set aside."""
        return stratified_split(self.objective.strata(labels), self.test_fraction, TEST_SEED, "test")

    def for_validation(self, labels: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The positions, of those that were kept, to train on, and those that are set aside."""
        strata = self.objective.strata(labels)[kept]
        train, validation = stratified_split(strata, self.validation_fraction, self.seed)
        return kept[train], kept[validation]


@dataclass(frozen=True)
class _Training:
    """The training channel as it was read, with the labels and ids of all hosts."""

    channel: Channel
    found: Found
    shard: Shard | None
    labels: np.ndarray
    ids: Ids
    tell_names: Callable[[], None] = _nothing

    @classmethod
    def of(cls, channel: Channel, options: Options, loading: Loading) -> "_Training":
        found, shard = _read_training(channel, options, loading)
        source = found.source
        loading.notes.extend(found.notes)
        if shard is None:
            return cls(channel, found, None, source.labels, source.ids)
        loading.notes.append(shard.note(channel.name))
        names = Names(source.ids, shard)
        return cls(channel, found, shard, shard.whole(source.labels), names.ids(), names.tell)

    def texts(self, rows: np.ndarray) -> np.ndarray | None:
        """As `_texts`."""
        return _texts(self.found.source, len(self.labels), self.shard, rows)


@dataclass(frozen=True)
class _Rows:
    """Positions of the training channel's examples, ascending. `validation`, `test`: None if not set aside."""

    train: np.ndarray
    validation: np.ndarray | None
    test: np.ndarray | None


def load_splits(channels: Mapping[str, Path], options: Options | None = None, **how: Unpack[How]) -> Splits:
    """Read the channels `training` (required), `validation` and `test`, each with its `…_lst` companion if given.

    Without a validation channel, a share of each class is set aside. The preprocessing is fitted on the remaining
    training examples only.

    Args:
        options: the user's settings for reading labels and columns.
        how: see `How`.

    Raises:
        UserError: the data cannot be used; one sentence says why.
    """
    if "training" not in channels:
        given = ", ".join(repr(name) for name in channels) or "none"
        raise UserError(
            f"The channel 'training' is missing (channels given: {given}); expected at least 'training'."
        )
    limit = how.get("memory_limit")
    loading = Loading(
        how.get("num_workers"),
        memory_available() // 2 if limit is None else limit,
        tokens=how.get("tokens"),
        shards=how.get("shards"),
        unreadable_limit=how.get("unreadable_limit"),
        most_pixels=how.get("most_pixels", MOST_IMAGE_PIXELS),
    )
    options = options or Options()
    with _of_a_shard(loading.shards_of("training")):
        opened = {"training": _open("training", channels)}
    opened |= {
        name: _open(name, channels)
        for name in ("validation", "test")
        if name in channels and not (loading.shards_of(name) and _is_empty(channels[name]))
    }
    division = _Division.of(how)
    training = _Training.of(opened["training"], options, loading)
    rows = _divided(training, division, channels, options, loading)
    fitting = Fitting(
        rows.train, len(training.labels), training.shard, how.get("image_size"), division.seed, loading
    )
    preprocessing, dataset = kinds.of(training.found.source).fit(
        training.channel, training.found.source, fitting
    )
    if training.shard is not None:
        dataset = training.shard.dataset(dataset, training.labels)
    return _split(channels, opened, options, loading, training, rows, (preprocessing, dataset))


def _divided(
    training: _Training,
    division: _Division,
    channels: Mapping[str, Path],
    options: Options,
    loading: Loading,
) -> _Rows:
    """Set examples aside for testing and validation, and check the classes. Adds what was done to the loading."""
    labels, found = training.labels, training.found
    understanding = found.understanding(training.channel.name, labels)
    kept, test = np.arange(len(labels)), None
    if division.test_fraction and "test" not in channels and found.test is None:
        kept, test = division.for_testing(labels)
        share = f"{division.test_fraction:g}"
        taken = f"{len(test):,} of {len(labels):,} examples are set aside for testing"
        decision = Decision("split", taken, f"test_fraction={share}, by class", "given")
        understanding = replace(understanding, decisions=(*understanding.decisions, decision))
        loading.notes.append(f"test: {taken.replace('are ', '')}, by class (test_fraction {share}).")
    loading.understandings.append(understanding)
    classes = found.source.classes
    for out in loading.left_out:
        out.check_classes(training.channel, {classes[label] for label in np.unique(labels).tolist()})
    check_classes(training.channel, labels, classes, found.decisions, options.label_names)
    if "validation" in channels:
        return _Rows(kept, None, test)
    train, validation = division.for_validation(labels, kept)
    loading.notes.append(
        f"validation: {len(validation):,} of the {len(kept):,} training examples set aside, by class "
        f"(validation_fraction {division.validation_fraction:g}, seed {division.seed})."
    )
    return _Rows(train, validation, test)


def _split(
    channels: Mapping[str, Path],
    opened: Mapping[str, Channel],
    options: Options,
    loading: Loading,
    training: _Training,
    rows: _Rows,
    fitted: tuple[Kind, Dataset],
) -> Splits:
    """The data sets. `fitted`: the preprocessing, and all examples of the training channel."""
    preprocessing, dataset = fitted
    labels, found = training.labels, training.found
    trained = np.unique(labels[rows.train])
    train = dataset if len(rows.train) == len(labels) else dataset.subset(torch.from_numpy(rows.train))
    if rows.validation is not None:
        validation: Dataset = dataset.subset(torch.from_numpy(rows.validation))
        validation_ids = training.ids.subset(rows.validation)
        validation_texts = training.texts(rows.validation)
    else:
        validation, validation_ids, validation_texts = _load(
            "validation", opened.get("validation"), preprocessing, loading, trained, options
        )
    test: Dataset | None = None
    if "test" in channels:
        test, _, _ = _load("test", opened.get("test"), preprocessing, loading, trained, options)
    elif found.test is not None:
        loading.notes.append(f"test: the test batch of the training channel, {len(found.test):,} images.")
        test = preprocessing.encode(training.channel, found.test, loading, trained)
    elif rows.test is not None:
        test = dataset.subset(torch.from_numpy(rows.test))
    for name, other in (("validation", validation), ("test", test)):
        if name in opened:
            _say_repeated(opened[name], dataset, other, loading)
    return Splits(
        train,
        validation,
        test,
        preprocessing,
        loading.notes,
        training.ids.subset(rows.train),
        validation_ids,
        _weights(found.source, rows.train, training.shard),
        training.texts(rows.train),
        validation_texts,
        tuple(loading.understandings),
        training.tell_names,
        tuple(loading.left_out),
    )


def load_channel(
    path: Path,
    preprocessing: Kind,
    *,
    name: str,
    num_workers: int | None = None,
    memory_limit: int | None = None,
) -> Dataset:
    """Read one channel as a trained model expects it.

    Args:
        name: the channel's name in messages.

    Raises:
        UserError: as in `load_splits`, or for labels that are not among the model's classes.
    """
    loading = Loading(num_workers, memory_available() // 2 if memory_limit is None else memory_limit)
    every = np.arange(len(preprocessing.classes))
    dataset, _, _ = _load(name, open_channel(name, path), preprocessing, loading, every, Options())
    return dataset


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int, name: str = "validation"
) -> tuple[np.ndarray, np.ndarray]:
    """Positions [N - K] and [K] of training and validation examples, both ascending.

    Of a class with n examples, round(fraction · n) go to validation: at least one if n is 2 or more, and never all.

    Args:
        name: of what is set aside.

    Raises:
        UserError: no example would be left for validation.
    """
    if not 0 < fraction < 1:
        raise UserError(f"{name}_fraction is {fraction:g}; expected more than 0 and less than 1.")
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(len(members) - 1, max(1, round(fraction * len(members))))
        chosen[generator.permutation(members)[:count]] = True
    if not chosen.any():
        raise UserError(
            f"training channel: no class has more than one example, so none can be set aside for {name}; expected "
            f"more examples, or a {name} channel."
        )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _open(name: str, channels: Mapping[str, Path]) -> Channel:
    return open_channel(name, channels[name], channels.get(f"{name}_lst"))


def _is_empty(path: Path) -> bool:
    """Whether a shard's directory holds no file; it may not exist."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


@contextmanager
def _of_a_shard(shards: Shards | None) -> Iterator[None]:
    """Add the host to an error about its shard."""
    try:
        yield
    except UserError as error:
        raise error if shards is None else shards.error(error) from error


def _read_training(channel: Channel, options: Options, loading: Loading) -> tuple[Found, Shard | None]:
    """Read this host's examples with the classes of all hosts; the second value is its shard, None if unsharded."""
    shards = loading.shards_of(channel.name)

    def read(like: Kind | None = None) -> Found:
        with _of_a_shard(shards):
            return read_channel(channel, options, loading.available, like)

    found = loading.readable(channel.name, read())
    assert found is not None
    if shards is None:
        return found, None
    found, classes = agreed(channel, found, shards, read)
    source = found.source
    position = np.array([classes.index(name) for name in source.classes], np.int64)
    source = replace(source, labels=position[source.labels], classes=classes)
    return replace(found, source=source), Shard(shards, tuple(shards.of_each(len(source))))


def _load(
    name: str,
    channel: Channel | None,
    preprocessing: Kind,
    loading: Loading,
    trained: np.ndarray,
    options: Options,
) -> tuple[Dataset, Ids, np.ndarray | None]:
    """One data set with its ids, and its texts if it has any. `channel`: None if this host's shard of it is empty."""
    shards = loading.shards_of(name)
    own: Dataset | None = None
    ids = Ids(str, np.arange(0))
    source: Source | None = None
    found: Found | None = None
    if channel is not None:
        with _of_a_shard(shards):
            found = read_channel(channel, options, loading.available, preprocessing)
    found = loading.readable(name, found)
    if channel is not None and found is not None:
        with _of_a_shard(shards):
            loading.notes.extend(found.notes)
            loading.understandings.append(found.understanding(name))
            source = found.source
            own, ids = preprocessing.encode(channel, source, loading, trained), source.ids
    if shards is None:
        assert own is not None
        return own, ids, _texts(source, len(own), None)
    labels = np.zeros(0, np.int64) if own is None else own.labels.numpy()
    shard = Shard(shards, tuple(shards.of_each(len(labels))))
    if not sum(shard.counts):
        raise UserError(f"{name} channel: no host has any file of it; expected some, or no such channel.")
    loading.notes.append(shard.note(name))
    texts = _texts(source, sum(shard.counts), shard)
    return shard.dataset(own, shard.whole(labels)), Names(ids, shard).ids(), texts


def _say_repeated(channel: Channel, known: Dataset, other: Dataset | None, loading: Loading) -> None:
    """Say how many examples of a channel are in training, too: what a model makes of these says nothing of new ones."""
    said = None if other is None else repeated(known, other)
    if said is not None:
        loading.notes.append(f"{channel.name} channel: {said}; they make its accuracy too high.")
        loading.decide(channel, Decision("split", said, "they make its accuracy too high"))


def _texts(
    source: Source | None, count: int, shard: Shard | None, rows: np.ndarray | slice = np.s_[:]
) -> np.ndarray | None:
    """[K] or [K, T] object: the texts, None for examples of other shards; None as a whole for other data."""
    own = None if source is None else source.texts
    if own is None:
        return None
    if shard is None:
        return own[rows]
    texts = np.full((count, *own.shape[1:]), None, object)
    texts[shard.span] = own
    return texts[rows]


def _weights(source: Source, rows: np.ndarray, shard: Shard | None) -> torch.Tensor | None:
    weights = source.weights
    if weights is None:
        return None
    if shard is not None:
        weights = shard.whole(weights)
    # Zero would allow a batch of total weight zero. The mean of 1 keeps the learning rate's scale.
    raised = np.maximum(weights[rows], _LEAST_WEIGHT)
    return torch.from_numpy(raised / raised.mean())
