import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_radiomics import draw_counts

from drlib.profiles import GradingSettings
from drlib.radiomics.classifier import NestedLogistic, fit_ridge
from drlib.radiomics.grading import (
    CALIBRATION,
    METRICS,
    GradingError,
    classifier,
    compare_models,
    cross_validate,
    decision_curve,
    draw_folds,
    enhancing_share,
    fit_classifier,
    fold_classifiers,
    grading_metrics,
    load_classifier,
    predict_hgg,
    save_classifier,
    volume_features,
)
from drlib.radiomics.statistics import StatisticsError

QUICK = GradingSettings(folds=5, repeats=2, permutations=0)


def metrics_of(called_hgg: np.ndarray, is_hgg: np.ndarray) -> dict[str, float]:
    found = grading_metrics(called_hgg.astype(float)[:, None], is_hgg, np.zeros((len(is_hgg), 1), dtype=int))
    return {metric: float(value[0]) for metric, value in found.items()}


def test_the_published_numbers_have_lgg_as_the_positive_class():
    is_hgg = np.array([False] * 76 + [True] * 259)

    def cohort(recall: float, specificity: float, positive_hgg: bool) -> dict[str, float]:
        share_right = {positive_hgg: recall, not positive_hgg: specificity}
        right = np.zeros(335, dtype=bool)
        for grade in (True, False):
            members = np.flatnonzero(is_hgg == grade)
            right[members[: round(share_right[grade] * len(members))]] = True
        return metrics_of(np.where(right, is_hgg, ~is_hgg), is_hgg)

    lgg = cohort(recall=0.73, specificity=0.95, positive_hgg=False)
    published = {"accuracy": 0.90, "ppv_LGG": 0.811, "sensitivity_LGG": 0.73, "specificity_LGG": 0.95, "npv_LGG": 0.923}
    assert {name: lgg[name] for name in published} == pytest.approx(published, abs=0.008)  # whole patients
    hgg = cohort(recall=0.73, specificity=0.95, positive_hgg=True)
    as_the_text_says = {"accuracy": 0.780, "ppv_HGG": 0.980, "sensitivity_HGG": 0.73, "specificity_HGG": 0.95, "npv_HGG": 0.508}
    assert {name: hgg[name] for name in as_the_text_says} == pytest.approx(as_the_text_says, abs=0.006)


def test_always_hgg_is_right_for_the_share_of_hgg():
    found = metrics_of(np.ones(335), np.array([False] * 76 + [True] * 259))
    assert (round(found["accuracy"], 3), found["balanced_accuracy"], found["auc"]) == (0.773, 0.5, 0.5)


def test_metrics_equal_those_of_scikit_learn():
    random = np.random.default_rng(0)
    is_hgg, p = random.random(80) < 0.6, random.random(80).round(1)  # rounded: ties
    found = grading_metrics(p[:, None], is_hgg, np.zeros((80, 1), dtype=int))
    called = p > 0.5
    due = {
        "accuracy": sk.accuracy_score(is_hgg, called),
        "balanced_accuracy": sk.balanced_accuracy_score(is_hgg, called),
        "auc": sk.roc_auc_score(is_hgg, p),
        "brier": sk.brier_score_loss(is_hgg, p),
        "sensitivity_HGG": sk.recall_score(is_hgg, called),
        "ppv_HGG": sk.precision_score(is_hgg, called),
        "sensitivity_LGG": sk.recall_score(~is_hgg, ~called),
        "ppv_LGG": sk.precision_score(~is_hgg, ~called),
    }
    assert {name: float(found[name][0]) for name in due} == pytest.approx(due)


def test_weights_count_a_patient_as_often_as_drawn():
    random = np.random.default_rng(0)
    is_hgg, p, folds = random.random(30) < 0.5, random.random((30, 2)), random.integers(0, 3, (30, 2))
    drawn = random.integers(0, 30, 30)
    weights = np.bincount(drawn, minlength=30)[None].astype(float)
    by_weight, by_copy = grading_metrics(p, is_hgg, folds, weights), grading_metrics(p[drawn], is_hgg[drawn], folds[drawn])
    assert {m: by_weight[m][0] for m in METRICS} == pytest.approx({m: by_copy[m][0] for m in METRICS})


