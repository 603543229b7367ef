"""Torch's optimisers, without the time to import torch's compiler."""

import inspect

import torch


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
