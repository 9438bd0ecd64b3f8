"""When does the effect likelihood-ratio test exist? Linear separation of two grades by many covariates (METHOD 2.4).

A logistic model has a finite best fit only where no plane divides the grades. How often a plane does divide them, if the covariates say
nothing about the grade, has a closed form (Cover 1965); what the test says before that point is simulated.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import binom, chi2, norm

from drlib.radiomics.statistics import StatisticsError, share_interval

NEWTON_STEPS = 500
NEWTON_DECREMENT = 1e-8  # twice the log-likelihood that a last step gains


@dataclass(frozen=True)
class EffectTest:
    """The test of one covariate by maximum likelihood: ``separable`` (no finite fit, the others NaN), ``statistic``, ``p``."""

    separable: bool
    statistic: float
    p: float


def separable_share(n_patients: int, dimensions: int) -> float:
    """Return the probability that a plane divides ``n_patients`` points, in general position, whose two classes are tossed by a coin.

    ``dimensions`` are the free parameters of the plane: the covariates, and one more where it has an intercept. For classes that are
    fixed in advance the same holds without an intercept, if the points are as likely as their mirror images.

    Source: Cover (1965), the function counting theorem: C(n, d) / 2^n with C(n, d) = 2 sum_{k<d} (n-1 choose k).
    """
    return float(binom.cdf(dimensions - 1, n_patients - 1, 0.5))


def separation_threshold(rarer_share: float) -> float:
    """Return the covariates per patient above which large cohorts are separable, where ``rarer_share`` have the rarer grade.

    .5 for balanced grades, less for others. For independent normal covariates that tell nothing, and a model with intercept.
    Source: Candes and Sur (2020), Theorem 2 with no signal: the least over t of E (t Y - Z)^2 over its positive part, Z standard normal.
    """

    def expected(t: float) -> float:
        return rarer_share * _half_square(t) + (1 - rarer_share) * _half_square(-t)

    return float(minimize_scalar(expected, bounds=(-5, 5), method="bounded").fun)


def effect_test(columns: np.ndarray, is_positive: np.ndarray) -> EffectTest:
    """Test the first of ``columns`` (patients, p) in the logistic model of all of them, by plain maximum likelihood.

    Newton's method proves by itself whether the classes are separable: a fit that puts every patient on the right side is a dividing
    plane, and one that converged with a patient on the wrong side is the best fit there is.

    Source: paper, Eq. 6. Unlike ``effect_likelihood_ratio`` without Firth's likelihood: what is tested here is the test.
    """
    design = np.column_stack([columns, np.ones(len(columns))])
    sides = np.where(is_positive, 1.0, -1.0)
    full = _best_likelihood(design, sides)
    if full is None:
        return EffectTest(True, np.nan, np.nan)
    statistic = max(0.0, 2 * (full - _best_likelihood(design[:, 1:], sides)))
    return EffectTest(False, statistic, float(chi2.sf(statistic, df=1)))


def _best_likelihood(design: np.ndarray, sides: np.ndarray) -> float | None:
    """Return the highest log-likelihood of the logistic model by Newton's method; None as soon as a fit divides the classes."""
    signed = design * sides[:, None]
    fitted, likelihood = np.zeros(design.shape[1]), -len(sides) * np.log(2)
    for _ in range(NEWTON_STEPS):
        wrong = expit(-signed @ fitted)  # the probability that the model gives to the other class
        score = wrong @ signed
        step = np.linalg.solve((signed * (wrong * (1 - wrong))[:, None]).T @ signed, score)
        if score @ step < NEWTON_DECREMENT:
            return likelihood
        share = 1.0
        while (reached := -np.logaddexp(0, -signed @ (fitted + share * step)).sum()) < likelihood:
            share /= 2
        fitted, likelihood = fitted + share * step, float(reached)
        if (signed @ fitted > 0).all():
            return None
    raise StatisticsError(f"the fit of {design.shape[1]} columns did not converge in {NEWTON_STEPS} steps")


def simulate_effect_tests(
    n_columns: int, n_rarer: int, n_commoner: int, data_sets: int, random: np.random.Generator, coin: bool = False
) -> pd.DataFrame:
    """Return a row per simulated data set (``separable``, ``statistic``, ``p``) of covariates that say nothing about the grade.

    Each has ``n_rarer`` + ``n_commoner`` patients and ``n_columns`` independent standard normal covariates, and the first of them is
    tested. ``coin``: the grades are tossed instead, as Cover's theorem wants them.
    """
    n, rows = n_rarer + n_commoner, []
    for _ in range(data_sets):
        is_rarer = random.random(n) < 0.5 if coin else np.arange(n) < n_rarer
        rows.append(effect_test(random.standard_normal((n, n_columns)), is_rarer))
    return pd.DataFrame(rows)


def summarise_effect_tests(counts: pd.DataFrame) -> pd.DataFrame:
    """Return the share of separable data sets, and of rejections among the others (nominally the test's alpha), with Wilson intervals.

    ``counts``: a row per number of covariates (``columns``) with ``data_sets``, ``separable`` and ``rejected``. The result has a row per
    number: ``data_sets``, ``tested``, ``separable`` and ``false_positive``, each of the two with ``_low`` and ``_high``.
    """
    summary = {}
    for row in counts.itertuples():
        tested = row.data_sets - row.separable
        summary[row.columns] = {"data_sets": row.data_sets, "tested": tested}
        shares = {"separable": (row.separable, row.data_sets), "false_positive": (row.rejected, tested)}
        for name, share in shares.items():
            found = share_interval(*share)
            summary[row.columns] |= {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
    return pd.DataFrame.from_dict(summary, orient="index").rename_axis("columns")


def vanishing_likelihoods(columns: np.ndarray, is_positive: np.ndarray, log_odds: tuple[float, ...] = (1, 5, 20, 100)) -> pd.DataFrame:
    """Return the log-likelihoods of the model of all ``columns`` (patients, p >= patients) and of that without the first.

    A row per ``log_odds``, the size that the coefficients give to every patient's log odds, all on the right side. Both likelihoods
    rise to 1 (log 0) as the coefficients grow, and their ratio, the test, says nothing. Raises ValueError where a model cannot do that.
    """
    sides, rows = np.where(is_positive, 1.0, -1.0), {}
    for name, design in (("all covariates", columns), ("without the one that is tested", columns[:, 1:])):
        solved = np.linalg.lstsq(design, sides, rcond=None)[0]
        if not np.allclose(design @ solved, sides, atol=1e-6):
            raise ValueError(f"{design.shape[1]} columns cannot give {len(sides)} patients the log odds that are asked for")
        rows[name] = [-float(np.logaddexp(0, -size * sides * (design @ solved)).sum()) for size in log_odds]
    table = pd.DataFrame(rows, index=pd.Index(log_odds, name="log odds of every patient"))
    return table.assign(**{"likelihood-ratio statistic": 2 * (table.iloc[:, 0] - table.iloc[:, 1])})


def _half_square(t: float) -> float:
    """Return E max(0, t - Z)^2 for a standard normal Z."""
    return (1 + t**2) * norm.cdf(t) + t * norm.pdf(t)
