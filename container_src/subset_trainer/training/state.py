"""The state of a run, as it is written to a checkpoint and restored from one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from subset_selection import Subset
from subset_trainer.training.batches import Batch
from subset_trainer.training.parallel.ranks import Ranks
from subset_trainer.training.reports import EpochReport
from subset_trainer.training.rounds import Choice, Selector


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@dataclass
class Within:
    """The progress within an epoch."""

    selected: bool = False
    """Whether the epoch's examples are selected."""
    chosen: Subset | None = None
    """The subset, if it was selected in this epoch."""
    step: int = 0
    """Number of completed updates."""
    selection_seconds: float = 0.0
    training_seconds: float = 0.0
    loss_sum: Tensor | None = None
    correct: Tensor | None = None
    kept: list[Tensor] = field(default_factory=list)
    """The examples that a filter within batches has kept, one tensor per batch."""
    observed: Tensor | None = None
    """[size] the losses, in the order in which the epoch trains on its examples."""
    hits: Tensor | None = None
    """[size] float32: the probability of the class that the model chose before the update, negative if it is not the
    label. In checkpoints of earlier versions 1 if it is, else 0, or nothing: there it begins at the step at which the
    run resumes."""

    def begun(self, device: torch.device, size: int) -> "Within":
        """Move the sums so far to the device; at an epoch's start they are zero. Returns this object."""

        def there(value: Tensor | None, dtype: torch.dtype, *shape: int) -> Tensor:
            # Sums stay on the device, because reading one would wait for the step that computes it.
            return torch.zeros(shape, device=device, dtype=dtype) if value is None else value.to(device)

        self.loss_sum = there(self.loss_sum, torch.float32)
        self.correct = there(self.correct, torch.int64)
        self.observed = there(self.observed, torch.float32, size)
        self.hits = there(self.hits, torch.float32, size)
        self.kept = [part.to(device) for part in self.kept]
        return self

    def add(self, batch: Batch, losses: Tensor, choices: Tensor, start: int) -> Tensor:
        """Add the results of one update.

        Args:
            batch: the batch.
            losses: the losses of this process's examples.
            choices: the model's choices for each of them; above 0: as labelled.
            start: position of the batch's first example in the epoch.

        Returns:
            the sum of the epoch's losses so far, in this process.
        """
        loss_sum, correct, observed = self._sums
        count = len(batch.labels)
        loss_sum += torch.dot(losses, batch.weights[batch.own]) / batch.total * count
        correct += (choices > 0).sum()
        observed[start : start + count][batch.own] = losses
        assert self.hits is not None
        self.hits[start : start + count][batch.own] = choices
        self.step += 1
        return loss_sum

    def ended(self, ranks: Ranks) -> tuple[float, float, Tensor, Tensor]:
        """The epoch's mean loss, its accuracy, and the losses and choices [size] in the order of training on the CPU,
        over all processes."""
        loss_sum, correct, observed = map(ranks.total, self._sums)
        assert self.hits is not None
        hits = ranks.total(self.hits).cpu()
        return float(loss_sum) / len(observed), int(correct) / len(observed), observed.cpu(), hits

    def gathered(self, ranks: Ranks) -> "Within":
        """The same with the sums of all processes, for a checkpoint."""
        if self.loss_sum is None:
            return self
        loss_sum, correct, observed = self._sums
        # Each process's own sum, since sums in another order have other last bits.
        own = slice(ranks.rank, ranks.rank + 1)
        sums = ranks.whole(loss_sum.view(1), own, ranks.size)
        assert self.hits is not None
        return replace(
            self,
            loss_sum=sums,
            correct=ranks.total(correct),
            observed=ranks.total(observed),
            hits=ranks.total(self.hits),
        )

    @property
    def _sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """The sums of an epoch that has begun."""
        assert self.loss_sum is not None
        assert self.correct is not None
        assert self.observed is not None
        return self.loss_sum, self.correct, self.observed

    def take_own(self, rank: int) -> None:
        """After loading a checkpoint of all processes, keep this process's own sum of losses. The other sums belong to
        the first process."""
        if self.loss_sum is not None:
            self.loss_sum = self.loss_sum[rank]
        if rank:
            self.correct = self.observed = self.hits = None


class RunState:
    """The state of a run between two updates.

    Args:
        modules: name in a checkpoint → object with a ``state_dict``.
        generators: the random generators.
        selector: the selector, whose state belongs to the run.
        everything: the subset of all examples.
    """

    def __init__(
        self,
        modules: Mapping[str, Stateful],
        generators: Mapping[str, torch.Generator],
        selector: Selector,
        everything: Subset,
    ) -> None:
        self._modules = modules
        self.generators = generators
        self._selector = selector
        self.everything = everything
        self.choice = Choice(everything)
        """The last selection."""
        self.within = Within()
        """The progress within the current epoch."""
        self.done: list[EpochReport] = []
        """Reports of the completed epochs."""
        self.visited = 0
        """Number of samples seen in completed epochs."""
        self.mark()

    def mark(self) -> None:
        """Record a point from which the epoch can be repeated: before its selection, or before its order is drawn."""
        self._marked: dict[str, Any] = {
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "memory": self._selector.state_dict(),
            "random": _random_state(),
        }

    def gather(self, within: Within) -> dict[str, Any]:
        """The content of a checkpoint. ``within`` must belong to the point that was marked last."""
        return {
            "modules": {name: module.state_dict() for name, module in self._modules.items()},
            "subset": _packed(self.choice.subset),
            "visited": self.visited,
            "marked": self._marked,
            "random": self.random(within),
            "within": {**vars(within), "chosen": _packed(within.chosen)} if within.selected else None,
        }

    def random(self, within: Within) -> dict[str, Tensor]:
        """The states of torch's own generators in this process, from which a run resumes."""
        # A selection that is repeated draws random numbers again, because it may train a model of its own.
        marked: dict[str, Tensor] = self._marked["random"]
        return _random_state() if within.selected else marked

    def load_state_dict(self, gathered: Mapping[str, Any]) -> Within:
        """Restore what ``gather`` returned, and return the progress within the epoch."""
        for name, module in self._modules.items():
            module.load_state_dict(gathered["modules"][name])
        self.visited = gathered["visited"]
        # This precedes the generators, because what is created again here may draw random numbers.
        self._selector.load_state_dict(gathered["marked"]["memory"])
        if gathered["subset"] is not None:
            self.choice = self._selector.choice_of(Subset(**gathered["subset"]))
        for name, generator in self.generators.items():
            generator.set_state(gathered["marked"]["generators"][name])
        _set_random_state(gathered["random"])
        # This process's own, until the next mark.
        self._marked = {**gathered["marked"], "random": gathered["random"]}
        if gathered["within"] is None:
            return Within()
        return Within(**{**gathered["within"], "chosen": _unpacked(gathered["within"]["chosen"])})


def _random_state() -> dict[str, Tensor]:
    """The states of torch's own generators, which dropout uses: the CPU's and, if a GPU is used, the GPU's."""
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
