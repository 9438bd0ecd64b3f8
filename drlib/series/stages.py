"""The stages of the series: each computes one chapter's result once, keeps it, and gives it back.

A notebook calls a function here and shows what comes back. A stage is made again only when what it depends on changed
(:meth:`drlib.series.run.Run.build`); otherwise the kept result is checked and read.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from drlib.artifacts import file_sha256, write_json
from drlib.cohort.brats import Patient, find_patients, split_cohort
from drlib.cohort.phantom import make_cohort
from drlib.cohort.regions import REGIONS, region_mask
from drlib.cohort.slices import SliceStore, build_slice_store
from drlib.cohort.validation import check_cohort
from drlib.radiomics.ablation import ablate_cohort, encode_patient, share_outside, token_change
from drlib.radiomics.grading import (
    GradingResult,
    cross_validate,
    fit_classifier,
    save_classifier,
    volume_features,
)
from drlib.radiomics.histogram import CodewordCounts, background_codeword, count_codewords
from drlib.radiomics.responsible import find_responsible, responsible_by_grade
from drlib.radiomics.robustness import sweep
from drlib.radiomics.statistics import compare_regions
from drlib.segmentation.dice import dice_scores, segment_store
from drlib.segmentation.model import TrainedModel, load_model, shipped_model
from drlib.segmentation.training import Validation, train
from drlib.series.run import Run

COHORT_SOURCES = ("drlib.cohort", "drlib.seeds")
SEGMENTATION_SOURCES = (*COHORT_SOURCES, "drlib.segmentation")
N_VALIDATED_OF = 16  # one segmentation patient in so many is kept from training, for the curve of the Dice coefficients
RADIOMICS_SOURCES = (*SEGMENTATION_SOURCES, "drlib.radiomics")


# ---------------------------------------------------------------------------------------------------------------- 01 cohort


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
        return self.patients.loc[list(self.grading.patients)].dropna(subset=["WT"])

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


def _write_cohort(run: Run, source: Path, folder: Path) -> None:
    profile = run.profile
    report = check_cohort(source)
    write_json(folder / "report.json", report.to_dict())
    sound = {patient.id for patient in report.patients if patient.ok}
    split = split_cohort([patient for patient in find_patients(source) if patient.id in sound], run.seed)
    tables = []
    for cohort, patients in (("segmentation", split.segmentation), ("grading", split.grading)):
        store = build_slice_store(patients, folder / f"{cohort}.zarr", profile.preprocessing, profile.cohort.spacing_mm)
        tables.append(pd.DataFrame([_describe(patient, store, cohort) for patient in patients if patient.id in store.patients]))
    pd.concat(tables).set_index("patient").sort_index().to_csv(folder / "patients.csv")


def _describe(patient: Patient, store: SliceStore, cohort: str) -> dict:
    row = {"patient": patient.id, "grade": patient.grade, "cohort": cohort, "n_slices": store.n_slices(patient.id)}
    return row | region_volumes(store.labels(patient.id), store.geometry(patient.id).pixel_volume_mm3)


def region_volumes(labels: np.ndarray | None, voxel_mm3: float) -> dict[str, float]:
    """Return the volume in cm3 of each region in ``labels`` (any shape); empty where there are none."""
    return {} if labels is None else {region: float(region_mask(labels, region).sum() * voxel_mm3 / 1000) for region in REGIONS}


# ---------------------------------------------------------------------------------------------------------- 03 segmentation


# ---------------------------------------------------------------------------------------------------------- 03 segmentation


@dataclass(frozen=True)
class Segmentation:
    """The trained network and how well it segments patients that it has not seen.

    Attributes:
        model: network and profile.
        log: one row per epoch.
        dice: one row per graded patient, a column per region; missing where neither truth nor prediction holds the region.
        predicted_volumes: cm3, one row per graded patient, a column per region.
    """

    model: TrainedModel
    log: pd.DataFrame
    dice: pd.DataFrame
    predicted_volumes: pd.DataFrame


def train_and_evaluate(run: Run) -> Segmentation:
    """Train the network on the segmentation cohort and segment the graded patients with it."""
    run.build(
        "model",
        SEGMENTATION_SOURCES,
        ("cohort",),
        lambda folder: _train(run, folder),
        **{name: getattr(run.profile, name).model_dump() for name in ("network", "quantizer", "training")},
        start=_shipped_weights(run),
    )
    run.build("segmentation", SEGMENTATION_SOURCES, ("cohort", "model"), lambda folder: _segment(run, folder))
    return open_segmentation(run)


def _shipped_weights(run: Run) -> str | None:
    """Return the SHA-256 of the weights that the training continues from."""
    name = run.profile.training.start_from
    return None if name is None else file_sha256(shipped_model(name) / "model.safetensors")


def open_model(run: Run) -> TrainedModel:
    """Return the network that chapter 03 trained."""
    run.manifest("model")
    return load_model(run.folder / "model")


def open_segmentation(run: Run) -> Segmentation:
    """Return what chapter 03 wrote."""
    run.manifest("segmentation")
    folder = run.folder / "segmentation"
    tables = [_read_table(folder / f"{name}.csv") for name in ("dice", "predicted_volumes")]
    return Segmentation(open_model(run), pd.read_csv(run.folder / "model" / "log.csv"), *tables)


def _train(run: Run, folder: Path) -> None:
    store = open_cohort(run).segmentation
    held_out = len(store.patients) // N_VALIDATED_OF
    train(
        store,
        run.profile,
        folder,
        ids=store.patients[held_out:],
        validation=Validation(store, store.patients[:held_out]),
        seed=run.seed,
    )


def _segment(run: Run, folder: Path) -> None:
    cohort, model = open_cohort(run), open_model(run)
    dice, volumes = {}, {}
    for patient, prediction in segment_store(model, cohort.grading):
        volumes[patient] = region_volumes(prediction, cohort.grading.geometry(patient).pixel_volume_mm3)
        truth = cohort.grading.labels(patient)
        if truth is not None:
            dice[patient] = dice_scores(prediction, truth)
    pd.DataFrame.from_dict(dice, orient="index", columns=REGIONS).rename_axis("patient").to_csv(folder / "dice.csv")
    pd.DataFrame.from_dict(volumes, orient="index", columns=REGIONS).rename_axis("patient").to_csv(folder / "predicted_volumes.csv")


def _read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, index_col="patient", dtype={"patient": str})


# ------------------------------------------------------------------------------------------------------------ 04 histograms


@dataclass(frozen=True)
class Histograms:
    """The counts of the graded patients and the codeword that stands for what lies outside the head."""

    counts: CodewordCounts
    background: int
    grades: pd.Series

    @property
    def sums_hold(self) -> bool:
        """Whether every patient's counts sum to slices x latent positions."""
        return bool((self.counts.table.sum(axis=1) == self.counts.n_slices * self.counts.latent_positions).all())


