"""Channels → training, validation and test sets, and what was learned from the training examples."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from PIL import Image

from subset_trainer.data.channels import Channel
from subset_trainer.data.datasets import MOST_WORKERS, Dataset, MemoryDataset, StreamingDataset
from subset_trainer.data.formats.format import Found, ManifestOptions, Options, Source
from subset_trainer.data.formats.reading import read as read_channel
from subset_trainer.data.formats.registry import open_channel
from subset_trainer.data.hosts import Names, Shard, Shards, agreed
from subset_trainer.data.ids import Ids
from subset_trainer.data.images.decoding import cover, decode_all, natural_size
from subset_trainer.data.images.labelled import ImageArray, LabelledImages
from subset_trainer.data.images.s3 import S3Images
from subset_trainer.data.kinds.preprocessing import Preprocessing, Tokens
from subset_trainer.data.machine import cpu_count, memory_available
from subset_trainer.data.tables.columns import describe, encode, fit_columns
from subset_trainer.data.tables.table import Table
from subset_trainer.data.texts.labelled import Texts
from subset_trainer.data.texts.ngrams import fit_hashing, inputs_of
from subset_trainer.errors import UserError
from subset_trainer.objectives import CLASSIFICATION, Objective

T = TypeVar("T")
_SIZES_LOOKED_AT = 1_000
_STATISTICS_FILES = 2_000
_FETCHED = 256
"""Training images in S3 that are fetched for their sizes and statistics, whatever is selected."""
_LEAST_WEIGHT = np.float32(0.01)


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Splits:
    """`notes`: sentences worth logging about what was found, decoded, left out and split. `train_ids`,
    `validation_ids`: where in the channels' files each example stands. `train_weights` [N] float32: how much each
    training example counts, with a mean of 1; None: all alike. `train_texts`, `validation_texts` [N] object (of str):
    of texts, which their inputs do not tell."""

    train: Dataset
    validation: Dataset
    test: Dataset | None
    preprocessing: Preprocessing
    notes: list[str]
    train_ids: Ids
    validation_ids: Ids
    train_weights: torch.Tensor | None = None
    train_texts: np.ndarray | None = None
    validation_texts: np.ndarray | None = None
    tell_names: Callable[[], None] = _nothing
    """To be called by all processes at one place, before one asks what the examples of another host's shard are called.
    Their texts are None."""

    def keeping(self, rows: np.ndarray) -> "Splits":
        """The same with some of the training examples: `rows` [K] int64, ascending."""
        indices = torch.from_numpy(rows)
        weights = None if self.train_weights is None else self.train_weights[indices]
        return replace(
            self,
            train=self.train.subset(indices),
            train_ids=self.train_ids.subset(rows),
            train_weights=weights,
            train_texts=None if self.train_texts is None else self.train_texts[rows],
        )


@dataclass
class _Loading:
    """What reading has in common for all channels: workers, the memory that is left, the notes so far."""

    workers: int | None
    memory: int
    notes: list[str] = field(default_factory=list)
    available: int = field(default_factory=memory_available)
    """Bytes that the machine has left for what a file unpacks to."""
    content_types: Mapping[str, str] = field(default_factory=dict)
    tokens: Tokens | None = None
    shards: Shards | None = None

    def shards_of(self, channel: str) -> Shards | None:
        """None: this host has all of the channel."""
        return self.shards if self.shards is not None and channel in self.shards.channels else None

    @property
    def decoders(self) -> int:
        return min(cpu_count(), MOST_WORKERS) if self.workers is None else self.workers


def load_splits(
    channels: Mapping[str, Path],
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    label_column: str | None = None,
    csv_header: str = "auto",
    manifest: ManifestOptions | None = None,
    image_size: int | None = None,
    num_workers: int | None = None,
    memory_limit: int | None = None,
    content_types: Mapping[str, str] | None = None,
    text_column: str | None = None,
    tokens: Tokens | None = None,
    shards: Shards | None = None,
    objective: Objective = CLASSIFICATION,
) -> Splits:
    """Read the channels `training` (required), `validation` and `test`, each with its `…_lst` where there is one.

    Without a validation channel `validation_fraction` of each class is set aside, drawn by `seed`. Everything in the
    preprocessing is learned from the remaining training examples. memory_limit: bytes that all inputs together may
    take, by default half of what is available; images beyond it are streamed. num_workers: processes that
    decode images (None: one a processor; 0: none). content_types: what the platform says of the channels' files.
    tokens: what becomes of texts; None: n-grams. shards: where channels are sharded: then all processes call this
    together. objective: of whose strata the validation set has its share.
    UserError, in one sentence, for everything that is wrong with the data.
    """
    if "training" not in channels:
        given = ", ".join(repr(name) for name in channels) or "none"
        raise UserError(
            f"The channel 'training' is missing (channels given: {given}); expected at least 'training'."
        )
    loading = _Loading(
        num_workers,
        memory_available() // 2 if memory_limit is None else memory_limit,
        tokens=tokens,
        shards=shards,
    )
    options = Options(
        label_column, csv_header, manifest or ManifestOptions(), content_types or {}, text_column
    )
    with _of_a_shard(loading.shards_of("training")):
        opened = {"training": _open("training", channels)}
    opened |= {
        name: _open(name, channels)
        for name in ("validation", "test")
        if name in channels and not (loading.shards_of(name) and _is_empty(channels[name]))
    }
    training = opened["training"]
    found, shard = _read_training(training, options, loading)
    source = found.source
    loading.notes.extend(found.notes)
    labels, ids, tell_names = source.labels, source.ids, _nothing
    if shard is not None:
        loading.notes.append(shard.note(training.name))
        labels = shard.whole(source.labels)
        names = Names(source.ids, shard)
        ids, tell_names = names.ids(), names.tell
    _check_classes(training, labels, source.classes)
    if "validation" in channels:
        train_rows, validation_rows = np.arange(len(labels)), None
    else:
        train_rows, validation_rows = stratified_split(objective.strata(labels), validation_fraction, seed)
        loading.notes.append(
            f"validation: {len(validation_rows):,} of the {len(labels):,} training examples set aside, by class "
            f"(validation_fraction {validation_fraction:g}, seed {seed})."
        )
    preprocessing, dataset = _fit(training, source, train_rows, shard, image_size, seed, loading)
    trained = np.unique(labels[train_rows])
    if shard is not None:
        dataset = shard.dataset(dataset, labels)
    train: Dataset = dataset
    if validation_rows is not None:
        train = dataset.subset(torch.from_numpy(train_rows))
        validation: Dataset = dataset.subset(torch.from_numpy(validation_rows))
        validation_ids = ids.subset(validation_rows)
        validation_texts = _texts(source, len(labels), shard, validation_rows)
    else:
        validation, validation_ids, validation_texts = _load(
            "validation", opened.get("validation"), preprocessing, loading, trained, options
        )
    test: Dataset | None = None
    if "test" in channels:
        test, _, _ = _load("test", opened.get("test"), preprocessing, loading, trained, options)
    elif found.test is not None:
        loading.notes.append(f"test: the test batch of the training channel, {len(found.test):,} images.")
        test = _encode(training, found.test, preprocessing, loading, trained)
    return Splits(
        train,
        validation,
        test,
        preprocessing,
        loading.notes,
        ids.subset(train_rows),
        validation_ids,
        _weights(source, train_rows, shard),
        _texts(source, len(labels), shard, train_rows),
        validation_texts,
        tell_names,
    )


def load_channel(
    path: Path,
    preprocessing: Preprocessing,
    *,
    name: str,
    num_workers: int | None = None,
    memory_limit: int | None = None,
) -> Dataset:
    """Read one channel as a trained model expects it. `name` is what messages call the channel. UserError as in
    `load_splits`, and for labels that are none of the model's classes."""
    loading = _Loading(num_workers, memory_available() // 2 if memory_limit is None else memory_limit)
    every = np.arange(len(preprocessing.classes))
    dataset, _, _ = _load(name, open_channel(name, path), preprocessing, loading, every, Options())
    return dataset


def stratified_split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [K] and [N - K] of training and validation examples, both ascending.

    Of each class with n examples round(fraction · n) go to validation, but at least one where n is 2 or more, and
    never all of them. UserError where that leaves validation empty.
    """
    if not 0 < fraction < 1:
        raise UserError(f"validation_fraction is {fraction:g}; expected more than 0 and less than 1.")
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(len(members) - 1, max(1, round(fraction * len(members))))
        chosen[generator.permutation(members)[:count]] = True
    if not chosen.any():
        raise UserError(
            "training channel: no class has more than one example, so none can be set aside for validation; expected "
            "more examples, or a validation channel."
        )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _open(name: str, channels: Mapping[str, Path]) -> Channel:
    return open_channel(name, channels[name], channels.get(f"{name}_lst"))


def _is_empty(path: Path) -> bool:
    """Of a shard, which may be no file."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


@contextmanager
def _of_a_shard(shards: Shards | None) -> Iterator[None]:
    """Say of what is wrong with a shard that it is one."""
    try:
        yield
    except UserError as error:
        raise error if shards is None else shards.error(error) from error


def _read_training(channel: Channel, options: Options, loading: _Loading) -> tuple[Found, Shard | None]:
    """What this host has of it, with the classes of all hosts; which part that is, where it is one."""
    shards = loading.shards_of(channel.name)

    def read(like: Preprocessing | None = None) -> Found:
        with _of_a_shard(shards):
            return read_channel(channel, options, loading.available, like)

    found = read()
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
    preprocessing: Preprocessing,
    loading: _Loading,
    trained: np.ndarray,
    options: Options,
) -> tuple[Dataset, Ids, np.ndarray | None]:
    """And the texts, where it holds some. channel: None where this host's shard of it is empty."""
    shards = loading.shards_of(name)
    own: Dataset | None = None
    ids = Ids(str, np.arange(0))
    source: Source | None = None
    if channel is not None:
        with _of_a_shard(shards):
            found = read_channel(channel, options, loading.available, preprocessing)
            loading.notes.extend(found.notes)
            source = found.source
            own, ids = _encode(channel, source, preprocessing, loading, trained), source.ids
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


