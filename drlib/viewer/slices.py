"""A browser of patients and slices: the four modalities and the regions in colour, with a kernel or without."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import traitlets

from drlib.cohort.regions import LABELS, MODALITIES
from drlib.figures.images import MODALITY_NAMES, WINDOW_TEXT, largest_slice, short_id
from drlib.figures.style import REGION_COLOURS
from drlib.viewer.panel import Panel, read_script
from drlib.viewer.sheets import crop_to_brain, grey_sheet, label_sheet

MOST_CARRIED = 26  # slices of a patient that the page carries; a kernel shows all


class Patients(Protocol):
    """What the browser needs of a slice store."""

    @property
    def patients(self) -> tuple[str, ...]: ...
    def images(self, patient: str) -> np.ndarray:
        """Slices (S, 4, H, W), z-scored, in the order of ``MODALITIES``."""

    def labels(self, patient: str) -> np.ndarray | None:
        """True labels (S, H, W), 0-3, or None."""

    def grade(self, patient: str) -> str | None:
        """LGG, HGG or None."""


class SlicesPanel(Panel):
    """Slices of patients. A kernel brings every patient of the store, and of each every slice."""

    _esm = read_script("slices.js")
    images = traitlets.Bool(True).tag(sync=True)

    def __init__(self, store: Patients, carried: Sequence[str], most: int = MOST_CARRIED):
        self.store = store
        super().__init__(
            {
                "patients": {patient: show_patient(store, patient, most) for patient in carried},
                "carried": list(carried),
                "all": patient_names(store),
                "modalities": [MODALITY_NAMES[modality] for modality in MODALITIES],
                "legend": region_legend(),
                "window": WINDOW_TEXT,
            }
        )

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return all slices of the ``patient`` that was asked for."""
        return {"patient": asked["patient"], "shown": show_patient(self.store, asked["patient"])} if "patient" in asked else {}


def slice_browser(store: Patients, patients: Sequence[str], most: int = MOST_CARRIED) -> SlicesPanel:
    """Return a widget that shows the slices of ``patients``, from inferior to superior: T1, T1ce, T2, FLAIR, and truth over T1ce and FLAIR.

    A page without a kernel has these patients and at most ``most`` slices of each, evenly spaced, the one with the most tumour among
    them. A kernel brings every slice, and every other patient of ``store``.
    """
    return SlicesPanel(store, patients, most)


def show_patient(store: Patients, patient: str, most: int | None = None, modalities: Sequence[str] = MODALITIES) -> dict[str, Any]:
    """Return sheets of a patient's slices (``modalities`` of each) and labels, the numbers of the slices, and the corner of the crop."""
    images, labels = store.images(patient), store.labels(patient)
    chosen, crop = choose_slices(images, labels, most or len(images)), crop_to_brain(images)
    regions = None if labels is None else label_sheet(labels[chosen], crop)
    channels = [MODALITIES.index(modality) for modality in modalities]
    start = largest_slice(labels) if labels is not None else chosen[len(chosen) // 2]
    return {
        "grey": grey_sheet(images[chosen][:, channels].reshape(-1, *images.shape[2:]), crop),
        "regions": regions,
        "slices": chosen.tolist(),
        "of": len(images),
        "corner": [crop.rows.start, crop.columns.start],
        "start": int(np.abs(chosen - start).argmin()),
    }


def choose_slices(images: np.ndarray, labels: np.ndarray | None, most: int) -> np.ndarray:
    """Return at most ``most`` slice numbers, evenly spaced over those that show anything, with the one of most tumour."""
    pixels = images.reshape(len(images), -1)
    seen = np.flatnonzero(pixels.max(axis=1) > pixels.min(axis=1))
    first, last = (seen[0], seen[-1]) if len(seen) else (0, len(images) - 1)
    chosen = np.unique(np.linspace(first, last, min(most, last - first + 1)).round().astype(int))
    if labels is not None:
        chosen[np.abs(chosen - largest_slice(labels)).argmin()] = largest_slice(labels)
    return chosen


def patient_names(store: Patients) -> list[tuple[str, str]]:
    """Return id and name of every patient; the name is grade and short id."""
    return [(patient, f"{store.grade(patient) or ''} {short_id(patient)}".strip()) for patient in store.patients]


def region_legend() -> list[tuple[str, str]]:
    """Return name and colour of each region that is a label, in their order (which a widget keeps of lists alone)."""
    return [(name, REGION_COLOURS[name]) for name in LABELS[1:]]
