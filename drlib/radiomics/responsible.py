"""Responsible codewords: the few whose count tells the grade, and which grade each speaks for.

The paper tests all 512 codewords in one logistic model, which is undefined with 335 patients (the grades are separable, both
likelihoods are 1). Here K*, the set of Eq. 6, is chosen before it is tested, and on other patients.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata
from sklearn.linear_model import lars_path
from sklearn.model_selection import StratifiedShuffleSplit
from threadpoolctl import threadpool_limits

from drlib.radiomics.statistics import (
    StatisticsError,
    benjamini_hochberg,
    check_grades,
    combine_split_p,
    effect_likelihood_ratio,
    independent_columns,
    likelihood_ratio_tests,
    rank_sum,
)
from drlib.seeds import derive_seed


@dataclass(frozen=True)
class ResponsibleSettings:
    """How responsible codewords are found.

    ``procedure``: ``stability`` (ours) or ``paper``. ``halves``: random halves of the cohort, drawn as complementary pairs.
    ``selected_share``: a codeword is stable if at least this share of the halves selects it. ``alpha``: level of every test.
    ``patients_per_codeword``: a screening may select one codeword for so many patients of the cohort's rarer grade (two at least).
    ``present_share``: share of patients in which a codeword must occur, and must differ from its median, to be tested.
    ``duplicate_correlation``: absolute rank correlation above which codewords count as one, represented by the most common.
    """

    procedure: Literal["stability", "paper"] = "stability"
    halves: int = 100
    selected_share: float = 0.5
    alpha: float = 0.05
    patients_per_codeword: float = 7.0
    present_share: float = 0.1
    duplicate_correlation: float = 0.95


DEFAULT = ResponsibleSettings()


def find_responsible(
    counts: pd.DataFrame,
    grades: pd.Series,
    settings: ResponsibleSettings = DEFAULT,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a row per codeword (column of ``counts``) with what speaks for it, and ``responsible``.

    ``mean_LGG``, ``mean_HGG``: mean counts. ``rank_p``, ``auc`` (``_low``, ``_high``), ``q``: rank-sum test, P(more in HGG) with its
    interval, Benjamini-Hochberg over the codewords tested. ``lr_alone``, ``lr_alone_p``: likelihood-ratio test of log(1 + count)
    without any other codeword. ``direction``: the grade that has more of it by rank. ``selected_share``: share of halves whose
    screening selects it. ``coefficient`` (log odds of HGG per standard deviation of log(1 + count)), ``lr_statistic``: of the effect
    likelihood-ratio test, medians over the halves that selected it; ``lr_p``: its p combined over all halves and adjusted for all
    codewords. ``model_coefficient``, ``model_lr_statistic``, ``model_lr_p``, ``likelihood``: the effect likelihood-ratio test as the
    paper has it, in the model of the responsible codewords fitted to all patients, the ones that chose them too: **its p is too
    small**, for the selection is not paid for. ``group``: the codeword that represents it. NaN, 1 or 0 for what was not tested or
    selected.

    With ``procedure="stability"`` a codeword is **responsible** if at least half of the halves select it *and* q < .05. Why these
    two: the screening is a multivariable choice (a codeword that only repeats another is not made), as K* in Eq. 6 is meant to be,
    and its frequency over halves says whether another cohort would make the same choice; q guards against chance, because in a
    cohort without any signal the probability of even one q < .05 is at most .05, whatever the screening does (tested by
    simulation). The likelihood-ratio p on the halves that did not choose is reported beside it, not required: it controls the
    probability of one false codeword among all (Meinshausen et al. 2009) and has little power with 40 LGG patients. Where it is
    small too, the evidence is as strong as it gets.

    ``procedure="paper"`` screens, tests and ranks on the same patients: LR p < .05 and rank-sum p < .05, as close to the text as is
    defined. **Its p-values are too small** (selection is not paid for); it is here to be compared with. ``lr_p`` is then the plain
    p in the selected model.

    Source: paper, "Identification of responsible vectors" and Eq. 6; sample splitting, stability and q are ours
    (Meinshausen and Buehlmann 2010; Shah and Samworth 2013).
    """
    grades = check_grades(counts, grades)
    if not isinstance(settings, ResponsibleSettings):
        raise StatisticsError(f"settings are ResponsibleSettings, not {type(settings).__name__}")
    table = pd.DataFrame({f"mean_{grade}": counts[(grades == grade).to_numpy()].mean() for grade in ("LGG", "HGG")})
    alone = likelihood_ratio_tests(np.log1p(counts.astype(float)), grades)
    table = table.join(rank_sum(counts, grades)).assign(lr_alone=alone["lr_statistic"], lr_alone_p=alone["lr_p"])
    group = _groups(counts, settings)
    representatives = group.index[group == group.index]
    table["group"] = group.reindex(table.index)
    table["q"] = benjamini_hochberg(table["rank_p"].where(table.index.isin(representatives)))
    more = np.where(table["auc"] == 0.5, table["mean_HGG"] - table["mean_LGG"], table["auc"] - 0.5)
    table["direction"] = np.where(more > 0, "HGG", "LGG")
    find = _by_stability if settings.procedure == "stability" else _by_one_model
    with threadpool_limits(1):  # many small models
        found = find(np.log1p(counts[representatives].astype(float)), grades, settings, seed)
    table = table.join(found).fillna({"selected_share": 0.0, "lr_p": 1.0})
    if settings.procedure == "stability":
        table["responsible"] = (table["selected_share"] >= settings.selected_share) & (table["q"] < settings.alpha)
    else:
        table["responsible"] = (table["lr_p"] < settings.alpha) & (table["rank_p"] < settings.alpha)
    return table.join(_model_of_all(np.log1p(counts.loc[:, table["responsible"]].astype(float)), grades)).rename_axis("codeword")


