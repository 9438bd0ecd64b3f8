"""A patient's five files read, compared with one another and brought to LPS (paper: Methods, "Dataset"; DESIGN, "Bad input")."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np

from drlib.cohort import problems
from drlib.cohort.nifti import read_nifti
from drlib.cohort.patient import Patient, PatientVolume
from drlib.cohort.problems import PatientError
from drlib.cohort.regions import FILE_LABEL_SETS, MODALITIES

ORIENTATION = "LPS"
READERS = min(len(MODALITIES), os.cpu_count() or 1)  # files of a patient that are read at the same time
AFFINE_TOLERANCE_MM = 0.01  # at the corners of the volume; header numbers are rounded to float32
ALL_FILE_LABELS = sorted(set().union(*FILE_LABEL_SETS))


class _File(NamedTuple):
    path: Path
    voxels: np.ndarray
    affine: np.ndarray


def load_patient(patient: Patient) -> PatientVolume:
    """Read all files of a patient and bring them to LPS.

    Raises the PatientError of the first thing that is wrong (`examine_patient` returns them all).
    """
    volume, errors = examine_patient(patient)
    if errors:
        raise errors[0]
    return volume


def examine_patient(patient: Patient) -> tuple[PatientVolume | None, list[PatientError]]:
    """Read all files of a patient; return the volume, or None and *every* error."""
    files, errors = _read_files(patient)
    images = {modality: files[modality] for modality in MODALITIES if modality in files}
    errors += _other_shapes(files) + _other_affines(files)
    errors += [error for file in files.values() for error in _not_finite(file)]
    errors += _blank_images(images)
    if "seg" in files:
        errors += _unknown_labels(files["seg"])
    if errors:
        return None, [error.of_patient(patient.id) for error in errors]
    return _assemble(patient, images, files.get("seg")), []


def load_labels(patient: Patient) -> tuple[np.ndarray, float] | None:
    """Return a patient's labels (uint8, 0 to 3, in the order of the file) and the volume of a voxel in mm3; None without a segmentation.

    Raises PatientError where the file cannot be read. Labels are not checked here: see `examine_patient`.
    """
    if patient.segmentation is None:
        return None
    try:
        volume = read_nifti(patient.segmentation)
    except PatientError as error:
        raise error.of_patient(patient.id) from None
    return _library_labels(volume.voxels), float(abs(np.linalg.det(volume.affine[:3, :3])))


def to_lps(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels (i, j, k) with axes flipped and exchanged to the orientation nearest to LPS, and the affine that goes with them.

    No interpolation. Source: nibabel.orientations.
    """
    here = nibabel.io_orientation(affine)
    change = nibabel.orientations.ornt_transform(here, nibabel.orientations.axcodes2ornt(ORIENTATION))
    moved = nibabel.apply_orientation(voxels, change)
    return moved, affine @ nibabel.orientations.inv_ornt_aff(change, voxels.shape)


def from_lps(voxels: np.ndarray, file_affine: np.ndarray) -> np.ndarray:
    """Return LPS voxels (i, j, k) in the axis order and directions of a file with ``file_affine``: the inverse of `to_lps`."""
    there = nibabel.io_orientation(file_affine)
    return nibabel.apply_orientation(voxels, nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt(ORIENTATION), there))


def _read_files(patient: Patient) -> tuple[dict[str, _File], list[PatientError]]:
    files: dict[str, _File] = {}
    errors: list[PatientError] = []
    due = {modality: patient.files.get(modality) for modality in MODALITIES} | (
        {"seg": patient.segmentation} if patient.segmentation else {}
    )
    with ThreadPoolExecutor(READERS) as readers:  # decompression lets other threads run
        found = readers.map(lambda item: _read_file(patient, *item), due.items())
        for role, file in zip(due, found, strict=True):
            if isinstance(file, PatientError):
                errors.append(file)
            else:
                files[role] = file
    return files, errors


def _read_file(patient: Patient, role: str, path: Path | None) -> _File | PatientError:
    if path is None or not os.path.exists(path):
        return _missing(patient, role, path)
    try:
        volume = read_nifti(path)
    except PatientError as error:
        return error
    return _File(path, volume.voxels, volume.affine)


def _missing(patient: Patient, role: str, path: Path | None) -> PatientError:
    if path is not None:
        return problems.MissingModality(f"the file named for {role} does not exist", "Correct the path or add the file", file=path)
    came = ", ".join(patient.files) or "none"
    return problems.MissingModality(f"there is no {role} image (came: {came}; due: {', '.join(MODALITIES)})", f"Add the {role} file")


