"""How a slice is shown: radiological orientation with its sides marked, one grey window for all, regions as outlines or colours.

Slices come as stored: row = anterior to posterior, column = patient's right to left. Shown with the first row on top, the patient's left
is therefore at the right of the picture, as radiologists read it. Source: ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patheffects import withStroke

from drlib.cohort.regions import LABELS, MODALITIES
from drlib.figures.style import REGION_COLOURS

MODALITY_NAMES = {"t1": "T1", "t1ce": "T1ce", "t2": "T2", "flair": "FLAIR"}
WINDOW = (-2.5, 5.0)  # black and white, in standard deviations of the patient's brain
WINDOW_TEXT = f"grey window {WINDOW[0]:g} to {WINDOW[1]:g} SD of the brain".replace("-", "\N{MINUS SIGN}")
LABEL_RGB = np.array([(0.0, 0.0, 0.0), *(to_rgb(REGION_COLOURS[name]) for name in LABELS[1:])])


@dataclass(frozen=True)
class Panel:
    """One slice of one patient, ready to be shown.

    Attributes:
        patient: id.
        images: (4, H, W), z-scored, in the order of ``MODALITIES``.
        labels: (H, W) true labels 0-3, or None.
        prediction: (H, W) predicted labels 0-3, or None.
        grade: ``LGG``, ``HGG`` or None.
        pixel_mm: side of a pixel; a 5 cm scale bar is drawn where it is given.
    """

    patient: str
    images: np.ndarray
    labels: np.ndarray | None = None
    prediction: np.ndarray | None = None
    grade: str | None = None
    pixel_mm: float | None = None

    @property
    def title(self) -> str:
        """Grade and patient, for the row of a figure."""
        return f"{self.grade}\n{short_id(self.patient)}" if self.grade else short_id(self.patient)

    def image(self, modality: str) -> np.ndarray:
        """Return the (H, W) image of one modality."""
        return self.images[MODALITIES.index(modality)].astype(np.float32)


def short_id(patient: str) -> str:
    """Return an id without the words that all ids of a cohort share (``BraTS19_PHA_0007_1`` -> ``PHA_0007``)."""
    words = patient.split("_")
    return "_".join(words[1:3]) if len(words) >= 4 and words[0].startswith("BraTS") else patient


def largest_slice(labels: np.ndarray) -> int:
    """Return the index of the slice of ``labels`` (S, H, W) with the most tumour; the middle one where there is none."""
    area = (np.asarray(labels) > 0).sum(axis=(1, 2))
    return int(area.argmax()) if area.any() else len(area) // 2


def tumour_panel(
    patient: str,
    images: np.ndarray,
    labels: np.ndarray,
    grade: str | None = None,
    prediction: np.ndarray | None = None,
    pixel_mm: float | None = None,
) -> Panel:
    """Return the slice with the most tumour as a panel; ``images`` (S, 4, H, W), ``labels`` and ``prediction`` (S, H, W)."""
    index = largest_slice(labels)
    return Panel(patient, images[index], labels[index], None if prediction is None else prediction[index], grade, pixel_mm)


def show_image(ax: Axes, image: np.ndarray, panel: Panel | None = None, window: tuple[float, float] = WINDOW) -> None:
    """Show one (H, W) image in radiological orientation; ``panel`` gives the scale bar its unit."""
    ax.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], origin="upper", interpolation="bilinear")
    _finish(ax, image.shape, panel)


def show_labels(ax: Axes, labels: np.ndarray, panel: Panel | None = None, background: np.ndarray | None = None) -> None:
    """Show (H, W) labels in the colours of their regions, over ``background`` (a slice) where given."""
    if background is not None:
        ax.imshow(background, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1] * 1.6, origin="upper", interpolation="bilinear")
        picture = np.dstack([LABEL_RGB[labels], np.where(labels > 0, 0.85, 0.0)])
    else:
        picture = LABEL_RGB[labels]
    ax.imshow(picture, origin="upper", interpolation="nearest")
    _finish(ax, labels.shape, panel)


def outline_labels(ax: Axes, labels: np.ndarray, linewidth: float = 0.9) -> None:
    """Draw the border of each region of ``labels`` (H, W) in its colour."""
    for value, region in enumerate(LABELS):
        if value and (labels == value).any():
            ax.contour(labels == value, levels=[0.5], colors=[REGION_COLOURS[region]], linewidths=linewidth)


def show_map(ax: Axes, values: np.ndarray, panel: Panel | None = None, **imshow) -> object:
    """Show a (H, W) map and return the image, for a colour bar."""
    shown = ax.imshow(values, origin="upper", interpolation="nearest", **imshow)
    _finish(ax, values.shape, panel)
    return shown


def mark_sides(ax: Axes) -> None:
    """Write R at the left and L at the right edge of a picture: the patient's right and left."""
    for x, letter in ((0.03, "R"), (0.97, "L")):
        ax.text(
            x,
            0.5,
            letter,
            transform=ax.transAxes,
            color="white",
            fontsize=7.5,
            fontweight="bold",
            va="center",
            ha="left" if letter == "R" else "right",
            path_effects=[withStroke(linewidth=1.5, foreground="black")],
        )


def name_rows(axes: np.ndarray, names: Sequence[str]) -> None:
    """Write a name at the left of each row of pictures."""
    for ax, name in zip(axes[:, 0], names, strict=True):
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8.5, labelpad=6)


def name_columns(axes: np.ndarray, names: Sequence[str] | Mapping[str, str]) -> None:
    """Write a name on top of each column of pictures."""
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(name, loc="center", fontsize=9.5)


def _finish(ax: Axes, shape: tuple[int, ...], panel: Panel | None) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    mark_sides(ax)
    if panel is not None and panel.pixel_mm:
        _scale_bar(ax, shape, panel.pixel_mm)


def _scale_bar(ax: Axes, shape: tuple[int, ...], pixel_mm: float, length_mm: float = 50.0) -> None:
    height, width = shape[:2]
    length = length_mm / pixel_mm
    x, y = 0.95 * width - length, 0.955 * height
    ax.plot([x, x + length], [y, y], color="white", linewidth=2, solid_capstyle="butt", scalex=False, scaley=False)
    ax.text(x + length / 2, y - 0.02 * height, f"{length_mm / 10:g} cm", color="white", fontsize=6.5, ha="center", va="bottom")
