"""Groups of (nearly) equal examples."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from subset_trainer.insight import duplicates

CPU = torch.device("cpu")


def images(count: int, seed: int = 0) -> Tensor:
    """Coarse patterns, as photographs have."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randint(256, (count, 3, 4, 4), generator=draw).float()
    return torch.nn.functional.interpolate(coarse, 32, mode="bicubic").clamp(0, 255).to(torch.uint8)


def groups(inputs: Tensor, labels: Tensor | None = None) -> list[int]:
    labels = torch.zeros(len(inputs), dtype=torch.int64) if labels is None else labels
    prints = torch.cat([duplicates.fingerprint(part) for part in inputs.split(7)])
    return duplicates.groups(prints, labels, CPU).tolist()


def compressed(image: Tensor) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=60)
    return torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1)


def test_copies_and_what_looks_like_one() -> None:
    base = images(20)
    darker = (base[3].float() * 0.8).to(torch.uint8)
    moved = base[5].roll(1, 2)
    inputs = torch.cat([base, torch.stack([base[3], compressed(base[3]), darker, moved])])
    assert groups(inputs) == [-1] * 3 + [0, -1, 1] + [-1] * 14 + [0, 0, 0, 1]


def test_blank_images_are_alike_where_their_colour_is() -> None:
    inputs = torch.tensor([0, 255, 0, 255, 120]).to(torch.uint8)[:, None, None, None].expand(5, 3, 8, 8)
    assert groups(inputs.contiguous()) == [0, 1, 0, 1, -1]


def test_rows_of_a_table_must_be_equal() -> None:
    rows = torch.tensor([[1.0, 2.0], [2.0, 4.0], [1.0, 2.0], [1.0, 2.0000002], [2.0, 4.0]])
    assert groups(rows) == [0, 1, 0, -1, 1]


def test_none() -> None:
    assert groups(torch.arange(6.0).view(3, 2)) == [-1, -1, -1]


@pytest.mark.parametrize("most", [10, 1_000])
def test_blocks_and_classes_change_nothing(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base = images(50)
    inputs = base[torch.arange(150) % 50].clone()
    inputs[100:] = (inputs[100:].float() * 0.9).to(torch.uint8)
    expected = list(range(50)) * 3
    monkeypatch.setattr(duplicates, "BLOCK", 16)
    monkeypatch.setattr(duplicates, "MOST_WITH_ALL", most)
    assert groups(inputs, torch.arange(150) % 50 % 3) == expected


def test_many_that_are_alike_are_one_group() -> None:
    inputs = images(1)[0].expand(3_000, 3, 32, 32).clone()
    inputs[:, 0, 0, 0] = torch.arange(3_000) % 200
    assert set(groups(inputs)) == {0}


def test_rows_that_share_a_hash_are_not_taken_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([[1, 2], [1, 2], [3, 4], [1, 2], [0, 0]], np.float16)
    assert duplicates._first_equal(rows).tolist() == [0, 0, 2, 0, 4]
    monkeypatch.setattr(duplicates, "_hashes", lambda rows: np.zeros(len(rows), np.uint64))
    assert duplicates._first_equal(rows).tolist() == [0, 0, 2, 0, 4]
