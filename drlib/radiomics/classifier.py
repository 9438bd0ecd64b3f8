"""The classifiers of the grade (Eq. 6), and their saved form: a row of coefficients that another lab can read and apply."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from drlib.artifacts import write_json
from drlib.errors import DeepRadiomicsError
from drlib.radiomics.responsible import ResponsibleSettings, choose_codewords
from drlib.radiomics.statistics import check_grades, fit_logistic
from drlib.seeds import derive_seed

Kind = Literal["raw-counts", "counts", "responsible", "features", "majority"]
LOGARITHMIC = ("counts", "responsible")  # kinds that look at log(1 + feature)

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # C, the inverse strength of the L2 penalty
SIZES = (16, None)  # columns kept; None: all
INNER_FOLDS = 3
HALVES_IN_FOLD = 50  # of the patients of a fold; half as many as for the cohort, because there are fifty folds


class GradingError(DeepRadiomicsError):
    """Patients cannot be divided into folds, or a classifier does not fit the counts it is given."""


class LinearClassifier(ClassifierMixin, BaseEstimator):
    """What any fitted logistic regression says of new patients, from ``coef_`` (one per column), ``intercept_`` and ``classes_``."""

    def decision_function(self, columns: np.ndarray) -> np.ndarray:
        """Return the log odds of the second class."""
        return columns @ self.coef_ + self.intercept_

    def predict_proba(self, columns: np.ndarray) -> np.ndarray:
        """Return (patients, 2) probabilities."""
        probability = expit(self.decision_function(columns))
        return np.column_stack([1 - probability, probability])

    def predict(self, columns: np.ndarray) -> np.ndarray:
        """Return the more probable class."""
        return self.classes_[(self.decision_function(columns) > 0).astype(int)]


class NestedLogistic(LinearClassifier):
    """L2 logistic regression of standardised columns, which chooses how many columns and how strong a penalty by itself.

    Standardisation, ranking of the columns (by the difference of the two class means) and fit are repeated in each of three inner
    folds for every size and penalty; the pair of the highest held-out log-likelihood is fitted to all. After ``fit``: ``coef_``
    (one per column, 0 where left out) and ``intercept_`` in the units of the columns, ``size_`` and ``penalty_``.

    Source: ours. With more codewords than patients, and most codewords showing healthy brain, an L2 penalty on all of them is
    weaker than on the best few; where the grade shows in many codewords the larger size is chosen.
    """

    def __init__(self, sizes: tuple[int | None, ...] = SIZES, penalties: tuple[float, ...] = PENALTIES, seed: int = 0):
        self.sizes, self.penalties, self.seed = sizes, penalties, seed

    def fit(self, columns: np.ndarray, classes: np.ndarray) -> "NestedLogistic":
        """Fit to (patients, columns) and their two classes."""
        self.classes_ = np.unique(classes)
        positive = classes == self.classes_[1]
        self.size_, self.penalty_ = self._choose(columns, positive)
        self.coef_, self.intercept_ = next(_fit_path(columns, positive, self.size_, [self.penalty_]))
        return self

    def _choose(self, columns: np.ndarray, positive: np.ndarray) -> tuple[int | None, float]:
        losses = np.zeros((len(self.sizes), len(self.penalties)))
        inner = StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=self.seed % 2**32)
        for training, held_out in inner.split(columns, positive):
            for row, size in enumerate(self.sizes):
                for column, (weights, constant) in enumerate(_fit_path(columns[training], positive[training], size, self.penalties)):
                    log_odds = columns[held_out] @ weights + constant
                    losses[row, column] += np.logaddexp(0, np.where(positive[held_out], -log_odds, log_odds)).sum()
        row, column = np.unravel_index(losses.argmin(), losses.shape)
        return self.sizes[row], self.penalties[column]


class ResponsibleLogistic(LinearClassifier):
    """Eq. 6 by the letter: K* is chosen among the columns, log(1 + count), and logistic regression without a penalty fitted to K* alone.

    K* are the codewords that the patients fitted to would call responsible, found in 50 halves of them; where there are none, only
    the constant is left and every patient gets the share of the second class. After ``fit``: ``coef_`` (0 outside K*),
    ``intercept_`` and ``likelihood_`` (``maximum``, or ``firth`` where K* separates the classes).

    Source: paper, Eq. 6 and "Identification of responsible vectors"; stability selection and Firth's likelihood are ours.
    """

    def __init__(self, halves: int = HALVES_IN_FOLD, seed: int = 0):
        self.halves, self.seed = halves, seed

    def fit(self, columns: np.ndarray, classes: np.ndarray) -> "ResponsibleLogistic":
        """Fit to (patients, columns) and their two classes, of which the second is HGG."""
        self.classes_ = np.unique(classes)
        is_hgg = classes == self.classes_[1]
        counts, grades = pd.DataFrame(np.rint(np.expm1(columns))), pd.Series(np.where(is_hgg, "HGG", "LGG"))
        chosen = choose_codewords(counts, grades, ResponsibleSettings(halves=self.halves), self.seed)
        self.coef_ = np.zeros(columns.shape[1])
        self.coef_[chosen], self.intercept_, self.likelihood_ = fit_logistic(columns[:, chosen], is_hgg)
        return self


def _fit_path(
    columns: np.ndarray, positive: np.ndarray, size: int | None, penalties: tuple[float, ...] | list[float]
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield coefficients and intercept, in the units of the columns, for each penalty."""
    centre, scale = columns.mean(axis=0), columns.std(axis=0)
    varies = np.flatnonzero(scale > 1e-12)
    standard = (columns[:, varies] - centre[varies]) / scale[varies]
    difference = np.abs(standard[positive].mean(axis=0) - standard[~positive].mean(axis=0))
    ranked = np.argsort(-difference, kind="stable")[:size]
    kept, standard = varies[ranked], standard[:, ranked]
    rotation = None
    if standard.shape[1] > len(standard):  # a rotation, which an L2 penalty does not notice: n columns are enough
        rotation = np.linalg.svd(standard, full_matrices=False)[2].T
        standard = standard @ rotation
    fitted = np.zeros(standard.shape[1] + 1)
    for penalty in penalties:
        fitted = fit_ridge(standard, positive, penalty, fitted)
        weights = np.zeros(columns.shape[1])
        weights[kept] = (fitted[:-1] if rotation is None else rotation @ fitted[:-1]) / scale[kept]
        yield weights, float(fitted[-1] - weights @ centre)


