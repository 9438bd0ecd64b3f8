"""The slice store: a cohort preprocessed once, on disk, so that memory does not grow with it (Source: ours; DESIGN, "Artifacts").

A zarr 3 folder with one group per patient: ``images`` float16 (S, 4, H, W) and ``labels`` uint8 (S, H, W), one chunk per slice (any slice
is read alone) inside one file per array, each chunk with its crc32c. Patients are in the order of their ids, slices inferior to
superior, (row, column) = (j, i) of the LPS volume. A patient's group appears under its name only when it is complete, so that a killed
build goes on where it was.
"""

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import zarr
from filelock import FileLock
from tqdm.auto import tqdm
from zarr.codecs import BloscCodec, Crc32cCodec

from drlib.artifacts import ArtifactError, content_key, write_json
from drlib.cohort.loading import examine_patient
from drlib.cohort.patient import Patient
from drlib.cohort.preprocessing import Geometry, Slices, make_slices
from drlib.cohort.problems import PatientError, Problem
from drlib.cohort.validation import find_duplicates
from drlib.parallel import for_workers, map_patients
from drlib.profiles import PreprocessingSettings

METADATA = "zarr.json"
FORMAT = 1  # to be raised when the meaning of what is stored changes
CODECS = (BloscCodec(cname="lz4", clevel=1, shuffle="shuffle", typesize=2), Crc32cCodec())


class SliceStore:
    """A slice store opened for reading. Holds no open file: any worker process may have a copy.

    ``patients`` are the ids in order, ``problems`` what kept other patients out, ``preprocessing`` and ``spacing_mm`` what the slices were
    made with.
    """

    def __init__(self, folder: Path | str, patients: Sequence[str] | None = None):
        """Open a finished store, or some of its patients.

        Raises ArtifactError where it is missing, unfinished or damaged, and KeyError for a patient who is not in it.
        """
        self.folder = for_workers(folder)
        content = _read_attributes(self.folder)
        if not content["finished"]:
            raise ArtifactError(f"{self.folder} is not finished. Build it again: it goes on where it was")
        self._grades: dict[str, str | None] = content["grades"]
        if absent := set(patients or ()) - set(self._grades):
            raise KeyError(f"not in {self.folder}: {', '.join(sorted(absent))}")
        self.patients = tuple(sorted(self._grades if patients is None else patients))
        self.problems = {patient: tuple(Problem(**record) for record in records) for patient, records in content["problems"].items()}
        self.preprocessing = PreprocessingSettings(**content["made_with"]["preprocessing"])
        self.spacing_mm: float = content["made_with"]["spacing_mm"]

    def __len__(self) -> int:
        return len(self.patients)

    def __repr__(self) -> str:
        return f"SliceStore({str(self.folder)!r}, {len(self)} patients)"

    def subset(self, patients: Sequence[str]) -> "SliceStore":
        """Return the same store restricted to some of its patients. Raises KeyError for an id that is not in it."""
        return SliceStore(self.folder, patients)

    def images(self, patient: str, which: Any = slice(None)) -> np.ndarray:
        """Return slices float16 (S, 4, H, W); ``which`` chooses some of them (an index, a slice or a list of indices).

        Raises KeyError for an unknown patient and ArtifactError where what is read is damaged; so do the other methods.
        """
        return self._read(patient, "images", which)

    def labels(self, patient: str, which: Any = slice(None)) -> np.ndarray | None:
        """Return labels uint8 (S, H, W), or None for a patient without a segmentation."""
        return self._read(patient, "labels", which) if self._attributes(patient)["has_labels"] else None

    def grade(self, patient: str) -> str | None:
        """Return LGG, HGG or None."""
        self._group_folder(patient)
        return self._grades[patient]

    def geometry(self, patient: str) -> Geometry:
        """Return where the patient's slices lie in the files they came from."""
        return Geometry.from_dict(self._attributes(patient)["geometry"])

    def n_slices(self, patient: str) -> int:
        """Return S."""
        return self._attributes(patient)["geometry"]["n_slices"]

    def _group_folder(self, patient: str) -> Path:
        if patient not in self.patients:
            raise KeyError(f"patient {patient!r} is not in {self.folder}")
        return self.folder / _group_name(patient)

    def _attributes(self, patient: str) -> dict[str, Any]:
        return _read_attributes(self._group_folder(patient))

    def _read(self, patient: str, name: str, which: Any) -> np.ndarray:
        folder = self._group_folder(patient)
        try:
            array = zarr.open_array(folder / name, mode="r")
            if not (folder / name / _only_shard(array.ndim)).is_file():  # zarr returns zeros for what is not there
                raise ValueError("their file is gone")
            if array.shape != array.shards or array.shape[0] != self.n_slices(patient):
                raise ValueError(f"their metadata speak of the shape {array.shape}")
            return array.oindex[which] if isinstance(which, Sequence | np.ndarray) else array[which]
        except (ValueError, OSError, RuntimeError, KeyError) as error:
            raise ArtifactError(
                f"patient {patient}: the {name} in {folder} are damaged ({error}). Delete that folder and build the store again"
            ) from error


