import numpy as np
import pandas as pd
import pytest
from small_radiomics import draw_counts

from drlib.radiomics.responsible import (
    ResponsibleSettings,
    choose_codewords,
    find_responsible,
    is_testable,
    represent_duplicates,
    responsible_by_grade,
    screen,
    split_halves,
)
from drlib.radiomics.statistics import StatisticsError, effect_likelihood_ratio

QUICK = ResponsibleSettings(halves=20)
PAPER = ResponsibleSettings(procedure="paper")


def test_planted_codewords_are_responsible_for_the_grade_that_has_more_of_them():
    counts, grades = draw_counts(40, 60, planted={3: 4.0, 7: 0.25})
    table = find_responsible(counts, grades, QUICK)
    assert responsible_by_grade(table) == {"LGG": [7], "HGG": [3]}
    assert table.loc[3, "auc"] > 0.5 > table.loc[7, "auc"] and table.loc[3, "coefficient"] > 0 > table.loc[7, "coefficient"]
    assert table.loc[3, "mean_HGG"] == pytest.approx(counts.loc[grades == "HGG", 3].mean())
    assert table["lr_p"].min() == table.loc[[3, 7], "lr_p"].min() < 0.05  # where one separates the grades the other adds little


def test_the_same_seed_gives_the_same_table():
    counts, grades = draw_counts(planted={0: 2.0})
    first, second = (find_responsible(counts, grades, QUICK, seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_cohorts_without_signal_rarely_have_a_responsible_codeword():
    tables = [find_responsible(*draw_counts(20, 30, seed=seed), ResponsibleSettings(halves=4)) for seed in range(20)]
    assert sum(table["responsible"].any() for table in tables) <= 4  # nominal .05: five or more of 20 has probability .003
    assert sum((table["lr_p"] < 0.05).any() for table in tables) <= 4


def test_the_published_order_of_select_and_test_finds_codewords_in_nothing():
    cohorts = [draw_counts(20, 30, seed=seed) for seed in range(20)]
    found = sum(find_responsible(*cohort, PAPER)["responsible"].any() for cohort in cohorts)
    assert found >= 12


def test_no_patient_is_in_both_halves_and_each_pair_is_used_both_ways():
    is_hgg = np.arange(31) < 13
    halves = list(split_halves(is_hgg, 6, seed=0))
    assert len(halves) == 6
    for screened, tested in halves:
        assert not set(screened) & set(tested) and len(screened) + len(tested) == 31
        assert min(is_hgg[screened].sum(), is_hgg[tested].sum()) >= 6
    assert list(halves[0][0]) == list(halves[1][1])


def test_screening_takes_the_most_correlated_column_first_and_no_more_than_asked():
    counts, grades = draw_counts(planted={3: 3.0})
    logs, is_hgg = np.log1p(counts.to_numpy(float)), (grades == "HGG").to_numpy()
    correlation = np.abs([np.corrcoef(column, is_hgg)[0, 1] for column in logs.T])
    assert screen(logs, is_hgg, 1).tolist() == [correlation.argmax()]
    assert len(screen(logs, is_hgg, 4)) == 4


def test_a_copied_codeword_is_represented_by_the_commoner_one():
    counts, grades = draw_counts(planted={3: 4.0})
    counts[100] = 2 * counts[3] + 1
    groups = represent_duplicates(counts, 0.95)
    assert groups[3] == groups[100] == 100 and groups[0] == 0
    table = find_responsible(counts, grades, QUICK)
    assert responsible_by_grade(table) == {"LGG": [], "HGG": [100]} and np.isnan(table.loc[3, "q"])


def test_codewords_that_hardly_occur_or_hardly_vary_are_not_tested():
    counts, grades = draw_counts()
    counts[100], counts[101], counts[102] = 0, 5, 0
    counts.loc[counts.index[:2], 102] = 9
    assert not is_testable(counts, QUICK)[-3:].any()
    table = find_responsible(counts, grades, QUICK)
    assert table.loc[[100, 101, 102], "q"].isna().all() and not table.loc[[100, 101, 102], "responsible"].any()
    assert len(table) == counts.shape[1]


def test_a_cohort_in_which_nothing_can_be_tested_has_no_responsible_codeword():
    counts, grades = draw_counts()
    for settings in (QUICK, PAPER):
        table = find_responsible(0 * counts, grades, settings)
        assert not table["responsible"].any() and table["q"].isna().all() and (table["lr_p"] == 1).all()


def test_a_grade_without_responsible_codewords_can_be_filled_up_with_its_leading_ones():
    counts, grades = draw_counts(40, 60, planted={3: 4.0})
    table = find_responsible(counts, grades, QUICK)
    assert responsible_by_grade(table) == {"LGG": [], "HGG": [3]}
    filled = responsible_by_grade(table, at_least=2)
    assert len(filled["LGG"]) == len(filled["HGG"]) == 2 and filled["HGG"][0] == 3
    assert table.loc[filled["LGG"][0], "selected_share"] == table[table["direction"] == "LGG"]["selected_share"].max()


def test_too_few_patients_and_wrong_settings_are_refused():
    with pytest.raises(StatisticsError, match="six"):
        find_responsible(*draw_counts(4, 20), QUICK)
    with pytest.raises(StatisticsError, match="ResponsibleSettings"):
        find_responsible(*draw_counts(), settings={"halves": 3})


def test_screening_leaves_out_a_constant_whose_deviation_is_a_rounding_error():
    random, constant = np.random.default_rng(0), np.full(50, np.log1p(7))
    wide = np.column_stack([np.full(50, np.log1p(k)) for k in range(1, 200)] + [random.normal(size=50)])
    assert (wide.std(axis=0)[:-1] > 0).any(), "else this test says nothing"
    assert screen(wide, np.arange(50) < 20, 3).tolist() == [199]
    assert not len(screen(constant[:, None], np.arange(50) < 20, 3))


def test_k_star_is_what_the_table_calls_responsible():
    for planted in ({3: 4.0, 7: 0.25}, {3: 2.0, 4: 1.6, 9: 0.6}, {}):
        counts, grades = draw_counts(30, 40, planted=planted, seed=1)
        table = find_responsible(counts, grades, QUICK, seed=2)
        assert choose_codewords(counts, grades, QUICK, seed=2) == table.index[table["responsible"]].tolist()
    assert choose_codewords(*draw_counts(5, 20, planted={3: 4.0}), QUICK) == []


def test_the_model_of_all_patients_is_the_effect_likelihood_ratio_test_of_k_star():
    counts, grades = draw_counts(40, 60, planted={3: 2.5, 7: 0.4})
    table = find_responsible(counts, grades, QUICK)
    logs = np.log1p(counts[[3, 7]].astype(float))
    due = effect_likelihood_ratio((logs - logs.mean()) / logs.std(ddof=0), grades)
    found = table.loc[[3, 7], ["model_coefficient", "model_lr_statistic", "model_lr_p"]].to_numpy()
    assert found == pytest.approx(due[["coefficient", "lr_statistic", "lr_p"]].to_numpy(), rel=1e-6)
    assert table.loc[[3, 7], "likelihood"].tolist() == ["maximum"] * 2 and table["model_lr_p"].notna().sum() == 2
    assert ((table["auc_low"] <= table["auc"]) & (table["auc"] <= table["auc_high"])).all()


def test_codewords_that_separate_the_grades_are_tested_with_firths_likelihood():
    counts, grades = draw_counts(20, 30, planted={3: 40.0})
    table = find_responsible(counts, grades, QUICK)
    assert table.loc[3, "likelihood"] == "firth" and np.isfinite(table.loc[3, "model_lr_statistic"])
