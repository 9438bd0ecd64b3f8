"""Chapter 05: every way of grading on the same folds, and the responsible codewords (Eq. 6)."""

import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from drlib.artifacts import write_atomically, write_json
from drlib.radiomics.fidelity import measure_fidelity, save_fidelity
from drlib.radiomics.grading import (
    GradingResult,
    compare_models,
    cross_validate,
    decision_curve,
    enhancing_share,
    fit_classifier,
    save_classifier,
    volume_features,
)
from drlib.radiomics.intensity import count_intensities
from drlib.radiomics.leaks import LeakReport, count_control, find_twins_in, without_twins
from drlib.radiomics.responsible import find_responsible, responsible_by_grade
from drlib.radiomics.statistics import Interval
from drlib.series.run import Run
from drlib.series.stages.cohort import open_cohort
from drlib.series.stages.histograms import RADIOMICS_SOURCES, Histograms, open_histograms
from drlib.series.stages.segmentation import open_model, open_segmentation, read_table

N_FIDELITY = 12  # at most so many graded patients are counted in both precisions

# Every row of the chapter's tables: table of features (see ``_features``), kind of classifier, protocol. A new way of grading is a new
# row here and, where it looks at something new, a new table there.
CODEWORDS, RESPONSIBLE, CONTROL = "codewords", "responsible codewords alone", "control: slices without tumour"
MODELS = {
    "codewords, published protocol": ("counts", "raw-counts", "paper"),
    CODEWORDS: ("counts", "counts", "ours"),
    RESPONSIBLE: ("counts", "responsible", "ours"),
    "intensity histogram": ("intensities", "counts", "ours"),
    "three true volumes": ("true volumes", "features", "ours"),
    "three predicted volumes": ("predicted volumes", "features", "ours"),
    "whole-tumour volume": ("true whole tumour", "features", "ours"),
    "ET/TC, true": ("true ET/TC", "features", "ours"),
    "ET/TC, predicted": ("predicted ET/TC", "features", "ours"),
    CONTROL: ("control", "counts", "ours"),
    "always the commoner grade": ("counts", "majority", "ours"),
}
SHOWN = (CODEWORDS, RESPONSIBLE, "intensity histogram", "three true volumes", "three predicted volumes")  # where lines would crowd
COMPARED = ("accuracy", "balanced_accuracy", "auc", "brier")
THRESHOLDS = np.linspace(0.01, 0.99, 99)
PERMUTED_LESS = {"responsible": 4}  # K* is chosen again in every fold of every permutation: a quarter of them


@dataclass(frozen=True)
class Grading:
    """How well each model grades patients it was not fitted to, and the codewords the grade hangs on.

    Attributes:
        grades: LGG or HGG, one per patient.
        probabilities: model -> P(HGG) out of fold, patients x repeats.
        table: one row per model; for each metric its estimate, ``_low`` and ``_high`` (95 %, bootstrap over patients), and for those
            that exist in a fold ``_mean`` and ``_sd`` over folds, with ``_resampled_low`` and ``_resampled_high`` (Nadeau and Bengio);
            ``permutation_p`` of the AUC and the number of ``permutations``, where there are any.
        differences: codewords less each other model: ``model``, ``metric``, ``difference``, ``low``, ``high`` (95 %, bootstrap over
            the same patients for both).
        decisions: ``model`` and the columns of :func:`drlib.radiomics.grading.decision_curve`.
        responsible: one row per codeword (:func:`drlib.radiomics.responsible.find_responsible`), and ``fold_share``, the share of all
            training sets of the cross-validation in which it was chosen into K*.
        by_grade: the responsible codewords of LGG and HGG; where a grade has none, its one most often selected codeword, which is
            *leading*, not responsible.
        twins: pairs of patients that are one head (:func:`drlib.radiomics.leaks.find_twins`); the second of each is not graded.
    """

    grades: pd.Series
    probabilities: dict[str, pd.DataFrame]
    table: pd.DataFrame
    differences: pd.DataFrame
    decisions: pd.DataFrame
    responsible: pd.DataFrame
    by_grade: dict[str, list[int]]
    twins: pd.DataFrame

    @property
    def leaks(self) -> LeakReport:
        """What the checks for leaks found."""
        row = self.table.loc[CONTROL]
        return LeakReport(self.twins, Interval(row["auc"], row["auc_low"], row["auc_high"]))

    @property
    def probability(self) -> pd.Series:
        """P(HGG) of each patient by its codewords, out of fold, averaged over repeats."""
        return self.probabilities[CODEWORDS].mean(axis=1)

    @property
    def informed(self) -> dict[str, pd.DataFrame]:
        """The probabilities of every model that looks at the patient."""
        return {name: table for name, table in self.probabilities.items() if MODELS[name][1] != "majority"}

    @property
    def main(self) -> dict[str, pd.DataFrame]:
        """The probabilities of the few models that figures of many lines show."""
        return {name: self.probabilities[name] for name in SHOWN if name in self.probabilities}


def grade_patients(run: Run) -> Grading:
    """Cross-validate every model of ``MODELS`` and find the responsible codewords; put the fitted classifier beside the network,
    with what reduced precision does to it (see :func:`drlib.radiomics.fidelity.measure_fidelity`)."""
    upstream = ("cohort", "segmentation", "histograms")
    settings = {"grading": run.profile.grading.model_dump(), "models": MODELS}
    run.build("grading", RADIOMICS_SOURCES, upstream, lambda folder: _grade(run, folder), **settings)
    for name in ("classifier.json", "responsible.json", "fidelity.json"):
        write_atomically(run.folder / "model" / name, partial(shutil.copyfile, run.folder / "grading" / name))
    return open_grading(run)


