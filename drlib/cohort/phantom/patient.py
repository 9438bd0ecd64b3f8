"""One phantom patient: everything that was drawn for it, and the four scans and labels that follow without further choices."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from drlib.cohort.phantom.anatomy import LATTICE_MM, Anatomy, Head, Push, Shape, draw_shape
from drlib.cohort.phantom.appearance import Appearance, class_fractions, draw_appearance
from drlib.cohort.phantom.artefacts import ScanArtefacts, acquire, draw_artefacts
from drlib.cohort.phantom.grid import Box, Grid, weighted_sum
from drlib.cohort.phantom.signal import CLASSES, Protocol, Relaxation, class_signals, vary_protocol, vary_relaxation
from drlib.cohort.phantom.tumour import DoesNotFit, Growth, choose_seed_mm, draw_growth, grow
from drlib.cohort.phantom.volumes import COMPARTMENTS
from drlib.cohort.regions import MODALITIES
from drlib.seeds import generator

SEEDS_TRIED = 12


@dataclass(frozen=True)
class PatientDraw:
    """All that was drawn for one patient; ``render_patient`` turns it into images."""

    id: str
    grade: str
    cohort: str  # "segmentation" or "grading"
    growth_grade: str  # the grade whose tumours this one resembles; differs from ``grade`` in the variants
    volumes_cm3: tuple[float, float, float]  # NET, ED, ET
    shape: Shape
    growth: Growth
    appearance: Appearance
    mass_effect: float  # share of the core's volume that is new tissue
    mismatch: bool  # T2-FLAIR mismatch
    relaxation: dict[str, Relaxation]
    protocol: Protocol
    scans: dict[str, ScanArtefacts]
    seed: int

    def counts(self, spacing_mm: float) -> tuple[int, int, int]:
        """Return the voxels of NET, ED and ET at a spacing; at least one where the volume is above zero."""
        return tuple(0 if v <= 0 else max(1, int(np.rint(v * 1000 / spacing_mm**3))) for v in self.volumes_cm3)

    def truth(self, spacing_mm: float) -> dict[str, Any]:
        """Return the row of the truth table: volumes as they are in the label file, scanner, and what was drawn on top."""
        net, oedema, enhancing = (n * spacing_mm**3 / 1000 for n in self.counts(spacing_mm))
        volumes = {"NET": net, "ED": oedema, "ET": enhancing, "TC": net + enhancing, "WT": net + oedema + enhancing}
        thick = [m for m, s in self.scans.items() if s.thick_mm >= 4 and s.thick_axis != 2]
        return {
            "id": self.id,
            "grade": self.grade,
            "cohort": self.cohort,
            **{f"{region}_cm3": round(volume, 6) for region, volume in volumes.items()},
            "scanner": self.protocol.name,
            "field_tesla": self.protocol.field_tesla,
            "growth": self.growth_grade,
            "t2_flair_mismatch": self.mismatch,
            "haemorrhagic": self.appearance.bloody > 0,
            "hidden_core": self.appearance.hidden_core,
            "thick_slices": " ".join(thick),
            "cut_field_of_view": " ".join(m for m, s in self.scans.items() if s.cut_above_mm or s.cut_below_mm),
            "saturated": " ".join(m for m, s in self.scans.items() if s.saturated),
        }


@dataclass(frozen=True)
class PhantomVolume:
    """Images (4, i, j, k) int16 in the order of MODALITIES, labels (i, j, k) uint8 (1 NET, 2 ED, 3 ET), affine (4, 4)."""

    images: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


def draw_patient(
    patient: str,
    grade: str,
    cohort: str,
    growth_grade: str,
    volumes_cm3: tuple[float, float, float],
    protocol: Protocol,
    seed: int,
    core_grade: str | None = None,
) -> PatientDraw:
    """Draw everything but the volumes and the site of one patient; each part from its own named generator.

    ``core_grade``: the grade whose tumour core this one's core looks like, whatever it grows like (None: as it grows).
    """

    def rng(part: str) -> np.random.Generator:
        return generator(seed, "phantom", patient, part)

    ring = growth_grade == "HGG"
    appearance = draw_appearance(ring, volumes_cm3[0] < 3, rng("appearance"))
    if core_grade is not None:
        appearance = replace(appearance, necrotic=float(rng("core").uniform(*((0.7, 1.0) if core_grade == "HGG" else (0.0, 0.3)))))
    relaxation, mismatch = vary_relaxation(rng("relaxation")), bool(not ring and rng("mismatch").random() < 0.22)
    if mismatch:  # a homogeneous core, so watery that FLAIR nearly suppresses it (Patel et al. 2017, Clin Cancer Res 23:6078)
        relaxation["SOLID"] = Relaxation(2300, 0.1, 240, 0.95, 0.02)
    return PatientDraw(
        id=patient,
        grade=grade,
        cohort=cohort,
        growth_grade=growth_grade,
        volumes_cm3=tuple(float(v) for v in volumes_cm3),
        shape=draw_shape(rng("shape")),
        growth=draw_growth(ring, rng("growth")),
        appearance=appearance,
        mass_effect=float(rng("mass effect").uniform(0.1, 0.7)),
        mismatch=mismatch,
        relaxation=relaxation,
        protocol=vary_protocol(protocol, rng("protocol")),
        scans=draw_artefacts(rng("artefacts")),
        seed=seed,
    )


def render_patient(draw: PatientDraw, spacing_mm: float) -> PhantomVolume:
    """Make the images and labels of one patient.

    The labels hold exactly ``draw.counts(spacing_mm)`` voxels of each compartment. Deterministic in ``draw`` and the spacing.
    Raises DoesNotFit if none of twelve starting points has room for the drawn volumes.
    """
    grid = Grid(spacing_mm)
    head = Head(draw.shape, generator(draw.seed, "phantom", draw.id, "head"))
    box = head.bounding_box()
    labels, anatomy = _place_tumour(draw, head, box, grid)
    positions = box.voxel_positions(grid)
    shares = class_fractions(anatomy, labels, draw.appearance, box, positions, spacing_mm)
    signals = class_signals(draw.relaxation, draw.protocol).astype(np.float32)
    part = box.slices(grid)
    images = np.zeros((len(MODALITIES), *grid.shape), dtype=np.int16)
    for index, modality in enumerate(MODALITIES):
        level = signals[CLASSES.index("WM"), index]
        ideal = weighted_sum(signals[:, index] / level, shares)
        rng = generator(draw.seed, "phantom", draw.id, "scan", modality)
        images[(index, *part)] = acquire(
            ideal, anatomy.brain, draw.scans[modality], draw.protocol.noise, draw.protocol.bias, box, positions, spacing_mm, rng
        )
    full = np.zeros(grid.shape, dtype=np.uint8)
    full[part] = labels
    return PhantomVolume(images, full, grid.affine)


def _place_tumour(draw: PatientDraw, head: Head, box: Box, grid: Grid) -> tuple[np.ndarray, Anatomy]:
    """Return labels and anatomy in the box; another starting point where the tumour does not fit."""
    lattice = box.lattice_positions(LATTICE_MM)
    healthy = head.sample(box, lattice, LATTICE_MM)
    radius = float(np.cbrt(3 * 1000 * (draw.volumes_cm3[0] + draw.volumes_cm3[2]) / (4 * np.pi)))
    for attempt in range(SEEDS_TRIED):
        rng = generator(draw.seed, "phantom", draw.id, "place", attempt)
        centre = choose_seed_mm(healthy.tissue, healthy.coordinates[2], box, radius, rng)
        pushed = head.pushed(Push(centre, radius * float(np.cbrt(draw.mass_effect))))
        coarse = pushed.sample(box, lattice, LATTICE_MM)
        anatomy = pushed.sample(box, box.voxel_positions(grid), grid.spacing_mm)
        try:
            counts = draw.counts(grid.spacing_mm)
            labels = grow(draw.growth, counts, anatomy.tissue, coarse.tissue, box, box.voxel_positions(grid), centre, grid.spacing_mm)
        except DoesNotFit:
            continue
        return labels, anatomy
    sizes = ", ".join(f"{name} {volume:.1f}" for name, volume in zip(COMPARTMENTS, draw.volumes_cm3, strict=True))
    raise DoesNotFit(f"{draw.id}: no place in this head for a tumour of {sizes} cm3 (seed {draw.seed}); draw with another seed")


def describe_draw(draw: PatientDraw) -> dict[str, Any]:
    """Return all that was drawn as plain values."""
    return asdict(draw)
