"""Finds the training examples that the run leaves out."""

import torch

from subset_trainer.insight import cleaning
from subset_trainer.insight.cleaning import Examination, Examined
from subset_trainer.job.read import Material
from subset_trainer.job.values import Run
from subset_trainer.models import Classifier
from subset_trainer.training import out_of_memory, strategies
from subset_trainer.training.plan import scaled_learning_rate


def clean(run: Run, data: Material, classifier: Classifier) -> Examined:
    """Find the training examples to leave out.

    Raises:
        Terminated: SIGTERM arrived.
        UserError: a training that scores the labels diverged, or memory ran out.
    """
    folder, config, processes = run.contract.checkpoints, run.config, run.place.ranks.size
    classes = len(data.splits.preprocessing.classes)
    rate = scaled_learning_rate(config.learning_rate, processes, config.learning_rate_scaling)
    try:
        found = Examination(
            classifier,
            data.read,
            data.splits.train,
            config,
            lambda model, some, plan: strategies.selector(config, model, some, plan, run.place, classes),
            run.place,
            folder / cleaning.FILE if folder.is_dir() else None,
            {**data.identity(processes), "learning_rate": rate},
        ).run()
    except (RuntimeError, MemoryError) as error:
        out_of_memory.understood(error, config.batch_size)
    # Reseeded, so that training is the same whether labels were scored now or before an interruption.
    torch.manual_seed(config.seed)
    return found
