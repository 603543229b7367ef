"""Selection over two processes that each hold a shard."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from subset_selection import NotFiniteError, Pool, Settings, create
from subset_selection.distributed import select
from subset_trainer.training.parallel.ranks import Ranks
from tests.unit.reference import generator, pool

STRATEGIES = ["glister", "gradmatch", "craig", "rs2"]
BUDGET = 30


def shards(whole: Pool, rank: int, ranks: int) -> tuple[Pool, torch.Tensor]:
    """Every rank-th example: shards of unequal sizes, and not in the whole's order."""
    indices = torch.arange(rank, len(whole), ranks).flip(0)
    part = whole.at(indices)
    return Pool(part.labels, part.logits, part.features), indices


def work(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    group = Ranks(rank=rank, size=ranks)
    train, validation = pool(101, 3, 5), pool(20, 3, 5, seed=1)
    subsets = {}
    for name in STRATEGIES:
        draw = generator(7)
        strategy = create(name, Settings())
        for turn in range(
            2
        ):  # the second depends on the generator's state and on what the strategy remembers
            subset = select(
                strategy,
                *shards(train, rank, ranks),
                *shards(validation, rank, ranks),
                BUDGET,
                draw,
                group.from_first,
            )
            subsets[f"{name}-{turn}"] = (subset.indices, subset.weights)
    broken = Pool(train.labels[:3], torch.full((3, 3), torch.nan), train.features[:3], _checked=True)  # type: ignore[index]
    part = torch.arange(3) * ranks + rank
    try:
        select(create("glister", Settings()), broken, part, broken, part, 2, generator(), group.from_first)
    except NotFiniteError as error:
        subsets["error"] = str(error)  # type: ignore[assignment]
    torch.save(subsets, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_two_processes_choose_what_one_would(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    train, validation = pool(101, 3, 5), pool(20, 3, 5, seed=1)
    for name in STRATEGIES:
        draw = generator(7)
        strategy = create(name, Settings())
        for turn in range(2):
            alone = strategy.select(train, validation, BUDGET, draw)
            for answers in (first, second):
                indices, weights = answers[f"{name}-{turn}"]
                assert indices.tolist() == alone.indices.tolist()
                torch.testing.assert_close(weights, alone.weights)
    assert "not finite" in first["error"] and first["error"] == second["error"]
