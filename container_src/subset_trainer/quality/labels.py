"""Which examples look mislabelled."""

import torch
from torch import Tensor


def suspicion(own_N: Tensor, rival_N: Tensor, mean_losses_N: Tensor) -> Tensor:
    """float32 [N], from 0 to 1: how much speaks against an example's label in what training has seen.

    Args:
        own_N: probability of the label, of the model at the end.
        rival_N: the largest of another class.
        mean_losses_N: over the epochs that trained on the example; NaN where none has.
    """
    against_at_the_end = rival_N / (own_N + rival_N).clamp(min=torch.finfo(own_N.dtype).tiny)
    against_in_training = 1 - torch.exp(-mean_losses_N)
    both = (against_at_the_end + against_in_training) / 2
    # What was never trained on, the model has not learned by heart: its word is enough.
    return torch.where(mean_losses_N.isnan(), against_at_the_end, both)
