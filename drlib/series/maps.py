"""What a model says of a patient as NIfTI maps that open over the patient's own images in ITK-SNAP, 3D Slicer and any other viewer.

A map lies where the patient's T1ce lies: sform, qform and their codes are the T1ce's own, so that a viewer that prefers the one or the
other places both alike. Label maps carry NIfTI's intent for labels, and beside each lie a label description of ITK-SNAP and a colour
table of 3D Slicer, in the colours of the book. Nothing else of the patient's header is kept.

Sources: nifti1.h (intents, cal_max, aux_file); ITK-SNAP, "Label Description File"; 3D Slicer, developer guide, "Color table file format".
"""

import gzip
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from drlib.artifacts import write_atomically
from drlib.cohort.nifti import GZIP_MAGIC, HEAD_BYTES, HEADERS
from drlib.figures.segmentation import codeword_colours
from drlib.figures.style import REGION_COLOURS
from drlib.series.report import PatientFindings

FILE_LABELS = np.array([0, 1, 2, 4], dtype=np.uint8)  # BraTS 2018-2021: 1 NET, 2 ED, 4 ET
REGION_NAMES = {1: ("NET", "necrotic and non-enhancing tumour"), 2: ("ED", "oedema"), 4: ("ET", "enhancing tumour")}
PLACE = ("qform_code", "sform_code", *(f"quatern_{x}" for x in "bcd"), *(f"qoffset_{x}" for x in "xyz"), *(f"srow_{x}" for x in "xyz"))
SHOWN_SHARE = 0.999  # of the voxels of the maps of change lie in the window that viewers start with


@dataclass(frozen=True)
class Label:
    """One value of a label map: what it is called, its colour (red, green, blue in 0..255), and whether it is drawn."""

    value: int
    name: str
    colour: tuple[int, int, int]
    drawn: bool = True
    surface: bool = True


def write_maps(findings: PatientFindings, t1ce: Path, folder: Path, notice: str) -> None:
    """Write a patient's maps on the grid of the image ``t1ce``, their labels and colours, and a README.txt that says how to open them.

    ``segmentation.nii.gz`` (1 NET, 2 ED, 4 ET), ``codewords.nii.gz`` (the code index at every voxel), ``responsible_LGG.nii.gz`` and
    ``responsible_HGG.nii.gz`` (L1 change of the logits); ``*_labels.txt`` for ITK-SNAP, ``*_colours.ctbl`` for 3D Slicer.
    """
    place, restore = read_place(t1ce), findings.slices.geometry.restore
    labels = {"segmentation": region_labels(), "codewords": codeword_labels(findings.codebook, findings.background)}
    maps = {"segmentation": FILE_LABELS[findings.prediction], "codewords": findings.codes.astype(np.int16)}
    for name, values in maps.items():
        header = place.copy()
        header.set_intent("label", name=name)
        header["aux_file"] = f"{name}_labels.txt".encode()  # where NIfTI says that the names of labels may be
        _write(folder / f"{name}.nii.gz", restore(values), header, f"drlib {name}")
        _write_text(folder / f"{name}_labels.txt", itk_snap_labels(labels[name]))
        _write_text(folder / f"{name}_colours.ctbl", slicer_colours(labels[name], name))
    largest = shown_maximum(findings.responsible)
    for grade, values in findings.responsible.items():
        header = place.copy()
        header.set_intent("estimate", name=f"{grade}-responsible"[:15])
        header["cal_min"], header["cal_max"] = 0, largest
        _write(folder / f"responsible_{grade}.nii.gz", restore(values, order=1), header, f"drlib {grade}-responsible regions")
    _write_text(folder / "README.txt", how_to_open(t1ce.name, largest, notice))


def read_place(image: Path) -> nibabel.Nifti1Header:
    """Return a new header, in mm, that places voxels exactly where the header of ``image`` places its own."""
    with open(image, "rb") as file:
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    with (gzip.open if packed else open)(image, "rb") as file:
        head = file.read(HEAD_BYTES)
    order, kind = next((order, HEADERS[size]) for order in ("little", "big") if (size := int.from_bytes(head[:4], order)) in HEADERS)
    theirs = kind(head[: kind.sizeof_hdr], endianness="<" if order == "little" else ">", check=False)
    place = nibabel.Nifti1Header(endianness="<")
    place.set_data_shape(theirs.get_data_shape()[:3])
    place["pixdim"][:4] = theirs["pixdim"][:4]
    for field in PLACE:
        place[field] = theirs[field]
    place.set_xyzt_units("mm")
    return place


def region_labels() -> list[Label]:
    """Return the labels of the segmentation in the colours that regions have in the book."""
    return [Label(value, f"{region} ({words})", _rgb(REGION_COLOURS[region])) for value, (region, words) in REGION_NAMES.items()]


