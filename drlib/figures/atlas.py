"""Pictures of the codebook atlas: patches and maps of one codeword as small PNG, and all codewords at once as a figure."""

import io

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image as Picture
from PIL import ImageDraw

from drlib.figures.images import WINDOW
from drlib.figures.style import INK, QUIET, REGION_COLOURS, grid_lines, new_figure, styled

TISSUE_COLOURS = {"outside": "#5B6470", "brain": "#A9B8C9"} | {name: REGION_COLOURS[name] for name in ("NET", "ED", "ET")}
TISSUE_NAMES = {"outside": "outside the brain", "brain": "brain without tumour", "NET": "NET", "ED": "ED", "ET": "ET"}
TISSUE_MARKERS = {"outside": "s", "brain": "o", "NET": "v", "ED": "D", "ET": "^"}
TILE = 72  # pixels of one patch in a picture
MAP = 112  # of the plane, and of the ablation map
BAR = 28  # width of the bars of the height
GAP = 2
GREYS = 28  # grey levels of a patch: half the bytes of 64
COLOURS = 40  # of a map
CHANGE = colormaps["magma"]
DENSITY = LinearSegmentedColormap.from_list("density", ["#000000", "#F2D16B"])


def draw_patches(patches: np.ndarray, cells: int, columns: int = 4) -> bytes:
    """Return a PNG of the first ``columns`` of ``patches`` (n, 2, W, W), T1ce above FLAIR, the middle of ``cells`` x ``cells`` outlined."""
    shown = patches[:columns]
    sheet = Picture.new("L", (columns * (TILE + GAP) - GAP, 2 * (TILE + GAP) - GAP), 0)
    for column, pair in enumerate(shown):
        for row, image in enumerate(pair):
            grey = np.clip((image - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1)
            large = Picture.fromarray(grey.astype(np.float32)).resize((TILE, TILE), Picture.Resampling.BILINEAR)
            tile = Picture.fromarray((np.round(np.array(large) * (GREYS - 1)) * (255 / (GREYS - 1))).astype(np.uint8))
            _outline(tile, cells, 255)
            sheet.paste(tile, (column * (TILE + GAP), row * (TILE + GAP)))
    return _png(sheet.quantize(GREYS, dither=Picture.Dither.NONE))


def draw_maps(plane: np.ndarray, height: np.ndarray, ablation: np.ndarray | None, head: np.ndarray, cells: int) -> bytes:
    """Return a PNG: tokens over the axial plane (h, w), over the height (n,) with the top of the head above, and the ablation map (W, W).

    ``head`` (H, W): share of the patients with brain there; its border at one half is drawn. ``ablation`` None: left black. Each part
    is on a scale of its own, from 0 to its maximum. ``cells``: of the ablation map along a side; the middle one is outlined.
    """
    sheet = Picture.new("RGB", (2 * MAP + BAR + 2 * GAP, MAP), "black")
    sheet.paste(_plane(plane, head), (0, 0))
    sheet.paste(_bars(height), (MAP + GAP, 0))
    if ablation is not None:
        picture = _coloured(ablation / max(ablation.max(), 1e-12), CHANGE).resize((MAP, MAP), Picture.Resampling.BILINEAR)
        _outline(picture, cells, "white")
        sheet.paste(picture, (MAP + BAR + 2 * GAP, 0))
    return _png(sheet.quantize(COLOURS, dither=Picture.Dither.NONE))


def _plane(plane: np.ndarray, head: np.ndarray) -> Picture.Image:
    """Return the density over the square around the head."""
    side = head.shape[0] // plane.shape[0]
    inside = head > 0.5
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    top, left = max(rows.min() // side - 1, 0), max(columns.min() // side - 1, 0)
    width = min(max(rows.max() // side + 2 - top, columns.max() // side + 2 - left), len(plane))
    top, left = min(top, len(plane) - width), min(left, len(plane) - width)
    shown = plane[top : top + width, left : left + width]
    picture = _coloured(shown / max(shown.max(), 1), DENSITY).resize((MAP, MAP), Picture.Resampling.NEAREST)
    part = inside[top * side : (top + width) * side, left * side : (left + width) * side]
    large = np.array(Picture.fromarray(255 * part.astype(np.uint8)).resize((MAP, MAP), Picture.Resampling.BILINEAR)) > 127
    border = large & ~(np.roll(large, 1, 0) & np.roll(large, -1, 0) & np.roll(large, 1, 1) & np.roll(large, -1, 1))
    pixels = np.array(picture)
    pixels[border] = 150
    return Picture.fromarray(pixels)


def _bars(height: np.ndarray) -> Picture.Image:
    picture = Picture.new("RGB", (BAR, MAP), "black")
    draw, step = ImageDraw.Draw(picture), MAP / len(height)
    for number, share in enumerate(height[::-1] / max(height.max(), 1)):  # the first tenth is the lowest
        draw.rectangle((0, round(number * step) + 1, round(share * (BAR - 1)), round((number + 1) * step) - 2), fill="#F2D16B")
    return picture


def _coloured(values: np.ndarray, colours: Colormap) -> Picture.Image:
    return Picture.fromarray((255 * colours(values)[..., :3]).astype(np.uint8))


def _outline(picture: Picture.Image, cells: int, colour: int | str) -> None:
    near, far = picture.width * (cells // 2) / cells, picture.width * (cells // 2 + 1) / cells
    ImageDraw.Draw(picture).rectangle((round(near) - 1, round(near) - 1, round(far), round(far)), outline=colour)


def _png(picture: Picture.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


@styled
def plot_atlas(table: pd.DataFrame, n_patients: int) -> Figure:
    """Show all codewords in use: AUC of the count against tokens per patient, coloured by the tissue most of their pixels lie in.

    ``table``: of :class:`drlib.radiomics.atlas.Atlas`. Responsible codewords are ringed and named.
    """
    figure, ax = new_figure(4.4)
    per_patient = table["tokens"] / n_patients
    for tissue, colour in TISSUE_COLOURS.items():
        chosen = table["tissue"] == tissue
        if chosen.any():
            style = {"s": 26, "linewidth": 0.5, "edgecolor": "white", "marker": TISSUE_MARKERS[tissue]}
            ax.scatter(table.loc[chosen, "auc"], per_patient[chosen], color=colour, **style)
    ringed = table["responsible"].astype(bool)
    ax.scatter(table.loc[ringed, "auc"], per_patient[ringed], s=110, facecolor="none", edgecolor=INK, linewidth=1.4)
    for codeword in table.index[ringed]:
        where = (table.loc[codeword, "auc"], per_patient[codeword])
        ax.annotate(str(codeword), where, xytext=(8, 4), textcoords="offset points", fontsize=8.5)
    ax.axvline(0.5, color=QUIET, linewidth=1, linestyle="--")
    ax.set(xlim=(0, 1), yscale="log", ylabel="tokens per patient (mean, logarithmic)")
    ax.set_xlabel("AUC of the count alone (below 0.5: more in LGG, above: more in HGG)")
    tumour = table["tissue"].isin(["NET", "ED", "ET"])
    ax.set_title(f"{int(tumour.sum())} of {len(table)} codewords lie mostly on tumour; {int(ringed.sum())} are responsible (ringed)")
    names = {name: (table["tissue"] == name).sum() for name in TISSUE_COLOURS}
    handles = [
        Line2D([], [], linestyle="none", marker=TISSUE_MARKERS[name], color=TISSUE_COLOURS[name], label=f"{TISSUE_NAMES[name]} ({n})")
        for name, n in names.items()
        if n
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, title="most of its pixels are", title_fontsize=8.5)
    grid_lines(ax, "both")
    return figure
