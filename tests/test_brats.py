"""Patients are found under every name that BraTS has used, and loaded in one orientation."""

import nibabel
import numpy as np
import pytest
from synthetic_patients import LPS, REAL_SAMPLES, SHAPE, draw_images, draw_labels, needs_real_samples, write_patient

from drlib.cohort.brats import Patient, find_patients, load_patient, split_cohort
from drlib.cohort.loading import from_lps, to_lps
from drlib.cohort.nifti import write_nifti
from drlib.cohort.problems import ChecksumMismatch, CohortError, MissingModality
from drlib.cohort.regions import MODALITIES, REGIONS, region_mask

NAMES_2021 = {"t1": "_t1.nii.gz", "t1ce": "_t1ce.nii.gz", "t2": "_t2.nii.gz", "flair": "_flair.nii.gz", "seg": "_seg.nii.gz"}
NAMES_2023 = {"t1": "-t1n.nii.gz", "t1ce": "-t1c.nii.gz", "t2": "-t2w.nii.gz", "flair": "-t2f.nii.gz", "seg": "-seg.nii.gz"}
NAMES_MIXED = {"t1": "-T1N.nii.gz", "t1ce": "-t1c.NII.GZ", "t2": "-t2W.nii.gz", "flair": "-t2f.nii", "seg": "-Seg.nii"}
MODALITY_COLUMNS = "patient,t1,t1ce,t2,flair,seg,grade"


def write_manifest(folder, rows, name="cohort.csv", encoding="utf-8"):
    (folder / name).write_bytes("\r\n".join(rows).encode(encoding))
    return folder / name


def manifest_row(patient, folder, grade="", separator=","):
    return separator.join([patient, *[f"{folder}/{patient}{NAMES_2021[role]}" for role in (*MODALITIES, "seg")], grade])


# Finding


@pytest.mark.parametrize("names", [NAMES_2021, NAMES_2023, NAMES_MIXED], ids=["2021", "2023", "mixed case"])
def test_every_modality_is_found_under_the_names_of_its_year(tmp_path, names):
    write_patient(tmp_path / "deep" / "down" / "X-001", "X-001", names=names)
    (patient,) = find_patients(tmp_path)
    assert patient.id == "X-001"
    assert {role: path.name for role, path in patient.files.items()} == {m: f"X-001{names[m]}" for m in MODALITIES}
    assert patient.segmentation.name == f"X-001{names['seg']}"
    assert patient.grade is None


def test_one_patients_folder_is_a_cohort_of_one(tmp_path):
    write_patient(tmp_path / "HGG" / "A", "A")
    write_patient(tmp_path / "LGG" / "B", "B")
    assert [(p.id, p.grade) for p in find_patients(tmp_path / "HGG" / "A")] == [("A", "HGG")]
    assert [(p.id, p.grade) for p in find_patients(tmp_path / "LGG")] == [("B", "LGG")]


def test_the_nearest_grade_folder_counts_at_any_depth_and_patients_are_sorted(tmp_path):
    for folder, patient in (("x/LGG/site/C", "C"), ("HGG/A", "A"), ("y/hgg/B", "B"), ("z/D", "D")):
        write_patient(tmp_path / folder, patient)
    assert [(p.id, p.grade) for p in find_patients(tmp_path)] == [("A", "HGG"), ("B", "HGG"), ("C", "LGG"), ("D", None)]


def test_a_name_mapping_of_any_year_gives_grades(tmp_path):
    for patient in ("BraTS20_Training_001", "Brats18_X_1", "other"):
        write_patient(tmp_path / "train" / patient, patient)
    rows = ["Grade,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2020_subject_ID"]
    rows += ["HGG,NA,NA,brats20_training_001", "LGG,Brats18_X_1,NA,NA", "HGG,NA,other,NA"]
    write_manifest(tmp_path / "train", rows, "name_mapping_test.csv")
    assert {p.id: p.grade for p in find_patients(tmp_path)} == {"BraTS20_Training_001": "HGG", "Brats18_X_1": "LGG", "other": None}


