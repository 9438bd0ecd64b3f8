"""What a latent position can see, and what it can change: exact reach through kernels and strides (METHOD 2.12).

Normalisation is left out here: it carries a little of every change to every pixel, whatever the kernels.
"""

import numpy as np
import pandas as pd
import torch

from drlib.profiles import Profile

Span = tuple[int, int]


def encoder_reach(levels: int, position: int) -> Span:
    """Return the first and last pixel of a row that a latent ``position`` sees, before the slice ends (may be < 0 or > its size).

    Per level two 3x3 convolutions (the residual block), and one of stride 2 between levels. Source: paper, "Encoder network".
    """
    first, last = position, position
    for level in range(levels):
        first, last = first - 2, last + 2  # the residual block
        if level < levels - 1:
            first, last = 2 * first - 1, 2 * last + 1  # stride 2, kernel 3: output i is made of inputs 2i - 1 to 2i + 1
    return first, last


def decoder_reach(levels: int, position: int) -> Span:
    """Return the first and last pixel of a row that a latent ``position`` can change, before the slice ends.

    A 3x3 convolution, then per level the residual block and bilinear interpolation to twice the size. Source: "Decoder network".
    """
    first, last = position - 1, position + 1
    for level in range(levels):
        first, last = first - 2, last + 2
        if level < levels - 1:
            first, last = 2 * first - 1, 2 * last + 2  # bilinear: input i enters outputs 2i - 1 to 2i + 2
    return first, last


def share_of_slice(span: Span, size: int) -> float:
    """Return the share of ``size`` pixels that lie in ``span``."""
    return (min(span[1], size - 1) - max(span[0], 0) + 1) / size


def describe_reach(profiles: dict[str, Profile]) -> pd.DataFrame:
    """Return how much of a slice a latent position sees and can change, one row per profile: the central one, and the mean over all."""
    rows = {}
    for name, profile in profiles.items():
        levels, size, side = len(profile.network.filters), profile.preprocessing.image_size, profile.latent_size
        rows[name] = {
            "slice (pixels)": size,
            "own cell (pixels)": profile.stride,
            "own cell (share of slice)": (profile.stride / size) ** 2,
        }
        for words, reach in (("sees", encoder_reach), ("can change", decoder_reach)):
            shares = np.array([share_of_slice(reach(levels, position), size) for position in range(side)])
            rows[name] |= {f"{words}: central position": shares[side // 2] ** 2, f"{words}: mean position": shares.mean() ** 2}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("profile")


def transposed_index_map(latent: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """Return the index map of a latent (D, h, w) with rows and columns exchanged, (w, h), as the published code has it.

    Counts are the same; a map laid over the image, or looked up and put in the latent's place, is not. Source: METHOD 2.9.
    """
    rows = latent.permute(2, 1, 0).flatten(0, 1)  # positions column by column
    return torch.cdist(rows, codebook).argmin(dim=1).view(latent.shape[2], latent.shape[1])
