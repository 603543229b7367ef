"""The processes that train one run together, one a GPU: what each takes of the work, and how they stay agreed.

Every process computes the same plan, draws the same random numbers and knows the whole batch's labels and weights. What
differs is which inputs it reads: its share of every batch, its part of a pass over the data. Alone, all of this costs
nothing: there is no process group, and each method returns what it was given.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from subset_trainer.data import Dataset
from subset_trainer.training.interruption import Interruption, Terminated

COLLECTIVE_MINUTES = 30
"""How long a process waits for another that lives and does not come; one that died is noticed at once."""
SELECTION_DAYS = 5
"""The same where the others wait while the first process chooses, which has no bound of its own."""
T = TypeVar("T")


class Ranks:
    """This process among those of the run.

    Args:
        interruption: SIGTERM, which the processes have to hear of together: each would otherwise leave the others
            waiting in the next exchange. Default: it is not listened for.
        rank: this process's number, from 0; the first one writes what the run leaves behind.
        size: how many there are.
        local_rank: its number on its host: which GPU is its own.
        local_size: how many there are on its host.
        objects: the group in which Python objects travel, over the CPU.
    """

    def __init__(
        self,
        interruption: Interruption | None = None,
        rank: int = 0,
        size: int = 1,
        local_rank: int = 0,
        local_size: int = 1,
        objects: dist.ProcessGroup | None = None,
    ) -> None:
        self.interruption = interruption or Interruption()
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.local_size = local_size
        self.objects = objects
        self._asked: tuple[Tensor, dist.Work] | None = None

    @classmethod
    def join(cls, interruption: Interruption, cuda: bool) -> "Ranks":
        """Join the group that the launcher's environment variables describe, as torchrun sets them."""
        own, size, local, on_host = (
            int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        )
        if cuda:
            torch.cuda.set_device(local)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timedelta(minutes=COLLECTIVE_MINUTES)
        )
        objects: Any = dist.new_group(backend="gloo", timeout=timedelta(days=SELECTION_DAYS))
        interruption.hold()
        return cls(interruption, own, size, local, on_host, objects)

    def leave(self) -> None:
        """Wait until the others have come as far, and leave the group."""
        if self.size > 1:
            dist.barrier(self.objects)
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    # Who has what

    def places(self, count: int, owners: Tensor | None = None) -> slice | Tensor:
        """Which of a batch's examples are this process's.

        Args:
            count: examples of the batch.
            owners: [count] the rank that has each one's input; None: all have all.
        """
        if owners is None or self.size == 1:
            return self.share(count)
        return (owners == self.rank).nonzero().flatten()

    def passing(self, dataset: Dataset, size: int) -> list[Tensor]:
        """This process's batches, of so many examples, of a pass over all of the data, in data order.

        Whole ones, the same as if it were alone, where all have all inputs: so is what comes of each.
        """
        if dataset.owners is None or self.size == 1:
            return list(self.parts(torch.arange(len(dataset)).split(size)))
        own = (dataset.owners == self.rank).nonzero().flatten()
        return list(own.split(size)) if len(own) else []

    def share(self, count: int) -> slice:
        """Which of so many examples in a row are this process's; shares differ by one at most."""
        each, over = divmod(count, self.size)
        start = self.rank * each + min(self.rank, over)
        return slice(start, start + each + (self.rank < over))

    def parts(self, items: Sequence[T]) -> Sequence[T]:
        """Those of a pass's batches that this process takes."""
        return items[self.share(len(items))]

    # Exchanges

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def whole(self, values: Tensor, own: slice | Tensor, count: int) -> Tensor:
        """[count, …]: the values that each process has at its own places, on all of them.

        Args:
            values: [B, …] of a type that can be added.
            own: B places, which no other process has.
        """
        if self.size == 1:
            return values
        everyones = values.new_zeros(count, *values.shape[1:])
        everyones[own] = values
        dist.all_reduce(everyones)
        return everyones

    def shared_anew(self, batch: Tensor, own: slice | Tensor, count: int, positions: Tensor) -> Tensor:
        """This process's share of some of a batch's inputs, whoever has read them.

        Args:
            batch: [B, …] inputs at the ``own`` places.
            count: of the whole batch.
            positions: [K] int64, on the batch's device: which of the whole batch's places go on.
        """
        if self.size == 1:
            return batch[positions]
        rows = torch.full((count,), -1, device=positions.device)
        rows[own] = torch.arange(len(batch), device=positions.device)
        rows = rows[positions]
        mine = rows >= 0
        chosen = self.whole(batch[rows[mine]], mine.nonzero().flatten(), len(positions))
        return chosen[self.share(len(positions))]

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process returns, or the exception that it raises, on all processes."""
        if self.size == 1:
            return make()
        answer: list[Any] = [None, None]
        if self.first:
            try:
                with self.interruption.abandonable():
                    answer[0] = make()
            except (Exception, Terminated) as error:
                answer[1] = error
        dist.broadcast_object_list(answer, group=self.objects, group_src=0)
        if answer[1] is not None:
            raise answer[1]
        made: T = answer[0]
        return made

    def everyones(self, own: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [own]
        answers: list[Any] = [None] * self.size
        dist.all_gather_object(answers, own, group=self.objects)
        return answers

    def in_order(self, columns: tuple[Tensor, ...], own: list[Tensor]) -> tuple[Tensor, ...]:
        """What each process has computed of its batches of a pass, on every process and in data order; on the CPU.

        Args:
            columns: [B, …] of its examples, each.
            own: the batches that :meth:`passing` gave it; without any, the columns are of no example.
        """
        if self.size == 1:
            return columns
        places = torch.cat(own) if own else torch.empty(0, dtype=torch.int64)
        everyones = [part for part in self.everyones((places, columns)) if len(part[0])]
        order = torch.cat([places for places, _ in everyones]).argsort()
        return tuple(
            torch.cat(column)[order] for column in zip(*(part for _, part in everyones), strict=True)
        )

    # Stopping together

    def check(self) -> None:
        """Called by all processes at one place: SIGTERM on any of them ends all.

        Raises:
            Terminated
        """
        if self.size > 1 and any(self.everyones(self.interruption.requested)):
            raise Terminated

    def until_asked(self, items: Iterable[T]) -> Iterator[T]:
        """The items of a long pass. One of several processes leaves it when SIGTERM arrives, for :meth:`check`."""
        for item in items:
            if self.size > 1 and self.interruption.requested:
                return
            yield item

    def pulse(self, due: bool) -> tuple[bool, bool]:
        """Called by all processes in every step: whether SIGTERM has reached any of them, and whether something is due
        on the first. The answer is that of the step before, so that no step waits for the exchange."""
        if self.size == 1:
            return False, due  # alone, SIGTERM raises by itself
        before = self._asked
        flags = torch.tensor([self.interruption.requested, due and self.first], dtype=torch.int32)
        self._asked = flags, dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.objects, async_op=True)
        if before is None:
            return False, False
        before[1].wait()
        stop, anything = before[0].tolist()
        return bool(stop), bool(anything)

    # The model

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module whose backward pass leaves every process with the mean of all gradients."""
        if self.size == 1:
            return module
        on_gpu = next(module.parameters()).is_cuda
        return nn.parallel.DistributedDataParallel(
            module,
            device_ids=[self.local_rank] if on_gpu else None,
            gradient_as_bucket_view=True,
        )

    def same_buffers(self, module: nn.Module) -> None:
        """Give all processes the buffers of the first: in the last step each has followed its own examples."""
        buffers = list(module.buffers()) if self.size > 1 else []
        for buffer in buffers:
            dist.broadcast(buffer, 0)

    def without_exchange(self, module: nn.Module) -> AbstractContextManager[Any]:
        """A context in which a wrapped module's gradients are not exchanged."""
        if isinstance(module, nn.parallel.DistributedDataParallel):
            return module.no_sync()
        return nullcontext()
