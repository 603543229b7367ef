"""The processes of a distributed run, one per GPU: how they divide the work, and how they stay consistent.

Every process computes the same plan, draws the same random numbers and knows the labels and weights of the whole batch.
Processes differ only in the inputs that they read: a share of every batch, and a part of every pass over the data.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from subset_selection.processes import Processes
from subset_trainer.data import Dataset
from subset_trainer.training.embeddings import allocate
from subset_trainer.training.interruption import Interruption, Terminated

COLLECTIVE_MINUTES = 30
"""How long a process waits in a collective for a live process. A process that died is detected at once."""
SELECTION_DAYS = 5
"""The timeout while the others wait for the first process to select, which may take arbitrarily long."""
T = TypeVar("T")


class Ranks(Processes):
    """This process's position among the processes of the run. Process 0 writes the run's results.

    Args:
        interruption: handles SIGTERM. All processes must stop together, because a process that stops alone leaves the
            others waiting in the next collective. Default: SIGTERM is not handled.
        rank, size, objects: see :class:`~subset_selection.processes.Processes`.
        local_rank: the number of this process on its host, which is also the index of its GPU.
        local_size: the number of processes on this host.
    """

    SHARED = (Exception, Terminated)

    def __init__(
        self,
        interruption: Interruption | None = None,
        rank: int = 0,
        size: int = 1,
        local_rank: int = 0,
        local_size: int = 1,
        objects: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(rank, size, objects)
        self.interruption = interruption or Interruption()
        self.local_rank = local_rank
        self.local_size = local_size
        self._asked: tuple[Tensor, dist.Work] | None = None

    @classmethod
    def join(cls, interruption: Interruption, cuda: bool) -> "Ranks":
        """Join the process group that torchrun's environment variables describe."""
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
        """Wait until all processes call this, and leave the group."""
        if self.size > 1:
            dist.barrier(self.objects)
            dist.destroy_process_group()

    # Division of the work

    def places(self, count: int, owners: Tensor | None = None) -> slice | Tensor:
        """The places of this process's examples in a batch.

        Args:
            count: the number of examples in the batch.
            owners: [count] the rank that holds each input; None: every process holds all inputs.
        """
        if owners is None or self.size == 1:
            return self.share(count)
        return (owners == self.rank).nonzero().flatten()

    def passing(self, dataset: Dataset, size: int) -> list[Tensor]:
        """This process's batches, of `size` examples, in a pass over all data, in data order.

        If every process holds all inputs, the batches, and hence their results, equal those of a single process.
        """
        if dataset.owners is None or self.size == 1:
            return list(self.parts(torch.arange(len(dataset)).split(size)))
        own = (dataset.owners == self.rank).nonzero().flatten()
        return list(own.split(size)) if len(own) else []

    def parts(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share of the batches of a pass."""
        return items[self.share(len(items))]

    # Collectives

    def shared_anew(self, batch: Tensor, own: slice | Tensor, count: int, positions: Tensor) -> Tensor:
        """This process's share of a selection of a batch's inputs, redistributed between the processes.

        Args:
            batch: [B, …] the inputs that this process has read.
            own: their B places in the whole batch.
            count: the size of the whole batch.
            positions: [K] int64, on the batch's device: the selected places of the whole batch.
        """
        if self.size == 1:
            return batch[positions]
        rows = torch.full((count,), -1, device=positions.device)
        rows[own] = torch.arange(len(batch), device=positions.device)
        rows = rows[positions]
        mine = rows >= 0
        chosen = self.whole(batch[rows[mine]], mine.nonzero().flatten(), len(positions))
        return chosen[self.share(len(positions))]

    def in_order(self, columns: tuple[Tensor, ...], own: list[Tensor]) -> tuple[Tensor, ...]:
        """The results of all processes for a pass, in data order, on every process and on the CPU.

        Args:
            columns: results for this process's examples, each [B, …].
            own: this process's batches from :meth:`passing`. If there are none, its columns are ignored.
        """
        if self.size == 1:
            return columns
        places = torch.cat(own) if own else torch.empty(0, dtype=torch.int64)
        everyones = [part for part in self.everyones((places, columns)) if len(part[0])]
        order = torch.cat([places for places, _ in everyones]).argsort()
        return tuple(
            torch.cat(column)[order] for column in zip(*(part for _, part in everyones), strict=True)
        )

    def allocate(
        self, rows: int, columns: Sequence[tuple[int, torch.dtype]], device: torch.device
    ) -> list[Tensor]:
        """See :func:`subset_trainer.training.embeddings.allocate`."""
        return allocate(rows, columns, device, self.local_size)

    # Stopping together

    def abandonable(self) -> AbstractContextManager[Any]:
        """Work that SIGTERM ends at any point, although other processes wait for it."""
        return self.interruption.abandonable()

    def check(self) -> None:
        """Stop all processes if any of them has received SIGTERM. All processes must call this at the same point.

        Raises:
            Terminated: one of several processes has received SIGTERM.
        """
        if self.size > 1 and any(self.everyones(self.interruption.requested)):
            raise Terminated

    def until_asked(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items of a long pass. With several processes SIGTERM ends it early, so call :meth:`check` next."""
        for item in items:
            if self.size > 1 and self.interruption.requested:
                return
            yield item

    def pulse(self, due: bool) -> tuple[bool, bool]:
        """Whether any process has received SIGTERM, and whether `due` is true on the first process.

        All processes must call this in every step. The answer is that of the previous step, so that no step waits for
        the collective.
        """
        if self.size == 1:
            return False, due  # in a single process SIGTERM itself raises
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
        """Wrap a module so that its backward pass averages the gradients over all processes."""
        if self.size == 1:
            return module
        on_gpu = next(module.parameters()).is_cuda
        return nn.parallel.DistributedDataParallel(
            module,
            device_ids=[self.local_rank] if on_gpu else None,
            gradient_as_bucket_view=True,
        )

    def without_exchange(self, module: nn.Module) -> AbstractContextManager[Any]:
        """A context in which the gradients of a wrapped module are not averaged over the processes."""
        if isinstance(module, nn.parallel.DistributedDataParallel):
            return module.no_sync()
        return nullcontext()
