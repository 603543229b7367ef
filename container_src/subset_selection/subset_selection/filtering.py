"""A filter within batches: which candidates of a batch are trained on, in one process or several."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from subset_selection.items import mapped, taken
from subset_selection.processes import Processes
from subset_selection.types import BatchFilter


def filtered(
    processes: Processes, by: BatchFilter, batch: Any, losses_b: Tensor, indices_B: Tensor, count: int
) -> tuple[Any, Tensor]:
    """This process's part of the examples that a filter keeps of a batch of candidates.

    Each process has read and judged a part of the candidates. All hear of all losses, keep the same examples, and
    exchange them, so that each has an equal part.

    Args:
        processes: the processes.
        by: the filter.
        batch: this process's candidates, collated.
        losses_b: their losses.
        indices_B: the indices of all processes' candidates, those of the first process first.
        count: number of examples to keep, over all processes.

    Returns:
        its part of what is kept, collated, and the positions of these examples among the B candidates, on the CPU.

    Raises:
        ValueError: the processes' candidates have different shapes, on every process.
    """
    if processes.size == 1:
        kept = by.keep(losses_b, indices_B.to(losses_b.device), count).cpu()
        return taken(batch, kept), kept
    tensors, lists = _leaves(batch)
    shapes = [(tuple(leaf.shape[1:]), leaf.dtype) for leaf in tensors]
    everyones = processes.everyones((losses_b.cpu(), shapes, lists))
    different = [others for _, others, _ in everyones if others != everyones[0][1]]
    if different:
        raise ValueError(
            f"the processes' parts of a batch have rows of different shapes, {everyones[0][1]} and {different[0]}: a "
            "filter within batches exchanges them, and expects one shape (pad all batches to one length in collate_fn)"
        )
    losses_B = torch.cat([losses for losses, _, _ in everyones]).to(losses_b.device)
    kept = by.keep(losses_B, indices_B.to(losses_B.device), count).cpu()
    parts = [kept[Processes(rank, processes.size).share(len(kept))] for rank in range(processes.size)]
    mine = parts[processes.rank]
    ends = torch.tensor([len(losses) for losses, _, _ in everyones]).cumsum(0)
    start = int(ends[processes.rank]) - len(losses_b)
    # Which process has read each example: for those that this one sends, and for those that it receives.
    sent = [part[_holders(ends, part) == processes.rank] - start for part in parts]
    holders = _holders(ends, mine)
    received = [(holders == rank).nonzero().flatten() for rank in range(processes.size)]
    exchanged = iter([_exchanged(leaf, sent, received) for leaf in tensors])
    entries = iter(
        [[entry for _, _, own in everyones for entry in own[number]] for number in range(len(lists))]
    )

    def chosen(_: Any) -> list[Any]:
        of_all = next(entries)
        return [of_all[position] for position in mine.tolist()]

    return mapped(lambda _: next(exchanged), batch, chosen), mine


def _leaves(batch: Any) -> tuple[list[Tensor], list[Any]]:
    """The tensors of a batch, and its lists of anything else."""
    tensors: list[Tensor] = []
    lists: list[Any] = []

    def tensor(values: Tensor) -> Tensor:
        tensors.append(values)
        return values

    def other(values: Any) -> Any:
        lists.append(values)
        return values

    mapped(tensor, batch, other)
    return tensors, lists


def _holders(ends: Tensor, positions: Tensor) -> Tensor:
    """The process that has read the candidate at each position."""
    return torch.searchsorted(ends, positions, right=True)


def _exchanged(leaf: Tensor, sent: list[Tensor], received: list[Tensor]) -> Tensor:
    """The rows of a tensor that this process receives.

    Args:
        leaf: [b, …] the rows that this process has.
        sent: for each process, the rows that it is sent.
        received: for each process, the positions of the rows that it sends.
    """
    # Of several backends only NCCL's cannot send from main memory.
    device = (
        leaf.device if "gloo" in dist.get_backend() else torch.device("cuda", torch.cuda.current_device())
    )
    rows = leaf[torch.cat(sent).to(leaf.device)].to(device)
    order = torch.cat(received)
    coming = rows.new_empty(len(order), *rows.shape[1:])
    plain = (coming.view(torch.uint8), rows.view(torch.uint8)) if rows.dtype == torch.bool else (coming, rows)
    dist.all_to_all_single(*plain, [*map(len, received)], [*map(len, sent)])
    made = torch.empty_like(coming)
    made[order.to(device)] = coming
    made = made.to(leaf.device)
    return made.pin_memory() if leaf.device.type == "cpu" and leaf.is_pinned() else made
