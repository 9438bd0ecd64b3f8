"""Codewords taken away from one patient: the segmentation before and after, where the logits change, and how much in each region."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import traitlets

from drlib.cohort.regions import MODALITIES
from drlib.cohort.slices import SliceStore
from drlib.figures.images import largest_slice
from drlib.radiomics.ablation import TumourCodes, change_maps, encode_tumours, predict_labels, region_values, replaced_tokens, tumour_labels
from drlib.radiomics.ablation_control import count_tokens
from drlib.segmentation.model import TrainedModel
from drlib.viewer.panel import Panel, read_script
from drlib.viewer.sheets import Crop, crop_to_brain, grey_sheet, label_sheet, map_sheet
from drlib.viewer.slices import patient_names, region_legend

MOST_CARRIED = 9  # slices of a patient that the page carries; a kernel shows all with tumour
N_FREQUENT = 8  # codewords offered beside the responsible ones
MAP_COLOURS = "inferno"
SHOWN = [MODALITIES.index("t1ce"), MODALITIES.index("flair")]


@dataclass(frozen=True)
class Seen:
    """A patient's slices with tumour, encoded and segmented.

    ``images`` (S, 4, H, W), ``labels`` and ``prediction`` (S, H, W) of the S slices of ``tumour``; ``n_slices`` the patient has in all.
    """

    tumour: TumourCodes
    images: np.ndarray
    n_slices: int
    labels: np.ndarray
    prediction: np.ndarray
    crop: Crop

    def choose(self, most: int | None) -> np.ndarray:
        """Return the positions of at most ``most`` slices, evenly spaced; None: of all."""
        n = len(self.images)
        return np.unique(np.linspace(0, n - 1, min(n, most or n)).round().astype(int))


class AblationPanel(Panel):
    """Prepared sets of codewords in some patients; a kernel takes away any of the offered codewords in any patient."""

    _esm = read_script("ablation.js")
    images = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        model: TrainedModel,
        store: SliceStore,
        carried: Sequence[str],
        by_grade: Mapping[str, Sequence[int]],
        background: int,
        label: str,
    ):
        self.model, self.store, self.background = model, store, background
        self._seen = lru_cache(maxsize=16)(self._see)
        sets = {f"{grade} together": list(codewords) for grade, codewords in by_grade.items() if codewords}
        sets |= {f"{k} alone ({grade})": [k] for grade, codewords in by_grade.items() if len(codewords) > 1 for k in codewords}
        patients = [patient for patient in carried if len(self._seen(patient).images)]
        super().__init__(
            {
                "patients": {patient: self._base(patient, MOST_CARRIED) for patient in patients},
                "carried": patients,
                "all": patient_names(store),
                "sets": list(sets.items()),
                "prepared": {
                    patient: {name: self._ablate(patient, codewords, MOST_CARRIED) for name, codewords in sets.items()}
                    for patient in patients
                },
                "offered": self._offered(patients, by_grade),
                "legend": region_legend(),
                "label": label,
            }
        )

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return what changes in ``patient`` without ``codewords``, in all slices with tumour; with ``base``, the slices themselves too."""
        if "patient" not in asked:
            return {}
        patient, codewords = asked["patient"], [int(k) for k in asked["codewords"]]
        base = {"base": self._base(patient)} if asked.get("base") else {}
        return {"patient": patient, "codewords": codewords, **self._ablate(patient, codewords)} | base

    def _see(self, patient: str) -> "Seen":
        """Encode and segment a patient once."""
        tumour, images = encode_tumours(self.model, self.store, patients=[patient])[0], self.store.images(patient)
        labels = tumour_labels(self.model, self.store, tumour)
        return Seen(tumour, images[tumour.slices], len(images), labels, predict_labels(self.model, tumour.codes), crop_to_brain(images))

    def _base(self, patient: str, most: int | None = None) -> dict[str, Any]:
        seen = self._seen(patient)
        some = seen.choose(most)
        return {
            "grey": grey_sheet(seen.images[some][:, SHOWN].reshape(-1, *seen.images.shape[2:]), seen.crop),
            "before": label_sheet(seen.prediction[some], seen.crop),
            "slices": seen.tumour.slices[some].tolist(),
            "of": seen.n_slices,
            "start": int(np.abs(some - largest_slice(seen.labels)).argmin()),
            "labels": seen.tumour.labels,
        }

    def _ablate(self, patient: str, codewords: Sequence[int], most: int | None = None) -> dict[str, Any]:
        seen = self._seen(patient)
        codes, some, after = seen.tumour.codes, seen.choose(most), seen.prediction.copy()
        maps = change_maps(self.model, codes, codewords, self.background)
        tokens = replaced_tokens(self.model, codes, codewords, self.background)
        touched = tokens.flatten(1).any(dim=1)
        if touched.any():  # the others are drawn as before
            after[touched.numpy()] = predict_labels(self.model, codes[touched].masked_fill(tokens[touched], self.background))
        regions = region_values(maps, seen.labels)
        return {
            "after": label_sheet(after[some], seen.crop),
            "map": map_sheet(maps[some], seen.crop, float(maps.max()), MAP_COLOURS),
            "top": float(maps.max()),
            "tokens": int(tokens.sum()),
            "strongest": int(seen.tumour.slices[maps.sum(axis=(1, 2)).argmax()]) if len(maps) else 0,
            "regions": regions[["region", "sum", "mean", "n_voxels"]].astype(object).where(regions.notna(), None).to_dict("records"),
        }

    def _offered(self, patients: Sequence[str], by_grade: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
        """Return the responsible codewords and the most frequent others where these patients have tumour."""
        responsible = {k: f"{k} ({grade})" for grade, codewords in by_grade.items() for k in codewords}
        counts = count_tokens([self._seen(patient).tumour for patient in patients], self.model.profile.quantizer.codebook_size, True)
        others = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k] and k not in responsible and k != self.background]
        return [{"codeword": k, "name": name} for k, name in (responsible | {k: str(k) for k in others[:N_FREQUENT]}).items()]


def ablation_panel(
    model: TrainedModel,
    store: SliceStore,
    patients: Sequence[str],
    by_grade: Mapping[str, Sequence[int]],
    background: int,
    label: str,
) -> AblationPanel:
    """Return a widget that takes codewords away and shows segmentation before and after, the change of the logits and its sum per region.

    A page without a kernel has ``patients`` with the codewords ``by_grade`` together and alone; with a kernel, every patient of ``store``
    and the most frequent other codewords as well. Replaced by the codeword ``background``; only slices with tumour are decoded.
    ``label`` says whose numbers these are.

    Source: paper, "Identification of responsible regions". Caveat: for research only; a region is not where the codewords lie.
    """
    return AblationPanel(model, store, patients, by_grade, background, label)
