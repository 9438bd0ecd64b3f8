"""A figure as SVG: one file that is right on a light page, on a dark one (``file.svg#dark``) and in a drawing program.

Every colour outside a picture of a scan gets a class, and rules that hold only where the file is shown as ``#dark``: paper and ink
change places, and colours that would drown on the dark ground are lightened until they stand out. Pixels, and what is drawn over them,
stay as they are, for a grey level of a scan is a result. Source: ours.
"""

import io
import re
from colorsys import hls_to_rgb, rgb_to_hls

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

KEPT = "as-it-is"
DARK_GROUND, DARK_INK = "#14181e", "#eceff3"  # the ground is the book's
DARK_CONTRAST = 4.5  # of every colour against the dark ground (WCAG AA for text)
_COLOUR = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")


def keep_colours(*artists: Artist) -> None:
    """Let ``artists`` keep their colours in the dark."""
    for artist in artists:
        artist.set_gid(KEPT)


def figure_svg(figure: Figure, dpi: float | None = None) -> str:
    """Return ``figure`` as SVG, cropped to what is drawn, its type as outlines; shown as ``#dark`` it suits a dark page."""
    for ax in figure.axes:
        if ax.images:
            frame = {ax.patch, ax.xaxis, ax.yaxis, ax.title, ax._left_title, ax._right_title, *ax.spines.values(), ax.legend_}
            keep_colours(*(child for child in ax.get_children() if child not in frame))
        keep_colours(*(mesh for mesh in ax.collections if isinstance(mesh, QuadMesh)))
    buffer = io.StringIO()
    FigureCanvasSVG(figure)
    with matplotlib.rc_context({"svg.hashsalt": "deep-radiomics", "svg.fonttype": "path"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", dpi=dpi or figure.dpi, bbox_inches="tight", pad_inches=0.08, metadata=nothing)
    return add_dark(buffer.getvalue())


def add_dark(svg: str) -> str:
    """Return ``svg`` with rules for ``#dark``: a class for each colour outside of what is kept."""
    svg = svg[svg.index("<svg") :]
    parts, colours = [], set()
    for text, kept in _split_kept(svg):
        if not kept:
            colours |= {colour for _, colour in _COLOUR.findall(text)}
            text = re.sub(r'style="([^"]*)"', _add_classes, text)
        parts.append(text)
    values = ";".join(f"--c{colour[1:]}:{dark(colour)}" for colour in sorted(colours))
    rules = [f"svg:target{{{values}}}"]  # inherited, so that it reaches what a <use> repeats
    for colour in sorted(colours):
        rules += [f".{name[0]}{colour[1:]}{{{name}:var(--c{colour[1:]},{colour})!important}}" for name in ("fill", "stroke")]
    body = "".join(parts).replace("<svg ", '<svg id="dark" ', 1)
    return body.replace("<defs>", f'<defs>\n  <style type="text/css">{"".join(rules)}</style>', 1)


def dark(colour: str) -> str:
    """Return the colour (``#rrggbb``) that does on the dark ground what ``colour`` does on white."""
    red, green, blue = to_rgb(colour)
    if max(red, green, blue) - min(red, green, blue) < 0.13:  # grey: from paper to ink
        depth = 1 - np.mean((red, green, blue))
        depth = depth**0.7 if depth > 0.3 else 1.1 * depth  # type stands out, grid lines stay faint
        ground, ink = np.array(to_rgb(DARK_GROUND)), np.array(to_rgb(DARK_INK))
        return to_hex(ground + depth * (ink - ground))
    hue, light, saturation = rgb_to_hls(red, green, blue)
    while light < 0.95 and contrast(hls_to_rgb(hue, light, saturation), DARK_GROUND) < DARK_CONTRAST:
        light += 0.01
    return to_hex(hls_to_rgb(hue, light, saturation))


def contrast(first: object, second: object) -> float:
    """Return the contrast ratio (1 to 21) of two colours, as WCAG 2 defines it."""
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: object) -> float:
    value = np.array(to_rgb(colour))
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _add_classes(match: re.Match) -> str:
    names = [f"{name[0]}{colour[1:]}" for name, colour in _COLOUR.findall(match[1])]
    return f'class="{" ".join(names)}" {match[0]}' if names else match[0]


def _split_kept(svg: str) -> list[tuple[str, bool]]:
    """Return the pieces of ``svg`` in their order, each with whether it lies in a group that keeps its colours."""
    pieces, start, depth = [], 0, 0
    for tag in re.finditer(r"<(/?)g\b([^>]*)>", svg):
        opens = not tag[1]
        if depth == 0 and opens and f'id="{KEPT}"' in tag[2]:
            pieces.append((svg[start : tag.start()], False))
            start, depth = tag.start(), 1
        elif depth:
            depth += 1 if opens else -1
            if depth == 0:
                pieces.append((svg[start : tag.end()], True))
                start = tag.end()
    return [*pieces, (svg[start:], False)]
