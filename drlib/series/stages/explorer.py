"""Chapter 13: a few patients as small volumes, for the viewer in the page."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from drlib.artifacts import write_atomically, write_json
from drlib.cohort.preprocessing import Slices
from drlib.cohort.regions import GRADES
from drlib.radiomics.ablation import change_maps, encode_patient, predict_labels
from drlib.series.run import Run
from drlib.series.stages.cohort import Cohort, choose_patients, open_cohort
from drlib.series.stages.grading import Grading, open_grading
from drlib.series.stages.histograms import RADIOMICS_SOURCES, open_histograms
from drlib.series.stages.segmentation import open_model
from drlib.viewer.volumes import PatientVolumes, make_index, make_volumes

N_PUBLISHED = 6
INDEX = "index.json"


@dataclass(frozen=True)
class Published:
    """The patients whose volumes the book carries.

    Attributes:
        index: what the viewer reads first (:func:`drlib.viewer.volumes.make_index`).
        folder: ``<patient's folder>/<volume>.nii.gz``.
    """

    index: dict[str, Any]
    folder: Path

    @property
    def files(self) -> dict[str, Path]:
        """Every volume by the key under which the viewer asks for it, such as ``p001/flair``."""
        keys = [f"{entry['folder']}/{name}" for entry in self.index["patients"] for name in entry["bytes"]]
        return {key: self.folder / f"{key}.nii.gz" for key in keys}

    @property
    def table(self) -> pd.DataFrame:
        """A row per patient: grade, P(HGG) out of fold, whether a threshold of one half grades it rightly, and kilobytes."""
        entries = pd.DataFrame(self.index["patients"]).set_index("id").rename_axis("patient")
        p_hgg = entries["p"].astype(float)
        right = ((p_hgg > 0.5) == (entries["grade"] == "HGG")).where(p_hgg.notna())
        size = entries["bytes"].map(lambda found: round(sum(found.values()) / 1000))
        return pd.DataFrame({"grade": entries["grade"], "P(HGG)": p_hgg, "graded rightly": right, "kB": size})


def publish_patients(run: Run, most: int = N_PUBLISHED) -> Published:
    """Write the volumes of ``most`` graded patients: images, truth, prediction, codeword map and responsible regions.

    Always the same ones: of each grade the patient with the middle tumour volume, then by turns those whom the codewords grade worst and
    best (:func:`choose_published`).
    """
    sources, upstream = (*RADIOMICS_SOURCES, "drlib.viewer.volumes"), ("cohort", "model", "histograms", "grading")
    run.build("explorer", sources, upstream, lambda folder: _publish(run, folder, most), most=most)
    return open_published(run)


def open_published(run: Run) -> Published:
    """Return what chapter 13 wrote."""
    run.manifest("explorer")
    folder = run.folder / "explorer"
    return Published(json.loads((folder / INDEX).read_text(encoding="utf-8")), folder)


def choose_published(cohort: Cohort, grading: Grading, most: int) -> list[str]:
    """Return ``most`` patients: of each grade the middle one, then by turns who has the lowest and the highest P of it."""
    chosen = choose_patients(cohort, 1)
    of_own_grade = grading.probability.where(grading.grades == "HGG", 1 - grading.probability)
    ordered = {grade: list(of_own_grade[grading.grades == grade].sort_values().index) for grade in ("HGG", "LGG")}
    for turn in range(2 * len(of_own_grade)):
        rank = turn // 2 if turn % 2 == 0 else -1 - turn // 2
        chosen += [patients[rank] for patients in ordered.values() if turn < len(patients)]
    return list(dict.fromkeys(chosen))[:most]


def _publish(run: Run, folder: Path, most: int) -> None:
    cohort, grading = open_cohort(run), open_grading(run)
    entries = []
    for number, patient in enumerate(choose_published(cohort, grading, most), start=1):
        volumes = _volumes(run, cohort, grading, patient)
        for name, content in volumes.files.items():
            write_atomically(folder / f"p{number:03d}" / f"{name}.nii.gz", lambda path, content=content: path.write_bytes(content))
        entries.append(volumes.to_entry(f"p{number:03d}"))
    codebook = open_model(run).network.quantizer.codebook.detach().cpu().numpy()
    write_json(folder / INDEX, make_index(entries, run.label, codebook, open_histograms(run).background))


def _volumes(run: Run, cohort: Cohort, grading: Grading, patient: str) -> PatientVolumes:
    store, model, background = cohort.grading, open_model(run), open_histograms(run).background
    slices = Slices(store.images(patient), store.labels(patient), store.geometry(patient))
    codes = encode_patient(model, slices.images)
    responsible = {grade: change_maps(model, codes, grading.by_grade[grade], background) for grade in GRADES}
    p_hgg = float(grading.probability[patient]) if patient in grading.probability.index else None
    return make_volumes(slices, patient, store.grade(patient), p_hgg, predict_labels(model, codes), codes.numpy(), responsible)
