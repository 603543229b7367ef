"""Selection over processes that each hold a shard: the subset, to the bit, that one process would choose."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from subset_selection import NotFiniteError, Pool, Settings, Strategy, create, distributed, glister, gradmatch
from subset_selection.distributed import select
from subset_selection.geometry import class_means
from subset_selection.gradmatch import GradMatch
from subset_selection.processes import ALONE, Processes
from subset_trainer.training.parallel.ranks import Ranks
from tests.unit.reference import generator, pool

SCORING = ("el2n", "forgetting", "moderate", "ccs")
DIVIDED: dict[str, Settings] = {
    **{name: Settings() for name in ("graph-cut", "k-centre", "herding", "gradmatch", "glister", "craig")},
    **{name: Settings() for name in ("facility-location", "saturated-coverage")},
    **{
        f"{name} by stochastic search": Settings(greedy="stochastic")
        for name in ("craig", "saturated-coverage")
    },
    **{f"{name} balanced": Settings(balance="class") for name in ("herding", "gradmatch", "glister")},
    "craig supervised": Settings(scope="supervised"),
    "gradmatch per class": Settings(scope="per-class"),
    "gradmatch to validation": Settings(match="validation"),
    "glister exact": Settings(greedy="naive"),
    "glister in rounds": Settings(greedy="rgreedy", greedy_rounds=3),
    "glister supervised": Settings(scope="supervised"),
    "glister per batch": Settings(scope="per-batch", batch_size=8),
}
OTHERS = ("gradmatch-pb", "craig-pb", "rs2", "random")
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {} for name in (*SCORING, *OTHERS)},
    **{name: {"settings": settings} for name, settings in DIVIDED.items()},
    **{f"{name} balanced": {"settings": Settings(balance="class")} for name in SCORING},
    **{
        f"{name} without suspects": {"drop_mislabelled": True}
        for name in (*SCORING, "glister", "gradmatch", "craig", "rs2")
    },
    "ccs balanced without suspects": {"settings": Settings(balance="class"), "drop_mislabelled": True},
}
# Small enough that a class has parts, a group not all of them, and a sample guides a search.
LIMITS = ((gradmatch, "PART", 12), (gradmatch, "GROUP_ELEMENTS", 500), (glister, "VALIDATION_LIMIT", 30))
TURNS, BUDGET = 3, 30


def made(variant: str) -> Strategy:
    return create(variant.split()[0], **VARIANTS[variant])


def outputs(turn: int) -> tuple[Pool, Pool]:
    """Of a model that learns; some labels are wrong, and features are of very different sizes."""
    train, validation = pool(101, 4, 5, seed=turn), pool(40, 4, 5, seed=turn + 9)
    assert train.features is not None
    validation.labels[validation.labels == 2] = 1  # a class without validation examples
    for of, correct in ((train, torch.arange(101) % 3 > 0), (validation, torch.arange(40) > 0)):
        assert of.logits is not None
        of.logits[correct] += 3 * torch.nn.functional.one_hot(of.labels[correct], 4)
    train.features[::3] *= 1e4
    return train, validation


HALF = ("glister", "gradmatch", "herding", "moderate", "craig-pb")


def in_half(rank: int, ranks: int) -> tuple[Pool, torch.Tensor]:
    """A shard in half precision, which the second rank's features did not fit into; contiguous, as a pass has it."""
    whole, _ = outputs(0)
    own = torch.arange(len(whole))[Processes(rank, ranks).share(len(whole))]
    assert whole.logits is not None
    assert whole.features is not None
    features = (whole.features / 1e3).half()[own]
    return Pool(whole.labels[own], whole.logits.half()[own], features.float() if rank == 1 else features), own


def shards(whole: Pool, rank: int, ranks: int) -> tuple[Pool, torch.Tensor]:
    """Every rank-th example, the last rank without any: shards of unequal sizes, and not in the whole's order."""
    holders = max(1, ranks - 1)
    indices = torch.arange(rank, len(whole), holders).flip(0) if rank < holders else torch.arange(0)
    part = whole.at(indices)
    return Pool(part.labels, part.logits, part.features), indices


@contextmanager
def recorded(moved: list[str]) -> Iterator[None]:
    """Records which columns the first process gathers, and which rows are exchanged."""
    gather, exchanged = distributed._Holdings.gathered, distributed._Holdings.exchanged
    with pytest.MonkeyPatch.context() as patch:

        def gathered(self: Any, column: torch.Tensor, *rest: Any, **named: Any) -> Any:
            moved.extend(name for name, own in self.columns.items() if own is column)
            return gather(self, column, *rest, **named)

        def exchange(self: Any, *rest: Any) -> Any:
            moved.append("rows")
            return exchanged(self, *rest)

        patch.setattr(distributed._Holdings, "gathered", gathered)
        patch.setattr(distributed._Holdings, "exchanged", exchange)
        yield


