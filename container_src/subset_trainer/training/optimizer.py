"""Torch's optimisers, without the time to import torch's compiler."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from subset_trainer.config import Hyperparameters
from subset_trainer.config.training import FRESH_LAYER_TIMES, JOINING_LAYERS_TIMES
from subset_trainer.models import Classifier, JoinedEncoder, TextEncoder


class SGD(torch.optim.SGD):
    """``torch.optim.SGD`` with bitwise the same results.

    Torch wraps these methods to exclude them from compilation, and the wrappers import torch's compiler, which takes
    seconds. This class uses the unwrapped methods.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class AdamW(torch.optim.AdamW):
    """``torch.optim.AdamW`` with unwrapped methods; see :class:`SGD`."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def make(classifier: nn.Module, hp: Hyperparameters, learning_rate: float) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW for text encoders. Weight decay applies to matrices and kernels only.

    Beside a text encoder that is trained as a whole, fresh layers have a higher learning rate: the last one, or those
    that join the encoder with a table.
    """
    parts: list[tuple[Iterable[nn.Parameter], dict[str, Any]]] = [(classifier.parameters(), {})]
    network = classifier.network if isinstance(classifier, Classifier) else None
    if isinstance(network, TextEncoder) and hp.fine_tune == "all" and network.head_is_fresh:
        times = JOINING_LAYERS_TIMES if isinstance(network, JoinedEncoder) else FRESH_LAYER_TIMES
        parts = [(network.body.parameters(), {}), (network.head.parameters(), {"rate_times": times})]
    groups = []
    for parameters, settings in parts:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        decayed = [parameter for parameter in trained if parameter.ndim > 1]
        exempt = [parameter for parameter in trained if parameter.ndim <= 1]
        groups += [
            {"params": decayed, "weight_decay": hp.weight_decay, **settings},
            {"params": exempt, "weight_decay": 0.0, **settings},
        ]
    if hp.model == "encoder":
        return AdamW(groups, lr=learning_rate, fused=True)
    return SGD(groups, lr=learning_rate, momentum=hp.momentum, nesterov=hp.momentum > 0, fused=True)


def set_rate(made: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of weights this learning rate, times the group's own factor if it has one."""
    for group in made.param_groups:
        group["lr"] = rate * group.get("rate_times", 1)
