"""Chapter 06: counts and grading under scaling and shifting (Eq. 7)."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from drlib.radiomics.robustness import sweep
from drlib.series.run import Run
from drlib.series.stages.cohort import open_cohort
from drlib.series.stages.histograms import RADIOMICS_SOURCES, open_histograms
from drlib.series.stages.segmentation import open_model


@dataclass(frozen=True)
class Robustness:
    """What scaling and shifting do to the counts and to the grading.

    Attributes:
        ratios: patient, kind, magnitude, difference_ratio.
        performance: kind, magnitude, mode (frozen or refitted), measure (accuracy, precision, recall, specificity, npv with LGG
            positive, as published), value and spread (mean and SD over folds).
    """

    ratios: pd.DataFrame
    performance: pd.DataFrame


def measure_robustness(run: Run) -> Robustness:
    """Perturb every graded patient, count again and grade again (Eq. 7)."""
    settings = {"robustness": run.profile.robustness.model_dump(), "grading": run.profile.grading.model_dump()}
    run.build("robustness", RADIOMICS_SOURCES, ("cohort", "model", "histograms"), lambda folder: _perturb(run, folder), **settings)
    folder = run.folder / "robustness"
    return Robustness(pd.read_csv(folder / "ratios.csv", dtype={"patient": str}), pd.read_csv(folder / "performance.csv"))


PUBLISHED_MEASURES = {  # the published convention: LGG is positive
    "accuracy": "accuracy",
    "precision": "ppv_LGG",
    "recall": "sensitivity_LGG",
    "specificity": "specificity_LGG",
    "npv": "npv_LGG",
}


def _perturb(run: Run, folder: Path) -> None:
    cohort, model, profile = open_cohort(run), open_model(run), run.profile
    grades = open_histograms(run).grades.dropna()
    patients = list(grades.index)
    result = sweep(
        model,
        cohort.grading,
        profile.robustness,
        profile.grading,
        grades=grades,
        patients=patients,
        seed=run.seed,
        every=profile.robustness.every,
        progress=True,
    )
    result.ratios.to_csv(folder / "ratios.csv", index=False)
    long = result.performance.rename(columns={"classifier": "mode", **{old: new for new, old in PUBLISHED_MEASURES.items()}})
    long = long.melt(["kind", "magnitude", "mode", "fold"], list(PUBLISHED_MEASURES), var_name="measure")
    spread = long.groupby(["kind", "magnitude", "mode", "measure"])["value"].agg(value="mean", spread="std")
    spread.reset_index().to_csv(folder / "performance.csv", index=False)