def work(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    for module, name, value in LIMITS:
        setattr(module, name, value)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    group = Ranks(rank=rank, size=ranks)
    subsets: dict[str, Any] = {}
    for name in VARIANTS:
        draw, strategy = generator(7), made(name)
        for turn in range(
            TURNS
        ):  # later ones depend on the generator's state and on what the strategy remembers
            needs = (strategy.needs_last_layer, strategy.needs_validation)
            wholes = (
                whole if needed else Pool(whole.labels)
                for whole, needed in zip(outputs(turn), needs, strict=True)
            )
            train, validation = (shards(whole, rank, ranks) for whole in wholes)
            moved: list[str] = []
            with recorded(moved):
                subset = select(group, strategy, train, validation, BUDGET, draw)
            subsets.setdefault(name, moved)
            subsets[f"{name}-{turn}"] = (subset.indices, subset.weights, subset.note, draw.get_state())
    for name in HALF:
        shard = in_half(rank, ranks)
        found = select(group, create(name), shard, shard, BUDGET, generator(7))
        subsets[f"{name} in half precision"] = (found.indices, found.weights)
    subsets["means"] = class_means(shards(outputs(0)[0], rank, ranks)[0], group)
    broken = Pool(torch.arange(3), torch.full((3, 4), torch.nan), torch.ones(3, 5), _checked=True)
    part = broken, torch.arange(3) * ranks + rank
    try:
        select(group, create("glister", Settings()), part, part, 2, generator())
    except NotFiniteError as error:
        subsets["error"] = str(error)
    torch.save(subsets, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [2, 4])
def test_processes_choose_what_one_would(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, limit, value in LIMITS:
        monkeypatch.setattr(module, limit, value)
    torch.multiprocessing.spawn(work, (size, str(tmp_path)), nprocs=size)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(size)]
    left_out = 0
    for name in VARIANTS:
        draw, strategy = generator(7), made(name)
        for turn in range(TURNS):
            alone = strategy.select(*outputs(turn), BUDGET, draw)
            left_out += "mislabelled" in alone.note and not alone.note.startswith("0 ")
            for rank in ranks:
                indices, weights, note, state = rank[f"{name}-{turn}"]
                assert indices.tolist() == alone.indices.tolist(), (name, turn)
                assert weights.tolist() == alone.weights.tolist(), (name, turn)
                assert note == alone.note
                assert torch.equal(state, draw.get_state())
    assert left_out
    for name, variant in VARIANTS.items():
        own = name.split()[0]
        moved = ["scores"] * 2 * variant.get("drop_mislabelled", False)  # the losses of both pools
        moved += ["scores"] * (own in SCORING)
        if own in DIVIDED:  # validation rows as well, if the strategy itself reads them
            guided = create(own, variant.get("settings", Settings())).needs_validation
            moved += ["rows"] * (1 + guided)
        moved += ["logits", "features"] * (own in ("gradmatch-pb", "craig-pb"))
        assert ranks[0][name] == moved, name
    groups = GradMatch(Settings()).problems(outputs(0)[0].labels, 4, 9, BUDGET, generator())
    assert len(groups) == 4 and max(map(len, groups)) > 1
    half, _ = in_half(0, 1)
    assert half.features is not None
    half = replace(half, features=half.features.float())  # for all, if for one
    for name in HALF:
        alone = create(name).select(half, half, BUDGET, generator(7))
        for rank in ranks:
            indices, weights = rank[f"{name} in half precision"]
            assert torch.equal(indices, alone.indices), name
            assert torch.equal(weights, alone.weights), name
    assert all(torch.equal(rank["means"], class_means(outputs(0)[0], ALONE)) for rank in ranks)
    assert "not finite" in ranks[0]["error"] and all(rank["error"] == ranks[0]["error"] for rank in ranks)


@pytest.mark.parametrize("size", [1e-30, 1.0, 3e37])
def test_class_means_are_exact_whatever_the_order(size: float) -> None:
    draw = generator(3)
    features = torch.randn(5_000, 7, generator=draw) * torch.logspace(-6, 0, 7)
    features[:, 0] += 1  # in sums of float32 a thousand of these lose three digits
    labels = torch.randint(4, (5_000,), generator=draw)
    whole = Pool(labels, torch.zeros(5_000, 5), features * size)
    found = class_means(whole, Processes())
    order = torch.randperm(5_000, generator=draw)
    assert torch.equal(found, class_means(whole.at(order), ALONE))
    for label in range(4):
        assert whole.features is not None
        expected = whole.features[labels == label].double().mean(dim=0).float()
        torch.testing.assert_close(found[label], expected, rtol=2e-7, atol=size * 1e-12)
    assert not found[4].any()
