"""The irreducible losses of RHO-LOSS: what a model trained on held-out data alone makes of the training examples."""

import logging

import torch
from torch import Tensor

from subset_selection.catalogue import REFERENCE
from subset_selection.uniform import Full
from subset_trainer.data import Dataset
from subset_trainer.hyperparameters import Hyperparameters
from subset_trainer.models import Classifier
from subset_trainer.training import loop
from subset_trainer.training.devices import Machine
from subset_trainer.training.evaluation import look_at
from subset_trainer.training.ranks import Ranks
from subset_trainer.training.rounds import NativeSelector

logger = logging.getLogger(__name__)


def irreducible_losses(
    fresh: Classifier,
    training: Dataset,
    validation: Dataset,
    hp: Hyperparameters,
    machine: Machine,
    images: bool,
    ranks: Ranks,
) -> Tensor:
    """Train on the validation set, as the run itself trains, and return the loss on each training example, [N].

    Args:
        fresh: a classifier of its own, not yet trained; it is thrown away.
        training, validation: the run's data.
        hp: the run's hyperparameters; as many epochs, all of the validation set in each.
        machine: where.
        images: whether the inputs are augmented.
        ranks: who trains it together; SIGTERM ends this training, too.
    """
    logger.info("training a model on the %d validation examples, for rho-loss", len(validation))
    loop.train(
        fresh,
        validation,
        validation,
        NativeSelector(Full(), fresh, validation, validation, machine, ranks),
        len(validation),
        hp.model_copy(update={"strategy": REFERENCE, "fraction": 1.0, "warm_fraction": 0.0}),
        machine,
        images,
        ranks,
        lambda report: None,
    )
    with torch.no_grad():
        part, own = look_at(fresh, training, machine, ranks)
        return ranks.whole(part.losses(), own, len(training))
