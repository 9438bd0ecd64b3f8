import numpy as np
import pandas as pd
import pytest
import torch
from small_radiomics import draw_counts, small_model, small_store

from drlib.profiles import GradingSettings, RobustnessSettings
from drlib.radiomics.grading import cross_validate
from drlib.radiomics.robustness import (
    CLEAN,
    Perturbation,
    count_perturbed,
    difference_ratio,
    draw_performance,
    grade_perturbed,
    performance_per_fold,
    perturb_cohort,
    perturb_normalised_path,
    perturbations,
    sweep,
)
from drlib.radiomics.statistics import percentile_interval

QUICK = GradingSettings(folds=2, repeats=1, permutations=0)


def table(*rows: list[int]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), index=[f"P{n}" for n in range(len(rows))])


def test_the_difference_ratio_is_0_for_the_same_histogram_and_2_for_nothing_in_common():
    counts = table([4, 6, 0], [4, 6, 0], [4, 6, 0])
    assert difference_ratio(counts, table([4, 6, 0], [0, 0, 10], [3, 6, 1])).tolist() == [0.0, 2.0, 0.2]


def test_the_difference_ratio_matches_patients_by_name():
    counts = table([4, 0], [0, 4])
    assert difference_ratio(counts, counts.iloc[::-1]).tolist() == [0.0, 0.0]


def test_scaling_and_shifting_are_those_of_the_paper():
    x = torch.tensor([-3.0, 0.0, 2.0])
    assert Perturbation("scale", 0.5)(x).tolist() == [-4.5, 0.0, 3.0]
    assert Perturbation("shift", 0.5)(x).tolist() == [-2.5, 0.5, 2.5]
    assert len(perturbations(RobustnessSettings())) == 22


def test_a_sweep_reads_each_patient_once_and_magnitude_0_changes_nothing():
    store = small_store(12)
    result = sweep(small_model(), store, RobustnessSettings(magnitudes=(0.0, 1.0)), QUICK)
    assert set(store.reads.values()) == {1}
    ratios = result.ratios.set_index(["kind", "magnitude", "patient"])["difference_ratio"]
    assert len(ratios) == 2 * 2 * 12 and ratios.between(0, 2).all()
    assert (ratios.xs(0.0, level="magnitude") == 0).all() and (ratios.loc["shift", 1.0] > 0).any()
    performance = result.performance.set_index(["kind", "magnitude", "classifier", "fold"])["accuracy"]
    assert len(performance) == 2 * 2 * 2 * 2
    assert performance["scale", 0.0, "frozen"].tolist() == performance["shift", 0.0, "refitted"].tolist()


def test_perturbed_counts_are_those_of_perturbed_slices():
    model, store = small_model(), small_store(2)
    shift = Perturbation("shift", 0.7)
    counted = count_perturbed(model, store, [shift])[shift]
    codes = model.network.encode_to_codes(torch.from_numpy(store.images("P01")).float() + 0.7)
    assert counted.loc["P01"].tolist() == np.bincount(codes.ravel(), minlength=16).tolist()


def test_every_second_slice_makes_histograms_of_half_the_counts():
    counted = count_perturbed(small_model(), small_store(2), [CLEAN], every=2)[CLEAN]
    assert counted.sum(axis=1).tolist() == [3 * 16, 3 * 16]  # slices 0, 2 and 4 of six


def test_the_unperturbed_grading_is_that_of_the_cross_validation():
    counts, grades = draw_counts(planted={0: 2.0})
    settings = GradingSettings(folds=5, repeats=1, permutations=0)
    found = performance_per_fold(grade_perturbed({CLEAN: counts}, counts, grades, settings), grades).query("classifier == 'frozen'")
    due = cross_validate(counts, grades, settings).per_fold
    for metric in ("accuracy", "auc", "brier", "ppv_LGG"):
        assert found[metric].tolist() == pytest.approx(due[metric].tolist(), nan_ok=True)


