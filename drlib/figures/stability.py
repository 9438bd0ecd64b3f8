"""Figures of stability: headline numbers seed by seed, two codebooks matched to each other, and what they make of one patient."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drlib.cohort.regions import GRADES
from drlib.figures.ablation import MAP_COLOURS, MAP_RANGE, standardise
from drlib.figures.cohort import picture_legend
from drlib.figures.images import Panel, name_columns, name_rows, outline_labels, show_image, show_map
from drlib.figures.style import INK, PAPER_MARKER, QUIET, WIDTH_IN, describe, grid_lines, new_figure, paper_handle, styled
from drlib.figures.words import Words, say, say_count, say_interval, say_list

SEED_COLOURS = ("#0B4F8A", "#B3261E", "#12A57D", "#A88600", "#9D5BDB", "#6B7280")
KIND_LOOKS = {"other phantoms": ("#0B4F8A", "o"), "same phantoms": ("#12A57D", "^")}
UNMATCHED = (0.35, 0.35, 0.35)


@styled
def plot_seeds(claims: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Show claims seed by seed, each with the interval of its own run, and above them the mean over seeds with its t interval.

    Args:
        claims: ``id``, ``seed``, ``value``, ``low``, ``high``, ``paper_value``.
        summary: index ``id``; ``claim``, ``mean``, ``low``, ``high`` over seeds. Drawn in this order from the top.

    Source: ours.
    """
    seeds = sorted(claims["seed"].unique())
    figure, ax = new_figure(0.9 + 0.14 * (len(seeds) + 2) * max(len(summary), 1))
    step, ticks = len(seeds) + 2, []
    for number, (name, row) in enumerate(summary.iterrows()):
        top = -number * step
        ticks.append(top - len(seeds) / 2)
        ax.hlines(top, row["low"], row["high"], color=INK, linewidth=2.6)
        ax.plot(row["mean"], top, "s", color=INK, markersize=6)
        own = claims[claims["id"] == name].set_index("seed")
        for place, seed in enumerate(seeds, start=1):
            if seed in own.index:
                _draw_seed(ax, top - place, own.loc[seed], SEED_COLOURS[(place - 1) % len(SEED_COLOURS)])
        paper = own["paper_value"].iloc[0]
        if np.isfinite(paper):
            ax.plot(paper, top, markersize=6, zorder=4, **{**PAPER_MARKER, "markerfacecolor": "none"})
        if number:
            ax.axhline(top + 1, color="#E5E7EB", linewidth=0.8)
    ax.set_yticks(ticks, [_wrap(claim) for claim in summary["claim"]], fontsize=8.5)
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(-step * max(len(summary), 1) + 0.8, 1.2), xlabel="value")
    ax.set_xlim(left=0)
    grid_lines(ax, "x")
    mean = Line2D([], [], color=INK, marker="s", markersize=6, linewidth=2.6, label="mean over seeds, t interval")
    dots = [
        Line2D([], [], color=SEED_COLOURS[place % len(SEED_COLOURS)], marker="o", markersize=4, linewidth=1.2, label=f"seed {seed}")
        for place, seed in enumerate(seeds)
    ]
    figure.legend(handles=[mean, *dots, paper_handle()], loc="outside upper center", ncols=4)
    return describe(figure, _seed_words(summary, seeds))


