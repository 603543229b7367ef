"""A loader in several processes: all get the subset that one process chooses, and each its part of every batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from subset_selection import Settings, SubsetLoader, SubsetSampler
from subset_selection.filtering import filtered
from subset_selection.filters import LossFilter
from subset_selection.processes import Processes

EXAMPLES, EPOCHS, BATCH = 131, 4, 24
VARIANTS: dict[str, dict[str, Any]] = {
    "glister": {"strategy": "glister", "fraction": 0.3},
    "candidates": {"strategy": "gradmatch", "fraction": 0.2, "candidates_per_pick": 2.0},
    "averages": {"strategy": "el2n", "fraction": 0.3},
    "without suspects": {"strategy": "rs2", "fraction": 0.3, "mislabelled": "drop"},
    "balanced": {"strategy": "random", "fraction": 0.3, "balance": "class"},
    "losses": {"strategy": "infobatch"},
    "hardest": {"strategy": "loss-filter", "fraction": 0.3},
    "reducible": {"strategy": "rho-loss", "fraction": 0.3, "candidates_per_pick": 2.5},
}
Seen = list[tuple[list[int], list[float]]]


def dataset(examples: int, seed: int) -> TensorDataset:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (examples,), generator=draw)
    inputs = torch.randn(examples, 5, generator=draw) + labels[:, None]
    inputs[:, 0] = torch.arange(examples)  # by which a batch tells its examples
    return TensorDataset(inputs, labels)


def loader(variant: str, size: int) -> tuple[SubsetLoader, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    options = VARIANTS[variant] | {
        "validation": dataset(37, 1),
        "select_every": 2,
        "batch_size": BATCH // size,
    }
    if variant == "reducible":
        options["held_out"] = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    return SubsetLoader(dataset(EXAMPLES, 0), model, **options), model


def epoch_of(loader: SubsetLoader, model: nn.Module) -> list[Seen]:
    """The epoch's batches as (indices, weights); the model changes in it, and its buffers differ between processes."""
    batches = []
    for inputs, _, weights in loader:
        loader.observe(inputs[:, 1:].sum(1).sigmoid())
        model.train()
        with torch.no_grad():
            model[0](inputs)  # type: ignore[index]
            model[3].weight.mul_(1.01)  # type: ignore[index]
        batches.append((inputs[:, 0].long().tolist(), weights.tolist()))
    return batches  # type: ignore[return-value]


def stopped_within(folder: str, size: int) -> list[bool]:
    """An epoch on losses that is stopped in its middle resumes from the first process's state."""
    own, model = loader("losses", size)
    epoch_of(own, model)
    batches = iter(own)
    for _ in range(2):
        inputs, _, _ = next(batches)
        own.observe(inputs[:, 1:].sum(1).sigmoid())
    own.share_losses()
    states: list[Any] = [None] * size
    dist.all_gather_object(states, own.state_dict())
    again, same = loader("losses", size)
    again.load_state_dict(states[0])
    rest: Any = []
    for inputs, _, weights in batches:
        own.observe(inputs[:, 1:].sum(1).sigmoid())
        rest.append((inputs[:, 0].long().tolist(), weights.tolist()))
    return [epoch_of(again, same) == rest, epoch_of(again, same) == epoch_of(own, model)]


def filtered_fields(rank: int, size: int) -> tuple[Any, Any]:
    """What a filter keeps of a batch with fields of all kinds, of which the first process has most."""
    losses = torch.randn(19, generator=torch.Generator().manual_seed(5))
    own = torch.arange(19).tensor_split([19 - 3 * left for left in range(size - 1, 0, -1)])[rank]
    batch = {
        "tokens": own[:, None] * torch.tensor([1, 10]),
        "flags": own % 3 == 0,
        "nested": (own.double() / 2, [f"name {index}" for index in own.tolist()]),
    }
    return filtered(Processes.current(), LossFilter(Settings()), batch, losses[own], torch.arange(19), 7)


