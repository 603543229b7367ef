"""The first convolution's kernels from image patches."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from subset_trainer import models
from subset_trainer.data.datasets import MemoryDataset
from subset_trainer.training import whitening
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.whitening import whiten

COLOURS = [0.5] * 3, [0.2] * 3


def smooth(images: int = 200, size: int = 16) -> MemoryDataset:
    """Images whose neighbouring pixels are alike, as those of photographs are."""
    noise = torch.rand(images, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(0))
    pixels = (255 * F.interpolate(noise, size=size, mode="bilinear")).to(torch.uint8)
    return MemoryDataset(pixels, torch.zeros(images, dtype=torch.int64))


def test_the_first_kernels_respond_to_patches_without_correlation_and_in_pairs() -> None:
    classifier, data = models.build("cnn", (3, 16, 16), 4, *COLOURS), smooth()
    layer = classifier.network[0]  # type: ignore[index]
    norm = layer.weight.detach().flatten(1).norm(dim=1).mean()
    others = {name: value.clone() for name, value in classifier.state_dict().items()}
    whiten(classifier, data, Ranks())
    kernels = layer.weight.detach().flatten(1)
    assert torch.equal(kernels[16:], -kernels[:16])
    torch.testing.assert_close(kernels.norm(dim=1), norm.expand(32))
    patches = F.unfold(classifier.prepare(data.inputs), layer.kernel_size, stride=layer.stride)
    responses = (kernels[:16] @ patches.transpose(0, 1).flatten(1)).double()
    moments = responses @ responses.T
    scales = moments.diagonal().sqrt()
    correlation = moments / (scales[:, None] * scales)
    assert (correlation - torch.eye(16)).abs().max() < 1e-2
    assert (scales[:-1] >= scales[1:] * 0.999).all()
    changed = [
        name for name, value in classifier.state_dict().items() if not torch.equal(value, others[name])
    ]
    assert changed == ["network.0.weight"]


def test_kernels_beyond_twice_the_components_stay_as_they_were() -> None:
    classifier = models.build("resnet18", (3, 16, 16), 4, *COLOURS)
    layer = classifier.network.conv1
    before = layer.weight.detach().clone()  # type: ignore[operator, union-attr]
    whiten(classifier, smooth(), Ranks())
    after = layer.weight.detach()  # type: ignore[operator, union-attr]
    assert torch.equal(after[54:], before[54:]) and not torch.equal(after[53], before[53])


def test_a_network_without_a_convolution_of_colours_stays_as_it_is() -> None:
    classifier = models.build("mlp", (3, 16, 16), 4, *COLOURS)
    before = [parameter.detach().clone() for parameter in classifier.parameters()]
    whiten(classifier, smooth(), Ranks())
    assert all(torch.equal(old, new) for old, new in zip(before, classifier.parameters(), strict=True))


def test_large_images_take_a_bounded_number_of_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def noted(*given: Any, **more: Any) -> torch.Tensor:
        patches = F.unfold(*given, **more)
        counts.append(len(patches) * patches.shape[2])
        return patches

    monkeypatch.setattr(whitening, "F", SimpleNamespace(unfold=noted))
    whiten(models.build("cnn", (3, 256, 256), 4, *COLOURS), smooth(100, 256), Ranks())
    assert (
        max(counts) <= whitening.PATCHES_AT_ONCE
        and 0.9 * whitening.PATCHES < sum(counts) <= whitening.PATCHES
    )
