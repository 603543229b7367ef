"""The arithmetic of the benchmark of the library, and what it compares."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import library, library_peers, pairs
from benchmarks.pairs import Loading, Taken, Training
from subset_selection import SubsetLoader
from subset_trainer.errors import UserError


def test_ratios_are_of_each_pair_for_each_sample() -> None:
    timings = [
        (Taken(2.0, 1.0, 100), Taken(2.0, 1.0, 100)),  # 1
        (Taken(9.0, 6.0, 200), Taken(3.0, 2.0, 100)),  # 30 to 20 ms a sample: 1.5; by the clock 1.5
        (Taken(1.0, 4.0, 100), Taken(4.0, 1.0, 50)),  # 40 to 20: 2; by the clock 10 to 80
    ]
    found = pairs.summary(timings)
    assert found == {
        "ms": 30_000.0,
        "other_ms": 20_000.0,
        "wall_ratio": 1.0,
        "ratio": 1.5,
        "low": 1.25,
        "high": 1.75,
    }
    assert pairs.summary(timings[1:2])["low"] == 1.5
    with pytest.raises(ValueError, match="no pair"):
        pairs.summary([])


def test_the_first_side_alternates() -> None:
    order: list[str] = []

    def side(name: str) -> Taken:
        order.append(name)
        return Taken(0.0, 0.0, len(order))

    found = pairs.alternating(lambda: side("one"), lambda: side("other"), 3)
    assert order == ["one", "other", "other", "one", "one", "other"]
    assert [(one.samples, other.samples) for one, other in found] == [(1, 2), (4, 3), (5, 6)]


@pytest.mark.parametrize(("ratio", "met"), [(1.02, True), (1.0201, False)])
def test_the_limit(ratio: float, met: bool) -> None:
    row = {"strategy": "rs2", "training": True, "ms": 1.0, "other_ms": 1.0, "low": 1.0, "high": 1.0}
    judged = library.judged({**row, "ratio": ratio, "wall_ratio": 1.0})
    assert judged["met"] is met
    assert ("(above 1.02)" in library.shown_epochs([judged])[-1]) is not met


def test_both_sides_read_as_many_examples_and_learn() -> None:
    images, labels = library.generated(64)
    dataset = TensorDataset(images, labels)
    loader = SubsetLoader(dataset, strategy="rs2", fraction=0.5, batch_size=16)
    one, other = Training(10), Training(10)
    before = [parameter.clone() for parameter in one.model.parameters()]
    assert pairs.ours(loader, one) == pairs.plain(pairs.shuffled(dataset, 32, 16), other) == 32
    for start, own, plain in zip(before, one.model.parameters(), other.model.parameters(), strict=True):
        assert not torch.equal(start, own) and not torch.equal(start, plain)


def test_a_row_for_each_strategy() -> None:
    rows = library.epochs(*library.generated(256), training=False, pairs=2, at_once=1)
    assert [row["strategy"] for row in rows] == ["rs2", "infobatch"]
    assert rows[0]["samples"] == 77
    assert 128 < rows[1]["samples"] < 256  # about half of those with a loss below the mean are left out
    assert all(row["ms"] > 0 and row["other_ms"] > 0 and row["ratio"] > 0 for row in rows)
    assert len(library.shown_epochs(rows)) == 4


def test_images_of_a_folder(tmp_path: Path) -> None:
    from PIL import Image

    for label, colour in enumerate([(255, 0, 0), (0, 0, 51)]):
        (tmp_path / str(label)).mkdir()
        for number in range(3):
            Image.new("RGB", (40, 40), colour).save(tmp_path / str(label) / f"{number}.png")
    images, labels = library.read(tmp_path, 4)
    assert images.shape == (4, 3, 32, 32) and labels.tolist() == [0, 0, 1, 1]
    assert images[0, :, 5, 5].tolist() == [1, 0, 0] and images[3, 2, 0, 0].item() == pytest.approx(0.2)
    with pytest.raises(UserError, match="one folder of images for each class"):
        library.read(tmp_path / "0", 4)


def test_infobatch_run_again_is_its_published_method() -> None:
    np.random.seed(0)
    images = torch.arange(100.0)[:, None]
    method = library_peers.TheirInfoBatch(TensorDataset(images, torch.zeros(100)))
    loader = DataLoader(method, batch_size=10, sampler=method)

    def epoch() -> tuple[list[int], float]:
        seen, total = [], 0.0
        for indices, (inputs, _) in loader:
            seen += indices.tolist()
            total += float(inputs[:, 0] @ method.observe(inputs[:, 0], indices))
        return seen, total

    seen, total = epoch()
    assert sorted(seen) == list(range(100)) and seen != sorted(seen)  # at first, no loss is below another
    assert total == pytest.approx(4950)
    totals = []
    for _ in range(200):
        seen, total = epoch()
        assert len(seen) == len(set(seen)) == 75 and set(range(50, 100)) < set(
            seen
        )  # of 50 below the mean, half
        totals.append(total)
    assert float(np.mean(totals)) == pytest.approx(4950, rel=0.01)  # they weigh twice: the sum is that of all


def test_the_other_side_answers_for_infobatch(tmp_path: Path) -> None:
    images, labels = library.generated(64)
    np.save(tmp_path / "images.npy", images.numpy())
    np.save(tmp_path / "labels.npy", labels.numpy())
    asked = {"loader": "infobatch", "batch_size": 16, "fraction": 0.5, "pairs": 1, "epochs": 1}
    files = {name: str(tmp_path / f"{name}.npy") for name in ("images", "labels")}
    for training in (False, True):
        found = library_peers.beside({**asked, **files, "training": training})
        assert found["ratio"] > 0


def test_the_objective_is_the_distance_to_the_nearest_pick(tmp_path: Path) -> None:
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [6.0, 8.0]])
    assert library.objective(features, [0]) == pytest.approx(0 + 5 + 1 + 10)
    assert library.objective(features, [0, 1]) == pytest.approx(0 + 0 + 1 + 5)
    np.save(tmp_path / "part.npy", features.numpy())
    given = library_peers.similarities(str(tmp_path / "part.npy"))
    np.testing.assert_allclose(given, 10 - torch.cdist(features, features).numpy(), atol=1e-6)


def test_both_of_our_searches_are_the_same_selection_and_the_row_says_what_it_took() -> None:
    features = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    case = library.Facility([features[:30], features[30:]])
    assert case.budget == 3
    search = case.select()
    assert search.cpu >= 0 and len(case.whole) == 1 and [len(picks) for picks in case.picks] == [3, 3]
    row = library.located(
        case, {"ms": 2e6, "other_ms": 1e6, "ratio": 2.0, "wall_ratio": 2.1}, [[0, 1, 2], [0, 1, 2]]
    )
    assert row["seconds"] == 2 and row["own_seconds"] == 1 and row["ratio"] == 2.0
    expected = (
        library.objective(features[:30], [0, 1, 2]) + library.objective(features[30:], [0, 1, 2])
    ) / 60
    assert row["distance"] == pytest.approx(expected)
    assert row["own_distance"] < row["distance"]
    page = library.shown_facility([{**row, "rows": 60, "parts": 2, "package": "apricot", "search": "lazy"}])
    assert page[-1].startswith("| 60 in 2 | apricot | lazy | 2.00 | 1.00 | 2.0 | ")


def test_the_losses_of_loading_alone_change_from_batch_to_batch() -> None:
    loop = Loading()
    labels = torch.zeros(8)
    first, second = loop.losses(labels, labels), loop.losses(labels, labels)
    assert len(first) == 8 and not torch.equal(first, second)


def test_an_unknown_part_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["library", "--parts", "epochs,facilty"])
    with pytest.raises(UserError, match="expected some of epochs, loaders, facility"):
        library.main()
