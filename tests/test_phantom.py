"""The phantom cohort keeps its promises: exact volumes, Table 1, one set of bytes per seed, and variants that vary what they say."""

import hashlib

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import binary_dilation, label
from scipy.stats import ks_2samp, mannwhitneyu

from drlib.cohort.brats import find_patients
from drlib.cohort.phantom import TABLE_1, compare_with_table_1, draw_cohort, draw_truth, make_cohort, render_patient
from drlib.cohort.phantom.anatomy import Head, Push, draw_shape, undo_push
from drlib.cohort.phantom.grid import Grid, lattice_noise
from drlib.cohort.phantom.signal import Sequence, sequence_signal
from drlib.cohort.phantom.tumour import DoesNotFit, arrival_times, first_voxels
from drlib.cohort.phantom.volumes import COMPARTMENTS
from drlib.errors import DeepRadiomicsError
from drlib.profiles import CohortSettings
from drlib.seeds import generator

SMALL = CohortSettings(spacing_mm=4.0, n_segmentation=4, n_grading=8, lgg_share=0.375)
PAPER_SIZED = CohortSettings(spacing_mm=1.0, n_segmentation=4, n_grading=335)
VOLUMES = [f"{name}_cm3" for name in COMPARTMENTS]


@pytest.fixture(scope="module")
def draws():
    return draw_cohort(SMALL, seed=3)


@pytest.fixture(scope="module")
def volumes(draws):
    return [render_patient(draw, 4.0) for draw in draws]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "two workers"
    return folder, make_cohort(folder, SMALL, seed=3, n_jobs=2, progress=False)


def graded(variant: str, n: int = 335, seed: int = 0) -> pd.DataFrame:
    truth = draw_truth(CohortSettings(spacing_mm=1.0, n_segmentation=4, n_grading=n, lgg_share=0.4, variant=variant), seed)
    return truth[truth["cohort"] == "grading"]


def digests(folder) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_compartments_have_exactly_the_drawn_voxels(draws, volumes):
    for draw, volume in zip(draws, volumes, strict=True):
        assert tuple(np.bincount(volume.labels.ravel(), minlength=4)[1:]) == draw.counts(4.0)


def test_images_are_finite_positive_in_the_brain_and_zero_outside(draws, volumes):
    for draw, volume in zip(draws, volumes, strict=True):
        assert volume.images.dtype == np.int16 and volume.images.shape == (4, 60, 60, 39)
        whole = [m for m, (_, scan) in enumerate(draw.scans.items()) if not (scan.cut_below_mm or scan.cut_above_mm)]
        brain = volume.images[whole[0]] > 0
        assert 1.0e6 < brain.sum() * 4.0**3 < 1.7e6  # mm3: a human brain
        for image in volume.images[whole]:
            assert np.array_equal(image > 0, brain)
        assert not (volume.labels[~brain]).any()
        assert volume.images.min() >= 0


def test_whole_tumour_is_one_piece_and_the_ring_touches_its_core(draws, volumes):
    for draw, volume in zip(draws, volumes, strict=True):
        parts, n = label(volume.labels > 0, structure=np.ones((3, 3, 3)))
        assert np.bincount(parts.ravel())[1:].max() > 0.97 * (volume.labels > 0).sum()
        if draw.grade == "HGG":
            assert (binary_dilation(volume.labels == 1, np.ones((3, 3, 3))) & (volume.labels == 3)).any()


def test_tumours_look_as_tumours_do(draws, volumes):
    contrast = []
    for volume in volumes:
        healthy = (volume.labels == 0) & (volume.images > 0).all(0)
        z = [(image - np.mean(image[healthy])) / np.std(image[healthy]) for image in volume.images.astype(float)]
        mean = {(m, n): z[m][volume.labels == n].mean() if (volume.labels == n).sum() > 20 else np.nan for m in range(4) for n in (1, 2, 3)}
        contrast.append([mean[3, 2], mean[1, 3] - mean[0, 3], mean[2, 1]])
    flair_of_oedema, enhancement, t2_of_core = np.nanmedian(contrast, axis=0)
    assert flair_of_oedema > 0.8 and enhancement > 1.0 and t2_of_core > 0.8


def test_the_bytes_do_not_depend_on_the_number_of_workers(cohort, tmp_path):
    make_cohort(tmp_path / "one worker", SMALL, seed=3, n_jobs=1, progress=False)
    assert digests(tmp_path / "one worker") == digests(cohort[0])


