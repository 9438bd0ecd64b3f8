from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from drlib.cohort.patient import PatientVolume
from drlib.cohort.preprocessing import make_slices
from drlib.profiles import PreprocessingSettings
from drlib.radiomics.scanners import (
    SCANNER_CHANGES,
    BiasField,
    Blur,
    Contrast,
    Gain,
    MissingModality,
    RicianNoise,
    ThickSlices,
    change_slices,
    choose_patients,
    thick_slice_weights,
    within_brain,
)

VOXEL_MM = (2.0, 2.0, 2.0)
SETTINGS = PreprocessingSettings(image_size=32)


def volume(seed: int = 0, shape: tuple[int, int, int] = (32, 32, 20)) -> np.ndarray:
    """Return raw volumes (4, i, j, k), float32: positive inside a ball, 0 outside."""
    centres = [(np.arange(n) + 0.5) / n * 2 - 1 for n in shape]
    ball = sum(axis**2 for axis in np.meshgrid(*centres, indexing="ij")) < 0.8
    random = np.random.default_rng(seed)
    levels = np.array([800, 500, 1200, 300])[:, None, None, None]
    return (ball * levels * random.uniform(0.7, 1.3, (4, *shape))).astype(np.float32)


def patient(name: str = "P0", seed: int = 0) -> PatientVolume:
    images = volume(seed)
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    return PatientVolume(name, images, None, affine, "HGG", affine, images.shape[1:])


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("change", SCANNER_CHANGES, ids=lambda change: f"{change.kind} {change.level}")
def test_the_background_stays_0_and_the_brain_stays_brain(change):
    images = volume()
    changed = change.on_volume(images, VOXEL_MM, draw())
    assert changed.dtype == np.float32 and np.array_equal(changed != 0, images != 0)
    assert np.array_equal(images, volume())  # what was given is as it was


@pytest.mark.parametrize("change", SCANNER_CHANGES, ids=lambda change: f"{change.kind} {change.level}")
def test_no_severity_changes_nothing_and_more_changes_more(change):
    clean = make_slices(patient(), SETTINGS, 2.0).images
    assert np.array_equal(change_slices(patient(), replace(change, magnitude=0), SETTINGS, 2.0, seed=0), clean)
    if not isinstance(change, MissingModality | Gain):
        small, large = (
            np.abs(change_slices(patient(), replace(change, magnitude=change.magnitude * times), SETTINGS, 2.0, 0) - clean).mean()
            for times in (1, 3)
        )
        assert 0 < small < large


def test_a_gain_of_each_scan_leaves_z_scored_slices_as_they_were():
    clean, gained = (change_slices(patient(), change, SETTINGS, 2.0, seed=0) for change in (None, Gain(0.5)))
    assert np.abs(gained.astype(float) - clean).max() <= 2**-8  # one step of float16 at 4 standard deviations
    doubled = replace(patient(), images=patient().images * np.array([2, 0.5, 4, 8], np.float32)[:, None, None, None])
    assert np.array_equal(make_slices(doubled, SETTINGS, 2.0).images, clean)  # powers of 2 are exact


def test_a_bias_field_is_smooth_and_its_logarithm_has_mean_0_and_the_deviation_asked_for():
    images = volume(shape=(40, 40, 30))
    field = np.log(
        BiasField(0.2).on_volume(images, VOXEL_MM, draw()) / np.where(images, images, 1), where=images != 0, out=np.zeros_like(images)
    )
    assert np.allclose(field, field[0], atol=1e-5)  # the same coil for all four
    inside = field[0][images[0] != 0]
    assert inside.mean() == pytest.approx(0, abs=1e-4) and inside.std() == pytest.approx(0.2, rel=1e-3)
    steps = np.abs(np.diff(field[0], axis=0))[(images[0, 1:] != 0) & (images[0, :-1] != 0)]
    assert steps.max() < 0.2 * 2 * np.pi / 40 * 4  # two half waves: no step of a voxel is a leap


def test_noise_has_the_moments_of_rice():
    images = np.full((4, 64, 64, 20), 100, np.float32)
    changed = RicianNoise(5).on_volume(images, VOXEL_MM, draw())
    assert changed.mean() == pytest.approx(stats.rice.mean(20, scale=5), rel=1e-3)  # about 100 + sd^2 / 200
    assert changed.std() == pytest.approx(stats.rice.std(20, scale=5), rel=5e-3)  # about the deviation itself
    faint = images.copy()
    faint[:, 32:] = 1e-6  # half the voxels without signal: the mean is 50, the noise 5 % of it
    silent = RicianNoise(5).on_volume(faint, VOXEL_MM, draw())[:, 32:]
    assert silent.mean() == pytest.approx(2.5 * np.sqrt(np.pi / 2), rel=1e-2)  # Rayleigh
    assert silent.std() == pytest.approx(2.5 * np.sqrt(2 - np.pi / 2), rel=1e-2)