def codeword_labels(codebook: np.ndarray, background: int) -> list[Label]:
    """Return a label for each of the K codewords of ``codebook`` (K, D), coloured as in the figures; the background's is not drawn."""
    colours = np.rint(255 * codeword_colours(codebook, background)).astype(int).tolist()
    names = [f"codeword {k}" + (" (background)" if k == background else "") for k in range(len(codebook))]
    return [Label(k, names[k], tuple(colour), drawn=k != background, surface=False) for k, colour in enumerate(colours)]


def itk_snap_labels(labels: list[Label]) -> str:
    """Return the label description that ITK-SNAP loads with ``-l``. Its label 0 is always clear, whatever a file says."""
    lines = [
        "################################################",
        "# ITK-SnAP Label Description File",
        "# File format:",
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
        "################################################",
        '    0     0    0    0        0  0  0    "Clear Label"',
    ]
    for label in labels:
        if label.value:
            red, green, blue = label.colour
            shown, surface = int(label.drawn), int(label.drawn and label.surface)
            lines.append(f'{label.value:5d} {red:5d} {green:4d} {blue:4d} {shown:8d}  {shown}  {surface}    "{label.name}"')
    return "\n".join(lines) + "\n"


def slicer_colours(labels: list[Label], name: str) -> str:
    """Return the colour table (``.ctbl``) of 3D Slicer: value, name without spaces, red, green, blue and opacity in 0..255."""
    lines = [f"# Color table file {name}_colours.ctbl", f"# {max(label.value for label in labels) + 1} values"]
    if all(label.value for label in labels):
        lines.append("0 background 0 0 0 0")
    for label in labels:
        lines.append(" ".join(map(str, (label.value, label.name.replace(" ", "_"), *label.colour, 255 * label.drawn))))
    return "\n".join(lines) + "\n"


def shown_maximum(maps: Mapping[str, np.ndarray]) -> float:
    """Return the upper end of one window for all ``maps``: nearly all of their voxels lie below. 0 (no window) where all are 0."""
    together = np.concatenate([np.ravel(values) for values in maps.values()])
    return float(np.quantile(together, SHOWN_SHARE) or together.max())


def how_to_open(t1ce: str, largest: float, notice: str) -> str:
    """Return the text of README.txt; ``t1ce`` is the name of the patient's image, which stays where it is."""
    image = shlex.quote("".join(letter if letter.isprintable() else "_" for letter in t1ce))
    window = f"both open with the window 0 to {largest:.4g}, and can be compared" if largest else "both are empty: it has none of them"
    return HOW_TO_OPEN.format(image=image, window=window, notice=notice)


HOW_TO_OPEN = """{notice}

Every map has the grid of the patient's own images. In the commands, put its folder before
{image}.

segmentation.nii.gz       1 NET, 2 ED, 4 ET, as predicted
codewords.nii.gz          the index of the codeword at every voxel
responsible_LGG.nii.gz    L1 change of the logits when the codewords responsible for that grade are replaced by the
responsible_HGG.nii.gz    background's; {window}
grade.json, report.html   the probability of HGG and everything else that was found
*_labels.txt, *_colours.ctbl   names and colours of the labels, for ITK-SNAP and for 3D Slicer

ITK-SNAP

    itksnap -g {image} -s segmentation.nii.gz -l segmentation_labels.txt
    itksnap -g {image} -s codewords.nii.gz -l codewords_labels.txt
    itksnap -g {image} -o responsible_HGG.nii.gz

    ITK-SNAP never draws label 0, which in codewords.nii.gz is codeword 0.

3D Slicer

    1. File > Add Data: {image} and segmentation_colours.ctbl
    2. File > Add Data: segmentation.nii.gz, "Show Options", "LabelMap", color table segmentation_colours
    3. In the module Data, a right click on it: "Convert labelmap to segmentation node"
    Codewords in the same way. Steps 1 and 2 in the Python console, where this folder is the current one:

    labels = slicer.util.loadLabelVolume("segmentation.nii.gz")
    colours = slicer.util.loadColorTable("segmentation_colours.ctbl")
    labels.GetDisplayNode().SetAndObserveColorNodeID(colours.GetID())
"""


def _rgb(colour: str) -> tuple[int, int, int]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def _write(path: Path, voxels: np.ndarray, header: nibabel.Nifti1Header, description: str) -> None:
    """Write voxels (i, j, k) under ``header``: same arguments, same bytes."""
    header.set_data_dtype(voxels.dtype)
    header.set_slope_inter(1, 0)
    header["descrip"] = description.encode()
    header["magic"], header["vox_offset"] = b"n+1", 352
    content = header.binaryblock + bytes(4) + voxels.tobytes(order="F")  # four zeros: no extensions
    packed = gzip.compress(content, compresslevel=1, mtime=0)
    write_atomically(path, lambda temporary: temporary.write_bytes(packed))


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
