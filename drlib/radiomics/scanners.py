"""What scanners do to the same patient: other coils, noise, gains, contrasts, slice thickness and resolution, a scan that was not made.

All of this happens before z-scoring, so it is done to the volumes as they are in the files, which then go through the same
preprocessing as every other scan: what z-scoring takes out again is taken out here too. Voxels outside the brain are 0 in the files
(skull-stripped) and stay so; blur and thick slices mix voxels of the brain with one another only, as if the skull were removed after.

Source: ours. The paper scales and shifts z-scored pixels, which no scanner does, and names scanners as a limitation.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d

from drlib.cohort.brats import Patient, PatientVolume, load_patient
from drlib.cohort.preprocessing import make_slices
from drlib.cohort.regions import MODALITIES
from drlib.cohort.slices import SliceStore
from drlib.profiles import PreprocessingSettings
from drlib.radiomics.robustness import CLEAN, PerturbedCohort, gather_patients, measure_patient
from drlib.seeds import generator
from drlib.segmentation.model import TrainedModel

FIELD_ORDERS = 3  # cosines of 0, 1 and 2 half waves across the volume along each axis: what a receive coil can vary by
FWHM = 2 * np.sqrt(2 * np.log(2))  # of a Gaussian, in standard deviations


@dataclass(frozen=True)
class ScannerChange(ABC):
    """Something a scanner does. ``kind`` is its name, ``magnitude`` how much, in the unit of the kind; magnitude 0 changes nothing."""

    magnitude: float
    kind: ClassVar[str]
    unit: ClassVar[str]

    @property
    def level(self) -> str:
        """The magnitude in words, for a table or the axis of a figure."""
        return f"{self.magnitude:g} {self.unit}".strip()

    @abstractmethod
    def on_volume(self, images: np.ndarray, voxel_mm: Sequence[float], random: np.random.Generator) -> np.ndarray:
        """Return raw volumes (4, i, j, k) of the same brain (what is 0 stays 0, nothing else becomes 0), changed."""

    def on_slices(self, images: np.ndarray, background: np.ndarray) -> np.ndarray:
        """Return z-scored slices (S, 4, H, W), changed; ``background`` (4) is the value outside the brain."""
        return images


class BiasField(ScannerChange):
    """A smooth receive field over the head, the same in all four scans: its logarithm has mean 0 and SD ``magnitude`` over the brain.

    A sum of cosines of at most two half waves along each axis with normal coefficients.
    """

    kind, unit = "bias field", "log SD"

    def on_volume(self, images: np.ndarray, voxel_mm: Sequence[float], random: np.random.Generator) -> np.ndarray:
        """See :class:`ScannerChange`."""
        field = cosine_field(images.shape[1:], random)
        inside = field[(images != 0).any(axis=0)]
        return images * np.exp(self.magnitude * (field - inside.mean()) / inside.std()).astype(np.float32)


class RicianNoise(ScannerChange):
    """Gaussian noise in both channels before the magnitude is taken; its SD is ``magnitude`` % of each scan's mean over the brain.

    Source: Gudbjartsson and Patz 1995, Magn Reson Med 34:910.
    """

    kind, unit = "noise", "%"

    def on_volume(self, images: np.ndarray, voxel_mm: Sequence[float], random: np.random.Generator) -> np.ndarray:
        """See :class:`ScannerChange`."""
        changed = images.copy()
        for image, out in zip(images, changed, strict=True):
            signal = image[image != 0]
            real, imaginary = np.float32(self.magnitude / 100 * signal.mean()) * random.standard_normal((2, signal.size), dtype=np.float32)
            out[image != 0] = np.hypot(signal + real, imaginary)
        return changed


class Gain(ScannerChange):
    """Another gain for each scan, as files have no unit: a factor whose logarithm is normal with SD ``magnitude``."""

    kind, unit = "gain of each scan", "log SD"

    def on_volume(self, images: np.ndarray, voxel_mm: Sequence[float], random: np.random.Generator) -> np.ndarray:
        """See :class:`ScannerChange`."""
        factors = np.exp(self.magnitude * random.standard_normal(len(images))).astype(np.float32)
        return images * factors[:, None, None, None]


class Contrast(ScannerChange):
    """Another transfer curve: m (x / m) ** (1 + ``magnitude``), m the median of the brain; stands for other echo and repetition times."""

    kind, unit = "contrast", ""

    @property
    def level(self) -> str:
        """Return the exponent, for example ``gamma 1.5``."""
        return f"gamma {1 + self.magnitude:g}"

    def on_volume(self, images: np.ndarray, voxel_mm: Sequence[float], random: np.random.Generator) -> np.ndarray:
        """See :class:`ScannerChange`."""
        changed = images.copy()
        for image, out in zip(images, changed, strict=True):
            signal = image[image != 0]
            middle = np.median(np.abs(signal))
            out[image != 0] = np.sign(signal) * (np.abs(signal) / middle) ** np.float32(1 + self.magnitude) * middle
        return changed


class ThickSlices(ScannerChange):
    """Axial slices of ``magnitude`` mm, brought back to the grid of the file by linear interpolation; thinner than a voxel: no change."""

    kind, unit = "slice thickness", "mm"

    def on_volume(self, images: np.ndarray, voxel_mm: Sequence[float], random: np.random.Generator) -> np.ndarray:
        """See :class:`ScannerChange`."""
        if self.magnitude <= voxel_mm[2]:
            return images
        weights = thick_slice_weights(images.shape[3], self.magnitude / voxel_mm[2]).T
        return within_brain(images, lambda volume: volume @ weights)


class Blur(ScannerChange):
    """A lower resolution in the plane: a Gaussian point-spread function of ``magnitude`` mm full width at half maximum."""

    kind, unit = "blur in the plane", "mm"

    def on_volume(self, images: np.ndarray, voxel_mm: Sequence[float], random: np.random.Generator) -> np.ndarray:
        """See :class:`ScannerChange`."""
        sigma = [self.magnitude / FWHM / voxel_mm[axis] for axis in (0, 1)]
        return within_brain(
            images, lambda volume: gaussian_filter1d(gaussian_filter1d(volume, sigma[0], 1, truncate=3), sigma[1], 2, truncate=3)
        )


@dataclass(frozen=True)
class MissingModality(ScannerChange):
    """A scan that was not made: the slices of ``modality`` hold the value outside the brain everywhere."""

    modality: str = MODALITIES[0]
    unit: ClassVar[str] = ""

    @property
    def kind(self) -> str:
        """Return for example ``no t1ce``."""
        return f"no {self.modality}"

    @property
    def level(self) -> str:
        """Return nothing: a scan is there or not."""
        return ""

    def on_volume(self, images: np.ndarray, voxel_mm: Sequence[float], random: np.random.Generator) -> np.ndarray:
        """Return the volumes as they are: what was not made cannot be z-scored."""
        return images

    def on_slices(self, images: np.ndarray, background: np.ndarray) -> np.ndarray:
        """See :class:`ScannerChange`."""
        channel = MODALITIES.index(self.modality)
        images = images.copy()
        images[:, channel] = background[channel]
        return images


SCANNER_CHANGES: tuple[ScannerChange, ...] = (
    *(BiasField(magnitude) for magnitude in (0.1, 0.2, 0.4)),
    *(RicianNoise(magnitude) for magnitude in (2, 5, 10)),
    Gain(0.5),
    *(Contrast(magnitude) for magnitude in (0.25, 0.5)),
    *(ThickSlices(magnitude) for magnitude in (3, 5)),
    *(Blur(magnitude) for magnitude in (2, 4)),
    *(MissingModality(1, modality) for modality in MODALITIES),
)


def cosine_field(shape: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """Return a smooth field (i, j, k): products of cosines of 0, 1 or 2 half waves per axis, not the constant, with normal coefficients."""
    coefficients = random.standard_normal((FIELD_ORDERS,) * 3)
    coefficients[0, 0, 0] = 0
    waves = [np.cos(np.pi * np.arange(FIELD_ORDERS)[:, None] * (np.arange(n) + 0.5) / n) for n in shape]
    return np.einsum("pqr,pi,qj,rk->ijk", coefficients, *waves, optimize=True)


def thick_slice_weights(n_planes: int, thickness: float) -> np.ndarray:
    """Return the weights (n_planes, n_planes) of planes in planes read from slices ``thickness`` planes thick, interpolated linearly."""
    n_slices = max(int(np.ceil(n_planes / thickness - 1e-9)), 1)
    edges = np.arange(n_slices + 1) * thickness
    index = np.arange(n_planes)
    averaging = np.clip(np.minimum(edges[1:, None], index + 1) - np.maximum(edges[:-1, None], index), 0, None)
    averaging = averaging / averaging.sum(axis=1, keepdims=True)
    position = np.clip((index + 0.5) / thickness - 0.5, 0, n_slices - 1)
    interpolation = np.clip(1 - np.abs(position[:, None] - np.arange(n_slices)), 0, None)
    return (interpolation @ averaging).astype(np.float32)


def within_brain(images: np.ndarray, smooth: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return volumes (4, i, j, k) smoothed by the linear ``smooth`` over the voxels alone that are not 0: they weigh more at the border."""
    inside = images != 0
    smoothed = smooth(images)
    weight = smooth(inside.astype(np.float32))
    return np.where(inside, smoothed / np.maximum(weight, np.float32(1e-6)), 0).astype(np.float32)


