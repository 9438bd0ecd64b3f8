"""The Dice coefficient per patient, in three dimensions. WT includes ET (in the authors' code it does not: METHOD finding 6)."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from drlib.cohort.regions import LABELS, REGION_LABELS, REGIONS
from drlib.errors import DeepRadiomicsError
from drlib.segmentation.model import SliceSource, TrainedModel


class NoLabelsError(DeepRadiomicsError):
    """A Dice coefficient was asked for a patient without a segmentation."""


def dice_scores(prediction: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> dict[str, float]:
    """Return 2 |A and B| / (|A| + |B|) for each region of two label volumes of one shape: NaN where both are empty, 0 where one is."""
    prediction, truth = (torch.as_tensor(labels).flatten().long() for labels in (prediction, truth))
    n = len(LABELS)
    table = torch.bincount(truth * n + prediction, minlength=n * n).view(n, n)  # [truth, prediction]
    return {region: _dice(table, list(REGION_LABELS[region])) for region in REGIONS}


def segment_store(
    model: TrainedModel, store: SliceSource, ids: Iterable[str] | None = None, *, batch_size: int = 32, progress: bool = False
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each patient's id and predicted labels (S, H, W), uint8."""
    ids = list(store.patients if ids is None else ids)
    for patient in tqdm(ids, desc="segment", unit="patient", disable=None if progress else True):
        yield patient, model.segment(store.images(patient), batch_size).numpy()


def evaluate_dice(
    model: TrainedModel, store: SliceSource, ids: Iterable[str] | None = None, *, batch_size: int = 32, progress: bool = False
) -> pd.DataFrame:
    """Return a table of 3-D Dice coefficients: one row per patient (index ``patient``), columns NET, ED, ET, TC, WT.

    Raises NoLabelsError for a patient without a segmentation. Source: Methods, results of the segmentation.
    """
    rows = {}
    for patient, prediction in segment_store(model, store, ids, batch_size=batch_size, progress=progress):
        truth = store.labels(patient)
        if truth is None:
            raise NoLabelsError(f"{patient} has no segmentation; leave it out of the ids that are evaluated")
        rows[patient] = dice_scores(prediction, truth)
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(REGIONS)).rename_axis("patient")


def _dice(table: Tensor, labels: list[int]) -> float:
    both = int(table[labels][:, labels].sum())
    total = int(table[labels].sum() + table[:, labels].sum())
    return 2 * both / total if total else float("nan")
