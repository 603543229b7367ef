"""Random crops, mirroring and cutout of whole batches, on the device of the batch."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images [B, 3, H, W], uint8.

    Each image is shifted by up to ``reach`` of its size, at least a pixel unless it is 0, with reflection padding. Half
    of the images are mirrored: drawn anew for each sample, or each image in every second of its visits (alternating
    flip; Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024, section 3.6). If ``cutout`` is positive, a
    square is blanked (DeVries & Taylor, "Improved regularization of convolutional neural networks with cutout", 2017).
    """

    kind: str
    """flip-crop, crop or none."""
    cutout: float = 0.0
    """Side of the blanked square as a fraction of the image's side. Its centre is anywhere in the image."""
    fill: Tensor | None = None
    """[3, 1, 1] uint8: the colour of blanked pixels; None: black."""
    reach: float = 0.125
    """The largest shift as a fraction of the image's side: an eighth is the usual four pixels of 32 × 32 images."""
    alternating: bool = False

    def draw(self, visits: int, generator: torch.Generator) -> Tensor:
        """Draw the random numbers for a number of samples, [visits, 5] float32 in [0, 1).

        They are drawn on the CPU, so that they are the same for every device, and all at once, so that they need only
        one transfer.
        """
        if self.kind == "none" and not self.cutout:
            return torch.empty(visits, 0)
        return torch.rand(visits, 5, generator=generator)

    def alternated(self, chances: Tensor, indices: Tensor, visits_N: Tensor) -> Tensor:
        """The random numbers [K, 5] with those of mirroring replaced, if flips alternate.

        Args:
            chances: as drawn.
            indices: [K] int64, the training examples.
            visits_N: [N] how often each example was trained on before.
        """
        if not self.alternating or not chances.shape[1]:
            return chances
        # Which way each image lies at first is drawn from its number, so that no run has to remember it.
        at_first_N = torch.rand(len(visits_N), generator=torch.Generator().manual_seed(0)) < 0.5
        mirrored = at_first_N[indices] ^ (visits_N[indices] % 2 == 1)
        return torch.cat([chances[:, :2], torch.where(mirrored, 0.25, 0.75)[:, None], chances[:, 3:]], dim=1)

    def apply(self, images: Tensor, chances: Tensor) -> Tensor:
        """Augment images by these random numbers, [B, 5] on the same device. Shape, dtype and device stay the same."""
        height, width = images.shape[2:]
        down, right, mirror, hole_row, hole_column = chances.unbind(1) if chances.shape[1] else [chances] * 5
        if self.kind != "none":
            rows_BH = _shifted(down, height, self.reach)
            columns_BW = _shifted(right, width, self.reach)
            if self.kind == "flip-crop":
                columns_BW = torch.where(mirror[:, None] < 0.5, columns_BW.flip(1), columns_BW)
            # Gathering by flat position needs one indexing kernel for any mixture of shifts and mirrored images.
            positions_BHW = rows_BH[:, :, None] * width + columns_BW[:, None, :]
            flat = images.flatten(2)
            index = positions_BHW.flatten(1)[:, None, :].expand(-1, flat.shape[1], -1)
            images = flat.gather(2, index).view(images.shape)
        if self.cutout:
            in_rows_BH = _covered(hole_row, height, round(self.cutout * height))
            in_columns_BW = _covered(hole_column, width, round(self.cutout * width))
            hole_B1HW = (in_rows_BH[:, :, None] & in_columns_BW[:, None, :])[:, None]
            fill = images.new_zeros(1) if self.fill is None else self.fill
            images = torch.where(hole_B1HW, fill, images)
        return images


def _shifted(chance_B: Tensor, size: int, share: float) -> Tensor:
    """[B, size] the source position of each pixel: shifted by up to this share of the size, reflected at borders."""
    # No shift at all would be no augmentation: networks learn the wrong labels of small images by heart.
    reach = min(max(int(share * size), 1), size - 1) if share else 0
    shift_B1 = (chance_B * (2 * reach + 1)).long()[:, None] - reach
    positions = (torch.arange(size, device=chance_B.device) + shift_B1).abs()
    return (size - 1) - ((size - 1) - positions).abs()


def _covered(chance_B: Tensor, size: int, side: int) -> Tensor:
    """[B, size] whether each position lies within an interval of length ``side`` around a random position."""
    start_B1 = (chance_B * size).long()[:, None] - side // 2
    positions = torch.arange(size, device=chance_B.device)
    return (positions >= start_B1) & (positions < start_B1 + side)
