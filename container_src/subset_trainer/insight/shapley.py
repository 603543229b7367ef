"""The contribution of each part of an example to the model's output: Shapley values by KernelSHAP.

Source: Lundberg & Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017, section 4.1. The
implementation is captum's.

The contributions sum to the output for all parts minus the output for no parts. A game of M parts has 2^M coalitions.
If these are few, each is evaluated once, weighted by the kernel, which gives exact Shapley values. Otherwise coalitions
are sampled in proportion to the kernel, each together with its complement, which reduces the error (Covert & Lee,
AISTATS 2021).
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
    """The output to be explained is not finite for some coalition."""


def is_exact(parts: int, evaluations: int) -> bool:
    """Whether `evaluations` is enough to evaluate every coalition of `parts` parts."""
    return 2**parts <= evaluations


def shapley_values(
    worth: Callable[[Tensor], Tensor], parts: int, evaluations: int, generator: torch.Generator
) -> Tensor:
    """float64 [M]: the contribution of each part.

    Args:
        worth: maps the parts that are present, bool [B, M], to the output for each coalition [B].
        parts: M.
        evaluations: the maximum number of coalitions that are evaluated. Even if it is less than M, each part is
            present in some of them.
        generator: draws the coalitions.

    Raises:
        NoNumberError: the output for some coalition is not finite.
    """
    if parts < 2:
        # The kernel is defined only for coalitions other than the empty and the full one, and there are none.
        ends = (
            torch.tensor([[True] * parts, [False] * parts]) if parts else torch.zeros(0, 0, dtype=torch.bool)
        )
        values = worth(ends).double() if parts else torch.zeros(0, dtype=torch.float64)
        return _finite(values)[:1] - values[1:]
    kernel = _kernel(lambda present: _finite(worth(present.bool())), parts, evaluations, generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum warns about more than 10,000 parts
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
    """Captum's KernelSHAP with the coalitions of this module."""
    # Imported here because it takes half a second, which jobs without explanations should not spend.
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
            # Sampled coalitions occur in proportion to their weight already, so they count equally.
            # Exact weights are scaled so that the largest, that of a single part, is 1.
            return torch.tensor(
                [parts * (parts - 1) / (math.comb(parts, size) * size * (parts - size)) if exact else 1.0]
            )

    return Kernel()


class _Constrained:
    """Weighted least squares, constrained to be exact for the empty and the full coalition.

    Captum's own solver gives these two a weight of one million in float32. A contribution of 1 then has an error of
    0.005 with 256 parts and of 0.15 with 1,000.
    """

    def fit(self, batches: "DataLoader[tuple[Tensor, ...]]") -> None:
        """Fit to one batch: coalitions [B, M] (first the full, then the empty one), outputs [B], weights [B]."""
        ((present, worth, weights),) = batches
        present, worth = present.double(), worth.double()
        total = worth[0] - worth[1]
        roots = weights[2:, None].double().sqrt()
        # The last part's contribution is the total minus the contributions of the others.
        free = present[2:, :-1] - present[2:, -1:]
        left = (worth[2:] - worth[1])[:, None] - total * present[2:, -1:]
        others = torch.linalg.lstsq(roots * free, roots * left, driver="gelsd").solution.flatten()
        self._values = torch.cat([others, total - others.sum(0, keepdim=True)])

    def representation(self) -> Tensor:
        return self._values


def _every(parts: int) -> Iterator[Tensor]:
    """All coalitions except the empty and the full one."""
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
