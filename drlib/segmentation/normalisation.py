"""Group normalization, LeakyReLU and the sum with a shortcut as one differentiable step.

On a CPU with a compiler they are one function of ``kernels`` (two passes through memory forwards, two backwards); elsewhere the framework's
operations.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drlib.segmentation import kernels

SLOPE = 0.2  # of LeakyReLU
EPSILON = 1e-5


class NormalisedActivation(nn.Module):
    """LeakyReLU(0.2) of GroupNorm. Source: Methods, "Encoder network"."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Return the activation of ``x`` (B, C, H, W), plus ``shortcut`` where one is given; same shape and type."""
        if kernels.usable(x):
            x = x.contiguous(memory_format=torch.channels_last)
            if shortcut is not None:
                shortcut = shortcut.contiguous(memory_format=torch.channels_last)
            return _GroupNormLeakyReLU.apply(x, self.weight, self.bias, self.groups, shortcut)
        normalised = F.group_norm(x, self.groups, self.weight.to(x.dtype), self.bias.to(x.dtype), EPSILON)
        activated = F.leaky_relu(normalised, SLOPE)
        return activated if shortcut is None else shortcut + activated


class _GroupNormLeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, shortcut: Tensor | None) -> Tensor:
        y, mean, inverse = kernels.normalise(x, weight, bias, groups, EPSILON, SLOPE, shortcut)
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        ctx.groups = groups
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad.contiguous(memory_format=torch.channels_last)
        grads = kernels.normalise_backward(ctx.saved_tensors[0], grad, *ctx.saved_tensors[1:], ctx.groups, SLOPE)
        return *grads, None, grad if ctx.needs_input_grad[4] else None
