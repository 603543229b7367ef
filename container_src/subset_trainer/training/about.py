"""What the run has learned of each training example: the rows of examples.parquet."""

import numpy as np
import torch

from subset_trainer.artifacts import Column
from subset_trainer.data import Splits
from subset_trainer.quality import duplicates, labels
from subset_trainer.training.evaluation import Judgement
from subset_trainer.training.record import Record


def columns(splits: Splits, record: Record, judged: Judgement, device: torch.device) -> dict[str, Column]:
    """Name → a value for each training example, in data order.

    Args:
        judged: of the training set, by the model at the end.
        device: to compare fingerprints on.
    """
    classes = np.array(splits.preprocessing.classes, object)
    given = splits.train.labels
    suspicion = labels.suspicion(judged.own, judged.rival, record.mean_losses())
    return {
        "id": splits.train_ids,
        "label": classes[given.numpy()],
        "selected": record.visits_N.numpy(),
        "weight": record.weights_N.numpy(),
        "running_loss": record.running_losses_N.numpy(),
        "margin": judged.margins.numpy(),
        "probable_label": classes[judged.predicted(given).numpy()],
        "mislabelled": suspicion.numpy(),
        "duplicate_group": duplicates.groups(judged.fingerprints, given, device).numpy(),
    }
