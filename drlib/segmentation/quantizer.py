"""The vector quantizer: Eq. 1-3 and how the codebook learns.

The nearest codeword replaces each latent (Eq. 1, 2). The encoder is pulled towards its codewords by the commitment loss; the codebook
follows the latents either by gradient (the codebook loss of Eq. 3) or as an exponential moving average of them (ref. 27 of the paper).

As coded by the authors (and in MONAI) the moving averages start at "no latents, sums equal to the codewords", so that the first update
divides by almost nothing and throws codewords hundreds of norms away (METHOD finding 8, ``bias_correction=False`` here). With
``bias_correction=True`` sums and counts start together, at zero or at the k-means start: a codeword is always a weighted mean of latents.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drlib.errors import DeepRadiomicsError
from drlib.profiles import QuantizerSettings
from drlib.seeds import torch_generator
from drlib.segmentation import kernels

SMOOTHING = 1e-5  # Laplace smoothing of the counts, authors' code
DEAD_SHARE = 0.05  # a codeword is dead when its average count is below this share of the mean over codewords
REVIVED_SHARE = 0.25  # and a revived one is given this share: at decay .99 it has about 160 steps to find its latents
KMEANS_ITERATIONS = 10
ROWS_AT_ONCE = 2**16


class LatentShapeError(DeepRadiomicsError, ValueError):
    """Latents do not have the dimension of the codewords, or codes are not indices of the codebook."""


@dataclass(frozen=True)
class Quantized:
    """What the quantizer returns.

    z_q (B, D, h, w): nearest codewords, with the gradient of the latents (straight-through). codes (B, h, w): their indices, int64, row and
    column as in the image; None where quantization was off. latent_loss: Eq. 3, a scalar. counts (K,): occurrences of each codeword.
    perplexity: exp of the entropy of the counts, between 1 and K.
    """

    z_q: Tensor
    codes: Tensor | None
    latent_loss: Tensor
    counts: Tensor
    perplexity: Tensor


def perplexity(counts: Tensor) -> Tensor:
    """Return exp(-sum p log p) of the shares p of ``counts`` (K,): how many codewords, used equally, would be as diverse."""
    shares = counts.double() / counts.sum().clamp(min=1)
    return torch.exp(-torch.special.xlogy(shares, shares).sum()).float()


def nearest(latents: Tensor, codebook: Tensor) -> Tensor:
    """Return the indices (N,) of the codewords (K, D) nearest to latents (N, D), in float32; of equals the first. Source: Eq. 1."""
    latents, codebook = latents.detach().float(), codebook.detach().float()
    if kernels.usable(latents):
        return kernels.nearest(latents, codebook)
    norms = codebook.square().sum(1)  # |z|^2 is the same for every codeword
    with torch.autocast(latents.device.type, enabled=False):  # a part at a time: distances take N x K numbers
        return torch.cat([torch.addmm(norms, rows, codebook.T, alpha=-2).argmin(1) for rows in latents.split(ROWS_AT_ONCE)])


class VectorQuantizer(nn.Module):
    """A codebook of K codewords of dimension D. In training mode each quantized call also teaches the codebook.

    Random draws (first codewords, revival) are determined by ``seed`` and the number of updates made.
    Source: Eq. 1-3; start and revival: ours.
    """

    codebook: Tensor  # (K, D)
    cluster_size: Tensor  # (K,) moving average of the counts per batch
    cluster_sum: Tensor  # (K, D) moving average of the sums per batch
    average_weight: Tensor  # 1 - decay ** updates, or 1 after a k-means start: the share of the averages that is data
    n_updates: Tensor
    started: Tensor  # the codebook has been placed: nothing left for k-means to do

    def __init__(self, settings: QuantizerSettings, *, seed: int = 0):
        super().__init__()
        self.settings, self.seed = settings, seed
        k, d = settings.codebook_size, settings.codeword_dim
        codebook = torch.randn(k, d, generator=torch_generator(seed, "codebook"))
        if settings.update == "gradient":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
        self.register_buffer("cluster_size", torch.zeros(k))
        self.register_buffer("cluster_sum", torch.zeros(k, d) if settings.bias_correction else codebook.clone())
        self.register_buffer("average_weight", torch.zeros((), dtype=torch.float64))
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("started", torch.tensor(not settings.kmeans_start))

    @property
    def codebook_in_use(self) -> Tensor:
        """True (K,) for codewords that recent training batches used: not dead."""
        return self.cluster_size >= DEAD_SHARE * self.cluster_size.mean().clamp(min=1e-12)

    def codes(self, z_e: Tensor) -> Tensor:
        """Return the index map (B, h, w) of latents (B, D, h, w)."""
        b, _, h, w = z_e.shape
        return nearest(self._rows(z_e), self.codebook.detach()).view(b, h, w)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the codewords (B, D, h, w) of an index map (B, h, w). Source: Eq. 2."""
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < len(self.codebook):
            raise LatentShapeError(
                f"codes span {int(codes.min())}..{int(codes.max())}; the codebook has indices 0..{len(self.codebook) - 1}"
            )
        return self._codewords(codes)

    def forward(self, z_e: Tensor, quantize: bool = True) -> Quantized:
        """Quantize latents (B, D, h, w). ``quantize=False`` returns them as they are, with a latent loss of zero."""
        z_e = z_e.float()
        latents = self._rows(z_e.detach())
        if not quantize:
            none = torch.zeros(len(self.codebook), dtype=torch.int64, device=z_e.device)
            return Quantized(z_e, None, z_e.new_zeros(()), none, z_e.new_tensor(float("nan")))
        if self.training and not self.started:
            self.start(latents)
        codes = self.codes(z_e.detach())
        codewords = self._codewords(codes)
        latent_loss = self.settings.commitment * F.mse_loss(z_e, codewords.detach())
        if self.settings.update == "gradient":
            latent_loss = latent_loss + F.mse_loss(codewords, z_e.detach())
        counts = torch.bincount(codes.flatten(), minlength=len(self.codebook))
        # Straight-through: exactly the codewords in value, exactly the identity in gradient.
        z_q = codewords.detach() + (z_e - z_e.detach())
        if self.training:
            self._learn(latents, codes.flatten(), counts)
        return Quantized(z_q, codes, latent_loss, counts, perplexity(counts))

    @torch.no_grad()
    def start(self, latents: Tensor, batches: int = 1) -> None:
        """Place the codewords at k-means centres of latents (N, D), gathered from ``batches`` training batches."""
        generator = torch_generator(self.seed, "k-means")
        centres, counts = kmeans(latents.float(), len(self.codebook), generator)
        self.codebook.copy_(centres)
        self.cluster_size.copy_(counts / batches)
        self.cluster_sum.copy_(centres * self.cluster_size[:, None])
        self.average_weight.fill_(1)
        self.started.fill_(True)

    @torch.no_grad()
    def _learn(self, latents: Tensor, codes: Tensor, counts: Tensor) -> None:
        decay = self.settings.ema_decay
        self.n_updates += 1
        self.average_weight.mul_(decay).add_(1 - decay)
        self.cluster_size.mul_(decay).add_(counts, alpha=1 - decay)
        if self.settings.update == "ema":
            sums = F.one_hot(codes, len(self.codebook)).to(latents.dtype).T @ latents
            self.cluster_sum.mul_(decay).add_(sums, alpha=1 - decay)
            self._move_codewords()
        if self.settings.revive_dead and self.average_weight >= 0.5:
            self._revive(latents, codes)

    def _move_codewords(self) -> None:
        if self.settings.bias_correction:
            known = self.cluster_size > SMOOTHING * self.cluster_size.mean()  # others stay where they are
            self.codebook[known] = self.cluster_sum[known] / self.cluster_size[known, None]
        else:
            total = self.cluster_size.sum()
            smoothed = total * (self.cluster_size + SMOOTHING) / (total + len(self.codebook) * SMOOTHING)
            self.codebook.copy_(self.cluster_sum / smoothed[:, None])

    def _revive(self, latents: Tensor, codes: Tensor) -> None:
        """Restart dead codewords at latents of the batch, drawn in proportion to their squared quantization error.

        So a codeword is not sent where the codebook is already exact (the many identical latents of the background).
        """
        dead = (~self.codebook_in_use).nonzero().flatten()
        errors = (latents - F.embedding(codes, self.codebook)).square().sum(1)
        drawable = int((errors > 0).sum())
        dead = dead[:drawable]
        if len(dead) == 0:
            return
        generator = torch_generator(self.seed, "revival", int(self.n_updates))
        drawn = torch.multinomial(errors.double().cpu(), len(dead), generator=generator).to(latents.device)
        self.codebook[dead] = latents[drawn]
        self.cluster_size[dead] = REVIVED_SHARE * self.cluster_size.mean()
        self.cluster_sum[dead] = latents[drawn] * self.cluster_size[dead, None]

    def _codewords(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.codebook).permute(0, 3, 1, 2)

    def _rows(self, z_e: Tensor) -> Tensor:
        if z_e.ndim != 4 or z_e.shape[1] != self.codebook.shape[1]:
            raise LatentShapeError(f"latents have shape {tuple(z_e.shape)}; due is (batch, {self.codebook.shape[1]}, height, width)")
        return z_e.permute(0, 2, 3, 1).reshape(-1, z_e.shape[1])  # (B h w, D)


