"""Simulated data whose truth is known: what tests say where there is nothing, and where there is something, to find (METHOD 2.5)."""

import numpy as np
import pandas as pd
from scipy import stats

from drlib.radiomics.statistics import benjamini_hochberg, rank_sum, share_interval


def count_false_discoveries(
    n_lgg: int, n_hgg: int, n_codewords: int, data_sets: int, random: np.random.Generator, alpha: float = 0.05
) -> pd.DataFrame:
    """Return how many of ``n_codewords`` are "significant" where the grade tells nothing: a row per simulated cohort.

    Columns ``plain`` (rank-sum p < ``alpha``) and ``adjusted`` (Benjamini-Hochberg q < ``alpha``). Counts are negative binomial, with
    means from 1 to 100, as codewords are rare and common. Source: ours; the paper adjusts for nothing.
    """
    grades, rows = pd.Series(["LGG"] * n_lgg + ["HGG"] * n_hgg), []
    means = np.geomspace(1, 100, n_codewords)
    for _ in range(data_sets):
        counts = pd.DataFrame(random.negative_binomial(2, 2 / (2 + means), size=(len(grades), n_codewords)))
        p = rank_sum(counts, grades)["rank_p"]
        rows.append({"plain": int((p < alpha).sum()), "adjusted": int((benjamini_hochberg(p) < alpha).sum())})
    return pd.DataFrame(rows)


def compare_region_tests(
    n_patients: int,
    shared: tuple[float, ...],
    effects: tuple[float, ...],
    data_sets: int,
    random: np.random.Generator,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Return how often Kruskal-Wallis and Friedman find a difference between three regions of the same patients.

    Each value is the patient's own level plus noise, normal, of variance 1 together, ``shared`` of it the level; the third region is
    higher by an ``effect`` (0: by nothing, so that a find is false). A row per ``shared``, ``effect`` and ``test``: ``share`` of
    ``data_sets`` with p < ``alpha``, with its Wilson interval ``low``..``high``. Source: ours.
    """
    rows = []
    for part in shared:
        for effect in effects:
            level = np.sqrt(part) * random.standard_normal((data_sets, n_patients, 1))
            values = level + np.sqrt(1 - part) * random.standard_normal((data_sets, n_patients, 3))
            values[..., 2] += effect
            columns = np.moveaxis(values, 2, 0)  # (region, data set, patient)
            tests = {"Kruskal-Wallis": stats.kruskal(*columns, axis=1).pvalue, "Friedman": _friedman_p(values)}
            for test, p in tests.items():
                found = share_interval(int((p < alpha).sum()), data_sets)
                rows.append({"shared": part, "effect": effect, "test": test, "share": found.estimate, "low": found.low, "high": found.high})
    return pd.DataFrame(rows)


def _friedman_p(values: np.ndarray) -> np.ndarray:
    """Return Friedman's p of each data set of ``values`` (data sets, patients, regions) without ties."""
    n, k = values.shape[1:]
    rank_sums = (values.argsort(axis=2).argsort(axis=2) + 1).sum(axis=1)
    statistic = 12 / (n * k * (k + 1)) * (rank_sums**2).sum(axis=1) - 3 * n * (k + 1)
    return stats.chi2.sf(statistic, k - 1)