def test_another_seed_gives_another_cohort():
    assert not np.allclose(draw_truth(SMALL, 3)[VOLUMES], draw_truth(SMALL, 4)[VOLUMES])


def test_the_folder_is_a_brats_cohort(cohort):
    folder, truth = cohort
    patients = {patient.id: patient for patient in find_patients(folder)}
    assert sorted(patients) == truth["id"].tolist()
    for row in truth.itertuples():
        assert patients[row.id].grade == (row.grade if row.cohort == "grading" else None)
    image = nibabel.load(patients[truth["id"][0]].files["t1"])
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S") and image.get_data_dtype() == np.int16
    assert set(np.unique(np.asarray(nibabel.load(patients[truth["id"][0]].segmentation).dataobj))) <= {0, 1, 2, 4}
    assert pd.read_csv(folder / "truth.csv")["id"].tolist() == truth["id"].tolist()
    assert "Fonov" in (folder / "PROVENANCE.txt").read_text()


def test_a_second_run_keeps_what_is_complete_and_another_seed_is_refused(cohort):
    folder, _ = cohort
    times = {p: p.stat().st_mtime_ns for p in folder.rglob("*.nii.gz")}
    make_cohort(folder, SMALL, seed=3, n_jobs=1, progress=False)
    assert times == {p: p.stat().st_mtime_ns for p in folder.rglob("*.nii.gz")}
    with pytest.raises(DeepRadiomicsError, match="another seed"):
        make_cohort(folder, SMALL, seed=4, n_jobs=1, progress=False)


def test_drawn_volumes_meet_table_1_of_the_paper():
    truth = draw_truth(PAPER_SIZED, seed=0)
    table = compare_with_table_1(truth[truth["cohort"] == "grading"])
    for (grade, region), row in table.iterrows():
        tolerance = 0.12 * TABLE_1[grade][region][1]
        assert abs(row["cohort_mean"] - row["paper_mean"]) < tolerance
        assert row["cohort_sd"] == pytest.approx(row["paper_sd"], rel=0.15)
    assert table.xs("LGG")["n"].unique() == [76] and table.xs("HGG")["n"].unique() == [259]


def test_a_third_of_lgg_does_not_enhance_and_every_hgg_does():
    truth = graded("standard")
    assert 0.27 < (truth.loc[truth["grade"] == "LGG", "ET_cm3"] == 0).mean() < 0.35
    assert (truth.loc[truth["grade"] == "HGG", "ET_cm3"] > 0).all()


def test_null_grade_tells_nothing_about_volumes_or_scanner():
    p_values = []
    for seed in range(12):
        truth = graded("null", 120, seed)
        low, high = truth[truth["grade"] == "LGG"], truth[truth["grade"] == "HGG"]
        p_values.append(min(mannwhitneyu(low[c], high[c]).pvalue for c in VOLUMES) * len(VOLUMES))
    assert np.sum(np.array(p_values) < 0.05) <= 3
    assert len(truth["growth"].unique()) == 2


@pytest.mark.parametrize("compartment", COMPARTMENTS)
def test_planted_grade_is_in_one_compartment_alone(compartment):
    truth = graded(f"planted-{compartment}")
    low, high = truth[truth["grade"] == "LGG"], truth[truth["grade"] == "HGG"]
    for name in COMPARTMENTS:
        p_value = ks_2samp(low[f"{name}_cm3"], high[f"{name}_cm3"]).pvalue
        assert p_value < 1e-6 if name == compartment else p_value > 0.05
    assert truth["growth"].nunique() == 1


def test_a_planted_texture_changes_the_core_and_nothing_else():
    settings = SMALL.model_copy(update={"variant": "planted-texture", "n_grading": 200})
    graded = [draw for draw in draw_cohort(settings, 0) if draw.cohort == "grading"]
    necrotic = {grade: [draw.appearance.necrotic for draw in graded if draw.grade == grade] for grade in ("LGG", "HGG")}
    assert max(necrotic["LGG"]) < min(necrotic["HGG"])
    assert {draw.growth_grade for draw in graded} == {"HGG"}
    for other in ("oedema_strength", "vessels", "cystic"):
        values = [[getattr(draw.appearance, other) for draw in graded if draw.grade == grade] for grade in ("LGG", "HGG")]
        assert ks_2samp(*values).pvalue > 0.05
    for compartment in range(3):
        volumes = [[draw.volumes_cm3[compartment] for draw in graded if draw.grade == grade] for grade in ("LGG", "HGG")]
        assert ks_2samp(*volumes).pvalue > 0.05


