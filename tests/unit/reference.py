"""What the strategies' tests are held against: gradients by autograd, and CORDS's own classes."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.selection import Head
from subset_selection import Pool

logger = logging.getLogger("cords")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pool(
    examples: int,
    classes: int = 4,
    features: int = 6,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Pool:
    draw = generator(seed)
    return Pool(
        torch.randint(classes, (examples,), generator=draw),
        torch.randn(examples, classes, generator=draw, dtype=dtype),
        torch.randn(examples, features, generator=draw, dtype=dtype),
    )


def gradients(examples: Pool, logits: Tensor | None = None) -> Tensor:
    """The N × (C + C·D) matrix that the closed forms avoid, by autograd."""
    assert examples.logits is not None and examples.features is not None
    rows = []
    for row in range(len(examples)):
        output = (examples.logits if logits is None else logits)[row].clone().requires_grad_()
        loss = nn.functional.cross_entropy(output[None], examples.labels[row : row + 1])
        (residual,) = torch.autograd.grad(loss, output)
        rows.append(torch.cat([residual, torch.outer(residual, examples.features[row]).flatten()]))
    return torch.stack(rows)


class Problem:
    """A linear model and data for CORDS's strategies, and the same as pools."""

    def __init__(self, examples: int, validation: int, classes: int, features: int = 7, batch: int = 16):
        torch.manual_seed(0)
        self.classes = classes
        self.model = Head(features, classes).eval()
        self.batch = batch
        self._train, self._validation = (
            torch.utils.data.TensorDataset(
                # Every class has its share of the examples: CORDS divides its budget by class and rounds up.
                torch.randn(size, features),
                torch.arange(size)[torch.randperm(size)] % classes,
            )
            for size in (examples, validation)
        )

    def loaders(self) -> list[Any]:
        return [
            torch.utils.data.DataLoader(data, batch_size=self.batch)
            for data in (self._train, self._validation)
        ]

    def pools(self) -> tuple[Pool, Pool]:
        with torch.no_grad():
            train, validation = (
                Pool(data.tensors[1], self.model(data.tensors[0]), data.tensors[0])
                for data in (self._train, self._validation)
            )
        return train, validation

    def glister(self, budget: int, eta: float, scope: str, greedy: str, rounds: int = 15) -> list[int]:
        from cords.selectionstrategies.SL import GLISTERStrategy

        strategy = GLISTERStrategy(
            *self.loaders(),
            self.model,
            nn.CrossEntropyLoss(reduction="none"),
            eta,
            "cpu",
            self.classes,
            True,
            scope,
            greedy,
            logger,
            rounds,
        )
        indices, _ = strategy.select(budget, self.model.state_dict())
        return [int(index) for index in indices]

    def gradmatch(self, budget: int, scope: str, lam: float, valid: bool = False) -> tuple[Tensor, Tensor]:
        from cords.selectionstrategies.SL import GradMatchStrategy

        strategy = GradMatchStrategy(
            *self.loaders(),
            self.model,
            nn.CrossEntropyLoss(reduction="none"),
            0.1,
            "cpu",
            self.classes,
            True,
            scope,
            logger,
            valid,
            True,
            lam,
        )
        indices, weights = strategy.select(budget, self.model.state_dict())
        return torch.tensor([int(index) for index in indices]), weights
