import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm
from firthmodels import FirthLogisticRegression
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score
from small_radiomics import draw_counts

from drlib.radiomics.statistics import (
    StatisticsError,
    auc_interval,
    benjamini_hochberg,
    bootstrap_interval,
    check_grades,
    combine_split_p,
    compare_regions,
    corrected_resampled_interval,
    effect_likelihood_ratio,
    fit_logistic,
    independent_columns,
    likelihood_ratio_tests,
    rank_sum,
    seed_interval,
)


def two_by_two(a: int, b: int, c: int, d: int) -> tuple[pd.DataFrame, pd.Series]:
    """a HGG and b LGG with x = 1; c HGG and d LGG with x = 0."""
    x, grades = [1] * (a + b) + [0] * (c + d), ["HGG"] * a + ["LGG"] * b + ["HGG"] * c + ["LGG"] * d
    return pd.DataFrame({"x": x}), pd.Series(grades)


def test_rank_sum_equals_scipy_and_the_area_under_the_curve():
    counts, grades = draw_counts(planted={3: 2.0})
    table = rank_sum(counts, grades)
    is_hgg = grades == "HGG"
    for k in (0, 3, 17):
        assert table.loc[k, "rank_p"] == pytest.approx(scipy.stats.mannwhitneyu(counts.loc[is_hgg, k], counts.loc[~is_hgg, k]).pvalue)
        assert table.loc[k, "auc"] == pytest.approx(roc_auc_score(is_hgg, counts[k]))


def test_a_constant_codeword_shows_nothing():
    counts, grades = draw_counts()
    table = rank_sum(counts.assign(same=0), grades)
    assert table.loc["same", ["rank_p", "auc"]].tolist() == [1.0, 0.5]


def test_the_likelihood_ratio_equals_statsmodels_where_classes_overlap():
    counts, grades = draw_counts(n_lgg=60, n_hgg=80, planted={0: 1.5})
    selected = np.log1p(counts[[0, 1, 2]])
    table = effect_likelihood_ratio(selected, grades)
    y = (grades == "HGG").astype(float).to_numpy()
    full = sm.Logit(y, sm.add_constant(selected.to_numpy())).fit(disp=0, tol=1e-12)
    reduced = sm.Logit(y, sm.add_constant(selected[[1, 2]].to_numpy())).fit(disp=0, tol=1e-12)
    assert (table["likelihood"] == "maximum").all()
    assert table["coefficient"].tolist() == pytest.approx(full.params[1:].tolist(), rel=1e-5)
    assert table.loc[0, "lr_statistic"] == pytest.approx(2 * (full.llf - reduced.llf), rel=1e-6)
    assert table.loc[0, "lr_p"] == pytest.approx(scipy.stats.chi2.sf(2 * (full.llf - reduced.llf), 1), rel=1e-5)


def test_the_likelihood_ratio_of_one_binary_column_is_the_g_test():
    selected, grades = two_by_two(12, 5, 7, 14)
    g = scipy.stats.chi2_contingency([[12, 5], [7, 14]], correction=False, lambda_="log-likelihood").statistic
    assert effect_likelihood_ratio(selected, grades).loc["x", "lr_statistic"] == pytest.approx(g)


def test_firth_is_used_and_finite_where_classes_are_separated():
    a, b, c, d = 9, 0, 0, 8
    table = effect_likelihood_ratio(*two_by_two(a, b, c, d))
    # In a saturated model Firth's estimate is the one with half a patient added to each cell (Firth 1993).
    closed_form = np.log((a + 0.5) * (d + 0.5) / ((b + 0.5) * (c + 0.5)))
    assert table.loc["x", "likelihood"] == "firth"
    assert table.loc["x", "coefficient"] == pytest.approx(closed_form, rel=1e-4)