def test_confounded_grades_have_a_scanner_each_and_the_same_tumours():
    truth = graded("confounded")
    assert (truth.groupby("grade")["scanner"].nunique() == 1).all() and truth["scanner"].nunique() == 2
    for name in VOLUMES:
        assert mannwhitneyu(*(table[name] for _, table in truth.groupby("grade"))).pvalue > 0.05


def test_site_shifted_patients_come_from_one_other_scanner_with_the_same_tumours():
    shifted, standard = graded("site-shifted"), graded("standard")
    assert shifted["scanner"].unique().tolist() == ["site-shifted"] and standard["scanner"].nunique() > 8
    assert np.allclose(shifted[VOLUMES], standard[VOLUMES])


def test_grid_at_one_millimetre_is_that_of_brats():
    assert Grid(1.0).shape == (240, 240, 155)
    assert Grid(1.0).affine.tolist() == [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("spacing", [2.0, 3.0, 4.0])
def test_every_spacing_has_the_same_field_of_view(spacing):
    corner = np.array([-0.5, -0.5, -0.5, 1.0])
    assert np.allclose(Grid(spacing).affine @ corner, Grid(1.0).affine @ corner)


def test_one_patient_is_the_same_patient_at_two_spacings(draws, volumes):
    fine = render_patient(draws[0], 3.0)
    world = [np.mean(nibabel.affines.apply_affine(v.affine, np.argwhere(v.labels > 0)), axis=0) for v in (fine, volumes[0])]
    assert np.linalg.norm(world[0] - world[1]) < 4.0


def test_random_fields_do_not_depend_on_the_spacing():
    box = Head(draw_shape(generator(0, "shape")), generator(0, "head")).bounding_box()
    at = {spacing: [np.arange(c + spacing / 2, c + 60, spacing) for c in box.corner_mm] for spacing in (1.0, 3.0)}
    fine, coarse = (lattice_noise(generator(0, "field"), box, 12.0, at[spacing]) for spacing in (1.0, 3.0))
    assert np.allclose(fine[1::3, 1::3, 1::3], coarse, atol=1e-5)


def test_mass_effect_keeps_the_volume_of_what_it_displaces():
    push = Push((0.0, 0.0, 0.0), radius_mm=15.0, reach_mm=1e6)
    surface = np.array([[25.0], [0.0], [0.0]], dtype=np.float32)
    assert np.linalg.norm(undo_push(surface, push)) == pytest.approx(np.cbrt(25**3 - 15**3), rel=1e-4)


def test_arrival_time_is_distance_in_uniform_tissue_and_goes_round_a_wall():
    sources = np.zeros((9, 9, 1), dtype=bool)
    sources[4, 0] = True
    slowness = np.ones((9, 9, 1))
    assert arrival_times(slowness, sources, 2.0)[4, 8, 0] == pytest.approx(16.0)
    slowness[1:, 4] = np.inf
    assert arrival_times(slowness, sources, 2.0)[4, 8, 0] > 18.0


def test_first_voxels_takes_the_earliest_and_refuses_more_than_there_are():
    time, allowed = np.arange(8.0).reshape(2, 2, 2), np.ones((2, 2, 2), dtype=bool)
    assert np.array_equal(first_voxels(time, allowed, 3).ravel(), np.arange(8) < 3)
    with pytest.raises(DoesNotFit):
        first_voxels(time, allowed, 9)


def test_sequences_obey_their_equations():
    assert sequence_signal(Sequence("spin-echo", tr=1000.0, te=0.0), 1000.0, 80.0) == pytest.approx(1 - np.exp(-1))
    assert sequence_signal(Sequence("inversion-recovery", tr=1e6, te=0.0, ti=1000 * np.log(2)), 1000.0, 80.0) == pytest.approx(0, abs=1e-9)
    ernst = np.degrees(np.arccos(np.exp(-20 / 1000)))
    at = [sequence_signal(Sequence("gradient-echo", 20.0, 0.0, flip=a), 1000.0, 80.0) for a in (ernst - 2, ernst, ernst + 2)]
    assert at[1] == max(at)
