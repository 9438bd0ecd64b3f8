"""Every fault, injected for real, is reported under its own code, and all faults of a cohort are reported at once."""

import json
import shutil

import numpy as np
import pytest
from synthetic_patients import LPS, REAL_SAMPLES, SHAPE, draw_images, draw_labels, needs_real_samples, write_patient

from drlib.cohort.brats import find_patients
from drlib.cohort.nifti import read_nifti, write_nifti
from drlib.cohort.problems import CohortError
from drlib.cohort.validation import check_cohort, check_patient


def change_voxels(path, change):
    """Rewrite a file with changed voxels."""
    volume = read_nifti(path)
    write_nifti(path, change(volume.voxels), volume.affine)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    stored = bytearray(path.read_bytes())
    stored[len(stored) // 2] ^= 1
    path.write_bytes(stored)


def put_nan(path):
    def change(voxels):
        voxels = voxels.astype(np.float32)
        voxels[12, 12, 6] = np.nan
        return voxels

    change_voxels(path, change)


def move(path):
    affine = LPS.copy()
    affine[0, 3] += 1
    write_nifti(path, read_nifti(path).voxels, affine)


def put_label(*labels):
    def put(path):
        def change(voxels):
            voxels = voxels.astype(np.float32)
            voxels[: len(labels), 0, 0] = labels
            return voxels

        change_voxels(path, change)

    return put


FAULTS = [
    ("missing_modality", "t2", lambda path: path.unlink()),
    ("unreadable", "t1", lambda path: path.write_text("not an image at all " * 20)),
    ("truncated", "t1ce", cut),
    ("truncated", "seg", lambda path: path.write_bytes(b"")),
    ("checksum", "flair", flip),
    ("shape_mismatch", "t2", lambda path: change_voxels(path, lambda v: v[:-1])),
    ("shape_mismatch", "seg", lambda path: change_voxels(path, lambda v: v[..., :-1])),
    ("affine_mismatch", "t1", move),
    ("affine_mismatch", "seg", move),
    ("not_finite", "t1ce", put_nan),
    ("blank_modality", "t2", lambda path: change_voxels(path, np.zeros_like)),
    ("blank_modality", "flair", lambda path: change_voxels(path, lambda v: (v > 0) * np.int16(7))),
    ("blank_modality", "t1", lambda path: change_voxels(path, lambda v: (v > 300) * np.int16(7))),
    ("unknown_label", "seg", put_label(5)),
    ("unknown_label", "seg", put_label(0.5)),
    ("unknown_label", "seg", put_label(-1)),
    ("unknown_label", "seg", put_label(3, 4)),
]


@pytest.mark.parametrize(("code", "role", "inject"), FAULTS, ids=[f"{code}-{role}-{n}" for n, (code, role, _) in enumerate(FAULTS)])
def test_each_fault_has_its_own_code_and_names_patient_and_file(tmp_path, code, role, inject):
    path = write_patient(tmp_path / "HGG" / "A", "A") / f"A_{role}.nii.gz"
    inject(path)
    report = check_patient(*find_patients(tmp_path))
    (problem,) = report.problems
    assert not report.ok
    assert (problem.code, problem.severity) == (code, "error")
    assert problem.message.startswith("patient A")
    assert problem.file == (None if code == "missing_modality" else str(path))
    assert role in problem.message


def test_a_sound_patient_with_a_grade_has_no_problem(tmp_path):
    write_patient(tmp_path / "LGG", "A")
    report = check_patient(*find_patients(tmp_path))
    assert (report.id, report.ok, report.grade, report.problems) == ("A", True, "LGG", ())


def test_no_grade_is_a_warning(tmp_path):
    write_patient(tmp_path, "A")
    report = check_patient(*find_patients(tmp_path))
    assert report.ok
    assert [(p.code, p.severity) for p in report.problems] == [("no_grade", "warning")]


def test_an_empty_brain_is_one_problem_not_four(tmp_path):
    write_patient(tmp_path / "HGG", "A", images=np.zeros((4, *SHAPE), np.int16))
    assert [p.code for p in check_patient(*find_patients(tmp_path)).problems] == ["empty_brain"]


def test_the_odd_one_out_is_reported_not_the_others(tmp_path):
    folder = write_patient(tmp_path / "HGG", "A")
    change_voxels(folder / "A_t1.nii.gz", lambda v: v[:, 1:])
    assert [(p.code, p.file) for p in check_patient(*find_patients(tmp_path)).problems] == [("shape_mismatch", str(folder / "A_t1.nii.gz"))]


def test_the_last_digits_of_an_affine_may_differ(tmp_path):
    folder = write_patient(tmp_path / "HGG", "A")
    affine = LPS + np.float64([[1e-6, -1e-6, 0, 4e-4], [0, 0, 1e-6, 0], [0, 0, 0, -5e-4], [0, 0, 0, 0]])
    write_nifti(folder / "A_seg.nii.gz", draw_labels(), affine)
    assert check_patient(*find_patients(tmp_path)).ok


def test_a_file_turned_the_other_way_is_an_affine_mismatch(tmp_path):
    folder = write_patient(tmp_path / "HGG", "A")
    write_nifti(
        folder / "A_seg.nii.gz", draw_labels()[::-1], LPS @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    )
    assert [p.code for p in check_patient(*find_patients(tmp_path)).problems] == ["affine_mismatch"]


def test_three_problems_of_one_patient_are_three(tmp_path):
    folder = write_patient(tmp_path, "A")
    (folder / "A_t1.nii.gz").unlink()
    cut(folder / "A_t2.nii.gz")
    put_label(9)(folder / "A_seg.nii.gz")
    codes = [p.code for p in check_patient(*find_patients(tmp_path)).problems]
    assert codes == ["missing_modality", "truncated", "unknown_label", "no_grade"]


def test_all_problems_of_a_cohort_come_at_once_in_the_promised_form(tmp_path):
    for n, (_, role, inject) in enumerate(FAULTS):
        inject(write_patient(tmp_path / "HGG" / f"P{n:02}", f"P{n:02}", seed=n) / f"P{n:02}_{role}.nii.gz")
    write_patient(tmp_path / "LGG" / "Z", "Z", seed=99)
    report = check_cohort(tmp_path, n_jobs=1, progress=False)
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert set(content) == {"patients", "ok"} and content["ok"] is False
    assert [patient["id"] for patient in content["patients"]] == [*[f"P{n:02}" for n in range(len(FAULTS))], "Z"]
    for patient, (code, _, _) in zip(content["patients"], FAULTS, strict=False):
        assert set(patient) == {"id", "ok", "grade", "problems"}
        assert [set(problem) for problem in patient["problems"]] == [{"code", "severity", "file", "message"}]
        assert (patient["problems"][0]["code"], patient["ok"], patient["grade"]) == (code, False, "HGG")
    assert content["patients"][-1] == {"id": "Z", "ok": True, "grade": "LGG", "problems": []}
    table = report.to_table()
    assert list(table["code"]) == [code for code, _, _ in FAULTS]
    assert list(table["patient"]) == [f"P{n:02}" for n in range(len(FAULTS))]


def test_the_same_id_twice_is_reported_on_both(tmp_path):
    write_patient(tmp_path / "HGG" / "A", "A")
    write_patient(tmp_path / "LGG" / "a", "a", seed=1)
    write_patient(tmp_path / "LGG" / "B", "B", seed=2)
    report = check_cohort(tmp_path, n_jobs=1, progress=False)
    assert {(p.id, p.ok) for p in report.patients} == {("A", False), ("a", False), ("B", True)}
    for patient in report.patients[:1] + report.patients[-1:]:
        (problem,) = patient.problems
        assert (problem.code, problem.severity) == ("duplicate_patient", "error")
        assert "HGG" in problem.message and "LGG" in problem.message


def test_two_files_for_one_modality_are_reported(tmp_path):
    folder = write_patient(tmp_path / "HGG" / "A", "A")
    write_nifti(folder / "A-t1n.nii", draw_images()[0], LPS)
    (patient,) = check_cohort(tmp_path, n_jobs=1, progress=False).patients
    assert [(p.code, p.severity) for p in patient.problems] == [("duplicate_patient", "error")]


def test_the_same_voxels_under_two_ids_are_a_warning(tmp_path):
    write_patient(tmp_path / "HGG" / "A", "A")
    write_patient(tmp_path / "HGG" / "B", "B")
    write_patient(tmp_path / "HGG" / "C", "C", seed=1)
    report = check_cohort(tmp_path, n_jobs=1, progress=False)
    assert report.ok
    assert [[(p.code, p.severity) for p in patient.problems] for patient in report.patients] == [
        [("duplicate_patient", "warning")],
        [("duplicate_patient", "warning")],
        [],
    ]


def test_workers_change_nothing(tmp_path):
    for patient in "ABC":
        write_patient(tmp_path / patient, patient, seed=ord(patient))
    flip(tmp_path / "B" / "B_t1.nii.gz")
    assert check_cohort(tmp_path, n_jobs=2, progress=False) == check_cohort(tmp_path, n_jobs=1, progress=False)


def test_a_cohort_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(CohortError, match="does not exist"):
        check_cohort(tmp_path / "nowhere", progress=False)
    with pytest.raises(CohortError, match="no patient was found"):
        check_cohort(tmp_path, progress=False)


@needs_real_samples
def test_damaged_copies_of_a_real_sample_have_the_right_codes_and_the_others_pass(tmp_path):
    source = find_patients(REAL_SAMPLES)[0]
    for name, path in {**source.files, "seg": source.segmentation}.items():
        for copy in ("cut", "flipped"):
            (tmp_path / copy).mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / copy / f"{copy}_{name}.nii.gz")
    cut(tmp_path / "cut" / "cut_flair.nii.gz")
    flip(tmp_path / "flipped" / "flipped_seg.nii.gz")
    report = check_cohort(tmp_path, n_jobs=1, progress=False)
    assert [[p.code for p in patient.problems] for patient in report.patients] == [["truncated", "no_grade"], ["checksum", "no_grade"]]


@needs_real_samples
def test_the_real_samples_pass_with_a_warning_for_the_missing_grade():
    report = check_cohort(REAL_SAMPLES, n_jobs=1, progress=False)
    assert report.ok
    assert [[(p.code, p.severity) for p in patient.problems] for patient in report.patients] == [[("no_grade", "warning")]] * len(
        report.patients
    )
