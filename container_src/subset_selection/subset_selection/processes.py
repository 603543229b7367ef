"""The processes that train one model together: each evaluates its share of the data, all get the same subset.

A single process has no overhead: there is no process group, and each method returns its input.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from subset_selection.storage import on_the_device

Made = TypeVar("Made")


class Processes:
    """This process's position among the processes of the default process group, and what they exchange.

    Tensors are exchanged over the default group, Python objects over ``objects``.

    Args:
        rank: the number of this process, from 0.
        size: the number of processes.
        objects: the process group for Python objects, on the CPU; its timeout is how long a process may wait for what
            another one selects. None: the default group.
    """

    SHARED: ClassVar[tuple[type[BaseException], ...]] = (Exception,)
    """What is raised on every process if one raises it in :meth:`from_first` or :meth:`from_all`."""

    def __init__(self, rank: int = 0, size: int = 1, objects: dist.ProcessGroup | None = None) -> None:
        self.rank, self.size, self.objects = rank, size, objects

    @classmethod
    def current(cls) -> "Processes":
        """The processes of ``torch.distributed``, if a group is initialised; else one."""
        if not (dist.is_available() and dist.is_initialized()):
            return Processes()
        return Processes(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that selects for all, and holds what a strategy remembers."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's contiguous share of ``count`` things. The sizes of the shares differ by one at most."""
        each, over = divmod(count, self.size)
        start = self.rank * each + min(self.rank, over)
        return slice(start, start + each + (self.rank < over))

    # Objects

    def from_first(self, make: Callable[[], Made]) -> Made:
        """Call ``make`` on the first process, and return its result, or raise its exception, on every process."""
        if self.size == 1:
            return make()
        answer: list[Any] = self._attempt(make) if self.first else [None, None]
        dist.broadcast_object_list(answer, 0, group=self.objects)
        made: Made = _made(answer)
        return made

    def from_all(self, make: Callable[[], Made]) -> list[Made]:
        """Call ``make`` on every process, and return the results of all in the order of their ranks, or raise the first
        of their exceptions on every process."""
        if self.size == 1:
            return [make()]
        return [_made(answer) for answer in self.everyones(self._attempt(make))]

    def everyones(self, own: Made) -> list[Made]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [own]
        answers: list[Any] = [None] * self.size
        dist.all_gather_object(answers, own, group=self.objects)
        return answers

    def abandonable(self) -> AbstractContextManager[Any]:
        """A context for work that one process does while others wait for it."""
        return nullcontext()

    def _attempt(self, make: Callable[[], Any]) -> list[Any]:
        try:
            with self.abandonable():
                return [make(), None]
        except self.SHARED as error:
            return [None, error]

    # Tensors

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def largest(self, values: Tensor) -> Tensor:
        """The largest value over the processes, element by element."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def whole(self, values: Tensor, own: slice | Tensor, count: int) -> Tensor:
        """[count, …]: the values of all processes, gathered on every process.

        Args:
            values: [B, …] this process's values, of a type that can be summed.
            own: the B places of these values, which no other process has.
            count: the number of places in total.
        """
        if self.size == 1:
            return values
        everyones = values.new_zeros(count, *values.shape[1:])
        everyones[own] = values
        dist.all_reduce(everyones)
        return everyones

    def _reduced(self, values: Tensor, operation: Any) -> Tensor:
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values, operation)
        return values

    def same_buffers(self, model: nn.Module) -> None:
        """Copy the first process's buffers to all, because each process updated its own in the last step."""
        for buffer in list(model.buffers()) if self.size > 1 else ():
            dist.broadcast(buffer, 0)

    def allocate(
        self, rows: int, columns: Sequence[tuple[int, torch.dtype]], device: torch.device
    ) -> list[Tensor]:
        """Allocate columns for examples of several processes; see :data:`~subset_selection.storage.Allocate`."""
        return on_the_device(rows, columns, device)


ALONE = Processes()
"""A single process."""


def under_accelerate() -> bool:
    """Whether the program has made an ``accelerate.Accelerator``. It is not imported for that."""
    state = sys.modules.get("accelerate.state")
    return state is not None and bool(state.is_initialized())


def _made(answer: list[Any]) -> Any:
    if answer[1] is not None:
        raise answer[1]
    return answer[0]