def work(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    early, begun = loader("glister", size)[0], loader("glister", size)[0]
    next(iter(begun))
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    seen: dict[str, Any] = {}
    for variant in VARIANTS:
        own, model = loader(variant, size)
        seen[variant] = [epoch_of(own, model) for _ in range(EPOCHS)]
        if variant == "glister":
            # The first one's state is all that a resumed run is given.
            states: list[Any] = [None] * size
            dist.all_gather_object(states, own.state_dict())
            again, same = loader(variant, size)
            same.load_state_dict(model.state_dict())
            again.load_state_dict(states[0])
            seen["resumed"] = [epoch_of(again, same) == epoch_of(own, model)]
    seen["within"] = stopped_within(folder, size)
    sampler = SubsetSampler(dataset(EXAMPLES, 0), strategy="rs2", fraction=0.3)
    seen["sampler"] = [
        index for batch, _ in DataLoader(dataset(EXAMPLES, 0), sampler=sampler) for index in batch[:, 0]
    ]
    seen["early"] = [epoch_of(early, early.subsets.evaluation.model)]  # type: ignore[union-attr]
    try:
        next(iter(begun))
    except RuntimeError as error:
        seen["begun"] = str(error)
    seen["fields"] = filtered_fields(rank, size)
    uneven = {"tokens": torch.zeros(2, 3 + rank)}
    try:
        filtered(
            Processes.current(), LossFilter(Settings()), uneven, torch.ones(2), torch.arange(2 * size), size
        )
    except ValueError as error:
        seen["shapes"] = str(error)
    torch.save(seen, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the processes have it: sums over other parts differ in their last digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("size", [2, 4])
def test_processes_choose_what_one_does_and_share_its_batches(size: int, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (size, str(tmp_path)), nprocs=size)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(size)]
    for variant in VARIANTS:
        alone, model = loader(variant, 1)
        for epoch in range(EPOCHS):
            first = [rank[variant][epoch] for rank in ranks]
            selected = alone.subsets.last_selection
            together = [
                tuple([value for part in parts for value in part[column]] for column in range(2))
                for parts in zip(*first, strict=True)
            ]
            # The buffers that every selection sees are the first process's.
            batches = []
            for (inputs, _, weights), (own, _) in zip(alone, first[0], strict=True):
                alone.observe(inputs[:, 1:].sum(1).sigmoid())
                model.train()
                with torch.no_grad():
                    model[0](dataset(EXAMPLES, 0).tensors[0][own])  # type: ignore[index]
                    model[3].weight.mul_(1.01)  # type: ignore[index]
                batches.append((inputs[:, 0].long().tolist(), weights.tolist()))
            assert together == batches
            assert all(1 < len(own) <= BATCH // size + 1 for rank in first for own, _ in rank)
            assert variant == "balanced" or epoch % 2 or alone.subsets.last_selection is not selected
    assert all(rank["resumed"] == [True] and rank["within"] == [True, True] for rank in ranks)
    # A loader that was made before its group follows it, if it had not begun.
    assert all(rank["early"] == rank["glister"][:1] for rank in ranks)
    assert all(f"of 1, and this is process {n} of {size}" in rank["begun"] for n, rank in enumerate(ranks))
    parts = [{int(index) for index in rank["sampler"]} for rank in ranks]
    assert all(len(part) == 39 // size for part in parts) and len(set().union(*parts)) == 39 // size * size
    assert all("pad all batches to one length" in rank["shapes"] for rank in ranks)
    losses = torch.randn(19, generator=torch.Generator().manual_seed(5))
    kept = losses.sort(descending=True).indices[:7]
    assert torch.cat([rank["fields"][1] for rank in ranks]).tolist() == kept.tolist()
    for batch, own in (rank["fields"] for rank in ranks):
        assert 7 // size <= len(own) <= 7 // size + 1
        assert torch.equal(batch["tokens"], own[:, None] * torch.tensor([1, 10]))
        assert torch.equal(batch["flags"], own % 3 == 0)
        assert torch.equal(batch["nested"][0], own.double() / 2)
        assert batch["nested"][1] == [f"name {index}" for index in own.tolist()]
