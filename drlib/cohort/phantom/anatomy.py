"""A healthy head per patient: tissue fractions from the ICBM152 template, bent into an individual.

The 1 mm ICBM152 2009a T1, grey- and white-matter maps come inside the ``nilearn`` package (no download); CSF is what is left of the
brain. Source: ours (METHOD 4); template: Fonov et al. 2009, NeuroImage 47:S102, and Fonov et al. 2011, NeuroImage 54:313.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from drlib.cohort.phantom.grid import BLOCK_MM, FIELD_OF_VIEW_MM, Box, interpolate, lattice_noise, smooth_noise, weighted_sum

TISSUES = ("WM", "GM", "CSF")
WHOLE = Box((0, 0, 0), (240, 240, 156))
TEMPLATE_CENTRE = np.array([98.0, 116.5, 79.0])  # template voxel in the middle of the brain; axes right, front, up
CENTRE_MM = np.array([119.0, 126.0, 75.0])  # where that voxel comes to lie: measured on BraTS patients
T1_OF_GREY, T1_OF_CSF = 0.64, 0.44  # intensities of the T1 template (its maximum is 1)
BENDING_BOX, BENDING_MM = Box((0, 0, 0), (240, 240, 160)), 16
LATTICE_MM = 4  # of displacements and of the arrival times


@dataclass(frozen=True)
class Shape:
    """What makes one head differ from another; drawn per patient."""

    scale: tuple[float, float, float]
    rotation_degrees: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    flipped: bool
    bending_mm: float
    atrophy: float  # added to the log-odds of CSF
    sharpness: float  # exponent on the tissue probabilities: the template is an average and therefore blurred
    rind_mm: float  # how far outside the template's brain surface the skull stripping cuts


@dataclass(frozen=True)
class Push:
    """Mass effect: a ball of ``radius_mm`` of new tissue at ``centre_mm`` that displaces the brain outwards."""

    centre_mm: tuple[float, float, float]
    radius_mm: float
    reach_mm: float = 45.0


@dataclass(frozen=True)
class Anatomy:
    """Healthy tissue at the product of three position lists."""

    tissue: np.ndarray  # (3, i, j, k) fractions in the order of TISSUES, 0 outside the brain
    brain: np.ndarray  # (i, j, k) boolean: what skull stripping leaves
    surface: np.ndarray  # (i, j, k) 1 at the cut of the skull stripping, 0 from about 1.5 mm below
    coordinates: np.ndarray  # (3, i, j, k) template voxels


def draw_shape(rng: np.random.Generator) -> Shape:
    """Draw one patient's head: scale .86-.97, a few degrees, smooth bending, flip."""
    size = rng.uniform(0.87, 0.95)
    return Shape(
        scale=tuple(np.clip(size * rng.uniform(0.97, 1.03, 3), 0.86, 0.97).tolist()),
        rotation_degrees=tuple(rng.normal(0, 2.5, 3).clip(-6, 6).tolist()),
        shift_mm=tuple(rng.normal(0, 1.5, 3).tolist()),
        flipped=bool(rng.random() < 0.5),
        bending_mm=float(rng.uniform(1.5, 3.5)),
        atrophy=float(rng.normal(-0.1, 0.45)),
        sharpness=float(rng.uniform(1.6, 2.6)),
        rind_mm=float(rng.normal(0.3, 0.9)),
    )


@lru_cache(maxsize=4)
def template_fractions(spacing_mm: float) -> tuple[np.ndarray, ...]:
    """Return CSF, WM and brain maps of the template, float32, blurred as voxels of ``spacing_mm`` would see them.

    Every ``template_step(spacing_mm)``-th voxel of the 1 mm template (197, 233, 189) is kept, so that coarse maps stay in the cache.
    """
    if spacing_mm <= 1:
        return _template_maps()
    step = template_step(spacing_mm)
    blurred = (gaussian_filter(m, 0.35 * spacing_mm, truncate=3.0) for m in _template_maps())
    return tuple(np.ascontiguousarray(m[::step, ::step, ::step]) for m in blurred)


def template_step(spacing_mm: float) -> int:
    """Return the millimetres between the voxels of ``template_fractions``."""
    return 2 if spacing_mm >= 3 else 1


@lru_cache(maxsize=1)
def _template_maps() -> tuple[np.ndarray, ...]:
    """Return CSF, WM and brain maps at 1 mm.

    The grey-matter map of the average brain covers the sulci; where the T1 template is darker than grey matter there is CSF.
    """
    from nilearn import datasets  # takes two seconds to import; only the workers that draw need it

    loaders = (
        datasets.load_mni152_gm_template,
        datasets.load_mni152_wm_template,
        datasets.load_mni152_brain_mask,
        datasets.load_mni152_template,
    )
    grey, white, inside, t1 = (load(resolution=1).get_fdata(caching="unchanged", dtype=np.float32) for load in loaders)
    csf = np.maximum(1 - grey - white, (T1_OF_GREY - t1) / (T1_OF_GREY - T1_OF_CSF))
    return csf.clip(0, 1), white, gaussian_filter(inside, 2.0, truncate=3.0)


