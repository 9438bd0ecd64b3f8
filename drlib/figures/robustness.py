"""Figures of robustness: the counterpart of Figure 4, what scanners do beside it, and what the quantizer absorbs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from drlib.figures.images import MODALITY_NAMES, WINDOW_TEXT, Panel, name_columns, name_rows, short_id, show_image
from drlib.figures.style import INK, QUIET, WIDTH_IN, describe, grid_lines, new_figure, styled
from drlib.figures.words import Words, say, say_interval, say_list

KINDS = ("scale", "shift")
TITLES = {"frozen": "classifier frozen", "refitted": "classifier refitted"}
MEASURE_STYLES = {  # the five of Figure 4, told apart by line and marker as well as by colour
    "accuracy": ("#0B4F8A", "-", "o"),
    "precision": ("#C75B12", "--", "s"),
    "recall": ("#6B7280", "-.", "^"),
    "specificity": ("#A88600", ":", "v"),
    "npv": ("#2D9BCB", (0, (5, 1)), "D"),
}
AREA_STYLES = {"all": (INK, "-", "o", "all positions (Eq. 7)"), "brain": ("#C75B12", "--", "s", "positions with brain")}
CLASSIFIER_STYLES = {"frozen": (INK, "o"), "refitted": ("#2D9BCB", "D")}
GROUP_STYLES = {  # of changes, in the figure of the quantizer
    "scale": ("#0B4F8A", "o"),
    "shift": ("#C75B12", "s"),
    "scanner": ("#00734F", "^"),
    "missing scan": ("#9D5BDB", "D"),
}


@styled
def plot_difference_ratios(ratios: pd.DataFrame, intervals: pd.DataFrame) -> Figure:
    """Show how much of the histogram moves under scaling and shifting: every patient, and the mean with its interval.

    ``ratios``: columns ``patient``, ``kind`` (scale or shift), ``magnitude``, ``difference_ratio`` (0 to 2). ``intervals``: ``kind``,
    ``magnitude``, ``area`` (all, brain), ``mean``, ``low``, ``high`` (95 % of the mean).
    Source: the paper, Eq. 7, Figure 4a and 4b; positions with brain are ours.
    """
    figure, axes = new_figure(3.3, 1, 2, sharey=True)
    for ax, kind, letter in zip(axes, KINDS, "ab", strict=True):
        wide = _from_zero(ratios[ratios["kind"] == kind].pivot(index="magnitude", columns="patient", values="difference_ratio"))
        ax.plot(wide.index, wide, color=INK, alpha=0.12, linewidth=0.7)
        for area, (colour, line, marker, label) in AREA_STYLES.items():
            rows = intervals[(intervals["kind"] == kind) & (intervals["area"] == area)].sort_values("magnitude")
            looks = {"color": colour, "linestyle": line, "marker": marker, "markersize": 5, "capsize": 3}
            ax.errorbar(rows["magnitude"], rows["mean"], _bars(rows, "mean", "low", "high"), label=label, **looks)
        ax.set(title=f"({letter}) {kind}", xlabel=_magnitude(kind))
        grid_lines(ax)
    axes[0].set(ylabel="difference ratio (Eq. 7; 0 to 2)", ylim=(0, None))
    title = f"mean and its 95 % interval; {wide.shape[1]} patients, one thin line each (all positions)"
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, title=title, title_fontsize=8.5)
    return describe(figure, _ratio_words(intervals, ratios["patient"].nunique()))


@styled
def plot_performance(performance: pd.DataFrame, positive: str = "LGG") -> Figure:
    """Show grading under scaling and shifting: the classifier frozen (as the text says) and refitted (as the authors' code does).

    Args:
        performance: columns ``kind``, ``magnitude``, ``mode`` (frozen or refitted), ``measure`` (accuracy, precision, recall, specificity,
            npv), ``value`` and ``spread`` (mean and standard deviation over folds).
        positive: the grade that counts as positive in it, for the legend; the published numbers fit LGG.

    Source: the paper, Figure 4c and 4d.
    """
    figure, axes = new_figure(5.4, 2, 2, sharex="col", sharey=True)
    for row, mode in zip(axes, TITLES, strict=True):
        for ax, kind in zip(row, KINDS, strict=True):
            same = (performance["kind"] == kind) | (performance["magnitude"] == 0)
            _draw_performance(ax, performance[same & (performance["mode"] == mode)])
            ax.set_title(f"{kind}, {TITLES[mode]}")
        row[0].set_ylabel("value (0 to 1)")
    for ax, kind in zip(axes[-1], KINDS, strict=True):
        ax.set_xlabel(_magnitude(kind))
    axes[0, 0].set_ylim(-0.02, 1.04)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    title = f"{positive} positive; mean ± SD over folds"
    figure.legend([h[0] for h in handles], labels, loc="outside lower center", ncols=5, title=title, title_fontsize=8.5, columnspacing=1.1)
    return describe(figure, _performance_words(performance, positive))


@styled
def plot_scanner_images(panels: Mapping[str, Panel], modalities: tuple[str, ...] = ("t1ce", "flair")) -> Figure:
    """Show one slice as it is and under each change, by the words in ``panels``, one row per modality. Source: ours."""
    width = (WIDTH_IN - 0.6) / len(panels)
    figure, axes = new_figure(width * len(modalities) + 0.75, len(modalities), len(panels), squeeze=False)
    for column, panel in enumerate(panels.values()):
        for ax, modality in zip(axes[:, column], modalities, strict=True):
            show_image(ax, panel.image(modality), panel if not column else None)
    name_columns(axes, list(panels))
    for ax in axes[0]:
        ax.title.set_fontsize(7)
    name_rows(axes, [MODALITY_NAMES[modality] for modality in modalities])
    figure.supxlabel(WINDOW_TEXT, fontsize=8)
    return describe(figure, _scanner_image_words(panels))


@styled
def plot_scanners(table: pd.DataFrame) -> Figure:
    """Show what each change does: the share of the histogram that moves, and the accuracy that is lost or won, with intervals.

    ``table``: a row per change: ``kind``, ``level`` (words), ``ratio`` and ``frozen``, ``refitted`` (change of the accuracy, -1 to 1), each
    with ``_low`` and ``_high`` (95 % over patients), and ``n`` patients. Within a kind, darker is stronger. Source: ours.
    """
    places = _grouped_places(table["kind"])
    figure, (left, right) = new_figure(0.9 + 0.235 * (places.max() + 1), 1, 2, sharey=True, width_ratios=(1.15, 1))
    shades = table.groupby("kind", sort=False).cumcount() / table.groupby("kind", sort=False)["kind"].transform("size").sub(1).clip(lower=1)
    for place, shade, row in zip(places, shades.where(table["kind"].duplicated(keep=False), 1), table.itertuples(), strict=True):
        alpha = 0.4 + 0.6 * shade
        left.plot([row.ratio_low, row.ratio_high], [place, place], color=INK, alpha=alpha, linewidth=2)
        left.plot(row.ratio, place, "o", color=INK, alpha=alpha, markersize=6)
        for classifier, offset in (("frozen", -0.17), ("refitted", 0.17)):
            colour, marker = CLASSIFIER_STYLES[classifier]
            value, low, high = (getattr(row, f"{classifier}{end}") for end in ("", "_low", "_high"))
            right.plot([low, high], [place + offset] * 2, color=colour, linewidth=1.4)
            right.plot(value, place + offset, marker, color=colour, markersize=4)
    _name_changes(left, places, table)
    right.axvline(0, color=QUIET, linewidth=0.8, zorder=0)
    left.set(xlabel="difference ratio (Eq. 7; 0 to 2)", xlim=(0, None), title="counts that move")
    right.set(xlabel="change of the accuracy (−1 to 1)", title="grading")
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, label=name) for name, (colour, marker) in CLASSIFIER_STYLES.items()
    ]
    right.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.4, 0.995), ncols=2, columnspacing=0.8, borderpad=0)
    for ax in (left, right):
        grid_lines(ax, "x")
    return describe(figure, _scanner_words(table))


@styled
def plot_absorption(table: pd.DataFrame) -> Figure:
    """Show how far codewords move against how far latents do, and how many of the latents that moved keep their code.

    ``table``: a row per change: ``group`` (scale, shift, scanner, missing scan), ``latent_change``, ``codeword_change`` and ``kept`` with
    ``_low`` and ``_high`` (95 % over patients), ``random_change`` and ``random_kept`` (steps as long, in random directions). Changes
    that move latents by less than 1 % of their length are left out. Source: ours.
    """
    table = table[table["latent_change"] > 0.01]
    figure, (left, right) = new_figure(3.9, 1, 2)
    for group, (colour, marker) in GROUP_STYLES.items():
        rows = table[table["group"] == group]
        looks = {"color": colour, "linestyle": "none", "markersize": 5, "elinewidth": 1}
        for ax, value in ((left, "codeword_change"), (right, "kept")):
            ax.errorbar(rows["latent_change"], rows[value], _bars(rows, value, f"{value}_low", f"{value}_high"), marker=marker, **looks)
        looks |= {"markerfacecolor": "none", "alpha": 0.7}
        for ax, value in ((left, "random_change"), (right, "random_kept")):
            ax.plot(rows["latent_change"], rows[value], marker=marker, **{k: v for k, v in looks.items() if k != "elinewidth"})
    ends = np.array([table["latent_change"].min() / 1.3, table["latent_change"].max() * 1.3])
    left.plot(ends, ends, color=QUIET, linewidth=1, linestyle=":", zorder=0)
    left.set(xscale="log", yscale="log", ylabel="mean step of the codeword\n(in mean lengths of a latent)", title="latent against code")
    right.set(xscale="log", ylim=(0, 1.02), ylabel="share that keeps its code", title="latents that moved")
    for axis in (left.xaxis, left.yaxis, right.xaxis):
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    for ax in (left, right):
        ax.set_xlabel("mean step of the latent\n(in mean lengths of a latent)")
        grid_lines(ax, "both")
    handles = [Line2D([], [], linestyle="none", marker=m, color=c, label=name) for name, (c, m) in GROUP_STYLES.items()]
    handles.append(Line2D([], [], linestyle="none", marker="o", markerfacecolor="none", color=QUIET, label="as far, at random"))
    handles.append(Line2D([], [], linestyle=":", color=QUIET, label="equal steps"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, columnspacing=1.0, handletextpad=0.4)
    return describe(figure, _absorption_words(table))


def _bars(rows: pd.DataFrame, value: str, low: str, high: str) -> np.ndarray:
    """Return the lengths (2, n) of the bars below and above; an interval that ends a rounding error beyond its mean has none."""
    return np.clip([rows[value] - rows[low], rows[high] - rows[value]], 0, None)


def _grouped_places(kinds: pd.Series) -> np.ndarray:
    """Return a place on the axis for each row, from the top, with a gap between kinds."""
    new = (kinds != kinds.shift()).cumsum().to_numpy() - 1
    places = np.arange(len(kinds)) + 0.5 * new
    return places.max() - places


def _name_changes(ax: Axes, places: np.ndarray, table: pd.DataFrame) -> None:
    first = ~table["kind"].duplicated()
    words = [f"{row.kind}   {row.level}".rstrip() if new else row.level for row, new in zip(table.itertuples(), first, strict=True)]
    ax.set_yticks(places, words, fontsize=8.5)
    ax.set_ylim(-0.7, places.max() + 0.7)
    ax.tick_params(axis="y", length=0)


def _magnitude(kind: str) -> str:
    return "scale a in x′ = (1 + a) x" if kind == "scale" else "shift b in x′ = x + b (SD of the brain)"


def _from_zero(wide: pd.DataFrame) -> pd.DataFrame:
    """Add magnitude 0, where a histogram differs from itself by nothing, for the kind that did not compute it again."""
    return wide if 0.0 in wide.index else pd.concat([pd.DataFrame(0.0, index=[0.0], columns=wide.columns), wide])


def _draw_performance(ax: Axes, table: pd.DataFrame) -> None:
    offsets = np.linspace(-0.012, 0.012, len(MEASURE_STYLES))
    for (measure, (colour, line, marker)), offset in zip(MEASURE_STYLES.items(), offsets, strict=True):
        rows = table[table["measure"] == measure].drop_duplicates("magnitude").sort_values("magnitude")
        looks = {"color": colour, "linestyle": line, "marker": marker, "markersize": 4, "linewidth": 1.5, "elinewidth": 0.8, "capsize": 2}
        spread = np.minimum(rows["spread"].to_numpy(), [rows["value"], 1 - rows["value"]])  # a rate ends at 0 and 1
        ax.errorbar(rows["magnitude"] + offset, rows["value"], spread, label="NPV" if measure == "npv" else measure, **looks)
    grid_lines(ax)


def _ratio_words(intervals: pd.DataFrame, n: int) -> Words:
    told = []
    for kind in KINDS:
        row = intervals[(intervals["kind"] == kind) & (intervals["area"] == "all")].sort_values("magnitude").iloc[-1]
        told.append(f"{say_interval(row['mean'], row['low'], row['high'])} at {kind} {row['magnitude']:g}")
    return Words(
        f"Mean difference ratio {say_list(told)}.",
        f"0: the histogram stays; 2: it shares nothing with what it was (Eq. 7). {n} patients, a thin line each; points: means with 95 % "
        "intervals over patients, of all positions and of those with brain. Counterpart of Figure 4a and 4b of the paper.",
        "Two panels, scale and shift: the difference ratio rises with the magnitude.",
    )


def _performance_words(performance: pd.DataFrame, positive: str) -> Words:
    accuracy = performance[performance["measure"] == "accuracy"]
    told = []
    for mode in TITLES:
        for kind in KINDS:
            rows = accuracy[(accuracy["mode"] == mode) & (accuracy["kind"] == kind)].sort_values("magnitude")
            if len(rows):
                told.append(f"{say(rows['value'].iloc[-1])} at {kind} {rows['magnitude'].iloc[-1]:g} ({mode})")
    start = accuracy.loc[accuracy["magnitude"] == 0, "value"]
    return Words(
        f"Accuracy {say(start.mean()) if len(start) else '–'} without a change becomes {say_list(told)}.",
        f"Classifier frozen as the paper's text says (top) and refitted as its code does (bottom); {positive} positive. Bars: standard "
        "deviation over folds, cut at 0 and 1. Counterpart of Figure 4c and 4d of the paper.",
        "Four panels with five measures over the magnitude of scale and shift, the classifier frozen above and refitted below.",
    )


def _scanner_image_words(panels: Mapping[str, Panel]) -> Words:
    first, *others = panels.values()
    inside = first.image("t1ce") > first.image("t1ce").min() + 0.5
    moved = {name: float(np.abs(p.image("t1ce") - first.image("t1ce"))[inside].mean()) for name, p in list(panels.items())[1:]}
    most = max(moved, key=moved.get) if moved else None
    finding = (
        f"After z-scoring, {most.replace(chr(10), ' ')} changes T1ce most, by {say(moved[most])} SD on average." if most else "One slice."
    )
    return Words(
        finding,
        f"One slice of patient {short_id(first.patient)} as it is and under the strongest change of each kind ({len(others)}): what the "
        "network sees. Chosen by rule: the middle of the HGG patients by tumour volume.",
        "Two rows of the same slice, T1ce and FLAIR: as it is at the left, then noisier, smoother or unevenly bright.",
    )


def _scanner_words(table: pd.DataFrame) -> Words:
    worst = table.loc[table["frozen"].idxmin()]
    name = f"{worst['kind']} {worst['level']}".strip()
    return Words(
        f"The worst for a frozen classifier is {name}: the accuracy changes by "
        f"{say_interval(worst['frozen'], worst['frozen_low'], worst['frozen_high'], sign=True)} and {say(worst['ratio'])} of the counts' "
        "mass moves (difference ratio).",
        f"Left: difference ratio. Right: change of the accuracy against unchanged scans of the same patients (n = {table['n'].max()}). "
        "Bars: 95 % intervals over the patients scanned again. Frozen classifiers were fitted to unchanged scans, refitted ones to "
        "changed scans.",
        "A row per change of the scanner: how far the counts move at the left, accuracy lost or won at the right, for two classifiers.",
    )


def _absorption_words(table: pd.DataFrame) -> Words:
    damped, kept = int((table["codeword_change"] < table["latent_change"]).sum()), table["kept"]
    return Words(
        f"In {damped} of {len(table)} changes codewords move less far than latents; of the latents that moved {say(kept.min())} to "
        f"{say(kept.max())} keep their code.",
        "Filled: each perturbation or scanner change, with 95 % intervals over patients; hollow: steps of the same length in random "
        "directions. Left, below the dotted line, the quantizer damps; above it, it amplifies. Positions with brain; moved: by more than "
        "1 % of a latent's length.",
        "Left: steps of codewords against steps of latents near the diagonal. Right: the share that keeps its code falls as steps grow.",
    )