def _other_shapes(files: Mapping[str, _File]) -> list[PatientError]:
    shapes = [file.voxels.shape for file in files.values()]
    usual = max(shapes, key=shapes.count, default=None)
    return [
        problems.ShapeMismatch(
            f"the shape is {file.voxels.shape}, where {usual} was due as in the patient's other files",
            "Resample the file to the grid of the others",
            file=file.path,
        )
        for file in files.values()
        if file.voxels.shape != usual
    ]


def _other_affines(files: Mapping[str, _File]) -> list[PatientError]:
    agreeing = [sum(_distance_mm(one, other) <= AFFINE_TOLERANCE_MM for other in files.values()) for one in files.values()]
    usual = list(files.values())[int(np.argmax(agreeing))] if files else None
    return [
        problems.AffineMismatch(
            f"the voxels lie up to {_distance_mm(file, usual):.3g} mm from where the patient's other files have them",
            "Register or resample the file to the grid of the others, or repair its header",
            file=file.path,
        )
        for file in files.values()
        if _distance_mm(file, usual) > AFFINE_TOLERANCE_MM
    ]


def _distance_mm(one: _File, other: _File) -> float:
    """Largest distance between where the two affines put the corners of the first volume."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(one.voxels.shape) - 1)
    shift = one.affine - other.affine
    return float(np.linalg.norm(corners @ shift[:3, :3].T + shift[:3, 3], axis=1).max())


def _not_finite(file: _File) -> list[PatientError]:
    if file.voxels.dtype.kind != "f":
        return []
    n_bad = file.voxels.size - int(np.isfinite(file.voxels).sum())
    finding = f"{n_bad:,} of {file.voxels.size:,} voxels are NaN or infinite, where numbers were due"
    return [problems.NotFinite(finding, "Make the image again from its source", file=file.path)] if n_bad else []


def _blank_images(images: Mapping[str, _File]) -> list[PatientError]:
    if len(images) == len(MODALITIES) and not any(file.voxels.any() for file in images.values()):
        return [problems.EmptyBrain("every voxel of every modality is 0, where a brain was due", "Export the images again")]
    finding, remedy = "all voxels that are not 0 have the same value", "Export the modality again, or leave the patient out"
    return [problems.BlankModality(finding, remedy, file=file.path) for file in images.values() if _is_blank(file.voxels)]


def _is_blank(voxels: np.ndarray) -> bool:
    stored = voxels.ravel(order="K")  # in the order of memory: the quicker by far
    signal = stored[stored != 0]
    finite = signal[np.isfinite(signal)]
    return bool(finite.min() == finite.max()) if finite.size else not signal.size


def _unknown_labels(file: _File) -> list[PatientError]:
    stored = file.voxels.ravel(order="K")
    unknown = stored[~np.isin(stored, ALL_FILE_LABELS)]
    values = [value for value in np.unique(unknown) if np.isfinite(value)]
    if not values and all((stored == label).any() for label in (3, 4)):
        values = [3, 4]
    came = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." if len(values) > 6 else "")
    due = " or ".join("{" + ",".join(map(str, labels)) + "}" for labels in FILE_LABEL_SETS)
    together = " together" if values == [3, 4] else ""
    finding = f"the segmentation holds {came}{together}, where {due} was due"
    return [problems.UnknownLabel(finding, "Map its labels to 1 NET, 2 ED, 4 ET", file=file.path)] if values else []


def _assemble(patient: Patient, images: Mapping[str, _File], segmentation: _File | None) -> PatientVolume:
    first = images[MODALITIES[0]]
    moved = [to_lps(images[modality].voxels, first.affine)[0] for modality in MODALITIES]
    i, j, k = moved[0].shape
    stacked = np.empty((len(moved), k, j, i), np.float32).transpose(0, 3, 2, 1)  # each slice contiguous in memory
    for channel, voxels in enumerate(moved):
        stacked[channel] = voxels
    labels = None if segmentation is None else _library_labels(to_lps(segmentation.voxels, first.affine)[0])
    _, affine = to_lps(first.voxels, first.affine)
    return PatientVolume(patient.id, stacked, labels, affine, patient.grade, first.affine, first.voxels.shape)


def _library_labels(voxels: np.ndarray) -> np.ndarray:
    labels = voxels.astype(np.uint8)
    labels[labels == 4] = 3
    return labels
