"""Random crops and mirroring of whole batches, on whichever device the batch is."""

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Shift each image by up to an eighth of its size (black at the border), and mirror half of them.

    For 32 × 32 images that is the usual 4-pixel padding and random crop.

    Args:
        images: [B, 3, H, W], uint8.
        kind: flip-crop, crop or none.
        generator: on the CPU, so that every device draws the same.

    Returns:
        A tensor of the same shape, dtype and device.
    """
    if kind == "none":
        return images
    batch, _, height, width = images.shape
    pad_height, pad_width = height // 8, width // 8
    rows_BH = torch.randint(2 * pad_height + 1, (batch, 1), generator=generator) + torch.arange(height)
    columns_BW = torch.randint(2 * pad_width + 1, (batch, 1), generator=generator) + torch.arange(width)
    if kind == "flip-crop":
        mirrored_B1 = torch.rand(batch, 1, generator=generator) < 0.5
        columns_BW = torch.where(mirrored_B1, columns_BW.flip(1), columns_BW)
    padded = F.pad(images, (pad_width, pad_width, pad_height, pad_height))
    rows_BH = rows_BH.to(images.device, non_blocking=True)
    columns_BW = columns_BW.to(images.device, non_blocking=True)
    # Gathering by flat position keeps it at one indexing kernel, whatever the mixture of shifts and mirrorings.
    positions_BHW = rows_BH[:, :, None] * padded.shape[3] + columns_BW[:, None, :]
    flat = padded.flatten(2)
    index = positions_BHW.flatten(1)[:, None, :].expand(-1, flat.shape[1], -1)
    return flat.gather(2, index).view(images.shape)