def fit_ridge(columns: np.ndarray, positive: np.ndarray, penalty: float, start: np.ndarray) -> np.ndarray:
    """Return coefficients and, last, the intercept of L2 logistic regression with C = ``penalty``, by Newton's method from ``start``.

    Source: ours. The result is scikit-learn's; for the thousands of small fits of nested folds and permutations its checks of the
    input cost ten times the arithmetic.
    """
    design = np.column_stack([columns, np.ones(len(columns))])
    ridge = np.append(np.full(columns.shape[1], 1 / penalty), 1e-10)  # the intercept goes free
    fitted = start
    for _ in range(100):
        probability = expit(design @ fitted)
        curvature = (design.T * (probability * (1 - probability))) @ design
        step = np.linalg.solve(curvature + np.diag(ridge), design.T @ (probability - positive) + ridge * fitted)
        fitted = fitted - step * min(1.0, 5 / max(np.abs(design @ step).max(), 1e-300))  # no log odds moves by more than 5
        if np.abs(step).max() < 1e-8:
            return fitted
    warnings.warn("logistic regression did not converge in 100 Newton steps", ConvergenceWarning, stacklevel=2)
    return fitted


def classifier(kind: Kind, seed: int = 0) -> Pipeline:
    """Return an unfitted pipeline; its class 1 is HGG.

    ``raw-counts``: the paper's, counts as they are and L2 with C = 1. ``counts``: log(1 + count), then NestedLogistic.
    ``responsible``: log(1 + count), then ResponsibleLogistic. ``features``: NestedLogistic on all columns as they are, for a few
    features such as log-volumes. ``majority``: always the commoner grade.

    Source: paper, Eq. 6; ``counts`` and ``responsible`` are ours (counts span four decades, and their logarithm is what log-volumes are
    to volumes).
    """
    if kind == "majority":
        return Pipeline([("logistic", DummyClassifier(strategy="prior"))])
    if kind == "raw-counts":
        rotate = PCA(svd_solver="full")  # an L2 penalty does not notice a rotation, and n columns are enough for n patients
        return Pipeline([("rotate", rotate), ("logistic", LogisticRegression(C=1.0, solver="newton-cholesky", max_iter=1000))])
    if kind == "features":
        return Pipeline([("logistic", NestedLogistic(sizes=(None,), seed=seed))])
    logistic = ResponsibleLogistic(seed=seed) if kind == "responsible" else NestedLogistic(seed=seed)
    return Pipeline([("log", FunctionTransformer(np.log1p)), ("logistic", logistic)])


