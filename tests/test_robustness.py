import numpy as np
import pandas as pd
import pytest
import torch
from small_radiomics import draw_counts, small_model, small_store

from drlib.profiles import GradingSettings, RobustnessSettings
from drlib.radiomics.grading import cross_validate
from drlib.radiomics.robustness import Perturbation, count_perturbed, difference_ratio, grade_perturbed, perturbations, sweep

CLEAN = Perturbation("scale", 0.0)
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
    found = grade_perturbed({CLEAN: counts}, CLEAN, grades, settings).query("classifier == 'frozen'")
    due = cross_validate(counts, grades, settings).per_fold
    for metric in ("accuracy", "auc", "brier", "ppv_LGG"):
        assert found[metric].tolist() == pytest.approx(due[metric].tolist(), nan_ok=True)


def test_a_frozen_classifier_fails_where_a_refitted_one_learns_the_change():
    counts, grades = draw_counts(30, 30, planted={0: 5.0})
    shift = Perturbation("shift", 1.0)
    swapped = counts.copy()
    swapped[[0, 1]] = counts[[1, 0]].to_numpy()  # the perturbation gives the codeword that tells the grade another number
    settings = GradingSettings(folds=5, repeats=1, permutations=0)
    performance = grade_perturbed({CLEAN: counts, shift: swapped}, CLEAN, grades, settings)
    auc = performance[performance["kind"] == "shift"].groupby("classifier")["auc"].mean()
    assert auc["refitted"] > 0.85 > 0.75 > auc["frozen"]