def change_slices(
    volume: PatientVolume, change: ScannerChange | None, settings: PreprocessingSettings, spacing_mm: float, seed: int
) -> np.ndarray:
    """Return a patient's slices (S, 4, H, W), float16, scanned with ``change`` (None: as the files are) and preprocessed as all others.

    Draws depend on ``seed``, the patient and the kind of change, not on the magnitude: a stronger change is more of the same.
    """
    if change is None or change.magnitude == 0:
        return make_slices(volume, settings, spacing_mm).images
    voxel_mm = np.linalg.norm(volume.affine[:3, :3], axis=0)
    changed = change.on_volume(volume.images, voxel_mm, generator(seed, "scanner", change.kind, volume.id))
    images = make_slices(replace(volume, images=changed), settings, spacing_mm).images
    return change.on_slices(images, images[0, :, 0, 0])


def choose_patients(grades: pd.Series, n: int, seed: int) -> list[str]:
    """Return ``n`` patients (all, where there are fewer) with the grades in the proportion of ``grades``, in its order."""
    if n >= len(grades):
        return list(grades.index)
    shares = (grades.value_counts().sort_index() * n / len(grades)).round().astype(int)
    chosen = {
        patient
        for grade, share in shares.items()
        for patient in generator(seed, "scanned", grade).permutation(grades.index[grades == grade])[:share]
    }
    return [patient for patient in grades.index if patient in chosen]


