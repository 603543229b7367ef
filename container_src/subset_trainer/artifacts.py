"""The files that a job writes: the model, the history, the summary, the subsets and the table of examples.

Every file is written under a temporary name and renamed when it is complete.
"""

import errno
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from subset_selection import Subset
from subset_trainer.data import Ids, Kind
from subset_trainer.data.kinds import registry as kinds
from subset_trainer.errors import PlatformError, UserError, first_line, shown
from subset_trainer.models import Body, Classifier, TextEncoder, body, build, check_name

Column = np.ndarray | Ids
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
ENCODER_PREFIX = "network.body."
"""The prefix of an encoder's weights within a classifier's."""
ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class TrainedModel:
    """A classifier in eval mode, with the preprocessing of its inputs."""

    classifier: Classifier
    """Images as uint8 [B, 3, H, W], or table rows as float32 [B, D], → logits [B, C]."""
    preprocessing: Kind
    """Holds the classes in the order of the logits. ``subset_trainer.data.load_channel`` reads further data with it."""
    hyperparameters: Mapping[str, Any]


def save_model(
    directory: Path,
    classifier: Classifier,
    name: str,
    preprocessing: Kind,
    hyperparameters: Mapping[str, Any],
) -> None:
    """Write model.safetensors and model.json, and the further files that the kind of data needs.

    Args:
        directory: created if it does not exist.
        name: the network's name, as ``subset_trainer.models.build`` takes it.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in classifier.state_dict().items()}
    write(directory / WEIGHTS, lambda path: save_file(state, path))
    of_encoder = {}
    if isinstance(classifier.network, TextEncoder):
        of_encoder = {
            "encoder": {"config": dict(classifier.network.config), "pooling": classifier.network.pooling}
        }
    for file, content in preprocessing.files().items():
        write_text(directory / file, content)
    description = {
        "architecture": name,
        **of_encoder,
        "classes": list(preprocessing.classes),
        "preprocessing": preprocessing.to_json(),
        "hyperparameters": dict(hyperparameters),
    }
    write_json(directory / DESCRIPTION, description)


def load_model(directory: Path | str) -> TrainedModel:
    """Load a saved model from the folder that model.tar.gz unpacks to.

    Nothing is unpickled.

    Raises:
        UserError: the folder holds no such model, or its files are damaged or do not belong together.
    """
    directory = Path(directory)
    for name in (DESCRIPTION, WEIGHTS):
        if not (directory / name).is_file():
            raise UserError(f"{directory} holds no {name}; expected the model folder of a job")
    try:
        description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
        hyperparameters = dict(description["hyperparameters"])
        preprocessing = kinds.from_json(description["preprocessing"])
        preprocessing.check()
        check_name(description["architecture"])
        if (description["architecture"] == "encoder") != (preprocessing.tokens is not None):
            raise ValueError("an encoder and tokens belong together")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{directory / DESCRIPTION} is damaged ({_reason(error)}); expected the description of a job's model"
        ) from error

    def damaged(error: Exception) -> UserError:
        return UserError(
            f"{directory / WEIGHTS} is damaged or belongs to another model ({_reason(error)}); expected the weights of "
            f"{description['architecture']} for inputs of shape {preprocessing.input_shape} and "
            f"{len(preprocessing.classes)} classes"
        )

    preprocessing = _with_files(directory, preprocessing)
    try:
        state = load_file(directory / WEIGHTS)
        encoder = None
        if preprocessing.tokens is not None:
            encoder = encoder_of(description, _of_encoder(state))
            if encoder.vocabulary != preprocessing.tokens.vocabulary:
                raise ValueError(f"{encoder.vocabulary:,} tokens")
    except (SafetensorError, RuntimeError, ValueError, TypeError, OSError) as error:
        raise damaged(error) from error
    try:
        _check_buckets(preprocessing, state)
        classifier = build(
            description["architecture"],
            preprocessing.input_shape,
            len(preprocessing.classes),
            encoder=encoder,
            **preprocessing.network,
        )
        classifier.load_state_dict(state)
    except (RuntimeError, ValueError, TypeError) as error:
        raise damaged(error) from error
    return TrainedModel(classifier.eval(), preprocessing, hyperparameters)


def encoder_of(description: Any, weights: Mapping[str, Tensor]) -> Body:
    """Build the encoder that a job's model.json describes, with these weights.

    Raises:
        ValueError: the weights do not fit the description.
    """
    told = description.get("encoder")
    if not isinstance(told, dict):
        raise ValueError(f"its encoder is {shown(told, 40)}")
    return body(told.get("config"), told.get("pooling"), weights)


def _check_buckets(preprocessing: Kind, state: Mapping[str, Tensor]) -> None:
    """Raise ValueError, before memory is taken, if there are no weights for the described number of buckets."""
    buckets = preprocessing.network.get("buckets")
    if buckets is not None and buckets + 1 not in {len(value) for value in state.values() if value.ndim}:
        raise ValueError(f"no weights for {buckets:,} buckets")


def _of_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(ENCODER_PREFIX): value
        for name, value in state.items()
        if name.startswith(ENCODER_PREFIX)
    }


def _with_files(directory: Path, preprocessing: Kind) -> Kind:
    """The preprocessing, completed by the files beside model.json."""
    try:
        return preprocessing.with_files(lambda file: (directory / file).read_bytes().decode("utf-8"))
    except (OSError, ValueError) as error:
        files = " and ".join(str(directory / file) for file in preprocessing.files())
        raise UserError(
            f"{files} cannot be used ({first_line(error)}); expected the tokenizer that the job saved"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, LookupError):
        return f"it lacks {error}"
    return first_line(error)


def save_subset(directory: Path, epoch: int, subset: Subset, durable: bool = False) -> None:
    """Write epoch-NNNN.npz: ``indices`` int64 [K] into the training examples, ``weights`` float32 [K].

    Args:
        durable: see :func:`write`.
    """
    columns = {"indices": subset.indices, "weights": subset.weights}
    _save_columns(directory / f"epoch-{epoch:04d}.npz", columns, durable)


def save_predictions(path: Path, labels: Tensor, predicted: Tensor, scores: Tensor) -> None:
    """Write test_predictions.npz: for each of N test examples the positions of its label and of the predicted class,
    and of two classes the second's score ([0] for other numbers of classes)."""
    _save_columns(path, {"labels": labels.int(), "predicted": predicted.int(), "scores": scores.float()})


