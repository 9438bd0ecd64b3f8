"""Leaks: twins are found whether mirrored or not, others are not, and the control looks only where there is no tumour."""

import numpy as np
import pandas as pd
import pytest
import torch
from small_radiomics import BACKGROUND, MemoryStore, small_profile, small_store

from drlib.radiomics.leaks import LeakReport, control_slices, count_control, find_twins, find_twins_in, head_pattern, without_twins
from drlib.radiomics.statistics import Interval
from drlib.segmentation.model import TrainedModel
from drlib.segmentation.network import SegmentationNetwork


def heads(n: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Heads of one shape with what differs between people: smooth fields within the same brain."""
    random, images = np.random.default_rng(seed), {}
    shape = np.zeros((20, 1, 32, 32), dtype=bool)
    shape[2:18, :, 6:26, 8:24] = True
    shared = random.normal(0, 1, (20, 4, 32, 32))
    for number in range(n):
        own = np.kron(random.normal(0, 1, (5, 4, 8, 8)), np.ones((4, 1, 4, 4)))
        images[f"P{number}"] = np.where(shape, shared + own, BACKGROUND).astype(np.float16)
    return images


def test_a_patient_under_a_second_name_is_found_mirrored_or_not():
    images = heads()
    images["copy"] = images["P1"] + np.float16(0.01)  # exported again
    images["mirror"] = images["P2"][..., ::-1]
    twins = find_twins(np.array([head_pattern(image) for image in images.values()]), list(images))
    assert twins[["first", "second", "mirrored"]].to_numpy().tolist() == [["P1", "copy", False], ["P2", "mirror", True]]
    assert (twins["correlation"] > 0.99).all()
    assert without_twins(list(images), twins) == [f"P{number}" for number in range(8)]


def test_different_heads_are_no_twins_though_they_share_their_shape():
    images = heads(12)
    assert find_twins(np.array([head_pattern(image) for image in images.values()]), list(images)).empty


def test_a_store_is_searched_patient_by_patient():
    images = heads() | {"again": heads()["P3"][..., ::-1]}
    store = MemoryStore(images, dict.fromkeys(images), dict.fromkeys(images, "LGG"))
    assert find_twins_in(store)["mirrored"].tolist() == [True]
    assert find_twins_in(store, ["P0", "P1", "P2", "P3"]).empty


def test_the_control_is_low_in_the_head_and_away_from_tumour():
    images = heads(1)["P0"]  # brain in slices 2 to 17
    tumour = np.zeros(20, dtype=bool)
    tumour[8] = True
    assert control_slices(images, tumour, spacing_mm=4.0).tolist() == [2, 3, 4, 5, 6, 10, 11]  # of 40 mm; 6 mm are kept off
    assert control_slices(np.full_like(images, BACKGROUND), tumour, 4.0).tolist() == []


def test_nothing_of_the_tumour_enters_the_control():
    torch.manual_seed(0)
    profile = small_profile()
    model = TrainedModel(SegmentationNetwork(profile.network, profile.quantizer).eval(), profile, {})
    images = heads(4)
    labels = {patient: np.zeros((20, 32, 32), dtype=np.uint8) for patient in images}
    for label in labels.values():
        label[8, 10:14, 10:14] = 1
    store = MemoryStore(images, labels, dict.fromkeys(images, "LGG"))
    store.spacing_mm = 4.0
    before = count_control(model, store)
    for image in images.values():
        image[8] += np.float16(3)  # the slice with the tumour looks otherwise
    after = count_control(model, store)
    pd.testing.assert_frame_equal(before, after)
    assert np.allclose(before.sum(axis=1), 1e4)


def test_a_patient_without_such_a_slice_is_neither_grade():
    torch.manual_seed(0)
    profile = small_profile()
    model = TrainedModel(SegmentationNetwork(profile.network, profile.quantizer).eval(), profile, {})
    store = small_store(3)
    store.spacing_mm = 4.0
    store._labels["P00"] = np.ones((6, 32, 32), dtype=np.uint8)
    counts = count_control(model, store)
    assert np.allclose(counts.loc["P00"], counts.loc[["P01", "P02"]].mean())


@pytest.mark.parametrize(("low", "warned"), [(0.45, False), (0.55, True)])
def test_a_grade_that_shows_without_tumour_is_warned_of(low, warned):
    none = pd.DataFrame(columns=["first", "second", "mirrored", "correlation"])
    assert bool(LeakReport(none, Interval(0.7, low, 0.9)).warnings) == warned


def test_the_warning_of_twins_names_both():
    twins = pd.DataFrame([["A", "B", True, 0.99]], columns=["first", "second", "mirrored", "correlation"])
    (sentence,) = LeakReport(twins, None).warnings
    assert "B is A, mirrored" in sentence and "keep one" in sentence
