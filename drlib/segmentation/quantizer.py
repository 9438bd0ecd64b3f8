"""The vector quantizer: Eq. 1-3 and how the codebook learns.

The nearest codeword replaces each latent (Eq. 1, 2). The encoder is pulled towards its codewords by the commitment loss; the codebook
follows the latents either by gradient (the codebook loss of Eq. 3) or as an exponential moving average of them (ref. 27 of the paper).

As coded by the authors (and in MONAI) the moving averages start at "no latents, sums equal to the codewords", so that the first update
divides by almost nothing and throws codewords hundreds of norms away (METHOD finding 8, ``bias_correction=False`` here). With
``bias_correction=True`` sums and counts start together, at zero or at the k-means start: a codeword is always a weighted mean of latents.

In a distributed training the codebook learns from the batches of all processes, and is the same in all of them: counts and sums are added
up, and what is drawn is drawn from all latents.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drlib.errors import DeepRadiomicsError
from drlib.profiles import QuantizerSettings
from drlib.seeds import torch_generator
from drlib.segmentation import kernels
from drlib.segmentation.distributed import gather_rows, rank, sum_over_ranks

SMOOTHING = 1e-5  # Laplace smoothing of the counts, authors' code
DEAD_AFTER = 20  # batches without a latent; a moving average of the counts forgets ten times more slowly than an encoder moves
REVIVED_SHARE = 0.25  # of the mean count, given to a revived codeword
KMEANS_ITERATIONS = 10
TINY = 1e-12  # a vector shorter than this has no direction
ROWS_AT_ONCE = 2**16


class LatentShapeError(DeepRadiomicsError, ValueError):
    """Latents do not have the dimension of the codewords, or codes are not indices of the codebook."""


@dataclass(frozen=True)
class Quantized:
    """What the quantizer returns.

    z_q (B, D, h, w): the codewords, with the gradient that the estimator gives the latents. codes (B, h, w): their indices, int64, row and
    column as in the image; None where quantization was off. latent_loss: Eq. 3, a scalar. counts (K,): occurrences of each codeword.
    perplexity: exp of the entropy of the counts, between 1 and K. In training the last three are those of the batches of all processes.
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
    if kernels.finds_nearest(latents):
        return kernels.nearest(latents, codebook)
    norms = codebook.square().sum(1)  # |z|^2 is the same for every codeword
    with torch.autocast(latents.device.type, enabled=False):  # a part at a time: distances take N x K numbers
        return torch.cat([torch.addmm(norms, rows, codebook.T, alpha=-2).argmin(1) for rows in latents.split(ROWS_AT_ONCE)])


def unit(vectors: Tensor, dim: int = -1) -> Tensor:
    """Return ``vectors`` divided by their lengths along ``dim``. A zero vector stays zero and has no gradient."""
    length = vectors.norm(dim=dim, keepdim=True)
    return torch.where(length <= TINY, 0, vectors / length.clamp(min=TINY))


def rotated(z_e: Tensor, codewords: Tensor) -> Tensor:
    """Return latents (B, D, h, w) turned and stretched onto their ``codewords``, by a linear map that is held constant in the gradient.

    With e and q the directions of latent and codeword and r that of e + q, the map is |z_q|/|z_e| (I - 2 r r' + 2 q e'); a gradient at the
    codeword reaches the latent through its transpose, so that it keeps its angle to the vector that it belongs to. Opposite vectors
    (r = 0) are reflected; a zero latent, which has no direction, gets the gradient as it is.
    Source: Fifty et al. 2024, "Restructuring vector quantization with the rotation trick", section 4.
    """
    with torch.no_grad():
        length = z_e.norm(dim=1, keepdim=True)
        scale = codewords.norm(dim=1, keepdim=True) / length.clamp(min=TINY)
        e, q = unit(z_e, 1), unit(codewords, 1)
        r = unit(e + q, 1)
    turned = z_e - 2 * r * (r * z_e).sum(1, keepdim=True) + 2 * q * (e * z_e).sum(1, keepdim=True)
    return torch.where(length <= TINY, z_e, scale * turned)


