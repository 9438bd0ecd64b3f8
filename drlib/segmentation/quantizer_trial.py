"""The quantizer alone, on latents that move as an encoder in training moves them: which settings keep a codebook alive."""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

from drlib.profiles import QuantizerSettings
from drlib.seeds import torch_generator
from drlib.segmentation.network import BOTTLENECKS

WINDOW = 20  # a codeword is alive that one of the last so many batches used
SIDE = 32  # a batch is one map of SIDE x SIDE latents
TISSUES, FREEDOM = 24, 8  # clusters of latents, and dimensions in which they extend
LEARNING_RATE = 1e-3  # of codebooks that learn by gradient


def moving_latents(steps: int, dim: int = 64, seed: int = 0) -> Iterator[Tensor]:
    """Yield ``steps`` batches of latents (1, ``dim``, 32, 32), determined by ``seed``.

    Half of a batch is background, almost equal latents; the others belong to clusters of unequal size on a curved surface of eight
    dimensions. Their length is about that of a standard normal vector. All turn about the origin, by 6 % of their length in the first
    step, 2 % in the 20th, 0.5 % in the 100th: latents of the network do much the same in the first steps of a training with Adam at 1e-4.
    """
    random = torch_generator(seed, "moving latents")
    surface = 8 * torch.randn(FREEDOM, dim, generator=random) / FREEDOM**0.5
    background = torch.randn(dim, generator=random)
    centres, shares = torch.randn(TISSUES, FREEDOM, generator=random), torch.rand(TISSUES, generator=random) ** 2
    turn = torch.randn(dim, dim, generator=random) / (2 * dim) ** 0.5
    rotation = torch.eye(dim)
    for step in range(steps):
        tissue = torch.multinomial(shares, SIDE**2, replacement=True, generator=random)
        place = centres[tissue] + 0.4 * torch.randn(SIDE**2, FREEDOM, generator=random)
        latents = torch.tanh(place) @ surface + 0.1 * torch.randn(SIDE**2, dim, generator=random)
        outside = torch.rand(SIDE**2, generator=random) < 0.5
        latents[outside] = background + 0.01 * torch.randn(int(outside.sum()), dim, generator=random)
        yield (latents @ rotation).T.reshape(1, dim, SIDE, SIDE)
        rotation = rotation @ torch.matrix_exp((turn - turn.T) * 0.06 / (1 + step / 8))


def codebook_usage_over_steps(settings: QuantizerSettings, steps: int = 200, seed: int = 0) -> pd.DataFrame:
    """Return what becomes of a codebook that learns from :func:`moving_latents`: one row per step (index ``step``, from 1).

    Columns: ``used``, codewords used by the step's batch; ``alive``, by one of the last 20 batches; ``perplexity`` of the batch;
    ``shortest`` and ``longest`` codeword after the step, their lengths divided by the median length of the latents (1 with the cosine
    distance).
    """
    quantizer = BOTTLENECKS[settings.kind](settings, seed=seed).train()
    adam = torch.optim.Adam(quantizer.parameters(), LEARNING_RATE) if settings.update == "gradient" else None
    recent: list[Tensor] = []
    rows = []
    for z_e in moving_latents(steps, settings.codeword_dim, seed):
        quantized = quantizer(z_e)
        if adam:
            adam.zero_grad()
            quantized.latent_loss.backward()
            adam.step()
        recent = [*recent, quantized.counts][-WINDOW:]
        lengths = quantizer.codebook.detach().norm(dim=1) / (1 if settings.distance == "cosine" else z_e.norm(dim=1).median())
        rows.append(
            {
                "used": int((quantized.counts > 0).sum()),
                "alive": int((torch.stack(recent).sum(0) > 0).sum()),
                "perplexity": float(quantized.perplexity),
                "shortest": float(lengths.min()),
                "longest": float(lengths.max()),
            }
        )
    return pd.DataFrame(rows, index=pd.RangeIndex(1, steps + 1, name="step"))