@dataclass(frozen=True)
class GradeClassifier:
    """A fitted classifier as plain numbers: logit P(HGG) = intercept + sum of coefficient x feature, or x log(1 + feature).

    ``transform`` says which. ``codebook`` is the hash of the network that made the counts (None for features no network made).
    ``size`` and ``penalty``: columns kept and C, as chosen.
    """

    kind: Kind
    features: tuple[str, ...]
    transform: Literal["none", "log1p"]
    coefficients: tuple[float, ...]
    intercept: float
    size: int | None
    penalty: float
    classes: tuple[str, str]
    codebook: str | None
    n_patients: int


def fit_classifier(
    features: pd.DataFrame, grades: pd.Series, kind: Kind = "counts", seed: int = 0, codebook: str | None = None
) -> GradeClassifier:
    """Fit the classifier to all patients, for patients to come; its worth is what ``cross_validate`` says, never its own fit.

    ``codebook``: the hash of the network that made the counts (``CodewordCounts.codebook``). Raises StatisticsError for patients
    without a grade.
    """
    grades = check_grades(features, grades)
    if kind == "majority":
        raise GradingError("the majority answer has no coefficients to save")
    model = classifier(kind, derive_seed(seed, "inner", "all")).fit(features.to_numpy(dtype=float), (grades == "HGG").to_numpy())
    linear = model[1:] if kind in LOGARITHMIC else model
    constant = linear.decision_function(np.zeros((1, features.shape[1])))[0]
    logistic = model.named_steps["logistic"]
    return GradeClassifier(
        kind=kind,
        features=tuple(map(str, features.columns)),
        transform="log1p" if kind in LOGARITHMIC else "none",
        coefficients=tuple((linear.decision_function(np.eye(features.shape[1])) - constant).tolist()),
        intercept=float(constant),
        size=getattr(logistic, "size_", None),
        penalty=float(getattr(logistic, "penalty_", 1.0)),
        classes=("LGG", "HGG"),
        codebook=codebook,
        n_patients=len(features),
    )


def save_classifier(path: Path, fitted: GradeClassifier) -> Path:
    """Write ``fitted`` as JSON."""
    return write_json(Path(path), asdict(fitted))


def load_classifier(path: Path) -> GradeClassifier:
    """Read what ``save_classifier`` wrote. Raises GradingError where the file is not such a classifier."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        fitted = GradeClassifier(**{name: tuple(value) if isinstance(value, list) else value for name, value in content.items()})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise GradingError(f"{path} is not a saved grade classifier: {error}") from error
    if len(fitted.features) != len(fitted.coefficients):
        raise GradingError(f"{path} is damaged: it has {len(fitted.features)} features but {len(fitted.coefficients)} coefficients")
    return fitted


def predict_hgg(fitted: GradeClassifier, features: pd.DataFrame, codebook: str | None = None) -> pd.Series:
    """Return P(HGG) of every row of ``features`` (columns in any order, named as fitted).

    Raises GradingError where columns are missing or unknown, or the counts were made with another network than the classifier's.
    """
    if fitted.codebook is not None and codebook != fitted.codebook:
        raise GradingError(
            f"the classifier was fitted to counts of codebook {fitted.codebook}, these are of {codebook}: codeword numbers mean other "
            "things there; count again with the classifier's own model, or fit a classifier to these counts"
        )
    named = features.set_axis(features.columns.map(str), axis=1)
    if set(named.columns) != set(fitted.features):
        raise GradingError(f"the classifier needs the {len(fitted.features)} columns {fitted.features[0]}, ...; the table has other ones")
    values = named[list(fitted.features)].to_numpy(dtype=float)
    values = np.log1p(values) if fitted.transform == "log1p" else values
    return pd.Series(expit(values @ np.array(fitted.coefficients) + fitted.intercept), index=features.index, name="p_hgg")
