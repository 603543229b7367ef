"""Batch normalisation over the examples of all processes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def convert(module: nn.Module, on_gpu: bool) -> nn.Module:
    """Replace a module's batch normalisations by ones over the whole distributed batch. Weights are kept.

    On GPUs these are torch's ``SyncBatchNorm``, which does not run on CPUs; there they are ``SyncedBatchNorm``.
    """
    if on_gpu:
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for name, child in list(module.named_children()):
        setattr(module, name, convert(child, on_gpu))
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        synced = SyncedBatchNorm(module.num_features, module.eps, module.momentum, module.affine)
        synced.load_state_dict(module.state_dict())
        return synced.train(module.training)
    return module


class _Total(torch.autograd.Function):
    """The sum over all processes. Its gradient is summed too, because every process's loss depends on each summand."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _total(values: Tensor) -> Tensor:
    total: Tensor = _Total.apply(values)
    return total


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Normalises [B, F, …] by the mean and variance of each feature over all processes, in training mode.

    Mean and variance are reduced separately, forward and backward, so that results are as exact as in a single process.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        pass

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if not self.training:
            return super().forward(input)
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            raise ValueError("batch normalisation without running statistics")
        over = [dimension for dimension in range(input.dim()) if dimension != 1]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        values = input.float()
        count = torch.tensor(float(values.numel() // values.shape[1]), device=values.device)
        dist.all_reduce(count)
        mean = _total(values.sum(over)) / count
        centred = values - mean.view(shape)
        variance = _total(centred.square().sum(over)) / count
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
            self.num_batches_tracked += 1
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)
