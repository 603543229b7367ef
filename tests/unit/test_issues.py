"""Problems of the data beside wrong labels and duplicates."""

import numpy as np
import pytest
import torch

from subset_trainer.data import Column, MemoryDataset, TableKind
from subset_trainer.insight import issues

CPU = torch.device("cpu")


def test_what_lies_apart_is_an_outlier() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(500, 200, generator=draw) * 0.01 + torch.eye(200)[torch.arange(500) % 5]
    features[7] = torch.randn(200, generator=draw)
    far = issues.remoteness(issues.narrow(features), CPU)
    assert (far > 1).nonzero().flatten().tolist() == [7]


def test_the_scale_of_the_features_and_equal_examples_make_no_difference() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(500, 20, generator=draw)
    features[7] *= 6
    far = issues.remoteness(features, CPU)
    assert (far > 1).nonzero().flatten().tolist() == [7]
    assert torch.allclose(issues.remoteness(features * 1_000, CPU), far)
    # Most examples are there many times.
    several = torch.cat([features, features[100:101].repeat(700, 1)])
    assert (issues.remoteness(several, CPU) > 1).nonzero().flatten().tolist() == [7]


def test_images_of_another_kind_are_outliers_by_their_look() -> None:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (400, 3, 8, 8), generator=draw).float()
    photographs = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")
    photographs = 0.5 * photographs + 60 + 10 * torch.randn(photographs.shape, generator=draw)
    images = photographs.clamp(0, 255).byte()
    images[3] = torch.randint(0, 256, (3, 32, 32), generator=draw)
    images[9] = 130
    images[27] = 255 * ((torch.arange(32)[:, None] // 2 + torch.arange(32) // 2) % 2)
    seen = issues.look(images, issues.brightness(images))
    assert seen.shape == (400, issues.LOOK)
    far = issues.remoteness(issues.standardised(seen), CPU)
    assert (far > 1).nonzero().flatten().tolist() == [3, 9, 27]
    tiny = torch.randint(0, 256, (4, 3, 3, 3), dtype=torch.uint8)
    assert issues.look(tiny, issues.brightness(tiny)).isfinite().all()


def test_what_has_no_look_is_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert issues.standardised(torch.empty(300, 0)).shape == (300, 0)
    assert [*recwarn] == []


@pytest.mark.parametrize("count", [1, 5, 12])
def test_few_examples_and_equal_ones_have_no_outliers(count: int) -> None:
    assert issues.remoteness(torch.ones(count, 4), CPU).max() <= 1


def test_images_that_are_dark_bright_or_blurry() -> None:
    images = torch.randint(60, 200, (60, 3, 32, 32), dtype=torch.uint8)
    images[3] = images[3] // 8
    images[4] = 250 + images[4] // 50
    images[5] = torch.nn.functional.avg_pool2d(images[5].float(), 9, 1, 4).byte()
    # Neither dark enough nor bright enough, and as sharp as before.
    images[6], images[7] = images[6] // 2, 180 + images[7] // 8
    found = issues.image_issues(issues.traits(issues.brightness(images)))
    assert {row: found[row] for row in range(60) if found[row]} == {3: "dark", 4: "bright", 5: "blurry"}
    assert issues.image_issues(torch.zeros(3, 0)).tolist() == [None] * 3


def test_sizes_that_are_far_from_the_others() -> None:
    draw = np.random.default_rng(0)
    # Landscape and portrait, from 400 x 300 to 600 x 450 pixels.
    long = draw.integers(400, 600, 200)
    landscape = (np.arange(200) % 3 > 0)[:, None]
    both = np.where(landscape, np.stack([long * 0.75, long], 1), np.stack([long, long * 0.75], 1))
    sizes = torch.from_numpy(both.round()).float()
    assert issues.odd_sizes(sizes)[0].tolist() == []
    sizes[7], sizes[8], sizes[9], sizes[10] = torch.tensor(
        [[20, 30], [4_000, 3_000], [60, 2_000], [800, 260]]
    ).float()
    odd, said = issues.odd_sizes(sizes)
    assert sorted(odd.tolist()) == [7, 8, 9, 10] and odd[-1] == 10
    assert said[9] == "60 x 2000 pixels" and said[11] is None


def test_among_equal_sizes_only_a_factor_of_two_is_odd() -> None:
    sizes = torch.tensor([[32.0, 32]] * 50 + [[32, 36], [45, 32], [64, 64], [16, 16], [32, 64]])
    assert sorted(issues.odd_sizes(sizes)[0].tolist()) == [52, 53, 54]
    # Lines of text are all wide, so a square is odd.
    lines = torch.tensor([[30.0, 300]] * 50 + [[90, 90], [30, 400]])
    assert issues.odd_sizes(lines)[0].tolist() == [50]


def test_unknown_sizes_and_other_data_have_no_odd_ones() -> None:
    assert issues.odd_sizes(torch.zeros(4, 0))[1].tolist() == [None] * 4
    assert issues.odd_sizes(torch.zeros(4, 2))[0].tolist() == []
    sizes = torch.tensor([[0.0, 0], [90, 90], *[[10, 10]] * 8])
    assert issues.odd_sizes(sizes)[0].tolist() == [1]


def test_a_category_on_which_the_model_is_worse() -> None:
    draw = np.random.default_rng(0)
    kind = TableKind(
        ("x", "y"), columns=(Column("n", "numeric"), Column("town", "categorical", categories=("A", "B")))
    )

    def part(count: int) -> tuple[MemoryDataset, np.ndarray]:
        town = draw.integers(2, size=count)
        inputs = np.stack([draw.normal(size=count), town == 0, town == 1], 1).astype(np.float32)
        return MemoryDataset(torch.from_numpy(inputs), torch.zeros(count, dtype=torch.int64)), town

    (training, own), (validation, held) = part(300), part(200)
    same = torch.ones(300, 4), torch.ones(200, 4)
    right = draw.random(200) < np.where(held == 1, 0.6, 0.95)
    (group,) = issues.weak_groups(training, validation, kind, same[0][:, :0], same[1][:10, :0], right)
    assert group.name == "town = B" and group.rows.tolist() == np.flatnonzero(own == 1).tolist()
    assert issues.names_of([group], 300).tolist() == [("town = B" if town else None) for town in own]
    equal = draw.random(200) < 0.8
    assert issues.weak_groups(training, validation, kind, same[0][:, :0], same[1][:10, :0], equal) == []


def test_a_cluster_on_which_the_model_is_worse() -> None:
    draw = torch.Generator().manual_seed(0)
    where = torch.arange(600) % 4
    features = torch.eye(4)[where] + 0.01 * torch.randn(600, 4, generator=draw)
    kind = TableKind(("x", "y"), columns=(Column("n", "numeric"),))
    dataset = MemoryDataset(torch.zeros(600, 1), torch.zeros(600, dtype=torch.int64))
    right = ((where != 2) | (torch.arange(600) % 3 == 0)).numpy()
    found = issues.weak_groups(dataset, dataset, kind, features, features, right)
    # Whatever the clusters are, those that are named are of the part that is often wrong.
    assert found and all(set(where[group.rows].tolist()) == {2} for group in found)


def test_a_rare_class() -> None:
    labels = np.repeat([0, 1, 2], [500, 480, 20])
    (issue,) = issues.rare_classes(labels, ("a", "b", "c"))
    assert issue.name == "Rare class: c" and issue.rows.tolist() == list(range(980, 1_000))
    assert issues.rare_classes(labels[:980], ("a", "b", "c")) == []


def test_a_single_image_of_a_single_pixel_looks_like_nothing_but_itself() -> None:
    image = torch.full((1, 3, 1, 1), 7, dtype=torch.uint8)
    looked = issues.look(image, image.float().mean(1))
    assert looked.isfinite().all()
    assert torch.equal(issues.standardised(looked), torch.zeros_like(looked))