def test_firths_ratio_is_that_of_the_profile_penalised_likelihood():
    table, (selected, grades) = effect_likelihood_ratio(*two_by_two(9, 0, 3, 8)), two_by_two(9, 0, 3, 8)
    x, y = np.column_stack([np.ones(20), selected["x"]]), (grades == "HGG").to_numpy()

    def penalised(beta: np.ndarray) -> float:
        p = 1 / (1 + np.exp(-x @ beta))
        return np.log(np.where(y, p, 1 - p)).sum() + 0.5 * np.linalg.slogdet((x.T * (p * (1 - p))) @ x)[1]

    full = penalised(np.array([np.log(3.5 / 8.5), np.log(9.5 / 0.5) - np.log(3.5 / 8.5)]))
    reduced = -minimize_scalar(lambda constant: -penalised(np.array([constant, 0]))).fun
    assert table.loc["x", "lr_statistic"] == pytest.approx(2 * (full - reduced), rel=1e-3)


def firth_by_firthmodels(columns: np.ndarray, is_hgg: np.ndarray) -> FirthLogisticRegression:
    model = FirthLogisticRegression(backend="numpy", max_iter=2000, gtol=1e-6, xtol=1e-6).fit(columns, is_hgg)
    return model.lrt(list(range(columns.shape[1])))


def test_firth_with_several_columns_equals_firthmodels():
    counts, grades = draw_counts(planted={0: 30.0})
    selected = np.log1p(counts[[0, 1, 2]])
    table, due = effect_likelihood_ratio(selected, grades), firth_by_firthmodels(selected.to_numpy(), (grades == "HGG").to_numpy())
    assert (table["likelihood"] == "firth").all()
    assert table["coefficient"].tolist() == pytest.approx(due.coef_.tolist(), rel=1e-5)
    assert table["lr_p"].tolist() == pytest.approx(due.lrt_pvalues_[:3].tolist(), rel=1e-5)


def test_each_codeword_alone_equals_statsmodels_or_where_the_grades_part_firthmodels():
    counts, grades = draw_counts(n_lgg=30, n_hgg=70, n_codewords=60, planted={0: 1.5, 1: 60.0})
    counts[40] = 5
    for column in range(41, 60):  # ever sparser, the last ones in HGG alone
        counts[column] = np.where(np.arange(100) >= 2.5 * (column - 41), 1 + counts[column], 0)
    logs, is_hgg = np.log1p(counts), (grades == "HGG").to_numpy()
    table = likelihood_ratio_tests(logs, grades)
    null = sm.Logit(is_hgg.astype(float), np.ones(100)).fit(disp=0, tol=1e-12).llf
    for column in counts.drop(columns=40):
        one, row = logs[[column]].to_numpy(), table.loc[column]
        parted = any(one[a].max() <= one[~a].min() for a in (is_hgg, ~is_hgg))
        assert row["likelihood"] == ("firth" if parted else "maximum")
        if parted:
            due = firth_by_firthmodels(one, is_hgg)
            assert row["coefficient"] == pytest.approx(due.coef_[0], rel=1e-5)
            assert row["lr_p"] == pytest.approx(due.lrt_pvalues_[0], rel=1e-5)
        else:
            due = sm.Logit(is_hgg.astype(float), sm.add_constant(one)).fit(disp=0, tol=1e-12, maxiter=100)
            assert row["coefficient"] == pytest.approx(due.params[1], rel=1e-6)
            assert row["lr_statistic"] == pytest.approx(2 * (due.llf - null), rel=1e-6, abs=1e-10)
    assert 6 <= (table["likelihood"] == "firth").sum() <= 30
    assert table.loc[40].tolist() == [0.0, 0.0, 1.0, "maximum"]


def test_the_test_of_a_codeword_alone_does_not_depend_on_the_others():
    counts, grades = draw_counts(planted={0: 2.0})
    table = likelihood_ratio_tests(counts, grades)
    pd.testing.assert_frame_equal(likelihood_ratio_tests(counts[[7, 0]], grades), table.loc[[7, 0]])
    assert likelihood_ratio_tests(counts[[]], grades).empty