def kmeans(latents: Tensor, k: int, generator: torch.Generator, iterations: int = KMEANS_ITERATIONS) -> tuple[Tensor, Tensor]:
    """Return ``k`` centres (k, D) of latents (N, D) and the number of latents nearest to each (k,).

    k-means++ start, then Lloyd's iterations; a centre that loses all its latents stays. With fewer distinct latents than ``k``,
    centres repeat.
    """
    centres = _spread_out(latents, k, generator)
    for _ in range(iterations):
        codes = nearest(latents, centres)
        members = F.one_hot(codes, k).to(latents.dtype)
        counts = members.sum(0)
        centres = torch.where(counts[:, None] > 0, members.T @ latents / counts.clamp(min=1)[:, None], centres)
    return centres, torch.bincount(nearest(latents, centres), minlength=k).to(latents.dtype)


def _spread_out(latents: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Draw k latents, each in proportion to its squared distance from those drawn before (k-means++)."""
    chosen = [int(torch.randint(len(latents), (), generator=generator))]
    distances = torch.full((len(latents),), torch.inf, device=latents.device)
    for draw in torch.rand(k - 1, generator=generator, dtype=torch.float64):
        distances = torch.minimum(distances, (latents - latents[chosen[-1]]).square().sum(1))
        cumulative = distances.double().cumsum(0)
        chosen.append(min(int(torch.searchsorted(cumulative, draw * cumulative[-1], right=True)), len(latents) - 1))
    return latents[chosen]