def count_histograms(run: Run) -> Histograms:
    """Count the codewords of every graded patient (Eq. 5)."""
    run.build("histograms", RADIOMICS_SOURCES, ("cohort", "model"), lambda folder: _count(run, folder))
    return open_histograms(run)


def open_histograms(run: Run) -> Histograms:
    """Return what chapter 04 wrote."""
    run.manifest("histograms")
    folder = run.folder / "histograms"
    table = pd.read_parquet(folder / "counts.parquet")
    facts = json.loads((folder / "facts.json").read_text())
    n_slices = table.pop("n_slices")
    table.columns = range(table.shape[1])
    counts = CodewordCounts(table, n_slices, facts["latent_positions"], facts["codebook"])
    return Histograms(counts, facts["background"], open_cohort(run).patients.loc[table.index, "grade"])


def _count(run: Run, folder: Path) -> None:
    cohort, model = open_cohort(run), open_model(run)
    counts = count_codewords(model, cohort.grading, progress=True)
    table = counts.table.rename(columns="codeword_{:03d}".format)
    table.insert(0, "n_slices", counts.n_slices)
    table.to_parquet(folder / "counts.parquet")
    table.to_csv(folder / "counts.csv")
    facts = {"latent_positions": counts.latent_positions, "codebook": counts.codebook}
    write_json(folder / "facts.json", facts | {"background": background_codeword(model, cohort.grading)})


# --------------------------------------------------------------------------------------------------------------- 05 grading

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
    """Cross-validate every model of ``MODELS`` and find the responsible codewords; put the fitted classifier beside the network."""
    upstream = ("cohort", "segmentation", "histograms")
    run.build("grading", RADIOMICS_SOURCES, upstream, lambda folder: _grade(run, folder), grading=run.profile.grading.model_dump())
    for name in ("classifier.json", "responsible.json"):
        shutil.copyfile(run.folder / "grading" / name, run.folder / "model" / name)
    return open_grading(run)