def choose_codewords(counts: pd.DataFrame, grades: pd.Series, settings: ResponsibleSettings = DEFAULT, seed: int = 0) -> list:
    """Return the responsible codewords of ``find_responsible`` (``procedure="stability"``) without its tests: K* of Eq. 6.

    It is quick enough to be done again in every fold. Empty where a half would have fewer than three patients of a grade.
    """
    grades = check_grades(counts, grades)
    is_hgg = (grades == "HGG").to_numpy()
    if min(is_hgg.sum(), (~is_hgg).sum()) < 6:
        return []
    group = _groups(counts, settings)
    representatives = group.index[group == group.index]
    q = benjamini_hochberg(rank_sum(counts[representatives], grades)["rank_p"])
    logs, selected = np.log1p(counts[representatives].to_numpy(dtype=float)), np.zeros(len(representatives))
    with threadpool_limits(1):
        for screened, _ in split_halves(is_hgg, settings.halves, derive_seed(seed, "halves")):
            selected[screen(logs[screened], is_hgg[screened], _n_selectable(is_hgg, settings))] += 1
    stable = selected / (2 * (settings.halves // 2)) >= settings.selected_share
    return list(representatives[stable & (q < settings.alpha).to_numpy()])


def responsible_by_grade(table: pd.DataFrame, at_least: int = 0) -> dict[str, list[int]]:
    """Return the responsible codewords of each grade, the clearest (largest distance of the AUC from .5) first.

    ``at_least``: where a grade has fewer, add its most often selected codewords, so that a small cohort has something to ablate.
    Those are leading, not responsible, and must be called so.
    """
    chosen = {}
    for grade in ("LGG", "HGG"):
        own = table[table["direction"] == grade].assign(distance=(table["auc"] - 0.5).abs())
        clearest = own[own["responsible"]].sort_values("distance", ascending=False, kind="stable").index
        others = (
            own[~own["responsible"] & own["q"].notna()].sort_values(["selected_share", "distance"], ascending=False, kind="stable").index
        )
        chosen[grade] = [int(k) for k in [*clearest, *others[: max(0, at_least - len(clearest))]]]
    return chosen


def is_testable(counts: pd.DataFrame, settings: ResponsibleSettings) -> np.ndarray:
    """Return which codewords occur in enough patients, and vary in enough; the grades are not looked at."""
    least = settings.present_share * len(counts)
    present = (counts > 0).sum()
    away_from_usual = (counts != counts.median()).sum()
    return ((present >= least) & (away_from_usual >= least)).to_numpy()


def _groups(counts: pd.DataFrame, settings: ResponsibleSettings) -> pd.Series:
    return represent_duplicates(counts.loc[:, is_testable(counts, settings)], settings.duplicate_correlation)


def represent_duplicates(counts: pd.DataFrame, correlation: float) -> pd.Series:
    """Return for each column the column that stands for it: itself, or the most common one of its group.

    All members of a group are rank-correlated with one another by more than ``correlation`` in absolute value.
    """
    if counts.shape[1] < 2:
        return pd.Series(counts.columns, index=counts.columns)
    ranks = rankdata(counts.to_numpy(float), axis=0)
    distance = 1 - np.abs(np.corrcoef(ranks, rowvar=False))
    tree = linkage(squareform(np.clip(distance, 0, None), checks=False), method="complete")
    members = pd.Series(fcluster(tree, 1 - correlation, criterion="distance"), index=counts.columns)
    commonest = counts.sum().groupby(members).idxmax()
    return members.map(commonest)


def screen(logs: np.ndarray, is_hgg: np.ndarray, most: int) -> np.ndarray:
    """Return at most ``most`` columns: the first to enter the lasso path of the grade on the standardised columns.

    The squared loss stands in for the logistic: at the start of the path their gradients are the same, and the path is exact.
    """
    varies = np.flatnonzero(np.ptp(logs, axis=0) > 0)  # the deviation of a constant may be a rounding error
    if not len(varies):
        return varies
    standard = (logs[:, varies] - logs[:, varies].mean(axis=0)) / logs[:, varies].std(axis=0)
    coefficients = lars_path(standard, is_hgg - is_hgg.mean(), method="lasso", max_iter=most)[2]
    return varies[np.flatnonzero(coefficients[:, -1])]


def _n_selectable(is_hgg: np.ndarray, settings: ResponsibleSettings) -> int:
    return max(2, int(min(is_hgg.sum(), (~is_hgg).sum()) / settings.patients_per_codeword))


def split_halves(is_hgg: np.ndarray, number: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (screened, tested): stratified halves of the patients; each pair of halves serves both ways round."""
    splitter = StratifiedShuffleSplit(number // 2, test_size=0.5, random_state=seed % 2**32)
    for first, second in splitter.split(is_hgg, is_hgg):
        yield first, second
        yield second, first


def _by_stability(logs: pd.DataFrame, grades: pd.Series, settings: ResponsibleSettings, seed: int) -> pd.DataFrame:
    is_hgg = (grades == "HGG").to_numpy()
    if min(is_hgg.sum(), (~is_hgg).sum()) < 6:
        raise StatisticsError("each half needs three patients of each grade: at least six LGG and six HGG are needed")
    tests, p = [], np.ones((2 * (settings.halves // 2), logs.shape[1]))
    for number, (screened, tested) in enumerate(split_halves(is_hgg, settings.halves, derive_seed(seed, "halves"))):
        selected = screen(logs.to_numpy()[screened], is_hgg[screened], _n_selectable(is_hgg, settings))
        test = _test_standardised(logs.iloc[tested, selected], grades.iloc[tested])
        p[number, selected] = np.minimum(1, test["lr_p"].to_numpy() * len(selected))
        tests.append(test)
    chosen = pd.concat(tests).groupby(level=0)
    return pd.DataFrame(
        {
            "selected_share": chosen.size() / len(p),
            "coefficient": chosen["coefficient"].median(),
            "lr_statistic": chosen["lr_statistic"].median(),
            "lr_p": pd.Series(combine_split_p(p), index=logs.columns),
        },
        index=logs.columns,
    )


def _by_one_model(logs: pd.DataFrame, grades: pd.Series, settings: ResponsibleSettings, seed: int) -> pd.DataFrame:
    is_hgg = (grades == "HGG").to_numpy()
    selected = screen(logs.to_numpy(), is_hgg, _n_selectable(is_hgg, settings))
    test = _test_standardised(logs.iloc[:, selected], grades)
    return test[["coefficient", "lr_statistic", "lr_p"]].assign(selected_share=1.0)


def _model_of_all(logs: pd.DataFrame, grades: pd.Series) -> pd.DataFrame:
    if not logs.shape[1]:
        return pd.DataFrame(columns=["model_coefficient", "model_lr_statistic", "model_lr_p", "likelihood"], dtype=float)
    return _test_standardised(logs, grades).rename(columns=lambda name: name if name == "likelihood" else f"model_{name}")


def _test_standardised(selected: pd.DataFrame, grades: pd.Series) -> pd.DataFrame:
    """Test the columns that can be told apart in these patients; the others get statistic 0 and p 1."""
    varies = selected.columns[selected.std() > 0]
    independent = list(varies[independent_columns(selected[varies].to_numpy())])
    if not independent:
        return pd.DataFrame({"coefficient": 0.0, "lr_statistic": 0.0, "lr_p": 1.0}, index=selected.columns)
    standard = (selected[independent] - selected[independent].mean()) / selected[independent].std(ddof=0)
    test = effect_likelihood_ratio(standard, grades)
    return test.reindex(selected.columns).fillna({"coefficient": 0.0, "lr_statistic": 0.0, "lr_p": 1.0})
