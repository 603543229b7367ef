"""Selection by CORDS's own GLISTERDataLoader, in our loop.

CORDS chooses the examples; the schedule, eval mode, data order and budget are ours (CORDS would train its first
``select_every`` epochs on a random subset, select in train mode, and round the budget down).
"""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from subset_trainer.data import Dataset, MemoryDataset
from subset_trainer.errors import UserError
from subset_trainer.models import Classifier
from subset_trainer.selection import Refresh, Subset
from subset_trainer.training.devices import Machine
from subset_trainer.training.rounds import checked, everything

logger = logging.getLogger(__name__)
BATCH = 512


class CordsProtocolModel(nn.Module):
    """A classifier behind the two methods by which CORDS asks for the last layer."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def get_embedding_dim(self) -> int:
        return self.classifier.head.in_features

    def forward(self, inputs: Tensor, last: bool = False, freeze: bool = False) -> Any:
        """Logits [B, C], with the last layer's input [B, D] beside them if ``last``; no gradient below it if
        ``freeze``."""
        with torch.set_grad_enabled(not freeze):
            _, features = self.classifier.logits_and_features(inputs)
        logits = self.classifier.head(features)
        return (logits, features) if last else logits


class CordsGlisterSelector:
    """Hands CORDS the data once, and asks its loader to resample at each round.

    Args:
        eta: GLISTER's step size.

    Raises:
        UserError: the data does not fit in memory, or CORDS is not installed.
    """

    refresh: Refresh = "periodically"

    def __init__(
        self,
        classifier: Classifier,
        train: Dataset,
        validation: Dataset,
        machine: Machine,
        *,
        eta: float,
        fraction: float,
        classes: int,
    ) -> None:
        try:
            from cords.utils.data.dataloader.SL.adaptive import GLISTERDataLoader
            from dotmap import DotMap
        except ImportError as error:
            raise UserError(
                f"hyperparameter backend='cords' needs CORDS, which does not import here: {error}"
            ) from error
        if not isinstance(train, MemoryDataset) or not isinstance(validation, MemoryDataset):
            raise UserError(
                "hyperparameter backend='cords' expects data that fits in memory; use backend='native'"
            )
        self._examples = len(train)
        model = CordsProtocolModel(classifier)
        arguments = DotMap(
            # CORDS copies the model, mode included, and later loads weights into the copy: so it stays in eval mode.
            model=model.eval(),
            loss=nn.CrossEntropyLoss(reduction="none"),
            eta=eta,
            num_classes=classes,
            num_epochs=1,
            device=str(machine.device),
            fraction=fraction,
            select_every=1,
            kappa=0,
            linear_layer=True,
            selection_type="Supervised",
            greedy="Stochastic",
        )
        with _seeded(torch.Generator().manual_seed(0)):
            self._loader = GLISTERDataLoader(_sequential(train), _sequential(validation), arguments, logger)

    def select(self, budget: int, generator: torch.Generator) -> Subset:
        """Raises AlgorithmError where CORDS's answer breaks the rules."""
        if budget == self._examples:
            # CORDS's stochastic greedy raises there: it samples more candidates than remain.
            return everything(self._examples)
        self._loader.budget = budget
        with _seeded(generator):
            self._loader.resample()
        indices = torch.as_tensor(np.asarray(self._loader.subset_indices, dtype=np.int64))
        weights = torch.as_tensor(self._loader.subset_weights, dtype=torch.float32)
        return checked(Subset(indices, weights), self._examples, budget)


def _sequential(dataset: MemoryDataset) -> torch.utils.data.DataLoader[tuple[Tensor, ...]]:
    """CORDS takes positions in the loader's order for indices: it must not shuffle."""
    examples = torch.utils.data.TensorDataset(dataset.inputs, dataset.labels)
    return torch.utils.data.DataLoader(examples, batch_size=BATCH, shuffle=False)


@contextmanager
def _seeded(generator: torch.Generator) -> Iterator[None]:
    """CORDS draws from the global generators of random and numpy: seed them from ours, and put them back."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    seed = int(torch.randint(2**31, (), generator=generator))
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