@pytest.mark.parametrize("protocol", ["paper", "ours"])
def test_every_patient_is_held_out_once_per_repeat_and_never_on_both_sides(protocol):
    counts, grades = draw_counts()
    is_hgg = (grades == "HGG").to_numpy()
    folds = draw_folds(is_hgg, 5, 0, protocol)
    held = np.zeros(len(is_hgg), dtype=int)
    for held_out, _, _ in fold_classifiers(counts.to_numpy(float), is_hgg, folds, "majority", 0):
        held += held_out
    assert (held == 1).all()


@pytest.mark.parametrize("kind", ["raw-counts", "counts", "responsible", "features"])
def test_the_probability_of_a_patient_does_not_depend_on_its_own_grade(kind):
    counts, grades = draw_counts(planted={0: 3.0})
    is_hgg = (grades == "HGG").to_numpy()
    folds = draw_folds(is_hgg, 5, 0)

    def first_patients_probability(is_hgg: np.ndarray) -> float:
        for held_out, model, _ in fold_classifiers(counts.to_numpy(float), is_hgg, folds, kind, 0):
            if held_out[0]:
                return model.predict_proba(counts.to_numpy(float)[:1])[0, 1]

    flipped = is_hgg.copy()
    flipped[0] = ~flipped[0]
    assert first_patients_probability(is_hgg) == first_patients_probability(flipped)


def test_a_planted_codeword_is_found_and_shuffled_grades_give_chance():
    counts, grades = draw_counts(30, 45, n_codewords=20, planted={0: 4.0, 1: 0.25})
    found = cross_validate(counts, grades, GradingSettings(folds=5, repeats=1, permutations=19))
    assert found.summary.loc["auc", "estimate"] > 0.9 and found.permutation_p == 1 / 20
    areas = []
    for seed in range(6):
        shuffled = pd.Series(np.random.default_rng(seed).permutation(grades), index=grades.index)
        areas.append(cross_validate(counts, shuffled, GradingSettings(folds=5, repeats=1, permutations=0)).summary.loc["auc", "estimate"])
    assert np.mean(areas) == pytest.approx(0.5, abs=0.1)


def test_the_interval_holds_the_estimate_and_repeats_agree_on_the_seed():
    counts, grades = draw_counts(planted={0: 2.0})
    first, second = (cross_validate(counts, grades, QUICK, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first.summary, second.summary)
    pd.testing.assert_frame_equal(first.probabilities, second.probabilities)
    summary = first.summary
    assert ((summary["low"] <= summary["estimate"]) & (summary["estimate"] <= summary["high"])).all()
    assert first.probabilities.shape == (50, 2) and len(first.per_fold) == 10 and first.permutation_p is None


def test_mean_and_sd_over_folds_are_those_of_the_per_fold_table():
    counts, grades = draw_counts(planted={0: 2.0})
    found = cross_validate(counts, grades, QUICK, protocol="paper")
    accuracy = found.per_fold["accuracy"]
    assert found.summary.loc["accuracy", ["mean", "sd"]].tolist() == pytest.approx([accuracy.mean(), accuracy.std()])
    assert found.kind == "raw-counts" and found.converged


def test_models_are_compared_on_the_same_folds_and_patients():
    counts, grades = draw_counts(planted={0: 3.0})
    volumes = volume_features(pd.DataFrame({"ET": np.linspace(0, 30, len(counts))}, index=counts.index))
    results = {
        "codewords": cross_validate(counts, grades, QUICK),
        "volume": cross_validate(volumes, grades, QUICK, kind="features"),
        "always HGG": cross_validate(counts, grades, QUICK, kind="majority"),
    }
    assert results["codewords"].folds.equals(results["volume"].folds)
    table = compare_models(results, "volume").set_index(["model", "metric"])
    assert (table.loc["volume", ["difference", "low", "high"]] == 0).all(axis=None) or table.loc["volume"].fillna(0).eq(0).all(axis=None)
    auc = {name: result.summary.loc["auc", "estimate"] for name, result in results.items()}
    assert table.loc[("codewords", "auc"), "difference"] == pytest.approx(auc["codewords"] - auc["volume"])
    assert results["always HGG"].summary.loc["accuracy", "estimate"] == pytest.approx(30 / 50) and auc["always HGG"] == 0.5
    with pytest.raises(GradingError, match="different patients"):
        compare_models(results | {"other": cross_validate(counts.iloc[1:], grades, QUICK, kind="majority")}, "volume")


def test_patients_without_a_grade_and_grades_with_too_few_patients_are_refused():
    counts, grades = draw_counts()
    with pytest.raises(StatisticsError, match="no grade"):
        cross_validate(counts, grades.iloc[:-1], QUICK)
    with pytest.raises(GradingError, match="4 LGG patients cannot be spread over 5 folds"):
        cross_validate(*draw_counts(n_lgg=4), QUICK)


def test_negative_volumes_are_refused():
    with pytest.raises(GradingError):
        volume_features(pd.DataFrame({"ET": [-1.0]}))


@pytest.mark.parametrize("n_columns", [10, 120])
def test_the_nested_classifier_without_choices_is_standardised_ridge_logistic_regression(n_columns):
    counts, grades = draw_counts(n_codewords=n_columns, planted={0: 2.0})
    x, y = np.log1p(counts.to_numpy(float)), (grades == "HGG").to_numpy()
    ours = NestedLogistic(sizes=(None,), penalties=(0.1,)).fit(x, y)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=10000)).fit(x, y)
    assert ours.predict_proba(x)[:, 1] == pytest.approx(theirs.predict_proba(x)[:, 1], abs=1e-4)


