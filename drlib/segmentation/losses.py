"""The segmentation loss (soft Dice and focal) and the total loss, Eq. 4. Logits (B, C, H, W), labels (B, H, W), label 0 the background.

In a distributed training every process has a part of the batch, and the losses are those of the whole batch on all of them: sums go
over the processes before they are divided.
"""

from typing import Literal

import torch
from torch import Tensor

from drlib.segmentation.distributed import sum_over_ranks

DiceKind = Literal["per-class", "pooled"]
SMOOTHING = 1e-5  # in the denominator of Dice, authors' code


def soft_dice_loss(logits: Tensor, labels: Tensor, kind: DiceKind = "per-class") -> Tensor:
    """Return 1 - 2 sum(p y) / (sum p + sum y) over the foreground labels of a batch.

    "per-class": the mean of the losses of the labels that are present in the batch (0 where none is); "pooled": one ratio over all
    foreground labels at once, so that a label counts by its size.
    Source: pooled, the authors' code (the text gives no formula; ref. 28); per-class, ours, because pooled Dice leaves small ET unlearned.
    """
    return _soft_dice(torch.softmax(logits.float(), 1), labels, kind)


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Return the mean over pixels of -(1 - p)^gamma log p, p the probability of the pixel's label.

    Source: ref. 29; gamma, authors' code.
    """
    return _focal(torch.log_softmax(logits.float(), 1), labels, gamma)


def segmentation_loss(logits: Tensor, labels: Tensor, *, dice: DiceKind = "per-class", gamma: float = 2.0) -> tuple[Tensor, Tensor]:
    """Return the soft Dice loss and the focal loss; the segmentation loss of Eq. 4 is their sum."""
    log_p = torch.log_softmax(logits.float(), 1)
    return _soft_dice(log_p.exp(), labels, dice), _focal(log_p, labels, gamma)


def total_loss(latent: Tensor, dice: Tensor, focal: Tensor) -> Tensor:
    """Return latent loss + segmentation loss. Source: Eq. 4."""
    return latent + (dice + focal)


def _soft_dice(p: Tensor, labels: Tensor, kind: DiceKind) -> Tensor:
    foreground = torch.arange(1, p.shape[1], dtype=labels.dtype, device=labels.device)
    truth = labels[:, None] == foreground[:, None, None]  # (B, C - 1, H, W)
    p = p[:, 1:]
    sums = torch.stack([(p * truth).sum((0, 2, 3)), p.sum((0, 2, 3)), truth.sum((0, 2, 3)).to(p.dtype)])
    intersection, n_predicted, n_truth = sum_over_ranks(sums)
    total = n_predicted + n_truth
    if kind == "pooled":
        return 1 - 2 * intersection.sum() / total.sum().clamp(min=SMOOTHING)
    present = (n_truth > 0).to(p.dtype)
    losses = 1 - 2 * intersection / total.clamp(min=SMOOTHING)
    return (losses * present).sum() / present.sum().clamp(min=1)


def _focal(log_p: Tensor, labels: Tensor, gamma: float) -> Tensor:
    log_p = log_p.gather(1, labels.long()[:, None])
    losses = -((1 - log_p.exp()).clamp(min=0) ** gamma) * log_p
    total, n_pixels = sum_over_ranks(torch.stack([losses.sum(), losses.new_tensor(losses.numel())]))
    return total / n_pixels
