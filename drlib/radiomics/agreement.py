"""Do two codebooks say the same? Codewords have no names of their own, so those of two trainings are matched before they are compared.

Agreement of codes needs the same latent positions coded by both; agreement of regions, two maps of the same patient; agreement of
predictions, two answers on the same patients. Every measure has a value that it takes by chance, to stand beside it.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.stats import t
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from drlib.errors import DeepRadiomicsError
from drlib.radiomics.statistics import Interval


class AgreementError(DeepRadiomicsError):
    """Two things cannot be compared: they do not speak of the same positions, patients or pixels."""


@dataclass(frozen=True)
class CodeAgreement:
    """How far two codebooks divide the same latent positions in the same way.

    Attributes:
        table: (K, L) positions that have codeword k of the first and l of the second.
        partner: (K,) the codeword of the second that each of the first is matched to, -1 where there is none.
        matched_share: share of positions whose two codewords are matched to each other.
        merged_share: the same where several codewords of the one may share a partner (mean of both directions); never smaller.
        ami, ari: adjusted mutual information and adjusted Rand index: 1 for the same division, 0 on average for independent ones.
    """

    table: np.ndarray
    partner: np.ndarray
    matched_share: float
    merged_share: float
    ami: float
    ari: float


def count_together(first: np.ndarray, second: np.ndarray, sizes: tuple[int, int]) -> np.ndarray:
    """Return the (K, L) counts of positions with code k in ``first`` and l in ``second`` (same shape, whole numbers, below ``sizes``)."""
    first, second = np.asarray(first).ravel(), np.asarray(second).ravel()
    if first.shape != second.shape:
        raise AgreementError(f"the codes are those of {len(first)} and {len(second)} positions; both codebooks must code the same ones")
    return np.bincount(first.astype(np.int64) * sizes[1] + second, minlength=sizes[0] * sizes[1]).reshape(sizes)


def match_codewords(table: np.ndarray) -> np.ndarray:
    """Return the partner (K,) of each row of ``table`` (K, L) among its columns: one to one, with the greatest total.

    Rows without a partner, and pairs that never occur together, have -1. Source: ours (Kuhn 1955, the Hungarian method).
    """
    rows, columns = linear_sum_assignment(table, maximize=True)
    partner = np.full(len(table), -1)
    occur = table[rows, columns] > 0
    partner[rows[occur]] = columns[occur]
    return partner


def compare_codes(first: np.ndarray, second: np.ndarray, sizes: tuple[int, int]) -> CodeAgreement:
    """Compare the codes of the same latent positions by two codebooks of ``sizes`` (K, L) codewords.

    Raises AgreementError where there are no positions, or not the same number. Source: ours (Hubert and Arabie 1985 for the Rand index,
    Vinh et al. 2010 for mutual information, both as in scikit-learn). Caveat: leave out the background, on which any two codebooks agree.
    """
    table = count_together(first, second, sizes)
    total = table.sum()
    if not total:
        raise AgreementError("there is no position to compare the codes of")
    partner = match_codewords(table)
    matched = partner >= 0
    labels = np.asarray(first).ravel(), np.asarray(second).ravel()
    return CodeAgreement(
        table=table,
        partner=partner,
        matched_share=float(table[np.flatnonzero(matched), partner[matched]].sum() / total),
        merged_share=float((table.max(axis=0).sum() + table.max(axis=1).sum()) / 2 / total),
        ami=float(adjusted_mutual_info_score(*labels)),
        ari=float(adjusted_rand_score(*labels)),
    )


def permute_within(codes: np.ndarray, groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return ``codes`` (N,) in random order within each of ``groups`` (N,): as often as before in each group, but elsewhere."""
    there = np.lexsort((np.arange(len(codes)), groups))
    drawn = np.lexsort((random.random(len(codes)), groups))
    permuted = np.empty_like(codes)
    permuted[there] = codes[drawn]
    return permuted


