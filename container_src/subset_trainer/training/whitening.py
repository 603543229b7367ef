"""Initial kernels of the first convolution from the patches that it will see."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from subset_trainer.data import Dataset
from subset_trainer.models import Classifier
from subset_trainer.training.parallel.ranks import Ranks

EXAMPLES, PATCHES = 1_000, 1 << 20
"""Number of images whose patches are looked at, fewer where they have more patches than these together."""
AT_ONCE, PATCHES_AT_ONCE = 128, 1 << 16


@torch.no_grad()
def whiten(classifier: Classifier, dataset: Dataset, ranks: Ranks) -> None:
    """Set half of the first convolution's kernels to the principal components of image patches, and the other half to
    their negatives (after Page, "How to train your ResNet", part 8, 2019). Kernels beyond twice the number of
    components stay as they were drawn; the norm of all is that of before, on average.

    Batch normalisation behind it gives each component the same variance, which whitens the patches. A network without
    a convolution of colour images stays as it is.

    Args:
        classifier: fresh, on its device.
        dataset: the training images, of which some at equal distances are read.
        ranks: the processes; each has the same result.
    """
    name, layer = _first(classifier.network)
    if layer is None:
        return
    positions = classifier.positions[name]
    count = min(EXAMPLES, len(dataset), max(1, PATCHES // positions))
    sample = torch.linspace(0, len(dataset) - 1, count).long()
    if dataset.owners is not None:
        sample = sample[dataset.owners[sample] == ranks.rank]
    size = layer.weight[0].numel()
    sums = torch.zeros(size, size, dtype=torch.float64, device=layer.weight.device)
    for images in dataset.batches(sample.split(AT_ONCE), layer.weight.device):
        prepared = classifier.prepare(images)
        for part in prepared.split(max(1, PATCHES_AT_ONCE // positions)):
            patches = F.unfold(part, layer.kernel_size, layer.dilation, stride=layer.stride)
            rows = patches.transpose(1, 2).reshape(-1, size).double()
            sums += rows.T @ rows
    if dataset.owners is not None:
        sums = ranks.total(sums)
    _set(layer.weight, torch.linalg.eigh(sums).eigenvectors.flip(1).T.float())


def _first(network: nn.Module) -> tuple[str, nn.Conv2d | None]:
    """The first convolution and its name, if it is one of colour images."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module if module.in_channels == 3 and module.groups == 1 else None
    return "", None


def _set(weight: Tensor, components: Tensor) -> None:
    """Set the kernels [out, in, height, width] to these components, [size, size] of norm one, the largest first."""
    count = min(len(weight) // 2, len(components))
    norm = weight.flatten(1).norm(dim=1).mean()
    kernels = torch.cat([components[:count], -components[:count]]) * norm
    weight[: 2 * count] = kernels.view(2 * count, *weight.shape[1:])