def build_slice_store(
    patients: Sequence[Patient],
    folder: Path | str,
    preprocessing: PreprocessingSettings,
    spacing_mm: float,
    n_jobs: int = -1,
    progress: bool = True,
) -> SliceStore:
    """Preprocess ``patients`` in parallel into the store ``folder`` (its name ends in ``.zarr``) and return it.

    Patients that are in it already are kept. A patient with a problem is left out and reported in ``store.problems``; the others go on.
    The store returned holds exactly the ``patients`` that are sound. Memory is that of ``n_jobs`` patients.

    Raises ArtifactError where the folder holds a store of other settings or cannot be written, and ValueError for another name.
    """
    folder = for_workers(folder)
    if folder.suffix != ".zarr":
        raise ValueError(f"{folder}: the name of a slice store ends in .zarr")
    made_with = {"format": FORMAT, "preprocessing": preprocessing.model_dump(mode="json"), "spacing_mm": float(spacing_mm)}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            _claim(folder, made_with)
            problems = _store_patients(patients, folder, preprocessing, spacing_mm, n_jobs, progress)
            _write_attributes(folder, _contents(patients, problems, made_with))
    except OSError as error:
        raise ArtifactError(
            f"{folder}: the slice store cannot be written ({error.strerror}). Free space or choose another folder"
        ) from error
    return SliceStore(folder)


def _contents(patients: Sequence[Patient], problems: Mapping[str, Sequence[Problem]], made_with: Mapping[str, Any]) -> dict[str, Any]:
    grades = {patient.id: patient.grade for patient in sorted(patients, key=lambda patient: patient.id) if patient.id not in problems}
    records = {patient: [problem.to_dict() for problem in found] for patient, found in sorted(problems.items())}
    return {"made_with": dict(made_with), "finished": True, "grades": grades, "problems": records}


def _claim(folder: Path, made_with: Mapping[str, Any]) -> None:
    """Refuse a store of other settings, start a new one as unfinished, and clear away what a killed build left half done."""
    if not (folder / METADATA).exists():
        if folder.exists() and any(folder.iterdir()):
            raise ArtifactError(f"{folder} is there but is no slice store. Delete it, or name another folder")
        _write_attributes(folder, {"made_with": dict(made_with), "finished": False, "grades": {}, "problems": {}})
    there = _read_attributes(folder)["made_with"]
    if there != made_with:
        different = ", ".join(sorted(name for name in made_with if there.get(name) != made_with[name]))
        raise ArtifactError(f"{folder} was made with another {different}. Delete it, or name another folder")
    _clear(folder)


def _clear(folder: Path) -> None:
    """Remove what killed workers left half done."""
    for half_done in folder.glob(".*.partial"):
        shutil.rmtree(half_done)


