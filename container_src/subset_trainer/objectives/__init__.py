"""The meaning of a label: how outputs of the network are compared with it.

A network carries its objective. Training, evaluation, the validation split and the server use it through this
interface, so that a new objective is one new file here.
"""

from subset_trainer.objectives.classification import Classification
from subset_trainer.objectives.objective import Objective

CLASSIFICATION = Classification()

__all__ = ["CLASSIFICATION", "Classification", "Objective"]
