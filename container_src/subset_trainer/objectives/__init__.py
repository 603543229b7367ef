"""What a label is: how an output of the network is held against it.

A network carries its objective. The training, the evaluation, the split of the data and the server ask it, so that
another objective is another file here.
"""

from subset_trainer.objectives.classification import Classification
from subset_trainer.objectives.objective import Objective

CLASSIFICATION = Classification()

__all__ = ["CLASSIFICATION", "Classification", "Objective"]
