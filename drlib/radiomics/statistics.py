"""Tests and intervals behind the claims; the patient is always the unit.

The paper tests codewords (effect likelihood-ratio and rank test) and tumour regions (Kruskal-Wallis, Dunn). Each is here as it is
meant, with what it lacks beside it: an effect size, Firth's likelihood where the classes separate, a correction for the number
of tests, and the paired versions where three regions of one patient are compared.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import scikit_posthocs
from firthmodels import FirthLogisticRegression, detect_separation
from scipy import stats
from sklearn.linear_model import LogisticRegression
from statsmodels.stats.multitest import multipletests

from drlib.cohort.regions import GRADES
from drlib.errors import DeepRadiomicsError


class StatisticsError(DeepRadiomicsError):
    """A test was asked of data on which it is not defined."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it."""

    estimate: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class RegionComparison:
    """Do the regions of a tumour differ in one value per patient and region?

    ``pairs`` has one row per pair of regions: the Dunn p (independent samples, Bonferroni, as in the paper), and for the patients
    that have all regions the number, the median difference first - second, the paired Wilcoxon p and the same after Holm.
    ``regions`` has n, mean, sd, median and the Shapiro-Wilk p of each region. ``highest`` is the region of the highest mean.
    """

    regions: pd.DataFrame
    pairs: pd.DataFrame
    kruskal_statistic: float
    kruskal_p: float
    friedman_statistic: float
    friedman_p: float
    n_complete: int
    highest: str


def check_grades(features: pd.DataFrame, grades: pd.Series) -> pd.Series:
    """Return the grades of the patients in ``features``, in its order; every one of them must be known.

    Raises StatisticsError naming the patients that are doubled, have no grade, or have one that is neither LGG nor HGG, and where
    only one grade is left or a value is not a finite number.
    """
    doubled = features.index[features.index.duplicated()].unique()
    if len(doubled):
        raise StatisticsError(f"patients occur twice: {_listed(doubled)}")
    if grades.index.has_duplicates:
        raise StatisticsError(f"patients are graded twice: {_listed(grades.index[grades.index.duplicated()].unique())}")
    aligned = grades.reindex(features.index)
    ungraded = aligned.index[~aligned.isin(GRADES)]
    if len(ungraded):
        raise StatisticsError(f"no grade (LGG or HGG) for {len(ungraded)} patients: {_listed(ungraded)}; leave them out before grading")
    if aligned.nunique() < 2:
        raise StatisticsError(f"all {len(aligned)} patients are {'/'.join(aligned.unique()) or 'absent'}; both grades are needed")
    if not np.isfinite(features.to_numpy(dtype=float)).all():
        raise StatisticsError("the features hold values that are not finite numbers")
    return aligned


def rank_sum(counts: pd.DataFrame, grades: pd.Series) -> pd.DataFrame:
    """Compare every column between the grades with the rank-sum (Mann-Whitney) test.

    Returns a table with a row per column: ``rank_p`` (two-sided, 1 for a constant column) and ``auc``, the probability that an HGG
    patient has more of it than an LGG patient, ties counted half (.5: no difference).

    Source: paper, "Identification of responsible vectors". The paper calls it the signed-rank test, which needs pairs; 76 and 259
    independent patients have none.
    """
    is_hgg = (check_grades(counts, grades) == "HGG").to_numpy()
    values = counts.to_numpy(dtype=float)
    varies = np.ptp(values, axis=0) > 0
    p, auc = np.ones(values.shape[1]), np.full(values.shape[1], 0.5)
    if varies.any():
        test = stats.mannwhitneyu(values[is_hgg][:, varies], values[~is_hgg][:, varies], axis=0)
        p[varies], auc[varies] = test.pvalue, test.statistic / (is_hgg.sum() * (~is_hgg).sum())
    return pd.DataFrame({"rank_p": p, "auc": auc}, index=counts.columns)