def open_grading(run: Run) -> Grading:
    """Return what chapter 05 wrote."""
    run.manifest("grading")
    folder = run.folder / "grading"
    probabilities = read_table(folder / "probabilities.csv").groupby("model", sort=False)
    return Grading(
        grades=read_table(folder / "grades.csv")["grade"],
        probabilities={name: table.drop(columns="model").dropna(axis="columns") for name, table in probabilities},
        table=pd.read_csv(folder / "table.csv", index_col="model"),
        differences=pd.read_csv(folder / "differences.csv"),
        decisions=pd.read_csv(folder / "decisions.csv"),
        responsible=pd.read_csv(folder / "codewords.csv", index_col="codeword"),
        by_grade=json.loads((folder / "responsible.json").read_text())["codewords"],
        twins=pd.read_csv(folder / "twins.csv", dtype={"first": str, "second": str}),
    )


def _grade(run: Run, folder: Path) -> None:
    histograms = open_histograms(run)
    graded = histograms.grades.dropna()
    twins = find_twins_in(open_cohort(run).grading, list(graded.index))
    twins.to_csv(folder / "twins.csv", index=False)
    grades = graded.loc[without_twins(graded.index, twins)]
    results = _cross_validate_all(run, histograms, grades)
    rows = {name: metrics_row(result, _permutations(run, result.kind)) for name, result in results.items()}
    pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").to_csv(folder / "table.csv")
    probabilities = [result.probabilities.assign(model=name) for name, result in results.items()]
    pd.concat(probabilities).rename_axis("patient").to_csv(folder / "probabilities.csv")
    codewords_less_others(compare_models(results, CODEWORDS, run.seed, COMPARED)).to_csv(folder / "differences.csv", index=False)
    curves = [decision_curve(result, THRESHOLDS, run.seed).assign(model=name) for name, result in results.items()]
    pd.concat(curves).to_csv(folder / "decisions.csv", index=False)
    grades.rename("grade").rename_axis("patient").to_csv(folder / "grades.csv")
    _write_classifier(run, histograms, grades, results[RESPONSIBLE].chosen, folder)


def _cross_validate_all(run: Run, histograms: Histograms, grades: pd.Series) -> dict[str, GradingResult]:
    results = {}
    features = {name: table.loc[grades.index] for name, table in _features(run, histograms).items()}
    for name, (table, kind, protocol) in tqdm(MODELS.items(), desc="grading", unit="model"):
        if not features[table].isna().any(axis=None):  # a user's cohort without true segmentations has no true volumes
            asked = run.profile.grading.model_copy(update={"permutations": _permutations(run, kind)})
            results[name] = cross_validate(features[table], grades, asked, run.seed, protocol, kind, n_jobs=-1)
    return results


def _permutations(run: Run, kind: str) -> int:
    return 0 if kind == "majority" else run.profile.grading.permutations // PERMUTED_LESS.get(kind, 1)


def _features(run: Run, histograms: Histograms) -> dict[str, pd.DataFrame]:
    """Return the tables of features that ``MODELS`` names, a row per patient with counts."""
    counts, regions = histograms.counts.table, ["NET", "ED", "ET"]
    cohort = open_cohort(run)
    true = cohort.patients.reindex(columns=[*regions, "WT"]).reindex(counts.index)
    predicted = open_segmentation(run).predicted_volumes.loc[counts.index]
    return {
        "counts": counts,
        "control": count_control(open_model(run), cohort.grading, list(counts.index)),
        "intensities": count_intensities(cohort.grading, list(counts.index), max(1, counts.shape[1] // 4)),  # as many columns as counts
        "true volumes": volume_features(true[regions]),
        "predicted volumes": volume_features(predicted[regions]),
        "true whole tumour": volume_features(true[["WT"]]),
        "true ET/TC": enhancing_share(true),
        "predicted ET/TC": enhancing_share(predicted),
    }


def metrics_row(result: GradingResult, permutations: int | None) -> dict[str, float]:
    """Return a row of the models' table (:attr:`Grading.table`)."""
    row = {"patients": len(result.grades), "repeats": result.probabilities.shape[1]}
    for metric, values in result.summary.iterrows():
        row |= {metric: values["estimate"]} | {f"{metric}_{name}": value for name, value in values.drop("estimate").items()}
    shuffled = {"permutation_p": result.permutation_p, "permutations": None if result.permutation_p is None else permutations}
    return row | shuffled | {"converged": result.converged}


def codewords_less_others(compared: pd.DataFrame) -> pd.DataFrame:
    """Turn the others less the codewords (:func:`drlib.radiomics.grading.compare_models`) round, without the codewords themselves."""
    turned = {"difference": -compared["difference"], "low": -compared["high"], "high": -compared["low"]}
    return compared.assign(**turned)[compared["model"] != CODEWORDS]


def _write_classifier(run: Run, histograms: Histograms, grades: pd.Series, fold_share: pd.Series, folder: Path) -> None:
    graded = grades.index
    counts = histograms.counts.table.loc[graded]
    fitted = fit_classifier(counts, grades, seed=run.seed, codebook=histograms.counts.codebook)
    save_classifier(folder / "classifier.json", fitted)
    measured = list(graded[:: -(-len(graded) // N_FIDELITY)])  # at equal steps
    save_fidelity(folder / "fidelity.json", measure_fidelity(open_model(run), open_cohort(run).grading, fitted, patients=measured))
    table = find_responsible(counts, grades, seed=run.seed).assign(fold_share=fold_share)
    table.to_csv(folder / "codewords.csv")
    facts = {
        "codewords": responsible_by_grade(table, at_least=1),
        "background": histograms.background,
        "codebook": histograms.counts.codebook,
    }
    write_json(folder / "responsible.json", facts | {"cohort": run.cohort_name, "profile": run.profile.name, "n_patients": len(grades)})
