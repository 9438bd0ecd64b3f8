"""Chapter 01: the patients, checked, and their slices."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from drlib.artifacts import write_json
from drlib.cohort.brats import Patient, find_patients, split_cohort
from drlib.cohort.loading import load_labels
from drlib.cohort.phantom import make_cohort
from drlib.cohort.regions import REGIONS, region_mask
from drlib.cohort.slices import SliceStore, build_slice_store
from drlib.cohort.validation import check_cohort
from drlib.parallel import map_patients
from drlib.series.run import Run, RunError

COHORT_SOURCES = ("drlib.cohort", "drlib.seeds")


@dataclass(frozen=True)
class Cohort:
    """The patients of a run, ready for the network.

    Attributes:
        patients: one row per patient: ``grade``, ``cohort`` (segmentation or grading), ``n_slices``, volumes in cm3 (NET ED ET TC WT).
        report: every problem found, as ``drlib check --json`` prints it.
        segmentation: slices of the patients that train the network.
        grading: slices of the patients that are graded, which the network never sees in training.
    """

    patients: pd.DataFrame
    report: dict
    segmentation: SliceStore
    grading: SliceStore

    @property
    def grades(self) -> pd.Series:
        """LGG or HGG of each graded patient, in the order of the store."""
        return self.patients.loc[list(self.grading.patients), "grade"]

    @property
    def volumes(self) -> pd.DataFrame:
        """True volumes in cm3 of the graded patients, with their grade; without those that have no segmentation."""
        return (
            self.patients.reindex(columns=[*self.patients.columns.difference(REGIONS, sort=False), *REGIONS])
            .loc[list(self.grading.patients)]
            .dropna(subset=["WT"])
        )

    def problem_counts(self) -> pd.DataFrame:
        """How many patients were checked, are sound, and have each problem."""
        codes = [problem["code"] for patient in self.report["patients"] for problem in patient["problems"]]
        rows = {"checked": len(self.report["patients"]), "sound": sum(patient["ok"] for patient in self.report["patients"])}
        return pd.DataFrame({"patients": rows | pd.Series(codes, dtype=object).value_counts().to_dict()})


def prepare_cohort(run: Run) -> Cohort:
    """Make (or take) the patients, check them all, and write their slices. Patients with an error are left out and reported."""
    source = make_phantoms(run) if run.is_phantom else run.data_dir
    profile = run.profile
    run.build(
        "cohort",
        COHORT_SOURCES,
        ("phantom",) if run.is_phantom else (),
        lambda folder: _write_cohort(run, source, folder),
        preprocessing=profile.preprocessing.model_dump(),
        spacing_mm=profile.cohort.spacing_mm,
    )
    return open_cohort(run)


def make_phantoms(run: Run) -> Path:
    """Return the folder of the run's phantom cohort, made where it is not there yet."""
    settings = run.profile.cohort
    sources = ("drlib.cohort.phantom", "drlib.cohort.nifti", "drlib.seeds")
    return run.build("phantom", sources, (), lambda folder: make_cohort(folder, settings, run.seed), cohort=settings.model_dump())


def open_cohort(run: Run) -> Cohort:
    """Return the cohort that chapter 01 wrote."""
    run.manifest("cohort")
    folder = run.folder / "cohort"
    patients = pd.read_csv(folder / "patients.csv", index_col="patient", dtype={"patient": str, "grade": object})
    return Cohort(
        patients,
        json.loads((folder / "report.json").read_text()),
        SliceStore(folder / "segmentation.zarr"),
        SliceStore(folder / "grading.zarr"),
    )


def choose_patients(cohort: Cohort, per_grade: int, grades: Sequence[str] = ("HGG", "LGG")) -> list[str]:
    """Return ``per_grade`` graded patients of each grade, at equal steps of tumour volume between the 20th and the 80th percentile."""
    chosen = []
    for grade in grades:
        ordered = cohort.volumes[cohort.volumes["grade"] == grade].sort_values("WT").index
        steps = np.linspace(0.2, 0.8, per_grade) if per_grade > 1 else [0.5]
        chosen += [ordered[round(step * (len(ordered) - 1))] for step in steps]
    return list(dict.fromkeys(chosen))


def _write_cohort(run: Run, source: Path, folder: Path) -> None:
    profile = run.profile
    report = check_cohort(source)
    write_json(folder / "report.json", report.to_dict())
    for problem in (problem for patient in report.patients for problem in patient.problems if problem.code == "failed"):
        raise RunError(f"{problem.message}. The work on this patient failed, not its files: nobody is left out for that. Run it again")
    sound = {patient.id for patient in report.patients if patient.ok}
    split = split_cohort([patient for patient in find_patients(source) if patient.id in sound], run.seed)
    for cohort, due in (("segmentation", "a segmentation, to train the network"), ("grading", "a grade (LGG or HGG), to be graded")):
        if not getattr(split, cohort):
            raise RunError(
                f"{source}: none of the {len(sound)} sound patients has {due}. The series needs patients of both kinds; "
                "`drlib check` lists what is missing, `drlib features` and `drlib grade` apply a trained model without either"
            )
    tables = []
    for cohort, patients in (("segmentation", split.segmentation), ("grading", split.grading)):
        store = build_slice_store(patients, folder / f"{cohort}.zarr", profile.preprocessing, profile.cohort.spacing_mm)
        stored = [patient for patient in patients if patient.id in store.patients]
        tables.append(pd.DataFrame(map_patients(_describe, stored, store, cohort, n_jobs=1, ordered=True)))
    pd.concat(tables).set_index("patient").sort_index().to_csv(folder / "patients.csv")


def _describe(patient: Patient, store: SliceStore, cohort: str) -> dict:
    row = {"patient": patient.id, "grade": patient.grade, "cohort": cohort, "n_slices": store.n_slices(patient.id)}
    found = load_labels(patient)
    return row if found is None else row | region_volumes(*found)


def region_volumes(labels: np.ndarray, voxel_mm3: float) -> dict[str, float]:
    """Return the volume in cm3 of each region in ``labels`` (any shape) whose voxels have ``voxel_mm3``."""
    return {region: float(region_mask(labels, region).sum() * voxel_mm3 / 1000) for region in REGIONS}