def test_newtons_method_is_right_where_a_full_step_would_leave_the_valley():
    x = np.array([[-40.0], [-1.0], [0.1], [0.2], [30.0], [35.0]])
    y = np.array([True, False, False, True, False, True])
    theirs = LogisticRegression(C=1e4, tol=1e-12, max_iter=10000).fit(x, y)
    found = fit_ridge(x, y, 1e4, np.array([8.0, -20.0]))
    assert found.tolist() == pytest.approx([theirs.coef_[0, 0], theirs.intercept_[0]], rel=1e-4, abs=1e-6)


def test_the_nested_classifier_keeps_few_columns_where_few_carry_the_grade():
    counts, grades = draw_counts(40, 60, n_codewords=200, planted={0: 4.0, 1: 0.25})
    fitted = classifier("counts").fit(counts.to_numpy(float), (grades == "HGG").to_numpy())["logistic"]
    assert fitted.size_ == 16 and np.count_nonzero(fitted.coef_) == 16 and fitted.coef_[0] > 0 > fitted.coef_[1]


@pytest.mark.parametrize("kind", ["raw-counts", "counts", "responsible", "features"])
def test_a_saved_classifier_predicts_what_the_fitted_one_did(kind, tmp_path):
    counts, grades = draw_counts(planted={0: 3.0}, n_codewords=80)
    fitted = fit_classifier(counts, grades, kind, codebook="abc")
    loaded = load_classifier(save_classifier(tmp_path / "classifier.json", fitted))
    assert loaded == fitted
    shuffled = counts[counts.columns[::-1]]
    p = predict_hgg(loaded, shuffled, codebook="abc")
    again = cross_validate(counts, grades, QUICK, kind="majority").grades  # same order of patients
    assert p.index.equals(again.index) and p[again == "HGG"].mean() > 0.6 > p[again == "LGG"].mean()
    if kind == "raw-counts":
        theirs = LogisticRegression(C=1.0, solver="newton-cholesky", max_iter=1000).fit(counts.to_numpy(float), grades == "HGG")
        assert p.to_numpy() == pytest.approx(theirs.predict_proba(counts.to_numpy(float))[:, 1], abs=1e-3)


def test_counts_of_another_codebook_and_other_columns_are_refused(tmp_path):
    counts, grades = draw_counts()
    fitted = fit_classifier(counts, grades, codebook="abc")
    with pytest.raises(GradingError, match="codebook abc, these are of xyz"):
        predict_hgg(fitted, counts, codebook="xyz")
    with pytest.raises(GradingError, match="other ones"):
        predict_hgg(fitted, counts.iloc[:, 1:], codebook="abc")


def test_a_damaged_classifier_file_is_refused(tmp_path):
    path = save_classifier(tmp_path / "classifier.json", fit_classifier(*draw_counts()))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"coefficients": content["coefficients"][:-1]}))
    with pytest.raises(GradingError, match="damaged"):
        load_classifier(path)
    path.write_text("{}")
    with pytest.raises(GradingError, match="not a saved grade classifier"):
        load_classifier(path)
    with pytest.raises(GradingError):
        load_classifier(tmp_path / "missing.json")