def test_another_contrast_keeps_the_median_and_the_order_of_the_voxels():
    images = volume()
    changed = Contrast(0.5).on_volume(images, VOXEL_MM, draw())
    inside = images[0] != 0
    assert np.median(changed[0][inside]) == pytest.approx(np.median(images[0][inside]), rel=1e-3)
    assert (np.diff(changed[0][inside][np.argsort(images[0][inside])]) >= 0).all()
    twice = images[0][inside] / np.median(images[0][inside])
    assert np.allclose(changed[0][inside] / np.median(images[0][inside]), twice**1.5, rtol=1e-4)


def test_thick_slices_are_means_of_their_planes_interpolated_linearly():
    weights = thick_slice_weights(6, 2)
    assert np.allclose(weights.sum(axis=1), 1) and np.allclose(thick_slice_weights(5, 1), np.eye(5))
    ramp = weights @ np.array([0, 1, 2, 3, 4, 5.0])
    assert np.allclose(ramp, [0.5, 1, 2, 3, 4, 4.5])  # slice centres at 0.5, 2.5, 4.5: linear between, constant beyond
    assert np.allclose(thick_slice_weights(7, 2.5) @ np.ones(7), 1)


def test_slices_thinner_than_a_voxel_are_those_of_the_file():
    assert np.array_equal(ThickSlices(1.5).on_volume(volume(), VOXEL_MM, draw()), volume())


def test_blur_has_the_width_asked_for_and_keeps_a_flat_brain_flat_up_to_its_border():
    flat = np.where(volume() != 0, np.float32(7), 0)
    assert np.allclose(Blur(4).on_volume(flat, VOXEL_MM, draw()), flat, rtol=1e-5)
    assert np.allclose(ThickSlices(5).on_volume(flat, VOXEL_MM, draw()), flat, rtol=1e-5)
    point = np.full((4, 41, 41, 3), 1e-3, np.float32)
    point[:, 20, 20, 1] = 1000
    profile = Blur(8).on_volume(point, (1, 1, 1), draw())[0, :, 20, 1]
    assert profile[16] / profile[20] == pytest.approx(0.5, abs=0.01)  # half the height half of 8 mm away
    assert np.allclose(within_brain(flat, lambda values: values), flat)


def test_a_missing_scan_holds_the_background_everywhere_and_the_others_are_as_they_were():
    clean, without = (change_slices(patient(), change, SETTINGS, 2.0, 0) for change in (None, MissingModality(1, "t2")))
    assert (without[:, 2] == SETTINGS.background).all() and np.array_equal(without[:, [0, 1, 3]], clean[:, [0, 1, 3]])
    raw = SETTINGS.model_copy(update={"background": None})  # outside is -mean / deviation, another value for each patient and scan
    clean, without = (change_slices(patient(), change, raw, 2.0, 0) for change in (None, MissingModality(1, "t2")))
    assert (without[:, 2] == clean[0, 2, 0, 0]).all()


def test_the_same_seed_gives_the_same_bytes_whatever_came_before_and_patients_differ():
    order = [RicianNoise(5), BiasField(0.2)]
    there = [change_slices(patient(), change, SETTINGS, 2.0, 1) for change in order]
    back = [change_slices(patient(), change, SETTINGS, 2.0, 1) for change in order[::-1]][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(there, back, strict=True))
    assert not np.array_equal(there[0], change_slices(patient("P1"), order[0], SETTINGS, 2.0, 1))
    assert not np.array_equal(there[0], change_slices(patient(), order[0], SETTINGS, 2.0, 2))


def test_patients_to_scan_again_have_the_grades_of_the_cohort():
    grades = pd.Series(["LGG"] * 30 + ["HGG"] * 50, index=[f"P{n:02d}" for n in range(80)])
    chosen = choose_patients(grades, 16, seed=0)
    assert grades[chosen].value_counts().to_dict() == {"HGG": 10, "LGG": 6}
    assert chosen == sorted(chosen) == choose_patients(grades, 16, 0) and chosen != choose_patients(grades, 16, 1)
    assert choose_patients(grades, 100, 0) == list(grades.index)
