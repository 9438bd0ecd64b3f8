"""Random flips, rotations and intensities of a training batch. Source: Methods, "Training setups"; ranges, authors' code.

Ours: intensities change inside the brain only and a rotation fills in what the preprocessing puts outside the brain, so that the
background stays one value (METHOD finding 11).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

DEGREES = 10.0
SCALE = 0.1
SHIFT = 0.1


def augment(
    images: Tensor,
    labels: Tensor,
    background: float | None,
    generator: torch.Generator,
    *,
    size: int | None = None,
    part: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """Return images (B, 4, H, W) and labels (B, H, W) transformed as one: each slice its own draw.

    ``background``: value outside the brain; None where it differs between patients (then intensities change everywhere
    and rotations fill in 0, as in the authors' code). ``size``, ``part``: the slices are this part of a batch of that size, and are
    given the draws that they would have there.
    """
    n = len(images) if size is None else size
    scale, shift = draw_intensities(n, images.shape[1], generator)
    angles = (2 * torch.rand(n, generator=generator) - 1) * math.radians(DEGREES)
    flips = torch.rand(n, generator=generator) < 0.5
    if not len(images):
        return images, labels
    images = change_intensities(images, background, scale[part], shift[part])
    return rotate_and_flip(images, labels, angles[part], flips[part], 0.0 if background is None else background)


def draw_intensities(n: int, modalities: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return scales in [0.9, 1.1] and shifts in [-0.1, 0.1] for each slice and modality, (n, modalities, 1, 1) each."""
    scale, shift = (2 * torch.rand((n, modalities, 1, 1), generator=generator) - 1 for _ in range(2))
    return 1 + SCALE * scale, SHIFT * shift


def change_intensities(images: Tensor, background: float | None, scale: Tensor, shift: Tensor) -> Tensor:
    """Return s (x + t) for images (B, 4, H, W), s and t (B, 4, 1, 1); pixels outside the brain stay."""
    scale, shift = scale.to(images), shift.to(images)
    changed = torch.addcmul(scale * shift, images, scale)
    if background is None:
        return changed
    outside = (images == background).all(1, keepdim=True)
    return torch.where(outside, images, changed)


def rotate_and_flip(images: Tensor, labels: Tensor, angles: Tensor, flips: Tensor, fill: float) -> tuple[Tensor, Tensor]:
    """Rotate slices about their centre by ``angles`` (B,), in radians, after mirroring columns where ``flips``.

    Images bilinear, labels nearest; ``fill`` and label 0 come in from outside.
    """
    _, _, h, w = images.shape
    cos, sin = torch.cos(angles), torch.sin(angles)
    side = torch.where(flips, -1.0, 1.0)
    # Where each output pixel comes from, in the unit square of the input: x along columns, y along rows (downwards).
    matrices = torch.zeros(len(images), 2, 3)
    matrices[:, 0, 0], matrices[:, 0, 1] = side * cos, side * -sin * h / w
    matrices[:, 1, 0], matrices[:, 1, 1] = sin * w / h, cos
    grid = F.affine_grid(matrices.to(images), list(images.shape), align_corners=False)
    images = F.grid_sample(images - fill, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + fill
    moved = F.grid_sample(labels[:, None].to(images), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return images, moved[:, 0].to(labels.dtype)
