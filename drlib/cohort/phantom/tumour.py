"""A glioma grown in one head: labels with exactly the drawn volumes.

Arrival times from a seed in deep white matter (fast along white matter, slow in grey matter, hardly at all in CSF; roughened by a smooth
random field); each compartment is the first voxels that are reached, until its volume is met. High-grade: a necrotic core (NET) inside
an enhancing ring (ET) inside oedema (ED). Low-grade: a solid core (NET) with no or nodular enhancement. Source: ours (METHOD 4).
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects, label

from drlib.cohort.phantom.anatomy import LATTICE_MM
from drlib.cohort.phantom.grid import Box, interpolate, lattice_noise, smooth_noise, weighted_sum
from drlib.errors import DeepRadiomicsError

NET, ED, ET = 1, 2, 3
SLOWNESS = np.array([1.0, 2.0, 9.0], dtype=np.float32)  # of growth in WM, GM, CSF
NEIGHBOURS = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) > (0, 0, 0)])


class DoesNotFit(DeepRadiomicsError):
    """The drawn tumour is larger than the tissue that can be reached from its seed."""


@dataclass(frozen=True)
class Growth:
    """How one tumour grows; drawn per patient."""

    ring: bool  # enhancement surrounds the core (as in HGG) instead of lying in nodules within it (as in LGG)
    roughness: float  # log deviation of the growth speed
    infiltration: float  # 0: the core is round; 1: it follows the white matter
    fringe: float  # raggedness of the borders
    ring_unevenness: float
    seed: int


def draw_growth(ring: bool, rng: np.random.Generator) -> Growth:
    """Draw how a tumour grows."""
    low, high = (0.15, 0.5) if ring else (0.3, 0.8)
    return Growth(
        ring=ring,
        roughness=float(rng.uniform(0.2, 0.5)),
        infiltration=float(rng.uniform(low, high)),
        fringe=float(rng.uniform(0.6, 1.6)),
        ring_unevenness=float(rng.uniform(0.25, 0.7)),
        seed=int(rng.integers(2**62)),
    )


def choose_seed_mm(
    tissue: np.ndarray, height: np.ndarray, box: Box, radius_mm: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Choose where the tumour starts: white matter, deeper for larger cores, above the brain stem and cerebellum.

    Args:
        tissue: (3, a, b, c) fractions on the lattice of ``box``.
        height: (a, b, c) template voxel index upwards.
    """
    depth = LATTICE_MM * distance_transform_edt(tissue.sum(0) > 0.5)
    weight = np.clip(tissue[0] - 0.4, 0, None) * (height > 58) * (depth > 6 + 0.45 * radius_mm) * (depth < 45)
    chance = np.cumsum(weight.ravel(), dtype=np.float64)
    chosen = np.searchsorted(chance, rng.random() * chance[-1], side="right")
    index = np.unravel_index(min(chosen, weight.size - 1), weight.shape)
    return tuple(float(p[i]) for p, i in zip(box.lattice_positions(LATTICE_MM), index, strict=True))


def arrival_times(slowness: np.ndarray, sources: np.ndarray, step_mm: float) -> np.ndarray:
    """Return the travel time from the nearest source to each lattice cell along the fastest 26-connected path.

    Args:
        slowness: (a, b, c) seconds per mm, infinite where nothing passes.
        sources: (a, b, c) boolean.
    """
    time = np.where(sources, 0.0, np.inf).astype(np.float32)
    pairs = []
    for offset in NEIGHBOURS:
        here = tuple(slice(max(0, -o), min(n, n - o)) for o, n in zip(offset, time.shape, strict=True))
        there = tuple(slice(max(0, o), min(n, n + o)) for o, n in zip(offset, time.shape, strict=True))
        pairs.append((here, there, (0.5 * step_mm * np.sqrt((offset**2).sum()) * (slowness[here] + slowness[there])).astype(np.float32)))
    while True:
        before = time.copy()
        for here, there, cost in pairs:
            np.minimum(time[there], time[here] + cost, out=time[there])
            np.minimum(time[here], time[there] + cost, out=time[here])
        if np.array_equal(before, time):
            return time