def test_k_star_is_chosen_in_every_fold_and_graded_without_a_penalty():
    counts, grades = draw_counts(40, 60, planted={3: 4.0, 7: 0.25})
    found = cross_validate(counts, grades, GradingSettings(folds=5, repeats=1, permutations=0), kind="responsible")
    assert found.chosen[[3, 7]].min() >= 0.6 and found.chosen.drop([3, 7]).max() <= 0.4
    assert found.summary.loc["auc", "estimate"] > 0.9
    fitted = classifier("responsible").fit(counts.to_numpy(float), (grades == "HGG").to_numpy())["logistic"]
    assert np.flatnonzero(fitted.coef_).tolist() == [3, 7] and fitted.coef_[3] > 0 > fitted.coef_[7]


def test_where_no_codeword_is_responsible_every_patient_gets_the_share_of_hgg():
    counts, grades = draw_counts(20, 30, seed=5)
    model = classifier("responsible").fit(counts.to_numpy(float) * 0 + 1, (grades == "HGG").to_numpy())
    assert model.predict_proba(counts.to_numpy(float))[:, 1] == pytest.approx(np.full(50, 0.6))


def test_k_star_chosen_in_the_folds_finds_nothing_in_nothing():
    areas = []
    for seed in range(4):
        counts, grades = draw_counts(30, 40, seed=seed)
        found = cross_validate(counts, grades, GradingSettings(folds=5, repeats=1, permutations=0), kind="responsible")
        areas.append(found.summary.loc["auc", "estimate"])
    assert np.mean(areas) == pytest.approx(0.5, abs=0.1)


def test_the_summary_has_calibration_on_all_patients_and_a_corrected_interval_over_folds():
    counts, grades = draw_counts(planted={0: 2.0})
    summary = cross_validate(counts, grades, QUICK).summary
    assert summary.index.tolist() == [*METRICS, *CALIBRATION]
    assert ((summary["resampled_low"] <= summary["mean"]) & (summary["mean"] <= summary["resampled_high"]))[list(METRICS)].all()
    assert summary.loc[list(CALIBRATION), ["mean", "resampled_low"]].isna().all(axis=None)
    assert summary.loc["calibration_slope", "low"] < summary.loc["calibration_slope", "estimate"] < summary.loc["calibration_slope", "high"]
    majority = cross_validate(counts, grades, QUICK, kind="majority").summary
    assert majority.loc["calibration_slope"].isna().all() and majority.loc["calibration_intercept", "estimate"] == pytest.approx(
        0, abs=0.02
    )


def test_raw_counts_with_a_weak_penalty_are_too_sure_of_themselves():
    counts, grades = draw_counts(40, 60, n_codewords=150, planted={0: 2.0})
    assert cross_validate(counts, grades, QUICK, protocol="paper").summary.loc["calibration_slope", "high"] < 0.7


def test_the_decision_curve_of_calling_everybody_is_that_of_everybody():
    counts, grades = draw_counts(planted={0: 3.0})
    thresholds = np.linspace(0.1, 0.9, 9)
    majority = decision_curve(cross_validate(counts, grades, QUICK, kind="majority"), thresholds)
    low = majority[(majority["positive"] == "HGG") & (majority["threshold"] < 0.55)]
    for column in ("net_benefit", "low", "high"):  # the share of the grades is the same in every draw
        assert low[column].tolist() == pytest.approx(low["everybody"].tolist())
    codewords = decision_curve(cross_validate(counts, grades, QUICK), thresholds)
    assert ((codewords["low"] <= codewords["net_benefit"]) & (codewords["net_benefit"] <= codewords["high"])).all()
    assert codewords.groupby("positive").size().to_dict() == {"HGG": 9, "LGG": 9}


def test_the_enhancing_share_is_et_over_tc_and_nothing_enhances_without_a_core():
    volumes = pd.DataFrame({"NET": [3.0, 0.0, 0.0, 5.0], "ED": 1.0, "ET": [1.0, 2.0, 0.0, 0.0]})
    assert enhancing_share(volumes)["enhancing_share"].tolist() == [0.25, 1.0, 0.0, 0.0]
    assert enhancing_share(volumes.assign(ET=np.nan)).isna().all(axis=None)
    with pytest.raises(GradingError):
        enhancing_share(-volumes)
