"""How large the compartments are: NET, ED and ET volumes per grade that meet Table 1 of the paper.

Each compartment's distribution is that of the expert masks of 102 GBM and 65 LGG (Bakas et al. 2017, Sci Data 4:170117, CC BY 3.0), as
quantiles; scaled, and bent above the median, so that its mean and standard deviation are those of Table 1. A Gaussian copula with the rank
correlations of the same masks couples the three; Latin hypercube strata keep even forty patients close to the means.
"""

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import norm

from drlib.cohort.regions import GRADES

COMPARTMENTS = ("NET", "ED", "ET")

# Table 1 of the paper: mean and standard deviation, cm3.
TABLE_1: dict[str, dict[str, tuple[float, float]]] = {
    "LGG": {"NET": (52.4, 47.3), "ED": (53.7, 48.7), "ET": (5.5, 13.5), "WT": (111.5, 76.7)},
    "HGG": {"NET": (13.8, 15.9), "ED": (58.7, 38.3), "ET": (22.6, 18.6), "WT": (95.1, 54.8)},
}

PROBABILITIES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
# Quantiles in cm3 at PROBABILITIES of the volumes above zero (LGG: TCGA-LGG, HGG: TCGA-GBM), Bakas et al. 2017.
QUANTILES_CM3: dict[str, dict[str, tuple[float, ...]]] = {
    "LGG": {
        "NET": (0.135, 0.752, 1.689, 8.373, 21.16, 28.45, 50.29, 65.58, 82.16, 94.76, 130.5, 144.5, 189.2),
        "ED": (2.84, 7.894, 12.13, 20.34, 25.28, 31.13, 38.78, 51.48, 56.26, 89.74, 135.3, 159.2, 214.0),
        "ET": (0.032, 0.111, 0.125, 0.635, 1.096, 1.536, 2.093, 3.655, 4.556, 8.437, 17.05, 25.47, 89.55),
    },
    "HGG": {
        "NET": (0.047, 0.327, 0.779, 2.688, 4.411, 7.332, 9.287, 12.37, 17.92, 25.31, 35.61, 49.05, 97.83),
        "ED": (9.757, 17.52, 19.69, 30.23, 38.11, 48.71, 58.97, 68.73, 76.29, 86.82, 112.4, 131.2, 160.7),
        "ET": (1.037, 4.366, 6.002, 9.997, 14.82, 19.12, 26.34, 30.44, 38.06, 47.22, 60.86, 74.27, 111.3),
    },
}
SHARE_WITHOUT = {"LGG": {"NET": 0.0, "ED": 0.015, "ET": 0.308}, "HGG": {"NET": 0.0, "ED": 0.0, "ET": 0.0}}
# Correlations NET-ED, NET-ET, ED-ET, between those of the ranks and of the logarithms of the same masks.
RANK_CORRELATIONS = {"LGG": (0.22, 0.0, 0.12), "HGG": (0.24, 0.58, 0.36)}
LARGEST_CM3 = 330.0  # of the whole tumour; more does not fit beside a living brain
PLANTED_SHIFT = 0.75  # standard deviations by which a planted compartment is larger in one grade and smaller in the other


def draw_volumes(grade: str, n: int, rng: np.random.Generator, shift: dict[str, float] | None = None) -> np.ndarray:
    """Draw the volumes of ``n`` tumours that grow as ``grade`` does.

    Args:
        shift: standard deviations (of the normal score) by which a compartment is larger than this grade's; used for planted effects.

    Returns: (n, 3) cm3 of NET, ED, ET.

    Source: ours, after Table 1 (module docstring). Caveat: the strata make the volumes of one call dependent.
    """
    scores = _correlated_scores(n, RANK_CORRELATIONS[grade], rng)
    volumes = np.empty((n, 3))
    for column, compartment in enumerate(COMPARTMENTS):
        score = scores[:, column] + (shift or {}).get(compartment, 0.0)
        volumes[:, column] = volume_quantile(grade, compartment, norm.cdf(score))
    excess = np.maximum(volumes.sum(1, keepdims=True) / LARGEST_CM3, 1.0)
    return volumes / excess


