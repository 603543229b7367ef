"""The irreducible losses of RHO-LOSS: the losses on the training examples of a model trained on held-out data alone."""

import logging

import torch
from torch import Tensor

from subset_selection.uniform import Full
from subset_trainer.config import Hyperparameters
from subset_trainer.models import Classifier
from subset_trainer.training import loop
from subset_trainer.training.evaluation import look_at
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.rounds import Data, NativeSelector
from subset_trainer.training.trainee import Trainee

logger = logging.getLogger(__name__)


def irreducible_losses(fresh: Classifier, data: Data, hp: Hyperparameters, place: Place) -> Tensor:
    """Train a model on the validation set, and return its loss on each training example, [N].

    Args:
        fresh: an untrained copy of the run's classifier; it is trained in place.
        data: the run's data.
        hp: the run's hyperparameters. The model trains for as many epochs, each on the whole validation set.
        place: the device and the processes.

    Raises:
        Terminated: SIGTERM arrived.
        UserError: the training diverges.
    """
    logger.info("training a model on the %d validation examples, for rho-loss", len(data.validation))
    held_out = Data(data.validation, data.validation)
    plan = Plan.full(hp, len(data.validation), place.ranks.size)
    selector = NativeSelector(Full(), fresh, held_out, plan.budget, place)
    loop.train(Trainee(fresh, hp, plan, place), held_out, selector, plan)
    with torch.no_grad():
        part, own = look_at(fresh, data.train, place)
        return place.ranks.whole(part.losses(), own, len(data.train))