@pytest.mark.parametrize("columns", [49, 60])
def test_the_likelihood_ratio_of_too_many_codewords_is_refused_as_undefined(columns):
    counts, grades = draw_counts(n_codewords=columns)
    with pytest.raises(StatisticsError, match="undefined"):
        effect_likelihood_ratio(counts, grades)


def test_the_likelihood_ratio_of_a_doubled_codeword_is_refused():
    counts, grades = draw_counts()
    with pytest.raises(StatisticsError, match="near-duplicates"):
        effect_likelihood_ratio(pd.DataFrame({"a": counts[0], "b": 2 * counts[0]}), grades)


def test_benjamini_and_hochbergs_own_example_rejects_four():
    published = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.324, 0.4262, 0.5719, 0.6528, 0.759, 1.0]
    q = benjamini_hochberg(pd.Series([*published, np.nan]))
    assert (q < 0.05).sum() == 4 and np.isnan(q.iloc[-1])
    assert q.iloc[3] == pytest.approx(0.0095 * 15 / 4)


def test_split_p_that_agree_are_multiplied_by_the_price_of_the_search():
    p = np.full((40, 2), [0.001, 1.0])
    assert combine_split_p(p).tolist() == pytest.approx([0.001 * (1 - np.log(0.05)), 1.0])


def test_split_p_use_the_best_quantile():
    p = np.ones((10, 1))
    p[:5] = 0.002  # half of the splits agree: the median divided by 1/2
    assert combine_split_p(p)[0] == pytest.approx((1 - np.log(0.05)) * 0.002 / 0.5)


def test_split_p_of_pure_chance_are_rarely_small():
    random = np.random.default_rng(0)
    shared, own = random.normal(size=(1, 2000)), random.normal(size=(50, 2000))
    p = scipy.stats.norm.cdf(np.sqrt(0.5) * shared + np.sqrt(0.5) * own)  # uniform; splits of one cohort depend on one another
    assert (combine_split_p(p) <= 0.05).mean() <= 0.05


REGION_VALUES = {
    "NET": [1.0, 2.0, 2.0, 4.0, 5.5, 3.0, 2.5, 4.5],
    "ED": [0.5, 1.0, 2.0, 2.0, 3.0, 1.5, 1.2, 0.7],
    "ET": [2.0, 5.0, 6.0, 7.0, 8.0, 5.2, 6.1, 9.0],
}


def region_table(values=REGION_VALUES) -> pd.DataFrame:
    rows = [(f"P{n}", region, v) for region, sample in values.items() for n, v in enumerate(sample)]
    return pd.DataFrame(rows, columns=["patient", "region", "mean"])


def test_dunn_is_the_joint_ranking_definition_with_ties_and_bonferroni():
    values = np.concatenate(list(REGION_VALUES.values()))
    ranks, n = scipy.stats.rankdata(values).reshape(3, 8).mean(axis=1), len(values)
    _, ties = np.unique(values, return_counts=True)
    variance = (n * (n + 1) - ((ties**3 - ties).sum() / (n - 1))) / 12 * (1 / 8 + 1 / 8)
    pairs = compare_regions(region_table()).pairs
    for row, (i, j) in zip(pairs.itertuples(), [(0, 1), (0, 2), (1, 2)], strict=True):
        by_hand = 2 * scipy.stats.norm.sf(abs(ranks[i] - ranks[j]) / np.sqrt(variance))
        assert row.dunn_p == pytest.approx(min(1, 3 * by_hand))


def test_joint_and_paired_region_tests_equal_scipy():
    found = compare_regions(region_table())
    assert found.kruskal_p == pytest.approx(scipy.stats.kruskal(*REGION_VALUES.values()).pvalue)
    assert found.friedman_p == pytest.approx(scipy.stats.friedmanchisquare(*REGION_VALUES.values()).pvalue)
    assert found.regions.loc["ED", "shapiro_p"] == pytest.approx(scipy.stats.shapiro(REGION_VALUES["ED"]).pvalue)
    raw = found.pairs["wilcoxon_p"]
    assert raw.iloc[0] == pytest.approx(scipy.stats.wilcoxon(REGION_VALUES["NET"], REGION_VALUES["ED"]).pvalue)
    holm = np.maximum.accumulate(np.sort(raw) * [3, 2, 1])  # Holm 1979: the smallest times 3, the next times 2, never decreasing
    assert sorted(found.pairs["wilcoxon_p_holm"]) == pytest.approx(holm.tolist())
    assert (found.highest, found.n_complete) == ("ET", 8)


