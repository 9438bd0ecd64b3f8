"""Apply a trained model to patients: codeword histograms as a table, or grade, maps and a report for each.

A trained model is one folder: ``model.safetensors`` and ``model.json`` (chapter 03), and beside them ``classifier.json`` and
``responsible.json`` (chapter 05), which only grading needs, and ``fidelity.json``, which says whether it may count in bfloat16. A patient
that cannot be read is reported; the others go on. SHIPPED_WORD in the place of a folder is the network that comes with the library.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from drlib.artifacts import write_atomically, write_json
from drlib.cohort.brats import find_patients, load_patient
from drlib.cohort.patient import Patient
from drlib.cohort.preprocessing import Slices, make_slices
from drlib.cohort.problems import PatientError, Problem, failed
from drlib.cohort.regions import GRADES, REGIONS, region_mask
from drlib.cohort.validation import find_duplicates
from drlib.errors import DeepRadiomicsError
from drlib.parallel import for_workers, map_patients
from drlib.radiomics.ablation import change_maps, predict_labels
from drlib.radiomics.classifier import GradeClassifier, load_classifier, predict_hgg
from drlib.radiomics.fidelity import load_fidelity
from drlib.radiomics.histogram import codebook_hash, codeword_histogram, encode_patient
from drlib.segmentation.dice import dice_scores
from drlib.segmentation.model import TrainedModel, load_model, shipped_model
from drlib.segmentation.network import Precision
from drlib.series.maps import write_maps
from drlib.series.notice import PHANTOM_TRAINED, network_origin, prediction_notice
from drlib.series.report import PatientFindings, write_report

SHIPPED_WORD, SHIPPED_NAME = "shipped", "demo"
UNKNOWN_ORIGIN = "not recorded; see model.json"


class ModelFolderError(DeepRadiomicsError):
    """A folder does not hold what is needed to apply a model; the message says how to make it."""


@dataclass(frozen=True)
class AppliedModel:
    """A trained model and, where it is to grade, its classifier and responsible codewords.

    Attributes:
        model: the network with its profile.
        hash: which codebook counts (:func:`drlib.radiomics.histogram.codebook_hash`).
        classifier: P(HGG) from counts; None where only features are asked for.
        responsible: ``codewords`` by grade, ``background`` and the ``cohort`` they were found in; empty without a classifier.
        origin: in a few words, what trained the network.
    """

    model: TrainedModel
    hash: str
    classifier: GradeClassifier | None
    responsible: dict[str, Any]
    origin: str = UNKNOWN_ORIGIN

    @property
    def provenance(self) -> dict[str, str]:
        """What made a number: model, profile, software, the cohort that the classifier was fitted to, and what trained the network."""
        profile = self.model.profile
        fitted = {"trained_on": self.responsible["cohort"]} if self.responsible else {}
        made_with = {"model": self.hash, "profile": profile.name, "profile_hash": profile.hash, "precision": self.model.network.precision}
        return made_with | {"drlib": version("drlib")} | fitted | {"network": self.origin}


def open_applied_model(
    folder: Path | str | None,
    device: str = "cpu",
    graded: bool = False,
    results: Path = Path("results"),
    precision: Precision | Literal["auto"] = "auto",
) -> AppliedModel:
    """Open a folder with a trained model; the newest below ``results`` where None is given, the library's own for the word ``shipped``.

    ``precision`` "auto" is bf16 where ``fidelity.json`` says that this network's counts pass in it (see
    :mod:`drlib.radiomics.fidelity`). Else it is the precision of the profile, fp32 or bf16, in which the counts were made that the
    classifier was fitted to: without a measurement that allows another, new counts are made as those were.

    Raises ModelFolderError where there is none, where ``graded`` is asked for and there is no classifier, where classifier and
    network do not belong together, or where this computer has no such device.
    """
    _check_device(device)
    shipped = folder == SHIPPED_WORD
    folder = shipped_model(SHIPPED_NAME) if shipped else Path(folder) if folder is not None else _newest_model(results, graded)
    if shipped and graded:
        raise ModelFolderError(
            "the network that comes with drlib has no classifier and cannot grade. Make one with: drlib run --chapters 05, "
            "then grade without --model"
        )
    if not (folder / "model.json").is_file():
        raise ModelFolderError(
            f"{folder} holds no trained model (model.json). Give another folder, or make one with: drlib run --chapters 03"
        )
    model = load_model(folder, device)
    applied = AppliedModel(model, codebook_hash(model), None, {}, _origin(folder, model))
    if precision != "auto":
        model.network.precision = precision
    elif _bf16_passed(folder / "fidelity.json", applied.hash):
        model.network.precision = "bf16"
    return _with_classifier(applied, folder) if graded else applied


def extract_features(data: Path, applied: AppliedModel, progress: bool = False) -> tuple[pd.DataFrame, list[Problem]]:
    """Count the codewords of every patient below ``data``.

    Returns one row per patient that could be read, and the problems of the others. Columns: ``patient``, ``grade`` where the files
    give one, ``codeword_000``... (K whole numbers that sum to ``n_slices`` x ``latent_positions``), provenance. On a cluster (see
    :mod:`drlib.parallel`) the workers read and count.
    """
    patients = find_patients(for_workers(data))
    duplicates = find_duplicates(patients)
    single = [patient for patient, twins in zip(patients, duplicates, strict=True) if not twins]
    counted = map_patients(_count_patient, single, applied, n_jobs=1, ordered=True, failed=_failure)
    problems: list[Problem] = []
    rows = []
    for twins in tqdm(duplicates, unit="patient", disable=not progress):
        result = [error.problem for error in twins] or next(counted)
        rows += [result] if isinstance(result, dict) else []
        problems += [] if isinstance(result, dict) else result
    return pd.DataFrame(rows), problems


def _count_patient(patient: Patient, applied: AppliedModel) -> dict[str, Any] | list[Problem]:
    try:
        slices = _read_slices(patient, applied)
    except PatientError as error:
        return [error.problem]
    profile = applied.model.profile
    counts = codeword_histogram(encode_patient(applied.model, slices.images), profile.quantizer.codebook_size)
    row = {"patient": patient.id, "grade": patient.grade, **{f"codeword_{k:03d}": int(count) for k, count in enumerate(counts)}}
    return row | {"n_slices": len(slices.images), "latent_positions": profile.latent_size**2} | applied.provenance


def _failure(patient: Patient, error: Exception) -> list[Problem]:
    return [failed(patient.id, error)]


def write_table(table: pd.DataFrame, out: Path) -> Path:
    """Write a table as ``.parquet`` or ``.csv``, by the suffix of ``out``: all of it or nothing."""
    write = table.to_parquet if out.suffix == ".parquet" else table.to_csv
    return write_atomically(out, lambda path: write(path, index=False))


def grade_patients(data: Path, applied: AppliedModel, out: Path, progress: bool = False) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Grade every patient below ``data`` and write what was found to ``out``; return the findings and the problems.

    One patient's files are written to ``out`` itself, those of several to ``out/<patient>``: ``grade.json``, ``report.html``, and the
    maps on the patient's own grid (:func:`drlib.series.maps.write_maps`): segmentation, codewords and, for each grade, the L1 change of
    the logits when its responsible codewords are replaced by the background's.
    """
    patients = find_patients(data)
    notice = prediction_notice(applied.model.profile, applied.provenance["trained_on"])
    problems: list[Problem] = []
    results = []
    for patient, slices in _readable(patients, applied, problems, progress):
        findings = examine(patient, slices, applied)
        folder = out / folder_name(patient.id) if len(patients) > 1 else out
        results.append(_plain(findings, applied))
        write_maps(findings, patient.files["t1ce"], folder, notice)
        write_json(folder / "grade.json", results[-1])
        results[-1]["report"] = str(write_report(findings, applied.provenance, folder / "report.html"))
    return results, problems


