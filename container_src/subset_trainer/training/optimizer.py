"""Torch's optimisers without the wait for torch's compiler."""

import inspect

import torch
from torch import nn

from subset_trainer.config import Hyperparameters


class SGD(torch.optim.SGD):
    """``torch.optim.SGD``, to the last bit.

    Torch wraps these methods in others that first import its compiler, which takes seconds, only to tell it to leave
    them alone. Here they are as they were written.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class AdamW(torch.optim.AdamW):
    """``torch.optim.AdamW``, likewise."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def make(classifier: nn.Module, hp: Hyperparameters, learning_rate: float) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW for text encoders; weight decay on matrices and kernels alone."""
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    exempt = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": hp.weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    if hp.model == "encoder":
        return AdamW(groups, lr=learning_rate, fused=True)
    return SGD(groups, lr=learning_rate, momentum=hp.momentum, nesterov=hp.momentum > 0, fused=True)
