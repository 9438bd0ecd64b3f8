"""Where a codeword lies: which tumour regions the pixels under its tokens belong to.

The plainest answer to the question that ablation asks, without a decoder: count the true labels in the cells of the codeword's tokens.
Source: ours; beside the paper's ablation it tells "what the codeword stands on" from "what the decoder loses without it".
"""

import numpy as np
import pandas as pd

from drlib.cohort.regions import LABELS


def count_occupancy(codes: np.ndarray, labels: np.ndarray, codebook_size: int) -> np.ndarray:
    """Return how many pixels of each label lie under each codeword: (K, 4), background first.

    ``codes`` (S, h, w) are index maps, ``labels`` (S, H, W) the labels of the same slices; a token covers H/h x W/w pixels.
    """
    n, h, w = codes.shape
    cells = labels.reshape(n, h, labels.shape[1] // h, w, labels.shape[2] // w)
    counts = [np.bincount(codes.ravel(), (cells == k).sum(axis=(2, 4)).ravel(), codebook_size) for k in range(len(LABELS))]
    return np.stack(counts, axis=1).astype(np.int64)


def region_enrichment(occupancy: np.ndarray, codewords: list[int]) -> pd.Series:
    """Return for NET, ED and ET how many times more common the region is under ``codewords`` than under all tokens; 0 where absent.

    ``occupancy`` (K, 4) is the sum over patients of :func:`count_occupancy`.
    """
    under, everywhere = occupancy[codewords].sum(axis=0), occupancy.sum(axis=0)
    shares = [part / max(part.sum(), 1) for part in (under, everywhere)]
    ratio = np.divide(shares[0], shares[1], out=np.zeros(len(LABELS)), where=shares[1] > 0)
    return pd.Series(ratio[1:], index=LABELS[1:])
