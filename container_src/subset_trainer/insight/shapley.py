"""How much each part of an example contributes to what a model makes of it: Shapley values, by KernelSHAP (Lundberg &
Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017, section 4.1), from captum.

The sum over the parts is what the model makes of the whole less what it makes of nothing. A game of M parts has 2^M
coalitions: where these are few, each is looked at once, with the kernel's weight, which gives the Shapley values
themselves. Else coalitions are drawn in proportion to the kernel, each together with its complement, which makes the
error smaller (Covert & Lee, AISTATS 2021).
"""

import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

AT_ONCE = 64
"""Coalitions that are evaluated together."""


class NoNumberError(ArithmeticError):
    """What shall be explained is no number for some of the parts."""


def is_exact(parts: int, evaluations: int) -> bool:
    """Whether so many evaluations are enough for every coalition of so many parts."""
    return 2**parts <= evaluations


def shapley_values(
    worth: Callable[[Tensor], Tensor], parts: int, evaluations: int, generator: torch.Generator
) -> Tensor:
    """float64 [M]: each part's contribution.

    Args:
        worth: bool [B, M], which of the parts are there → [B].
        parts: M.
        evaluations: how many coalitions are looked at, at most; of more parts than it, each is still in some of them.
        generator: draws the coalitions.

    Raises:
        NoNumberError: for some of the parts there is no number.
    """
    if parts < 2:
        # No coalition lies between nothing and all, for which the kernel is made.
        ends = (
            torch.tensor([[True] * parts, [False] * parts]) if parts else torch.zeros(0, 0, dtype=torch.bool)
        )
        values = worth(ends).double() if parts else torch.zeros(0, dtype=torch.float64)
        return _finite(values)[:1] - values[1:]
    kernel = _kernel(lambda present: _finite(worth(present.bool())), parts, evaluations, generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of more than 10,000 parts captum says that they are many
        values = kernel.attribute(
            torch.ones(1, parts),
            baselines=torch.zeros(1, parts),
            n_samples=2**parts if is_exact(parts, evaluations) else evaluations,
            perturbations_per_eval=AT_ONCE,
            return_input_shape=False,
        )
    return values.double().flatten()


def _finite(values: Tensor) -> Tensor:
    if not values.isfinite().all():
        raise NoNumberError
    return values


def _kernel(
    worth: Callable[[Tensor], Tensor], parts: int, evaluations: int, generator: torch.Generator
) -> Any:
    """Captum's KernelSHAP, with coalitions of our own."""
    # Takes half a second to import, which jobs without explanations need not wait for.
    from captum.attr import KernelShap

    exact = is_exact(parts, evaluations)

    class Kernel(KernelShap):
        def __init__(self) -> None:
            super().__init__(worth)
            self.interpretable_model = _Constrained()

        def kernel_shap_perturb_generator(self, original: Tensor, **_: Any) -> Iterator[Tensor]:
            yield torch.ones(1, parts, dtype=torch.int64)
            yield torch.zeros(1, parts, dtype=torch.int64)
            yield from _every(parts) if exact else _pairs(parts, generator)

        def kernel_shap_similarity_kernel(
            self, original: Tensor, perturbed: Tensor, present: Tensor, **_: Any
        ) -> Tensor:
            size = int(present.sum())
            if size in (0, parts):
                return torch.tensor([self.inf_weight])
            # Drawn coalitions come as often as they weigh. The largest weight is 1, that of a single part.
            return torch.tensor(
                [parts * (parts - 1) / (math.comb(parts, size) * size * (parts - size)) if exact else 1.0]
            )

    return Kernel()


class _Constrained:
    """Weighted least squares in which nothing and all are met exactly. Captum's own has weights of a million in float32
    for these two, after which a contribution of one is known to 0.005 with 256 parts, and to 0.15 with 1,000."""

    def fit(self, batches: "DataLoader[tuple[Tensor, ...]]") -> None:
        """One batch: coalitions [B, M], the first of all parts, the second of none; their worth [B], weights [B]."""
        ((present, worth, weights),) = batches
        present, worth = present.double(), worth.double()
        total = worth[0] - worth[1]
        roots = weights[2:, None].double().sqrt()
        # The last part has what the others leave of the total.
        free = present[2:, :-1] - present[2:, -1:]
        left = (worth[2:] - worth[1])[:, None] - total * present[2:, -1:]
        others = torch.linalg.lstsq(roots * free, roots * left, driver="gelsd").solution.flatten()
        self._values = torch.cat([others, total - others.sum(0, keepdim=True)])

    def representation(self) -> Tensor:
        return self._values


def _every(parts: int) -> Iterator[Tensor]:
    """All coalitions but the first and the last."""
    for present in itertools.islice(itertools.product((0, 1), repeat=parts), 1, 2**parts - 1):
        yield torch.tensor([present])


def _pairs(parts: int, generator: torch.Generator) -> Iterator[Tensor]:
    sizes = torch.arange(1, parts, dtype=torch.float64)
    frequencies = 1 / (sizes * (parts - sizes))
    while True:
        size = int(torch.multinomial(frequencies, 1, generator=generator)) + 1
        present = torch.zeros(1, parts, dtype=torch.int64)
        present[0, torch.randperm(parts, generator=generator)[:size]] = 1
        yield present
        yield 1 - present
