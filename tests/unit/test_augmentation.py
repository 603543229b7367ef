import pytest
import torch

from subset_trainer.training.augmentation import augment


def images(batch: int = 64, size: int = 16) -> torch.Tensor:
    return torch.randint(
        1, 256, (batch, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def shifts(size: int) -> list[tuple[int, int]]:
    reach = size // 8
    return [(down, right) for down in range(-reach, reach + 1) for right in range(-reach, reach + 1)]


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    reach = image.shape[1] // 8
    padded = torch.nn.functional.pad(image, (reach,) * 4)
    size = image.shape[1]
    return padded[:, reach - down : reach - down + size, reach - right : reach - right + size]


@pytest.mark.parametrize(("kind", "mirroring"), [("crop", (False,)), ("flip-crop", (False, True))])
def test_every_image_is_a_shift_of_its_own_perhaps_mirrored(kind: str, mirroring: tuple[bool, ...]) -> None:
    before = images()
    after = augment(before, kind, torch.Generator().manual_seed(1))
    assert after.shape == before.shape and after.dtype == torch.uint8
    seen = set()
    for old, new in zip(before, after, strict=True):
        matches = [
            (down, right, flip)
            for down, right in shifts(16)
            for flip in mirroring
            if torch.equal(new, moved(old, down, right).flip(2) if flip else moved(old, down, right))
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len({flip for _, _, flip in seen}) == len(mirroring)
    assert len({(down, right) for down, right, _ in seen}) > 10


def test_none_changes_nothing() -> None:
    before = images()
    assert augment(before, "none", torch.Generator()) is before


def test_images_smaller_than_the_padding_unit_are_only_mirrored() -> None:
    before = images(size=7)
    after = augment(before, "flip-crop", torch.Generator().manual_seed(0))
    assert all(
        torch.equal(new, old) or torch.equal(new, old.flip(2)) for old, new in zip(before, after, strict=True)
    )
