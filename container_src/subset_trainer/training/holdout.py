"""The irreducible losses of RHO-LOSS: what a model trained on held-out data alone makes of the training examples."""

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
    """Train on the validation set, as the run itself trains, and return the loss on each training example, [N].

    Args:
        fresh: a classifier of its own, not yet trained; it is thrown away.
        data: the run's.
        hp: the run's hyperparameters; as many epochs, all of the validation set in each.
        place: where; SIGTERM ends this training, too.
    """
    logger.info("training a model on the %d validation examples, for rho-loss", len(data.validation))
    held_out = Data(data.validation, data.validation)
    plan = Plan.full(hp, len(data.validation), place.ranks.size)
    selector = NativeSelector(Full(), fresh, held_out, plan.budget, place)
    loop.train(Trainee(fresh, hp, plan, place), held_out, selector, plan)
    with torch.no_grad():
        part, own = look_at(fresh, data.train, place)
        return place.ranks.whole(part.losses(), own, len(data.train))
