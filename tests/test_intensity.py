"""The intensity histogram (drlib.radiomics.intensity)."""

import numpy as np
import pytest
from small_radiomics import BACKGROUND, MemoryStore, small_store

from drlib.radiomics.intensity import RANGE, count_intensities


def one_patient(images: np.ndarray) -> MemoryStore:
    return MemoryStore({"P": images}, {"P": None}, {"P": "LGG"})


def test_each_modality_counts_every_brain_pixel_once_and_no_background():
    store = small_store(3)
    counts = count_intensities(store, ["P02", "P00"], 8, n_jobs=1)
    assert counts.index.tolist() == ["P02", "P00"] and counts.shape == (2, 32)
    for patient in counts.index:
        brain = (np.abs(store.images(patient).astype(np.float32) - BACKGROUND) > 1e-2).any(axis=1).sum()
        assert counts.loc[patient].to_numpy().reshape(4, 8).sum(axis=1).tolist() == [brain] * 4


def test_counts_are_those_of_numpys_histogram_with_open_ends():
    images = np.full((2, 4, 16, 16), BACKGROUND, dtype=np.float16)
    images[1, :, 4:12, 4:12] = np.random.default_rng(0).normal(0, 6, (4, 8, 8))
    counts = count_intensities(one_patient(images), ["P"], 12, n_jobs=1)
    edges = np.linspace(*RANGE, 13)
    edges[[0, -1]] = -np.inf, np.inf
    due = np.histogram(images[1, 2, 4:12, 4:12].astype(np.float32), edges)[0]
    assert counts.filter(like="t2_").to_numpy()[0].tolist() == due.tolist() and due[[0, -1]].min() > 0


def test_a_brain_pixel_that_has_the_value_of_the_background_in_one_modality_still_counts():
    images = np.full((1, 4, 8, 8), BACKGROUND, dtype=np.float16)
    images[0, 1, 4, 4] = 2.0
    counts = count_intensities(one_patient(images), ["P"], 4, n_jobs=1)
    assert counts.to_numpy().reshape(4, 4).sum(axis=1).tolist() == [1, 1, 1, 1]
    assert counts.loc["P", "t1ce_bin_002"] == 1 and counts.loc["P", "t1_bin_000"] == 1


@pytest.mark.parametrize("shift", [0.5, -0.5])
def test_a_brighter_patient_has_its_counts_in_higher_bins(shift):
    images = np.full((1, 4, 16, 16), BACKGROUND, dtype=np.float16)
    images[0, :, 2:14, 2:14] = np.random.default_rng(1).normal(0, 1, (4, 12, 12))
    moved = np.where(images == BACKGROUND, images, images + np.float16(shift))
    means = [count_intensities(one_patient(i), ["P"], 24, n_jobs=1).to_numpy()[0, :24] @ np.arange(24) / 144 for i in (images, moved)]
    assert means[1] - means[0] == pytest.approx(shift / 0.5, abs=0.2)  # bins are half a deviation wide
