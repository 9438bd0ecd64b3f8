"""Leaks: ways in which a grade can be told without looking at the tumour, and the two checks that catch them.

*Twins*: one patient under two ids, perhaps mirrored, is trained on and tested on. *Confounding*: the two grades were scanned elsewhere, so
that the scanner tells the grade. The first is found in the images; the second by grading from slices in which there is no tumour.
Source: ours; the paper has neither check.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d

from drlib.cohort.slices import SliceStore
from drlib.parallel import map_patients
from drlib.radiomics.histogram import cells_outside, codeword_histogram, encode_patient, inside_brain
from drlib.radiomics.statistics import Interval
from drlib.segmentation.model import TrainedModel

TWIN_CORRELATION = 0.9
PATTERN_CELLS, PATTERN_SLICES = 16, 12  # of the coarse picture of a head that twins share
LOWEST_MM = 40.0  # of the head: cerebellum, brain stem and temporal poles, where gliomas are rare
MARGIN_MM = 6.0  # between a slice of the control and the tumour


@dataclass(frozen=True)
class LeakReport:
    """What the checks found.

    Attributes:
        twins: a row per pair: ``first``, ``second``, ``mirrored``, ``correlation`` of their coarse pictures.
        control_auc: AUC of grading from slices without tumour, out of fold, with its interval over patients; None where not measured.
    """

    twins: pd.DataFrame
    control_auc: Interval | None

    @property
    def warnings(self) -> list[str]:
        """Return a sentence per leak, which says what to do."""
        sentences = [
            f"{row.second} is {row.first}{', mirrored' if row.mirrored else ''} (correlation {row.correlation:.2f}): keep one of the two"
            for row in self.twins.itertuples()
        ]
        if self.control_auc is not None and self.control_auc.low > 0.5:
            auc = f"AUC {self.control_auc.estimate:.2f} [{self.control_auc.low:.2f}, {self.control_auc.high:.2f}]"
            advice = "compare where LGG and HGG were scanned before any accuracy is believed"
            sentences.append(f"the grade shows in slices without tumour ({auc}): {advice}")
        return sentences


def head_pattern(images: np.ndarray) -> np.ndarray:
    """Return a coarse picture (2, 4, slices, cells, cells), float32, of a patient's slices (S, 4, H, W): as it is, and mirrored.

    Slices between the lowest and the highest with brain are averaged into twelve, pixels into 16 x 16 cells; left and right are the
    columns of a slice.
    """
    planes = torch.from_numpy(np.asarray(images, dtype=np.float32))
    shown = (planes.flatten(2).std(dim=2) > 0).any(dim=1).nonzero().flatten()
    planes = planes[int(shown[0]) : int(shown[-1]) + 1] if len(shown) else planes
    cells = adaptive_avg_pool2d(planes, PATTERN_CELLS).permute(1, 2, 3, 0).flatten(0, 2)[None]  # (1, 4 x cells x cells, S)
    levels = adaptive_avg_pool1d(cells, PATTERN_SLICES)
    pattern = levels.view(planes.shape[1], PATTERN_CELLS, PATTERN_CELLS, PATTERN_SLICES).permute(0, 3, 1, 2)
    return torch.stack([pattern, pattern.flip(-1)]).numpy()


def find_twins(patterns: np.ndarray, patients: Sequence[str], threshold: float = TWIN_CORRELATION) -> pd.DataFrame:
    """Return the pairs of ``patients`` that are one head, from their ``patterns`` (P, 2, 4, slices, cells, cells) (:func:`head_pattern`).

    What all heads share, the mean pattern, is taken away; pairs whose remainders correlate above ``threshold``, as they are or
    mirrored, are twins. Returns a row per pair: first, second, mirrored, correlation; fewer than four patients have no twins.

    Caveat: made for cohorts in one space, as BraTS is; a twin that was also rotated or scaled is not found.
    """
    columns = ["first", "second", "mirrored", "correlation"]
    if len(patients) < 4:
        return pd.DataFrame(columns=columns)
    flat = patterns.reshape(len(patterns), 2, -1).astype(np.float64)
    flat = flat - flat.mean(axis=(0, 1))  # the mean of heads and mirrored heads is symmetric
    flat /= np.maximum(np.linalg.norm(flat, axis=2, keepdims=True), 1e-12)
    rows = []
    for mirrored in (False, True):
        correlation = flat[:, 0] @ flat[:, int(mirrored)].T
        for i, j in np.argwhere(np.triu(correlation > threshold, 1)):
            rows.append([patients[i], patients[j], mirrored, float(correlation[i, j])])
    return pd.DataFrame(rows, columns=columns)


def find_twins_in(store: SliceStore, patients: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the twins (:func:`find_twins`) among the patients of ``store``, or among those named."""
    patients = list(store.patients if patients is None else patients)
    patterns = list(map_patients(_pattern_of, patients, store, n_jobs=1, ordered=True))
    return find_twins(np.array(patterns), patients)


def _pattern_of(patient: str, store: SliceStore) -> np.ndarray:
    return head_pattern(store.images(patient))


def without_twins(patients: Sequence[str], twins: pd.DataFrame) -> list[str]:
    """Return ``patients`` without the second of each pair of ``twins``."""
    seconds = set(twins["second"])
    return [patient for patient in patients if patient not in seconds]


def count_control(model: TrainedModel, store: SliceStore, patients: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the codewords of slices in which no tumour is: a row per patient, a column per codeword, in counts per 10,000 positions.

    Counted are the positions with brain of the lowest ``LOWEST_MM`` of the head, without the slices that hold tumour (truth, else the
    model's own segmentation) or lie within ``MARGIN_MM`` of it. The network sees one slice at a time, so that nothing of the tumour
    reaches these counts, and the same part of every head is looked at. A patient without such a slice has the cohort's mean.
    """
    patients = list(store.patients if patients is None else patients)
    rows = list(map_patients(_count_control, patients, model, store, n_jobs=1, ordered=True))
    table = pd.DataFrame(np.array(rows), index=pd.Index(patients, name="patient", dtype=object))
    shares = 1e4 * table.div(table.sum(axis=1).replace(0, np.nan), axis=0)
    return shares.fillna(shares.mean()).fillna(0.0)


def _count_control(patient: str, model: TrainedModel, store: SliceStore) -> np.ndarray:
    images, labels = store.images(patient), store.labels(patient)
    tumour = (model.segment(images).numpy() if labels is None else labels).any(axis=(1, 2))
    chosen = control_slices(images, tumour, store.spacing_mm)
    if not len(chosen):
        return np.zeros(model.profile.quantizer.codebook_size, dtype=np.int64)
    codes = encode_patient(model, images[chosen])
    return codeword_histogram(
        codes[torch.from_numpy(~cells_outside(images, model.profile.stride)[chosen])], model.profile.quantizer.codebook_size
    )


def control_slices(images: np.ndarray, tumour: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Return the indices of the control's slices: of ``images`` (S, 4, H, W), ``tumour`` (S,) says which hold any."""
    shown = np.flatnonzero(inside_brain(images).any(axis=(1, 2)))
    if not len(shown):
        return shown
    low = shown[shown < shown[0] + LOWEST_MM / spacing_mm]
    near = np.flatnonzero(tumour)
    far = [index for index in low if not (np.abs(near - index) * spacing_mm <= MARGIN_MM).any()]
    return np.array(far, dtype=np.int64)