def test_a_frozen_classifier_fails_where_a_refitted_one_learns_the_change():
    counts, grades = draw_counts(30, 30, planted={0: 5.0})
    shift = Perturbation("shift", 1.0)
    swapped = counts.copy()
    swapped[[0, 1]] = counts[[1, 0]].to_numpy()  # the perturbation gives the codeword that tells the grade another number
    settings = GradingSettings(folds=5, repeats=1, permutations=0)
    performance = performance_per_fold(grade_perturbed({CLEAN: counts, shift: swapped}, counts, grades, settings), grades)
    auc = performance[performance["kind"] == "shift"].groupby("classifier")["auc"].mean()
    assert auc["refitted"] > 0.85 > 0.75 > auc["frozen"]


def test_frozen_probabilities_of_some_patients_are_those_of_all_and_refitted_ones_learn_from_the_few():
    counts, grades = draw_counts(planted={0: 3.0})
    some = counts.iloc[::2]
    settings = GradingSettings(folds=5, repeats=1, permutations=0)
    whole, part = (grade_perturbed({CLEAN: table}, counts, grades, settings) for table in (counts, some))
    p_whole, p_part = (table.pivot(index="patient", columns="classifier", values="p_hgg") for table in (whole, part))
    assert p_part["frozen"].tolist() == pytest.approx(p_whole["frozen"].loc[p_part.index].tolist())
    assert not np.allclose(p_part["refitted"], p_part["frozen"])
    assert np.allclose(p_whole["refitted"], p_whole["frozen"])


def test_intervals_of_the_accuracy_agree_with_the_binomial_and_paired_differences_of_equals_have_no_width():
    grades = pd.Series(["LGG"] * 40 + ["HGG"] * 60, index=[f"P{n:03d}" for n in range(100)])
    right = np.arange(100) % 5 > 0  # 80 % of either grade
    p_hgg = np.where((grades == "HGG") == right, 0.9, 0.1)
    rows = pd.DataFrame({"patient": grades.index, "fold": 0, "p_hgg": p_hgg, "classifier": "frozen", "magnitude": 0.0})
    draws = draw_performance(pd.concat([rows.assign(kind="scale"), rows.assign(kind="shift")]), grades, metrics=("accuracy",))["accuracy"]
    interval = percentile_interval(draws["frozen", "scale", 0.0])
    assert interval.estimate == pytest.approx(0.8)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 100), abs=0.03)
    nothing = percentile_interval(draws["frozen", "scale", 0.0] - draws["frozen", "shift", 0.0])
    assert (nothing.estimate, nothing.low, nothing.high) == (0, 0, 0)


def test_movement_is_measured_in_the_brain_and_everywhere_and_is_nothing_without_a_perturbation():
    found = perturb_cohort(small_model(), small_store(2), [Perturbation("shift", 0.5)])
    movement = found.movement.set_index(["patient", "kind", "area"])
    assert movement.loc[("P00", "scale", "all"), "positions"] == 6 * 16
    assert movement.loc[("P00", "scale", "brain"), "positions"] == 4 * 4  # four slices, the middle 2 x 2 of 4 x 4 cells
    still = movement.xs("scale", level="kind")
    assert (still[["latent_change", "codeword_change", "changed", "difference_ratio"]] == 0).all(axis=None) and still["kept"].isna().all()
    ratio = difference_ratio(found.counts[CLEAN], found.counts[Perturbation("shift", 0.5)])
    assert movement.loc[("P01", "shift", "all"), "difference_ratio"] == pytest.approx(ratio["P01"])


def test_normalisation_takes_a_scaling_out_where_the_first_shortcut_does_not_carry_it():
    model, store, scale = small_model(), small_store(1), Perturbation("scale", 1.0)
    alone = perturb_normalised_path(model, store, [scale], ["P00"])["latent_change"].item()
    whole = perturb_cohort(model, store, [scale]).movement.query("kind == 'scale' and magnitude == 1 and area == 'brain'")
    assert alone < 1e-3 < 0.05 < whole["latent_change"].item()
