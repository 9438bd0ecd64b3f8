"""Chapter 06: counts, latents and grading under scaling and shifting (Eq. 7), and under what scanners do."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from drlib.cohort.brats import Patient, find_patients
from drlib.parallel import for_workers
from drlib.radiomics.robustness import CLEAN, Perturbation, grade_perturbed, perturb_normalised_path, sweep
from drlib.radiomics.scanners import choose_patients, scan_again
from drlib.series.run import Run
from drlib.series.stages.cohort import make_phantoms, open_cohort
from drlib.series.stages.histograms import RADIOMICS_SOURCES, open_histograms
from drlib.series.stages.segmentation import open_model

N_SCANNED = 40  # graded patients who are scanned again: each goes through the whole preprocessing once per change
N_NORMALISED = 12  # graded patients for whom the path through the first normalisation is followed alone


@dataclass(frozen=True)
class Robustness:
    """What scaling, shifting and scanners do to the counts, to the latents and to the grading.

    Attributes:
        grades: LGG or HGG, one per patient.
        ratios: patient, kind (scale, shift), magnitude, difference_ratio.
        performance: kind, magnitude, mode (frozen or refitted), measure (accuracy, precision, recall, specificity, npv with LGG
            positive, as published), value and spread (mean and SD over folds).
        probabilities: kind, magnitude, classifier (frozen or refitted), patient, fold, p_hgg out of fold.
        movement: patient, kind, magnitude, area (brain, all) and how far latents and codewords moved there
            (:func:`drlib.radiomics.absorption.measure_movement`).
        scanner_probabilities, scanner_movement: the same for some of the patients and the changes of
            :data:`drlib.radiomics.scanners.SCANNER_CHANGES`; kind ``scale`` of magnitude 0 is the scan as it is.
        normalisation: movement in the brain of some patients at the largest magnitudes with the first shortcut unperturbed.
    """

    grades: pd.Series
    ratios: pd.DataFrame
    performance: pd.DataFrame
    probabilities: pd.DataFrame
    movement: pd.DataFrame
    scanner_probabilities: pd.DataFrame
    scanner_movement: pd.DataFrame
    normalisation: pd.DataFrame


TABLES = ("ratios", "performance", "probabilities", "movement", "scanner_probabilities", "scanner_movement", "normalisation")


def measure_robustness(run: Run) -> Robustness:
    """Perturb every graded patient, scan some of them again, count again and grade again (Eq. 7)."""
    settings = {
        "robustness": run.profile.robustness.model_dump(),
        "grading": run.profile.grading.model_dump(),
        "patients": [N_SCANNED, N_NORMALISED],
    }
    run.build("robustness", RADIOMICS_SOURCES, ("cohort", "model", "histograms"), lambda folder: _perturb(run, folder), **settings)
    folder = run.folder / "robustness"
    tables = {name: pd.read_csv(folder / f"{name}.csv", dtype={"patient": str}) for name in TABLES}
    return Robustness(_grades(run), **tables)


def scanned_patients(run: Run) -> list[Patient]:
    """Return the files of the graded patients who are scanned again, with the grades in the proportion of the cohort."""
    chosen = set(choose_patients(_grades(run), N_SCANNED, run.seed))
    source = make_phantoms(run) if run.is_phantom else run.data_dir
    return [patient for patient in find_patients(for_workers(source)) if patient.id in chosen]


PUBLISHED_MEASURES = {  # the published convention: LGG is positive
    "accuracy": "accuracy",
    "precision": "ppv_LGG",
    "recall": "sensitivity_LGG",
    "specificity": "specificity_LGG",
    "npv": "npv_LGG",
}


def _grades(run: Run) -> pd.Series:
    return open_histograms(run).grades.dropna()


def _perturb(run: Run, folder: Path) -> None:
    store, model, profile, grades = open_cohort(run).grading, open_model(run), run.profile, _grades(run)
    every = profile.robustness.every
    options = {"grades": grades, "patients": list(grades.index), "seed": run.seed, "every": every, "progress": True}
    result = sweep(model, store, profile.robustness, profile.grading, **options)
    n_jobs = -1 if model.device.type == "cpu" else 1
    scanned = scan_again(model, store, scanned_patients(run), seed=run.seed, every=every, n_jobs=n_jobs, progress=True)
    largest = [Perturbation(kind, max(profile.robustness.magnitudes)) for kind in ("scale", "shift")]
    tables = {
        "ratios": result.ratios,
        "performance": _over_folds(result.performance),
        "probabilities": result.probabilities,
        "movement": result.movement,
        "scanner_probabilities": grade_perturbed(scanned.counts, result.counts[CLEAN], grades, profile.grading, seed=run.seed),
        "scanner_movement": scanned.movement,
        "normalisation": perturb_normalised_path(model, store, largest, list(grades.index)[:N_NORMALISED], every),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)


def _over_folds(performance: pd.DataFrame) -> pd.DataFrame:
    long = performance.rename(columns={"classifier": "mode", **{old: new for new, old in PUBLISHED_MEASURES.items()}})
    long = long.melt(["kind", "magnitude", "mode", "fold"], list(PUBLISHED_MEASURES), var_name="measure")
    spread = long.groupby(["kind", "magnitude", "mode", "measure"])["value"].agg(value="mean", spread="std")
    return spread.reset_index()