def _texts(
    source: Source | None, count: int, shard: Shard | None, rows: np.ndarray | slice = np.s_[:]
) -> np.ndarray | None:
    """[K] object: None in place of other shards'. None: it holds none."""
    if not isinstance(source, Texts):
        return None
    if shard is None:
        return source.texts[rows]
    texts = np.full(count, None, object)
    texts[shard.span] = source.texts
    return texts[rows]


def _weights(source: Source, rows: np.ndarray, shard: Shard | None) -> torch.Tensor | None:
    weights = source.weights if isinstance(source, LabelledImages | Texts) else None
    if weights is None:
        return None
    if shard is not None:
        weights = shard.whole(weights)
    # Not 0, which a whole batch may have; and a mean of 1 leaves the learning rate what it was.
    raised = np.maximum(weights[rows], _LEAST_WEIGHT)
    return torch.from_numpy(raised / raised.mean())


def _check_classes(channel: Channel, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    present = np.unique(labels)
    if len(present) < 2:
        raise channel.error(
            f"all {len(labels):,} examples are of one class, {classes[present[0]]!r}; expected at least two."
        )


def _fit(
    channel: Channel,
    source: Source,
    rows: np.ndarray,
    shard: Shard | None,
    image_size: int | None,
    seed: int,
    loading: _Loading,
) -> tuple[Preprocessing, Dataset]:
    """Learn the preprocessing from the training examples at `rows`, and make a data set of all of them, those of this
    shard."""
    every = np.arange(len(source.classes))
    own: Callable[[np.ndarray], np.ndarray] = _all if shard is None else shard.own
    of_each: Callable[[Any], list[Any]] = _alone if shard is None else shard.shards.of_each
    if isinstance(source, Table):
        preprocessing = Preprocessing(
            kind="table",
            classes=source.classes,
            columns=fit_columns(channel, source, own(rows), of_each),
            header=source.header,
            label_column=source.label_column,
            label_index=source.label_index,
        )
        loading.notes.extend(describe(channel, source, preprocessing.columns))
        return preprocessing, _encode(channel, source, preprocessing, loading, every)
    if isinstance(source, Texts):
        preprocessing = Preprocessing(
            kind="text",
            classes=source.classes,
            header=source.header,
            label_column=source.label_column,
            label_index=source.label_index,
            hashing=None if loading.tokens else fit_hashing(source.texts[own(rows)], of_each),
            tokens=loading.tokens,
            text_column=source.column,
        )
        return preprocessing, _encode(channel, source, preprocessing, loading, every)
    generator = np.random.default_rng(seed)
    far = (
        source.images if isinstance(source, LabelledImages) and isinstance(source.images, S3Images) else None
    )
    count = len(source) if shard is None else sum(shard.counts)
    looked_at = np.arange(count)
    if far is not None:
        looked_at = rows = np.sort(generator.permutation(rows)[:_FETCHED])
        if loading.decoders:
            far.prepare_apart(own(rows))
    elif image_size is None:
        looked_at = generator.permutation(count)[:_SIZES_LOOKED_AT]
    if image_size is not None:
        size = (image_size, image_size)
    else:
        sizes = of_each(_sizes(source, own(looked_at)))
        size = natural_size([pair for part in sizes for pair in part])
    sized = Preprocessing(kind="image", classes=source.classes, image_size=size)
    dataset = _encode(channel, source, sized, loading, every)
    if far is None and not all(of_each(isinstance(dataset, MemoryDataset))):
        # Decoding everything would take as long as an epoch.
        rows = np.sort(generator.permutation(rows)[:_STATISTICS_FILES])
    sums = of_each(_sums(dataset.batches(_in_chunks(own(rows)), torch.device("cpu"))))
    counts, totals, squares = zip(*sums, strict=True)
    mean, std = _moments(sum(counts), torch.stack(totals).sum(0), torch.stack(squares).sum(0))
    fitted = Preprocessing(kind="image", classes=source.classes, image_size=size, mean=mean, std=std)
    return fitted, dataset


def _all(rows: np.ndarray) -> np.ndarray:
    return rows


def _alone(value: T) -> list[T]:
    return [value]


def _sizes(source: LabelledImages | ImageArray, rows: np.ndarray) -> list[tuple[int, int]]:
    """(H, W) of the images at `rows`. Beyond a thousand files, a few that differ should not decide about all the
    others."""
    if isinstance(source, ImageArray):
        height, width = source.pixels.shape[2:]
        return [(height, width)]
    return [source.images.dimensions(index) for index in np.sort(rows)]


def _in_chunks(rows: np.ndarray, size: int = 256) -> list[torch.Tensor]:
    return list(torch.from_numpy(rows).split(size))


def _sums(batches: Iterator[torch.Tensor]) -> tuple[int, torch.Tensor, torch.Tensor]:
    """How many pixels uint8 images [B, 3, H, W] have, and the sums of these and of their squares, [3] float64."""
    count = 0
    total, squares = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for batch in batches:
        values = batch.double()  # whole numbers, so that the sums are exact in any order
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
        count += batch[:, 0].numel()
    return count, total, squares


def _moments(
    count: int, total: torch.Tensor, squares: torch.Tensor
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel, as shares of 255."""
    mean = total / count / 255
    variance = (squares / count / 255**2 - mean.square()).clamp(min=0)
    # A channel without variation must not be divided by 0.
    std = torch.where(variance > 1e-12, variance.sqrt(), torch.ones_like(variance))
    return tuple(mean.tolist()), tuple(std.tolist())


def _encode(
    channel: Channel, source: Source, preprocessing: Preprocessing, loading: _Loading, trained: np.ndarray
) -> Dataset:
    labels = torch.from_numpy(_labels(channel, source, preprocessing, trained))
    shape = preprocessing.input_shape
    needed = len(source) * int(np.prod(shape)) * (4 if isinstance(source, Table | Texts) else 1)
    if isinstance(source, LabelledImages):
        if isinstance(source.images, S3Images):
            loading.notes.append(
                f"{channel.name} channel: read from S3 as they are needed, and kept on the disk while it has room."
            )
            return StreamingDataset(source.images, labels, (shape[1], shape[2]), loading.workers)
        if needed > loading.memory:
            loading.notes.append(
                f"{channel.name} channel: streamed from files, because {needed / 1e9:.1f} GB of pixels exceed the "
                f"{loading.memory / 1e9:.1f} GB of memory set apart."
            )
            return StreamingDataset(source.images, labels, (shape[1], shape[2]), loading.workers)
        started = time.monotonic()
        pixels = decode_all(source.images, np.arange(len(source)), (shape[1], shape[2]), loading.decoders)
        loading.notes.append(
            f"{channel.name} channel: decoded to {shape[1]} x {shape[2]} pixels, {needed / 1e6:,.0f} MB, in "
            f"{time.monotonic() - started:.1f} s."
        )
        loading.memory -= needed
        return MemoryDataset(torch.from_numpy(pixels), labels)
    if needed > loading.memory:
        _too_large(channel, needed, loading)
    loading.memory -= needed
    if isinstance(source, Table):
        inputs, notes = encode(channel, source, preprocessing)
        loading.notes.extend(notes)
        return MemoryDataset(torch.from_numpy(inputs), labels)
    if isinstance(source, Texts):
        return MemoryDataset(torch.from_numpy(inputs_of(source.texts, preprocessing)), labels)
    return MemoryDataset(torch.from_numpy(_resized(source.pixels, (shape[1], shape[2]))), labels)


def _too_large(channel: Channel, needed: int, loading: _Loading) -> NoReturn:
    raise channel.error(
        f"the data takes {needed / 1e9:.1f} GB in memory, of which {max(0, loading.memory) / 1e9:.1f} GB are left; "
        "expected less data, or an instance with more memory."
    )


def _labels(
    channel: Channel, source: Source, preprocessing: Preprocessing, trained: np.ndarray
) -> np.ndarray:
    """Labels as positions in the preprocessing's classes. UserError on classes that are not among `trained`."""
    position = {preprocessing.classes[index]: index for index in trained.tolist()}
    unknown = [source.classes[i] for i in np.unique(source.labels) if source.classes[i] not in position]
    if unknown:
        known = ", ".join(map(repr, list(position)[:10])) + (", …" if len(position) > 10 else "")
        shown = ", ".join(map(repr, unknown[:5])) + (
            f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        )
        raise channel.error(f"the labels {shown} do not occur in training; expected some of {known}.")
    lookup = np.array([position.get(name, -1) for name in source.classes], np.int64)
    return lookup[source.labels]


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.shape[2:] == size:
        return np.ascontiguousarray(pixels)
    resized = np.empty((len(pixels), 3, *size), np.uint8)
    for position, image in enumerate(pixels):
        resized[position] = np.asarray(
            cover(Image.fromarray(image.transpose(1, 2, 0).copy()), size)
        ).transpose(2, 0, 1)
    return resized
