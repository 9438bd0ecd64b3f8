"""One patient's findings as one HTML page with its pictures and its viewer inside, to be read without the project and without a network."""

import base64
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from drlib.artifacts import write_atomically
from drlib.cohort.preprocessing import Slices
from drlib.cohort.regions import MODALITIES
from drlib.figures.ablation import MAP_COLOURS, MAP_RANGE, standardise
from drlib.figures.images import (
    WINDOW_TEXT,
    Panel,
    largest_slice,
    name_columns,
    name_rows,
    outline_labels,
    show_image,
    show_labels,
    show_map,
)
from drlib.figures.segmentation import codeword_colours
from drlib.figures.style import WIDTH_IN, figure_png, new_figure, region_handles
from drlib.series.notice import PHANTOM_TRAINED, RESEARCH_ONLY
from drlib.viewer.page import NIIVUE, OVERLAYS, STATIC, StillPicture, VolumeViewer, draw_still
from drlib.viewer.volumes import STORED_WORDS, PatientVolumes, as_script, find_grid, make_index, make_volumes


@dataclass(frozen=True)
class PatientFindings:
    """What a model says of one patient.

    Attributes:
        patient: id. ``known_grade``: from the files, or None.
        p_hgg: probability of HGG.
        slices: what the network saw.
        codes: (S, h, w) code indices; ``codebook`` (K, D); ``background``: the background codeword.
        prediction: (S, H, W) labels 0-3.
        responsible: grade -> (S, H, W) L1 change of the logits when that grade's ``n_responsible`` codewords are replaced.
        volumes_cm3: of the predicted regions; ``true_volumes_cm3``: of those in the patient's own segmentation, None where there is none.
        dice: region -> Dice against the patient's own segmentation; None where there is none.
    """

    patient: str
    known_grade: str | None
    p_hgg: float
    slices: Slices
    codes: np.ndarray
    codebook: np.ndarray
    background: int
    prediction: np.ndarray
    responsible: dict[str, np.ndarray]
    n_responsible: dict[str, int]
    volumes_cm3: dict[str, float]
    true_volumes_cm3: dict[str, float] | None
    dice: dict[str, float] | None


def write_report(findings: PatientFindings, provenance: dict[str, str], path: Path) -> Path:
    """Write the page. Everything that comes from files (ids above all) is escaped."""
    volumes = make_volumes(
        findings.slices, findings.patient, findings.known_grade, findings.p_hgg, findings.prediction, findings.codes, findings.responsible
    )
    environment = Environment(loader=PackageLoader("drlib.series", "."), autoescape=True, undefined=StrictUndefined)
    picture = base64.b64encode(figure_png(plot_findings(findings), dpi=110)).decode()
    page = environment.get_template("report.html.j2").render(
        findings=findings,
        picture=picture,
        provenance=provenance,
        research_only=RESEARCH_ONLY,
        phantom_trained=PHANTOM_TRAINED in provenance["network"],
        window=WINDOW_TEXT,
        slices=[index + 1 for index in slices_shown(findings)],
        absent=absent_grades(findings),
        map_range=MAP_RANGE,
        viewer=Markup(make_viewer(findings, volumes)._repr_html_()),
        viewer_style=Markup((STATIC / "viewer.css").read_text(encoding="utf-8")),
        scripts=viewer_scripts(findings, volumes),
    )
    return write_atomically(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))


def make_viewer(findings: PatientFindings, volumes: PatientVolumes) -> VolumeViewer:
    """Return the viewer of the one patient, with the predicted regions over T1ce."""
    images, (_, _, k) = findings.slices.images, volumes.starts["tumour"]
    where = find_grid(images, findings.slices.geometry).where
    image, overlay = (maps[where][k] for maps in (images[:, MODALITIES.index("t1ce")], findings.prediction))
    still = StillPicture(draw_still(image, overlay, "prediction"), "Axial slice, T1ce, with the predicted regions in colour")
    overlays = ["none", *(name for name in OVERLAYS if name in volumes.files)]
    caption = f"Volumes are cropped to the brain; {STORED_WORDS}. Positions are those of the patient's own files."
    return VolumeViewer(findings.patient, [still], caption, "t1ce", "prediction", overlays=overlays)


def viewer_scripts(findings: PatientFindings, volumes: PatientVolumes) -> list[Markup]:
    """Return what the viewer runs on, to be put between script tags: volumes, drawing library, component; nothing without the library."""
    if not NIIVUE.is_file():
        return []
    index = make_index([volumes.to_entry("patient")], "", findings.codebook, findings.background)
    files = {f"patient/{name}": content for name, content in volumes.files.items()}
    data = "".join(as_script(key, content) for key, content in {"index": index, **files}.items())
    return [within_script(text) for text in (data, *(path.read_text(encoding="utf-8") for path in (NIIVUE, STATIC / "viewer.js")))]


def within_script(text: str) -> Markup:
    """Return JavaScript as it can stand between script tags: nothing in it ends the element or opens a comment."""
    return Markup(re.sub(r"<(?=/script|!--)", r"\\x3C", text, flags=re.IGNORECASE))


def slices_shown(findings: PatientFindings) -> list[int]:
    """Return the slice with the most predicted tumour and, of each grade, the one that changes most; inferior to superior."""
    strongest = [int(values.sum(axis=(1, 2)).argmax()) for values in findings.responsible.values() if values.any()]
    return sorted({largest_slice(findings.prediction), *strongest})


def absent_grades(findings: PatientFindings) -> list[str]:
    """Return the grades of whose responsible codewords this patient has none, so that their map is empty."""
    return [grade for grade, values in findings.responsible.items() if not values.any()]


def plot_findings(findings: PatientFindings) -> Figure:
    """Show, for each slice: T1ce, FLAIR, the predicted regions, the codewords, and the responsible regions of HGG and LGG."""
    indices = slices_shown(findings)
    figure, axes = new_figure(len(indices) * (WIDTH_IN + 1.0) / 6 + 0.5, len(indices), 6, width_in=WIDTH_IN + 2.0, squeeze=False)
    for row, index in zip(axes, indices, strict=True):
        _draw_slice(row, findings, index)
    name_columns(axes, ["T1ce", "FLAIR", "predicted regions", "codewords", "HGG regions", "LGG regions"])
    name_rows(axes, [f"slice {index + 1}" for index in indices])
    figure.legend(handles=region_handles(), loc="outside lower center", ncols=3)
    return figure


def _draw_slice(row: np.ndarray, findings: PatientFindings, index: int) -> None:
    prediction = findings.prediction[index]
    geometry = findings.slices.geometry
    pixel_mm = geometry.voxel_mm[0] * geometry.side / geometry.image_size
    panel = Panel(findings.patient, findings.slices.images[index].astype(np.float32), prediction=prediction, pixel_mm=pixel_mm)
    show_image(row[0], panel.image("t1ce"), panel)
    show_image(row[1], panel.image("flair"))
    show_labels(row[2], prediction, background=panel.image("flair"))
    show_map(row[3], codeword_colours(findings.codebook, findings.background)[findings.codes[index]])
    maps = standardise({grade: values[index].astype(np.float32) for grade, values in findings.responsible.items()})
    for ax, grade in zip(row[4:], ("HGG", "LGG"), strict=True):
        show_map(ax, maps[grade], cmap=MAP_COLOURS, vmin=MAP_RANGE[0], vmax=MAP_RANGE[1])
        outline_labels(ax, prediction)
        if not findings.responsible[grade][index].any():
            ax.set_xlabel("no change here", fontsize=8)
