"""Robustness (Eq. 7): what scaling and shifting the intensities does to the histogram and to the grading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm

from drlib.cohort.slices import SliceStore
from drlib.parallel import map_patients
from drlib.profiles import GradingSettings, RobustnessSettings
from drlib.radiomics.grading import METRICS, Kind, Protocol, draw_folds, fold_classifiers, grading_metrics
from drlib.radiomics.histogram import codeword_histogram, encode_patient
from drlib.radiomics.statistics import check_grades
from drlib.seeds import derive_seed
from drlib.segmentation.model import TrainedModel


@dataclass(frozen=True)
class Perturbation:
    """Scaling by 1 + a or a shift by b of z-scored slices, background included: x' = (1 + a)(x + b), where one of a, b is 0.

    Source: paper, "Robustness assessment of the deep radiomics".
    """

    kind: Literal["scale", "shift"]
    magnitude: float

    def __call__(self, images: Tensor) -> Tensor:
        """Return perturbed slices, same shape."""
        return images * (1 + self.magnitude) if self.kind == "scale" else images + self.magnitude


@dataclass(frozen=True)
class RobustnessResult:
    """What the perturbations did.

    ``ratios``: patient, kind, magnitude, difference_ratio (0 to 2). ``performance``: kind, magnitude, classifier, fold, n, METRICS;
    ``classifier`` is ``frozen`` (fitted to clean counts of the training patients, applied to perturbed counts of the
    held-out ones) or ``refitted`` (fitted to perturbed counts too, as the authors' code does). ``counts``: the table of counts of
    every perturbation.
    """

    ratios: pd.DataFrame
    performance: pd.DataFrame
    counts: Mapping[Perturbation, pd.DataFrame]


def perturbations(settings: RobustnessSettings) -> tuple[Perturbation, ...]:
    """Return a scaling and a shift of each magnitude."""
    return tuple(Perturbation(kind, magnitude) for kind in ("scale", "shift") for magnitude in settings.magnitudes)


def difference_ratio(counts: pd.DataFrame, perturbed: pd.DataFrame) -> pd.Series:
    """Return per patient the sum over codewords of abs(c' - c), divided by the sum of c: 0 (same histogram) to 2 (nothing in common).

    Source: paper, Eq. 7.
    """
    return ((perturbed.loc[counts.index, counts.columns] - counts).abs().sum(axis=1) / counts.sum(axis=1)).rename("difference_ratio")


def count_perturbed(
    model: TrainedModel,
    store: SliceStore,
    applied: Sequence[Perturbation],
    *,
    patients: Sequence[str] | None = None,
    every: int = 1,
    batch_size: int | None = None,
    progress: bool = False,
) -> dict[Perturbation, pd.DataFrame]:
    """Count the codewords of every patient under every perturbation; each patient's slices are read once.

    Perturbations of magnitude 0 are the unperturbed slices, and are encoded once. ``every``: take every so-manieth slice only, which
    makes histograms of so many times fewer counts in so many times less time.
    """
    patients = list(store.patients if patients is None else patients)
    work = map_patients(_count_patient, patients, model, store, applied, every, batch_size, n_jobs=1, ordered=True)
    counted = list(tqdm(work, desc="perturbed histograms", total=len(patients), unit="patient", disable=not progress))
    index = pd.Index(patients, name="patient", dtype=object)
    return {p: pd.DataFrame(np.array([counts[n] for counts in counted]), index=index) for n, p in enumerate(applied)}


def _count_patient(
    patient: str, model: TrainedModel, store: SliceStore, applied: Sequence[Perturbation], every: int, batch_size: int | None
) -> list[np.ndarray]:
    """Return a patient's counts under each of the perturbations."""
    images = store.images(patient)[::every]
    counts: list[np.ndarray] = []
    clean = None
    for perturbation in applied:
        if perturbation.magnitude == 0 and clean is not None:
            counts.append(clean)
            continue
        transform = perturbation if perturbation.magnitude else None
        counts.append(codeword_histogram(encode_patient(model, images, transform, batch_size), model.profile.quantizer.codebook_size))
        clean = counts[-1] if perturbation.magnitude == 0 else clean
    return counts


def sweep(
    model: TrainedModel,
    store: SliceStore,
    settings: RobustnessSettings,
    grading: GradingSettings,
    *,
    grades: pd.Series | None = None,
    patients: Sequence[str] | None = None,
    protocol: Protocol = "ours",
    seed: int = 0,
    every: int = 1,
    batch_size: int | None = None,
    progress: bool = False,
) -> RobustnessResult:
    """Perturb every patient of ``store`` (or ``patients``) by every magnitude, count again and grade again.

    ``grades`` default to those of the store. ``every``: see ``count_perturbed``; clean and perturbed histograms and the classifiers are
    all made from the same slices.

    Source: paper, Eq. 7 and Fig. 4. The text says that the trained classifier is tested under perturbation (``frozen``); the
    authors' code refits it (``refitted``).
    """
    patients = list(store.patients if patients is None else patients)
    clean = Perturbation("scale", 0.0)
    applied = tuple(dict.fromkeys((clean, *perturbations(settings))))
    counts = count_perturbed(model, store, applied, patients=patients, every=every, batch_size=batch_size, progress=progress)
    grades = pd.Series({patient: store.grade(patient) for patient in patients}) if grades is None else grades
    return RobustnessResult(
        ratios=difference_ratios(counts, clean),
        performance=grade_perturbed(counts, clean, grades, grading, protocol=protocol, seed=seed),
        counts=counts,
    )


def difference_ratios(counts: Mapping[Perturbation, pd.DataFrame], clean: Perturbation) -> pd.DataFrame:
    """Return the long table patient, kind, magnitude, difference_ratio."""
    tables = [
        difference_ratio(counts[clean], perturbed).rename_axis("patient").reset_index().assign(kind=p.kind, magnitude=p.magnitude)
        for p, perturbed in counts.items()
    ]
    return pd.concat(tables, ignore_index=True)[["patient", "kind", "magnitude", "difference_ratio"]]


def grade_perturbed(
    counts: Mapping[Perturbation, pd.DataFrame],
    clean: Perturbation,
    grades: pd.Series,
    grading: GradingSettings,
    *,
    protocol: Protocol = "ours",
    kind: Kind | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the grading METRICS per perturbation, fold and classifier (``frozen``, ``refitted``), on the folds of ``cross_validate``.

    A patient's perturbed counts are only ever graded by classifiers that saw neither these nor the patient's clean counts.
    """
    grades = check_grades(counts[clean], grades)
    is_hgg = (grades == "HGG").to_numpy()
    kind = kind or ("raw-counts" if protocol == "paper" else "counts")
    folds = draw_folds(is_hgg, grading.folds, derive_seed(seed, "folds", 0), protocol)
    tables = {perturbation: table.loc[grades.index].to_numpy(dtype=float) for perturbation, table in counts.items()}
    frozen = {perturbation: np.full(len(is_hgg), np.nan) for perturbation in counts}
    for held_out, model, _ in fold_classifiers(tables[clean], is_hgg, folds, kind, seed):
        for perturbation, values in tables.items():
            frozen[perturbation][held_out] = model.predict_proba(values[held_out])[:, 1]
    rows = []
    for perturbation, values in tables.items():
        refitted = np.full(len(is_hgg), np.nan)
        for held_out, model, _ in fold_classifiers(values, is_hgg, folds, kind, seed):
            refitted[held_out] = model.predict_proba(values[held_out])[:, 1]
        for classifier, probabilities in (("frozen", frozen[perturbation]), ("refitted", refitted)):
            rows += _fold_rows(perturbation, classifier, probabilities, is_hgg, folds)
    return pd.DataFrame(rows)


def _fold_rows(perturbation: Perturbation, classifier: str, probabilities: np.ndarray, is_hgg: np.ndarray, folds: np.ndarray) -> list[dict]:
    rows = []
    for fold in np.unique(folds):
        chosen = folds == fold
        metrics = grading_metrics(probabilities[chosen, None], is_hgg[chosen], folds[chosen, None])
        identity = {"kind": perturbation.kind, "magnitude": perturbation.magnitude, "classifier": classifier, "fold": int(fold)}
        rows.append(identity | {"n": int(chosen.sum())} | {metric: float(metrics[metric][0]) for metric in METRICS})
    return rows
