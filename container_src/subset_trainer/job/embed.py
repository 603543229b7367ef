"""A frozen backbone's outputs in place of the inputs, where they are the same in every epoch."""

import dataclasses
import logging
import time

import torch

from subset_trainer.config import Hyperparameters
from subset_trainer.data import Dataset
from subset_trainer.job.build import Built
from subset_trainer.job.read import Material
from subset_trainer.models import Classifier
from subset_trainer.training import devices, frozen, out_of_memory
from subset_trainer.training.averaging import MovingAverage
from subset_trainer.training.place import Place

logger = logging.getLogger(__name__)


def embed(data: Material, built: Built) -> tuple[Material, Built]:
    """Run the backbone once over all examples, and go on with what follows it.

    Returns:
        the data and the network to train; as given, where images are augmented.

    Raises:
        Terminated: SIGTERM arrived.
        UserError: memory is too small.
    """
    config, splits, ranks = data.config, data.splits, built.place.ranks
    if reason := _forbids(config, built.classifier):
        report = " and for the report" if config.report else ""
        logger.info("fine_tune=head: %s, so that the backbone runs again in every epoch%s", reason, report)
        return data, built
    start = time.perf_counter()
    try:
        training = frozen.outputs(built.classifier, splits.train, built.place)
        divided = frozen.divide(built.classifier, training, built.place, splits.train.owners is not None)

        def of(dataset: Dataset, outputs: torch.Tensor | None = None) -> Dataset:
            outputs = frozen.outputs(built.classifier, dataset, built.place) if outputs is None else outputs
            if divided.scale is not None:
                divided.scale.apply(outputs)
            return frozen.embedded(dataset, outputs, ranks.rank)

        read = dataclasses.replace(
            splits,
            train=of(splits.train, training),
            validation=of(splits.validation),
            test=None if splits.test is None else of(splits.test),
        )
    except (RuntimeError, MemoryError) as error:
        out_of_memory.understood(error, frozen.BATCH)
    count = len(splits.train) + len(splits.validation) + (0 if splits.test is None else len(splits.test))
    logger.info(
        "fine_tune=head: the frozen backbone has read all %d examples once, in %.1f s; the last layer trains on what "
        "came of them",
        count,
        time.perf_counter() - start,
    )
    alone = divided.alone()
    # Its products are as small as a table's.
    machine = devices.prepare(config.device, config.precision, False, ranks.local_rank, ranks.local_size)
    average = MovingAverage(alone, config.ema_decay) if config.ema_decay else None
    return dataclasses.replace(data, embedded=read), Built(alone, average, Place(machine, ranks), divided)


def _forbids(config: Hyperparameters, classifier: Classifier) -> str | None:
    """Why the outputs are not the same in every epoch."""
    if not classifier.takes_images:
        return None
    for name, off in (("augmentation", "none"), ("cutout", 0.0), ("test_time_flip", False)):
        if getattr(config, name) != off:
            return f"{name}={getattr(config, name)} changes the images"
    return None
