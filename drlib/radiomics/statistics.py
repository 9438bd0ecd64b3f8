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
from firthmodels import detect_separation
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from drlib.cohort.regions import GRADES
from drlib.errors import DeepRadiomicsError

NEWTON_STEPS = 200
NEWTON_DECREMENT = {False: 1e-9, True: 1e-13}  # twice the log-likelihood a last step gains: it squares the error, with Firth divides it
BATCH_VALUES = 2**15  # of the designs that are fitted together: 256 KiB


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

    Returns a table with a row per column: ``rank_p`` (two-sided, 1 for a constant column), ``auc``, the probability that an HGG
    patient has more of it than an LGG patient, ties counted half (.5: no difference), and its 95 % interval ``auc_low`` to
    ``auc_high`` (see ``auc_interval``).

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
    low, high = auc_interval(auc, int((~is_hgg).sum()), int(is_hgg.sum()))
    return pd.DataFrame({"rank_p": p, "auc": auc, "auc_low": low, "auc_high": high}, index=counts.columns)


def auc_interval(auc: np.ndarray, n_lgg: int, n_hgg: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of an area under the ROC curve (any shape, 0 to 1) of ``n_lgg`` and ``n_hgg`` patients.

    It holds the areas from which the observed one is less than z standard errors away, with the standard error that Hanley and
    McNeil give for *that* area, so that it keeps a width where the grades are separated. Caveat: one column at a time; of the
    columns that look best it is too narrow, like any interval after a selection.

    Source: ours; Newcombe 2006 (Stat Med 25:559), method 5.
    """
    auc, z, mean = np.asarray(auc, dtype=float), stats.norm.ppf((1 + level) / 2), (n_lgg + n_hgg) / 2 - 1

    def is_compatible(area: np.ndarray) -> np.ndarray:
        spread = 1 + mean * ((1 - area) / (2 - area) + area / (1 + area))
        return (auc - area) ** 2 <= z**2 * area * (1 - area) * spread / (n_lgg * n_hgg)

    ends = []
    for outermost in (0.0, 1.0):
        outside, inside = np.full(auc.shape, outermost), auc.copy()
        for _ in range(50):
            middle = (outside + inside) / 2
            compatible = is_compatible(middle)
            outside, inside = np.where(compatible, outside, middle), np.where(compatible, middle, inside)
        ends.append(inside)
    return ends[0], ends[1]


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
    design = np.vstack([scaled.T, np.ones(len(scaled))])
    free = np.vstack([np.ones(len(design)), 1 - np.eye(len(design))[:-1]])  # the full model, then one without each column
    designs = np.broadcast_to(design, (len(free), *design.shape))
    firth = bool(detect_separation(scaled, is_hgg).separation)
    if not firth:
        fitted, likelihood, converged = _fit_logistic(designs, is_hgg, free)
        firth = not converged.all()
    if firth:
        fitted, likelihood, _ = _fit_logistic(designs, is_hgg, free, firth=True)
    return _ratio_table(selected.columns, fitted[0, :-1] / sizes, likelihood[0], likelihood[1:], firth)


def fit_logistic(columns: np.ndarray, is_hgg: np.ndarray) -> tuple[np.ndarray, float, str]:
    """Return coefficients (one per column of (patients, columns)), intercept and likelihood of the logistic model without a penalty.

    The likelihood is ``maximum``, or ``firth`` where the grades can be separated in the columns. Columns that do not vary and columns
    that the ones before them determine have coefficient 0.

    Source: paper, Eq. 6; Firth's likelihood where no finite maximum exists is ours.
    """
    kept = independent_columns(columns)
    centre, scale = columns[:, kept].mean(axis=0), columns[:, kept].std(axis=0)
    scaled = (columns[:, kept] - centre) / scale
    design, free = np.vstack([scaled.T, np.ones(len(columns))])[None], np.ones((1, len(kept) + 1))
    firth = bool(len(kept)) and bool(detect_separation(scaled, is_hgg).separation)
    fitted, _, converged = _fit_logistic(design, is_hgg, free, firth)
    if not firth and not converged.all():
        firth, fitted = True, _fit_logistic(design, is_hgg, free, firth=True)[0]
    coefficients = np.zeros(columns.shape[1])
    coefficients[kept] = fitted[0, :-1] / scale
    return coefficients, float(fitted[0, -1] - coefficients[kept] @ centre), "firth" if firth else "maximum"


def independent_columns(columns: np.ndarray) -> list[int]:
    """Return the columns, from the first on, that vary and that no linear combination of those before them gives."""
    kept: list[int] = []
    for number in range(columns.shape[1]):
        tried = columns[:, [*kept, number]] - columns[:, [*kept, number]].mean(axis=0)
        if np.ptp(columns[:, number]) > 0 and np.linalg.matrix_rank(tried) > len(kept):
            kept.append(number)
    return kept


def likelihood_ratio_tests(columns: pd.DataFrame, grades: pd.Series) -> pd.DataFrame:
    """Test each column alone: the logistic model of it against the model that knows only how common the grades are.

    Returns the table of ``effect_likelihood_ratio``. Columns in which all LGG lie on one side of all HGG (ties allowed; many that
    occur in a few patients only) have no finite maximum and get Firth's likelihood; constant columns have coefficient 0 and p 1.

    Source: ours; the univariable tests that stand beside the paper's Eq. 6 and are defined however many codewords there are.
    """
    is_hgg = (check_grades(columns, grades) == "HGG").to_numpy()
    values = columns.to_numpy(dtype=float)
    varies = np.ptp(values, axis=0) > 0
    sizes = np.where(varies, values.std(axis=0), 1)
    designs = np.ones((values.shape[1], 2, len(values)))
    designs[:, 0] = ((values - values.mean(axis=0)) / sizes).T
    lgg, hgg = values[~is_hgg], values[is_hgg]
    firth = varies & ((lgg.max(axis=0) <= hgg.min(axis=0)) | (hgg.max(axis=0) <= lgg.min(axis=0)))
    coefficients, full, reduced = np.zeros((3, len(designs)))
    for penalised in (False, True):
        chosen = np.flatnonzero(varies & (firth == penalised))
        fitted, full[chosen], converged = _fit_logistic(designs[chosen], is_hgg, np.ones((len(chosen), 2)), penalised)
        coefficients[chosen] = fitted[:, 0]
        different = chosen if penalised else chosen[:1]  # without a penalty the reduced model is the same for every column
        reduced[chosen] = _fit_logistic(designs[different], is_hgg, np.tile([0.0, 1.0], (len(different), 1)), penalised)[1]
        firth[chosen[~converged]] = True
    return _ratio_table(columns.columns, coefficients / sizes, full, reduced, firth)


def _ratio_table(names: pd.Index, coefficients: np.ndarray, full: np.ndarray, reduced: np.ndarray, firth: np.ndarray) -> pd.DataFrame:
    statistic = np.maximum(2 * (full - reduced), 0)
    columns = {"coefficient": coefficients, "lr_statistic": statistic, "lr_p": stats.chi2.sf(statistic, df=1)}
    return pd.DataFrame(columns | {"likelihood": np.where(firth, "firth", "maximum")}, index=names)


def _fit_logistic(
    designs: np.ndarray, is_hgg: np.ndarray, free: np.ndarray, firth: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit M logistic models at once by Newton's method, a few at a time, which the cache holds.

    ``designs`` (M, p, patients), the last of the p rows constant; coefficients whose ``free`` (M, p) is 0 stay 0. Returns the
    coefficients (M, p), the log-likelihoods (M,) and whether each converged. ``firth``: with Firth's penalty, half the
    log-determinant of the information of all p coefficients, free or not (so that ratios are of the profile penalised likelihood).
    """
    together = max(1, BATCH_VALUES // max(1, designs[:1].size))
    parts = [_newton(designs[k : k + together], is_hgg, free[k : k + together], firth) for k in range(0, max(1, len(designs)), together)]
    return tuple(np.concatenate(values) for values in zip(*parts, strict=True))


def _newton(designs: np.ndarray, is_hgg: np.ndarray, free: np.ndarray, firth: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    turned, fitted = designs.transpose(0, 2, 1), np.zeros(free.shape)
    fitted[:, -1] = np.log(is_hgg.sum() / (~is_hgg).sum())
    log_odds = np.repeat(fitted[:, -1:], len(is_hgg), axis=1)
    fixed = np.eye(free.shape[1]) * (1 - free)[:, None]
    for _ in range(NEWTON_STEPS):
        probability, weights, information = _information(designs, log_odds)
        residual = is_hgg - probability
        if firth:
            leverage = weights * (designs * (np.linalg.inv(information) @ designs)).sum(axis=1)
            residual += leverage * (0.5 - probability)
            information = (designs * (weights * (1 + leverage))[:, None]) @ turned  # that of patients who count 1 + leverage times
        score = (residual[:, None] @ turned)[:, 0] * free
        step = np.linalg.solve(information * free[:, :, None] * free[:, None] + fixed, score[..., None])[..., 0]
        change = (step[:, None] @ designs)[:, 0]
        share = np.minimum(1, 5 / np.maximum(np.abs(change).max(axis=1), 1e-300))[:, None]  # no log odds moves by more than 5
        fitted, log_odds = fitted + share * step, log_odds + share * change
        converged = (step * score).sum(axis=1) < NEWTON_DECREMENT[firth]
        if converged.all():
            break
    wrong = np.where(is_hgg, -log_odds, log_odds)
    likelihood = -(np.maximum(wrong, 0) + np.log1p(np.exp(-np.abs(wrong)))).sum(axis=1)
    if firth:
        likelihood += 0.5 * np.linalg.slogdet(_information(designs, log_odds)[2])[1]
    return fitted, likelihood, converged


def _information(designs: np.ndarray, log_odds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return P(HGG) and its variance (M, patients), and Fisher's information (M, p, p)."""
    probability = 1 / (1 + np.exp(-log_odds))
    weights = np.maximum(probability * (1 - probability), 1e-12)
    return probability, weights, (designs * weights[:, None]) @ designs.transpose(0, 2, 1)


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


def share_interval(happened: int, n: int, level: float = 0.95) -> Interval:
    """Return how often something happened in ``n`` independent trials, with Wilson's interval; NaN for no trial.

    Source: ours (Wilson 1927, statsmodels); the rates of simulations.
    """
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, level)
    low, high = proportion_confint(happened, n, 1 - level, method="wilson")
    return Interval(happened / n, float(low), float(high), level)


def bootstrap_weights(is_hgg: np.ndarray, random: np.random.Generator, resamples: int = 2000) -> np.ndarray:
    """Return (1 + resamples, patients): each patient once, then how often each is drawn, with replacement within each grade.

    The number of patients of a grade is the same in every draw, as it is fixed by the design where grades are sampled apart.
    """
    weights = np.ones((1 + resamples, len(is_hgg)))
    for grade in (True, False):
        n = int((is_hgg == grade).sum())
        weights[1:, is_hgg == grade] = random.multinomial(n, np.full(n, 1 / n), size=resamples)
    return weights


def percentile_interval(draws: np.ndarray | pd.Series, level: float = 0.95) -> Interval:
    """Return the first value and the percentile interval of the others; draws in which a statistic does not exist are left out."""
    draws = np.asarray(draws, dtype=float)
    if not np.isfinite(draws[1:]).any():
        return Interval(float(draws[0]), np.nan, np.nan, level)
    low, high = np.nanquantile(draws[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(draws[0]), float(low), float(high), level)


def seed_interval(values: pd.Series, level: float = 0.95) -> Interval:
    """Return the mean over seeds with its t interval: where the mean over many more seeds would lie. NaN ends for fewer than two."""
    values = values.dropna()
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std() / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half), level)


def corrected_resampled_interval(values: np.ndarray, held_out_share: float, level: float = 0.95) -> Interval:
    """Return the mean of a metric over the folds of repeated cross-validation and its corrected resampled t interval.

    ``values``: one per fold of every repeat. ``held_out_share``: patients held out by a fold, of all (0.2 for five folds). Fits to
    training sets that overlap are alike, so that the variance of their mean is not s^2 / n but s^2 (1 / n + held out / trained on).
    It covers the draw of the training patients, which a bootstrap of the graded patients does not. NaN are left out; fewer than two
    values have no interval. It may reach beyond the range of the metric.

    Source: ours; Nadeau and Bengio 2003 (Machine Learning 52:239), for repeats Bouckaert and Frank 2004.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    n = len(values)
    mean = float(values.mean()) if n else np.nan
    if n < 2:
        return Interval(mean, np.nan, np.nan, level)
    error = np.sqrt((1 / n + held_out_share / (1 - held_out_share)) * values.var(ddof=1))
    reach = float(stats.t.ppf((1 + level) / 2, n - 1) * error)
    return Interval(mean, mean - reach, mean + reach, level)


def _bootstrap(sample, generator, statistic, level, resamples, method) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            (sample,), statistic, n_resamples=resamples, confidence_level=level, method=method, rng=generator, vectorized=True
        ).confidence_interval
    return float(interval.low), float(interval.high)


def _listed(patients: pd.Index, most: int = 5) -> str:
    return ", ".join(map(str, patients[:most])) + (", ..." if len(patients) > most else "")
