"""What the processes of a distributed training tell each other. In one process, each function returns what it was given.

The processes ("ranks") hold parts of one batch. Every quantity that belongs to the batch is made of sums over the ranks, so that it is
the same on all of them, and the same as in one process that holds the whole batch.
"""

from typing import Any

import torch
import torch.distributed
from torch import Tensor


def world_size() -> int:
    """Return the number of processes that train together; 1 where nothing is distributed."""
    return torch.distributed.get_world_size() if _distributed() else 1


def rank() -> int:
    """Return the number of this process: 0 .. world_size - 1."""
    return torch.distributed.get_rank() if _distributed() else 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Return the sum of ``tensor`` over the processes, with the same bits on all of them; differentiable.

    Gradient: every process goes on to compute the same loss from the sum, and the gradients of all these copies arrive at each
    summand. So the gradient is that of one copy times the number of processes. DDP then takes the *mean* of the parameters' gradients
    over the processes, and what remains is the gradient of the one loss.
    """
    return _Sum.apply(tensor) if _distributed() else tensor


@torch.no_grad()
def gather_rows(tensor: Tensor) -> Tensor:
    """Return the rows (N, ...) of all processes in the order of their ranks; each may have another number of rows, also none."""
    if not _distributed():
        return tensor
    counts = [torch.zeros(1, dtype=torch.int64, device=tensor.device) for _ in range(world_size())]
    torch.distributed.all_gather(counts, torch.tensor([len(tensor)], device=tensor.device))
    padded = tensor.new_zeros(max(map(int, counts)), *tensor.shape[1:])
    padded[: len(tensor)] = tensor
    gathered = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(gathered, padded)
    return torch.cat([rows[: int(count)] for rows, count in zip(gathered, counts, strict=True)])


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * world_size()
