"""Sums and rows over all processes of a training. In a single process each function returns what it was given.

Every process must make the same calls in the same order, or all wait for ever: call these in training, not in evaluation, where processes
work at different patients. Sums have the same bits in all processes.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of processes that train together; 1 where torch.distributed is not initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, 0 to ``world_size() - 1``."""
    return dist.get_rank() if world_size() > 1 else 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Return the sum of the tensors, of one shape, of all processes; differentiable.

    The gradient with respect to one process's tensor is the *sum* of the gradients that all processes have for the result. Where every
    process computes the same loss from the result, that is ``world_size()`` times the loss's gradient, and DistributedDataParallel, which
    averages gradients over processes, makes of it the gradient that one process would have for the whole batch.
    """
    return _Sum.apply(tensor) if world_size() > 1 else tensor


def gather_rows(tensor: Tensor) -> Tensor:
    """Return the rows (N, ...) of all processes, rank after rank; their numbers of rows (N_rank, ...) may differ. No gradient."""
    if world_size() == 1:
        return tensor.detach()
    sizes = [torch.zeros((), dtype=torch.int64, device=tensor.device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor(len(tensor), device=tensor.device))
    padded = tensor.new_zeros(max(map(int, sizes)), *tensor.shape[1:])
    padded[: len(tensor)] = tensor.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return sum_over_ranks(gradient)
