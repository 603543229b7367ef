"""Reads the channels and the pretrained model, if there is one."""

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

import subset_selection
import subset_trainer
from subset_trainer import artifacts, pretrained
from subset_trainer.config import Hyperparameters
from subset_trainer.config.defaults import FRESH_LAYER_TIMES
from subset_trainer.config.resolved import as_trained, optimizer_before
from subset_trainer.contract import Contract
from subset_trainer.data import Kind, MemoryDataset, Splits, TextKind, load_splits, overview
from subset_trainer.data.datasets import MOST_WORKERS
from subset_trainer.data.hosts import Shards
from subset_trainer.data.inspecting import options_of
from subset_trainer.data.machine import cpu_count, memory_available
from subset_trainer.errors import UserError
from subset_trainer.job.check import CHANNELS, LISTINGS
from subset_trainer.pretrained import encoders, image_models
from subset_trainer.pretrained.encoders import Encoder
from subset_trainer.pretrained.image_models import Pretrained
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.rounds import Data

logger = logging.getLogger(__name__)
NOT_DECISIVE = (
    *("resume", "checkpoint_minutes", "checkpoints_kept", "num_workers"),
    *("on_unreadable", "unreadable_limit", "max_image_pixels", "image_size"),
    *("report", "metric", "explain", "tensorboard", "mlflow_tracking_uri"),
    *("processes_per_host", "host_wait_minutes"),
    *("tolerance", "max_cost"),
)
"""Hyperparameters that may change when a run is resumed."""


_INPUTS_COMPARED = 64
"""Training inputs by which hosts compare their data, beside all labels."""


@dataclasses.dataclass(frozen=True)
class Material:
    """The data of a run, and the model that it starts from."""

    splits: Splits
    model: str
    """The name of the network, with `auto` resolved."""
    encoder: Encoder | None
    weights: Pretrained | None
    """Pretrained weights of an image model."""
    config: Hyperparameters
    """The run's hyperparameters, with the defaults of this kind of model."""
    embedded: Splits | None = None
    """The splits with a frozen backbone's outputs in place of the inputs. None: the network reads the inputs."""

    @property
    def read(self) -> Splits:
        """What the network that trains reads."""
        return self.embedded or self.splits

    @property
    def training(self) -> Data:
        """The data for the training loop."""
        return Data(self.read.train, self.read.validation, self.read.train_weights)

    @property
    def begun(self) -> str:
        """The model's name, with the digest of its pretrained weights if it has any."""
        given = self.weights or self.encoder
        return f"{self.model} from …{given.digest}" if given else self.model

    def keeping(self, rows: np.ndarray) -> "Material":
        """A copy with a part of the training examples.

        Args:
            rows: [K] int64, ascending.
        """
        if len(rows) == len(self.splits.train):
            return self
        embedded = self.embedded and self.embedded.keeping(rows)
        return dataclasses.replace(self, splits=self.splits.keeping(rows), embedded=embedded)

    def identity(self, processes: int) -> dict[str, Any]:
        """The properties that must be equal in a run and in the run that it resumes."""
        own = {name: value for name, value in self.config.model_dump().items() if name not in NOT_DECISIVE}
        data = f"…{_digest(self.splits)[:8]}"
        # Before, a frozen backbone ran again in every epoch, and a checkpoint held it.
        inputs = {"inputs": "embeddings"} if self.embedded else {}
        # Before, a fresh last layer on an encoder had the encoder's learning rate.
        layer = {"fresh_layer": f"{FRESH_LAYER_TIMES:g} times the rate"} if self._has_fresh_layer else {}
        return own | {"model": self.begun, "data": data, "processes": processes} | inputs | layer

    @property
    def before(self) -> dict[str, Any]:
        """The values of an identity that stand for names that a checkpoint of an earlier version lacks."""
        return Hyperparameters().model_dump() | {"optimizer": optimizer_before(self.model)}

    @property
    def _has_fresh_layer(self) -> bool:
        """Whether an encoder of texts alone trains beside a fresh last layer."""
        kind = self.splits.preprocessing
        if self.encoder is None or self.config.fine_tune == "head" or not isinstance(kind, TextKind):
            return False
        return not self.encoder.has_last_layer(kind.classes)


