"""Chapter 05: every way of grading on the same folds, and the responsible codewords (Eq. 6)."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from drlib.artifacts import write_json
from drlib.radiomics.fidelity import measure_fidelity, save_fidelity
from drlib.radiomics.grading import (
    GradingResult,
    cross_validate,
    fit_classifier,
    save_classifier,
    volume_features,
)
from drlib.radiomics.responsible import find_responsible, responsible_by_grade
from drlib.series.run import Run
from drlib.series.stages.cohort import open_cohort
from drlib.series.stages.histograms import RADIOMICS_SOURCES, Histograms, open_histograms
from drlib.series.stages.segmentation import open_model, open_segmentation, read_table

N_FIDELITY = 12  # at most so many graded patients are counted in both precisions

MODELS = {
    "codewords, published protocol": ("counts", "raw-counts", "paper"),
    "codewords": ("counts", "counts", "ours"),
    "three true volumes": ("true volumes", "features", "ours"),
    "three predicted volumes": ("predicted volumes", "features", "ours"),
    "always the commoner grade": ("counts", "majority", "ours"),
}


@dataclass(frozen=True)
class Grading:
    """How well each model grades patients it was not fitted to, and the codewords the grade hangs on.

    Attributes:
        grades: LGG or HGG, one per patient.
        probabilities: model -> P(HGG) out of fold, patients x repeats.
        table: one row per model; for each metric its estimate, ``_low`` and ``_high`` (95 %, bootstrap over patients), and ``_mean``
            and ``_sd`` over folds; ``permutation_p`` where it was asked for.
        responsible: one row per codeword (:func:`drlib.radiomics.responsible.find_responsible`).
        by_grade: the responsible codewords of LGG and HGG; where a grade has none, its one most often selected codeword, which is
            *leading*, not responsible.
    """

    grades: pd.Series
    probabilities: dict[str, pd.DataFrame]
    table: pd.DataFrame
    responsible: pd.DataFrame
    by_grade: dict[str, list[int]]

    @property
    def probability(self) -> pd.Series:
        """P(HGG) of each patient by its codewords, out of fold, averaged over repeats."""
        return self.probabilities["codewords"].mean(axis=1)

    @property
    def informed(self) -> dict[str, pd.DataFrame]:
        """The probabilities of every model that looks at the patient."""
        return {name: table for name, table in self.probabilities.items() if MODELS[name][1] != "majority"}


def grade_patients(run: Run) -> Grading:
    """Cross-validate every model of ``MODELS`` and find the responsible codewords; put the fitted classifier beside the network,
    with what reduced precision does to it (see :func:`drlib.radiomics.fidelity.measure_fidelity`)."""
    upstream = ("cohort", "segmentation", "histograms")
    run.build("grading", RADIOMICS_SOURCES, upstream, lambda folder: _grade(run, folder), grading=run.profile.grading.model_dump())
    for name in ("classifier.json", "responsible.json", "fidelity.json"):
        shutil.copyfile(run.folder / "grading" / name, run.folder / "model" / name)
    return open_grading(run)


def open_grading(run: Run) -> Grading:
    """Return what chapter 05 wrote."""
    run.manifest("grading")
    folder = run.folder / "grading"
    grades = read_table(folder / "grades.csv")["grade"]
    probabilities = {
        name: read_table(folder / f"p_hgg_{number}.csv") for number, name in enumerate(MODELS) if (folder / f"p_hgg_{number}.csv").exists()
    }
    responsible = pd.read_csv(folder / "codewords.csv", index_col="codeword")
    by_grade = json.loads((folder / "responsible.json").read_text())["codewords"]
    return Grading(grades, probabilities, pd.read_csv(folder / "table.csv", index_col="model"), responsible, by_grade)


def _grade(run: Run, folder: Path) -> None:
    settings, histograms = run.profile.grading, open_histograms(run)
    features = _features(run, histograms)
    grades, rows = histograms.grades.dropna(), {}
    for number, (name, (table, kind, protocol)) in enumerate(MODELS.items()):
        if features[table].loc[grades.index].isna().any(axis=None):
            continue  # a user's cohort without true segmentations has no true volumes
        asked = settings if name == "codewords" else settings.model_copy(update={"permutations": 0})
        result = cross_validate(features[table].loc[grades.index], grades, asked, run.seed, protocol, kind)
        result.probabilities.rename_axis("patient").to_csv(folder / f"p_hgg_{number}.csv")
        rows[name] = _metrics_row(result)
    pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").to_csv(folder / "table.csv")
    grades.rename("grade").rename_axis("patient").to_csv(folder / "grades.csv")
    _write_classifier(run, histograms, folder)


def _features(run: Run, histograms: Histograms) -> dict[str, pd.DataFrame]:
    counts, regions = histograms.counts.table, ["NET", "ED", "ET"]
    true = open_cohort(run).patients.reindex(counts.index)[regions]
    predicted = open_segmentation(run).predicted_volumes.loc[counts.index, regions]
    return {"counts": counts, "true volumes": volume_features(true), "predicted volumes": volume_features(predicted)}


def _metrics_row(result: GradingResult) -> dict[str, float]:
    row = {"patients": len(result.grades)}
    for metric, values in result.summary.iterrows():
        row |= {metric: values["estimate"], f"{metric}_low": values["low"], f"{metric}_high": values["high"]}
        row |= {f"{metric}_mean": values["mean"], f"{metric}_sd": values["sd"]}
    return row | {"permutation_p": result.permutation_p, "converged": result.converged}


def _write_classifier(run: Run, histograms: Histograms, folder: Path) -> None:
    graded = histograms.grades.dropna().index
    counts, grades = histograms.counts.table.loc[graded], histograms.grades.loc[graded]
    fitted = fit_classifier(counts, grades, seed=run.seed, codebook=histograms.counts.codebook)
    save_classifier(folder / "classifier.json", fitted)
    measured = list(graded[:: -(-len(graded) // N_FIDELITY)])  # at equal steps
    save_fidelity(folder / "fidelity.json", measure_fidelity(open_model(run), open_cohort(run).grading, fitted, patients=measured))
    table = find_responsible(counts, grades, seed=run.seed)
    table.to_csv(folder / "codewords.csv")
    facts = {
        "codewords": responsible_by_grade(table, at_least=1),
        "background": histograms.background,
        "codebook": histograms.counts.codebook,
    }
    write_json(folder / "responsible.json", facts | {"cohort": run.cohort_name, "profile": run.profile.name, "n_patients": len(grades)})