def effect_likelihood_ratio(selected: pd.DataFrame, grades: pd.Series) -> pd.DataFrame:
    """Test each column of ``selected`` in the logistic model of all of them: twice the log-likelihood lost by leaving it out.

    Returns a table with a row per column: ``coefficient`` (log odds of HGG per unit), ``lr_statistic``, ``lr_p`` (chi-square, one
    degree of freedom) and ``likelihood``, which is ``maximum``, or ``firth`` where the grades can be separated in the columns, so
    that no finite maximum exists (Firth 1993; profile penalised likelihood of Heinze and Schemper 2002).

    Raises StatisticsError where the test is undefined: as many columns as patients, or columns that determine one another.

    Source: paper, Eq. 6. Caveat: with 512 codewords and 335 patients both likelihoods are 1 and the test says nothing; and p is
    only honest if the columns were chosen without these patients' grades (see ``find_responsible``).
    """
    is_hgg = (check_grades(selected, grades) == "HGG").to_numpy()
    sizes = selected.to_numpy(dtype=float).std(axis=0)
    scaled = (selected.to_numpy(dtype=float) - selected.to_numpy(dtype=float).mean(axis=0)) / np.where(sizes > 0, sizes, 1)
    if scaled.shape[1] + 1 >= len(scaled) or np.linalg.matrix_rank(scaled) < scaled.shape[1]:
        raise StatisticsError(
            f"the effect likelihood-ratio test is undefined for {scaled.shape[1]} columns of rank {np.linalg.matrix_rank(scaled)} "
            f"in {len(scaled)} patients: choose fewer columns, without near-duplicates, before testing"
        )
    separated = detect_separation(scaled, is_hgg).separation
    coefficients, statistic, p = (_firth_ratios if separated else _maximum_ratios)(scaled, is_hgg)
    columns = {"coefficient": coefficients / sizes, "lr_statistic": statistic, "lr_p": p, "likelihood": "firth" if separated else "maximum"}
    return pd.DataFrame(columns, index=selected.columns)


def _maximum_ratios(scaled: np.ndarray, is_hgg: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    coefficients, full = _maximum_likelihood(scaled, is_hgg)
    reduced = [_maximum_likelihood(np.delete(scaled, k, axis=1), is_hgg)[1] for k in range(scaled.shape[1])]
    statistic = np.maximum(2 * (full - np.array(reduced)), 0)
    return coefficients, statistic, stats.chi2.sf(statistic, df=1)


def _maximum_likelihood(columns: np.ndarray, is_hgg: np.ndarray) -> tuple[np.ndarray, float]:
    if columns.shape[1] == 0:
        share = is_hgg.mean()
        return np.zeros(0), len(is_hgg) * (share * np.log(share) + (1 - share) * np.log(1 - share))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=200).fit(columns, is_hgg)
    log_odds = model.decision_function(columns)
    return model.coef_[0], -np.logaddexp(0, np.where(is_hgg, -log_odds, log_odds)).sum()


