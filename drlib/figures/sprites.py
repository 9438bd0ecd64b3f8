"""Pictures of one codeword for the codebook atlas, as small PNG: patches of patients, and maps of where it lies and what it changes."""

import io

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap
from PIL import Image as Picture
from PIL import ImageDraw

from drlib.figures.images import WINDOW

TILE = 72  # pixels of one patch in a picture
MAP = 112  # of the plane, and of the ablation map
BAR = 28  # width of the bars of the height
GAP = 2
GREYS = 24  # grey levels of a patch: half the bytes of 64
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
