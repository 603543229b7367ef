"""A run's state, gathered and loaded."""

import pytest
import torch

import subset_selection
from subset_selection import Pool, Subset
from subset_trainer.data import MemoryDataset
from subset_trainer.models import build
from subset_trainer.training.devices import Machine
from subset_trainer.training.place import Place
from subset_trainer.training.rounds import Choice, Data, NativeSelector
from subset_trainer.training.state import RunState, Within

CPU = Place(Machine(torch.device("cpu"), torch.float32))
LABELS = torch.arange(30) % 3


def make(seed: int) -> tuple[RunState, NativeSelector, torch.Generator]:
    torch.manual_seed(seed)
    classifier = build("mlp", (4,), 3)
    data = MemoryDataset(torch.randn(30, 4), LABELS)
    selector = NativeSelector(subset_selection.create("rs2"), classifier, Data(data, data), 7, CPU)
    generator = torch.Generator().manual_seed(seed)
    subset = Subset.of(torch.arange(30))
    return (
        RunState({"classifier": classifier}, {"selection": generator}, selector, subset),
        selector,
        generator,
    )


def test_a_loaded_state_can_be_gathered_again_at_once() -> None:
    """A signal may arrive before the first update of a run that goes on."""
    state, selector, generator = make(0)
    state.choice = Choice(selector.select(generator))
    state.mark()
    within = Within(selected=True, chosen=state.choice.subset, step=3, loss_sum=torch.tensor(1.5))
    gathered = state.gather(within)

    other, other_selector, other_generator = make(1)
    again = other.gather(other.load_state_dict(gathered))
    assert again["within"]["step"] == 3 and again["visited"] == gathered["visited"]
    assert torch.equal(again["subset"]["indices"], gathered["subset"]["indices"])
    assert again["marked"]["memory"].keys() == gathered["marked"]["memory"].keys() != set()
    # Both go on alike, round after round.
    for _ in range(5):
        mine, theirs = (
            chooser.select(draw).indices
            for chooser, draw in ((selector, generator), (other_selector, other_generator))
        )
        assert torch.equal(mine, theirs)


def test_every_strategys_state_goes_on_in_another_instance() -> None:
    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    pool = Pool(LABELS, logits, logits)
    for name in subset_selection.names("everything", "subset"):
        for drop in (False, True):
            settings = subset_selection.Settings(balance="class" if name == "rs2" else "none")
            first, second = (subset_selection.create(name, settings, drop_mislabelled=drop) for _ in range(2))
            draw = torch.Generator().manual_seed(0)
            first.select(pool, pool, 9, draw)
            subset_selection.load_state(second, subset_selection.state_of(first))
            state = draw.get_state()
            expected = first.select(pool, pool, 9, draw).indices
            found = second.select(pool, pool, 9, torch.Generator().set_state(state)).indices
            assert torch.equal(expected, found), name


def test_a_selection_that_is_made_again_draws_what_it_drew() -> None:
    """rho-loss trains a model in it, whose dropout draws from torch's own generator; an epoch goes on with its own."""
    for selected in (False, True):
        state, _, _ = make(0)
        state.mark()
        before = torch.get_rng_state()
        torch.rand(5)  # until it is killed
        after = torch.get_rng_state()
        gathered = state.gather(Within(selected=selected))
        other, _, _ = make(1)
        other.load_state_dict(gathered)
        assert torch.equal(torch.get_rng_state(), after if selected else before)


@pytest.mark.gpu
def test_a_gpus_generator_goes_on() -> None:
    torch.rand(1, device="cuda")
    state, _, _ = make(0)
    gathered = state.gather(Within(selected=True))
    expected = torch.rand(5, device="cuda")
    state.load_state_dict(gathered)
    assert torch.equal(torch.rand(5, device="cuda"), expected)