def test_folder_and_name_mapping_must_agree(tmp_path):
    write_patient(tmp_path / "HGG" / "A", "A")
    write_manifest(tmp_path, ["Grade,BraTS_2019_subject_ID", "LGG,A"], "name_mapping.csv")
    with pytest.raises(CohortError, match="patient A: .* says HGG, the name mapping says LGG"):
        find_patients(tmp_path)


def test_hidden_files_and_other_images_are_no_patients(tmp_path):
    write_patient(tmp_path / "A", "A")
    (tmp_path / "A" / "._A_t1.nii.gz").write_bytes(b"")
    (tmp_path / "A" / "A_pet.nii.gz").write_bytes(b"")
    assert [p.id for p in find_patients(tmp_path)] == ["A"]


def test_a_link_that_leads_in_a_circle_is_not_followed(tmp_path):
    write_patient(tmp_path / "A", "A")
    (tmp_path / "A" / "again").symlink_to(tmp_path)
    assert [p.id for p in find_patients(tmp_path)] == ["A"]


def test_two_files_for_one_place_are_remembered(tmp_path):
    folder = write_patient(tmp_path / "A", "A")
    write_nifti(folder / "A_t1.nii", draw_images()[0], LPS)
    (patient,) = find_patients(tmp_path)
    assert {patient.files["t1"].name, patient.surplus[0].name} == {"A_t1.nii", "A_t1.nii.gz"}


def test_nothing_there_is_said_clearly(tmp_path):
    with pytest.raises(CohortError, match="does not exist"):
        find_patients(tmp_path / "nowhere")
    with pytest.raises(CohortError, match="no NIfTI image"):
        find_patients(tmp_path)
    (tmp_path / "T1.nii.gz").write_bytes(b"")
    with pytest.raises(CohortError, match=r"1 NIfTI files with other names, such as T1.nii.gz"):
        find_patients(tmp_path)
    with pytest.raises(CohortError, match="is a file"):
        find_patients(tmp_path / "T1.nii.gz")


# Manifest


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_manifest_names_patients_relative_to_itself(tmp_path, separator, encoding):
    write_patient(tmp_path / "files" / "Ä", "Ä")
    header = MODALITY_COLUMNS.replace(",", separator).replace("t1ce", "T1ce")
    rows = [header, manifest_row("Ä", "files/Ä", " hgg ", separator), ""]
    (patient,) = find_patients(write_manifest(tmp_path, rows, encoding=encoding))
    assert (patient.id, patient.grade) == ("Ä", "HGG")
    np.testing.assert_array_equal(load_patient(patient).images, draw_images())


def test_segmentation_and_grade_are_optional_in_a_manifest(tmp_path):
    rows = ["flair,patient,t1,t1ce,t2", "f.nii,A,a.nii,b.nii,c.nii"]
    (patient,) = find_patients(write_manifest(tmp_path, rows))
    assert patient == Patient(
        "A", {"t1": tmp_path / "a.nii", "t1ce": tmp_path / "b.nii", "t2": tmp_path / "c.nii", "flair": tmp_path / "f.nii"}
    )


def test_a_folder_with_a_manifest_is_read_by_it(tmp_path):
    write_patient(tmp_path / "A", "A")
    write_patient(tmp_path / "B", "B")
    write_manifest(tmp_path, [MODALITY_COLUMNS, manifest_row("B", "B", "LGG")], "manifest.csv")
    assert [(p.id, p.grade) for p in find_patients(tmp_path)] == [("B", "LGG")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([""], "table is empty"),
        (["patient,t1,t2", "A,a,b"], "row 1 lacks the columns t1ce, flair"),
        ([MODALITY_COLUMNS], "no patient"),
        ([MODALITY_COLUMNS, "A,1,2,3,4,5,HGG", "B,1,2,3,4,5,grade IV"], "row 3: the grade is 'grade IV', where LGG, HGG"),
        ([MODALITY_COLUMNS, ",1,2,3,4,5,HGG", "B,1,2,3,4,5,II"], "row 2: the cell 'patient' is empty.*row 3: the grade"),
        ([MODALITY_COLUMNS, "A,1,2,3"], "row 2: not 7 cells"),
        ([MODALITY_COLUMNS, 'A,"1,2,3,4,5,HGG'], "row 2 cannot be read as CSV"),
        (["patient,t1,t1ce,t2,flair,t1", "A,1,2,3,4,5"], "column t1 more than once"),
    ],
)
def test_an_unreadable_manifest_names_the_row_and_the_remedy(tmp_path, rows, message):
    path = write_manifest(tmp_path, rows)
    with pytest.raises(CohortError, match=message) as caught:
        find_patients(path)
    assert str(path) in str(caught.value)


