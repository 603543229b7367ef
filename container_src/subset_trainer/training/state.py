"""Everything that decides how a run goes on, gathered for a checkpoint and loaded from one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from subset_selection import Subset
from subset_trainer.training.rounds import Selector

SUMS = ("loss_sum", "correct", "observed")
"""What of an epoch each process knows of its own examples only."""


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@dataclass
class Within:
    """What of an epoch is done."""

    selected: bool = False
    """Whether its examples are chosen."""
    chosen: Subset | None = None
    """The subset, where this epoch chose it."""
    step: int = 0
    """Updates that are done."""
    selection_seconds: float = 0.0
    training_seconds: float = 0.0
    loss_sum: Tensor | None = None
    correct: Tensor | None = None
    kept: list[Tensor] = field(default_factory=list)
    """What a filter within batches has kept."""
    observed: Tensor | None = None
    """[visits] losses in the order in which the epoch trains on its examples."""

    def summed(self, total: Callable[[Tensor], Tensor]) -> "Within":
        """The same, with the sums and losses of all processes."""
        sums: dict[str, Any] = {
            name: None if part is None else total(part) for name, part in vars(self).items() if name in SUMS
        }
        return replace(self, **sums)

    def take_own(self, rank: int) -> None:
        """Of what a checkpoint holds of all processes: one's own sum of losses, and the rest for the first."""
        if self.loss_sum is not None:
            self.loss_sum = self.loss_sum[rank]
        if rank:
            self.correct = self.observed = None


class RunState:
    """A run between two updates.

    Args:
        modules: what has a ``state_dict``.
        generators: of random numbers.
        selector: whose state belongs to the run.
        subset: that is trained on.
    """

    def __init__(
        self,
        modules: Mapping[str, Stateful],
        generators: Mapping[str, torch.Generator],
        selector: Selector,
        subset: Subset,
    ) -> None:
        self._modules = modules
        self._generators = generators
        self._selector = selector
        self.subset = subset
        self.visited = 0
        """Samples, in whole epochs."""
        self.mark()

    def mark(self) -> None:
        """A point that the epoch can be made again from: before its selection, or before its order is drawn."""
        self._marked = {
            "generators": {name: generator.get_state() for name, generator in self._generators.items()},
            "memory": self._selector.state_dict(),
            "random": _random_state(),
        }

    def gather(self, within: Within) -> dict[str, Any]:
        """For a checkpoint. What the epoch was marked at last must fit ``within``."""
        return {
            "modules": {name: module.state_dict() for name, module in self._modules.items()},
            "subset": _packed(self.subset),
            "visited": self.visited,
            "marked": self._marked,
            # A selection that is made again draws again: rho-loss trains a model in it.
            "random": _random_state() if within.selected else self._marked["random"],
            "within": {**vars(within), "chosen": _packed(within.chosen)} if within.selected else None,
        }

    def load_state_dict(self, gathered: Mapping[str, Any]) -> Within:
        """Go on from what ``gather`` gave; what of the epoch is done."""
        for name, module in self._modules.items():
            module.load_state_dict(gathered["modules"][name])
        self.subset = _unpacked(gathered["subset"]) or self.subset
        self.visited = gathered["visited"]
        # Before the generators: what is made anew here may draw numbers.
        self._selector.load_state_dict(gathered["marked"]["memory"])
        for name, generator in self._generators.items():
            generator.set_state(gathered["marked"]["generators"][name])
        _set_random_state(gathered["random"])
        self._marked = gathered["marked"]
        if gathered["within"] is None:
            return Within()
        return Within(**{**gathered["within"], "chosen": _unpacked(gathered["within"]["chosen"])})


def _random_state() -> dict[str, Tensor]:
    """Of torch's own generators, which dropout draws from: the CPU's and, where one is used, the GPU's."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_state(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(states["cuda"])


def _packed(subset: Subset | None) -> dict[str, Any] | None:
    return None if subset is None else dict(vars(subset))


def _unpacked(packed: dict[str, Any] | None) -> Subset | None:
    return None if packed is None else Subset(**packed)
