"""The processes that train one model together: each evaluates its share of the data, all get the same subset."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from subset_selection import distributed
from subset_selection.selectors import Shard, alone
from subset_selection.types import Strategy, Subset

Made = TypeVar("Made")


@dataclass(frozen=True)
class Processes:
    """This process's position among the processes of the default process group."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "Processes":
        """The processes of ``torch.distributed``, if a group is initialised; else one."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, count: int) -> slice:
        """This process's contiguous share of ``count`` things. The sizes of the shares differ by one at most."""
        each, over = divmod(count, self.size)
        start = self.rank * each + min(self.rank, over)
        return slice(start, start + each + (self.rank < over))

    def from_first(self, make: Callable[[], Made]) -> Made:
        """Call ``make`` on the first process, and return its result, or raise its exception, on every process."""
        if self.size == 1:
            return make()
        answer: list[Any] = [None, None]
        if self.rank == 0:
            try:
                answer[0] = make()
            except Exception as error:
                answer[1] = error
        dist.broadcast_object_list(answer)
        if answer[1] is not None:
            raise answer[1]
        made: Made = answer[0]
        return made

    def everyones(self, own: Made) -> list[Made]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [own]
        answers: list[Any] = [None] * self.size
        dist.all_gather_object(answers, own)
        return answers

    def same_buffers(self, model: nn.Module) -> None:
        """Copy the first process's buffers to all, because each process updated its own in the last step."""
        for buffer in model.buffers() if self.size > 1 else ():
            dist.broadcast(buffer, 0)

    def choose(
        self, strategy: Strategy, train: Shard, validation: Shard, budget: int, generator: torch.Generator
    ) -> Subset:
        """Run a strategy on the shards of all processes; see :data:`~subset_selection.selectors.Choose`."""
        if self.size == 1:
            return alone(strategy, train, validation, budget, generator)
        return distributed.select(strategy, *train, *validation, budget, generator, self.from_first)


def under_accelerate() -> bool:
    """Whether the program has made an ``accelerate.Accelerator``. It is not imported for that."""
    state = sys.modules.get("accelerate.state")
    return state is not None and bool(state.is_initialized())
