"""Many pictures of one size in one file: the form in which a widget carries the slices of a patient, a kilobyte or two each.

Pictures are cropped to the brain. Greys and maps are lossy (WebP); regions, one colour each, are not.
"""

import io
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from PIL import Image as Picture

from drlib.figures.images import LABEL_RGB, WINDOW
from drlib.radiomics.histogram import inside_brain

QUALITY = 55  # of WebP: 1.5 kB for a picture of 128 x 128 pixels
MARGIN = 3  # pixels around the brain


@dataclass(frozen=True)
class Crop:
    """Rows and columns that are shown."""

    rows: slice
    columns: slice

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Return (N, h, w, ...) of pictures (N, H, W, ...)."""
        return pictures[:, self.rows, self.columns]


def crop_to_brain(images: np.ndarray) -> Crop:
    """Return the smallest crop of slices (S, 4, H, W) that shows all of the brain and a margin."""
    inside = inside_brain(images).any(axis=0)
    bounds = []
    for axis in (1, 0):
        seen = np.flatnonzero(inside.any(axis=axis))
        first, last = (seen[0], seen[-1]) if len(seen) else (0, inside.shape[0] - 1)
        bounds.append(slice(int(max(first - MARGIN, 0)), int(last) + 1 + MARGIN))
    return Crop(*bounds)


def grey_sheet(images: np.ndarray, crop: Crop) -> dict[str, Any]:
    """Return z-scored images (N, H, W) as a sheet of greys in the book's window."""
    scaled = (crop(images).astype(np.float32) - WINDOW[0]) / (WINDOW[1] - WINDOW[0])
    return _sheet((255 * np.clip(scaled, 0, 1)).round().astype(np.uint8), "webp", quality=QUALITY)


def label_sheet(labels: np.ndarray, crop: Crop) -> dict[str, Any]:
    """Return labels (N, H, W) as a sheet in the colours of the regions, the background transparent."""
    colours = np.column_stack([np.round(255 * LABEL_RGB), [0, 255, 255, 255]]).astype(np.uint8)
    return _sheet(colours[crop(labels)], "webp", lossless=True)


def map_sheet(maps: np.ndarray, crop: Crop, top: float, colours: str) -> dict[str, Any]:
    """Return maps (N, H, W), 0 to ``top``, as a sheet in matplotlib's ``colours``, transparent where the map is small."""
    share = np.clip(crop(maps) / top if top > 0 else np.zeros_like(crop(maps)), 0, 1)
    pixels = matplotlib.colormaps[colours](share, bytes=True)
    pixels[..., 3] = (255 * np.clip(4 * share, 0, 1)).astype(np.uint8)  # whole from a quarter of the top on
    return _sheet(pixels, "webp", quality=QUALITY)


def _sheet(pictures: np.ndarray, form: str, **options: Any) -> dict[str, Any]:
    """Put pictures (N, h, w) or (N, h, w, 4) in a nearly square grid, row after row."""
    n, height, width = pictures.shape[:3]
    columns = max(1, int(np.ceil(np.sqrt(n))))
    grid = np.zeros((-(-n // columns) * columns, *pictures.shape[1:]), np.uint8)
    grid[:n] = pictures
    grid = grid.reshape(-1, columns, *pictures.shape[1:]).swapaxes(1, 2)  # (rows, h, columns, w, ...)
    buffer = io.BytesIO()
    Picture.fromarray(grid.reshape(-1, columns * width, *pictures.shape[3:])).save(buffer, form, method=2, **options)
    return {"picture": buffer.getvalue(), "type": f"image/{form}", "columns": columns, "width": width, "height": height}
