"""One patient scaled, shifted and scanned again: the images, the histogram, the difference ratio and P(HGG), at once (Eq. 7)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import traitlets
from torch import Tensor

from drlib.cohort.brats import PatientVolume
from drlib.cohort.regions import MODALITIES
from drlib.figures.images import MODALITY_NAMES, WINDOW_TEXT
from drlib.profiles import PreprocessingSettings
from drlib.radiomics.classifier import GradeClassifier, predict_hgg
from drlib.radiomics.histogram import codebook_hash, codeword_histogram, encode_patient
from drlib.radiomics.robustness import Perturbation, difference_ratio
from drlib.radiomics.scanners import SCANNER_CHANGES, ScannerChange, change_slices
from drlib.segmentation.model import TrainedModel
from drlib.viewer.panel import Panel, read_script
from drlib.viewer.sheets import crop_to_brain, grey_sheet

PREPARED = (0.1, 0.2, 0.5, 1.0)  # magnitudes of scale and shift that a page without a kernel has
STRONGEST = {change.kind: change for change in SCANNER_CHANGES}  # the last of each kind


@dataclass(frozen=True)
class PerturbedPatient:
    """A patient to be perturbed, and who grades it.

    Attributes:
        name: what to call the patient.
        volume: the scans as they are in the files.
        index: number of the slice that is shown.
        model: the network.
        classifier: fitted to the clean counts of other patients, never to this one's.
        preprocessing, spacing_mm: how slices are made.
        seed: of what scanners draw.
    """

    name: str
    volume: PatientVolume
    index: int
    model: TrainedModel
    classifier: GradeClassifier
    preprocessing: PreprocessingSettings
    spacing_mm: float
    seed: int = 0


class PerturbationPanel(Panel):
    """A patient under the changes that were prepared; a kernel answers any scale, shift and scanner change together."""

    _esm = read_script("perturbation.js")
    images = traitlets.Bool(True).tag(sync=True)

    def __init__(self, case: PerturbedPatient, label: str):
        self.case = case
        self._codebook = codebook_hash(case.model)
        self._slices = lru_cache(maxsize=8)(self._scan)
        images = self._slices(None)
        self._crop = crop_to_brain(images)
        self._clean = self._count(images)
        clean = {"name": "as it is", **self._describe(images, self._clean)}
        super().__init__(
            {
                "clean": clean,
                "prepared": [clean, *({"name": name} | self.answer(asked) for name, asked in prepared_changes().items())],
                "first": {"name": "shift, b = 0.5", "shift": 0.5},
                "kinds": [{"kind": kind, "strongest": change.magnitude, "unit": change.unit} for kind, change in STRONGEST.items()],
                "modalities": [MODALITY_NAMES[modality] for modality in MODALITIES],
                "label": f"{case.name}, slice {case.index + 1} of {len(images)}; {WINDOW_TEXT}. {label}",
            }
        )

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return counts, difference ratio, P(HGG) and the shown slice under ``scale`` a, ``shift`` b and scanner change ``kind`` of
        ``magnitude``: x' = (1 + a)(x + b) of the slices scanned again."""
        if not asked:
            return {}
        change = replace(STRONGEST[asked["kind"]], magnitude=asked["magnitude"]) if asked.get("magnitude") else None
        scale, shift = Perturbation("scale", asked.get("scale", 0.0)), Perturbation("shift", asked.get("shift", 0.0))
        images = self._slices(change)
        shown = scale(shift(images[self.case.index].astype(np.float32)))
        return self._describe(shown[None], self._count(images, lambda batch: scale(shift(batch))))

    def _scan(self, change: ScannerChange | None) -> np.ndarray:
        case = self.case
        return change_slices(case.volume, change, case.preprocessing, case.spacing_mm, case.seed)

    def _count(self, images: np.ndarray, transform: Any = None) -> pd.DataFrame:
        codes: Tensor = encode_patient(self.case.model, images, transform)
        return pd.DataFrame([codeword_histogram(codes, self.case.model.profile.quantizer.codebook_size)], index=[self.case.volume.id])

    def _describe(self, images: np.ndarray, counts: pd.DataFrame) -> dict[str, Any]:
        shown = images[self.case.index] if len(images) > 1 else images[0]
        return {
            "images": grey_sheet(shown, self._crop),
            "counts": counts.iloc[0].tolist(),
            "ratio": float(difference_ratio(self._clean, counts).iloc[0]),
            "p_hgg": float(predict_hgg(self.case.classifier, counts, self._codebook).iloc[0]),
        }


def perturbation_panel(case: PerturbedPatient, label: str) -> PerturbationPanel:
    """Return a widget that changes the scans of one patient and shows what becomes of images, histogram and P(HGG).

    A page without a kernel has the changes of the chapter one by one; with a kernel, scale, shift and a scanner change are sliders that
    act together. All slices are encoded again at every move. ``label`` says whose numbers these are.

    Source: paper, Eq. 7; the scanner changes are ours. Caveat: for research only; one patient shows what can happen, not how often.
    """
    return PerturbationPanel(case, label)


def prepared_changes() -> dict[str, dict[str, Any]]:
    """Return what a page without a kernel can show, by the words for it: scale, shift and every scanner change of the chapter."""
    letters = {"scale": "a", "shift": "b"}
    uniform = {f"{kind}, {letters[kind]} = {m:g}": {kind: m} for kind in letters for m in PREPARED}
    scanners = {f"{c.kind} {c.level}".strip(): {"kind": c.kind, "magnitude": c.magnitude} for c in SCANNER_CHANGES}
    return uniform | scanners
