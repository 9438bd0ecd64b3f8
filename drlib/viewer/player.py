"""Pictures that a slider turns over, with a kernel or without: prerendered frames, linked in the reader's browser.

A page without a kernel keeps the state of a widget and what is linked in the browser (``jslink``), nothing else. So everything that must
work there is a frame; what needs the library stays hidden until a kernel answers the first move of a slider.
"""

import base64
import html
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import ipywidgets as widgets
import matplotlib
from PIL import Image as Picture
from PIL import ImageFont

FRAME_COLOURS = 96  # of the palette that a frame is reduced to; a third of the bytes, no visible difference


def to_png(picture: Picture.Image, colours: int | None = None) -> bytes:
    """Return a picture as PNG bytes, reduced to a palette of ``colours`` (None: unreduced, and quickly written)."""
    buffer = io.BytesIO()
    if colours is None:
        picture.save(buffer, format="PNG", compress_level=1)
    else:
        picture.convert("RGB").quantize(colours, dither=Picture.Dither.NONE).save(buffer, format="PNG")
    return buffer.getvalue()


@cache
def type_face(size: int) -> ImageFont.FreeTypeFont:
    """Return the type of the book's figures."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


class Frame(widgets.HTML):
    """A picture that shrinks with the page and says what it shows to those who do not see it.

    HTML, because an ``Image`` widget has no alternative text, and one with a tooltip fails in a page without a kernel.
    """

    def __init__(self, png: bytes, alt: str, width: str = "100%"):
        super().__init__(layout=widgets.Layout(max_width="100%"))
        self._attributes = f'alt="{html.escape(alt)}" style="width: {width}; max-width: 100%"'
        self.show(png)

    def show(self, png: bytes) -> None:
        """Replace the picture by another (PNG bytes)."""
        self.value = f'<img {self._attributes} src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def make_stack(frames: Sequence[bytes], alt: str, width: str = "100%", shown: int = 0) -> widgets.Stack:
    """Return a stack that shows one of ``frames`` (PNG bytes)."""
    return widgets.Stack([Frame(frame, alt, width) for frame in frames], selected_index=shown)


def make_slider(n_frames: int, name: str, shown: int = 0) -> widgets.IntSlider:
    """Return a slider over ``n_frames`` frames. (A ``Play`` button fails in a page whose icons are drawn by script, as the theme's are.)"""
    return widgets.IntSlider(shown, 0, n_frames - 1, description=name, readout=False, layout=widgets.Layout(width="min(100%, 480px)"))


def link_frames(slider: widgets.Widget, stacks: Sequence[widgets.Stack], trait: str = "value") -> None:
    """Let ``slider`` turn over every stack, in the browser."""
    for stack in stacks:
        widgets.jslink((slider, trait), (stack, "selected_index"))


def show_when_alive(box: widgets.Box, *signals: widgets.Widget, on_first: Callable[[], None] | None = None) -> None:
    """Hide ``box`` until a kernel hears one of ``signals`` change: where no kernel runs, no dead control is shown."""
    box.layout.display = "none"

    def reveal(change: dict) -> None:
        if box.layout.display == "none":
            box.layout.display = ""
            if on_first is not None:
                on_first()

    for signal in signals:
        signal.observe(reveal, names="value")