def volume_quantile(grade: str, compartment: str, probability: np.ndarray) -> np.ndarray:
    """Return the volumes in cm3 below which the given shares of the grade's tumours lie."""
    absent = SHARE_WITHOUT[grade][compartment]
    factor, bend = _bend(grade, compartment)
    inside = np.clip((np.asarray(probability) - absent) / (1 - absent), 0.0, 1.0)
    volume = factor * _bent_quantile(grade, compartment, inside, bend)
    return np.where(np.asarray(probability) < absent, 0.0, volume)


def compare_with_table_1(truth: pd.DataFrame) -> pd.DataFrame:
    """Return Table 1 of the paper beside a cohort's true volumes.

    Args:
        truth: one row per patient, columns ``grade`` and ``NET_cm3 ED_cm3 ET_cm3 WT_cm3``.

    Returns: one row per grade and region: n, mean and standard deviation (cm3) in the paper and in the cohort.
    """
    rows = []
    for grade in GRADES:
        patients = truth[truth["grade"] == grade]
        for region, (mean, deviation) in TABLE_1[grade].items():
            volumes = patients[f"{region}_cm3"]
            row = {"grade": grade, "region": region, "n": len(patients), "paper_mean": mean, "paper_sd": deviation}
            rows.append(row | {"cohort_mean": round(volumes.mean(), 1), "cohort_sd": round(volumes.std(), 1)})
    return pd.DataFrame(rows).set_index(["grade", "region"])


@lru_cache
def _bend(grade: str, compartment: str) -> tuple[float, float]:
    """Return the factor and the bend that give the quantile curve the mean and standard deviation of Table 1."""
    mean, deviation = TABLE_1[grade][compartment]
    present = 1 - SHARE_WITHOUT[grade][compartment]
    inside = (np.arange(4000) + 0.5) / 4000

    def excess_spread(bend: float) -> float:
        volumes = _bent_quantile(grade, compartment, inside, bend)
        return np.mean(volumes**2) / (present * np.mean(volumes) ** 2) - 1 - (deviation / mean) ** 2

    bend = brentq(excess_spread, -0.9, 1.0)
    return mean / (present * np.mean(_bent_quantile(grade, compartment, inside, bend))), bend


def _bent_quantile(grade: str, compartment: str, probability: np.ndarray, bend: float) -> np.ndarray:
    """Return quantiles of the expert masks; those above the median m times (v / m)**bend, so that small tumours stay as they are."""
    quantiles = np.log(QUANTILES_CM3[grade][compartment])
    logs = np.interp(probability, PROBABILITIES, quantiles)
    median = quantiles[PROBABILITIES.index(0.5)]
    return np.exp(logs + bend * np.maximum(logs - median, 0.0))


def _correlated_scores(n: int, rank_correlations: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """Return (n, 3) normal scores, one in each of n equal strata per column, with the given rank correlations (Iman and Conover 1982)."""
    net_ed, net_et, ed_et = rank_correlations
    ranks = np.array([[1, net_ed, net_et], [net_ed, 1, ed_et], [net_et, ed_et, 1]])
    pearson = 2 * np.sin(np.pi / 6 * ranks)
    drawn = rng.standard_normal((n, 3))
    if n > 8:  # rotate away the chance correlation of the draw
        drawn = drawn @ np.linalg.inv(np.linalg.cholesky(np.corrcoef(drawn.T))).T
    drawn = drawn @ np.linalg.cholesky(pearson).T
    strata = drawn.argsort(0).argsort(0)
    jitter = rng.uniform(0.25, 0.75, (n, 3))
    return norm.ppf((strata + jitter) / n)
