"""Slices hold what the volume held, where it was, and lead back to the file."""

import json

import nibabel
import numpy as np
import pytest
import torch.nn.functional as F
from synthetic_patients import LPS, REAL_SAMPLES, SHAPE, draw_images, draw_labels, needs_real_samples, write_patient
from torch import from_numpy

from drlib.cohort.brats import PatientVolume, find_patients, load_patient
from drlib.cohort.preprocessing import Geometry, make_slices, normalise
from drlib.cohort.problems import BlankModality, EmptyBrain
from drlib.cohort.regions import region_mask
from drlib.profiles import PreprocessingSettings


def settings(image_size=SHAPE[0], **others):
    return PreprocessingSettings(image_size=image_size, **others)


def volume_of(images, labels=None, voxel_mm=(1, 1, 1)):
    affine = LPS @ np.diag([*voxel_mm, 1])
    return PatientVolume("A", images.astype(np.float32), labels, affine, "HGG", affine, images.shape[1:])


@pytest.fixture
def volume():
    return volume_of(draw_images(), np.where(draw_labels() == 4, 3, draw_labels()))


# Intensities


def test_z_scores_have_mean_0_and_deviation_1_over_the_brain():
    images = draw_images()
    scored, brain = normalise(images, settings(normalisation="z-score"))
    np.testing.assert_array_equal(brain, images[0] > 0)
    for channel in scored:
        assert channel[brain].mean() == pytest.approx(0, abs=1e-5)
        assert channel[brain].std() == pytest.approx(1, abs=1e-5)
        assert (channel[~brain] == -3).all()


def test_without_a_background_value_the_outside_stays_at_minus_mean_over_deviation():
    images = draw_images()
    scored, brain = normalise(images, settings(normalisation="z-score", background=None))
    for image, channel in zip(images, scored, strict=True):
        np.testing.assert_allclose(channel[~brain], -image[brain].mean() / image[brain].std(), rtol=1e-5)


def test_one_saturated_voxel_ruins_the_z_score_but_not_the_robust_one():
    images, saturated = draw_images().astype(np.float32), draw_images().astype(np.float32)
    saturated[1, 12, 12, 6] = 1e6
    others = np.ones(SHAPE, bool)
    others[12, 12, 6] = False

    def change(normalisation):
        before, after = (normalise(x, settings(normalisation=normalisation))[0][1][others] for x in (images, saturated))
        return np.abs(after - before).max()

    assert change("z-score") > 1
    assert change("robust-z-score") < 0.02


def test_the_robust_score_is_that_of_the_voxels_between_the_percentiles():
    images = draw_images()
    scored, brain = normalise(images, settings())
    values = images[2][brain].astype(float)
    low, high = np.percentile(values, [0.5, 99.5])
    kept = values[(values >= low) & (values <= high)]
    np.testing.assert_allclose(scored[2][brain], (values - kept.mean()) / kept.std(), atol=1e-4)


def test_scaling_a_modality_changes_no_score():
    images = draw_images().astype(np.float32)
    scaled = images * np.array([0.5, 3, 10, 1])[:, None, None, None]
    np.testing.assert_allclose(normalise(images, settings())[0], normalise(scaled, settings())[0], atol=1e-4)


def test_a_field_of_view_that_ends_inside_the_brain_does_not_move_the_scores_of_the_rest():
    images, cut = draw_images(), draw_images()
    cut[3, :, :, :4] = 0
    whole = normalise(np.where(cut[3] > 0, images, 0), settings())[0][3]
    partial, brain = normalise(cut, settings())
    np.testing.assert_array_equal(brain, images[0] > 0)
    np.testing.assert_allclose(partial[3][cut[3] > 0], whole[cut[3] > 0], atol=1e-5)


def test_blank_modalities_and_empty_brains_are_errors_not_nan():
    images = draw_images()
    for blank in (0, images[3] * 0 + 5, (images[3] > 0) * 5):
        images[3] = blank
        with pytest.raises(BlankModality, match="flair"):
            normalise(images, settings())
    with pytest.raises(EmptyBrain):
        normalise(np.zeros_like(images), settings())
    with pytest.raises(BlankModality, match="patient A"):
        make_slices(volume_of(images), settings(), 1.0)


# Slices