def _firth_ratios(scaled: np.ndarray, is_hgg: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    model = FirthLogisticRegression(backend="numpy", max_iter=500, gtol=1e-6, xtol=1e-6).fit(scaled, is_hgg)
    model.lrt(list(range(scaled.shape[1])))
    p = model.lrt_pvalues_[: scaled.shape[1]]
    return model.coef_, stats.chi2.isf(p, df=1), p


def benjamini_hochberg(p: pd.Series) -> pd.Series:
    """Return the false-discovery-rate adjusted p (q); missing p stay missing and are not counted as tests.

    Source: ours (Benjamini and Hochberg 1995, statsmodels); the paper tests up to 512 codewords without adjustment.
    """
    q = pd.Series(np.nan, index=p.index, dtype=float)
    tested = p.notna()
    if tested.any():
        q[tested] = multipletests(p[tested], method="fdr_bh")[1]
    return q


def combine_split_p(p: np.ndarray, gamma_min: float = 0.05) -> np.ndarray:
    """Combine p-values of many sample splits into one per hypothesis.

    ``p`` (splits, hypotheses) holds each split's p already multiplied by its number of tested hypotheses, 1 where a hypothesis was
    not selected. For a quantile gamma the combination is min(1, quantile_gamma(p) / gamma); searching gamma from ``gamma_min`` to
    1 costs the factor 1 - log(gamma_min). The family-wise error is controlled whatever the dependence of the splits.

    Source: ours (Meinshausen, Meier and Buehlmann 2009, "p-values for high-dimensional regression", Eq. 2.3).
    """
    ordered = np.sort(p, axis=0)
    ranks = np.arange(1, len(p) + 1)
    tried = ranks >= np.ceil(gamma_min * len(p))
    # on gamma in ((r-1)/n, r/n] the quantile is the r-th value, so quantile/gamma is least at gamma = r/n
    least = (ordered[tried] / (ranks[tried] / len(p))[:, None]).min(axis=0)
    return np.minimum(1, (1 - np.log(gamma_min)) * least)


def compare_regions(table: pd.DataFrame, value: str = "mean") -> RegionComparison:
    """Compare ``value`` between the regions of the patients in ``table`` (columns patient, region and ``value``; NaN left out).

    Shapiro-Wilk per region, then Kruskal-Wallis with Dunn's joint ranking and Bonferroni as in the paper, which treats the three
    regions of a patient as three patients; beside it Friedman and paired Wilcoxon with Holm, on patients that have all regions.
    What cannot be computed (fewer than 3 values, fewer than 2 complete patients) is NaN.

    Raises StatisticsError if a patient has two values of a region, or if fewer than two regions have values.

    Source: paper, "Identification of responsible regions" and Fig. 7; the paired tests are ours.
    """
    present = table.dropna(subset=[value])
    if present.duplicated(["patient", "region"]).any():
        raise StatisticsError("a patient has several values of one region; the patient is the unit: filter or average the table first")
    samples = {str(region): group[value].to_numpy(float) for region, group in present.groupby("region", sort=False, observed=True)}
    if len(samples) < 2:
        raise StatisticsError(f"at least two regions with values are needed, there are {list(samples) or 'none'}")
    wide = present.pivot(index="patient", columns="region", values=value)[list(samples)].dropna()
    kruskal = _or_nan(stats.kruskal, *samples.values())
    friedman = _or_nan(stats.friedmanchisquare, *wide.to_numpy().T) if len(samples) > 2 and len(wide) > 1 else (np.nan, np.nan)
    regions = pd.DataFrame({region: _describe(sample) for region, sample in samples.items()}).T
    return RegionComparison(
        regions, _pair_tests(samples, wide), *kruskal, *friedman, n_complete=len(wide), highest=str(regions["mean"].idxmax())
    )


def _describe(sample: np.ndarray) -> dict[str, float]:
    sd = sample.std(ddof=1) if len(sample) > 1 else np.nan
    shapiro = stats.shapiro(sample).pvalue if len(sample) >= 3 and np.ptp(sample) > 0 else np.nan
    return {"n": len(sample), "mean": sample.mean(), "sd": sd, "median": np.median(sample), "shapiro_p": shapiro}


def _pair_tests(samples: dict[str, np.ndarray], wide: pd.DataFrame) -> pd.DataFrame:
    with np.errstate(invalid="ignore"):  # every value tied: NaN
        dunn = scikit_posthocs.posthoc_dunn(list(samples.values()), p_adjust="bonferroni").to_numpy()
    rows = []
    for (i, first), (j, second) in combinations(enumerate(samples), 2):
        difference = (wide[first] - wide[second]).to_numpy()
        wilcoxon = stats.wilcoxon(difference).pvalue if np.any(difference) else np.nan
        median = np.median(difference) if len(difference) else np.nan
        rows.append({"first": first, "second": second, "dunn_p": dunn[i, j], "median_difference": median, "wilcoxon_p": wilcoxon})
    pairs = pd.DataFrame(rows)
    tested = pairs["wilcoxon_p"].notna()
    pairs["wilcoxon_p_holm"] = np.nan
    if tested.any():
        pairs.loc[tested, "wilcoxon_p_holm"] = multipletests(pairs.loc[tested, "wilcoxon_p"], method="holm")[1]
    return pairs


def _or_nan(test: Callable, *samples: np.ndarray) -> tuple[float, float]:
    if np.ptp(np.concatenate(samples)) == 0:  # every value tied: nothing to rank
        return np.nan, np.nan
    result = test(*samples)
    return float(result.statistic), float(result.pvalue)


def bootstrap_interval(
    values: np.ndarray | pd.Series,
    generator: np.random.Generator,
    statistic: Callable = np.mean,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Return ``statistic`` of one value per patient with its bootstrap interval (BCa, Efron 1987); NaN are left out.

    ``statistic`` takes ``axis``, as NumPy's reductions do. Fewer than two values, or all the same, have an interval of no width;
    no value at all gives NaN.

    Source: ours; the paper gives standard deviations only.
    """
    sample = np.asarray(values, dtype=float)
    sample = sample[~np.isnan(sample)]
    if not len(sample):
        return Interval(np.nan, np.nan, np.nan, level)
    estimate = float(statistic(sample, axis=-1))
    if np.ptp(sample) == 0:
        return Interval(estimate, estimate, estimate, level)
    low, high = _bootstrap(sample, generator, statistic, level, resamples, "BCa")
    if not np.isfinite([low, high]).all():  # BCa's acceleration does not exist for some statistics of tied values
        low, high = _bootstrap(sample, generator, statistic, level, resamples, "percentile")
    return Interval(estimate, low, high, level)


def _bootstrap(sample, generator, statistic, level, resamples, method) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            (sample,), statistic, n_resamples=resamples, confidence_level=level, method=method, rng=generator, vectorized=True
        ).confidence_interval
    return float(interval.low), float(interval.high)


def _listed(patients: pd.Index, most: int = 5) -> str:
    return ", ".join(map(str, patients[:most])) + (", ..." if len(patients) > most else "")
