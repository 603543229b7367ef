import pytest
import torch

from subset_trainer.training.augmentation import Augmentation

SIZE = 16
REACH = SIZE // 8


def images(batch: int = 64, size: int = SIZE) -> torch.Tensor:
    return torch.randint(
        1, 256, (batch, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def augmented(before: torch.Tensor, augmentation: Augmentation, seed: int = 1) -> torch.Tensor:
    return augmentation.apply(before, augmentation.draw(len(before), torch.Generator().manual_seed(seed)))


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    padded = torch.nn.functional.pad(image[None].float(), (REACH,) * 4, mode="reflect")[0].to(torch.uint8)
    return padded[:, REACH + down : REACH + down + SIZE, REACH + right : REACH + right + SIZE]


@pytest.mark.parametrize(("kind", "mirroring"), [("crop", (False,)), ("flip-crop", (False, True))])
def test_every_image_is_a_reflected_shift_of_its_own_perhaps_mirrored(
    kind: str, mirroring: tuple[bool, ...]
) -> None:
    before = images()
    after = augmented(before, Augmentation(kind))
    assert after.shape == before.shape and after.dtype == torch.uint8
    shifts = [(d, r) for d in range(-REACH, REACH + 1) for r in range(-REACH, REACH + 1)]
    seen = set()
    for old, new in zip(before, after, strict=True):
        matches = [
            (down, right, flip)
            for down, right in shifts
            for flip in mirroring
            if torch.equal(new, moved(old, down, right).flip(2) if flip else moved(old, down, right))
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len({flip for _, _, flip in seen}) == len(mirroring)
    assert len({(down, right) for down, right, _ in seen}) > 10


def test_none_changes_nothing() -> None:
    before = images()
    assert augmented(before, Augmentation("none")) is before


def test_without_a_reach_images_are_only_mirrored() -> None:
    before = images(size=7)
    after = augmented(before, Augmentation("flip-crop", reach=0.0))
    assert all(
        torch.equal(new, old) or torch.equal(new, old.flip(2)) for old, new in zip(before, after, strict=True)
    )
    assert not torch.equal(after, before)


def test_cutout_blanks_one_square_whose_centre_lies_in_the_image() -> None:
    before = images(batch=400)
    fill = torch.tensor([0, 7, 255], dtype=torch.uint8).view(3, 1, 1)
    after = augmented(before, Augmentation("none", cutout=0.25, fill=fill))
    sizes = set()
    for old, new in zip(before, after, strict=True):
        blank = (new == fill).all(0)
        rows, columns = blank.any(1).nonzero().flatten(), blank.any(0).nonzero().flatten()
        hole = blank[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert hole.all() and int(hole.sum()) == int(blank.sum())
        assert torch.equal(new[:, ~blank], old[:, ~blank])
        sizes.add(tuple(hole.shape))
        # A side is cut off only where the square reaches over the border.
        for side, start, end in ((len(rows), rows[0], rows[-1]), (len(columns), columns[0], columns[-1])):
            assert side == 4 or start == 0 or end == SIZE - 1
    assert (4, 4) in sizes and (2, 2) in sizes and max(max(size) for size in sizes) == 4


def test_an_images_changes_depend_on_its_own_chances_alone() -> None:
    """So that cutting an epoch into other batches changes no image."""
    augmentation = Augmentation("flip-crop", cutout=0.5)
    before = images(batch=10)
    chances = augmentation.draw(10, torch.Generator().manual_seed(0))
    parts = [augmentation.apply(before[part], chances[part]) for part in (slice(0, 3), slice(3, 10))]
    assert torch.equal(torch.cat(parts), augmentation.apply(before, chances))


@pytest.mark.parametrize(("side", "most"), [(1, 0), (2, 1), (8, 1), (15, 1), (32, 2)])
def test_whatever_is_shifted_is_shifted_by_a_pixel_at_least(side: int, most: int) -> None:
    before = torch.arange(side * side, dtype=torch.uint8).view(1, 1, side, side).expand(200, 3, side, side)
    after = augmented(before, Augmentation("crop", reach=0.0625))
    inner = after[:, 0, side // 2, side // 2].int() - int(before[0, 0, side // 2, side // 2])
    columns = inner - side * (inner.float() / side).round().int()
    assert columns.abs().max() == most


def test_the_reach_is_a_share_of_the_side() -> None:
    before = images()
    after = augmented(before, Augmentation("crop", reach=0.0625))
    for old, new in zip(before, after, strict=True):
        assert any(torch.equal(new, moved(old, down, right)) for down in (-1, 0, 1) for right in (-1, 0, 1))
    assert torch.equal(augmented(before, Augmentation("crop", reach=0.0)), before)


def test_an_alternating_flip_mirrors_each_image_in_every_second_of_its_visits() -> None:
    before, augmentation = images(), Augmentation("flip-crop", reach=0.0, alternating=True)
    indices, visits_N = torch.randperm(100)[: len(before)], torch.zeros(100, dtype=torch.int32)
    visits_N[indices[:10]] = 7

    def visited(seed: int) -> torch.Tensor:
        drawn = augmentation.draw(len(before), torch.Generator().manual_seed(seed))
        return augmentation.apply(before, augmentation.alternated(drawn, indices, visits_N))

    first = visited(1)
    visits_N += 1
    second = visited(2)
    assert torch.equal(second, first.flip(3))
    visits_N += 1
    assert torch.equal(visited(3), first)
    mirrored = [not torch.equal(old, new) for old, new in zip(before, first, strict=True)]
    assert 16 < sum(mirrored) < 48