def test_slices_of_the_volumes_own_size_are_its_planes_with_rows_j_and_columns_i(volume):
    slices = make_slices(volume, settings(), 1.0)
    scored, _ = normalise(volume.images, settings())
    assert slices.images.dtype == np.float16 and slices.labels.dtype == np.uint8
    np.testing.assert_array_equal(slices.images, scored.transpose(3, 0, 2, 1).astype(np.float16))
    np.testing.assert_array_equal(slices.labels, volume.labels.transpose(2, 1, 0))


def test_anterior_is_up_left_is_right_and_the_first_slice_is_the_lowest(tmp_path):
    """A file in RAS order with a bright spot that is left, anterior and superior in the patient."""
    images = draw_images()
    to_ras = LPS @ np.diag([-1, -1, 1, 1])
    images[:, 5, 18, 9] = 5000
    write_patient(tmp_path, "A", images=images, affine=to_ras)
    slices = make_slices(load_patient(*find_patients(tmp_path)), settings(), 1.0)
    assert nibabel.aff2axcodes(to_ras) == ("R", "A", "S")
    s, row, column = np.unravel_index(slices.images[:, 0].argmax(), slices.images[:, 0].shape)
    assert (s, row, column) == (9, SHAPE[1] - 1 - 18, SHAPE[0] - 1 - 5)
    assert s > SHAPE[2] / 2 and row < SHAPE[1] / 2 and column > SHAPE[0] / 2


@pytest.mark.parametrize("size", [16, 32])
def test_resizing_agrees_with_torch_and_keeps_labels_whole(volume, size):
    slices = make_slices(volume, settings(size), 1.0)
    scored, _ = normalise(volume.images, settings())
    due = F.interpolate(from_numpy(np.ascontiguousarray(scored.transpose(3, 0, 2, 1))), size=(size, size), mode="bilinear", antialias=True)
    np.testing.assert_allclose(slices.images, due, atol=4e-3)
    labels = F.interpolate(
        from_numpy(np.ascontiguousarray(volume.labels.transpose(2, 1, 0)))[:, None], size=(size, size), mode="nearest-exact"
    )
    np.testing.assert_array_equal(slices.labels, labels[:, 0])


