"""Where the voxels are: the BraTS field of view at any spacing, and smooth random fields that do not depend on the spacing.

Positions are in mm from the corner of the field of view (240 x 240 x 155 mm, axes to the left, to the back, upwards). Random fields live
on coarse lattices in these positions and are interpolated, so that one patient is the same patient at 1, 2 and 4 mm.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

FIELD_OF_VIEW_MM = (240, 240, 155)
BLOCK_MM = 4  # bounding boxes start and end on multiples of this, whatever the spacing


@dataclass(frozen=True)
class Grid:
    """Cubic voxels of ``spacing_mm`` that fill the BraTS field of view."""

    spacing_mm: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along left, posterior, superior; 240 x 240 x 155 at 1 mm."""
        x, y, z = (extent / self.spacing_mm for extent in FIELD_OF_VIEW_MM)
        return round(x), round(y), int(np.ceil(z - 1e-9))

    @property
    def affine(self) -> np.ndarray:
        """Voxel to world (RAS+ mm): that of BraTS at 1 mm, with the same corner of the field of view at other spacings."""
        offset = (self.spacing_mm - 1) / 2
        affine = np.diag([-self.spacing_mm, -self.spacing_mm, self.spacing_mm, 1.0])
        affine[:3, 3] = -offset, 239 - offset, offset
        return affine

    def positions(self, axis: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return the voxel centres along one axis, mm from the corner of the field of view."""
        return (np.arange(start, self.shape[axis] if stop is None else stop) + 0.5) * self.spacing_mm


@dataclass(frozen=True)
class Box:
    """A block of the field of view: its corner and its size, both multiples of BLOCK_MM."""

    corner_mm: tuple[int, int, int]
    size_mm: tuple[int, int, int]

    def lattice_shape(self, step_mm: int) -> tuple[int, ...]:
        """Return the number of lattice cells along each axis."""
        return tuple(size // step_mm for size in self.size_mm)

    def lattice_positions(self, step_mm: int) -> list[np.ndarray]:
        """Return the centres of the lattice cells along each axis, mm."""
        return [c + (np.arange(n) + 0.5) * step_mm for c, n in zip(self.corner_mm, self.lattice_shape(step_mm), strict=True)]

    def cells_in(self, outer: "Box", step_mm: int) -> tuple[slice, ...]:
        """Return which lattice cells of ``outer`` are those of this box."""
        starts = [(c - o) // step_mm for c, o in zip(self.corner_mm, outer.corner_mm, strict=True)]
        return tuple(slice(start, start + n) for start, n in zip(starts, self.lattice_shape(step_mm), strict=True))

    def slices(self, grid: Grid) -> tuple[slice, slice, slice]:
        """Return the voxels of ``grid`` whose centres lie in the box."""
        ranges = []
        for axis, (corner, size) in enumerate(zip(self.corner_mm, self.size_mm, strict=True)):
            inside = np.flatnonzero((grid.positions(axis) > corner) & (grid.positions(axis) < corner + size))
            ranges.append(slice(int(inside[0]), int(inside[-1]) + 1))
        return tuple(ranges)

    def voxel_positions(self, grid: Grid) -> list[np.ndarray]:
        """Return the centres along each axis of the voxels of ``grid`` in the box, mm."""
        return [grid.positions(axis)[part] for axis, part in enumerate(self.slices(grid))]


def interpolate(field: np.ndarray, box: Box, step_mm: int, positions: list[np.ndarray]) -> np.ndarray:
    """Interpolate lattice values linearly at the product of three position lists; beyond the outer cells the value stays.

    Args:
        field: (..., a, b, c) values at ``box.lattice_positions(step_mm)``.
        positions: three arrays of mm, lengths (i, j, k).

    Returns: (..., i, j, k) float32.
    """
    result = np.asarray(field, dtype=np.float32)
    for axis in range(3):
        dimension = result.ndim - 3 + axis
        count = result.shape[dimension]
        index = np.clip((positions[axis] - box.corner_mm[axis]) / step_mm - 0.5, 0, count - 1)
        below = np.minimum(index.astype(int), max(count - 2, 0))
        weight = (index - below).astype(np.float32).reshape(-1, *[1] * (2 - axis))
        low = np.take(result, below, axis=dimension)
        high = np.take(result, np.minimum(below + 1, count - 1), axis=dimension)
        high -= low
        high *= weight
        high += low
        result = high
    return result


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Return a Gaussian random field of mean 0 and deviation 1, correlated over ``sigma`` cells along the last three axes, float32."""
    field = rng.standard_normal(shape, dtype=np.float32)
    for axis in range(len(shape) - 3, len(shape)):
        field = gaussian_filter1d(field, sigma, axis=axis, mode="wrap", truncate=3.0)
    return (field - field.mean()) / field.std()


def lattice_noise(rng: np.random.Generator, box: Box, scale_mm: float, positions: list[np.ndarray], step_mm: int = 4) -> np.ndarray:
    """Return a smooth random field (mean 0, deviation about 1, blobs of about ``scale_mm``) at the product of three position lists."""
    return interpolate(smooth_noise(rng, box.lattice_shape(step_mm), scale_mm / 2 / step_mm), box, step_mm, positions)


def weighted_sum(weights: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """Return the sum of ``fields`` (n, ...) times ``weights`` (n,), always in the same order of additions, unlike a matrix library."""
    total = np.zeros(fields.shape[1:], dtype=np.float32)
    for weight, field in zip(weights, fields, strict=True):
        total += np.float32(weight) * field
    return total
