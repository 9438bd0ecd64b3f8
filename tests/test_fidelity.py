"""Reduced precision is used only where it was measured to change nothing that matters."""

import json
from dataclasses import asdict, replace

import pandas as pd
import pytest
from small_radiomics import small_model, small_store

from drlib.radiomics import fidelity
from drlib.radiomics.classifier import GradingError, fit_classifier
from drlib.radiomics.fidelity import MOST_CHANGE, MOST_DIFFERENCE, Fidelity, FidelityError, load_fidelity, measure_fidelity, save_fidelity
from drlib.radiomics.histogram import codebook_hash, count_codewords
from drlib.radiomics.robustness import difference_ratio
from drlib.segmentation.model import TrainedModel, save_model
from drlib.series.apply import open_applied_model


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return small_model()


@pytest.fixture(scope="module")
def store():
    return small_store(8)


def classifier_of(model, store, codebook=None):
    grades = pd.Series({patient: store.grade(patient) for patient in store.patients})
    return fit_classifier(count_codewords(model, store).table, grades, codebook=codebook or codebook_hash(model))


def test_the_measurement_is_what_counting_twice_says(model, store):
    measured = measure_fidelity(model, store, classifier_of(model, store), patients=store.patients[:5])
    full = count_codewords(model, store, patients=store.patients[:5]).table
    model.network.precision = "bf16"
    reduced = count_codewords(model, store, patients=store.patients[:5]).table
    model.network.precision = "fp32"
    ratios = difference_ratio(full, reduced)
    assert measured.n_patients == 5 and measured.codebook == codebook_hash(model)
    assert (measured.mean_difference_ratio, measured.max_difference_ratio) == pytest.approx((ratios.mean(), ratios.max()))
    assert ratios.max() > 0, "the toy network tells the two precisions apart, else this test says nothing"
    assert 0 < measured.max_change < 1 and 0 <= measured.n_flipped <= 5


def test_the_network_is_left_in_the_precision_it_was_in(model, store, monkeypatch):
    monkeypatch.setattr(fidelity, "count_codewords", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure_fidelity(model, store)
    assert model.network.precision == "fp32"


def test_equal_counts_pass_and_without_a_classifier_nothing_is_graded(model, store, monkeypatch):
    counts = count_codewords(model, store)
    monkeypatch.setattr(fidelity, "count_codewords", lambda *_, **__: counts)
    bare, graded = measure_fidelity(model, store), measure_fidelity(model, store, classifier_of(model, store))
    assert bare.passes and bare.n_flipped is None and bare.max_change is None
    assert graded.passes and (graded.mean_difference_ratio, graded.n_flipped, graded.max_change) == (0, 0, 0)


def test_flipped_answers_and_the_largest_change_are_those_of_the_probabilities(model, store, monkeypatch):
    probabilities = iter([[0.2, 0.6, 0.9], [0.3, 0.45, 0.9]])
    monkeypatch.setattr(fidelity, "predict_hgg", lambda *_: pd.Series(next(probabilities)))
    measured = measure_fidelity(model, store, classifier_of(model, store))
    assert measured.n_flipped == 1 and measured.max_change == pytest.approx(0.15) and not measured.passes


@pytest.mark.parametrize("wrong", [{"mean_difference_ratio": 1.01 * MOST_DIFFERENCE}, {"n_flipped": 1}, {"max_change": 1.01 * MOST_CHANGE}])
def test_each_limit_alone_refuses(wrong):
    sound = Fidelity("abc", 12, MOST_DIFFERENCE, 2 * MOST_DIFFERENCE, 0, MOST_CHANGE)
    assert sound.passes and not replace(sound, **wrong).passes


def test_no_patients_and_another_networks_classifier_are_refused(model, store):
    with pytest.raises(FidelityError, match="no"):
        measure_fidelity(model, store, patients=[])
    with pytest.raises(GradingError, match="other"):
        measure_fidelity(model, store, classifier_of(model, store, codebook="another"))


def test_a_measurement_survives_its_file_and_damage_is_named(tmp_path):
    measured = Fidelity("abc", 12, 0.01, 0.02, 0, 0.003)
    path = save_fidelity(tmp_path / "fidelity.json", measured)
    assert load_fidelity(path) == measured and json.loads(path.read_text())["passes"] is True
    path.write_text(json.dumps(asdict(measured) | {"what": 1}))
    with pytest.raises(FidelityError, match="chapters 05"):
        load_fidelity(path)


@pytest.mark.parametrize(
    "trained_in, measured, asked, used",
    [
        ("fp32", None, "auto", "fp32"),
        ("fp32", {}, "auto", "bf16"),
        ("fp32", {"n_flipped": 1}, "auto", "fp32"),
        ("fp32", {"codebook": "another"}, "auto", "fp32"),
        ("fp32", {}, "fp32", "fp32"),
        ("fp32", None, "bf16", "bf16"),
        ("bf16", None, "auto", "bf16"),
        ("bf16", {"n_flipped": 1}, "auto", "bf16"),
        ("bf16", {}, "fp32", "fp32"),
    ],
)
def test_a_model_is_applied_in_bf16_only_where_that_passed_or_its_counts_were_made_so(model, tmp_path, trained_in, measured, asked, used):
    training = model.profile.training.model_copy(update={"precision": trained_in})
    save_model(tmp_path, model.network, model.profile.model_copy(update={"training": training}), {})
    if measured is not None:
        save_fidelity(tmp_path / "fidelity.json", replace(Fidelity(codebook_hash(model), 12, 0.01, 0.02, 0, 0.0), **measured))
    applied = open_applied_model(tmp_path, precision=asked)
    assert applied.model.network.precision == applied.provenance["precision"] == used