class Quantizer(nn.Module, ABC):
    """A bottleneck between encoder and decoder, of whatever kind: the interface that the rest of the library uses.

    Each position of a latent (B, D, h, w) becomes one of K codes, and each code stands for one codeword of dimension D. In training mode
    each quantized call of the module also counts the codes, over the batches of all processes.
    """

    codebook: Tensor  # (K, D) the codewords
    started: Tensor | bool  # the codewords have been placed: nothing left for ``start`` to do
    idle: Tensor  # (K,) training batches since a latent last had this code; at least DEAD_AFTER where none ever had

    def __init__(self, settings: QuantizerSettings, *, seed: int = 0):
        super().__init__()
        self.settings, self.seed = settings, seed
        self.register_buffer("idle", torch.full((settings.codebook_size,), DEAD_AFTER))

    @property
    def codebook_in_use(self) -> Tensor:
        """True (K,) for codewords that one of the last ``DEAD_AFTER`` training batches used: not dead."""
        return self.idle < DEAD_AFTER

    @abstractmethod
    def forward(self, z_e: Tensor, quantize: bool = True) -> Quantized:
        """Quantize latents (B, D, h, w). ``quantize=False`` returns them still continuous, with a latent loss of zero."""

    @abstractmethod
    def codes(self, z_e: Tensor) -> Tensor:
        """Return the index map (B, h, w), int64, of latents (B, D, h, w)."""

    @abstractmethod
    def start(self, latents: Tensor, batches: int = 1) -> None:
        """Place the codewords where the latents (N, D) of ``batches`` training batches are. Every process gives all of them."""

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the codewords (B, D, h, w) of an index map (B, h, w). Source: Eq. 2."""
        size = self.settings.codebook_size
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < size:
            raise LatentShapeError(f"codes span {int(codes.min())}..{int(codes.max())}; the codebook has indices 0..{size - 1}")
        return self._codewords(codes).movedim(-1, 1)

    def _codewords(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.codebook)  # (..., D)

    def _rows(self, z_e: Tensor) -> Tensor:
        due = self.settings.codeword_dim
        if z_e.ndim != 4 or z_e.shape[1] != due:
            raise LatentShapeError(f"latents have shape {tuple(z_e.shape)}; due is (batch, {due}, height, width)")
        return z_e.permute(0, 2, 3, 1).reshape(-1, due)  # (B h w, D)

    def _continuous(self, z_e: Tensor) -> Quantized:
        none = torch.zeros(self.settings.codebook_size, dtype=torch.int64, device=z_e.device)
        return Quantized(z_e, None, z_e.new_zeros(()), none, z_e.new_tensor(float("nan")))

    @torch.no_grad()
    def _count(self, codes: Tensor) -> Tensor:
        counts = torch.bincount(codes.flatten(), minlength=self.settings.codebook_size)
        if self.training:
            counts = sum_over_ranks(counts)
            self.idle.add_(1).masked_fill_(counts > 0, 0)
        return counts


class VectorQuantizer(Quantizer):
    """A codebook that is learned. In training mode each quantized call also teaches it.

    ``settings.distance`` says which codeword is nearest. "euclidean": Eq. 1. "cosine": that of the smallest angle; latents are divided by
    their lengths first, and everything after, Eq. 1-3 and the averages, happens on the unit sphere. What is learned is directions, z_q is a
    codeword of length 1, and the gradient passes through the division to the encoder. A moving average is divided by its length again;
    with the gradient update, the length of a row of ``codebook`` is free and has no meaning.

    ``settings.estimator`` says which gradient a latent gets from its codeword: the same ("straight-through") or turned with the angle
    between the two ("rotation", see :func:`rotated`). In value z_q is the codeword, always.

    Random draws (first codewords, revival) are determined by ``seed`` and the number of updates made.
    Source: Eq. 1-3; start and revival: ours.
    """

    cluster_size: Tensor  # (K,) moving average of the counts per batch
    cluster_sum: Tensor  # (K, D) moving average of the sums per batch
    average_weight: Tensor  # 1 - decay ** updates, or 1 after a k-means start: the share of the averages that is data
    n_updates: Tensor

    def __init__(self, settings: QuantizerSettings, *, seed: int = 0):
        super().__init__(settings, seed=seed)
        k, d = settings.codebook_size, settings.codeword_dim
        codebook = self._directed(torch.randn(k, d, generator=torch_generator(seed, "codebook")))
        if settings.update == "gradient":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
        self.register_buffer("cluster_size", torch.zeros(k))
        self.register_buffer("cluster_sum", torch.zeros(k, d) if settings.bias_correction else codebook.clone())
        self.register_buffer("average_weight", torch.zeros((), dtype=torch.float64))
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("started", torch.tensor(not settings.kmeans_start))

    def codes(self, z_e: Tensor) -> Tensor:
        """Return the index map (B, h, w), int64, of the codewords nearest to latents (B, D, h, w)."""
        return self._nearest(self._directed(self._rows(z_e))).view(len(z_e), *z_e.shape[2:])

    def forward(self, z_e: Tensor, quantize: bool = True) -> Quantized:
        """Quantize latents (B, D, h, w). ``quantize=False`` returns them as they are (cosine: of length 1), with a latent loss of zero."""
        self._rows(z_e)
        z_e = self._directed(z_e.float(), dim=1)
        latents = self._rows(z_e.detach())
        if not quantize:
            return self._continuous(z_e)
        if self.training and not self.started:
            self.start(gather_rows(latents))
        codes = self._nearest(latents).view(len(z_e), *z_e.shape[2:])
        codewords = self._codewords(codes).movedim(-1, 1)
        latent_loss = self.settings.commitment * F.mse_loss(z_e, codewords.detach())
        if self.settings.update == "gradient":
            latent_loss = latent_loss + F.mse_loss(codewords, z_e.detach())
        # In value exactly the codewords, in gradient exactly the estimator's: the identity, or the rotation.
        carrier = rotated(z_e, codewords.detach()) if self.settings.estimator == "rotation" else z_e
        z_q = codewords.detach() + (carrier - carrier.detach())
        counts = self._count(codes)
        if self.training:
            latent_loss = _mean_over_ranks(latent_loss, len(latents))
            self._learn(latents, codes.flatten(), counts)
        return Quantized(z_q, codes, latent_loss, counts, perplexity(counts))

    @torch.no_grad()
    def start(self, latents: Tensor, batches: int = 1) -> None:
        """Place the codewords at k-means centres of latents (N, D), gathered from ``batches`` training batches.

        Every process gives the latents of all; the centres of the first are taken.
        """
        generator, cosine = torch_generator(self.seed, "k-means"), self.settings.distance == "cosine"
        found = kmeans(self._directed(latents.float()), len(self.codebook), generator, spherical=cosine)
        centres, counts = (sum_over_ranks(values if rank() == 0 else torch.zeros_like(values)) for values in found)
        self.codebook.copy_(centres)
        self.cluster_size.copy_(counts / batches)
        self.idle.masked_fill_(counts > 0, 0)
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
            sums = sum_over_ranks(F.one_hot(codes, len(self.codebook)).to(latents.dtype).T @ latents)
            self.cluster_sum.mul_(decay).add_(sums, alpha=1 - decay)
            self._move_codewords()
        if self.settings.revive_dead and self.average_weight >= 0.5:
            self._revive(latents, codes)

    def _move_codewords(self) -> None:
        if self.settings.bias_correction:
            known = self.cluster_size > SMOOTHING * self.cluster_size.mean()  # others stay where they are
            self.codebook[known] = self._directed(self.cluster_sum[known] / self.cluster_size[known, None])
        else:
            total = self.cluster_size.sum()
            smoothed = total * (self.cluster_size + SMOOTHING) / (total + len(self.codebook) * SMOOTHING)
            self.codebook.copy_(self._directed(self.cluster_sum / smoothed[:, None]))

    def _revive(self, latents: Tensor, codes: Tensor) -> None:
        """Restart dead codewords at latents of the batch, drawn in proportion to their squared quantization error.

        So a codeword is not sent where the codebook is already exact (the many identical latents of the background).
        """
        dead = (~self.codebook_in_use).nonzero().flatten()
        if len(dead) == 0:
            return
        errors = gather_rows((latents - self._codewords(codes)).square().sum(1))
        dead = dead[: int((errors > 0).sum())]
        if len(dead) == 0:
            return
        generator = torch_generator(self.seed, "revival", int(self.n_updates))
        drawn = torch.multinomial(errors.double().cpu(), len(dead), generator=generator).to(latents.device)
        self.codebook[dead] = revived = gather_rows(latents)[drawn]
        self.idle[dead] = 0
        self.cluster_size[dead] = REVIVED_SHARE * self.cluster_size.mean()
        self.cluster_sum[dead] = revived * self.cluster_size[dead, None]

    def _nearest(self, latents: Tensor) -> Tensor:
        return nearest(latents, self._directed(self.codebook.detach()))

    def _codewords(self, codes: Tensor) -> Tensor:
        return self._directed(super()._codewords(codes))

    def _directed(self, vectors: Tensor, dim: int = -1) -> Tensor:
        return unit(vectors, dim) if self.settings.distance == "cosine" else vectors


def _mean_over_ranks(mean: Tensor, n: int) -> Tensor:
    """Return the mean over all processes of a ``mean`` over ``n`` values in each, which may differ in ``n``."""
    mean = mean if n else mean.nan_to_num()  # of nothing: NaN, which would spread to all
    return sum_over_ranks(mean * (n / sum_over_ranks(torch.tensor(float(n), device=mean.device))))


def with_idle(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a network; one saved before idle batches were counted gets them from its average counts."""
    size = state.get("quantizer.cluster_size")
    if size is None or "quantizer.idle" in state:
        return state
    return state | {"quantizer.idle": torch.where(size >= 0.05 * size.mean(), 0, DEAD_AFTER)}


def kmeans(
    latents: Tensor, k: int, generator: torch.Generator, iterations: int = KMEANS_ITERATIONS, spherical: bool = False
) -> tuple[Tensor, Tensor]:
    """Return ``k`` centres (k, D) of latents (N, D) and the number of latents nearest to each (k,).

    k-means++ start, then Lloyd's iterations; a centre that loses all its latents stays. With fewer distinct latents than ``k``,
    centres repeat. ``spherical``: the latents have length 1, and so have the centres.
    """
    centres = _spread_out(latents, k, generator)
    for _ in range(iterations):
        codes = nearest(latents, centres)
        members = F.one_hot(codes, k).to(latents.dtype)
        counts = members.sum(0)
        means = members.T @ latents / counts.clamp(min=1)[:, None]
        centres = torch.where(counts[:, None] > 0, unit(means) if spherical else means, centres)
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