def test_a_manifest_that_is_not_text_names_the_row(tmp_path):
    path = write_manifest(tmp_path, [MODALITY_COLUMNS, "Jürgen,1,2,3,4,5,HGG"], encoding="latin-1")
    with pytest.raises(CohortError, match="row 2 is not UTF-8"):
        find_patients(path)


# Loading


@pytest.mark.parametrize("axes", ["LPS", "RAS", "LAS", "SPL", "ASR", "IPR"])
def test_every_orientation_is_brought_to_lps_as_nibabel_does(tmp_path, axes):
    images, labels = draw_images(), draw_labels()
    change = nibabel.orientations.ornt_transform(nibabel.io_orientation(LPS), nibabel.orientations.axcodes2ornt(axes))
    affine = LPS @ nibabel.orientations.inv_ornt_aff(change, SHAPE)
    turned = [nibabel.apply_orientation(voxels, change) for voxels in (*images, labels)]
    assert nibabel.aff2axcodes(affine) == tuple(axes)
    write_patient(tmp_path, "A", images=np.stack(turned[:4]), labels=turned[4], affine=affine)
    volume = load_patient(*find_patients(tmp_path))
    np.testing.assert_array_equal(volume.images, images)
    np.testing.assert_array_equal(volume.labels, np.where(labels == 4, 3, labels))
    np.testing.assert_allclose(volume.affine, LPS, atol=1e-4)
    np.testing.assert_array_equal(from_lps(volume.images[0], volume.file_affine), turned[0])


@needs_real_samples
def test_lps_is_nibabels_canonical_orientation_with_two_axes_flipped():
    patient = find_patients(REAL_SAMPLES)[0]
    volume = load_patient(patient)
    for channel, path in enumerate(patient.files.values()):
        canonical = nibabel.as_closest_canonical(nibabel.load(path))
        assert nibabel.aff2axcodes(canonical.affine) == ("R", "A", "S")
        np.testing.assert_array_equal(volume.images[channel], np.asanyarray(canonical.dataobj)[::-1, ::-1])
    assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")


@needs_real_samples
def test_every_file_of_the_real_samples_has_its_place():
    patients = find_patients(REAL_SAMPLES)
    places = [path for patient in patients for path in (*patient.files.values(), patient.segmentation)]
    assert sorted(places) == sorted(REAL_SAMPLES.rglob("*.nii.gz"))
    for patient in patients:
        file_labels = np.unique(np.asanyarray(nibabel.load(patient.segmentation).dataobj))
        assert set(np.unique(load_patient(patient).labels)) == {3 if label == 4 else int(label) for label in file_labels}


def test_a_copy_turned_by_to_lps_keeps_every_voxel_at_its_place_in_the_room():
    voxels, affine = draw_images()[0], np.array([[0, 0, 2.0, -10], [1.5, 0, 0, 7], [0, -3.0, 0, 40], [0, 0, 0, 1]])
    moved, moved_affine = to_lps(voxels, affine)
    here = np.array([5, 9, 4])
    there = np.rint(np.linalg.inv(moved_affine) @ affine @ [*here, 1])[:3].astype(int)
    assert moved[tuple(there)] == voxels[tuple(here)]
    assert nibabel.aff2axcodes(moved_affine) == ("L", "P", "S")


