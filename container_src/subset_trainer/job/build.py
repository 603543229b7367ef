"""Builds the network and places it on its device."""

import logging
from dataclasses import dataclass

from subset_trainer import models
from subset_trainer.job.read import Material
from subset_trainer.models import Classifier
from subset_trainer.pretrained import encoders, image_models
from subset_trainer.training import devices, whitening
from subset_trainer.training.averaging import MovingAverage
from subset_trainer.training.frozen import Frozen
from subset_trainer.training.parallel import synced_batch_norm
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.place import Place

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Built:
    classifier: Classifier
    average: MovingAverage | None
    place: Place
    frozen: Frozen | None = None
    """The whole network, if ``classifier`` is what follows its frozen backbone, and reads what comes of that."""


def build(data: Material, ranks: Ranks, announced: bool = False) -> Built:
    """Build the network, load its pretrained weights and prepare its device.

    Args:
        announced: whether the device has been logged.

    Raises:
        UserError: the network does not fit the data, or the pretrained weights do not fit the network.
    """
    config, splits = data.config, data.splits
    classifier = _network(data)
    machine = devices.prepare(
        config.device, config.precision, classifier.has_large_layers, ranks.local_rank, ranks.local_size
    )
    if config.deterministic:
        devices.be_deterministic()
    if not announced:
        logger.info("training on %s", machine.describe())
    sharded = splits.train.owners is not None
    if sharded and not config.sync_batch_norm:
        logger.info(
            "sync_batch_norm: on, because the hosts have different examples, perhaps of different classes"
        )
    if ranks.size > 1 and (config.sync_batch_norm or sharded):
        synced_batch_norm.convert(classifier, machine.device.type == "cuda")
    classifier.place(machine.device, machine.memory_format(splits.preprocessing.input_shape))
    if config.whitening and data.weights is None and classifier.takes_images:
        whitening.whiten(classifier, splits.train, ranks)
    average = MovingAverage(classifier, config.ema_decay) if config.ema_decay else None
    return Built(classifier, average, Place(machine, ranks))


def _network(data: Material) -> Classifier:
    preprocessing, config = data.splits.preprocessing, data.config
    classifier = models.build(
        data.model,
        preprocessing.input_shape,
        len(preprocessing.classes),
        # For images, augmentation already regularises the mlp.
        dropout=0.0 if preprocessing.augmented else config.dropout,
        encoder=data.encoder.body if data.encoder else None,
        **preprocessing.network,
    )
    if data.weights:
        said = image_models.load(classifier, data.weights, data.model, preprocessing.classes)
        logger.info("%s", said)
    if data.encoder:
        logger.info("%s", encoders.load_head(classifier, data.encoder, preprocessing.classes))
    if config.fine_tune == "head":
        classifier.freeze_backbone()
    return classifier
