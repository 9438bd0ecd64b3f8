"""What probabilities are worth: are they as high as the share that turns out positive, and would acting on them do good?

Calibration is judged by logistic recalibration (Cox 1958; Van Calster et al. 2016) and use by the net benefit of a decision curve
(Vickers and Elkin 2006). The paper gives neither. Everything here takes weights, so that thousands of bootstrap draws are one call.
"""

from typing import Literal

import numpy as np
from scipy.special import expit, logit

CALIBRATION = ("calibration_slope", "calibration_intercept")
CLIP = 1e-6  # probabilities are drawn this far away from 0 and 1, whose log odds are infinite
STEPS = 60
TOLERANCE = 1e-7  # of a log odds


def calibration_metrics(
    probabilities: np.ndarray, is_hgg: np.ndarray, folds: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return slope and intercept of the logistic recalibration of P(HGG), averaged over repeats, one value per row of ``weights``.

    ``probabilities`` (patients, repeats) out of fold, ``folds`` of the same shape, ``weights`` (draws, patients): how often a patient
    counts (None: each once). With L the log odds of the probability (drawn to 1e-6 .. 1 - 1e-6):

    - ``calibration_slope``: b of logit P(HGG) = a + b L. 1 is right; below 1 the probabilities are too extreme (the usual sign of
      overfitting), above 1 too timid. NaN where no finite one exists: L the same for all patients of each fold, or L separates the
      grades.
    - ``calibration_intercept``: a of logit P(HGG) = a + L, the slope held at 1, called calibration in the large. 0 is right; above 0
      there are more HGG than the probabilities say.

    Source: ours; Van Calster et al. 2016 (J Clin Epidemiol 74:167), "weak" calibration.
    """
    weights = np.ones((1, len(is_hgg))) if weights is None else weights
    log_odds = logit(np.clip(probabilities, CLIP, 1 - CLIP))
    slopes, intercepts = np.full((2, probabilities.shape[1], len(weights)), np.nan)
    for repeat, (column, fold) in enumerate(zip(log_odds.T, folds.T, strict=True)):
        intercepts[repeat] = _recalibrate_in_the_large(column, is_hgg, weights)
        if any(np.ptp(column[fold == number]) > 0 for number in np.unique(fold)):
            slopes[repeat] = _recalibrate(column, is_hgg, weights)
    return {"calibration_slope": slopes.mean(axis=0), "calibration_intercept": intercepts.mean(axis=0)}


def net_benefit(
    probabilities: np.ndarray,
    is_hgg: np.ndarray,
    thresholds: np.ndarray,
    weights: np.ndarray | None = None,
    positive: Literal["HGG", "LGG"] = "HGG",
) -> np.ndarray:
    """Return (draws, thresholds): true positives less false positives per patient, a false one counting threshold / (1 - threshold).

    ``probabilities`` (patients, repeats) of HGG; the benefit is averaged over repeats. A patient is called positive whose probability
    of ``positive`` is above the threshold (0 to 1, exclusive), the odds of which say how many false alarms one true find is worth.
    Calling nobody has benefit 0; calling everybody p - (1 - p) x odds at prevalence p.

    The two conventions are one curve read from both ends: with HGG positive at t and LGG positive at 1 - t the same patients are
    called, and the gain over calling everybody HGG is t / (1 - t) times the LGG benefit.

    Source: ours; Vickers and Elkin 2006 (Med Decis Making 26:565).
    """
    weights = np.ones((1, len(is_hgg))) if weights is None else weights
    score, truth = (probabilities, is_hgg) if positive == "HGG" else (1 - probabilities, ~is_hgg)
    worth = np.where(truth[:, None], 1.0, -thresholds / (1 - thresholds))  # of calling this patient positive
    shares = weights / weights.sum(axis=1, keepdims=True)
    called = (score[:, :, None] > thresholds).mean(axis=1)  # share of the repeats that call a patient
    return shares @ (called * worth)


def _recalibrate(log_odds: np.ndarray, is_hgg: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the slope for each row of ``weights`` by Newton's method, the draws starting from the solution of the first row."""
    slopes = np.full(len(weights), np.nan)
    possible = np.flatnonzero(_overlap(log_odds, is_hgg, weights))
    centre, spread = log_odds.mean(), log_odds.std()  # steps are well scaled in the standardised log odds
    powers = ((log_odds - centre) / spread) ** np.arange(3)[:, None]
    start = np.zeros((1, 2))
    for rows in (possible[:1], possible[1:]):
        fitted, converged = _newton(powers, is_hgg, weights[rows], np.repeat(start, len(rows), axis=0))
        slopes[rows] = np.where(converged, fitted[:, 1] / spread, np.nan)
        start = fitted if len(fitted) and converged.all() else start
    return slopes


def _newton(powers: np.ndarray, is_hgg: np.ndarray, weights: np.ndarray, fitted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit constant and slope (draws, 2) to the covariate ``powers[1]``; draws that have converged leave the work."""
    due = np.arange(len(weights))
    for _ in range(STEPS):
        counts = weights[due]
        probability = expit(fitted[due] @ powers[:2])
        score = (counts * (is_hgg - probability)) @ powers[:2].T
        a, b, c = ((counts * probability * (1 - probability)) @ powers.T).T
        determinant = np.maximum(a * c - b * b, 1e-300)
        step = np.column_stack([c * score[:, 0] - b * score[:, 1], a * score[:, 1] - b * score[:, 0]]) / determinant[:, None]
        change = np.abs(step @ powers[:2]).max(axis=1)
        fitted[due] += step * np.minimum(1, 5 / np.maximum(change, 1e-300))[:, None]  # no log odds moves by more than 5
        due = due[change > TOLERANCE]
        if not len(due):
            break
    converged = np.ones(len(weights), dtype=bool)
    converged[due] = False
    return fitted, converged


def _recalibrate_in_the_large(log_odds: np.ndarray, is_hgg: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return for each row of ``weights`` the constant that makes the expected number of HGG the observed one.

    Newton's method between bounds, because a step is boundless where all probabilities are near 0 or 1.
    """
    observed, total = weights @ is_hgg, weights.sum(axis=1)
    bound = np.abs(log_odds).max() + np.abs(logit(np.clip(observed / total, CLIP, 1 - CLIP))) + 1
    low, high, constant = -bound, bound.copy(), np.zeros(len(weights))
    for _ in range(STEPS):
        probability = expit(log_odds + constant[:, None])
        excess = observed - (weights * probability).sum(axis=1)
        low, high = np.where(excess >= 0, constant, low), np.where(excess <= 0, constant, high)
        slope = (weights * probability * (1 - probability)).sum(axis=1)
        tried = constant + excess / np.maximum(slope, 1e-300)
        following = np.where((tried > low) & (tried < high), tried, (low + high) / 2)
        moved, constant = np.abs(following - constant).max(), following
        if moved < TOLERANCE:
            break
    return np.where((observed > 0) & (observed < total), constant, np.nan)


def _overlap(log_odds: np.ndarray, is_hgg: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return for each row of ``weights`` whether the log odds of its HGG and LGG patients overlap, so that a finite slope exists."""
    drawn = weights > 0
    lowest, highest = (
        [reduce(np.where(drawn & members, log_odds, fill), axis=1) for members in (is_hgg, ~is_hgg)]
        for reduce, fill in ((np.min, np.inf), (np.max, -np.inf))
    )
    return (lowest[0] < highest[1]) & (lowest[1] < highest[0])
