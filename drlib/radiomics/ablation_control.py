"""The sanity check of the responsible regions: do random codewords, as frequent as the responsible ones, do the same?

A region may be where the change is greatest because of what the responsible codewords stand for, or because every codeword that lies in
a tumour changes the decoder's logits there. Sets of codewords that are matched in number and in frequency tell the two apart.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from drlib.errors import DeepRadiomicsError
from drlib.radiomics.ablation import ABLATED_REGIONS, TumourCodes

LOG_WIDTH = 0.5  # of the kernel by which a codeword's stand-in is drawn: e^0.5, 1.6 times as frequent, is one deviation away
TRIED_PER_SET = 40  # random sets drawn for each one that is kept
NUMBERS = [*ABLATED_REGIONS, "contrast", "change_per_token", "share_in_tumour", "n_tokens"]


class ControlError(DeepRadiomicsError):
    """There are no codewords to draw a control from."""


def count_tokens(tumours: Sequence[TumourCodes], codebook_size: int, in_tumour: bool = False) -> np.ndarray:
    """Return how many tokens each codeword has, (K,), in the slices with tumour, or ``in_tumour``: in the cells that hold tumour."""
    counts = np.zeros(codebook_size, dtype=np.int64)
    for tumour in tumours:
        codes = tumour.codes[tumour.in_tumour] if in_tumour else tumour.codes.flatten()
        counts += np.bincount(codes.numpy(), minlength=codebook_size)
    return counts


def matched_sets(
    counts: np.ndarray, codewords: Sequence[int], excluded: Collection[int], number: int, random: np.random.Generator
) -> list[tuple[int, ...]]:
    """Return up to ``number`` distinct sets of codewords, each as many as ``codewords`` and about as frequent by ``counts`` (K,).

    For each of ``codewords``, in random order, a stand-in is drawn from the codewords that occur, are not ``excluded`` (the responsible
    ones and the background) and not drawn already, with the probability exp(-(d / 0.5)^2 / 2), d the difference of the logarithms of
    the counts. Of forty times as many sets as are asked for, those are kept whose total count is nearest to that of ``codewords``, by
    ratio. Fewer than ``number`` come back where there are not so many sets.

    Raises ControlError where fewer codewords are left than are to be drawn, or where ``codewords`` do not occur.

    Source: ours.
    """
    eligible = np.setdiff1d(np.flatnonzero(counts), [*excluded, *codewords])
    own = counts[list(codewords)]
    if len(eligible) < len(own) or not len(own) or not own.sum():
        raise ControlError(f"{len(eligible)} other codewords occur, and {len(own)} that occur {own.sum()} times are to be matched")
    drawn = {_draw(counts, own, eligible, random) for _ in range(TRIED_PER_SET * number)}
    distance = {some: abs(np.log(counts[list(some)].sum() / own.sum())) for some in drawn}
    return sorted(drawn, key=lambda some: (distance[some], some))[:number]


def _draw(counts: np.ndarray, own: np.ndarray, eligible: np.ndarray, random: np.random.Generator) -> tuple[int, ...]:
    chosen: list[int] = []
    for count in random.permutation(own):
        left = np.setdiff1d(eligible, chosen)
        distance = np.abs(np.log(counts[left] / max(count, 1))) / LOG_WIDTH
        weights = np.exp(-(distance**2 - distance.min() ** 2) / 2)
        chosen.append(int(random.choice(left, p=weights / weights.sum())))
    return tuple(sorted(chosen))


def region_contrast(means: pd.DataFrame, region: str) -> pd.Series:
    """Return how far ``region`` stands above the two others, in units of the mean of the three: 0 is level, 3 is all of the change.

    ``means``: columns NET, ED, ET. NaN where nothing changes.
    """
    three = means[list(ABLATED_REGIONS)]
    others = three.drop(columns=region).mean(axis=1)
    return (three[region] - others) / three.mean(axis=1).where(lambda mean: mean > 0)


def summarise_sets(measured: pd.DataFrame, region: str) -> pd.DataFrame:
    """Return a row per set of what ``ablate_sets`` measured, over the patients that have all three regions.

    NET, ED, ET: change per voxel, mean over patients. contrast: that of ``region``. top: the region of the highest mean.
    change_per_token: all of the change over all replaced tokens. share_in_tumour: the share of all of the change that lies in the
    tumour. n_tokens: replaced in all.
    """
    wide = measured.pivot(index=["set", "patient"], columns="region", values="mean")[list(ABLATED_REGIONS)]
    means = wide.dropna().groupby("set").mean()
    whole = measured[measured["region"] == ABLATED_REGIONS[0]].set_index("set")
    inside = (whole["share_in_tumour"] * whole["total"]).groupby("set").sum()
    sums = whole[["total", "n_tokens"]].groupby("set").sum()
    table = means.assign(contrast=region_contrast(means, region), top=means.idxmax(axis=1))
    return table.assign(
        change_per_token=sums["total"] / sums["n_tokens"],
        share_in_tumour=inside / sums["total"].where(lambda total: total > 0),
        n_tokens=sums["n_tokens"],
    )


def control_p(observed: float, controls: np.ndarray | pd.Series) -> float:
    """Return the share of sets, the observed one among them, whose value is at least ``observed``; NaN: there is no observed value.

    As the p of a permutation test it can be no smaller than 1 / (controls + 1). Controls without a value count as smaller.

    Source: ours (Phipson and Smyth 2010, for the observed one among them).
    """
    if np.isnan(observed):
        return float("nan")
    controls = np.asarray(controls, dtype=float)
    return float((1 + np.sum(controls >= observed)) / (1 + len(controls)))
