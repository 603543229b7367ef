"""The hyperparameters of a run."""

from subset_trainer.config.hyperparameters import Hyperparameters, parse

__all__ = ["Hyperparameters", "parse"]
