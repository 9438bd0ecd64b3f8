"""What the quantizer absorbs: how far a perturbation moves the continuous latents, and how far the codewords that stand for them.

A latent that moves within the cell of its codeword leaves the count as it was; one that crosses a border takes its codeword across the
whole distance between two codewords. Whether the quantizer damps on average is therefore a question of fact: for evenly spaced codewords
on a line the two cancel, and the mean step of the codewords is exactly the mean step of the latents.

Source: paper, "Limitations": "the variation of the encoder output caused by the perturbations can also be suppressed by the vector
quantization", which the paper conjectures and does not measure. The measures are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from drlib.radiomics.histogram import Transform, codeword_histogram
from drlib.seeds import torch_generator
from drlib.segmentation.model import TrainedModel
from drlib.segmentation.quantizer import Quantizer, VectorQuantizer, unit

MOVED = 0.01  # a latent that moved by less than this share of its length counts as not moved: rounding, not perturbation


@dataclass(frozen=True)
class Encoding:
    """A patient's slices as the encoder gives them and as the quantizer does.

    ``latents`` (S, D, h, w), continuous, in the space of the codewords; ``codes`` (S, h, w), int64; ``codewords`` (S, D, h, w). On the CPU.
    """

    latents: Tensor
    codes: Tensor
    codewords: Tensor


def encode_slices(
    model: TrainedModel, images: np.ndarray | Tensor, transform: Transform | None = None, batch_size: int | None = None
) -> Encoding:
    """Encode slices (S, 4, H, W), each changed by ``transform``; blank slices are encoded once, so that it must act on each slice alone."""
    return _encoding(model, images, lambda batch: model.network.encode(batch if transform is None else transform(batch)), batch_size)


def measure_movement(clean: Encoding, perturbed: Encoding, where: Tensor | None = None) -> dict[str, float]:
    """Return how far latents and codewords moved at the positions ``where`` (S, h, w), boolean; None: everywhere.

    ``positions``: how many. ``latent_change`` and ``codeword_change``: mean distance of z' from z, and of e' from e, both divided by the
    mean length of z; ``latent_rms`` and ``codeword_rms``: the same with root mean squares. ``moved``: share of latents that moved by more
    than 1 % of their length; ``kept``: share of these whose code stayed (NaN where none moved); ``changed``: share of all whose code did
    not stay. ``difference_ratio``: Eq. 7 of the histograms of these positions, 0 to 2. No position: all NaN.

    Source: ours.
    """
    where = torch.ones_like(clean.codes, dtype=torch.bool) if where is None else where
    length = clean.latents.norm(dim=1)[where].double()
    step = (perturbed.latents - clean.latents).norm(dim=1)[where].double()
    codeword_step = (perturbed.codewords - clean.codewords).norm(dim=1)[where].double()
    changed = (perturbed.codes != clean.codes)[where]
    moved = step > MOVED * length
    size = int(max(clean.codes.max(), perturbed.codes.max())) + 1
    before, after = (codeword_histogram(encoding.codes[where], size) for encoding in (clean, perturbed))
    return {
        "positions": len(length),
        "latent_change": float(step.sum() / length.sum()),
        "codeword_change": float(codeword_step.sum() / length.sum()),
        "latent_rms": float((step.square().sum() / length.square().sum()).sqrt()),
        "codeword_rms": float((codeword_step.square().sum() / length.square().sum()).sqrt()),
        "moved": float(moved.double().mean()),
        "kept": float((~changed[moved]).double().mean()),
        "changed": float(changed.double().mean()),
        "difference_ratio": float(np.abs(after - before).sum() / before.sum()) if before.sum() else np.nan,
    }


@torch.inference_mode()
def step_at_random(quantizer: Quantizer, clean: Encoding, perturbed: Encoding, where: Tensor) -> dict[str, float]:
    """Return what the codewords would do if each latent at ``where`` moved as far as it did, but in a direction drawn at random.

    ``random_change`` and ``random_kept``: as ``codeword_change`` and ``kept`` of :func:`measure_movement`. A codebook that damps these
    steps and not those of a perturbation damps noise, not perturbations. NaN for a quantizer whose latents are not in the space of its
    codewords (finite scalar quantization), and where there is no position.

    Source: ours.
    """
    latents, codewords = (values.movedim(1, -1)[where] for values in (clean.latents, clean.codewords))  # (N, D)
    if not isinstance(quantizer, VectorQuantizer) or not len(latents):
        return {"random_change": np.nan, "random_kept": np.nan}
    length = latents.norm(dim=1)
    steps = (perturbed.latents - clean.latents).norm(dim=1)[where]
    directions = unit(torch.randn(latents.shape, generator=torch_generator(0, "directions")))
    stepped = (latents + steps[:, None] * directions)[:, :, None, None].to(quantizer.codebook.device)
    codes = quantizer.codes(stepped)
    change = (quantizer.lookup(codes).cpu()[:, :, 0, 0] - codewords).norm(dim=1)
    kept = codes.cpu().flatten() == clean.codes[where]
    moved = steps > MOVED * length
    return {"random_change": float(change.sum() / length.sum()), "random_kept": float(kept[moved].double().mean())}


def encode_normalised_path(model: TrainedModel, images: np.ndarray, transform: Transform) -> Encoding:
    """Encode slices changed by ``transform``, but let the shortcut around the first normalisation see them unchanged.

    What is then left of the change is what the normalisation in the first block lets through; the rest came by the shortcut.

    Source: ours; the paper supposes that "the feature normalization being operated in each layer" is behind the robustness.
    """
    shortcut = model.network.encoder[0].shortcut

    def unchanged_shortcut(batch: Tensor) -> Tensor:
        hook = shortcut.register_forward_pre_hook(lambda module, inputs: (batch.to(inputs[0].dtype),))
        try:
            return model.network.encode(transform(batch))
        finally:
            hook.remove()

    return _encoding(model, images, unchanged_shortcut)


@torch.inference_mode()
def _encoding(
    model: TrainedModel, images: np.ndarray | Tensor, encode: Callable[[Tensor], Tensor], batch_size: int | None = None
) -> Encoding:
    """Return what ``encode``, of a batch of slices to latents of the encoder, and the quantizer make of all slices."""
    quantizer = model.network.quantizer

    def latents_and_codes(batch: Tensor) -> Tensor:
        z_e = encode(batch)
        continuous = quantizer(z_e, quantize=False).z_q
        return torch.cat([continuous, quantizer.codes(z_e)[:, None].to(continuous.dtype)], dim=1)  # float32 holds codes exactly

    found = model.map_slices(latents_and_codes, images, batch_size)
    codes = found[:, -1].long()
    return Encoding(found[:, :-1], codes, quantizer.lookup(codes.to(model.device)).cpu())