def _save_columns(path: Path, columns: Mapping[str, Tensor], durable: bool = False) -> None:
    def save(unfinished: Path) -> None:
        arrays: dict[str, Any] = {name: column.numpy() for name, column in columns.items()}
        with unfinished.open("wb") as file:
            np.savez_compressed(file, **arrays)

    write(path, save, durable)


def load_subset(file: Path) -> Subset:
    """Read what :func:`save_subset` wrote. A damaged file raises almost any exception."""
    with np.load(file, allow_pickle=False) as content:
        return Subset(torch.from_numpy(content["indices"]), torch.from_numpy(content["weights"]))


def save_history(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write history.jsonl: an object for each epoch."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def save_examples(path: Path, columns: Mapping[str, Column]) -> None:
    """Write a Parquet file with a row for each example; repeated texts are stored once."""
    # pyarrow takes a moment to import, so that jobs without a report skip it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    def piece(values: Column, start: int) -> pa.Array:
        if isinstance(values, Ids):
            rows = range(start, min(start + ROWS_AT_ONCE, len(values)))
            return pa.array([values[row] for row in rows], pa.string())
        part = values[start : start + ROWS_AT_ONCE]
        return pa.array(part, pa.string() if part.dtype == object else None)

    def save(temporary: Path) -> None:
        writer = None
        for start in range(0, len(columns["id"]), ROWS_AT_ONCE):
            table = pa.table({name: piece(values, start) for name, values in columns.items()})
            writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
            writer.write_table(table)
        if writer:
            writer.close()

    write(path, save)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write(path: Path, save: Callable[[Path], Any], durable: bool = False) -> None:
    """Write a file atomically: ``save`` writes a temporary file, which is then renamed.

    Args:
        durable: also flush the file to the disk before returning, so that it survives a sudden end of the machine.

    Raises:
        OSError: the file cannot be written; the error names it.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save(temporary)
            if durable:
                _flush(temporary)
            temporary.replace(path)
            if durable:
                _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        # Writing to a full disk raises an error without a file name.
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    except SafetensorError as error:
        if not (number := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _flush(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(*directories: Path) -> None:
    """Check before training, rather than after hours of it, that files can be written; creates nothing.

    Raises:
        PlatformError: a path is not a directory, or it (or the parent in which it would be created) is not writable.
    """
    for directory in directories:
        place = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
        if not place.is_dir():
            raise PlatformError(f"{place} is a file; expected a writable folder for {directory}")
        if not os.access(place, os.W_OK | os.X_OK):
            read_only = os.statvfs(place).f_flag & os.ST_RDONLY
            reason = os.strerror(errno.EROFS if read_only else errno.EACCES).lower()
            raise PlatformError(
                f"{place} cannot be written ({reason}); expected a writable folder for {directory}"
            )
