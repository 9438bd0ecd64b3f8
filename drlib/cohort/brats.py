"""Patients in BraTS's layouts: found on disk, loaded into one orientation, divided between the two steps (paper: Methods, "Dataset").

Understood are the names of BraTS 2018-2021 (``X_t1``, ``_t1ce``, ``_t2``, ``_flair``, ``_seg``) and of 2023 and later (``X-t1n``, ``-t1c``,
``-t2w``, ``-t2f``, ``-seg``), as ``.nii`` or ``.nii.gz``, in any case and at any depth; grades from folders ``HGG`` and ``LGG`` or from
``name_mapping*.csv``; and a manifest (`drlib.cohort.tables`) for anything else.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from drlib.cohort.loading import examine_patient, load_patient
from drlib.cohort.patient import Patient, PatientVolume, Split
from drlib.cohort.problems import CohortError
from drlib.cohort.regions import GRADES, MODALITIES
from drlib.cohort.tables import read_grades, read_manifest
from drlib.seeds import generator

__all__ = ["Patient", "PatientVolume", "Split", "examine_patient", "find_patients", "load_patient", "split_cohort"]

ROLES = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"} | {name: name for name in (*MODALITIES, "seg")}
FILE_NAME = re.compile(rf"(?P<id>.+)[_-](?P<role>{'|'.join(ROLES)})\.nii(\.gz)?", re.IGNORECASE)
MANIFEST_NAME = "manifest.csv"
SEGMENTATION_SHARE = 0.45


def find_patients(root: Path | str) -> list[Patient]:
    """Return the patients under a folder (a cohort or one patient) or in a manifest, sorted by id.

    A patient who is there twice is returned twice; `drlib.cohort.validation` reports it. A folder with a ``manifest.csv`` is read by it.
    Raises CohortError where nothing is found, a table cannot be read, or grades contradict each other.
    """
    root = Path(root)
    if not root.exists():
        raise CohortError(f"{root} does not exist. Give a folder of patients, the folder of one patient, or a manifest (.csv)")
    if root.is_file() and root.suffix.lower() != ".csv":
        raise CohortError(f"{root} is a file. Give a folder of patients, the folder of one patient, or a manifest (.csv)")
    files = [] if root.is_file() else _walk(root)
    manifest = root if root.is_file() else next((p for p in files if p.parent == root and p.name.lower() == MANIFEST_NAME), None)
    patients = _patients_of_manifest(manifest) if manifest else _patients_of_folder(root, files)
    return sorted(patients, key=lambda patient: (patient.id, [str(path) for path in patient.files.values()]))


def _patients_of_manifest(path: Path) -> list[Patient]:
    rows = read_manifest(path)
    return [Patient(row.patient, {m: row.files[m] for m in MODALITIES if m in row.files}, row.files.get("seg"), row.grade) for row in rows]


def _patients_of_folder(root: Path, files: Sequence[Path]) -> list[Patient]:
    found: dict[tuple[Path, str], list[tuple[str, str, Path]]] = defaultdict(list)
    for path in files:
        if name := FILE_NAME.fullmatch(path.name):
            found[path.parent, name["id"].lower()].append((ROLES[name["role"].lower()], name["id"], path))
    if not found:
        raise CohortError(_nothing_found(root, files))
    grades = _grades_of_tables(path for path in files if re.fullmatch(r"name_?mapping.*\.csv", path.name, re.IGNORECASE))
    return [_patient(root, folder, entries, grades) for (folder, _), entries in found.items()]


def _walk(root: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise CohortError(f"{error.filename}: the folder cannot be read ({error.strerror}). Check that you may read it") from error

    paths = []
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        above = [Path(folder).resolve(), *Path(folder).resolve().parents]
        subfolders[:] = sorted(n for n in subfolders if not n.startswith(".") and Path(folder, n).resolve() not in above)  # no circles
        paths += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    return paths


def _nothing_found(root: Path, files: Sequence[Path]) -> str:
    images = [path.name for path in files if path.name.lower().endswith((".nii", ".nii.gz"))]
    came = f"{len(images)} NIfTI files with other names, such as {images[0]}" if images else f"{len(files)} files and no NIfTI image"
    return (
        f"{root}: no patient was found, but {came}. Names due are X_t1.nii.gz, X_t1ce.nii.gz, X_t2.nii.gz, X_flair.nii.gz, X_seg.nii.gz "
        "or X-t1n.nii.gz, X-t1c.nii.gz, X-t2w.nii.gz, X-t2f.nii.gz, X-seg.nii.gz; for other names write a manifest (.csv)"
    )


def _grades_of_tables(tables: Iterable[Path]) -> dict[str, str]:
    grades: dict[str, str] = {}
    for table in tables:
        for patient, grade in read_grades(table).items():
            if grades.setdefault(patient, grade) != grade:
                raise CohortError(f"{table}: {patient} is {grade} here and {grades[patient]} in another table. Keep one of the two")
    return grades


def _patient(root: Path, folder: Path, entries: Sequence[tuple[str, str, Path]], grades: dict[str, str]) -> Patient:
    files, surplus = {}, []
    for role, _, path in entries:
        if files.setdefault(role, path) != path:
            surplus.append(path)
    patient_id = entries[0][1]
    by_folder, by_table = _grade_of_folder(root, folder), grades.get(patient_id.lower())
    if by_folder and by_table and by_folder != by_table:
        raise CohortError(f"patient {patient_id}: {folder} says {by_folder}, the name mapping says {by_table}. Correct one of the two")
    images = {modality: files[modality] for modality in MODALITIES if modality in files}
    return Patient(patient_id, images, files.get("seg"), by_folder or by_table, tuple(surplus))


def _grade_of_folder(root: Path, folder: Path) -> str | None:
    """Return the grade that the nearest folder is named after; above ``root`` only where ``root`` is one patient's folder."""
    names = [*folder.relative_to(root).parts[::-1], root.resolve().name]
    if folder == root:
        names.append(root.resolve().parent.name)
    return next((name.upper() for name in names if name.upper() in GRADES), None)


def split_cohort(patients: Sequence[Patient], seed: int) -> Split:
    """Divide a cohort into patients who train the segmentation network and patients who are graded, with no person in both.

    Patients without a grade but with a segmentation train the network, those with a grade are graded. Where nobody is without a grade,
    45 % of each grade (of those with a segmentation), drawn by ``seed``, train the network and the others are graded. Visits of
    one person stay together.

    Source: paper, Methods, "Dataset" (the network is trained on BraTS patients without a published grade, the classifier on those with
    one); the draw from a cohort with grades only is ours.
    """
    ungraded = [patient for patient in patients if patient.grade is None and patient.segmentation]
    graded = [patient for patient in patients if patient.grade is not None]
    if not ungraded:
        drawn = {subject for grade in GRADES for subject in _draw_subjects([p for p in graded if p.grade == grade], seed, grade)}
        return Split([p for p in graded if p.subject in drawn and p.segmentation], [p for p in graded if p.subject not in drawn])
    in_training = {patient.subject for patient in ungraded}
    return Split(ungraded, [patient for patient in graded if patient.subject not in in_training])


def _draw_subjects(patients: Sequence[Patient], seed: int, grade: str) -> list[str]:
    subjects = sorted({patient.subject for patient in patients if patient.segmentation})
    n_drawn = min(round(SEGMENTATION_SHARE * len({patient.subject for patient in patients})), len(subjects))
    return [subjects[index] for index in generator(seed, "split", grade).permutation(len(subjects))[:n_drawn]]
