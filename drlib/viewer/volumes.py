"""A patient's slices as small volumes for the viewer in the page: cropped to the brain, one byte a voxel, on the patient's own axes.

The viewer is a page, not a program: what it shows has to be small. Images are kept in steps of 0.035 SD inside a fixed range; labels and
code indices are kept as they are; responsible regions in 255 steps. The header of each volume holds the scale that undoes the steps, and
the affine that puts every voxel where it lies in the patient. A grid finer than 2 mm is thinned to every second voxel. Source: ours.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import nibabel
import numpy as np

from drlib.cohort.loading import to_lps
from drlib.cohort.preprocessing import Geometry, Slices
from drlib.cohort.regions import GRADES, LABELS, MODALITIES, region_mask
from drlib.figures.images import MODALITY_NAMES, WINDOW
from drlib.figures.segmentation import codeword_colours
from drlib.figures.style import REGION_COLOURS
from drlib.radiomics.histogram import inside_brain

RANGE = (-3.0, 6.0)  # SD of the brain; what lies beyond is shown as the nearest end
STEPS = 255  # byte 0 of an image is what lies outside the brain, 1 to 255 the range
FINEST_MM = 2.0  # of a published voxel's side, as far as whole voxels can be left out
STEP = (RANGE[1] - RANGE[0]) / (STEPS - 1)
STORED_WORDS = f"images are kept in steps of {STEP:.3f} SD from {RANGE[0]:g} to {RANGE[1]:g} SD of the brain".replace("-", "\N{MINUS SIGN}")
LABEL_VOLUMES = ("truth", "prediction")


class Grid(NamedTuple):
    """Which voxels of the slices are published, and where they lie.

    Attributes:
        where: one slice object for each axis of (S, H, W).
        affine: (4, 4), from indices (i, j, k) of the published volume to millimetres (RAS+).
    """

    where: tuple[slice, slice, slice]
    affine: np.ndarray

    def take(self, maps: np.ndarray) -> np.ndarray:
        """Return the published voxels (i, j, k) of maps (S, H, W)."""
        return np.ascontiguousarray(maps[self.where].transpose(2, 1, 0))


@dataclass(frozen=True)
class PatientVolumes:
    """What is published of one patient: gzipped NIfTI volumes by name, all on one grid.

    Attributes:
        patient: id. ``grade``: LGG, HGG or None. ``p_hgg``: probability of HGG, or None.
        files: ``t1``, ``t1ce``, ``t2``, ``flair`` and, where known, ``truth``, ``prediction``, ``codewords``, ``HGG`` and ``LGG`` (the
            responsible regions).
        starts: where the viewer opens, (i, j, k): in the slice with most of the ``tumour`` core, or of a grade's responsible region.
        shape: voxels along (i, j, k).
    """

    patient: str
    grade: str | None
    p_hgg: float | None
    files: dict[str, bytes]
    starts: dict[str, tuple[int, int, int]]
    shape: tuple[int, int, int]

    def to_entry(self, folder: str) -> dict[str, Any]:
        """Return the patient's line of the index; ``folder`` is where the volumes lie."""
        known = {"id": self.patient, "grade": self.grade, "p": None if self.p_hgg is None else round(self.p_hgg, 4)}
        place = {"folder": folder, "starts": {name: list(voxel) for name, voxel in self.starts.items()}, "shape": list(self.shape)}
        return known | place | {"bytes": {name: len(content) for name, content in self.files.items()}}


def slice_affine(geometry: Geometry) -> np.ndarray:
    """Return the affine (4, 4) from (column, row, slice) of a patient's slices to millimetres (RAS+): pixel centres to where they lie."""
    _, lps = to_lps(np.broadcast_to(np.uint8(0), geometry.file_shape), geometry.affine)
    in_plane = geometry.side / geometry.image_size
    scale = np.array([in_plane, in_plane, geometry.spacing_mm / geometry.voxel_mm[2]])
    to_volume = np.diag([*scale, 1.0])
    to_volume[:3, 3] = 0.5 * scale - 0.5 - np.array([*geometry.padding, 0])
    return lps @ to_volume


def find_grid(images: np.ndarray, geometry: Geometry, margin: int = 1) -> Grid:
    """Return the box around the brain in ``images`` (S, 4, H, W), with ``margin`` voxels on each side, thinned to at most 2 mm."""
    inside = inside_brain(images)
    affine, where = slice_affine(geometry), []
    sides_mm = np.linalg.norm(affine[:3, :3], axis=0)[::-1]  # of slice, row, column
    for axis, side_mm in enumerate(sides_mm):
        found = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = (found[0], found[-1]) if len(found) else (0, inside.shape[axis] - 1)
        every = max(1, int(FINEST_MM / side_mm + 1e-6))
        where.append(slice(max(0, first - margin), min(inside.shape[axis], last + margin + 1), every))
    crop = np.diag([*(float(axis.step) for axis in where[::-1]), 1.0])
    crop[:3, 3] = [axis.start for axis in where[::-1]]
    return Grid(tuple(where), affine @ crop)