def open_grading(run: Run) -> Grading:
    """Return what chapter 05 wrote."""
    run.manifest("grading")
    folder = run.folder / "grading"
    grades = _read_table(folder / "grades.csv")["grade"]
    probabilities = {
        name: _read_table(folder / f"p_hgg_{number}.csv") for number, name in enumerate(MODELS) if (folder / f"p_hgg_{number}.csv").exists()
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
    save_classifier(folder / "classifier.json", fit_classifier(counts, grades, seed=run.seed, codebook=histograms.counts.codebook))
    table = find_responsible(counts, grades, seed=run.seed)
    table.to_csv(folder / "codewords.csv")
    facts = {
        "codewords": responsible_by_grade(table, at_least=1),
        "background": histograms.background,
        "codebook": histograms.counts.codebook,
    }
    write_json(folder / "responsible.json", facts | {"cohort": run.cohort_name, "profile": run.profile.name, "n_patients": len(grades)})


# ------------------------------------------------------------------------------------------------------------ 06 robustness


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


def test_robustness(run: Run) -> Robustness:
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


# -------------------------------------------------------------------------------------------------------------- 07 ablation


@dataclass(frozen=True)
class Ablation:
    """What the decoder draws differently without the responsible codewords of each grade.

    Attributes:
        values: patient, grade, responsible_for, region, mean, sum, n_voxels, n_tokens, share_outside.
        tests: responsible_for, value (mean or sum), region_a, region_b, and the p of Dunn and of the paired Wilcoxon test (Holm).
        joint: responsible_for, value, the p of Kruskal-Wallis and of Friedman, and the region of the highest mean.
        locality: variant (normalisation live or frozen) and share_outside of single replaced tokens.
    """

    values: pd.DataFrame
    tests: pd.DataFrame
    joint: pd.DataFrame
    locality: pd.DataFrame


def ablate_codewords(run: Run) -> Ablation:
    """Replace each grade's responsible codewords in every graded patient and measure where the segmentation changes."""
    run.build("ablation", RADIOMICS_SOURCES, ("cohort", "model", "histograms", "grading"), lambda folder: _ablate(run, folder))
    folder = run.folder / "ablation"
    values = pd.read_csv(folder / "values.csv", dtype={"patient": str})
    return Ablation(values, *(pd.read_csv(folder / f"{name}.csv") for name in ("tests", "joint", "locality")))


def _ablate(run: Run, folder: Path) -> None:
    cohort, model, background = open_cohort(run), open_model(run), open_histograms(run).background
    values = ablate_cohort(model, cohort.grading, open_grading(run).by_grade, background, progress=True)
    values.to_csv(folder / "values.csv", index=False)
    tests, joint = _compare_regions(values)
    tests.to_csv(folder / "tests.csv", index=False)
    joint.to_csv(folder / "joint.csv", index=False)
    _measure_locality(run).to_csv(folder / "locality.csv", index=False)


def _compare_regions(values: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    pairs, joint = [pd.DataFrame(columns=["responsible_for", "value"])], []
    for grade, table in values.groupby("responsible_for"):
        for value in ("mean", "sum"):
            found, head = compare_regions(table, value), {"responsible_for": grade, "value": value}
            pairs.append(found.pairs.assign(**head))
            tests = {"kruskal_p": found.kruskal_p, "friedman_p": found.friedman_p, "n_complete": found.n_complete}
            joint.append(head | tests | {"highest": found.highest})
    return pd.concat(pairs), pd.DataFrame(joint, columns=["responsible_for", "value", "kruskal_p", "friedman_p", "n_complete", "highest"])


def _measure_locality(run: Run, n_patients: int = 12) -> pd.DataFrame:
    """Replace, in each of some patients, the token in the middle of the tumour, and return how much changes outside its cell."""
    cohort, model, background = open_cohort(run), open_model(run), open_histograms(run).background
    rows = []
    for patient in cohort.grading.patients[:n_patients]:
        code_map, cell = tumour_token(model, cohort.grading, patient)
        for frozen in (False, True):
            change = token_change(model, code_map, cell, background, frozen)
            one = torch.zeros_like(code_map, dtype=torch.bool)
            one[cell] = True
            variant = "normalisation frozen" if frozen else "normalisation live"
            rows.append({"patient": patient, "variant": variant, "share_outside": share_outside(change[None], one[None])})
    return pd.DataFrame(rows)


def tumour_token(model: TrainedModel, store: SliceStore, patient: str) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return the index map (h, w) of the slice with the most tumour, and the cell (row, column) that holds most of it."""
    labels = store.labels(patient)
    index = int((labels > 0).sum(axis=(1, 2)).argmax())
    codes = encode_patient(model, store.images(patient)[index : index + 1])[0]
    cells = (labels[index] > 0).reshape(codes.shape[0], model.profile.stride, codes.shape[1], model.profile.stride).sum(axis=(1, 3))
    row, column = np.unravel_index(cells.argmax(), cells.shape)
    return codes, (int(row), int(column))
