"""The phantom cohort: who is in it, and the BraTS folders on disk (METHOD 4).

``draw_cohort`` decides everything from names and a seed; ``make_cohort`` renders each patient on its own, so that the bytes do not depend
on the number of workers and a killed run resumes at the next patient.
"""

import json
import os
import shutil
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from drlib.artifacts import write_atomically, write_json
from drlib.cohort.nifti import write_nifti
from drlib.cohort.phantom.patient import PatientDraw, draw_patient, render_patient
from drlib.cohort.phantom.signal import draw_protocol
from drlib.cohort.phantom.volumes import PLANTED_SHIFT, draw_volumes
from drlib.cohort.regions import GRADES, MODALITIES
from drlib.errors import DeepRadiomicsError
from drlib.parallel import for_workers, map_patients
from drlib.profiles import CohortSettings
from drlib.seeds import generator

TRAINING_FOLDER = "MICCAI_BraTS_Phantom_Training"
SEGMENTATION_FOLDER = "MICCAI_BraTS_Phantom_Segmentation"
PROVENANCE_FILE = "PROVENANCE.txt"
N_SITES = 16
FILE_LABELS = np.array([0, 1, 2, 4], dtype=np.uint8)  # BraTS up to 2021 writes ET as 4
PROVENANCE = """Phantom glioma cohort: synthetic images, no patient was scanned.

Anatomy: ICBM152 2009a nonlinear symmetric T1, grey- and white-matter templates as distributed inside the nilearn package.
  Fonov VS, Evans AC, McKinstry RC, Almli CR, Collins DL. NeuroImage 47 (Suppl 1), S102 (2009).
  Fonov V, Evans AC, Botteron K, Almli CR, McKinstry RC, Collins DL. NeuroImage 54, 313-327 (2011).
  Collins DL, Zijdenbos AP, Baare WFC, Evans AC. IPMI 1999, LNCS 1613, 210-223 (1999).
  nilearn is BSD-3-Clause; its documentation of the template says "License: unknown". The McConnell Brain Imaging Centre publishes
  the template with this notice:
    Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University.
    Permission to use, copy, modify, and distribute this software and its documentation for any purpose and without fee is hereby
    granted, provided that the above copyright notice appear in all copies. The authors and McGill University make no
    representations about the suitability of this software for any purpose. It is provided "as is" without express or implied
    warranty. The authors are not responsible for any data loss, equipment damage, property loss, or injury to subjects or
    patients resulting from the use or misuse of this software package.

Tumour volumes: distributions after Bakas et al. 2017, Scientific Data 4:170117 (CC BY 3.0), bent to Table 1 of Kobayashi et al.
  2021, Scientific Reports 11:10942 (CC BY 4.0).
"""


def draw_cohort(settings: CohortSettings, seed: int) -> list[PatientDraw]:
    """Draw every patient of a cohort, sorted by id; nothing is rendered.

    Variants: *null* (grade is assigned at random and tells nothing), *planted-X* (all tumours grow alike; compartment X alone is larger in
    one grade: ED and ET in HGG, NET in LGG), *planted-texture* (all tumours grow alike and are as large; the core is necrotic in HGG and
    solid in LGG), *site-shifted* (every patient on one unusual scanner), *confounded* (grade assigned at random as in *null*, but all LGG
    come from one scanner and all HGG from another).
    """
    groups = (("segmentation", settings.n_segmentation), ("grading", settings.n_grading))
    members = [(cohort, *m) for cohort, n in groups for m in _draw_members(cohort, n, settings, seed)]
    order = generator(seed, "phantom", "order").permutation(len(members))
    protocols = _draw_protocols(settings, seed)
    draws = []
    for number, index in enumerate(order, start=1):
        cohort, grade, growth_grade, volumes = members[index]
        patient = f"BraTS19_PHA_{number:04d}_1"
        sites = [protocols[GRADES.index(grade)]] if settings.variant == "confounded" else protocols
        site = sites[generator(seed, "phantom", patient, "site").integers(len(sites))]
        core_grade = grade if settings.variant == "planted-texture" else None
        draws.append(draw_patient(patient, grade, cohort, growth_grade, volumes, site, seed, core_grade))
    return draws


def draw_truth(settings: CohortSettings, seed: int) -> pd.DataFrame:
    """Return the truth table of a cohort (one row per patient, volumes in cm3 as in the label files) without rendering it."""
    return pd.DataFrame([draw.truth(settings.spacing_mm) for draw in draw_cohort(settings, seed)])