def test_patients_without_a_region_stay_out_of_the_paired_tests_only():
    table = region_table()
    table.loc[(table["region"] == "ET") & (table["patient"] == "P0"), "mean"] = np.nan
    found = compare_regions(table)
    assert found.n_complete == 7 and found.regions["n"].tolist() == [8, 8, 7]


def test_several_values_of_one_region_of_a_patient_are_refused():
    with pytest.raises(StatisticsError, match="patient is the unit"):
        compare_regions(pd.concat([region_table(), region_table()]))


def test_regions_that_never_change_have_no_p():
    found = compare_regions(region_table({"NET": [0.0] * 4, "ED": [0.0] * 4, "ET": [0.0] * 4}))
    assert np.isnan(found.kruskal_p) and np.isnan(found.friedman_p) and found.pairs["wilcoxon_p"].isna().all()


def test_the_bootstrap_interval_of_a_mean_is_close_to_students():
    values = np.random.default_rng(1).normal(3, 2, 200)
    found = bootstrap_interval(values, np.random.default_rng(0))
    low, high = scipy.stats.t.interval(0.95, 199, values.mean(), scipy.stats.sem(values))
    assert (found.estimate, found.low, found.high) == (
        pytest.approx(values.mean()),
        pytest.approx(low, abs=0.05),
        pytest.approx(high, abs=0.05),
    )


def test_the_bootstrap_leaves_out_what_is_missing_and_has_no_width_for_equal_values():
    found = bootstrap_interval(np.array([2.0, 2.0, np.nan]), np.random.default_rng(0))
    assert (found.estimate, found.low, found.high) == (2.0, 2.0, 2.0)
    assert np.isnan(bootstrap_interval(np.array([np.nan]), np.random.default_rng(0)).estimate)


def test_patients_without_a_grade_are_refused_by_name():
    counts, grades = draw_counts()
    with pytest.raises(StatisticsError, match="P003"):
        check_grades(counts, grades.drop("P003"))
    with pytest.raises(StatisticsError, match="P004"):
        check_grades(counts, grades.replace({"P004": None}).where(grades.index != "P004", None))


def test_doubled_patients_and_single_grades_are_refused():
    counts, grades = draw_counts()
    with pytest.raises(StatisticsError, match="twice"):
        check_grades(pd.concat([counts, counts.iloc[:1]]), grades)
    with pytest.raises(StatisticsError, match="both grades"):
        check_grades(counts[(grades == "HGG").to_numpy()], grades)
    with pytest.raises(StatisticsError, match="finite"):
        check_grades(counts.astype(float).replace(counts.iloc[0, 0], np.nan), grades)


def test_the_interval_of_an_area_holds_the_true_one_as_often_as_it_says():
    random, true = np.random.default_rng(0), scipy.stats.norm.cdf(1 / np.sqrt(2))
    hgg, lgg = random.normal(1, 1, (600, 25, 1)), random.normal(0, 1, (600, 1, 15))
    low, high = auc_interval((hgg > lgg).mean(axis=(1, 2)), 15, 25)
    assert 0.93 <= ((low <= true) & (true <= high)).mean() <= 0.99


def test_the_interval_of_an_area_mirrors_with_the_grades_and_keeps_a_width_where_they_are_separated():
    low, high = auc_interval(np.array([0.8, 0.2, 1.0, 0.5]), 20, 30)
    mirrored_low, mirrored_high = auc_interval(np.array([0.2, 0.8]), 20, 30)
    assert low[:2] == pytest.approx(1 - mirrored_high) and high[:2] == pytest.approx(1 - mirrored_low)
    assert 0.85 < low[2] < 1 == high[2] and low[3] + high[3] == pytest.approx(1)
    end = low[3]
    error = np.sqrt(end * (1 - end) * (1 + 24 * ((1 - end) / (2 - end) + end / (1 + end))) / 600)  # Hanley and McNeil's at the end
    assert 0.5 - end == pytest.approx(1.959964 * error, rel=1e-5)


