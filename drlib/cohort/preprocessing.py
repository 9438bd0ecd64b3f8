"""From volumes to the slices that the network sees, and back to the file's own grid (paper: Methods, "Image preprocessing").

Each modality is z-scored over the brain; axial slices are taken, inferior to superior, and resized to a square (images bilinear, labels
nearest). A slice is stored as (row, column) = (j, i) of the LPS volume: anterior at the top, the patient's left at the right.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from drlib.cohort.loading import READERS, from_lps
from drlib.cohort.patient import PatientVolume
from drlib.cohort.problems import BlankModality, EmptyBrain
from drlib.cohort.regions import MODALITIES
from drlib.profiles import PreprocessingSettings

ROBUST_PERCENTILES = (0.5, 99.5)
SPACING_TOLERANCE = 0.01  # slices whose distance differs by less are taken as they are
BLOCK_PLANES = 8  # of each modality are worked on at a time: what fits into a cache is not fetched from memory again and again
LARGEST_VALUE = float(np.finfo(np.float16).max)  # slices are stored as float16


@dataclass(frozen=True)
class Geometry:
    """Where slices lie in the file they were made from.

    ``file_affine`` (4, 4) and ``file_shape`` (3) are the file's; ``shape`` (i, j, k) and ``voxel_mm`` are those of the LPS volume;
    ``n_slices`` slices of ``image_size`` pixels cover it, ``spacing_mm`` apart, the first beginning at the volume's lower face. A volume
    that is not square in-plane lies in the middle of a square of ``side`` voxels.
    """

    file_affine: tuple[tuple[float, ...], ...]
    file_shape: tuple[int, int, int]
    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    image_size: int
    n_slices: int
    spacing_mm: float

    @property
    def affine(self) -> np.ndarray:
        """The file's affine (4, 4), to be written with restored volumes."""
        return np.array(self.file_affine)

    @property
    def side(self) -> int:
        """Voxels along one side of the square that becomes a slice."""
        return max(self.shape[:2])

    @property
    def padding(self) -> tuple[int, int]:
        """Voxels added before the volume along i and j to make it square."""
        return (self.side - self.shape[0]) // 2, (self.side - self.shape[1]) // 2

    @property
    def pixel_volume_mm3(self) -> float:
        """Volume that one pixel of a slice stands for."""
        return self.voxel_mm[0] * self.voxel_mm[1] * (self.side / self.image_size) ** 2 * self.spacing_mm

    def restore(self, maps: np.ndarray, order: int = 0) -> np.ndarray:
        """Return maps (slices, h, w) as a volume (i, j, k) on the file's own grid and in its own orientation.

        ``h`` and ``w`` may be any size that covers the slice, such as that of index maps. ``order`` 0 takes the nearest value and keeps the
        type (labels, code indices); 1 interpolates linearly and returns float32 (probabilities, ablation maps).
        Raises ValueError for another number of slices or another order.
        """
        if maps.ndim != 3 or len(maps) != self.n_slices:
            raise ValueError(f"maps have the shape {maps.shape}, where ({self.n_slices}, h, w) was due")
        if order not in (0, 1):
            raise ValueError(f"order is {order}, where 0 (nearest) or 1 (linear) was due")
        volume = self._nearest(maps) if order == 0 else self._linear(maps)
        return from_lps(volume.transpose(2, 1, 0), self.affine)

    def to_dict(self) -> dict[str, Any]:
        """Return the geometry as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Geometry":
        """Return the geometry that `to_dict` described."""
        rows = tuple(map(tuple, content["file_affine"]))
        return cls(**content | {"file_affine": rows} | {name: tuple(content[name]) for name in ("file_shape", "shape", "voxel_mm")})

    def _nearest(self, maps: np.ndarray) -> np.ndarray:
        at_slice = np.clip(np.floor(self._slice_positions() + 0.5).astype(int), 0, self.n_slices - 1)
        rows = _nearest_index(self.side, maps.shape[1])[self.padding[1] :][: self.shape[1]]
        columns = _nearest_index(self.side, maps.shape[2])[self.padding[0] :][: self.shape[0]]
        return maps[np.ix_(at_slice, rows, columns)]

    def _linear(self, maps: np.ndarray) -> np.ndarray:
        planes = _resize(torch.from_numpy(np.ascontiguousarray(maps, np.float32))[:, None], self.side)[:, 0].numpy()
        planes = planes[:, self.padding[1] :, self.padding[0] :][:, : self.shape[1], : self.shape[0]]
        position = np.clip(self._slice_positions(), 0, self.n_slices - 1)
        below = np.minimum(position.astype(int), max(self.n_slices - 2, 0))
        above = np.minimum(below + 1, self.n_slices - 1)
        weight = (position - below).astype(np.float32)[:, None, None]
        return planes[below] * (1 - weight) + planes[above] * weight

    def _slice_positions(self) -> np.ndarray:
        """Where the centres of the volume's planes lie, in units of slices, 0 being the centre of the first slice."""
        return (np.arange(self.shape[2]) + 0.5) * self.voxel_mm[2] / self.spacing_mm - 0.5