def scan_again(
    model: TrainedModel,
    store: SliceStore,
    patients: Sequence[Patient],
    changes: Sequence[ScannerChange] = SCANNER_CHANGES,
    *,
    seed: int = 0,
    every: int = 1,
    n_jobs: int = 1,
    progress: bool = False,
) -> PerturbedCohort:
    """Scan ``patients`` again with every change, from their files, and compare with the scan as it is (``CLEAN``).

    Slices are made as those of ``store``; ``every``: take every so-manieth only. ``n_jobs`` processes share the patients.
    """
    patients = [replace(patient, segmentation=None) for patient in patients]
    shared = (model, store.preprocessing, store.spacing_mm, tuple(changes), every, seed)
    return gather_patients(_scan_patient, patients, shared, (CLEAN, *changes), n_jobs, "scanned again" if progress else None)


def _scan_patient(
    patient: Patient,
    model: TrainedModel,
    settings: PreprocessingSettings,
    spacing_mm: float,
    changes: Sequence[ScannerChange],
    every: int,
    seed: int,
) -> tuple[list[np.ndarray], list[list[dict]]]:
    volume = load_patient(patient)
    versions = (change_slices(volume, change, settings, spacing_mm, seed)[::every] for change in (None, *changes))
    return measure_patient(model, ((images, None) for images in versions))
