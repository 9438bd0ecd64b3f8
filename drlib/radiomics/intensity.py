"""The intensity histogram: what a patient's voxels show without a network, in the same form as the codeword counts (Eq. 5).

Conventional first-order radiomics of the whole brain: how many voxels of each modality have each z-scored intensity. The codeword
histogram has to tell more than this one, for it looks at the same voxels with their surroundings.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from drlib.cohort.regions import MODALITIES
from drlib.cohort.slices import SliceStore
from drlib.parallel import map_patients

RANGE = (-4.0, 8.0)  # standard deviations of the patient's brain; the first and last bin take what lies beyond


def count_intensities(store: SliceStore, patients: Sequence[str], n_bins: int, n_jobs: int = -1) -> pd.DataFrame:
    """Return a row per patient and ``n_bins`` columns per modality: brain pixels of all slices whose z-score falls into the bin.

    Bins have equal width over -4 to 8 standard deviations and are the same for all patients; the outermost are open. A pixel is brain
    unless all modalities have the value of the corner of the first slice, which is outside in every scan. Every modality's counts sum
    to the brain's pixels. ``n_jobs``: processes that share the patients.

    Source: ours, the baseline of the same form as Eq. 5.
    """
    edges = np.linspace(*RANGE, n_bins + 1)[1:-1]
    rows = list(map_patients(_count_patient, patients, store, edges, n_jobs=n_jobs, ordered=True))
    names = [f"{modality}_bin_{number:03d}" for modality in MODALITIES for number in range(n_bins)]
    return pd.DataFrame(rows, index=pd.Index(patients, name="patient", dtype=object), columns=names)


def _count_patient(patient: str, store: SliceStore, edges: np.ndarray) -> np.ndarray:
    images = store.images(patient).swapaxes(0, 1).astype(np.float32)  # (4, S, H, W); float16 counts ten times as slowly
    brain = np.zeros(images.shape[1:], dtype=bool)
    for modality in images:
        brain |= np.abs(modality - modality[0, 0, 0]) > 1e-2
    bins = [np.searchsorted(edges, modality[brain], side="right") for modality in images]
    return np.concatenate([np.bincount(found, minlength=len(edges) + 1) for found in bins])
