"""The codeword histogram (Eq. 5): how often each codeword occurs in all slices of a patient.

A patient's slices are encoded in batches, the blank ones once for all. Counts are exact: they sum to slices x latent positions.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d
from tqdm import tqdm

from drlib.cohort.slices import SliceStore
from drlib.errors import DeepRadiomicsError
from drlib.parallel import map_patients
from drlib.segmentation.model import TrainedModel

Transform = Callable[[Tensor], Tensor]


class HistogramError(DeepRadiomicsError):
    """Codewords cannot be counted, or no codeword stands for the background."""


@dataclass(frozen=True)
class CodewordCounts:
    """Counts of a cohort.

    ``table``: a row per patient, a column 0..K-1 per codeword, whole numbers. ``n_slices``: slices per patient.
    ``latent_positions``: positions of the index map of a slice. ``codebook``: which codebook counted (see ``codebook_hash``).
    """

    table: pd.DataFrame
    n_slices: pd.Series
    latent_positions: int
    codebook: str


def codeword_histogram(codes: Tensor, codebook_size: int) -> np.ndarray:
    """Return how often each of the K = ``codebook_size`` codewords occurs in ``codes`` (any shape, int64): K counts that sum to its size.

    Source: paper, Eq. 5.
    """
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < codebook_size:
        raise HistogramError(f"codes run from {int(codes.min())} to {int(codes.max())}, the codebook from 0 to {codebook_size - 1}")
    return torch.bincount(codes.reshape(-1), minlength=codebook_size).cpu().numpy().astype(np.int64)


def count_codewords(
    model: TrainedModel,
    store: SliceStore,
    *,
    patients: Sequence[str] | None = None,
    transform: Transform | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> CodewordCounts:
    """Count the codewords of every patient of ``store``, or of those named in ``patients``, on the model's device.

    ``transform`` changes a batch of slices (B, 4, H, W) before it is encoded (see ``encode_patient``).

    Source: paper, Eq. 5.
    """
    patients = list(store.patients if patients is None else patients)
    work = map_patients(_count_patient, patients, model, store, transform, batch_size, n_jobs=1, ordered=True)
    counted = list(tqdm(work, desc="codeword histograms", total=len(patients), unit="patient", disable=not progress))
    index = pd.Index(patients, name="patient", dtype=object)
    rows = np.array([counts for counts, _ in counted], dtype=np.int64).reshape(len(patients), model.profile.quantizer.codebook_size)
    n_slices = pd.Series([n for _, n in counted], index=index, name="n_slices", dtype=np.int64)
    return CodewordCounts(pd.DataFrame(rows, index=index), n_slices, model.profile.latent_size**2, codebook_hash(model))


def _count_patient(
    patient: str, model: TrainedModel, store: SliceStore, transform: Transform | None, batch_size: int | None
) -> tuple[np.ndarray, int]:
    codes = encode_patient(model, store.images(patient), transform, batch_size)
    return codeword_histogram(codes, model.profile.quantizer.codebook_size), len(codes)


def encode_patient(model: TrainedModel, images: np.ndarray, transform: Transform | None = None, batch_size: int | None = None) -> Tensor:
    """Return the index maps (S, h, w), int64 on the CPU, of slices (S, 4, H, W).

    Blank slices are encoded once, so that ``transform`` must act on each slice alone.
    """
    encode = model.network.encode_to_codes
    return model.map_slices(encode if transform is None else lambda batch: encode(transform(batch)), images, batch_size)


def background_codeword(
    model: TrainedModel, store: SliceStore, *, patients: Sequence[str] | None = None, batch_size: int | None = None
) -> int:
    """Return the codeword most common where every pixel of a latent position's cell lies outside the brain.

    A pixel is outside where all modalities have the value of the corner of the first slice, which is outside in every scan.
    Slices without brain are left out: they would outvote the surroundings of the head that the ablation is about. ``patients`` None
    are sixteen of the store at equal steps, which hold thousands of such cells.

    Raises HistogramError if no cell is entirely outside.

    Source: paper, "Identification of responsible regions": "the most common vector in the background of the images".
    """
    size = model.profile.quantizer.codebook_size
    histogram = np.zeros(size, dtype=np.int64)
    for patient in store.patients[:: max(1, len(store.patients) // 16)] if patients is None else patients:
        images = store.images(patient)
        outside = cells_outside(images, model.profile.stride)
        shown = np.flatnonzero(~outside.all(axis=(1, 2)))
        if len(shown):
            codes = encode_patient(model, images[shown], batch_size=batch_size)
            histogram += codeword_histogram(codes[torch.from_numpy(outside[shown])], size)
    if not histogram.any():
        raise HistogramError("no latent position lies entirely outside the brain, so that no codeword stands for the background")
    return int(histogram.argmax())


def codebook_hash(model: TrainedModel) -> str:
    """Return ten hexadecimal digits determined by all weights of the network, encoder and codebook included.

    Counts, and classifiers fitted to them, mean something only with the network that they were made with.
    """
    digest = hashlib.sha256()
    for name, weights in sorted(model.network.state_dict().items()):
        digest.update(name.encode() + weights.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:10]


def cells_outside(images: np.ndarray, stride: int) -> np.ndarray:
    """Return (S, h, w), boolean: whether all ``stride`` x ``stride`` pixels of a latent position lie outside the brain.

    Outside is what has the value of the corner of the first slice, in all modalities of ``images`` (S, 4, H, W).
    """
    corner = images[0, :, 0, 0].astype(np.float32)
    inside = (np.abs(images.astype(np.float32) - corner[:, None, None]) > 1e-2).any(axis=1)
    return max_pool2d(torch.from_numpy(inside).float()[:, None], stride)[:, 0].numpy() == 0