def _store_patients(
    patients: Sequence[Patient], folder: Path, preprocessing: PreprocessingSettings, spacing_mm: float, n_jobs: int, progress: bool
) -> dict[str, list[Problem]]:
    """Store all sound patients that are not there yet; return the problems of the others."""
    duplicates = find_duplicates(patients)
    problems = {patient.id: [e.problem for e in errors] for patient, errors in zip(patients, duplicates, strict=True) if errors}
    due = [patient for patient in patients if patient.id not in problems and not _is_stored(folder, patient)]
    work = map_patients(_store_patient, map(_for_workers, due), folder, preprocessing, spacing_mm, n_jobs=n_jobs)
    for patient, found in tqdm(work, total=len(due), desc="preprocessing", unit="patient", disable=not progress):
        if found:
            problems[patient] = found
    _clear(folder)
    return problems


def _for_workers(patient: Patient) -> Patient:
    files = {role: for_workers(path) for role, path in patient.files.items()}
    return replace(patient, files=files, segmentation=patient.segmentation and for_workers(patient.segmentation))


def _store_patient(patient: Patient, folder: Path, preprocessing: PreprocessingSettings, spacing_mm: float) -> tuple[str, list[Problem]]:
    volume, errors = examine_patient(patient)
    if volume is None:
        return patient.id, [error.problem for error in errors]
    try:
        slices = make_slices(volume, preprocessing, spacing_mm)
    except PatientError as error:
        return patient.id, [error.problem]
    _write_group(folder / _group_name(patient.id), slices, _fingerprint(patient))
    return patient.id, []


def _write_group(folder: Path, slices: Slices, fingerprint: Mapping[str, Any]) -> None:
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")  # two workers may have the same patient
    group = zarr.open_group(partial, mode="w")
    _write_array(group, "images", slices.images)
    if slices.labels is not None:
        _write_array(group, "labels", slices.labels)
    geometry = slices.geometry.to_dict()
    _write_attributes(partial, {"has_labels": slices.labels is not None, "geometry": geometry, "files": fingerprint})
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def _write_array(group: zarr.Group, name: str, values: np.ndarray) -> None:
    one_slice = (1, *values.shape[1:])
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=one_slice,
        shards=values.shape,
        compressors=CODECS,
        config={"write_empty_chunks": True},
    )
    array[:] = values


def _write_attributes(folder: Path, content: dict[str, Any]) -> None:
    """Write the metadata of a zarr group, with a checksum of what it says."""
    attributes = content | {"sha256": content_key(content)}
    write_json(folder / METADATA, {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _read_attributes(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / METADATA).read_text(encoding="utf-8"))["attributes"]
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder} is not there, or is no slice store. Build it first") from error
    except (ValueError, KeyError, OSError) as error:
        raise ArtifactError(f"{folder / METADATA} cannot be read ({error}). Delete {folder} and build it again") from error
    if content.pop("sha256", None) != content_key(content):
        raise ArtifactError(f"{folder / METADATA} does not match its checksum. Delete {folder} and build it again")
    return content


def _is_stored(folder: Path, patient: Patient) -> bool:
    group = folder / _group_name(patient.id)
    try:
        content = _read_attributes(group)
    except ArtifactError:
        return False
    arrays = {"images": 4} | ({"labels": 3} if content["has_labels"] else {})
    complete = all((group / name / _only_shard(ndim)).is_file() for name, ndim in arrays.items())
    return complete and content["files"] == _fingerprint(patient)


def _fingerprint(patient: Patient) -> dict[str, list[int] | None]:
    """Return size and time of change of each file: enough to see that a patient was replaced."""
    files = patient.files | ({"seg": patient.segmentation} if patient.segmentation else {})
    found = {role: path.stat() if os.path.exists(path) else None for role, path in files.items()}
    return {role: status and [status.st_size, status.st_mtime_ns] for role, status in found.items()}


def _only_shard(ndim: int) -> Path:
    return Path("c", *["0"] * ndim)


def _group_name(patient: str) -> str:
    """Return the folder of a patient: the id, with characters that no folder name may have written as %XX."""
    name = quote(patient, safe=" ()[]+,;=@")
    return f"%2E{name[1:]}" if name.startswith(".") else name