@pytest.mark.parametrize("et", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_both_label_sets_become_the_librarys_own(tmp_path, et, dtype):
    labels = draw_labels()
    write_patient(tmp_path, "A", labels=np.where(labels == 4, et, labels).astype(dtype))
    volume = load_patient(*find_patients(tmp_path))
    assert volume.labels.dtype == np.uint8
    np.testing.assert_array_equal(volume.labels, np.where(labels == 4, 3, labels))


def test_a_patient_without_segmentation_is_loaded(tmp_path):
    (write_patient(tmp_path, "A") / "A_seg.nii.gz").unlink()
    assert load_patient(*find_patients(tmp_path)).labels is None


def test_loading_names_patient_and_file_of_what_is_wrong(tmp_path):
    path = write_patient(tmp_path, "A") / "A_t2.nii.gz"
    path.write_bytes(path.read_bytes()[:-8] + bytes(4) + path.read_bytes()[-4:])
    with pytest.raises(ChecksumMismatch, match=r"patient A, .*A_t2.nii.gz: .*Copy the file again"):
        load_patient(*find_patients(tmp_path))
    path.unlink()
    with pytest.raises(MissingModality, match="patient A: there is no t2 image .came: t1, t1ce, flair; due: t1, t1ce, t2, flair."):
        load_patient(*find_patients(tmp_path))


def test_regions_are_unions_of_labels():
    labels = np.array([0, 1, 2, 3])
    masks = {region: region_mask(labels, region).tolist() for region in REGIONS}
    assert masks["NET"] == [False, True, False, False]
    assert masks["ED"] == [False, False, True, False]
    assert masks["ET"] == [False, False, False, True]
    assert masks["TC"] == [False, True, False, True]
    assert masks["WT"] == [False, True, True, True]
    with pytest.raises(ValueError, match="unknown region 'brain'"):
        region_mask(labels, "brain")


# Splitting


def described(n, grade=None, segmentation="seg.nii.gz", name="P"):
    return [Patient(f"{name}{grade}{index:03}", {}, segmentation, grade) for index in range(n)]


def test_patients_without_grade_train_and_the_others_are_graded():
    ungraded, graded, useless = described(5), described(7, "HGG"), described(2, None, None, "Q")
    split = split_cohort([*ungraded, *graded, *useless], seed=0)
    assert (split.segmentation, split.grading) == (ungraded, graded)


def test_a_graded_cohort_is_split_by_person_45_to_55_within_each_grade():
    cohort = [*described(40, "LGG"), *described(160, "HGG")]
    split = split_cohort(cohort, seed=3)
    assert sum(p.grade == "LGG" for p in split.segmentation) == 18
    assert sum(p.grade == "HGG" for p in split.segmentation) == 72
    assert sorted(p.id for p in (*split.segmentation, *split.grading)) == sorted(p.id for p in cohort)
    assert split == split_cohort(cohort, seed=3)
    assert split != split_cohort(cohort, seed=4)


def test_only_patients_with_a_segmentation_are_drawn_for_training():
    split = split_cohort([*described(10, "HGG", None), *described(4, "HGG", name="S")], seed=0)
    assert len(split.segmentation) == 4 and len(split.grading) == 10
    assert all(p.segmentation for p in split.segmentation)


def test_visits_of_one_person_are_never_on_both_sides():
    visits = [Patient(f"BraTS-GLI-{person:05}-{visit:03}", {}, "seg.nii.gz", "HGG") for person in range(20) for visit in range(3)]
    split = split_cohort(visits, seed=0)
    assert len(split.segmentation) == 27
    assert not {p.subject for p in split.segmentation} & {p.subject for p in split.grading}
    mixed = split_cohort([Patient("BraTS-GLI-00007-000", {}, "seg.nii.gz", None), *visits], seed=0)
    assert len(mixed.grading) == 57


def test_numbers_that_are_not_visits_name_persons():
    assert Patient("BraTS20_Training_001", {}).subject != Patient("BraTS20_Training_002", {}).subject
    assert Patient("BraTS2021_01476", {}).subject != Patient("BraTS2021_01480", {}).subject
    assert Patient("BraTS19_PHA_0001_1", {}).subject == "brats19_pha_0001"