@dataclass(frozen=True)
class Slices:
    """Slices, inferior to superior: ``images`` float16 (S, 4, H, W), ``labels`` uint8 (S, H, W) or None."""

    images: np.ndarray
    labels: np.ndarray | None
    geometry: Geometry


def normalise(images: np.ndarray, settings: PreprocessingSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return z-scored images float32 (4, i, j, k) and the brain (i, j, k), bool: the voxels where any modality is not 0.

    Mean and deviation of each modality are those of its own voxels in the brain that are not 0 (a field of view may end inside the brain);
    for ``robust-z-score`` only of those between the 0.5th and the 99.5th percentile. Voxels outside the brain get ``settings.background``,
    or stay at -mean/deviation where it is None. Raises EmptyBrain and BlankModality.

    Source: paper, "Image preprocessing"; robust and background are ours (METHOD 2.11).
    """
    planes = images.transpose(0, 3, 2, 1)  # (4, k, j, i): in the order of memory
    brain, scales = _brain_and_scales(planes, settings)
    return _score(planes, brain, scales, settings).transpose(0, 3, 2, 1), brain.transpose(2, 1, 0)


def make_slices(volume: PatientVolume, settings: PreprocessingSettings, spacing_mm: float) -> Slices:
    """Return a patient's axial slices, ``spacing_mm`` apart and ``settings.image_size`` pixels wide and high.

    Slices closer or farther than ``spacing_mm`` (by more than 1 %) are resampled: images by area average, labels by the nearest plane. A
    volume that is not square in-plane is first surrounded by background, so that nothing is stretched. The whole field of view becomes
    the slice, whatever the pixel spacing: BraTS is 240 x 240 voxels of 1 mm.

    Raises BlankModality and EmptyBrain. Source: paper, "Image preprocessing" (1 mm, 240 -> 256); other spacings are ours.
    """
    geometry = _geometry(volume, settings.image_size, spacing_mm)
    planes = _square(volume.images, geometry).transpose(0, 3, 2, 1)
    try:
        brain, scales = _brain_and_scales(planes, settings)
    except (BlankModality, EmptyBrain) as error:
        raise error.of_patient(volume.id) from None
    images = np.empty((geometry.n_slices, len(planes), settings.image_size, settings.image_size), np.float16)
    weights = _plane_weights(geometry)
    for block in np.array_split(np.arange(geometry.n_slices), min(-(-geometry.shape[2] // BLOCK_PLANES), geometry.n_slices)):
        covered = slice(weights[block[0]].nonzero()[0][0], weights[block[-1]].nonzero()[0][-1] + 1)
        scored = _score(planes[:, covered], brain[covered], scales, settings)
        resized = _resize(_average(scored, weights[block, covered]), settings.image_size)
        images[block] = resized.clamp_(-LARGEST_VALUE, LARGEST_VALUE).to(torch.float16).transpose(0, 1).numpy()
    labels = None if volume.labels is None else _label_slices(volume.labels, geometry)
    return Slices(images, labels, geometry)


def _geometry(volume: PatientVolume, image_size: int, spacing_mm: float) -> Geometry:
    shape = volume.images.shape[1:]
    voxel_mm = np.linalg.norm(volume.affine[:3, :3], axis=0)
    resampled = abs(voxel_mm[2] / spacing_mm - 1) > SPACING_TOLERANCE
    n_slices = max(int(shape[2] * voxel_mm[2] / spacing_mm + 0.5), 1) if resampled else shape[2]
    return Geometry(
        file_affine=tuple(map(tuple, np.asarray(volume.file_affine, dtype=float).tolist())),
        file_shape=tuple(map(int, volume.file_shape)),
        shape=tuple(map(int, shape)),
        voxel_mm=tuple(voxel_mm.tolist()),
        image_size=image_size,
        n_slices=n_slices,
        spacing_mm=float(spacing_mm if resampled else voxel_mm[2]),
    )


def _brain_and_scales(planes: np.ndarray, settings: PreprocessingSettings) -> tuple[np.ndarray, list[tuple[np.float32, np.float32]]]:
    """Return the brain (k, j, i) in planes (4, k, j, i), and the mean and deviation of each modality there."""
    signal = planes != 0
    brain = signal.any(axis=0)
    if not brain.any():
        raise EmptyBrain("every voxel of every modality is 0, where a brain was due", "Export the images again")
    with ThreadPoolExecutor(READERS) as workers:  # sorting lets other threads run
        scales = list(workers.map(lambda image, inside: _mean_and_deviation(image[inside], settings.normalisation), planes, signal))
    for modality, (_, deviation) in zip(MODALITIES, scales, strict=True):
        if not deviation > 0:
            raise BlankModality(f"{modality} has the same value all over the brain", "Export it again, or leave the patient out")
    return brain, scales


def _mean_and_deviation(values: np.ndarray, normalisation: str) -> tuple[np.float32, np.float32]:
    if values.size and normalisation == "robust-z-score":
        low, high = np.percentile(values, ROBUST_PERCENTILES)
        values = values[(values >= low) & (values <= high)]
    if not values.size:
        return np.float32(0), np.float32(0)
    return np.float32(values.mean(dtype=np.float64)), np.float32(values.std(dtype=np.float64))


def _score(planes: np.ndarray, brain: np.ndarray, scales: list, settings: PreprocessingSettings) -> np.ndarray:
    """Return z-scores float32 of planes (4, k, j, i) with the background around the brain."""
    scored = np.empty(planes.shape, dtype=np.float32)
    for image, out, (mean, deviation) in zip(planes, scored, scales, strict=True):
        np.subtract(image, mean, out=out)
        np.divide(out, deviation, out=out)
        if settings.background is not None:
            np.copyto(out, np.float32(settings.background), where=~brain)
    return scored


def _square(voxels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Surround voxels (..., i, j, k) by zeros, which is what lies outside a brain, to make them square in-plane."""
    before = geometry.padding
    around = [(before[axis], geometry.side - geometry.shape[axis] - before[axis]) for axis in (0, 1)]
    return np.pad(voxels, [(0, 0)] * (voxels.ndim - 3) + around + [(0, 0)]) if any(map(any, around)) else voxels


def _plane_weights(geometry: Geometry) -> np.ndarray:
    """Return the share (S, k), float32, that each plane has in the thickness of each slice."""
    if geometry.spacing_mm == geometry.voxel_mm[2]:
        return np.eye(geometry.n_slices, dtype=np.float32)
    edges = np.arange(geometry.n_slices + 1) * geometry.spacing_mm / geometry.voxel_mm[2]
    index = np.arange(geometry.shape[2])
    overlap = np.clip(np.minimum(edges[1:, None], index + 1) - np.maximum(edges[:-1, None], index), 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def _average(planes: np.ndarray, weights: np.ndarray) -> torch.Tensor:
    """Return the weighted means (4, S, j, i) of planes (4, k, j, i) with weights (S, k)."""
    if np.array_equal(weights, np.eye(len(weights))):
        return torch.from_numpy(planes)
    averaged = torch.from_numpy(weights) @ torch.from_numpy(planes.reshape(*planes.shape[:2], -1))
    return averaged.reshape(len(planes), len(weights), *planes.shape[2:])


def _label_slices(labels: np.ndarray, geometry: Geometry) -> np.ndarray:
    centres = (np.arange(geometry.n_slices) + 0.5) * geometry.spacing_mm / geometry.voxel_mm[2]
    at_plane = np.clip(centres.astype(int), 0, geometry.shape[2] - 1)
    pixels = _nearest_index(geometry.image_size, geometry.side)
    return np.ascontiguousarray(_square(labels, geometry).transpose(2, 1, 0)[np.ix_(at_plane, pixels, pixels)])


def _nearest_index(n_out: int, n_in: int) -> np.ndarray:
    """Return, for each of ``n_out`` positions, the one of ``n_in`` whose cell covers its centre."""
    return ((np.arange(n_out) + 0.5) * n_in / n_out).astype(int)


def _resize(planes: torch.Tensor, size: int) -> torch.Tensor:
    """Resize (n, channels, h, w) to squares, bilinear; smoothed before shrinking."""
    if planes.shape[-2:] == (size, size):
        return planes
    return F.interpolate(planes, size=(size, size), mode="bilinear", antialias=size < max(planes.shape[-2:]))