def read(contract: Contract, hp: Hyperparameters, ranks: Ranks) -> Material:
    """Read the data and the pretrained model.

    Raises:
        UserError: the data or the pretrained model is invalid, or they do not fit together.
    """
    given = contract.channels.get(pretrained.CHANNEL)
    understood = contract.output_data / overview.FILE
    # Read before the data, because texts are encoded as the encoder's tokens.
    encoder = None if given is None else encoders.read(given, hp.max_tokens)
    _check_same_job(contract, hp, ranks)
    splits = _trained_on(_splits(contract, hp, ranks, encoder), contract, hp)
    _check_same_data(contract, splits, ranks)
    for line in overview.overview(splits.understandings):
        logger.info("%s", line)
    if ranks.first:
        artifacts.write_json(understood, overview.to_json(splits.understandings))
    for note in splits.notes:
        logger.info("%s", note)
    preprocessing = splits.preprocessing
    if hp.metric == "auc" and len(preprocessing.classes) != 2:
        raise UserError(
            f"metric='auc' needs two classes, and these are {len(preprocessing.classes)}: expected macro_f1, "
            "balanced_accuracy or accuracy"
        )
    if given is not None:
        _check_goes_with(preprocessing, encoder)
    weights = image_models.read(given) if given is not None and encoder is None else None
    model = preprocessing.model(hp.model)
    if weights and (expected := image_models.normalisation(weights, model)):
        mean, std = expected
        splits = dataclasses.replace(splits, preprocessing=preprocessing.normalised(mean, std))
    config = configured(hp, preprocessing.name, model, given is not None)
    return Material(splits, model, encoder, weights, config)


def _trained_on(splits: Splits, contract: Contract, hp: Hyperparameters) -> Splits:
    """The data of a strategy that trains on the validation set.

    Raises:
        UserError: there are no other examples to judge the run by, or the data is sharded.
    """
    which = hp.spec.trains_on
    if which == "training":
        return splits
    if splits.test is None:
        raise UserError(
            f"strategy={hp.strategy!r} trains on the validation examples, so it is judged by others: expected the "
            "channel 'test', or test_fraction"
        )
    if contract.sharded:
        raise UserError(
            f"strategy={hp.strategy!r} does not go with a sharded channel ({', '.join(sorted(contract.sharded))}), "
            "whose examples no host has in full; expected FullyReplicated"
        )
    return splits.trained_on(which, hp.seed)