def test_the_corrected_resampled_interval_is_students_where_nobody_is_held_out():
    values = np.array([0.80, 0.85, 0.78, 0.90, 0.83])
    plain = scipy.stats.t.interval(0.95, 4, loc=values.mean(), scale=scipy.stats.sem(values))
    found = corrected_resampled_interval(values, 0.0)
    assert (found.low, found.high) == pytest.approx(plain) and found.estimate == pytest.approx(0.832)


def test_the_corrected_resampled_interval_of_five_folds_is_wider_by_the_overlap_of_the_training_sets():
    values = np.append(np.tile([0.80, 0.85, 0.78, 0.90, 0.83], 10), np.nan)
    found = corrected_resampled_interval(values, 0.2)
    due = scipy.stats.t.ppf(0.975, 49) * np.sqrt((1 / 50 + 1 / 4) * values[:50].var(ddof=1))  # test over training patients: 1 / 4
    assert found.high - found.estimate == pytest.approx(due) == found.estimate - found.low
    assert np.isnan(corrected_resampled_interval(np.array([0.8]), 0.2).low)


def test_repeating_the_same_folds_does_not_make_the_corrected_interval_vanish():
    random, widths = np.random.default_rng(0), []
    values = random.normal(0.8, 0.1, 5)
    for repeats in (1, 10, 1000):
        interval = corrected_resampled_interval(np.tile(values, repeats), 0.2)
        widths.append(interval.high - interval.low)
    assert widths[0] > widths[1] > widths[2] > 0.9 * 2 * 1.96 * np.sqrt(values.var() / 4)


def test_plain_logistic_regression_is_that_of_statsmodels():
    counts, grades = draw_counts(n_lgg=60, n_hgg=80, planted={0: 1.5})
    columns, is_hgg = np.log1p(counts[[0, 1, 2]].to_numpy(float)), (grades == "HGG").to_numpy()
    due = sm.Logit(is_hgg.astype(float), sm.add_constant(columns)).fit(disp=0, tol=1e-12).params
    coefficients, intercept, likelihood = fit_logistic(columns, is_hgg)
    assert [intercept, *coefficients] == pytest.approx(due.tolist(), rel=1e-5) and likelihood == "maximum"


def test_plain_logistic_regression_is_firths_where_the_grades_are_separated():
    columns, is_hgg = np.linspace(0, 1, 20)[:, None], np.arange(20) >= 8
    coefficients, intercept, likelihood = fit_logistic(columns, is_hgg)
    due = FirthLogisticRegression(max_iter=200).fit(columns, is_hgg)
    assert likelihood == "firth" and np.isfinite(coefficients).all()
    assert [coefficients[0], intercept] == pytest.approx([due.coef_[0], due.intercept_], rel=1e-2)


def test_columns_that_say_nothing_new_have_no_coefficient():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 50))
    columns, is_hgg = np.column_stack([np.ones(50), first, 2 * first + 1, second]), np.arange(50) < 20
    assert independent_columns(columns) == [1, 3]
    assert np.flatnonzero(fit_logistic(columns, is_hgg)[0]).tolist() == [1, 3]
    nothing, intercept, _ = fit_logistic(columns[:, []], is_hgg)
    assert nothing.size == 0 and intercept == pytest.approx(np.log(20 / 30))


def test_seed_interval_is_students():
    values = pd.Series([0.2, 0.4, 0.5, 0.9, np.nan])
    found, due = seed_interval(values), scipy.stats.ttest_1samp(values.dropna(), 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((due.low, due.high)) and found.estimate == pytest.approx(0.5)
    assert np.isnan(seed_interval(values[:1]).low), "one seed has no interval"