@styled
def plot_agreement(pairs: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """Show measures of agreement, one point per pair of codebooks, beside what chance gives.

    Args:
        pairs: one row per pair: ``kind`` (other phantoms, same phantoms), the ``measures`` and, where there is one, ``<measure>_chance``.
        measures: name of a column -> words, drawn from the top.

    Source: ours.
    """
    figure, ax = new_figure(1.0 + 0.42 * len(measures))
    for number, measure in enumerate(measures):
        for kind, (colour, marker) in KIND_LOOKS.items():
            values = pairs.loc[pairs["kind"] == kind, measure]
            height = -number + (0.14 if kind == "other phantoms" else -0.14)
            ax.plot(values, np.full(len(values), height), marker, color=colour, alpha=0.75, markersize=5, markeredgewidth=0)
        if f"{measure}_chance" in pairs:
            values = pairs[f"{measure}_chance"]
            ax.plot(values, np.full(len(values), float(-number)), "|", color=QUIET, markersize=11, markeredgewidth=1.2)
    ax.set_yticks(-np.arange(len(measures)), list(measures.values()), fontsize=8.5)
    ax.set(xlim=(min(-0.02, ax.get_xlim()[0]), 1.02), ylim=(-len(measures) + 0.4, 0.6), xlabel="agreement (1: the same)")
    ax.tick_params(axis="y", length=0)
    grid_lines(ax, "x")
    handles = [
        Line2D([], [], linestyle="none", color=colour, marker=marker, markersize=5, label=f"pair, {kind}")
        for kind, (colour, marker) in KIND_LOOKS.items()
    ]
    handles.append(Line2D([], [], linestyle="none", color=QUIET, marker="|", markersize=11, markeredgewidth=1.2, label="by chance"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return describe(figure, _agreement_words(pairs, measures))


@styled
def plot_matching(overlaps: Sequence[tuple[pd.DataFrame, tuple[str, str]]], titles: Sequence[str]) -> Figure:
    """Show how often codewords of two codebooks meet: rows of the first, columns of the second, partners on the diagonal.

    ``overlaps``: counts of positions (rows and columns in the order of the matching) and the names of the two trainings. Source: ours.
    """
    figure, axes = new_figure(WIDTH_IN / 2 + 0.2, 1, len(overlaps), squeeze=False)
    largest = max(int(counts.to_numpy().max()) for counts, _ in overlaps)
    norm = LogNorm(1, largest)
    for ax, (counts, (first, second)), title in zip(axes[0], overlaps, titles, strict=True):
        values = np.ma.masked_equal(counts.to_numpy(), 0)
        ax.imshow(values, cmap="viridis", norm=norm, interpolation="nearest", aspect="equal")
        ax.set(
            title=title, xlabel=f"codewords of {second}, in the order of their partners", ylabel=f"codewords of {first}, commonest first"
        )
        ax.set(xticks=[], yticks=[])
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, shrink=0.75, aspect=25, label="positions in the brain (white: none)")
    return describe(figure, _matching_words(overlaps))


@styled
def plot_two_codebooks(
    examples: pd.DataFrame, names: tuple[str, str], partners: Mapping[int, int], order: Sequence[int], pixel_mm: float
) -> Figure:
    """Show one slice of a patient of each grade as two codebooks see it: index maps, partners in one colour, and responsible regions.

    Args:
        examples: pixels with ``patient``, ``grade``, ``row``, ``column``, ``t1ce``, ``label``, ``code_<name>``, ``map_<name>_<grade>``.
        names: the two trainings.
        partners: codeword of the first -> its partner in the second.
        order: codewords of the first, commonest first, which decides the colours.
        pixel_mm: side of a pixel.

    The maps of each codebook are standardised, both grades together, as in Figures 5 and 6 of the paper. Source: ours.
    """
    patients = list(examples.groupby("grade", sort=False))[::-1]
    figure, axes = new_figure(len(patients) * (WIDTH_IN - 1.5) / 5 + 1.0, len(patients), 5, squeeze=False)
    colours = _partner_colours(order, partners)
    for row, (grade, pixels) in zip(axes, patients, strict=True):
        _draw_patient(row, grade, pixels, names, colours, pixel_mm)
    name_columns(axes, ["T1ce, truth", *(f"codes of {name}" for name in names), *(f"regions by {name}" for name in names)])
    name_rows(axes, [f"{grade}\nregions of\n{grade}" for grade, _ in patients])
    bar = figure.colorbar(ScalarMappable(Normalize(*MAP_RANGE), MAP_COLOURS), ax=axes[:, 3:], shrink=0.6, aspect=18, pad=0.02)
    bar.set_label("L1 change of the logits\n(SD of a codebook's two maps)", fontsize=8)
    picture_legend(figure, "Index maps: partners have one colour; grey: no partner.")
    return describe(figure, _two_words(examples, names, partners))


def _draw_patient(row: np.ndarray, grade: str, pixels: pd.DataFrame, names: tuple[str, str], colours: tuple, pixel_mm: float) -> None:
    def square(column: str) -> np.ndarray:
        return pixels.pivot(index="row", columns="column", values=column).to_numpy()

    labels = square("label").astype(int)
    panel = Panel(str(pixels["patient"].iloc[0]), np.stack([square("t1ce")] * 4), labels, None, grade, pixel_mm)
    show_image(row[0], square("t1ce"), panel)
    outline_labels(row[0], labels)
    for ax, name, tones in zip(row[1:3], names, colours, strict=True):
        codes = square(f"code_{name}").astype(int)
        show_map(ax, np.array([[tones.get(int(k), UNMATCHED) for k in line] for line in codes]))
        outline_labels(ax, labels, 0.6)
    for ax, name in zip(row[3:], names, strict=True):
        maps = standardise({which: square(f"map_{name}_{which}") for which in GRADES})
        show_map(ax, maps[grade], cmap=MAP_COLOURS, vmin=MAP_RANGE[0], vmax=MAP_RANGE[1])
        outline_labels(ax, labels, 0.6)


def _partner_colours(order: Sequence[int], partners: Mapping[int, int]) -> tuple[dict[int, tuple], dict[int, tuple]]:
    """Return the colours of the codewords of both codebooks: neighbours in ``order`` far apart on the scale, partners alike."""
    matched = [k for k in order if k in partners]
    places = (np.arange(len(matched)) * 0.618034) % 1  # golden ratio: any few in a row are spread over the scale
    first = {k: colormaps["turbo"](place)[:3] for k, place in zip(matched, places, strict=True)}
    return first, {partners[k]: colour for k, colour in first.items()}


def _draw_seed(ax: Axes, height: float, row: pd.Series, colour: str) -> None:
    if np.isfinite(row["low"]) and np.isfinite(row["high"]):
        ax.hlines(height, row["low"], row["high"], color=colour, linewidth=1.2)
    ax.plot(row["value"], height, "o", color=colour, markersize=4)


def _wrap(text: str, width: int = 34) -> str:
    lines = [""]
    for word in text.split():
        lines = [*lines, word] if len(lines[-1]) + len(word) > width else [*lines[:-1], f"{lines[-1]} {word}".strip()]
    return "\n".join(lines)


def _seed_words(summary: pd.DataFrame, seeds: list[int]) -> Words:
    told = [f"{row['claim']} {say_interval(row['mean'], row['low'], row['high'])}" for _, row in summary.head(2).iterrows()]
    return Words(
        f"Means over {len(seeds)} seeds: {'; '.join(told)}.",
        "Coloured: the value of one run with its own 95 % interval over its graded phantoms. Black: mean over seeds with the 95 % t "
        "interval of that mean. Diamond: the paper's value, where it gives one.",
        f"{len(summary)} groups of rows; in each a mean with its interval and {len(seeds)} coloured points with theirs.",
    )


def _agreement_words(pairs: pd.DataFrame, measures: Mapping[str, str]) -> Words:
    told = [f"{words}: {say(pairs[measure].mean())}" for measure, words in measures.items()]
    by_chance = [measure for measure in measures if f"{measure}_chance" in pairs]
    least = say_list(f"{say(pairs[f'{measure}_chance'].mean())} ({measures[measure]})" for measure in by_chance)
    return Words(
        f"Mean agreement of {say_count(len(pairs), 'pair')} of networks: {'; '.join(told)}.",
        f"A point is a pair, on the common cohort. Grey ticks: by chance, on average {least}; for codes, codes in random order within a "
        "slice; for kappa, networks that err independently.",
        f"{len(measures)} rows of points between 0 and 1: low for codes, higher for grades and segmentations.",
    )


def _matching_words(overlaps: Sequence[tuple[pd.DataFrame, tuple[str, str]]]) -> Words:
    shares = [np.trace(counts.to_numpy()) / max(counts.to_numpy().sum(), 1) for counts, _ in overlaps]
    told = [f"{say(100 * share, 0)} % for {first} and {second}" for share, (_, (first, second)) in zip(shares, overlaps, strict=True)]
    return Words(
        f"Positions at which a codeword meets its partner: {say_list(told)}.",
        "Codewords of two networks that meet at the same positions of the common cohort, brain only; partners lie on the diagonal. Were "
        "the codebooks the same, everything would. Left: phantoms and weights of their own; right: the same phantoms, other weights.",
        "Two square maps of counts on a logarithmic scale: a faint diagonal in a wide scatter.",
    )


def _two_words(examples: pd.DataFrame, names: tuple[str, str], partners: Mapping[int, int]) -> Words:
    first, second = (examples[f"code_{name}"].astype(int) for name in names)
    same = float((first.map(partners) == second).mean())
    return Words(
        f"In these slices partners lie on each other at {say(100 * same, 0)} % of the pixels.",
        "A slice of a patient of each grade, chosen by rule, as two networks see it that share neither phantoms nor weights; lines: true "
        "regions. Partners have one colour in both index maps. Right: the responsible regions of the patient's own grade, standardised; a "
        "flat map: none of those codewords occurs in the slice.",
        "Two rows of patients: T1ce with outlined regions, two mosaics of codes that differ, and two maps of responsible regions.",
    )
