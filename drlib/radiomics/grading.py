"""Grading (Eq. 6): logistic regression of the grade on codeword counts, judged only on patients it was not fitted to.

Two protocols. ``paper``: raw counts, L2 with C = 1, one unstratified five-fold split. ``ours``: repeated stratified folds, and
everything that is chosen or estimated (how many and which codewords, centre, scale, penalty) inside the training patients.
Any table of features can be put in the place of the counts, and folds depend on the patients' grades and the seed alone, so that
models can be compared on the same folds.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import joblib
import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from drlib.profiles import GradingSettings
from drlib.radiomics.calibration import CALIBRATION, calibration_metrics, net_benefit
from drlib.radiomics.classifier import (
    GradeClassifier,
    GradingError,
    Kind,
    LinearClassifier,
    classifier,
    fit_classifier,
    load_classifier,
    predict_hgg,
    save_classifier,
)
from drlib.radiomics.statistics import bootstrap_weights, check_grades, corrected_resampled_interval, percentile_interval
from drlib.seeds import derive_seed, generator

__all__ = [
    "CALIBRATION",
    "METRICS",
    "GradeClassifier",
    "GradingError",
    "GradingResult",
    "classifier",
    "compare_models",
    "cross_validate",
    "decision_curve",
    "draw_folds",
    "enhancing_share",
    "fit_classifier",
    "fold_classifiers",
    "grading_metrics",
    "load_classifier",
    "predict_hgg",
    "save_classifier",
    "volume_features",
]

Protocol = Literal["paper", "ours"]

RATES = ("sensitivity", "specificity", "ppv", "npv")
METRICS = ("accuracy", "balanced_accuracy", "auc", "brier", *(f"{rate}_{grade}" for grade in ("HGG", "LGG") for rate in RATES))


@dataclass(frozen=True)
class GradingResult:
    """What a classifier says of patients it was not fitted to.

    ``probabilities``: P(HGG) out of fold, a row per patient, a column per repeat. ``folds``: the fold of each patient, same shape.
    ``per_fold``: a row per repeat and fold: n and the METRICS; ``sensitivity_LGG`` is the sensitivity with LGG as the positive class.
    ``summary``: a row per metric, METRICS and CALIBRATION: ``mean`` and ``sd`` over folds (the paper's way) with the corrected
    resampled interval ``resampled_low``..``resampled_high`` of the mean, ``estimate`` on all out-of-fold probabilities (averaged over
    repeats) and its interval ``low``..``high``, a bootstrap over patients within each grade. CALIBRATION has no values per fold: a
    fold is too small for a slope.
    ``permutation_p``: how often the AUC of the same procedure on shuffled grades reaches that of the first repeat (None: not asked).
    ``chosen``: share of all fitted classifiers in which a column has a coefficient (None for classifiers that choose none).
    ``converged``: whether every fit reached its tolerance.

    Caveat: the bootstrap covers the draw of the graded patients, the corrected resampled interval that of the training patients too.
    """

    protocol: Protocol
    kind: Kind
    grades: pd.Series
    probabilities: pd.DataFrame
    folds: pd.DataFrame
    per_fold: pd.DataFrame
    summary: pd.DataFrame
    permutation_p: float | None
    chosen: pd.Series | None
    converged: bool


def cross_validate(
    features: pd.DataFrame,
    grades: pd.Series,
    settings: GradingSettings,
    seed: int = 0,
    protocol: Protocol = "ours",
    kind: Kind | None = None,
    n_jobs: int = 1,
) -> GradingResult:
    """Grade every patient of ``features`` (patients x codewords, or other columns) by classifiers fitted to other patients.

    ``grades`` may hold more patients; those of ``features`` are graded. ``kind`` is the classifier (None: ``raw-counts`` for the protocol
    ``paper``, ``counts`` for ``ours``); give ``responsible`` for Eq. 6 on K* alone, ``features`` for a table of volumes and
    ``majority`` for the answer that looks at nothing. The protocol ``paper`` has one repeat. ``n_jobs``: processes that share the
    permutations.

    Raises StatisticsError for patients without a grade and GradingError where a grade has fewer patients than there are folds.

    Source: paper, "Classification accuracy" (five folds, metrics as mean +- sd). Repeats, stratification, nested choice of the
    penalty, intervals and permutations are ours. The published precision and recall have LGG as the positive class
    (METRICS ending in ``_LGG``), though the text says HGG.
    """
    grades = check_grades(features, grades)
    kind = kind or ("raw-counts" if protocol == "paper" else "counts")
    values, is_hgg = features.to_numpy(dtype=float), (grades == "HGG").to_numpy()
    repeats = 1 if protocol == "paper" else settings.repeats
    folds = np.array([draw_folds(is_hgg, settings.folds, derive_seed(seed, "folds", r), protocol) for r in range(repeats)]).T
    runs = [_out_of_fold(values, is_hgg, folds[:, r], kind, seed) for r in range(repeats)]
    probabilities = np.array([run[0] for run in runs]).T
    return GradingResult(
        protocol=protocol,
        kind=kind,
        grades=grades.rename("grade"),
        probabilities=pd.DataFrame(probabilities, index=features.index),
        folds=pd.DataFrame(folds, index=features.index),
        per_fold=_per_fold(probabilities, is_hgg, folds),
        summary=_summary(probabilities, is_hgg, folds, generator(seed, "bootstrap")),
        permutation_p=_permutation_p(
            values, is_hgg, _auc(probabilities[:, 0], is_hgg, folds[:, 0]), kind, settings, seed, protocol, n_jobs
        ),
        chosen=_chosen([weights for run in runs for weights in run[2]], features.columns),
        converged=all(run[1] for run in runs),
    )


def draw_folds(is_hgg: np.ndarray, n_folds: int, seed: int, protocol: Protocol = "ours") -> np.ndarray:
    """Return the fold (0..n_folds-1) of each patient: stratified by grade (``ours``) or plainly shuffled (``paper``).

    Raises GradingError where a grade has fewer patients than folds, or a training part would hold one grade only.
    """
    counts = {"HGG": int(is_hgg.sum()), "LGG": int((~is_hgg).sum())}
    scarce = min(counts, key=counts.get)
    if counts[scarce] < n_folds:
        raise GradingError(f"{counts[scarce]} {scarce} patients cannot be spread over {n_folds} folds; grade more, or set fewer folds")
    splitter = (StratifiedKFold if protocol == "ours" else KFold)(n_folds, shuffle=True, random_state=seed % 2**32)
    folds = np.empty(len(is_hgg), dtype=np.int64)
    for fold, (training, held_out) in enumerate(splitter.split(is_hgg, is_hgg)):
        folds[held_out] = fold
        if len(set(is_hgg[training])) < 2:
            raise GradingError(f"all {scarce} patients fell into fold {fold}; use the stratified protocol or another seed")
    return folds


def volume_features(volumes: pd.DataFrame) -> pd.DataFrame:
    """Return log(1 + volume), the columns of a volume baseline; ``volumes`` in cm3, true or predicted, a row per patient.

    Source: ours. The paper has no baseline; on real gliomas three log-volumes reach its accuracy (see the errata).
    """
    if (volumes.to_numpy() < 0).any():
        raise GradingError("a volume is negative")
    return np.log1p(volumes).add_prefix("log_volume_")


def enhancing_share(volumes: pd.DataFrame) -> pd.DataFrame:
    """Return ET / TC, the enhancing share of the tumour core (0 to 1), of ``volumes`` (NET and ET in cm3); 0 where there is no core.

    A tumour without a core has nothing that enhances, which is what a share of 0 says of a tumour that has one.

    Source: ours; the one number a radiologist looks at first.
    """
    if (volumes[["NET", "ET"]].to_numpy() < 0).any():
        raise GradingError("a volume is negative")
    core = volumes["NET"] + volumes["ET"]
    return (volumes["ET"] / core.mask(core == 0, 1)).to_frame("enhancing_share")


def compare_models(results: Mapping[str, GradingResult], reference: str, seed: int = 0, metrics: tuple[str, ...] = METRICS) -> pd.DataFrame:
    """Compare models on the same patients: a row per model and metric with the difference to ``reference`` and its paired interval.

    ``metrics`` may name CALIBRATION too. The bootstrap draws the same patients for both models. Raises GradingError where the models
    graded different patients.
    """
    base, rows = results[reference], []
    is_hgg = (base.grades == "HGG").to_numpy()
    weights = bootstrap_weights(is_hgg, generator(seed, "bootstrap"))
    theirs = _pooled(base.probabilities.to_numpy(), is_hgg, base.folds.to_numpy(), weights, metrics)
    for name, result in results.items():
        if not result.grades.equals(base.grades):
            raise GradingError(f"{name} and {reference} graded different patients; a paired comparison needs the same")
        ours = _pooled(result.probabilities.to_numpy(), is_hgg, result.folds.to_numpy(), weights, metrics)
        for metric in metrics:
            interval = percentile_interval(ours[metric] - theirs[metric])
            rows.append({"model": name, "metric": metric, "difference": interval.estimate, "low": interval.low, "high": interval.high})
    return pd.DataFrame(rows)


def decision_curve(result: GradingResult, thresholds: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Return a row per positive grade and threshold: ``net_benefit`` of the model, ``low`` and ``high`` (95 %, bootstrap over
    patients within each grade), and ``everybody``, the net benefit of calling every patient positive.

    See :func:`drlib.radiomics.calibration.net_benefit`. Caveat: the share of HGG is that of the cohort, in the draws too; where the
    grades were sampled apart it is not that of a clinic, and neither is the benefit.

    Source: ours.
    """
    is_hgg, probabilities = (result.grades == "HGG").to_numpy(), result.probabilities.to_numpy()
    weights, tables = bootstrap_weights(is_hgg, generator(seed, "bootstrap")), []
    for positive in ("HGG", "LGG"):
        draws = net_benefit(probabilities, is_hgg, thresholds, weights, positive)
        everybody = net_benefit(np.full((len(is_hgg), 1), float(positive == "HGG")), is_hgg, thresholds, positive=positive)[0]
        low, high = np.quantile(draws[1:], [0.025, 0.975], axis=0)
        columns = {"positive": positive, "threshold": thresholds, "net_benefit": draws[0], "low": low, "high": high}
        tables.append(pd.DataFrame(columns | {"everybody": everybody}))
    return pd.concat(tables, ignore_index=True)


def grading_metrics(
    probabilities: np.ndarray, is_hgg: np.ndarray, folds: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return the METRICS of P(HGG) ``probabilities`` (patients, repeats), averaged over repeats, one value per row of ``weights``.

    ``weights`` (draws, patients): how often a patient is in a draw (None: each once). A probability above .5 is called HGG. NaN
    where a metric does not exist (no patient of a grade; nobody called positive).

    The AUC compares an HGG with an LGG patient of the same fold (``folds``, same shape) only: two folds have two classifiers, and
    pooling their probabilities pulls the AUC of an uninformative one below .5.
    """
    weights = np.ones((1, len(is_hgg))) if weights is None else weights
    hgg, lgg = weights[:, is_hgg], weights[:, ~is_hgg]
    called = (probabilities > 0.5).astype(float)
    tp, fp = hgg @ called[is_hgg], lgg @ called[~is_hgg]  # (draws, repeats), HGG positive
    fn, tn = hgg @ (1 - called[is_hgg]), lgg @ (1 - called[~is_hgg])
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, specificity, ppv, npv = tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)
        metrics = {
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "auc": _weighted_auc(probabilities, is_hgg, folds, hgg, lgg)[:, None],
            "brier": weights @ (probabilities - is_hgg[:, None]) ** 2 / weights.sum(axis=1, keepdims=True),
            **dict(zip([f"{rate}_HGG" for rate in RATES], (sensitivity, specificity, ppv, npv), strict=True)),
            **dict(zip([f"{rate}_LGG" for rate in RATES], (specificity, sensitivity, npv, ppv), strict=True)),
        }
    return {metric: values.mean(axis=1) for metric, values in metrics.items()}


def _weighted_auc(probabilities: np.ndarray, is_hgg: np.ndarray, folds: np.ndarray, hgg: np.ndarray, lgg: np.ndarray) -> np.ndarray:
    wins, pairs = np.zeros((2, hgg.shape[1], lgg.shape[1]))  # how often this HGG patient is above, and beside, that LGG patient
    for repeat in range(probabilities.shape[1]):
        same = folds[is_hgg, repeat, None] == folds[None, ~is_hgg, repeat]
        difference = probabilities[is_hgg, repeat, None] - probabilities[None, ~is_hgg, repeat]
        wins += same * ((difference > 0) + 0.5 * (difference == 0))
        pairs += same
    won, met = (((hgg @ matrix) * lgg).sum(axis=1) for matrix in (wins, pairs))
    return won / met


def _pooled(
    probabilities: np.ndarray, is_hgg: np.ndarray, folds: np.ndarray, weights: np.ndarray, metrics: tuple[str, ...]
) -> dict[str, np.ndarray]:
    found = grading_metrics(probabilities, is_hgg, folds, weights)
    return found | calibration_metrics(probabilities, is_hgg, folds, weights) if set(metrics) & set(CALIBRATION) else found


def _out_of_fold(
    values: np.ndarray, is_hgg: np.ndarray, folds: np.ndarray, kind: Kind, seed: int
) -> tuple[np.ndarray, bool, list[np.ndarray | None]]:
    """Return P(HGG) of each patient, whether all fits converged, and the coefficients of each (None: not one per column)."""
    probabilities, converged, coefficients = np.full(len(is_hgg), np.nan), True, []
    for held_out, model, fitted in fold_classifiers(values, is_hgg, folds, kind, seed):
        probabilities[held_out] = model.predict_proba(values[held_out])[:, 1]
        converged &= fitted
        logistic = model.named_steps["logistic"]
        coefficients.append(logistic.coef_ if isinstance(logistic, LinearClassifier) else None)
    return probabilities, converged, coefficients


def _chosen(coefficients: list[np.ndarray | None], columns: pd.Index) -> pd.Series | None:
    if any(weights is None for weights in coefficients):
        return None
    return pd.Series((np.array(coefficients) != 0).mean(axis=0), index=columns, name="chosen_share")


def fold_classifiers(
    values: np.ndarray, is_hgg: np.ndarray, folds: np.ndarray, kind: Kind, seed: int
) -> Iterator[tuple[np.ndarray, Pipeline, bool]]:
    """Yield, per fold, who is held out (boolean), the classifier fitted to all others, and whether the fit converged."""
    with threadpool_limits(1):  # matrices too small to share; once for all folds, because looking for thread pools takes its time
        for fold in np.unique(folds):
            held_out = folds == fold
            model = classifier(kind, derive_seed(seed, "inner", int(fold)))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                model.fit(values[~held_out], is_hgg[~held_out])
            yield held_out, model, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def _per_fold(probabilities: np.ndarray, is_hgg: np.ndarray, folds: np.ndarray) -> pd.DataFrame:
    rows = []
    for repeat in range(folds.shape[1]):
        for fold in np.unique(folds[:, repeat]):
            chosen = folds[:, repeat] == fold
            metrics = grading_metrics(probabilities[chosen][:, [repeat]], is_hgg[chosen], folds[chosen][:, [repeat]])
            rows.append({"repeat": repeat, "fold": int(fold), "n": int(chosen.sum())} | {k: float(v[0]) for k, v in metrics.items()})
    return pd.DataFrame(rows)


def _summary(probabilities: np.ndarray, is_hgg: np.ndarray, folds: np.ndarray, random: np.random.Generator) -> pd.DataFrame:
    per_fold = _per_fold(probabilities, is_hgg, folds)
    pooled = _pooled(probabilities, is_hgg, folds, bootstrap_weights(is_hgg, random), (*METRICS, *CALIBRATION))
    rows = {}
    for metric, draws in pooled.items():
        interval = percentile_interval(draws)
        row = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
        rows[metric] = row | (_over_folds(per_fold, metric) if metric in METRICS else {})
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")


def _over_folds(per_fold: pd.DataFrame, metric: str) -> dict[str, float]:
    spread = per_fold.groupby("repeat")[metric].std().mean()  # over the folds of a repeat, as the paper gives it
    mean = corrected_resampled_interval(per_fold[metric].to_numpy(), 1 / per_fold["fold"].nunique())
    return {"mean": mean.estimate, "sd": spread, "resampled_low": mean.low, "resampled_high": mean.high}


def _permutation_p(
    values: np.ndarray,
    is_hgg: np.ndarray,
    observed_auc: float,
    kind: Kind,
    settings: GradingSettings,
    seed: int,
    protocol: Protocol,
    n_jobs: int,
) -> float | None:
    if not settings.permutations or kind == "majority":
        return None

    def shuffled_auc(number: int) -> float:
        shuffled = generator(seed, "permutation", number).permutation(is_hgg)
        folds = draw_folds(shuffled, settings.folds, derive_seed(seed, "permutation folds", number), protocol)
        return _auc(_out_of_fold(values, shuffled, folds, kind, seed)[0], shuffled, folds)

    null = joblib.Parallel(n_jobs=n_jobs)(joblib.delayed(shuffled_auc)(number) for number in range(settings.permutations))
    return float((1 + np.sum(np.array(null) >= observed_auc)) / (1 + settings.permutations))


def _auc(probabilities: np.ndarray, is_hgg: np.ndarray, folds: np.ndarray) -> float:
    return float(grading_metrics(probabilities[:, None], is_hgg, folds[:, None])["auc"][0])