def make_cohort(out: Path, settings: CohortSettings, seed: int, n_jobs: int = -1, progress: bool = True) -> pd.DataFrame:
    """Write a phantom cohort as BraTS folders and return its truth table.

    Layout: ``MICCAI_BraTS_Phantom_Training/{HGG,LGG}/<id>/`` (graded), ``MICCAI_BraTS_Phantom_Segmentation/<id>/`` (grade unknown to
    readers), ``name_mapping_phantom.csv``, ``phantom.json``, ``truth.csv``, ``PROVENANCE.txt``. Same settings and seed, same bytes,
    whatever ``n_jobs``. Patients that are already complete in ``out`` are kept.

    Raises DeepRadiomicsError if ``out`` holds a cohort of other settings or another seed.
    """
    out = for_workers(out)
    description = {"settings": settings.model_dump(mode="json"), "seed": seed, "patients": settings.n_segmentation + settings.n_grading}
    _claim_folder(out, description)
    draws = draw_cohort(settings, seed)
    missing = [draw for draw in draws if not patient_folder(out, draw).is_dir()]
    jobs = map_patients(write_patient, missing, out, settings.spacing_mm, n_jobs=n_jobs)
    bar = tqdm(total=len(draws), initial=len(draws) - len(missing), desc="phantom patients", unit="patient", disable=not progress)
    with bar:
        for _ in jobs:
            bar.update()
    for half_done in out.rglob(".*.partial"):  # of workers that were killed
        shutil.rmtree(half_done)
    truth = pd.DataFrame([draw.truth(settings.spacing_mm) for draw in draws])
    _write_tables(out, truth)
    return truth


def patient_folder(out: Path, draw: PatientDraw) -> Path:
    """Return the folder of one patient."""
    if draw.cohort == "segmentation":
        return Path(out) / SEGMENTATION_FOLDER / draw.id
    return Path(out) / TRAINING_FOLDER / draw.grade / draw.id


def write_patient(draw: PatientDraw, out: Path, spacing_mm: float) -> Path:
    """Render one patient into its folder below ``out``: four scans (int16) and the labels (uint8, ET = 4), all or nothing."""
    folder = patient_folder(out, draw)
    if folder.is_dir():  # made by a worker that was lost before it could say so
        return folder
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    volume = render_patient(draw, spacing_mm)
    for modality, voxels in zip(MODALITIES, volume.images, strict=True):
        write_nifti(partial / f"{draw.id}_{modality}.nii.gz", voxels, volume.affine, "phantom")
    write_nifti(partial / f"{draw.id}_seg.nii.gz", FILE_LABELS[volume.labels], volume.affine, "phantom")
    os.replace(partial, folder)
    return folder


def _draw_members(cohort: str, n: int, settings: CohortSettings, seed: int) -> list[tuple[str, str, np.ndarray]]:
    """Return (grade, growth grade, volumes) of each patient of one of the two cohorts."""
    n_lgg = round(n * settings.lgg_share)
    members = []
    for grade, count in zip(GRADES, (n_lgg, n - n_lgg), strict=True):
        rng = generator(seed, "phantom", cohort, "volumes", grade)
        growth_grade, shift = grade, None
        if settings.variant.startswith("planted"):
            growth_grade, compartment = "HGG", settings.variant.removeprefix("planted-")
            larger_in = "LGG" if compartment == "NET" else "HGG"
            shift = {compartment: PLANTED_SHIFT if grade == larger_in else -PLANTED_SHIFT}  # of a texture: no compartment
        members += [(grade, growth_grade, volumes) for volumes in draw_volumes(growth_grade, count, rng, shift)]
    if settings.variant in ("null", "confounded"):
        grades = generator(seed, "phantom", cohort, "null grades").permutation([grade for grade, _, _ in members])
        members = [(str(grade), growth, volumes) for grade, (_, growth, volumes) in zip(grades, members, strict=True)]
    return members


def _draw_protocols(settings: CohortSettings, seed: int) -> list:
    if settings.variant == "site-shifted":
        return [draw_protocol("site-shifted", generator(seed, "phantom", "protocol", "shifted"), shifted=True)]
    return [draw_protocol(f"site-{n:02d}", generator(seed, "phantom", "protocol", n)) for n in range(1, N_SITES + 1)]


def _claim_folder(out: Path, description: dict) -> None:
    """Write what the folder is for, or check that it is for the same."""
    out.mkdir(parents=True, exist_ok=True)
    card = out / "phantom.json"
    if card.exists():
        if json.loads(card.read_text())["made_from"] != description:
            raise DeepRadiomicsError(f"{out} holds a phantom cohort of other settings or another seed; choose another folder or delete it")
        return
    write_atomically(out / PROVENANCE_FILE, lambda path: path.write_text(PROVENANCE, encoding="utf-8"))
    write_json(card, {"made_from": description, "provenance": PROVENANCE_FILE, "synthetic": True})


def _write_tables(out: Path, truth: pd.DataFrame) -> None:
    graded = truth.loc[truth["cohort"] == "grading", ["grade", "id"]]
    graded = graded.rename(columns={"grade": "Grade", "id": "BraTS_2019_subject_ID"})
    write_atomically(out / "name_mapping_phantom.csv", lambda path: graded.to_csv(path, index=False))
    write_atomically(out / "truth.csv", lambda path: truth.to_csv(path, index=False))
