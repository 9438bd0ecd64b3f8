"""The codeword explorer: where the tokens of one codeword lie in a patient's slices, what they look like, and its numbers."""

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import traitlets
from PIL import Image as Picture

from drlib.figures.images import MODALITY_NAMES
from drlib.radiomics.atlas import Atlas
from drlib.radiomics.histogram import encode_patient
from drlib.segmentation.model import TrainedModel
from drlib.viewer.panel import Panel, read_script
from drlib.viewer.sheets import QUALITY
from drlib.viewer.slices import Patients, patient_names, region_legend, show_patient

MODALITIES = ("t1ce", "flair")
MOST_CARRIED = 26  # slices of a patient that the page carries; a kernel shows all
N_PICTURED = 16  # codewords whose patches the page carries: the responsible ones, then those farthest from an AUC of .5
NUMBERS = {  # column of the atlas -> name, digits
    "tokens": ("tokens in all patients", 0),
    "patients": ("patients that have it", 0),
    "mean_LGG": ("mean count, LGG", 1),
    "mean_HGG": ("mean count, HGG", 1),
    "auc": ("AUC of its count", 2),
    "coefficient": ("log odds of HGG per SD", 2),
}


class CodewordsPanel(Panel):
    """Every codeword in some patients; a kernel brings every patient, every slice and the patches of every codeword."""

    _esm = read_script("codewords.js")
    images = traitlets.Bool(True).tag(sync=True)

    def __init__(self, atlas: Atlas, model: TrainedModel, store: Patients, carried: Sequence[str], label: str):
        self.atlas, self.model, self.store = atlas, model, store
        self._codes = lru_cache(maxsize=16)(lambda patient: encode_patient(model, store.images(patient)).numpy().astype(np.uint16))
        table = atlas.table.sort_index()
        known = table["auc"].sub(0.5).abs().where(~table["responsible"].fillna(False).astype(bool), 2).sort_values(ascending=False)
        pictured = [int(k) for k in known.index[:N_PICTURED]]
        super().__init__(
            {
                "numbers": [name for name, _ in NUMBERS.values()],
                "codewords": [describe_codeword(k, row) for k, row in table.iterrows()],
                "first": pictured[0],
                "patches": {str(k): self._patches(k) for k in pictured},
                "patients": {patient: self._show(patient, MOST_CARRIED) for patient in carried},
                "carried": list(carried),
                "all": patient_names(store),
                "modalities": [MODALITY_NAMES[modality] for modality in MODALITIES],
                "legend": region_legend(),
                "stride": model.profile.stride,
                "label": label,
            }
        )

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``patient`` or the patches of the ``codeword`` that was asked for, or both."""
        found: dict[str, Any] = {}
        if "patient" in asked:
            found |= {"patient": asked["patient"], "shown": self._show(asked["patient"])}
        if "codeword" in asked:
            found |= {"codeword": asked["codeword"], "patches": self._patches(asked["codeword"])}
        return found

    def _show(self, patient: str, most: int | None = None) -> dict[str, Any]:
        shown = show_patient(self.store, patient, most, MODALITIES)
        codes = self._codes(patient)[shown["slices"]]
        return shown | {"codes": codes.tobytes(), "latent": list(codes.shape[1:])}

    def _patches(self, codeword: int) -> dict[str, Any]:
        picture, buffer = Picture.open(io.BytesIO(self.atlas.patches(codeword))).convert("RGB"), io.BytesIO()
        picture.save(buffer, "webp", quality=QUALITY)
        return {"picture": buffer.getvalue(), "type": "image/webp", "columns": 1, "width": picture.width, "height": picture.height}


def codeword_explorer(atlas: Atlas, model: TrainedModel, store: Patients, patients: Sequence[str], label: str) -> CodewordsPanel:
    """Return a widget in which a codeword is chosen by number, by AUC or by tissue: its tokens in a patient, its patches, its numbers.

    A page without a kernel has ``patients`` and every codeword, with the patches of some; a kernel brings the rest. ``label`` says
    whose numbers these are. Source: ours; see the atlas (:mod:`drlib.radiomics.atlas`).
    """
    return CodewordsPanel(atlas, model, store, patients, label)


def describe_codeword(codeword: int, row: Any) -> dict[str, Any]:
    """Return what the widget says of a codeword: tissue, direction, AUC and ``NUMBERS``, with intervals where there are any."""
    numbers = []
    for column, (_, digits) in NUMBERS.items():
        interval = f" [{row[f'{column}_low']:.{digits}f}, {row[f'{column}_high']:.{digits}f}]" if f"{column}_low" in row.index else ""
        numbers.append("–" if np.isnan(row[column]) else f"{row[column]:.{digits}f}{interval}".replace("-", "\N{MINUS SIGN}"))
    auc = None if np.isnan(row["auc"]) else round(float(row["auc"]), 4)
    responsible = bool(row["responsible"] == True)  # noqa: E712 - missing for codewords that were not tested
    return {"codeword": int(codeword), "tissue": str(row["tissue"]), "auc": auc, "responsible": responsible, "numbers": numbers}
