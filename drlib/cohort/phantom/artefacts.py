"""What goes wrong between the brain and the file: thick slices, blur, bias, noise, a cut field of view, saturated voxels.

Each is drawn per patient with a modest probability (``draw_artefacts``) and then applied without further choices, wider than life on
purpose (domain randomisation: Billot et al. 2023, SynthSeg, Med Image Anal 86:102789).
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter1d

from drlib.cohort.phantom.anatomy import LATTICE_MM
from drlib.cohort.phantom.grid import Box, interpolate, smooth_noise
from drlib.cohort.regions import MODALITIES


@dataclass(frozen=True)
class ScanArtefacts:
    """What one scan of one patient suffers from."""

    gain: float
    gamma: float  # exponent on the intensities; 1 is none
    blur_mm: float  # deviation of the point-spread function
    thick_axis: int  # axis (0 left, 1 back, 2 up) of thick slices
    thick_mm: float  # 0: none
    cut_below_mm: float  # of the brain's lower end missing from the field of view
    cut_above_mm: float
    saturated: int  # voxels
    noise_factor: float


def draw_artefacts(rng: np.random.Generator) -> dict[str, ScanArtefacts]:
    """Draw the artefacts of the four scans of one patient."""
    thick = rng.choice(len(MODALITIES)) if rng.random() < 0.35 else -1
    cut = rng.choice(len(MODALITIES)) if rng.random() < 0.07 else -1
    saturated = rng.choice(len(MODALITIES)) if rng.random() < 0.05 else -1
    scans = {}
    for index, modality in enumerate(MODALITIES):
        axial_mm = float(rng.choice([0.0, 3.0, 5.0], p=[0.55, 0.25, 0.2]))
        low, high = rng.uniform(5, 22, 2)
        top = rng.random() < 0.5
        scans[modality] = ScanArtefacts(
            gain=float(np.exp(rng.normal(7.0, 0.5))),
            gamma=float(np.exp(rng.normal(0, 0.08))),
            blur_mm=float(rng.uniform(0.3, 0.9) if rng.random() < 0.9 else rng.uniform(1.0, 1.8)),
            thick_axis=int(rng.choice([0, 1, 2], p=[0.4, 0.2, 0.4])) if index == thick else 2,
            thick_mm=float(rng.uniform(4, 6)) if index == thick else axial_mm,
            cut_below_mm=float(low) if index == cut and not top else 0.0,
            cut_above_mm=float(high) if index == cut and top else 0.0,
            saturated=int(rng.integers(1, 4)) if index == saturated else 0,
            noise_factor=float(np.exp(rng.normal(0, 0.3))),
        )
    return scans


def acquire(
    image: np.ndarray,
    brain: np.ndarray,
    scan: ScanArtefacts,
    noise: float,
    bias: float,
    box: Box,
    positions: list[np.ndarray],
    spacing_mm: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Turn the ideal signal into the int16 voxels of a file, 0 outside the brain and 1 or more inside.

    Args:
        image: (i, j, k) float32 signal, about 1 in white matter.
        noise: deviation of the Gaussian noise in both channels at 1 mm voxels.
        bias: deviation of the log of the receive field.
    """
    receive = np.exp(bias * interpolate(smooth_noise(rng, box.lattice_shape(LATTICE_MM), 8.0), box, LATTICE_MM, positions))
    image = blur(image, scan.blur_mm / spacing_mm)
    image = thicken(image, scan.thick_axis, scan.thick_mm / spacing_mm)
    image = add_rician_noise(image * receive, noise * scan.noise_factor * min(1.0, spacing_mm**-0.75), rng)
    level = np.median(image[brain])
    image = (image / level) ** scan.gamma * scan.gain
    voxels = np.where(brain, np.clip(np.rint(image), 1, 32000), 0).astype(np.int16)
    saturate(voxels, brain, scan.saturated, rng)
    cut_field_of_view(voxels, brain, scan, spacing_mm)
    return voxels


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return the image seen through a Gaussian point-spread function of ``sigma`` voxels."""
    return gaussian_filter(image, sigma, truncate=3.0) if sigma > 0.25 else image


def thicken(image: np.ndarray, axis: int, voxels: float) -> np.ndarray:
    """Average over slices of ``voxels`` voxels along ``axis`` and interpolate them linearly, as scans are brought to a common grid."""
    if voxels < 1.5:
        return image
    size = image.shape[axis]
    averaged = uniform_filter1d(image, int(np.rint(voxels)), axis=axis)
    centres = np.arange(0.5 * voxels, size, voxels)
    index = np.clip((np.arange(size) - centres[0]) / voxels, 0, len(centres) - 1)
    below = np.minimum(index.astype(int), max(len(centres) - 2, 0))
    weight = (index - below).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    slices = np.take(averaged, np.minimum(np.rint(centres).astype(int), size - 1), axis=axis)
    low, high = np.take(slices, below, axis=axis), np.take(slices, np.minimum(below + 1, len(centres) - 1), axis=axis)
    return low + weight * (high - low)


def add_rician_noise(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Return the magnitude of the image with Gaussian noise in both channels (Gudbjartsson and Patz 1995, Magn Reson Med 34:910)."""
    real = image + np.float32(deviation) * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = np.float32(deviation) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.hypot(real, imaginary)


def saturate(voxels: np.ndarray, brain: np.ndarray, count: int, rng: np.random.Generator) -> None:
    """Set ``count`` brain voxels to a value far above all others, in place: what ruins a z-score."""
    if count:
        places = np.flatnonzero(brain)
        voxels.ravel()[rng.choice(places, count, replace=False)] = 32000


def cut_field_of_view(voxels: np.ndarray, brain: np.ndarray, scan: ScanArtefacts, spacing_mm: float) -> None:
    """Set what lies beyond the field of view to 0, in place."""
    heights = np.flatnonzero(brain.any(axis=(0, 1)))
    if scan.cut_below_mm:
        voxels[:, :, : heights[0] + int(np.rint(scan.cut_below_mm / spacing_mm))] = 0
    if scan.cut_above_mm:
        voxels[:, :, heights[-1] + 1 - int(np.rint(scan.cut_above_mm / spacing_mm)) :] = 0