class Head:
    """One patient's anatomy, to be sampled at any positions."""

    def __init__(self, shape: Shape, rng: np.random.Generator, push: Push | None = None):
        """Args: rng: draws the bending and the folding; the same generator state gives the same head with and without ``push``."""
        self.shape = shape
        bending = shape.bending_mm * smooth_noise(rng, (3, *BENDING_BOX.lattice_shape(BENDING_MM)), 1.75)
        self._bending = interpolate(bending, BENDING_BOX, BENDING_MM, WHOLE.lattice_positions(LATTICE_MM))
        self._folding_seed = rng.integers(2**63)
        self._push = push

    def pushed(self, push: Push) -> "Head":
        """Return the same head with a mass in it."""
        other = object.__new__(Head)
        other.__dict__ = self.__dict__ | {"_push": push}
        return other

    def template_coordinates(self, box: Box, positions: list[np.ndarray]) -> np.ndarray:
        """Return (3, i, j, k): the template voxel that each position shows."""
        lattice = np.stack(np.meshgrid(*box.lattice_positions(LATTICE_MM), indexing="ij")).astype(np.float32)
        if self._push is None:
            unbent = lattice + self._bending[(slice(None), *box.cells_in(WHOLE, LATTICE_MM))]
        else:
            before = undo_push(lattice, self._push)
            unbent = before + [map_coordinates(b, before / LATTICE_MM - 0.5, np.float32, order=1, mode="nearest") for b in self._bending]
        return interpolate(self._to_template(unbent), box, LATTICE_MM, positions)

    def bounding_box(self) -> Box:
        """Return the smallest block that holds the brain with a margin."""
        coordinates = self.template_coordinates(WHOLE, WHOLE.lattice_positions(LATTICE_MM)) / template_step(4.0)
        brain = map_coordinates(template_fractions(4.0)[2], coordinates, order=1) > 0.2
        corner, size = [], []
        for axis in range(3):
            where = np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))
            limit = -(-FIELD_OF_VIEW_MM[axis] // BLOCK_MM)
            low, high = max(int(where[0]) - 1, 0), min(int(where[-1]) + 2, limit)
            corner.append(low * LATTICE_MM)
            size.append((high - low) * LATTICE_MM)
        return Box(tuple(corner), tuple(size))

    def sample(self, box: Box, positions: list[np.ndarray], spacing_mm: float) -> "Anatomy":
        """Return what lies at ``positions``, as voxels of ``spacing_mm`` see it."""
        coordinates = self.template_coordinates(box, positions)
        csf_map, white_map, inside_map = template_fractions(spacing_mm)
        scaled = coordinates / template_step(spacing_mm)
        inside = map_coordinates(inside_map, scaled, order=1)
        cut = np.clip(0.5 - 0.2 * self.shape.rind_mm, 0.15, 0.95)
        brain = inside > cut
        tissue = np.zeros((3, *brain.shape), dtype=np.float32)
        where = scaled[:, brain]
        tissue[0][brain] = map_coordinates(white_map, where, order=1)
        tissue[2][brain] = map_coordinates(csf_map, where, order=1)
        np.maximum(1 - tissue[0] - tissue[2], 0, out=tissue[1])
        rng = np.random.Generator(np.random.PCG64(self._folding_seed))
        folding = [lattice_noise(rng, box, 5.0, positions, step_mm=2), lattice_noise(rng, box, 6.0, positions, step_mm=2)]
        tissue[0] *= np.exp(0.25 * folding[0])
        tissue[2] *= np.exp(self.shape.atrophy + 0.45 * folding[1])
        np.maximum(tissue, 1e-4, out=tissue)
        np.power(tissue, self.shape.sharpness, out=tissue)
        tissue /= tissue.sum(0)
        tissue *= brain
        return Anatomy(tissue, brain, np.clip(1 - (inside - cut) / 0.25, 0, 1) * brain, coordinates)

    def _to_template(self, position: np.ndarray) -> np.ndarray:
        """Map unbent positions (3, ...) in mm to template voxels by the affine."""
        centre = (CENTRE_MM + np.array(self.shape.shift_mm)).astype(np.float32)
        shifted = position - centre.reshape(3, *[1] * (position.ndim - 1))
        template = np.stack([weighted_sum(row, shifted) for row in _affine(self.shape)])
        return (template + TEMPLATE_CENTRE.reshape(3, *[1] * (position.ndim - 1))).astype(np.float32)


def undo_push(position: np.ndarray, push: Push) -> np.ndarray:
    """Return where tissue now at ``position`` (3, ...) was before the mass: volume is kept near the mass, far away nothing moves."""
    centre = np.array(push.centre_mm, dtype=np.float32).reshape(3, *[1] * (position.ndim - 1))
    offset = position - centre
    distance = np.sqrt((offset**2).sum(0)) + 1e-3
    before = np.cbrt(np.maximum(distance**3 - push.radius_mm**3, 0.0))
    moved = (distance - before) * np.exp(-((distance / push.reach_mm) ** 2))
    return (centre + offset * (1 - moved / distance)).astype(np.float32)


def _affine(shape: Shape) -> np.ndarray:
    """Return (3, 3): millimetres to the left, back and up -> template voxels to the right, front and up."""
    a, b, c = np.deg2rad(shape.rotation_degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    axes = np.diag([1.0 if shape.flipped else -1.0, -1.0, 1.0])
    return axes @ np.diag(1 / np.array(shape.scale)) @ about_x @ about_y @ about_z
