"""Two processes that own different examples, beside one that has all: what they train, see and choose is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import subset_selection
from subset_selection import Settings
from subset_selection.filters import LossFilter
from subset_trainer import job, models
from subset_trainer.config import parse
from subset_trainer.contract import Contract
from subset_trainer.data import MemoryDataset
from subset_trainer.data.hosts import Shard, ShardedDataset, Shards
from subset_trainer.errors import UserError
from subset_trainer.training import loop
from subset_trainer.training.batches import spread_evenly
from subset_trainer.training.devices import Machine
from subset_trainer.training.evaluation import evaluate, judge
from subset_trainer.training.parallel import synced_batch_norm
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.parallel.shares import Share
from subset_trainer.training.place import Place
from subset_trainer.training.plan import Plan
from subset_trainer.training.reports import EpochReport
from subset_trainer.training.rounds import Data, FilterSelector, NativeSelector
from subset_trainer.training.trainee import Trainee

CPU = Machine(torch.device("cpu"), torch.float32)
COUNTS = (64, 33)
"""Examples of each host; the first has no example of class 2."""
RUNS: dict[str, dict[str, Any]] = {
    "full": {"strategy": "full", "model": "cnn"},
    "glister": {"strategy": "glister", "fraction": 0.4, "select_every": 2, "model": "mlp"},
    "loss-filter": {"strategy": "loss-filter", "fraction": 0.4, "model": "mlp"},
}


def sharded(part: int, examples: tuple[int, ...], seed: int) -> ShardedDataset:
    """What a process of the given shard has; -1: of all shards."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(count) % (2 + host) for host, count in enumerate(examples)])
    pixels = torch.randint(120, (len(labels), 3, 8, 8), generator=draw) + 60 * labels[:, None, None, None]
    every = MemoryDataset(pixels.to(torch.uint8), labels)
    shard = Shard(Shards(lambda value: [value] * 2, ("a", "b"), max(0, part), frozenset()), examples)
    if part < 0:
        return ShardedDataset(every, labels, shard.owners(), torch.arange(len(labels)))
    own = every.subset(torch.arange(len(labels))[shard.span])
    return shard.dataset(own, labels.numpy())


def outcome(name: str, part: int, ranks: Ranks) -> dict[str, Any]:
    """Losses of a run, its model's weights, its subsets, and what the model makes of the validation set."""
    batch = 24 // ranks.size
    common = {"epochs": 2, "augmentation": "crop", "dropout": 0, "learning_rate_scaling": "none"}
    hp = parse({**common, **RUNS[name], "batch_size": batch})
    torch.manual_seed(0)
    classifier = models.build(hp.model, (3, 8, 8), 3, (0.5,) * 3, (0.25,) * 3)
    if ranks.size > 1:
        synced_batch_norm.convert(classifier, on_gpu=False)
    training, validation = sharded(part, COUNTS, 0), sharded(part, (12, 6), 1)
    settings, seen, place = Settings(batch_size=24), Data(training, validation), Place(CPU, ranks)
    plan = Plan.of(hp, len(training), ranks.size)
    selector: Any = FilterSelector(lambda state: LossFilter(settings), plan.examples, plan.budget)
    if name != "loss-filter":
        strategy = subset_selection.create(hp.strategy, settings)
        selector = NativeSelector(strategy, classifier, seen, plan.budget, place, 1.5)
    reports: list[EpochReport] = []
    loop.train(Trainee(classifier, hp, plan, place), seen, selector, plan, reports.append)
    judged = judge(classifier, validation, place, lambda inputs: inputs.flatten(1)[:, :2])
    return {
        "losses": torch.tensor([[report.train.loss, report.validation.loss] for report in reports]),
        "weights": torch.cat([each.detach().flatten() for each in classifier.state_dict().values()]),
        "subsets": [None if report.subset is None else report.subset.indices for report in reports],
        "score": evaluate(classifier, validation, place).accuracy,
        "own": judged.own,
        "prints": judged.fingerprints,
    }


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    ranks = Ranks(rank=rank, size=2)
    found = {name: outcome(name, rank, ranks) for name in RUNS}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_two_processes_with_a_shard_each_train_as_one_with_both(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name in RUNS:
        alone = outcome(name, -1, Ranks())
        for found in (first[name], second[name]):
            for what in ("losses", "weights", "own"):
                torch.testing.assert_close(found[what], alone[what], rtol=2e-3, atol=2e-4)
            assert found["score"] == alone["score"]
            assert torch.equal(found["prints"], alone["prints"])
            for ours, theirs in zip(found["subsets"], alone["subsets"], strict=True):
                assert (ours is None) == (theirs is None)
                assert ours is None or torch.equal(ours, theirs)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(1, 20))
def test_every_batch_has_its_share_of_each_owner(owners: list[int], batches: int) -> None:
    whole = torch.tensor(owners)
    order = spread_evenly(whole)
    assert order.sort().values.tolist() == list(range(len(owners)))
    for owner in whole.unique().tolist():
        own = order[whole[order] == owner]
        assert torch.equal(own, own.sort().values)
        counts = [int((part == owner).sum()) for part in whole[order].tensor_split(batches)]
        share = len(own) / batches
        assert all(abs(count - share) < 3 for count in counts), counts


def places_of(rank: int, batch: Tensor) -> Share:
    return Share.of(batch, sharded(rank, COUNTS, 0), Ranks(rank=rank, size=2))


def test_a_process_without_an_example_takes_part_at_a_weight_of_nothing() -> None:
    batch = torch.tensor([3, 70, 4])
    first, second = places_of(0, batch), places_of(1, batch)
    assert (first.indices.tolist(), first.filled) == ([3, 4], 0)
    assert (second.indices.tolist(), second.filled) == ([70, 64], 1)
    own = second.on(torch.device("cpu"))
    assert second.filled_up(torch.tensor([0.5, 2.0, 0.25])[own]).tolist() == [2.0, 0.0]
    assert second.filled_up(torch.ones(3, 5)[own]).sum(1).tolist() == [5.0, 0.0]
    assert second.filled_up(torch.ones(3, 0)[own]).shape == (2, 0)
    assert second.counted(torch.tensor([7.0, 8.0])).tolist() == [7.0]
    none = places_of(1, torch.tensor([0, 1, 2]))
    assert (none.indices.tolist(), none.filled) == ([64, 64], 2)
    assert none.counted(torch.tensor([7.0, 8.0])).tolist() == []


def test_a_process_without_any_example_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^process 1 has none of the 97 examples of a sharded channel .*fewer"
    ):
        Share.of(torch.tensor([0, 1]), sharded(0, (97, 0), 0), Ranks(rank=1, size=2))


@pytest.mark.parametrize(
    ("channel", "values", "sentence"),
    [
        (
            "validation",
            {"explain": 4},
            r"^hyperparameter explain=4 does not go with a sharded validation channel",
        ),
        (
            "training",
            {"microbatch_size": 8},
            r"^hyperparameter microbatch_size=8 does not go with a sharded training",
        ),
        (
            "pretrained",
            {},
            r"^channel 'pretrained' is sharded .* every host needs the weights; expected FullyRep",
        ),
    ],
)
def test_what_cannot_be_sharded_is_refused_before_the_data_is_read(
    channel: str, values: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    channels = {"training": tmp_path, channel: tmp_path}
    contract = Contract(tmp_path, {}, channels, ("a", "b"), "a", None, None, sharded=frozenset({channel}))
    with pytest.raises(UserError, match=sentence):
        job.run(contract, parse(values), Ranks())
