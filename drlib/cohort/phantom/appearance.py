"""What each voxel is made of once the tumour is there: fractions of the signal classes, with partial volume at every border."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from drlib.cohort.phantom.anatomy import Anatomy
from drlib.cohort.phantom.grid import Box, lattice_noise
from drlib.cohort.phantom.signal import CLASSES
from drlib.cohort.phantom.tumour import ED, ET, NET, bounding_block

SMOOTH_BORDER_MM = 0.8


@dataclass(frozen=True)
class Appearance:
    """How the compartments of one tumour look; drawn per patient."""

    oedema_strength: float  # share of oedema in an ED voxel near the core
    necrotic: float  # share of necrosis (rather than solid tumour) in NET
    bloody: float  # share of blood in NET
    cystic: float  # share of fluid in NET
    hidden_core: bool  # annotated as oedema alone, though solid tumour is there
    dura: float
    sinus: float
    vessels: float
    plexus: float
    seed: int


def draw_appearance(ring: bool, small_core: bool, rng: np.random.Generator) -> Appearance:
    """Draw the look of a tumour. ``ring``: grows as HGG; ``small_core``: nearly no NET was drawn."""
    necrotic = rng.uniform(0.55, 1.0) if ring else rng.choice([0.0, rng.uniform(0.0, 0.25), rng.uniform(0.3, 0.6)], p=[0.5, 0.35, 0.15])
    return Appearance(
        oedema_strength=float(rng.uniform(0.45, 0.95)),
        necrotic=float(necrotic),
        bloody=float(rng.uniform(0.3, 0.8)) if rng.random() < (0.12 if ring else 0.04) else 0.0,
        cystic=float(rng.uniform(0.3, 0.7)) if rng.random() < 0.12 else 0.0,
        hidden_core=bool(not ring and small_core and rng.random() < 0.6),
        dura=float(rng.uniform(0.0, 0.9)),
        sinus=float(rng.uniform(0.0, 0.8)),
        vessels=float(rng.uniform(0.3, 1.0)),
        plexus=float(rng.uniform(0.1, 0.6)),
        seed=int(rng.integers(2**62)),
    )


def class_fractions(
    anatomy: Anatomy,
    labels: np.ndarray,
    appearance: Appearance,
    box: Box,
    positions: list[np.ndarray],
    spacing_mm: float,
) -> np.ndarray:
    """Return the share of each of CLASSES in each voxel, (11, i, j, k) float32, summing to 1 in the brain."""
    rng = np.random.Generator(np.random.PCG64(appearance.seed))
    shares = np.zeros((len(CLASSES), *labels.shape), dtype=np.float32)
    shares[:3] = anatomy.tissue
    _add_dura(shares, anatomy.surface, appearance, rng, box, positions)
    _add_vessels(shares, anatomy.coordinates, appearance, rng, box, positions)
    block = bounding_block(labels > 0, margin=max(2, int(np.ceil(12 / spacing_mm))))
    inside = [p[s] for p, s in zip(positions, block, strict=True)]
    shares[(slice(None), *block)] = _with_tumour(shares[(slice(None), *block)], labels[block], appearance, rng, box, inside, spacing_mm)
    shares *= anatomy.brain
    return shares


def _with_tumour(
    shares: np.ndarray,
    labels: np.ndarray,
    appearance: Appearance,
    rng: np.random.Generator,
    box: Box,
    positions: list[np.ndarray],
    spacing_mm: float,
) -> np.ndarray:
    net, oedema, enhancing = (_soft(labels == value, spacing_mm) for value in (NET, ED, ET))
    texture = [lattice_noise(rng, box, scale, positions, step_mm=2) for scale in (5.0, 12.0, 8.0)]
    core = net + enhancing
    # Oedema is a mixture: strong at the core, fading outwards, patchy; the rest of the voxel stays what it was.
    outside = distance_transform_edt(core < 0.5).astype(np.float32) * np.float32(spacing_mm) if core.max() >= 0.5 else np.zeros_like(core)
    strength = appearance.oedema_strength * np.exp(-outside / 70) + 0.12 * texture[0]
    strength = np.clip(strength, 0.25, 1.0) * (1 - 0.35 * shares[1])
    solid_in_oedema = np.clip(0.6 + texture[1], 0, 1) * np.exp(-((outside / 18) ** 2)) if appearance.hidden_core else 0.0
    amount = {"ED": oedema * strength * (1 - solid_in_oedema), "ET": enhancing * np.clip(0.8 + 0.2 * texture[0], 0.35, 1.1)}
    necrotic = _mixed(appearance.necrotic, texture[1])
    fluid = _mixed(appearance.cystic, texture[2]) if appearance.cystic else 0.0
    blood = _mixed(appearance.bloody, texture[1] - 0.4 * texture[2]) if appearance.bloody else 0.0
    rest = enhancing - amount["ET"]
    amount["BLOOD"] = net * blood
    amount["CSF"] = net * (1 - blood) * fluid * 0.8
    amount["NECROSIS"] = (net - amount["BLOOD"] - amount["CSF"]) * necrotic
    amount["SOLID"] = net - amount["BLOOD"] - amount["CSF"] - amount["NECROSIS"] + rest + oedema * strength * solid_in_oedema
    result = shares * (1 - sum(amount.values()))
    for name, share in amount.items():
        result[CLASSES.index(name)] += share
    return result


def _mixed(share: float, texture: np.ndarray) -> np.ndarray:
    """Return a patchy field between 0 and 1 of mean about ``share``."""
    return np.clip(share + 0.5 * share * (1 - share) * 2.5 * texture, 0, 1)


def _soft(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    return gaussian_filter(mask.astype(np.float32), max(0.35, SMOOTH_BORDER_MM / spacing_mm), truncate=3.0)


def _add_dura(
    shares: np.ndarray, surface: np.ndarray, appearance: Appearance, rng: np.random.Generator, box: Box, positions: list[np.ndarray]
) -> None:
    """Skull stripping leaves a patchy dark rim of dura and bone."""
    dura = appearance.dura * surface * np.clip(0.5 + 0.6 * lattice_noise(rng, box, 14.0, positions), 0, 1)
    shares[:3] *= 1 - dura
    shares[CLASSES.index("DURA")] = dura


def _add_vessels(
    shares: np.ndarray, coordinates: np.ndarray, appearance: Appearance, rng: np.random.Generator, box: Box, positions: list[np.ndarray]
) -> None:
    """Vessels run where two random fields are both near zero (curves), in the sulci; the sinus at the midline; plexus in the ventricles."""
    first, second = lattice_noise(rng, box, 16.0, positions), lattice_noise(rng, box, 16.0, positions)
    curves = np.exp(-(first**2 + second**2) / 0.02) * np.clip(3 * shares[2] + 0.6 * shares[1], 0, 1)
    across, front, up = coordinates
    superficial = up > 100
    sinus = np.exp(-(((across - 98) / 2.0) ** 2)) * np.clip(2 * shares[2], 0, 1) * superficial * (front < 150)
    vessel = appearance.vessels * np.clip(0.8 * curves + appearance.sinus * sinus, 0, 0.9)
    ventricles = (np.abs(across - 98) < 32) & (front > 72) & (front < 125) & (up > 70) & (up < 100) & (np.abs(across - 98) > 4)
    plexus = appearance.plexus * shares[2] * ventricles * (lattice_noise(rng, box, 6.0, positions) > 1.0)
    shares *= 1 - vessel - plexus * (1 - vessel)
    shares[CLASSES.index("VESSEL")] = vessel
    shares[CLASSES.index("PLEXUS")] = plexus * (1 - vessel)
