"""A browser of slices: the four modalities, truth and prediction of one patient, turned over with a slider, with a kernel or without."""

import ipywidgets as widgets
import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from drlib.cohort.regions import LABELS, MODALITIES
from drlib.figures.images import LABEL_RGB, MODALITY_NAMES, WINDOW, largest_slice
from drlib.figures.style import REGION_COLOURS
from drlib.viewer.player import FRAME_COLOURS, Frame, link_frames, make_slider, make_stack, show_when_alive, to_png, type_face

TILE = 224  # pixels of one picture in a frame
MOST_FRAMES = 32
OPACITY = 0.6


def slice_browser(
    images: np.ndarray, labels: np.ndarray | None = None, prediction: np.ndarray | None = None, most_frames: int = MOST_FRAMES
) -> widgets.VBox:
    """Return a widget that turns over the slices of one patient, from inferior to superior.

    Args:
        images: (S, 4, H, W), z-scored, in the order of ``MODALITIES``.
        labels: (S, H, W) true labels 0-3, or None.
        prediction: (S, H, W) predicted labels 0-3, or None.
        most_frames: slices that are prerendered, evenly spaced over those that show brain; they work without a kernel.

    With a kernel, the first move of the slider brings a second slider through every slice and one for the opacity of the colours.
    """
    chosen = choose_slices(images, labels, most_frames)
    frames = [to_png(draw_slice(images, labels, prediction, index), FRAME_COLOURS) for index in chosen]
    shown = int(np.abs(chosen - largest_slice(labels)).argmin()) if labels is not None else len(chosen) // 2
    stack = make_stack(frames, "Slices of one patient: four modalities, truth and prediction", "690px", shown)
    slider = make_slider(len(frames), "slice", shown)
    link_frames(slider, [stack])
    live = _live_browser(images, labels, prediction, int(chosen[shown]))
    show_when_alive(live, slider)
    return widgets.VBox([slider, stack, _legend(prediction is not None), live])


def choose_slices(images: np.ndarray, labels: np.ndarray | None, most: int) -> np.ndarray:
    """Return at most ``most`` slice numbers, evenly spaced over those that show anything, with the one of most tumour."""
    pixels = images.reshape(len(images), -1)
    seen = np.flatnonzero(pixels.max(axis=1) > pixels.min(axis=1))
    first, last = (seen[0], seen[-1]) if len(seen) else (0, len(images) - 1)
    chosen = np.unique(np.linspace(first, last, min(most, last - first + 1)).round().astype(int))
    if labels is not None:
        chosen[np.abs(chosen - largest_slice(labels)).argmin()] = largest_slice(labels)
    return chosen


def draw_slice(
    images: np.ndarray, labels: np.ndarray | None, prediction: np.ndarray | None, index: int, opacity: float = OPACITY
) -> Picture.Image:
    """Return one slice as a picture: T1, T1ce, T2, FLAIR, and truth and prediction in colour over FLAIR, in radiological orientation."""
    tiles = [_tile(_grey(image), MODALITY_NAMES[modality]) for modality, image in zip(MODALITIES, images[index], strict=True)]
    flair = _grey(images[index, MODALITIES.index("flair")]) * 0.7
    for name, values in (("truth", labels), ("prediction", prediction)):
        if values is not None:
            tiles.append(_tile(_coloured(flair, values[index], opacity), name))
    columns = 3 if len(tiles) > 4 else 2
    rows = -(-len(tiles) // columns)
    sheet = Picture.new("RGB", (columns * TILE + 2 * (columns - 1), rows * TILE + 2 * (rows - 1) + 22), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * (TILE + 2), number // columns * (TILE + 2)))
    text = f"slice {index + 1} of {len(images)}, inferior to superior; window \N{MINUS SIGN}{-WINDOW[0]:g} to {WINDOW[1]:g} SD"
    ImageDraw.Draw(sheet).text((2, sheet.height - 18), text, fill="#1F2933", font=type_face(12))
    return sheet


def _live_browser(images: np.ndarray, labels: np.ndarray | None, prediction: np.ndarray | None, index: int) -> widgets.VBox:
    number = widgets.IntSlider(index + 1, 1, len(images), description="every slice", layout=widgets.Layout(width="60%"))
    opacity = widgets.FloatSlider(value=OPACITY, min=0, max=1, step=0.1, description="opacity")
    image = Frame(to_png(draw_slice(images, labels, prediction, index)), "One slice of the patient", "690px")

    def redraw(_: dict) -> None:
        image.show(to_png(draw_slice(images, labels, prediction, number.value - 1, opacity.value)))

    number.observe(redraw, names="value")
    opacity.observe(redraw, names="value")
    return widgets.VBox([number, opacity, image])


def _grey(image: np.ndarray) -> np.ndarray:
    scaled = (image.astype(np.float32) - WINDOW[0]) / (WINDOW[1] - WINDOW[0])
    return np.repeat(np.clip(scaled, 0, 1)[..., None], 3, axis=2)


def _coloured(grey: np.ndarray, labels: np.ndarray, opacity: float) -> np.ndarray:
    weight = opacity * (labels > 0)[..., None]
    return grey * (1 - weight) + LABEL_RGB[labels] * weight


def _tile(pixels: np.ndarray, name: str) -> Picture.Image:
    tile = Picture.fromarray((255 * pixels).round().astype(np.uint8)).resize((TILE, TILE), Picture.Resampling.BILINEAR)
    draw = ImageDraw.Draw(tile)
    font = type_face(12)
    draw.text((6, 4), name, fill="white", font=font)
    draw.text((4, TILE // 2), "R", fill="white", font=font, anchor="lm")
    draw.text((TILE - 4, TILE // 2), "L", fill="white", font=font, anchor="rm")
    return tile


def _legend(predicted: bool) -> widgets.HTML:
    swatch = "<span style='display:inline-block;width:1em;height:1em;vertical-align:-.15em;background:{}'></span> {}"
    regions = " &nbsp; ".join(swatch.format(REGION_COLOURS[name], name) for name in LABELS[1:])
    notice = "<br>Predictions are for research only." if predicted else ""
    return widgets.HTML(f"{regions} &nbsp; R, L: the patient's right and left{notice}")
