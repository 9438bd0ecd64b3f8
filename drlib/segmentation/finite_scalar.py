"""Finite scalar quantization: a bottleneck whose codewords are a grid, so that no codebook is learned and none can die.

Source: Mentzer et al. 2023, "Finite scalar quantization: VQ-VAE made simple", section 3 and appendix A.1.
"""

import math

import torch
from torch import Tensor, nn

from drlib.profiles import QuantizerSettings
from drlib.seeds import torch_generator
from drlib.segmentation.quantizer import Quantized, Quantizer, perplexity

MARGIN = 1e-3  # the outermost values are reached at finite latents


class FiniteScalarQuantizer(Quantizer):
    """A latent is projected to d = len(fsq_levels) numbers, each bounded by a tanh and rounded to one of its L_i values.

    The K = L_1 ... L_d combinations, divided by L_i // 2 so that they lie in -1..1, and projected back to D dimensions, are the codewords.
    What is learned is the two linear projections, by the gradient of the segmentation alone: the latent loss is zero. Rounding is
    straight-through. Code of the values n_i = 0 .. L_i - 1: n_1 + L_1 n_2 + L_1 L_2 n_3 + ...

    ``seed`` determines the first projections.
    """

    started = True
    levels: Tensor  # (d,)
    basis: Tensor  # (d,) of the codes
    grid: Tensor  # (K, d)

    def __init__(self, settings: QuantizerSettings, *, seed: int = 0):
        super().__init__(settings, seed=seed)
        levels = settings.fsq_levels
        self.project_in = nn.Linear(settings.codeword_dim, len(levels))
        self.project_out = nn.Linear(len(levels), settings.codeword_dim)
        generator = torch_generator(seed, "projections")
        for layer in (self.project_in, self.project_out):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("basis", torch.tensor([math.prod(levels[:i]) for i in range(len(levels))]), persistent=False)
        numbers = torch.arange(settings.codebook_size)[:, None] // self.basis % self.levels
        self.register_buffer("grid", numbers / (self.levels // 2) - 1, persistent=False)

    @property
    def codebook(self) -> Tensor:
        """The codewords (K, D): the grid, projected."""
        return self.project_out(self.grid)

    def codes(self, z_e: Tensor) -> Tensor:
        """Return the index map (B, h, w), int64, of latents (B, D, h, w)."""
        with torch.autocast(z_e.device.type, enabled=False):
            return self._codes(self._bounded(z_e)).view(len(z_e), *z_e.shape[2:])

    def forward(self, z_e: Tensor, quantize: bool = True) -> Quantized:
        """Quantize latents (B, D, h, w). ``quantize=False`` projects and bounds them without rounding."""
        with torch.autocast(z_e.device.type, enabled=False):
            bounded = self._bounded(z_e)
            rounded = bounded.round().detach() + (bounded - bounded.detach()) if quantize else bounded
            projected = self.project_out(rounded / (self.levels // 2)).view(len(z_e), *z_e.shape[2:], -1).movedim(-1, 1)
            if not quantize:
                return self._continuous(projected)
            codes = self._codes(bounded).view(len(z_e), *z_e.shape[2:])
            z_q = self.lookup(codes).detach() + (projected - projected.detach())
        counts = self._count(codes)
        return Quantized(z_q, codes, z_q.new_zeros(()), counts, perplexity(counts))

    def start(self, latents: Tensor, batches: int = 1) -> None:
        """Do nothing: a grid is where it is."""

    def _bounded(self, z_e: Tensor) -> Tensor:
        """Return (B h w, d), in -L/2 .. L/2 - 1 for even L, in -(L - 1)/2 .. (L - 1)/2 for odd L, and a margin."""
        half = (self.levels - 1) * (1 + MARGIN) / 2
        offset = (self.levels % 2 == 0) / 2
        return torch.tanh(self.project_in(self._rows(z_e.float())) + torch.atanh(offset / half)) * half - offset

    def _codes(self, bounded: Tensor) -> Tensor:
        numbers = (bounded.detach().round().long() + self.levels // 2).clamp(min=0).minimum(self.levels - 1)
        return (numbers * self.basis).sum(1)
