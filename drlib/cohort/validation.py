"""Every problem of a cohort at once (Source: ours; DESIGN, "Bad input"): what ``drlib check`` shows."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from drlib.cohort import problems
from drlib.cohort.brats import find_patients
from drlib.cohort.loading import examine_patient
from drlib.cohort.patient import Patient, PatientVolume
from drlib.cohort.problems import PatientError, Problem
from drlib.cohort.regions import MODALITIES
from drlib.parallel import for_workers, map_patients

T1CE = MODALITIES.index("t1ce")


@dataclass(frozen=True)
class PatientReport:
    """What is wrong with one patient; ``ok`` where there is no error (warnings are allowed)."""

    id: str
    ok: bool
    grade: str | None
    problems: tuple[Problem, ...]
    digest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        return {"id": self.id, "ok": self.ok, "grade": self.grade, "problems": [problem.to_dict() for problem in self.problems]}

    def with_problems(self, more: Sequence[Problem]) -> "PatientReport":
        """Return the report with ``more`` problems in it."""
        ok = self.ok and not any(problem.severity == "error" for problem in more)
        return replace(self, ok=ok, problems=(*self.problems, *more))


@dataclass(frozen=True)
class CohortReport:
    """The reports of all patients, by id; ``ok`` where no patient has an error."""

    patients: tuple[PatientReport, ...]

    @property
    def ok(self) -> bool:
        """Whether no patient has an error."""
        return all(patient.ok for patient in self.patients)

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"patients": [...], "ok": bool}``."""
        return {"patients": [patient.to_dict() for patient in self.patients], "ok": self.ok}

    def to_table(self) -> pd.DataFrame:
        """Return one row per problem: patient, grade, severity, code, file, message."""
        rows = [{"patient": p.id, "grade": p.grade, **problem.to_dict()} for p in self.patients for problem in p.problems]
        return pd.DataFrame(rows, columns=["patient", "grade", "severity", "code", "file", "message"])


def check_patient(patient: Patient) -> PatientReport:
    """Read all files of a patient and report every problem that can be seen without the rest of the cohort."""
    volume, errors = examine_patient(patient)
    found = [error.problem for error in errors]
    if patient.grade is None:
        found.append(problems.no_grade(patient.id))
    return PatientReport(patient.id, not errors, patient.grade, tuple(found), _digest(volume) if volume else None)


def check_cohort(root: Path | str, n_jobs: int = -1, progress: bool = True) -> CohortReport:
    """Check every patient of a cohort in parallel. Raises CohortError where there is no cohort to check."""
    patients = find_patients(for_workers(root))
    work = map_patients(check_patient, patients, n_jobs=n_jobs, ordered=True, failed=_failed)
    reports = list(tqdm(work, total=len(patients), desc="checking", unit="patient", disable=not progress))
    reports = [
        report.with_problems([error.problem for error in errors]) for report, errors in zip(reports, find_duplicates(patients), strict=True)
    ]
    return CohortReport(tuple(_with_twins(reports)))


def _failed(patient: Patient, error: Exception) -> PatientReport:
    return PatientReport(patient.id, False, patient.grade, (problems.failed(patient.id, error),))


def find_duplicates(patients: Sequence[Patient]) -> list[list[PatientError]]:
    """Return, for each of ``patients``, its duplicates: the same id elsewhere (whatever the case) and two files for one place."""
    places = defaultdict(list)
    for patient in patients:
        places[patient.id.lower()].append(_place(patient))
    return [_duplicates_of(patient, places[patient.id.lower()]) for patient in patients]


def _duplicates_of(patient: Patient, places: Sequence[str]) -> list[PatientError]:
    errors = []
    if len(places) > 1:
        finding = f"the same id is there {len(places)} times: {'; '.join(places)}"
        errors.append(problems.DuplicatePatient(finding, "Keep one of them, or give them different ids", patient=patient.id))
    for path in patient.surplus:
        finding = "another file already has the place of this one"
        errors.append(problems.DuplicatePatient(finding, "Keep one of the two", file=path, patient=patient.id))
    return errors


def _place(patient: Patient) -> str:
    paths = [*patient.files.values(), *([patient.segmentation] if patient.segmentation else [])]
    return str(paths[0].parent) if paths else "a row without files"


def _with_twins(reports: Sequence[PatientReport]) -> list[PatientReport]:
    """Warn of the same voxels under two ids: across folds, such a patient would be trained on and tested on."""
    ids = defaultdict(list)
    for report in reports:
        if report.digest:
            ids[report.digest].append(report.id)
    return [report.with_problems(_twins(report, ids.get(report.digest, []))) for report in reports]


def _twins(report: PatientReport, ids: Sequence[str]) -> list[Problem]:
    others = [other for other in ids if other.lower() != report.id.lower()]
    if not others:
        return []
    message = f"patient {report.id}: the t1ce image is voxel for voxel that of {', '.join(others)}. Keep one of them"
    return [Problem("duplicate_patient", "warning", None, message)]


def _digest(volume: PatientVolume) -> str:
    return hashlib.blake2b(np.ascontiguousarray(volume.images[T1CE].T).data, digest_size=16).hexdigest()
