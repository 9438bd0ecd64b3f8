"""Robustness (Eq. 7): what scaling and shifting the intensities does to the histogram, to the latents and to the grading."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from drlib.cohort.slices import SliceStore
from drlib.parallel import map_patients
from drlib.profiles import GradingSettings, RobustnessSettings
from drlib.radiomics.absorption import encode_normalised_path, encode_slices, measure_movement, step_at_random
from drlib.radiomics.grading import METRICS, Kind, draw_folds, fold_classifiers, grading_metrics
from drlib.radiomics.grading import Protocol as GradingProtocol
from drlib.radiomics.histogram import Transform, cells_outside, codeword_histogram
from drlib.radiomics.statistics import bootstrap_weights, check_grades
from drlib.seeds import derive_seed, generator
from drlib.segmentation.model import TrainedModel

RESAMPLES = 2000  # of the bootstrap over patients


class Change(Protocol):
    """What was done to the images: a perturbation of the paper, or something a scanner does. Can be a key of a dictionary."""

    @property
    def kind(self) -> str: ...
    @property
    def magnitude(self) -> float: ...


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


CLEAN = Perturbation("scale", 0.0)


@dataclass(frozen=True)
class PerturbedCohort:
    """Patients encoded as they are and under every change.

    ``counts``: the table of counts (patients x codewords) of every change. ``movement``: patient, kind, magnitude, area (``brain``: latent
    positions whose cell holds brain; ``all``) and the measures of :func:`drlib.radiomics.absorption.measure_movement`; in the brain also
    those of :func:`drlib.radiomics.absorption.step_at_random`.
    """

    counts: Mapping[Change, pd.DataFrame]
    movement: pd.DataFrame


@dataclass(frozen=True)
class RobustnessResult:
    """What the perturbations did.

    ``ratios``: patient, kind, magnitude, difference_ratio (0 to 2). ``probabilities``: kind, magnitude, classifier, patient, fold, p_hgg
    (out of fold); ``classifier`` is ``frozen`` (fitted to clean counts of the training patients, applied to perturbed counts of the
    held-out ones) or ``refitted`` (fitted to perturbed counts too, as the authors' code does). ``performance``: kind, magnitude,
    classifier, fold, n, METRICS. ``counts`` and ``movement``: see :class:`PerturbedCohort`.
    """

    ratios: pd.DataFrame
    performance: pd.DataFrame
    probabilities: pd.DataFrame
    counts: Mapping[Change, pd.DataFrame]
    movement: pd.DataFrame


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
    """Count the codewords of every patient under every perturbation; see :func:`perturb_cohort`, which also says how latents moved."""
    found = perturb_cohort(model, store, applied, patients=patients, every=every, batch_size=batch_size, progress=progress)
    return {perturbation: found.counts[perturbation] for perturbation in applied}


def perturb_cohort(
    model: TrainedModel,
    store: SliceStore,
    applied: Sequence[Perturbation],
    *,
    patients: Sequence[str] | None = None,
    every: int = 1,
    batch_size: int | None = None,
    progress: bool = False,
) -> PerturbedCohort:
    """Encode every patient as it is and under every perturbation; each patient's slices are read once.

    Perturbations of magnitude 0 are the unperturbed slices, and are encoded once. ``every``: take every so-manieth slice only, which
    makes histograms of so many times fewer counts in so many times less time.
    """
    patients = list(store.patients if patients is None else patients)
    applied = tuple(dict.fromkeys((CLEAN, *applied)))
    text = "perturbed histograms" if progress else None
    return gather_patients(_perturb_patient, patients, (model, store, applied, every, batch_size), applied, 1, text)


def gather_patients(
    function: Callable[..., tuple[list[np.ndarray], list[dict]]],
    patients: Sequence[Any],
    shared: tuple,
    changes: Sequence[Change],
    n_jobs: int,
    progress: str | None,
) -> PerturbedCohort:
    """Return what ``function(patient, *shared)`` gives for every patient: the counts and the movements of each of ``changes``, in order."""
    work = map_patients(function, patients, *shared, n_jobs=n_jobs, ordered=True)
    found = list(tqdm(work, desc=progress, total=len(patients), unit="patient", disable=progress is None))
    index = pd.Index([getattr(patient, "id", patient) for patient in patients], name="patient", dtype=object)
    counts = {change: pd.DataFrame(np.array([rows[n] for rows, _ in found]), index=index) for n, change in enumerate(changes)}
    rows = [
        {"patient": patient, "kind": change.kind, "magnitude": change.magnitude} | row
        for patient, (_, movements) in zip(index, found, strict=True)
        for change, both in zip(changes, movements, strict=True)
        for row in both
    ]
    return PerturbedCohort(counts, pd.DataFrame(rows))


def _perturb_patient(
    patient: str, model: TrainedModel, store: SliceStore, applied: Sequence[Perturbation], every: int, batch_size: int | None
) -> tuple[list[np.ndarray], list[list[dict]]]:
    images = store.images(patient)[::every]
    return measure_patient(model, ((images, p if p.magnitude else None) for p in applied), batch_size)


def measure_patient(
    model: TrainedModel, versions: Iterable[tuple[np.ndarray, Transform | None]], batch_size: int | None = None
) -> tuple[list[np.ndarray], list[list[dict]]]:
    """Return counts and movements (in the brain, everywhere) of the versions of one patient's slices, each with the change made to a batch.

    The first version is the clean one. A version that is the same slices without a change is not encoded again.
    """
    counts, movements, first, clean, brain = [], [], None, None, None
    for images, transform in versions:
        if clean is None:
            first, clean = images, encode_slices(model, images, transform, batch_size)
            brain = torch.from_numpy(~cells_outside(images, model.profile.stride))
        same = images is first and transform is None
        encoding = clean if same else encode_slices(model, images, transform, batch_size)
        counts.append(codeword_histogram(encoding.codes, model.profile.quantizer.codebook_size))
        inside = measure_movement(clean, encoding, brain) | step_at_random(model.network.quantizer, clean, encoding, brain)
        movements.append([{"area": "brain"} | inside, {"area": "all"} | measure_movement(clean, encoding)])
    return counts, movements


def perturb_normalised_path(
    model: TrainedModel, store: SliceStore, applied: Sequence[Perturbation], patients: Sequence[str], every: int = 1
) -> pd.DataFrame:
    """Return how far latents in the brain move when the shortcut around the first normalisation sees the slices unperturbed.

    Columns: patient, kind, magnitude and those of :func:`drlib.radiomics.absorption.measure_movement`.
    """
    rows = []
    for patient in patients:
        images = store.images(patient)[::every]
        clean, brain = encode_slices(model, images), torch.from_numpy(~cells_outside(images, model.profile.stride))
        for perturbation in applied:
            measured = measure_movement(clean, encode_normalised_path(model, images, perturbation), brain)
            rows.append({"patient": patient, "kind": perturbation.kind, "magnitude": perturbation.magnitude} | measured)
    return pd.DataFrame(rows)


def sweep(
    model: TrainedModel,
    store: SliceStore,
    settings: RobustnessSettings,
    grading: GradingSettings,
    *,
    grades: pd.Series | None = None,
    patients: Sequence[str] | None = None,
    protocol: GradingProtocol = "ours",
    seed: int = 0,
    every: int = 1,
    batch_size: int | None = None,
    progress: bool = False,
) -> RobustnessResult:
    """Perturb every patient of ``store`` (or ``patients``) by every magnitude, count again and grade again.

    ``grades`` default to those of the store. ``every``: see ``perturb_cohort``; clean and perturbed histograms and the classifiers are
    all made from the same slices.

    Source: paper, Eq. 7 and Fig. 4. The text says that the trained classifier is tested under perturbation (``frozen``); the
    authors' code refits it (``refitted``).
    """
    patients = list(store.patients if patients is None else patients)
    applied = perturbations(settings)
    found = perturb_cohort(model, store, applied, patients=patients, every=every, batch_size=batch_size, progress=progress)
    grades = pd.Series({patient: store.grade(patient) for patient in patients}) if grades is None else grades
    probabilities = grade_perturbed(found.counts, found.counts[CLEAN], grades, grading, protocol=protocol, seed=seed)
    return RobustnessResult(
        ratios=difference_ratios(found.counts, found.counts[CLEAN]),
        performance=performance_per_fold(probabilities, grades),
        probabilities=probabilities,
        counts=found.counts,
        movement=found.movement,
    )


def difference_ratios(counts: Mapping[Change, pd.DataFrame], clean: pd.DataFrame) -> pd.DataFrame:
    """Return the long table patient, kind, magnitude, difference_ratio; ``clean``: counts of at least the patients of ``counts``."""
    tables = [
        difference_ratio(clean.loc[perturbed.index], perturbed)
        .rename_axis("patient")
        .reset_index()
        .assign(kind=c.kind, magnitude=c.magnitude)
        for c, perturbed in counts.items()
    ]
    return pd.concat(tables, ignore_index=True)[["patient", "kind", "magnitude", "difference_ratio"]]


def grade_perturbed(
    counts: Mapping[Change, pd.DataFrame],
    clean: pd.DataFrame,
    grades: pd.Series,
    grading: GradingSettings,
    *,
    protocol: GradingProtocol = "ours",
    kind: Kind | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Return P(HGG) out of fold (kind, magnitude, classifier, patient, fold, p_hgg), on the folds of ``cross_validate``.

    ``frozen`` classifiers are fitted to the ``clean`` counts of all patients of the other folds, ``refitted`` ones to the changed counts
    of the patients of the other folds. ``counts`` may hold fewer patients than ``clean``: refitted classifiers then have fewer to learn
    from. A patient is only ever graded by classifiers that saw neither the clean nor the changed counts of that patient.
    """
    grades = check_grades(clean, grades)
    is_hgg = (grades == "HGG").to_numpy()
    kind = kind or ("raw-counts" if protocol == "paper" else "counts")
    folds = draw_folds(is_hgg, grading.folds, derive_seed(seed, "folds", 0), protocol)
    places = {change: grades.index.get_indexer(table.index) for change, table in counts.items()}
    found = {(change, classifier): np.full(len(table), np.nan) for change, table in counts.items() for classifier in ("frozen", "refitted")}
    for held_out, model, _ in fold_classifiers(clean.to_numpy(dtype=float), is_hgg, folds, kind, seed):
        for change, table in counts.items():
            _predict(model, table, held_out[places[change]], found[change, "frozen"])
    for change, table in counts.items():
        here = places[change]
        for held_out, model, _ in fold_classifiers(table.to_numpy(dtype=float), is_hgg[here], folds[here], kind, seed):
            _predict(model, table, held_out, found[change, "refitted"])
    tables = [
        pd.DataFrame({"patient": counts[change].index, "fold": folds[places[change]], "p_hgg": values}).assign(
            kind=change.kind, magnitude=change.magnitude, classifier=classifier
        )
        for (change, classifier), values in found.items()
    ]
    return pd.concat(tables, ignore_index=True)[["kind", "magnitude", "classifier", "patient", "fold", "p_hgg"]]


def performance_per_fold(probabilities: pd.DataFrame, grades: pd.Series) -> pd.DataFrame:
    """Return the grading METRICS of the probabilities of ``grade_perturbed``: kind, magnitude, classifier, fold, n, METRICS."""
    keys, rows = ["kind", "magnitude", "classifier", "fold"], []
    for identity, table in probabilities.sort_values("fold", kind="stable").groupby(keys, sort=False):
        is_hgg = (grades.loc[table["patient"]] == "HGG").to_numpy()
        metrics = grading_metrics(table[["p_hgg"]].to_numpy(), is_hgg, table[["fold"]].to_numpy())
        rows.append(dict(zip(keys, identity, strict=True)) | {"n": len(table)} | {m: float(metrics[m][0]) for m in METRICS})
    return pd.DataFrame(rows)


def draw_performance(
    probabilities: pd.DataFrame, grades: pd.Series, seed: int = 0, metrics: Sequence[str] = METRICS
) -> dict[str, pd.DataFrame]:
    """Return each metric of the probabilities of ``grade_perturbed`` as it is (row 0) and in bootstrap draws of patients (the other rows).

    Columns: classifier, kind, magnitude. A draw takes as many patients of each grade as there are, the same for every column, so that
    differences of columns are paired; an interval is ``percentile_interval`` of a column or of what is computed from columns.
    """
    columns = ["classifier", "kind", "magnitude"]
    wide = probabilities.pivot(index="patient", columns=columns, values="p_hgg")
    folds = probabilities.drop_duplicates("patient").set_index("patient").loc[wide.index, ["fold"]].to_numpy()
    is_hgg = (grades.loc[wide.index] == "HGG").to_numpy()
    weights = bootstrap_weights(is_hgg, generator(seed, "bootstrap"), RESAMPLES)
    found = {column: grading_metrics(wide[column].to_numpy()[:, None], is_hgg, folds, weights) for column in wide.columns}
    return {metric: pd.DataFrame({column: found[column][metric] for column in found}, columns=wide.columns) for metric in metrics}


def _predict(model: Any, table: pd.DataFrame, rows: np.ndarray, out: np.ndarray) -> None:
    if rows.any():
        out[rows] = model.predict_proba(table.to_numpy(dtype=float)[rows])[:, 1]
