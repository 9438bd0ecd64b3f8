"""Small patients in BraTS's layout for the tests of the cohort: a noisy ellipsoid with a tumour, different in every modality."""

import os
from pathlib import Path

import numpy as np
import pytest

from drlib.cohort.nifti import write_nifti
from drlib.cohort.regions import MODALITIES

LPS = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
SHAPE = (24, 24, 12)
REAL_SAMPLES = Path(os.environ.get("DRLIB_REAL_SAMPLES", Path(__file__).parents[2] / "shared/data/brats_samples"))
needs_real_samples = pytest.mark.skipif(
    not REAL_SAMPLES.is_dir(), reason=f"no real samples at {REAL_SAMPLES}; set DRLIB_REAL_SAMPLES to a folder of BraTS patients"
)


def draw_images(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return int16 images (4, i, j, k): 0 outside an ellipsoid, positive inside."""
    position = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    brain = (position**2).sum(axis=0) < 0.8
    noise = np.random.default_rng(seed).normal(0, 30, (4, *shape))
    levels = np.array([300, 500, 700, 900])[:, None, None, None] + 100 * position[0] + 50 * position[1] + 20 * position[2]
    return (np.clip(levels + noise, 1, None) * brain).astype(np.int16)


def draw_labels(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return uint8 file labels (i, j, k): an off-centre box of ED around NET around ET (4)."""
    labels = np.zeros(shape, np.uint8)
    for margin, label in ((0, 2), (1, 1), (2, 4)):
        labels[5 + margin : 13 - margin, 9 + margin : 17 - margin, 3 + margin : 10 - margin] = label
    return labels


def write_patient(folder: Path, patient: str, *, names=None, images=None, labels=None, affine=LPS, seed: int = 0) -> Path:
    """Write the five files of a patient into ``folder`` and return it."""
    names = names or {**{modality: f"_{modality}.nii.gz" for modality in MODALITIES}, "seg": "_seg.nii.gz"}
    images = draw_images(seed) if images is None else images
    labels = draw_labels(images.shape[1:]) if labels is None else labels
    for role, voxels in zip((*MODALITIES, "seg"), (*images, labels), strict=True):
        write_nifti(folder / f"{patient}{names[role]}", voxels, affine)
    return folder
