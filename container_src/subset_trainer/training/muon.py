"""Muon: SGD whose updates of kernels and hidden matrices are orthogonalised."""

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from subset_trainer.models import Classifier
from subset_trainer.training.unwrapped import SGD

COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Of x, x³ and x⁵: they bring all singular values near one in few iterations, not to one exactly."""
ITERATIONS = 5
MOST = 0.15
"""Largest share of a step's arithmetic that orthogonalising takes."""


class Muon(SGD):
    """Orthogonalised momentum (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024) for some
    groups, and SGD with Nesterov momentum for the others.

    ``torch.optim.Muon`` takes matrices only, and nothing else beside them. Here kernels [out, in, height, width] are
    matrices [out, in · height · width], and all groups are one optimiser.

    Args:
        groups: those with ``orthogonal=True`` have an ``inner_momentum``, and SGD's ``momentum=0`` and
            ``nesterov=False``. Their weight decay is decoupled.
        rate: the learning rate.
    """

    def __init__(self, groups: list[dict[str, Any]], rate: float) -> None:
        super().__init__(groups, lr=rate, fused=True)
        # The scale of a loss is taken from the gradients before the step, because orthogonalising is not linear.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one update."""
        for group in self.param_groups:
            for parameter in group["params"] if group.get("orthogonal") else ():
                if parameter.grad is not None:
                    parameter.grad.copy_(self._direction(parameter, group["inner_momentum"]))
        return super().step(closure)

    def _direction(self, parameter: Tensor, momentum: float) -> Tensor:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(gradient)
        velocity = state["velocity"].mul_(momentum).add_(gradient)
        rows = gradient.add(velocity, alpha=momentum).flatten(1)
        # So that an update changes outputs about equally, whatever the shape.
        scale = max(1.0, rows.shape[0] / rows.shape[1]) ** 0.5
        return scale * orthogonalised(rows).view(gradient.shape)


def orthogonalised(matrix: Tensor) -> Tensor:
    """U·Vᵀ of a matrix U·S·Vᵀ, approximately: with singular values from about 0.7 to 1.2, by Newton and Schulz's
    iteration of fifth order.

    Args:
        matrix: [m, n]; on a CPU float32.

    Returns:
        [m, n] float32.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.T).T
    a, b, c = COEFFICIENTS
    x = matrix / matrix.norm().clamp(min=1e-7)
    if x.is_cuda:
        x = x.bfloat16()
        for _ in range(ITERATIONS):
            square = x @ x.T
            x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
        return x.float()
    # The iterations X ← P·X have polynomials P in X·Xᵀ. Their product needs small matrices alone: on a CPU a third to
    # a half of the time. It needs float32.
    square, product = x @ x.T, None
    for iteration in range(ITERATIONS):
        factor = torch.addmm(square, square, square, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else product @ factor
        if iteration + 1 < ITERATIONS:
            square = factor @ square @ factor
    assert product is not None
    return product @ x


def chosen(classifier: Classifier, batch_size: int) -> set[nn.Parameter]:
    """The weights of hidden layers whose updates are orthogonalised: as many as cost at most :data:`MOST` of a step's
    arithmetic together, those that cost least beside their own layer's first.

    Args:
        classifier: the model. Its last layer is not hidden.
        batch_size: number of examples of a step.
    """
    layers = dict(classifier.network.named_modules())
    hidden, total = [], 0.0
    for name, positions in classifier.positions.items():
        layer = layers[name]
        weight = layer.weight
        assert isinstance(weight, nn.Parameter)
        arithmetic = (
            6.0 * batch_size * positions * weight.numel()
        )  # forward, and backward to inputs and weights
        total += arithmetic
        if layer is not classifier.head and weight.requires_grad:
            hidden.append((cost(weight) / arithmetic, weight))
    hidden.sort(key=lambda each: each[0])
    spent = accumulate(cost(weight) for _, weight in hidden)
    return {
        weight for (_, weight), sum_so_far in zip(hidden, spent, strict=True) if sum_so_far <= MOST * total
    }


def cost(weight: Tensor) -> float:
    """The number of operations of orthogonalising a weight's update."""
    m, n = sorted((weight.shape[0], weight[0].numel()))
    return 4.0 * m * m * n + 8.0 * ITERATIONS * m**3