def _splits(contract: Contract, hp: Hyperparameters, ranks: Ranks, encoder: Encoder | None) -> Splits:
    hosts = tuple(ranks.everyones(contract.current_host))
    workers = None if ranks.local_size == 1 else max(1, min(cpu_count() // ranks.local_size, MOST_WORKERS))
    return load_splits(
        {name: path for name, path in contract.channels.items() if name in (*CHANNELS, *LISTINGS)},
        dataclasses.replace(options_of(hp), content_types=contract.content_types),
        validation_fraction=hp.validation_fraction,
        test_fraction=hp.test_fraction,
        seed=hp.seed,
        tokens=encoder.tokens if encoder else None,
        image_size=hp.image_size,
        num_workers=hp.num_workers if hp.num_workers is not None else workers,
        # Divided by the number of processes, because each has its own copy.
        memory_limit=memory_available() // (2 * ranks.local_size),
        unreadable_limit=hp.unreadable_limit if hp.on_unreadable == "skip" else None,
        most_pixels=hp.max_image_pixels,
        shards=Shards(ranks.everyones, hosts, ranks.rank, contract.sharded) if contract.sharded else None,
    )


def _check_goes_with(kind: Kind, encoder: Encoder | None) -> None:
    """Check that the channel `pretrained` fits data of this kind.

    Raises:
        UserError: it does not.
    """
    channel = f"channel {pretrained.CHANNEL!r}"
    if encoder:
        if not kind.takes_encoder:
            raise UserError(
                f"{channel}: {encoder.place} is an encoder of texts, and the training channel holds {kind.name}s"
            )
    elif kind.takes_encoder:
        raise UserError(
            f"{channel}: it holds no encoder of texts, and the training channel holds texts; expected "
            f"{encoders.EXPECTED}"
        )
    elif not kind.takes_weights:
        raise UserError(
            f"{channel}: weights are for image models and encoders of texts, and the training channel holds "
            f"{kind.name}s"
        )


def configured(hp: Hyperparameters, kind: str, model: str, pretrained: bool) -> Hyperparameters:
    """The hyperparameters with the defaults of what is trained; a warning names those that have no effect on it.

    Raises:
        UserError: encoders are not trained with this optimizer.
    """
    config = as_trained(hp, kind, model, pretrained)
    if model != "encoder" and pretrained and hp.whitening:
        logger.warning("whitening=true is not used: the first kernels are the pretrained ones")
    if config.optimizer == "adamw" and "momentum" in hp.model_fields_set:
        logger.warning(
            "AdamW, which trains here, has moments of its own: momentum=%g is not used", hp.momentum
        )
    return config


def _digest(splits: Splits) -> str:
    """Digest of the labels and of the fitted preprocessing, which depends on the inputs (by means, for example)."""
    data = hashlib.sha256(json.dumps(splits.preprocessing.to_json(), sort_keys=True).encode())
    for part in (
        *(splits.train.labels, splits.validation.labels, splits.train_weights),
        *(splits.train.owners, splits.validation.owners),
    ):
        data.update(b"" if part is None else part.numpy().tobytes())
    for out in splits.left_out:
        data.update(json.dumps([out.channel, out.ids]).encode())
    return data.hexdigest()


def _check_same_job(contract: Contract, hp: Hyperparameters, ranks: Ranks) -> None:
    """Check that all processes have the same hyperparameters and the same program: they draw and plan alike.

    Raises:
        UserError: a host has others.
    """
    if ranks.size == 1:
        return
    settings = {name: value for name, value in hp.model_dump().items() if name not in NOT_DECISIVE}
    (first, program, known), *others = ranks.everyones((contract.current_host, _program(), settings))
    for host, theirs, values in others:
        if theirs != program:
            raise UserError(
                f"host {host} runs another program than {first}; expected the same image on each host"
            )
        if names := [name for name in known if values.get(name) != known[name]]:
            told = ", ".join(
                f"{name}={values.get(name)} there and {known[name]} on {first}" for name in names[:5]
            )
            raise UserError(
                f"host {host} has other hyperparameters than {first}: {told}; expected the same on each host"
            )


def _program() -> str:
    """Digest of the source of the trainer and of the library."""
    found = hashlib.sha256()
    for package in (subset_trainer, subset_selection):
        root = Path(package.__file__ or "").parent
        for file in sorted(root.rglob("*.py")):
            found.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return found.hexdigest()


def _some_inputs(splits: Splits) -> str:
    """Digest of some training inputs, if all are in memory: files in another order have the same labels and means."""
    if not isinstance(splits.train, MemoryDataset) or splits.train.owners is not None:
        return ""
    rows = torch.arange(0, len(splits.train), -(-len(splits.train) // _INPUTS_COMPARED))
    (inputs,) = splits.train.batches([rows], torch.device("cpu"))
    return hashlib.sha256(inputs.numpy().tobytes()).hexdigest()


def _check_same_data(contract: Contract, splits: Splits, ranks: Ranks) -> None:
    """Check that all processes have the same data, because they must number the examples identically.

    Raises:
        UserError: a host has other data.
    """
    if ranks.size == 1:
        return
    seen = ranks.everyones((_digest(splits) + _some_inputs(splits), contract.current_host, len(splits.train)))
    for digest, host, examples in seen:
        if digest != seen[0][0]:
            raise UserError(
                f"host {host} has other data than {seen[0][1]} ({examples} training examples against {seen[0][2]}); "
                "expected the same in the same order on each host: S3DistributionType=FullyReplicated"
            )