def partners_shared(first: np.ndarray, second: np.ndarray, partner: np.ndarray) -> float:
    """Return how far two sets of codewords are partners: 2 x matched pairs / codewords in both sets; NaN where both are empty."""
    total = len(first) + len(second)
    return float(2 * np.isin(partner[np.asarray(first, dtype=int)], second).sum() / total) if total else float("nan")


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice coefficient of two boolean arrays of one shape; NaN where both are empty."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return float(2 * np.count_nonzero(first & second) / total) if total else float("nan")


def correlate(first: np.ndarray, second: np.ndarray) -> float:
    """Return Pearson's correlation of two arrays of one shape; NaN where one of them is flat."""
    first, second = (np.asarray(values, dtype=np.float64).ravel() for values in (first, second))
    if len(first) < 2 or not np.ptp(first) or not np.ptp(second):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def overlap_of_highest(first: np.ndarray, second: np.ndarray, share: float = 0.05) -> float:
    """Return the Dice coefficient of the ``share`` of values that are highest in each of two arrays; NaN where one of them is flat.

    By chance: ``share``.
    """
    first, second = np.asarray(first).ravel(), np.asarray(second).ravel()
    if not len(first) or not np.ptp(first) or not np.ptp(second):
        return float("nan")
    count = max(1, round(share * len(first)))
    return len(np.intersect1d(*(np.argpartition(values, -count)[-count:] for values in (first, second)))) / count


def cohens_kappa(first: np.ndarray, second: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return Cohen's kappa of two answers (N,), boolean, one value per row of ``weights`` (draws, N) (None: every patient once).

    (agreement - agreement expected of two answers of these frequencies) / (1 - expected): 1 where they are the same, 0 by chance. NaN
    where both always give one and the same answer. Source: ours (Cohen 1960).
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    weights = np.ones((1, len(first))) if weights is None else weights
    weights = weights / weights.sum(axis=1, keepdims=True)
    agreement = weights @ (first == second)
    p, q = weights @ first, weights @ second
    expected = p * q + (1 - p) * (1 - q)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (agreement - expected) / (1 - expected), np.nan)


def kappa_of_independent_errors(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> float:
    """Return the kappa expected of two answers that are right as often as these within each grade, and err independently.

    Two good graders agree because both are right; only what is above this value says that they err on the same patients.
    Source: ours.
    """
    agreement = np.empty(len(truth))
    for grade in (True, False):
        own = truth == grade
        p, q = first[own].mean(), second[own].mean()
        agreement[own] = p * q + (1 - p) * (1 - q)
    p, q = first.mean(), second.mean()
    expected = p * q + (1 - p) * (1 - q)
    return float((agreement.mean() - expected) / (1 - expected)) if expected < 1 else float("nan")


def pair_interval(values: pd.Series, level: float = 0.95) -> Interval:
    """Return the mean of ``values`` over pairs (index: two levels, the two members) and its interval by leaving out one member at a time.

    Pairs that share a member are not independent, so that the number of pairs says little; the jackknife counts the members. Its
    t interval has as many degrees of freedom as there are members, less one. NaN ends for fewer than three members; pairs without a
    value are left out.

    Source: ours (Arvesen 1969: the jackknife of a U-statistic).
    """
    values = values.dropna()
    members = sorted({*values.index.get_level_values(0), *values.index.get_level_values(1)})
    mean = float(values.mean())
    if len(members) < 3:
        return Interval(mean, np.nan, np.nan, level)
    without = np.array([values[~_has(values, member)].mean() for member in members])
    n = len(members)
    deviation = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    half = t.ppf((1 + level) / 2, n - 1) * deviation
    return Interval(mean, mean - half, mean + half, level)


def pairs_of(members: list[str]) -> list[tuple[str, str]]:
    """Return every pair of different members, in their order."""
    return list(combinations(members, 2))


def _has(values: pd.Series, member: str) -> np.ndarray:
    return np.logical_or(*(values.index.get_level_values(level) == member for level in (0, 1)))