def examine(patient: Patient, slices: Slices, applied: AppliedModel) -> PatientFindings:
    """Return everything the model says of one patient, slice by slice."""
    codes = encode_patient(applied.model, slices.images)
    counts = codeword_histogram(codes, applied.model.profile.quantizer.codebook_size)
    table = pd.DataFrame([counts], index=[patient.id])
    prediction = predict_labels(applied.model, codes)
    codewords, background = applied.responsible["codewords"], applied.responsible["background"]
    maps = {grade: change_maps(applied.model, codes, codewords[grade], background) for grade in GRADES}
    return PatientFindings(
        patient=patient.id,
        known_grade=patient.grade,
        p_hgg=float(predict_hgg(applied.classifier, table, applied.hash).iloc[0]),
        slices=slices,
        codes=codes.numpy(),
        codebook=applied.model.network.quantizer.codebook.detach().cpu().numpy(),
        background=background,
        prediction=prediction,
        responsible=maps,
        n_responsible={grade: len(codewords[grade]) for grade in GRADES},
        volumes_cm3=_volumes(prediction, slices),
        true_volumes_cm3=None if slices.labels is None else _volumes(slices.labels, slices),
        dice=None if slices.labels is None else dice_scores(prediction, slices.labels),
    )


def _volumes(labels: np.ndarray, slices: Slices) -> dict[str, float]:
    """Return the volume of every region in ``labels`` (S, H, W), in cm³."""
    return {r: float(region_mask(labels, r).sum() * slices.geometry.pixel_volume_mm3 / 1000) for r in REGIONS}


