"""One look for every figure of the book: colours, type, and a figure that shows itself.

The same colour is the same region or the same grade everywhere. The colours stay apart for readers with deuteranopia, protanopia
and tritanopia (tested), and every colour is doubled by a label, a marker or a position. Source: ours.
"""

import base64
import html
import io
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
import pandas as pd
from IPython import get_ipython
from IPython.core.formatters import BaseFormatter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from traitlets import ObjectName, Unicode

from drlib.figures.vector import figure_svg
from drlib.figures.words import Words

REGION_COLOURS = {"NET": "#9D5BDB", "ED": "#12A57D", "ET": "#F4C430", "TC": "#8A4B2A", "WT": "#4D4D4D"}
GRADE_COLOURS = {"LGG": "#0072B2", "HGG": "#D55E00"}
GRADE_MARKERS = {"LGG": "o", "HGG": "^"}
INK = "#1F2933"  # text, axes, our own values where neither region nor grade is meant
QUIET = "#6B7280"  # reference lines and secondary text; 4.8 : 1 on white
PAPER_MARKER = {"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black", "markeredgewidth": 1.3, "color": "black"}
WIDTH_IN = 8.0  # every figure has the width of the page, so that type is of one size

pd.set_option("display.max_colwidth", None)  # the tables beside the figures show their words whole


class _CsvFormatter(BaseFormatter):
    format_type = Unicode("text/csv")
    print_method = ObjectName("_repr_csv_")  # of frames alone, by type: nothing else has this method


def offer_csv() -> None:
    """In a notebook: let every frame that is shown carry its values as CSV of full precision too, of which the book makes its downloads."""
    shell = get_ipython()
    if shell is None:
        return
    formatter = _CsvFormatter(parent=shell.display_formatter, enabled=True)
    formatter.for_type(pd.DataFrame, pd.DataFrame.to_csv)
    shell.display_formatter.formatters["text/csv"] = formatter


offer_csv()

STYLE: dict[str, Any] = {
    "figure.dpi": 140,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#E5E7EB",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "image.interpolation": "nearest",
    "lines.linewidth": 1.8,
    "svg.hashsalt": "deep-radiomics",
}

P = ParamSpec("P")
R = TypeVar("R")


class BookFigure(Figure):
    """A figure that belongs to no window list: a notebook shows it once, where it is the value of a cell, and then forgets it.

    It comes with its ``words``. A notebook shows picture and caption; the same output holds the figure as PNG and as SVG, and the words
    as metadata, of which the book is made.
    """

    words: Words | None = None

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        png = figure_png(self)
        bundle = {"text/plain": self.words.caption if self.words else "a figure", "text/html": _notebook_figure(png, self.words)}
        bundle |= {"image/png": base64.b64encode(png).decode(), "image/svg+xml": figure_svg(self)}
        return bundle, {"drlib": self.words._asdict()} if self.words else {}


def describe(figure: Figure, words: Words) -> Figure:
    """Give ``figure`` its words and return it."""
    figure.words = words
    return figure


def figure_png(figure: Figure, dpi: float | None = None) -> bytes:
    """Return ``figure`` as PNG bytes, cropped to what is drawn."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=dpi or figure.dpi, bbox_inches="tight", pad_inches=0.08, metadata={"Software": None})
    return buffer.getvalue()


def _notebook_figure(png: bytes, words: Words | None) -> str:
    alt, caption = (html.escape(words.alt), html.escape(words.caption)) if words else ("", "")
    picture = f'<img alt="{alt}" style="max-width: 100%" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    return f'<figure style="margin: 0; max-width: 60em">{picture}<figcaption>{caption}</figcaption></figure>'


def styled(plot: Callable[P, R]) -> Callable[P, R]:
    """Draw with the book's style and leave the settings of the reader's session as they were."""

    @wraps(plot)
    def draw(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(STYLE):
            return plot(*args, **kwargs)

    return draw


def new_figure(height_in: float, rows: int = 1, columns: int = 1, width_in: float = WIDTH_IN, **subplots: Any) -> tuple[BookFigure, Any]:
    """Return a new figure and its axes (one, or an array as from ``subplots``)."""
    figure = BookFigure(figsize=(width_in, height_in))
    return figure, figure.subplots(rows, columns, **subplots)


def figure_and_axes(ax: Axes | None, height_in: float, width_in: float = WIDTH_IN) -> tuple[Figure, Axes]:
    """Return ``ax`` with its figure, or a new figure with one axes where ``ax`` is None."""
    return (ax.figure, ax) if ax is not None else new_figure(height_in, width_in=width_in)


def grade_label(grade: str, n: int) -> str:
    """Return ``HGG (n = 70)``."""
    return f"{grade} (n = {n})"


def region_handles(regions: tuple[str, ...] = ("NET", "ED", "ET")) -> list[Patch]:
    """Return legend entries of regions."""
    return [Patch(facecolor=REGION_COLOURS[region], edgecolor="none", label=region) for region in regions]


def grade_handles(counts: dict[str, int] | None = None) -> list[Line2D]:
    """Return legend entries of grades, with the number of patients where ``counts`` is given."""
    return [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=GRADE_MARKERS[grade],
            color=colour,
            label=grade if counts is None else grade_label(grade, counts[grade]),
        )
        for grade, colour in GRADE_COLOURS.items()
    ]


def paper_handle(label: str = "paper") -> Line2D:
    """Return the legend entry of a published value."""
    return Line2D([], [], linestyle="none", markersize=6, label=label, **PAPER_MARKER)


def grid_lines(ax: Axes, axis: str = "y") -> None:
    """Draw faint lines to read values against."""
    ax.grid(True, axis=axis)
