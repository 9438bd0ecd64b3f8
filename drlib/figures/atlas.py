"""All codewords of the codebook atlas at once."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drlib.cohort.regions import LABELS
from drlib.figures.style import INK, QUIET, REGION_COLOURS, describe, grid_lines, new_figure, styled
from drlib.figures.words import Words, say_list

TISSUE_COLOURS = {"outside": "#5B6470", "brain": "#A9B8C9"} | {name: REGION_COLOURS[name] for name in ("NET", "ED", "ET")}
TISSUE_NAMES = {"outside": "outside the brain", "brain": "brain without tumour", "NET": "NET", "ED": "ED", "ET": "ET"}
TISSUE_MARKERS = {"outside": "s", "brain": "o", "NET": "v", "ED": "D", "ET": "^"}
MOSTLY = 0.5  # of its tokens at a tumour


@styled
def plot_atlas(table: pd.DataFrame, n_patients: int) -> Figure:
    """Show all codewords in use: AUC of the count against tokens per patient, coloured by the tissue most of their pixels lie in.

    ``table``: of :class:`drlib.radiomics.atlas.Atlas`. Codewords of which most tokens have tumour in or beside their cell are outlined;
    responsible ones are ringed and named.
    """
    figure, ax = new_figure(4.6)
    shown = table.assign(per_patient=table["tokens"] / n_patients, edge=np.where(table["near_tumour"] >= MOSTLY, INK, "white"))
    for tissue, colour in TISSUE_COLOURS.items():
        chosen = shown[shown["tissue"] == tissue]
        style = {"s": 27, "linewidth": 0.8, "marker": TISSUE_MARKERS[tissue], "edgecolors": chosen["edge"]}
        ax.scatter(chosen["auc"], chosen["per_patient"], color=colour, **style)
    ringed = shown[shown["responsible"].astype(bool)]
    ax.scatter(ringed["auc"], ringed["per_patient"], s=120, facecolor="none", edgecolor=INK, linewidth=1.5)
    for number, codeword in enumerate(ringed.sort_values("auc").itertuples()):
        place = {"xytext": (9, 4), "ha": "left"} if number % 2 else {"xytext": (-9, -10), "ha": "right"}  # neighbours apart
        ax.annotate(str(codeword.Index), (codeword.auc, codeword.per_patient), textcoords="offset points", fontsize=9, **place)
    ax.axvline(0.5, color=QUIET, linewidth=1, linestyle="--")
    reach = min(0.5, (table["auc"] - 0.5).abs().max() + 0.06)
    ax.set(xlim=(0.5 - reach, 0.5 + reach), yscale="log", ylabel="tokens per patient\n(mean, logarithmic)")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("AUC of the count alone (below 0.5: more in LGG, above: more in HGG)")
    figure.legend(handles=_handles(table), loc="outside lower center", ncols=3, title="most of its pixels are", title_fontsize=9)
    grid_lines(ax, "both")
    return describe(figure, _words(table, n_patients))


def _words(table: pd.DataFrame, n_patients: int) -> Words:
    tumour, near = table["tissue"].isin(LABELS[1:]), table["near_tumour"] >= MOSTLY
    responsible = table.index[table["responsible"].astype(bool)]
    return Words(
        f"{int(tumour.sum())} of {len(table)} codewords in use lie mostly on tumour, and {int((near & ~tumour).sum())} more at its side.",
        "A point is a codeword, its colour and mark the tissue of most of its pixels, counted over all its tokens in "
        f"{n_patients} patients; ringed: responsible ({say_list(responsible)}). Far from the dashed line the count alone tells the grades "
        "apart; among so many, some are far by chance.",
        "A cloud of points: tokens per patient, on a logarithmic axis, against the AUC of the count, with a dashed line at 0.5.",
    )


def _handles(table: pd.DataFrame) -> list[Line2D]:
    def handle(marker: str, label: str, **colours: str) -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, markersize=6, label=label, **colours)

    counts = table["tissue"].value_counts()
    tissues = [
        handle(TISSUE_MARKERS[tissue], f"{TISSUE_NAMES[tissue]} ({counts[tissue]})", color=colour)
        for tissue, colour in TISSUE_COLOURS.items()
        if tissue in counts
    ]
    return [*tissues, handle("o", "outlined: tumour in or beside most of its cells", markerfacecolor="none", markeredgecolor=INK)]
