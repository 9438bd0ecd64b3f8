"""The MRI viewer as a notebook shows it: a still picture, which ``viewer.js`` brings to life in the built book and in a report.

Where the scripts of the book are not there (in JupyterLab, on a code host), the picture and a sentence stay.
"""

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from drlib.figures.images import LABEL_RGB, WINDOW

STATIC = Path(__file__).with_name("static")  # viewer.js, viewer.css and NiiVue, staged into the site's _static
NIIVUE = STATIC / "vendor" / "niivue" / "niivue.umd.js"
OVERLAYS = {
    "none": "",
    "truth": "true regions",
    "prediction": "predicted regions",
    "codewords": "codeword map",
    "HGG": "HGG-responsible region",
    "LGG": "LGG-responsible region",
}
HEAT_AT = (0.0, 20 / 255, 96 / 255, 176 / 255, 1.0)  # colours and weights of a responsible region, as in viewer.js
HEAT_WEIGHT = (0.0, 0.0, 170 / 255, 240 / 255, 1.0)
HEAT_COLOURS = ("#57106e", "#57106e", "#bc3754", "#f98e09", "#fcffa4")
QUALITY = 80  # of the still picture: a sixth of the bytes of a PNG, which stand in the page before its text
SIDE = 560  # pixels of the still picture
OPACITY = 0.6
TYPE = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # of the book's figures
STILL = "A still picture: to scroll, open the built book (drlib book) or a report in a browser with JavaScript and WebGL 2."
LEFT_OUT = (
    "The images of this cohort are left out of the page on purpose: they are no phantoms. "
    "<code>drlib book --publish-images</code> puts them in."
)


@dataclass(frozen=True)
class StillPicture:
    """What a viewer shows before it is loaded, and where it never is.

    Attributes:
        webp: one square picture in radiological orientation. ``alt``: what it shows, in words.
    """

    webp: bytes
    alt: str

    def to_html(self) -> str:
        """Return the picture as an element."""
        source = f"data:image/webp;base64,{base64.b64encode(self.webp).decode()}"
        return f'<img class="mri-poster" style="max-width: 100%; width: 32rem" alt="{html.escape(self.alt)}" src="{source}">'


@dataclass(frozen=True)
class VolumeViewer:
    """The viewer of a patient: choose patient, modality and overlay, scroll, and read the numbers under the crosshair.

    Attributes:
        patient: id of the patient shown first.
        pictures: the still picture; two where two overlays stand side by side.
        caption: plain text: whose images these are, and what they may be used for.
        modality: shown first. ``overlay``: shown first, one of ``OVERLAYS``; ``compare``: that of a second, linked picture.
        overlays: those that can be chosen.
        atlas: address of the page with a card per codeword; empty for no link.
    """

    patient: str
    pictures: Sequence[StillPicture]
    caption: str
    modality: str = "flair"
    overlay: str = "none"
    compare: str = ""
    overlays: Sequence[str] = tuple(OVERLAYS)
    atlas: str = ""

    def _repr_html_(self) -> str:
        data = {name: getattr(self, name) for name in ("patient", "modality", "overlay", "compare", "atlas")}
        data["overlays"] = " ".join(self.overlays)
        attributes = " ".join(f'data-{name}="{html.escape(value)}"' for name, value in data.items() if value)
        pictures = "".join(picture.to_html() for picture in self.pictures)
        still = f'<div class="mri-still">{pictures}</div><p class="mri-fallback">{STILL}</p>'
        return f'<figure class="mri-viewer" {attributes}>{still}<figcaption>{html.escape(self.caption)}</figcaption></figure>'


def leave_images_out(page: str) -> str:
    """Return the HTML of viewers with a sentence in place of every picture, and nothing that a script would bring to life."""
    still = re.compile(r'<div class="mri-still">.*?</div><p class="mri-fallback">.*?</p>', re.DOTALL)
    page = still.sub(f'<p class="mri-left-out">{LEFT_OUT}</p>', page)
    return re.sub(r'<figure class="mri-viewer"[^>]*>', '<figure class="mri-viewer" data-left-out="true">', page)


def draw_still(image: np.ndarray, overlay: np.ndarray | None = None, kind: str = "none", colours: np.ndarray | None = None) -> bytes:
    """Return one slice as the viewer shows it first, as WebP.

    Args:
        image: (H, W), z-scored, cropped as the volumes are.
        overlay: (H, W) labels, code indices or L1 changes, by ``kind`` (one of ``OVERLAYS``); None where ``kind`` is ``none``.
        colours: (K, 3) of the codewords and 0 where a code is not coloured; for ``kind`` ``codewords``.
    """
    grey = np.clip((image.astype(np.float32) - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1)
    pixels = np.repeat(grey[..., None], 3, axis=2)
    if kind != "none":
        colour, weight = _colour(overlay, kind, colours)
        pixels = pixels * (1 - OPACITY * weight[..., None]) + colour * OPACITY * weight[..., None]
    buffer = io.BytesIO()
    _square(pixels).save(buffer, format="WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()


def _colour(overlay: np.ndarray, kind: str, colours: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return (H, W, 3) colours and (H, W) weights of an overlay."""
    if kind in ("truth", "prediction"):
        return LABEL_RGB[overlay], (overlay > 0).astype(float)
    if kind == "codewords":
        return colours[overlay], colours[overlay].any(axis=-1).astype(float)
    share = overlay / (overlay.max() or 1.0)
    channels = np.array([to_rgb(colour) for colour in HEAT_COLOURS]).T
    return np.stack([np.interp(share, HEAT_AT, channel) for channel in channels], axis=-1), np.interp(share, HEAT_AT, HEAT_WEIGHT)


def _square(pixels: np.ndarray) -> Picture.Image:
    picture = Picture.fromarray((255 * pixels).round().astype(np.uint8))
    scale = SIDE / max(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Picture.Resampling.BILINEAR)
    sheet = Picture.new("RGB", (SIDE, SIDE))
    sheet.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    draw = ImageDraw.Draw(sheet)
    for x, letter, anchor in ((8, "R", "lm"), (SIDE - 8, "L", "rm")):
        draw.text((x, SIDE // 2), letter, fill="white", font=ImageFont.truetype(TYPE, 22), anchor=anchor)
    return sheet