def make_volumes(
    slices: Slices,
    patient: str,
    grade: str | None = None,
    p_hgg: float | None = None,
    prediction: np.ndarray | None = None,
    codes: np.ndarray | None = None,
    responsible: Mapping[str, np.ndarray] | None = None,
) -> PatientVolumes:
    """Return the volumes of one patient.

    Args:
        slices: images and, where known, true labels.
        prediction: (S, H, W) labels 0-3, or None.
        codes: (S, h, w) code indices, or None.
        responsible: grade -> (S, H, W), L1 change of the logits, or None. The maps of a patient share one scale.
    """
    grid = find_grid(slices.images, slices.geometry)
    inside = grid.take(inside_brain(slices.images))
    found = {name: encode_image(grid.take(slices.images[:, channel]), inside) for channel, name in enumerate(MODALITIES)}
    maps = {"truth": slices.labels, "prediction": prediction}
    found |= {name: Encoded(grid.take(values).astype(np.uint8)) for name, values in maps.items() if values is not None}
    if codes is not None:
        found["codewords"] = Encoded(grid.take(spread_codes(codes, slices.images.shape[-2:])).astype(np.int16))
    if responsible is not None:
        scale = max(float(values.max()) for values in responsible.values()) / STEPS or 1.0
        found |= {grade_: Encoded(np.rint(grid.take(values) / scale).astype(np.uint8), scale) for grade_, values in responsible.items()}
    labels = next((found[name].voxels for name in LABEL_VOLUMES if name in found), np.zeros_like(inside))
    starts = {"tumour": opening_voxel(tumour_weight(labels))}
    starts |= {name: opening_voxel(found[name].voxels.astype(float)) for name in GRADES if name in found and found[name].voxels.any()}
    files = {name: encoded.to_file(grid.affine) for name, encoded in found.items()}
    return PatientVolumes(patient, grade, p_hgg, files, starts, inside.shape)


class Encoded(NamedTuple):
    """Voxels (i, j, k) as stored, and what makes values of them: ``scale * voxel + offset``."""

    voxels: np.ndarray
    scale: float = 1.0
    offset: float = 0.0

    def to_file(self, affine: np.ndarray) -> bytes:
        """Return a gzipped NIfTI file; same arguments, same bytes."""
        image = nibabel.Nifti1Image(self.voxels, affine)
        image.header.set_xyzt_units("mm")
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        image.header.set_slope_inter(self.scale, self.offset)
        return gzip.compress(image.to_bytes(), compresslevel=9, mtime=0)


def encode_image(scores: np.ndarray, inside: np.ndarray) -> Encoded:
    """Return z-scores (i, j, k) as bytes: 0 outside the brain, 1 to 255 for ``RANGE``; inside, right to half a step (0.018 SD)."""
    steps = np.clip(np.rint((scores.astype(np.float32) - RANGE[0]) / STEP), 0, STEPS - 1) + 1
    return Encoded(np.where(inside, steps, 0).astype(np.uint8), STEP, RANGE[0] - STEP)


def spread_codes(codes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return code indices (S, h, w) at every pixel (S, H, W) of the cells that they stand for."""
    return codes.repeat(size[0] // codes.shape[1], axis=1).repeat(size[1] // codes.shape[2], axis=2)


def tumour_weight(labels: np.ndarray) -> np.ndarray:
    """Return where a viewer opens in labels of any shape, bool: the tumour core, the whole tumour where there is no core."""
    core = region_mask(labels, "TC")
    return core if core.any() else labels > 0


def opening_voxel(weight: np.ndarray) -> tuple[int, int, int]:
    """Return the voxel (i, j, k) in the middle of the slice with the most ``weight`` (not negative); the middle where it is nowhere."""
    total = weight.sum(axis=(0, 1))
    if not total.any():
        return tuple(int(side) // 2 for side in weight.shape)
    k = int(total.argmax())
    voxels = np.argwhere(weight[:, :, k] >= 0.5 * weight[:, :, k].max())
    i, j = voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return int(i), int(j), k


def make_index(patients: list[dict[str, Any]], label: str, codebook: np.ndarray | None = None, background: int = 0) -> dict[str, Any]:
    """Return what the viewer needs to know before any volume: patients, cohort, words and colours.

    Args:
        patients: lines of :meth:`PatientVolumes.to_entry`.
        label: the words that say whose images these are.
        codebook: (K, D), for the colours of the codewords; None without codewords. ``background``: the codeword that is not coloured.
    """
    colours = [] if codebook is None else np.rint(255 * codeword_colours(codebook, background)).astype(int).tolist()
    return {
        "label": label,
        "modalities": MODALITY_NAMES,
        "window": list(WINDOW),
        "range": list(RANGE),
        "labels": list(LABELS),
        "regionColours": {name: REGION_COLOURS[name] for name in LABELS[1:]},
        "codewordColours": ["#" + bytes(colour).hex() for colour in colours],
        "background": background,
        "patients": patients,
    }


def as_script(key: str, content: bytes | Mapping[str, Any]) -> str:
    """Return a script that hands ``content`` (a file, or what JSON can hold) to the viewer under ``key``.

    A script, because a page opened from a folder may not read files, but may load scripts. Nothing in it can end the element that
    holds it, whatever a patient is called: ``<``, ``>`` and ``&`` are written as escapes.
    """
    value = base64.b64encode(content).decode() if isinstance(content, bytes) else content
    escaped = [json.dumps(part).translate({ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}) for part in (key, value)]
    return f"(window.mriData = window.mriData || {{}})[{escaped[0]}] = {escaped[1]};\n"