def test_thicker_slices_are_the_mean_of_the_planes_they_cover(volume):
    slices = make_slices(volume, settings(), 3.0)
    scored, _ = normalise(volume.images, settings())
    due = scored.reshape(4, *SHAPE[:2], SHAPE[2] // 3, 3).mean(axis=-1).transpose(3, 0, 2, 1)
    np.testing.assert_allclose(slices.images, due, atol=4e-3)
    np.testing.assert_array_equal(slices.labels, volume.labels[..., 1::3].transpose(2, 1, 0))
    assert slices.geometry.spacing_mm == 3.0


def test_a_slice_that_ends_within_a_plane_takes_that_share_of_it():
    ramp = np.ones((4, 4, 4, 5)) * np.arange(1, 6)
    ramp += np.random.default_rng(0).normal(0, 1e-3, ramp.shape)
    volume = volume_of(ramp)
    due = [(1 + 0.5 * 2) / 1.5, (0.5 * 2 + 3) / 1.5, (4 + 0.5 * 5) / 1.5]  # 1.5 mm each, 4.5 of the 5 mm
    scored = make_slices(volume, settings(16, normalisation="z-score"), 1.5).images[:, 0].astype(float).mean(axis=(1, 2))
    np.testing.assert_allclose(scored * ramp[0].std() + ramp[0].mean(), due, atol=0.01)


def test_slices_within_one_percent_of_the_spacing_are_taken_as_they_are(volume):
    assert make_slices(volume, settings(), 1.009).geometry.spacing_mm == 1.0
    assert make_slices(volume, settings(), 1.009).geometry.n_slices == SHAPE[2]
    assert make_slices(volume, settings(), 1.2).geometry.n_slices == 10


def test_brats_at_2_mm_has_78_slices():
    images = np.zeros((4, 16, 16, 155), np.float32)
    images[:, 4:8, 4:8, 20:90] = np.random.default_rng(0).uniform(1, 2, (4, 4, 4, 70))
    assert make_slices(volume_of(images), settings(16), 2.0).geometry.n_slices == 78


def test_a_volume_that_is_not_square_is_surrounded_not_stretched():
    images, labels = draw_images(shape=(24, 18, 12)), draw_labels((24, 18, 12))
    slices = make_slices(volume_of(images, labels), settings(), 1.0)
    np.testing.assert_array_equal(slices.labels[:, 3:21], labels.transpose(2, 1, 0))
    assert (slices.images[:, :, [*range(3), *range(21, 24)]] == -3).all()
    np.testing.assert_array_equal(slices.geometry.restore(slices.labels), labels)


def test_a_value_beyond_float16_stays_finite(volume):
    volume.images[1, 12, 12, 6] = 1e9
    assert np.isfinite(make_slices(volume, settings(), 1.0).images).all()


def test_a_patient_without_segmentation_has_no_label_slices():
    assert make_slices(volume_of(draw_images()), settings(), 1.0).labels is None


# Back to the file


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SPL", "AIR"])
@pytest.mark.parametrize("size", [24, 48])
def test_labels_come_back_voxel_for_voxel_in_the_files_own_orientation(tmp_path, axes, size):
    shape = (24, 20, 12)
    change = nibabel.orientations.ornt_transform(nibabel.io_orientation(LPS), nibabel.orientations.axcodes2ornt(axes))
    affine = LPS @ nibabel.orientations.inv_ornt_aff(change, shape)
    turned = [nibabel.apply_orientation(v, change) for v in (*draw_images(shape=shape), draw_labels(shape))]
    write_patient(tmp_path, "A", images=np.stack(turned[:4]), labels=turned[4], affine=affine)
    slices = make_slices(load_patient(*find_patients(tmp_path)), settings(size), 1.0)
    restored = slices.geometry.restore(slices.labels)
    np.testing.assert_array_equal(restored, np.where(turned[4] == 4, 3, turned[4]))
    assert restored.dtype == np.uint8
    np.testing.assert_allclose(slices.geometry.affine, affine, atol=1e-4)


def test_linear_restoring_is_exact_on_a_linear_map():
    """A map that grows linearly along rows, columns and slices: each voxel gets the value at its own centre."""
    geometry = make_slices(volume_of(draw_images()), settings(48), 2.0).geometry
    k, j, i = np.meshgrid(np.arange(6) * 2 + 0.5, (np.arange(48) - 0.5) / 2, (np.arange(48) - 0.5) / 2, indexing="ij")
    due = np.fromfunction(lambda i, j, k: 3 * i - j + 2 * k, SHAPE)
    restored = geometry.restore(3 * i - j + 2 * k, order=1)
    np.testing.assert_allclose(restored[1:-1, 1:-1, 1:-1], due[1:-1, 1:-1, 1:-1], atol=1e-4)


def test_an_index_map_comes_back_as_blocks():
    geometry = make_slices(volume_of(draw_images()), settings(), 1.0).geometry
    codes = np.arange(SHAPE[2] * 4 * 3).reshape(SHAPE[2], 4, 3)
    restored = geometry.restore(codes)
    assert restored.dtype == codes.dtype
    np.testing.assert_array_equal(restored, codes.repeat(6, axis=1).repeat(8, axis=2).transpose(2, 1, 0))


def test_restoring_refuses_maps_of_another_volume(volume):
    geometry = make_slices(volume, settings(), 1.0).geometry
    with pytest.raises(ValueError, match="due"):
        geometry.restore(np.zeros((SHAPE[2] + 1, 4, 4)))
    with pytest.raises(ValueError, match="order is 3"):
        geometry.restore(np.zeros((SHAPE[2], 4, 4)), order=3)


def test_geometry_survives_json(volume):
    geometry = make_slices(volume, settings(32), 2.0).geometry
    assert Geometry.from_dict(json.loads(json.dumps(geometry.to_dict()))) == geometry


def test_the_volumes_of_pixels_add_up_to_the_field_of_view(volume):
    geometry = make_slices(volume, settings(32), 2.0).geometry
    assert geometry.pixel_volume_mm3 * 32 * 32 * geometry.n_slices == pytest.approx(np.prod(SHAPE))


@needs_real_samples
def test_a_real_tumour_survives_the_way_to_256_pixels_and_back():
    volume = load_patient(find_patients(REAL_SAMPLES)[1])
    slices = make_slices(volume, settings(256), 1.0)
    assert slices.images.shape == (155, 4, 256, 256)
    np.testing.assert_array_equal(slices.geometry.restore(slices.labels), volume.labels)
    coarse = make_slices(volume, settings(128), 2.0)
    restored = region_mask(coarse.geometry.restore(coarse.labels), "WT")
    true = region_mask(volume.labels, "WT")
    assert 2 * (restored & true).sum() / (restored.sum() + true.sum()) > 0.93
    assert coarse.geometry.pixel_volume_mm3 * (coarse.labels > 0).sum() == pytest.approx(true.sum(), rel=0.03)