def folder_name(patient: str) -> str:
    """Return a patient's id as a folder name that cannot lead elsewhere, whatever a manifest says."""
    return re.sub(r"[^\w.-]", "_", patient).lstrip(".") or "patient"


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either
        raise ModelFolderError(f"there is no device {device!r} here: give cpu, or cuda on a computer with an NVIDIA GPU") from error


def _with_classifier(applied: AppliedModel, folder: Path) -> AppliedModel:
    if not all((folder / name).is_file() for name in ("classifier.json", "responsible.json")):
        raise ModelFolderError(f"{folder} holds a network, but no classifier beside it. Make one with: drlib run --chapters 05")
    classifier = load_classifier(folder / "classifier.json")
    responsible = json.loads((folder / "responsible.json").read_text(encoding="utf-8"))
    if {classifier.codebook, responsible["codebook"]} != {applied.hash}:
        raise ModelFolderError(f"{folder}: the classifier belongs to another network. Make it again with: drlib run --chapters 05")
    return replace(applied, classifier=classifier, responsible=responsible)


def _origin(folder: Path, model: TrainedModel) -> str:
    if folder == shipped_model(SHIPPED_NAME):
        return f"{PHANTOM_TRAINED}, comes with drlib"
    found_in = folder / "responsible.json"  # the one file of a model that names the cohort
    return (
        network_origin(model.profile, json.loads(found_in.read_text(encoding="utf-8"))["cohort"]) if found_in.is_file() else UNKNOWN_ORIGIN
    )


def _bf16_passed(path: Path, codebook: str) -> bool:
    if not path.is_file():
        return False
    fidelity = load_fidelity(path)
    return fidelity.codebook == codebook and fidelity.passes


def _newest_model(results: Path, graded: bool) -> Path:
    found = sorted(results.glob("*/model/model.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        given = "a folder" if graded else f"a folder or the word {SHIPPED_WORD}"
        raise ModelFolderError(f"no trained model below {results}/. Give {given} with --model, or make one with: drlib run")
    return found[-1].parent


def _readable(patients: list[Patient], applied: AppliedModel, problems: list[Problem], progress: bool) -> Iterator[tuple[Patient, Slices]]:
    """Yield the patients with their slices, one at a time; what cannot be read is added to ``problems``."""
    for patient, twins in zip(tqdm(patients, unit="patient", disable=not progress), find_duplicates(patients), strict=True):
        if twins:
            problems += [error.problem for error in twins]
            continue
        try:
            slices = _read_slices(patient, applied)
        except PatientError as error:
            problems.append(error.problem)
            continue
        yield patient, slices


def _read_slices(patient: Patient, applied: AppliedModel) -> Slices:
    profile = applied.model.profile
    return make_slices(load_patient(patient), profile.preprocessing, profile.cohort.spacing_mm)


def _plain(findings: PatientFindings, applied: AppliedModel) -> dict[str, Any]:
    dice = findings.dice and {region: None if np.isnan(value) else float(value) for region, value in findings.dice.items()}
    return {
        "patient": findings.patient,
        "p_hgg": findings.p_hgg,
        "grade_in_files": findings.known_grade,
        "volumes_cm3": findings.volumes_cm3,
        "dice": dice,
        "n_slices": len(findings.codes),
        "responsible_codewords": applied.responsible["codewords"],
        "research_only": True,
        **applied.provenance,
    }