def grow(
    growth: Growth,
    counts: tuple[int, int, int],
    tissue: np.ndarray,
    coarse_tissue: np.ndarray,
    box: Box,
    positions: list[np.ndarray],
    centre_mm: tuple[float, float, float],
    spacing_mm: float,
) -> np.ndarray:
    """Return labels (i, j, k) uint8 with exactly ``counts`` voxels of NET, ED and ET.

    Args:
        tissue: (3, i, j, k) fractions of WM, GM, CSF at ``positions``.
        coarse_tissue: the same on the lattice of ``box``.

    Raises DoesNotFit if there is not enough tissue around ``centre_mm``.
    """
    rng = np.random.Generator(np.random.PCG64(growth.seed))
    n_net, n_ed, n_et = counts
    slowness = weighted_sum(SLOWNESS, coarse_tissue) * np.exp(growth.roughness * smooth_noise(rng, coarse_tissue.shape[1:], 2.0))
    slowness[coarse_tissue.sum(0) < 0.3] = np.inf
    allowed = (tissue[2] < 0.55) & (tissue.sum(0) > 0.5)
    fringe = 1.3 * lattice_noise(rng, box, 8.0, positions) + 0.7 * lattice_noise(rng, box, 4.5, positions, step_mm=2)
    local = (2.0 * tissue[1] + 8.0 * tissue[2] + growth.fringe * fringe).astype(np.float32)

    seed_cell = np.zeros(slowness.shape, dtype=bool)
    seed_cell[tuple(int((p - c) // LATTICE_MM) for p, c in zip(centre_mm, box.corner_mm, strict=True))] = True
    core_time = _core_time(growth, slowness, seed_cell, box, positions, centre_mm, rng) + 0.7 * local
    core = first_voxels(core_time, allowed, n_net + n_et)

    sources = _cells_holding(core, box, positions) | seed_cell
    oedema_time = _finite(interpolate(_capped(arrival_times(slowness, sources, LATTICE_MM)), box, LATTICE_MM, positions)) + local
    whole = first_voxels(np.where(core, -np.inf, oedema_time), allowed | core, n_net + n_ed + n_et)

    labels = np.zeros(core.shape, dtype=np.uint8)
    labels[whole] = ED
    labels[core] = NET
    if n_et:
        part = bounding_block(core, margin=2)
        score = _ring_score if growth.ring else _nodule_score
        labels[part][
            first_voxels(
                score(growth, core[part], spacing_mm, box, [p[s] for p, s in zip(positions, part, strict=True)], rng),
                core[part],
                n_et,
                tidy=False,
            )
        ] = ET
    return labels


def first_voxels(time: np.ndarray, allowed: np.ndarray, count: int, tidy: bool = True) -> np.ndarray:
    """Return the mask of the ``count`` allowed voxels that are reached first (ties: in array order).

    ``tidy`` moves voxels from detached islands to the main part where that is possible.
    Raises DoesNotFit where fewer voxels can be reached.
    """
    chosen = _first(time, allowed, count)
    for _ in range(4 if tidy and count else 0):
        part = bounding_block(chosen, margin=1)
        parts, n_parts = label(chosen[part], structure=np.ones((3, 3, 3)))
        if n_parts == 1:
            break
        main = np.argmax(np.bincount(parts.ravel())[1:]) + 1
        refused = allowed.copy()
        refused[part] &= ~((parts > 0) & (parts != main))
        if np.isfinite(time[refused]).sum() + np.isneginf(time[refused]).sum() < count:
            break
        allowed = refused
        chosen = _first(time, allowed, count)
    return chosen


def _first(time: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    candidates = np.flatnonzero(allowed & (time < np.inf))
    if len(candidates) < count:
        raise DoesNotFit(f"{count} voxels are wanted, {len(candidates)} can be reached")
    chosen = np.zeros(time.size, dtype=bool)
    if count:
        times = time.ravel()[candidates]
        limit = np.partition(times, count - 1)[count - 1]
        chosen[candidates[times < limit]] = True
        ties = candidates[times == limit]
        chosen[ties[: count - int(chosen.sum())]] = True
    return chosen.reshape(time.shape)


def _core_time(
    growth: Growth,
    slowness: np.ndarray,
    seed_cell: np.ndarray,
    box: Box,
    positions: list[np.ndarray],
    centre_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Between a rough ellipsoid (infiltration 0) and growth along the white matter (1)."""
    stretch = np.exp(0.18 * rng.standard_normal(3))
    squares = [((p - c) / s).astype(np.float32) ** 2 for p, c, s in zip(positions, centre_mm, stretch, strict=True)]
    ball = np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])
    ball *= np.exp(0.5 * growth.roughness * lattice_noise(rng, box, 24.0, positions))
    along = _finite(interpolate(_capped(arrival_times(slowness, seed_cell, LATTICE_MM)), box, LATTICE_MM, positions))
    return (1 - growth.infiltration) * ball + growth.infiltration * 0.8 * along


def _ring_score(
    growth: Growth, core: np.ndarray, spacing_mm: float, box: Box, positions: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Depth below the surface of the core, in units of the local thickness of the ring."""
    depth = (distance_transform_edt(core) * spacing_mm).astype(np.float32)
    thickness = np.exp(growth.ring_unevenness * lattice_noise(rng, box, 18.0, positions))
    ragged = lattice_noise(rng, box, 8.0, positions) + 0.6 * lattice_noise(rng, box, 4.5, positions, step_mm=2)
    return (depth + 0.8 * growth.fringe * ragged) / thickness


def _nodule_score(
    growth: Growth, core: np.ndarray, spacing_mm: float, box: Box, positions: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Distance to one to three foci in the core, roughened."""
    inside = np.argwhere(core)
    foci = inside[rng.integers(len(inside), size=rng.integers(1, 4))]
    distances = []
    for focus in foci:
        squares = [(p - p[f]).astype(np.float32) ** 2 for p, f in zip(positions, focus, strict=True)]
        distances.append(
            np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :]) * np.exp(0.4 * rng.standard_normal())
        )
    return np.min(distances, axis=0) + 2.5 * growth.fringe * lattice_noise(rng, box, 8.0, positions)


def _capped(time: np.ndarray) -> np.ndarray:
    """Replace what is never reached by a time later than all others, so that it can be interpolated."""
    reached = np.isfinite(time)
    return np.where(reached, time, 1.5 * time[reached].max() + 50)


def _finite(time: np.ndarray) -> np.ndarray:
    return np.asarray(time, dtype=np.float32)


def _cells_holding(mask: np.ndarray, box: Box, positions: list[np.ndarray]) -> np.ndarray:
    """Return the lattice cells that hold at least one voxel of ``mask``."""
    cells = np.zeros(box.lattice_shape(LATTICE_MM), dtype=bool)
    index = [((p[i] - c) // LATTICE_MM).astype(int) for p, i, c in zip(positions, np.nonzero(mask), box.corner_mm, strict=True)]
    cells[tuple(index)] = True
    return cells


def bounding_block(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """Return the slices of the smallest block around ``mask``, widened by ``margin`` voxels."""
    block = find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(block, mask.shape, strict=True))
