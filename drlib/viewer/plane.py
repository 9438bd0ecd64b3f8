"""The picture of :func:`drlib.figures.plot_quantizer` drawn in a few hundredths of a second, for sliders that must answer at once."""

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from drlib.figures.quantizer import CELL_RGB, CODEWORD
from drlib.figures.style import INK, QUIET
from drlib.viewer.player import type_face

SIDE = 440  # pixels of the plane
MARGIN = (46, 30, 10, 62)  # left, top, right, bottom
FINE = 2  # drawn larger by this factor, then reduced: smooth edges


def draw_plane(latents: np.ndarray, codebook: np.ndarray, previous: np.ndarray | None, extent: float, title: str) -> Picture.Image:
    """Return latents (N, 2), cells and codewords (K, 2), with arrows from ``previous`` codewords (K, 2), on -extent..extent."""
    codes = nearest(latents, codebook)
    used = np.bincount(codes, minlength=len(codebook))
    plane = draw_cells(codebook, extent).resize((SIDE * FINE, SIDE * FINE), Picture.Resampling.BILINEAR)
    draw = ImageDraw.Draw(plane)
    for x, y in to_pixels(latents, extent):
        disc(draw, x, y, 1.3, "#5B636E")
    if previous is not None:
        for start, end in zip(to_pixels(previous, extent), to_pixels(codebook, extent), strict=True):
            arrow(draw, start, end)
    for (x, y), count in zip(to_pixels(codebook, extent), used, strict=True):
        codeword(draw, x, y, count / max(used.max(), 1))
    return frame(plane.reduce(FINE), extent, title)


def nearest(latents: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Return the index of the nearest codeword of each latent (Eq. 1)."""
    codebook = codebook.astype(np.float32)
    return ((codebook**2).sum(1) - 2 * latents.astype(np.float32) @ codebook.T).argmin(1)


def draw_cells(codebook: np.ndarray, extent: float, side: int = SIDE // 2) -> Picture.Image:
    """Return the cells of the codewords as a picture, white lines between them, the second dimension upwards."""
    line = np.linspace(-extent, extent, side)
    grid = np.stack(np.meshgrid(line, line[::-1]), axis=-1).reshape(-1, 2)
    cell = nearest(grid, codebook).reshape(side, side)
    pixels = CELL_RGB[cell % len(CELL_RGB)]
    border = np.zeros_like(cell, bool)
    border[1:] |= cell[1:] != cell[:-1]
    border[:, 1:] |= cell[:, 1:] != cell[:, :-1]
    pixels[border] = 1.0
    return Picture.fromarray((255 * pixels).astype(np.uint8))


def to_pixels(points: np.ndarray, extent: float) -> np.ndarray:
    """Return (N, 2) points as pixels of the fine plane; what lies far outside is brought to just outside."""
    scaled = (np.clip(points, -9 * extent, 9 * extent) / extent + 1) / 2
    return np.column_stack([scaled[:, 0], 1 - scaled[:, 1]]) * SIDE * FINE


def disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: str, outline: str | None = None) -> None:
    """Draw a disc of ``radius`` final pixels."""
    radius *= FINE
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=outline, width=FINE if outline else 0)


def arrow(draw: ImageDraw.ImageDraw, start: np.ndarray, end: np.ndarray) -> None:
    """Draw an arrow; moves of less than four pixels are left out."""
    way = end - start
    length = float(np.hypot(*way))
    if length < 4 * FINE:
        return
    along, across = way / length, np.array([-way[1], way[0]]) / length
    neck = end - along * min(8 * FINE, length)
    draw.line([tuple(start), tuple(neck)], fill=CODEWORD, width=2 * FINE)
    draw.polygon([tuple(end), tuple(neck + across * 4 * FINE), tuple(neck - across * 4 * FINE)], fill=CODEWORD)


def codeword(draw: ImageDraw.ImageDraw, x: float, y: float, share: float) -> None:
    """Draw a codeword, its area by usage; a dead one as a cross."""
    if share > 0:
        disc(draw, x, y, np.sqrt(12 + 60 * share), CODEWORD, "white")
        return
    reach = 4 * FINE
    for slope in (-1, 1):
        draw.line((x - reach, y - slope * reach, x + reach, y + slope * reach), fill=QUIET, width=2 * FINE)


def frame(plane: Picture.Image, extent: float, title: str) -> Picture.Image:
    """Return the plane with ticks, axis labels, title and legend."""
    left, top, right, bottom = MARGIN
    sheet = Picture.new("RGB", (left + SIDE + right, top + SIDE + bottom), "white")
    sheet.paste(plane, (left, top))
    draw = ImageDraw.Draw(sheet)
    small, large = type_face(11), type_face(13)
    draw.line((left - 1, top, left - 1, top + SIDE, left + SIDE, top + SIDE), fill=INK)
    for tick in range(-int(extent), int(extent) + 1, 2):
        place = (tick / extent + 1) / 2 * SIDE
        label = str(tick).replace("-", "\N{MINUS SIGN}")
        draw.text((left + place, top + SIDE + 4), label, fill=INK, font=small, anchor="ma")
        draw.text((left - 5, top + SIDE - place), label, fill=INK, font=small, anchor="rm")
    draw.text((left, top - 8), title, fill=INK, font=large, anchor="lb")
    draw.text((left + SIDE / 2, top + SIDE + 20), "latent dimension 1 (arbitrary units)", fill=INK, font=small, anchor="ma")
    sheet.paste(_upright("latent dimension 2 (arbitrary units)", small), (4, top + SIDE // 2 - 105))
    _legend(sheet, left, top + SIDE + 48, small)
    return sheet


def _upright(text: str, font: ImageFont.FreeTypeFont) -> Picture.Image:
    label = Picture.new("RGB", (210, 16), "white")
    ImageDraw.Draw(label).text((105, 8), text, fill=INK, font=font, anchor="mm")
    return label.rotate(90, expand=True)


def _legend(sheet: Picture.Image, x: int, y: int, font: ImageFont.FreeTypeFont) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.ellipse((x + 18, y - 2, x + 22, y + 2), fill="#5B636E")
    draw.text((x + 30, y), "latent", fill=INK, font=font, anchor="lm")
    draw.ellipse((x + 94, y - 6, x + 106, y + 6), fill=CODEWORD)
    draw.text((x + 114, y), "codeword (area: usage)", fill=INK, font=font, anchor="lm")
    for slope in (-1, 1):
        draw.line((x + 276, y - 5 * slope, x + 286, y + 5 * slope), fill=QUIET, width=2)
    draw.text((x + 294, y), "dead codeword", fill=INK, font=font, anchor="lm")
