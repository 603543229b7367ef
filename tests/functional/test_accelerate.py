"""A SubsetLoader in loops with the real Accelerate: prepared, accumulated and resumed, alone and in two processes."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, skip_first_batches
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from subset_selection import SubsetLoader, SubsetSampler
from tests.documentation import blocks_of
from tests.functional.forked import in_processes

HERE = "tests.functional.test_accelerate"
EXAMPLES, EPOCHS = 131, 4
VARIANTS: dict[str, dict[str, Any]] = {
    "glister": {"strategy": "glister", "fraction": 0.3, "select_every": 2},
    "infobatch": {"strategy": "infobatch"},
}


def examples(count: int, seed: int) -> TensorDataset:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=draw)
    inputs = torch.randn(count, 5, generator=draw) + labels[:, None]
    return TensorDataset(inputs, labels)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


class Loop:
    """A loop in which two batches of 6 in each process make an update."""

    def __init__(self, variant: str, folder: Path, size: int) -> None:
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        assert self.accelerator.num_processes == size
        model = network()
        loader = SubsetLoader(
            examples(EXAMPLES, 0),
            model,
            validation=examples(40, 1),
            batch_size=12 // size,
            indices=True,
            **VARIANTS[variant],
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, loader)
        assert self.loader is loader
        self.accelerator.register_for_checkpointing(loader)
        self.folder, self.updates = str(folder), 0
        self.read: list[list[int]] = []

    def run(self, stop: int = 0) -> None:
        while self.loader.epoch < EPOCHS:
            for inputs, labels, _, indices in self.loader:
                self.read.append(indices.tolist())
                with self.accelerator.accumulate(self.model):
                    losses = cross_entropy(self.model(inputs), labels, reduction="none")
                    self.accelerator.backward(self.loader.mean(losses))
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                    self.updates += self.accelerator.sync_gradients
                # An epoch's last batch ends an accumulation.
                last = self.loader.done == len(self.loader)
                assert self.accelerator.sync_gradients == (last or self.loader.done % 2 == 0)
                if stop and len(self.read) == stop:
                    self.loader.share_losses()
                    self.accelerator.save_state(self.folder)
                    return

    def weights(self) -> dict[str, Tensor]:
        return {
            name: value.clone()
            for name, value in self.accelerator.unwrap_model(self.model).state_dict().items()
        }


def together(folder: Path) -> None:
    torch.set_num_threads(1)
    seen: dict[str, Any] = {}
    for variant in VARIANTS:
        whole = Loop(variant, folder / "whole", 2)
        whole.run()
        stopped = Loop(variant, folder / variant, 2)
        stopped.run(stop={"glister": 6, "infobatch": 15}[variant])  # within the second epoch, after an update
        resumed = Loop(variant, folder / variant, 2)
        resumed.accelerator.load_state(resumed.folder)
        resumed.run()
        assert stopped.read + resumed.read == whole.read
        for name, value in whole.weights().items():
            assert torch.equal(resumed.weights()[name], value)
        seen[variant] = {"read": whole.read, "updates": whole.updates, "weights": whole.weights()}
    sampler = SubsetSampler(examples(EXAMPLES, 0), strategy="rs2")
    divided = whole.accelerator.prepare(DataLoader(examples(EXAMPLES, 0), batch_size=8, sampler=sampler))
    with pytest.raises(ValueError, match="expected a SubsetLoader, which accelerator"):
        next(iter(divided))
    torch.save(seen, folder / f"{os.environ['RANK']}.pt")


def test_two_processes_share_the_batches_of_one_and_resume(tmp_path: Path) -> None:
    in_processes(HERE, "together", tmp_path, 2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for variant in VARIANTS:
        for name, value in first[variant]["weights"].items():
            assert torch.equal(value, second[variant]["weights"][name])
        assert first[variant]["updates"] == second[variant]["updates"]
    alone = Loop("glister", tmp_path / "alone", 1)
    alone.run()
    halves = zip(first["glister"]["read"], second["glister"]["read"], strict=True)
    assert [one + other for one, other in halves] == alone.read
    assert alone.updates == first["glister"]["updates"]
    for start in range(0, 16, 4):
        epoch = [index for batch in alone.read[start : start + 4] for index in batch]
        assert len(epoch) == len(set(epoch)) == round(0.3 * EXAMPLES)


def test_batches_come_on_the_accelerator_s_device_and_without_prepare_as_they_are() -> None:
    accelerator = Accelerator(cpu=True)
    plain = SubsetLoader(examples(EXAMPLES, 0), strategy="rs2", batch_size=16)
    assert not accelerator.gradient_state.in_dataloader
    for _ in plain:
        assert not accelerator.gradient_state.in_dataloader
    prepared = accelerator.prepare(SubsetLoader(examples(EXAMPLES, 0), strategy="rs2", batch_size=16))
    for inputs, _, _ in prepared:
        assert inputs.device == accelerator.device and accelerator.gradient_state.in_dataloader
        assert accelerator.gradient_state.end_of_dataloader == (prepared.done == len(prepared))
    assert not accelerator.gradient_state.in_dataloader


def test_a_loader_that_is_made_of_its_batches_is_refused() -> None:
    accelerator = Accelerator(cpu=True)
    loader = accelerator.prepare(SubsetLoader(examples(EXAMPLES, 0), strategy="rs2", batch_size=16))
    with pytest.raises(
        RuntimeError, match="iterate over the SubsetLoader, not over a loader that was made of it"
    ):
        next(iter(skip_first_batches(loader, 1)))
    with pytest.raises(RuntimeError, match="iterate over the SubsetLoader"):
        next(iter(DataLoader(loader.dataset, batch_sampler=loader.batch_sampler)))


def test_the_page_s_loop_learns_and_resumes(tmp_path: Path) -> None:
    (block,) = blocks_of(
        "tests/functional/test_accelerate.py::test_the_page_s_loop_learns_and_resumes", "python"
    )
    scope: dict[str, Any] = {}
    exec(block.text, scope)
    sets = examples(600, 0), examples(60, 1)
    whole, stopped, resumed = network(), network(), network()
    scope["train"](whole, *sets, epochs=12, folder=str(tmp_path / "whole"))
    scope["train"](stopped, *sets, epochs=7, folder=str(tmp_path / "stopped"))
    scope["train"](resumed, *sets, epochs=12, folder=str(tmp_path / "stopped"), resume=True)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    inputs, labels = examples(200, 2).tensors
    assert (whole(inputs).argmax(1) == labels).float().mean() > 0.75
