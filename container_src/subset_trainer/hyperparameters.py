"""The hyperparameters under the name that they had before :mod:`subset_trainer.config`."""

from subset_trainer.config.data import LARGEST_IMAGE, MOST_TOKENS
from subset_trainer.config.hyperparameters import Hyperparameters, markdown_table, parse
from subset_trainer.config.selection import CORDS_STRATEGIES, SCOPES, StrategyName
from subset_trainer.config.training import ENCODER_DEFAULTS, FROZEN_ENCODER_RATE

__all__ = [
    "CORDS_STRATEGIES",
    "ENCODER_DEFAULTS",
    "FROZEN_ENCODER_RATE",
    "LARGEST_IMAGE",
    "MOST_TOKENS",
    "SCOPES",
    "Hyperparameters",
    "StrategyName",
    "markdown_table",
    "parse",
]
