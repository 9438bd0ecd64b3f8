"""Figures of grading: ROC, each patient's probability, both conventions, models side by side, calibration, decision curve.

All of them show out-of-fold probabilities: a patient's P(HGG) comes from classifiers that never saw this patient. Numbers are written
into a figure only from the table that the text shows too, so that the two agree.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import beta

from drlib.cohort.regions import GRADES
from drlib.figures.style import (
    GRADE_COLOURS,
    GRADE_MARKERS,
    INK,
    PAPER_MARKER,
    QUIET,
    describe,
    figure_and_axes,
    grade_handles,
    grid_lines,
    new_figure,
    paper_handle,
    styled,
)
from drlib.figures.words import MINUS, Words, say, say_count, say_interval, say_list
from drlib.seeds import generator

PAPER_GRADING = {  # mean, standard deviation over five folds; Source: the paper, Results (LGG positive, see the deviations page)
    "accuracy": (0.90, 0.03),
    "ppv_LGG": (0.82, 0.13),
    "sensitivity_LGG": (0.73, 0.08),
    "specificity_LGG": (0.95, 0.04),
    "npv_LGG": (0.93, 0.01),
}
METRIC_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "brier": "Brier score",
    "ppv": "precision",
    "sensitivity": "recall (sensitivity)",
    "specificity": "specificity",
    "npv": "negative predictive value",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
}
BETTER = {"brier": "below 0"}  # where the first of two models is better; of all other metrics: above 0
MODEL_LINES = ((INK, "-", 2.0), ("#8A5A00", "--", 1.5), ("#5B6BB5", "-.", 1.5), ("#4B7A47", ":", 1.5), ("#9B3D6B", (0, (5, 1)), 1.5))


@styled
def plot_roc(
    probabilities: pd.DataFrame | Mapping[str, pd.DataFrame], grades: pd.Series, table: pd.DataFrame | None = None, ax: Axes | None = None
) -> Figure:
    """Show the ROC curve of P(HGG) with its 95 % band; the area is the same with LGG positive.

    Args:
        probabilities: P(HGG) out of fold, patients x repeats; or several models by name: ``codewords`` (or the first) with its
            band, the others thin.
        grades: ``LGG`` or ``HGG`` of each patient.
        table: one row per model with ``auc``, ``auc_low``, ``auc_high``, which the legend then gives.

    Curve: mean over repeats of the curve of all patients. Band: bootstrap over patients within each grade (500 draws).
    Source: ours; the paper gives no ROC.
    """
    figure, ax = figure_and_axes(ax, 4.2)
    axis, models = np.linspace(0, 1, 201), probabilities if isinstance(probabilities, Mapping) else {"codewords": probabilities}
    main = "codewords" if "codewords" in models else next(iter(models))
    models, first = {main: models[main], **models}, models[main]
    draws = mean_roc(first, grades, axis, _weights(grades.reindex(first.index), generator(0, "figures", "roc"), 500))
    ax.fill_between(axis, *np.percentile(draws, (2.5, 97.5), axis=0), color=INK, alpha=0.15, linewidth=0)
    for (name, table_of_model), (colour, line, width) in zip(models.items(), MODEL_LINES, strict=False):
        label = name if table is None else f"{name}: {_auc_text(table.loc[name])}"
        ax.plot(axis, mean_roc(table_of_model, grades, axis)[0], color=colour, linestyle=line, linewidth=width, label=label)
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":", label="chance")
    ax.set(xlabel="share of LGG called HGG (1 − specificity)", ylabel="share of HGG called HGG (sensitivity)")
    ax.set(aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8.5)
    grid_lines(ax, "both")
    return describe(figure, _roc_words(models, main, grades, table))


@styled
def plot_probabilities(probability: pd.DataFrame | pd.Series, grades: pd.Series, ax: Axes | None = None) -> Figure:
    """Show P(HGG) of every patient, sorted: the mean and, where there are several columns (repeats), their range. Source: ours."""
    figure, ax = figure_and_axes(ax, 3.4)
    table = pd.DataFrame(probability)
    mean = table.mean(axis=1).sort_values()
    rank = pd.Series(np.arange(1, len(mean) + 1), index=mean.index)
    for grade in GRADES:
        chosen, colour = mean.index[grades[mean.index] == grade], GRADE_COLOURS[grade]
        low, high = table.loc[chosen].min(axis=1), table.loc[chosen].max(axis=1)
        ax.vlines(rank[chosen], low, high, color=colour, alpha=0.35, linewidth=1.6)
        ax.plot(rank[chosen], mean[chosen], GRADE_MARKERS[grade], color=colour, markersize=4.5, markeredgewidth=0)
    ax.axhline(0.5, color=QUIET, linewidth=1, linestyle="--")
    ax.set(xlabel="patient, by probability (rank)", ylabel="P(HGG), out of fold (0 to 1)", ylim=(-0.03, 1.03), xlim=(0, len(mean) + 1))
    ax.text(len(mean), 0.48, "called LGG below", fontsize=8, color=QUIET, va="top", ha="right")
    ax.legend(handles=grade_handles(_n(grades[mean.index])), loc="upper left")
    return describe(figure, _probability_words(table, grades))


@styled
def plot_confusion(probability: pd.DataFrame | pd.Series, grades: pd.Series, rates: pd.Series | None = None) -> Figure:
    """Show the same counts under both conventions: LGG positive (as the published numbers must be), HGG positive (as the text says).

    ``probability``: P(HGG) out of fold; with several columns (repeats) the counts are means over them. ``rates``: ``ppv_LGG``,
    ``ppv_LGG_low``, ... of the model, written below; without them the rates of the counts. Source: the paper, Methods
    (classification models); that both are shown is ours.
    """
    figure, axes = new_figure(4.0, 1, 2)
    table = pd.DataFrame(probability)
    called_hgg, is_hgg = (table > 0.5).to_numpy(), (grades[table.index] == "HGG").to_numpy()[:, None]
    for ax, positive in zip(axes, GRADES, strict=True):
        counts = confusion_counts(*((is_hgg, called_hgg) if positive == "HGG" else (~is_hgg, ~called_hgg)))
        _draw_confusion(ax, counts, positive)
        ax.set_xlabel(_rates_text(counts, positive, rates), fontsize=8.5, labelpad=8)
    return describe(figure, _confusion_words(table, grades))


@styled
def plot_models(table: pd.DataFrame, metrics: tuple[str, ...] = ("accuracy", "auc"), paper: bool = True) -> Figure:
    """Compare models on the same patients: one row each, estimate and 95 % interval per metric; the paper's accuracy as a mark.

    ``table``: one row per model (index: its name) with ``<metric>``, ``<metric>_low``, ``<metric>_high``; NaN where there is none.
    Intervals of two models overlap more than their difference is uncertain, for the patients are the same: see
    :func:`drlib.radiomics.grading.compare_models`. Source: ours.
    """
    figure, axes = new_figure(1.35 + 0.36 * len(table), 1, len(metrics), sharey=True, squeeze=False)
    rows = np.arange(len(table))[::-1]
    for ax, metric in zip(axes[0], metrics, strict=True):
        _draw_models(ax, rows, table[[metric, f"{metric}_low", f"{metric}_high"]].to_numpy(float))
        ax.set_xlabel(f"{metric_name(metric)} (0 to 1), 95 % interval")
    axes[0, 0].set_yticks(rows, table.index)
    if paper and "accuracy" in metrics:
        ax, published = axes[0, metrics.index("accuracy")], PAPER_GRADING["accuracy"][0]
        ax.axvline(published, color="black", linewidth=1, linestyle=":", zorder=0)
        ax.plot(published, len(table) - 0.45, clip_on=False, markersize=6, **PAPER_MARKER)
        ax.legend(handles=[paper_handle(f"paper: {published:.2f}")], loc="lower left", bbox_to_anchor=(-0.02, 1.0))
    return describe(figure, _models_words(table, metrics))


@styled
def plot_differences(
    differences: pd.DataFrame, metrics: tuple[str, ...] = ("accuracy", "auc", "brier"), first: str = "codewords"
) -> Figure:
    """Show how much the first model's metric is above that of each other model, on the same patients, with its 95 % interval.

    ``differences``: ``model``, ``metric``, ``difference``, ``low``, ``high``. An interval that crosses the line at 0 shows no difference.
    Source: ours.
    """
    models = list(dict.fromkeys(differences["model"]))
    figure, axes = new_figure(1.2 + 0.36 * len(models), 1, len(metrics), sharey=True, squeeze=False)
    for ax, metric in zip(axes[0], metrics, strict=True):
        rows = differences[differences["metric"] == metric].set_index("model").reindex(models)
        _draw_differences(ax, rows, BETTER.get(metric, "above 0"))
        ax.set_xlabel(f"{metric_name(metric)}, difference\n({BETTER.get(metric, 'above 0')}: {first}\nare better)")
    axes[0, 0].set_yticks(range(len(models))[::-1], models)
    axes[0, 0].set(ylim=(-0.6, len(models) - 0.4), ylabel=f"{first} less ...")
    return describe(figure, _differences_words(differences, metrics, first))


@styled
def plot_decision_curve(decisions: pd.DataFrame, models: Collection[str] | None = None, main: str = "codewords") -> Figure:
    """Show the net benefit of acting on each model's P at every threshold, beside acting on everybody and on nobody.

    ``decisions``: ``model``, ``positive``, ``threshold``, ``net_benefit``, ``low``, ``high``, ``everybody``. ``models`` (None: all) are
    shown, ``main`` with its 95 % band (bootstrap over patients within each grade). At the left HGG is what is looked for, at the right
    LGG. The height is cut at -0.05.
    Source: ours; Vickers and Elkin 2006.
    """
    figure, axes = new_figure(3.9, 1, 2)
    for ax, positive in zip(axes, ("HGG", "LGG"), strict=True):
        shown = decisions[(decisions["positive"] == positive) & (decisions["model"].isin(models) if models is not None else True)]
        curves = dict(iter(shown.groupby("model", sort=False)))
        curves = {main: curves.pop(main), **curves}
        ax.fill_between(*(curves[main][name] for name in ("threshold", "low", "high")), color=INK, alpha=0.15, linewidth=0)
        for (name, curve), (colour, line, width) in zip(curves.items(), MODEL_LINES, strict=False):
            ax.plot(curve["threshold"], curve["net_benefit"], color=colour, linestyle=line, linewidth=width, label=name)
        ax.plot(curves[main]["threshold"], curves[main]["everybody"], color=QUIET, linewidth=1, label="everybody")
        ax.axhline(0, color=QUIET, linewidth=1, linestyle=(0, (1, 3)), label="nobody")
        ax.set(xlabel=f"threshold: act where P({positive}) is above it (0 to 1)", xlim=(0, 1))
        ax.set_ylim(-0.05, 1.08 * curves[main]["everybody"].max() + 0.02)
        ax.set_title(f"{positive} positive", color=GRADE_COLOURS[positive])
        grid_lines(ax, "both")
    axes[0].set_ylabel("net benefit (true positives per patient)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return describe(figure, _decision_words(decisions, main))


@styled
def plot_calibration(probability: pd.DataFrame | pd.Series, grades: pd.Series, bins: int = 6, ax: Axes | None = None) -> Figure:
    """Show whether of patients given P(HGG) = p a share p is HGG: groups of equal size with exact (Clopper-Pearson) 95 % intervals.

    A patient's p is the mean over columns (repeats); the ticks at the edges are the patients. Source: ours.
    """
    figure, ax = figure_and_axes(ax, 4.6, width_in=5.4)
    mean = pd.DataFrame(probability).mean(axis=1)
    score, positive = mean.to_numpy(), (grades[mean.index] == "HGG").to_numpy()
    groups = [group for group in np.array_split(np.argsort(score, kind="stable"), bins) if len(group)]
    x, y = np.array([(score[group].mean(), positive[group].mean()) for group in groups]).T
    low, high = np.array([binomial_interval(int(positive[group].sum()), len(group)) for group in groups]).T
    ax.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1, label="perfect calibration")
    ax.vlines(x, low, high, color=INK, linewidth=1.6)
    ax.plot(x, y, "o-", color=INK, markersize=6, linewidth=1, label=f"{len(groups)} groups of about {len(score) // len(groups)} patients")
    for grade, height in (("HGG", 1.04), ("LGG", -0.04)):
        shown = score[positive == (grade == "HGG")]
        ax.plot(shown, np.full(len(shown), height), "|", color=GRADE_COLOURS[grade], markersize=7, alpha=0.7)
    ax.set(xlabel="P(HGG), out of fold (mean of the group)", ylabel="share that is HGG (0 to 1)")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.08, 1.08), aspect="equal")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    grid_lines(ax, "both")
    return describe(figure, _calibration_words(x, low, high, len(score)))


def metric_name(metric: str) -> str:
    """Return the words for a metric (``sensitivity_LGG`` -> ``recall (sensitivity)``)."""
    return METRIC_NAMES[metric.removesuffix("_LGG").removesuffix("_HGG")]


def mean_roc(probability: pd.DataFrame, grades: pd.Series, axis: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the sensitivity at each false-positive share of ``axis``, averaged over repeats: one row per row of ``weights``.

    ``weights`` (draws, patients): how often a patient counts; None counts each once.
    """
    positive = (grades[probability.index] == "HGG").to_numpy()
    weights = np.ones((1, len(positive))) if weights is None else weights
    curves = np.zeros((len(weights), len(axis)))
    for score in probability.to_numpy().T:
        order = np.argsort(-score, kind="stable")
        last = np.append(np.diff(score[order]) != 0, True)  # of equal scores only the end of the run is a point
        true, false = (np.cumsum(weights[:, order] * wanted, axis=1)[:, last] for wanted in (positive[order], ~positive[order]))
        pairs = zip(true / true[:, -1:], false / false[:, -1:], strict=True)
        curves += [np.interp(axis, np.append(0, f), np.append(0, t)) for t, f in pairs]
    return curves / probability.shape[1]


def confusion_counts(truth: np.ndarray, call: np.ndarray) -> dict[str, float]:
    """Return tp, fn, fp, tn of boolean arrays (patients, repeats): means over the repeats."""
    cells = {"tp": truth & call, "fn": truth & ~call, "fp": ~truth & call, "tn": ~truth & ~call}
    return {name: float(cell.sum(axis=0).mean()) for name, cell in cells.items()}


def binomial_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) interval of a share."""
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    return low, 1.0 if hits == n else float(beta.ppf(1 - tail, hits + 1, n - hits))


def _n(grades: pd.Series) -> dict[str, int]:
    return {grade: int((grades == grade).sum()) for grade in GRADES}


def _auc_text(row: pd.Series) -> str:
    return f"AUC {_with_interval(row, 'auc')}"


def _with_interval(row: pd.Series, metric: str) -> str:
    value, low, high = row[metric], row[f"{metric}_low"], row[f"{metric}_high"]
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if np.isfinite(value) else "–"


def _rates_text(counts: dict[str, float], positive: str, rates: pd.Series | None) -> str:
    shares = {
        "ppv": (counts["tp"], counts["tp"] + counts["fp"]),
        "sensitivity": (counts["tp"], counts["tp"] + counts["fn"]),
        "specificity": (counts["tn"], counts["tn"] + counts["fp"]),
        "npv": (counts["tn"], counts["tn"] + counts["fn"]),
    }
    plain = {name: f"{hits / n:.2f}" if n else "–" for name, (hits, n) in shares.items()}
    texts = plain if rates is None else {name: _with_interval(rates, f"{name}_{positive}") for name in shares}
    return "\n".join(f"{metric_name(name)} {text}" for name, text in texts.items())


def _weights(grades: pd.Series, random: np.random.Generator, draws: int) -> np.ndarray:
    weights = np.zeros((draws, len(grades)))
    for grade in GRADES:
        chosen = (grades == grade).to_numpy()
        weights[:, chosen] = random.multinomial(chosen.sum(), np.full(chosen.sum(), 1 / chosen.sum()), size=draws)
    return weights


def _draw_models(ax: Axes, rows: np.ndarray, values: np.ndarray) -> None:
    for row, (estimate, low, high) in zip(rows, values, strict=True):
        ax.hlines(row, low, high, color=INK, linewidth=2)
        ax.plot(estimate, row, "o", color=INK, markersize=6)
        end = estimate if np.isnan(high) else max(high, estimate)
        text = ax.annotate(f"{estimate:.2f}", (end, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    lowest = np.nanmin(values)
    ax.set(ylim=(-0.6, len(rows) - 0.4), xlim=(max(0.0, min(0.5, np.floor(20 * lowest) / 20) - 0.02), 1.07))
    grid_lines(ax, "x")


def _draw_differences(ax: Axes, rows: pd.DataFrame, better: str) -> None:
    ax.axvline(0, color=QUIET, linewidth=1, linestyle=":")
    for height, row in zip(range(len(rows))[::-1], rows.itertuples(), strict=True):
        clear = row.low > 0 or row.high < 0
        ax.hlines(height, row.low, row.high, color=INK, linewidth=2)
        ax.plot(row.difference, height, "o", color=INK, markersize=6, markerfacecolor=INK if clear else "white")
        place = ax.annotate(
            say(row.difference, sign=True),
            (row.difference, height),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
        )
        place.set_fontsize(8)
    reach = 1.15 * np.nanmax(np.abs(rows[["low", "high"]].to_numpy(float)))
    ax.set_xlim(-reach, reach)
    ax.axvspan(*((0, reach) if better == "above 0" else (-reach, 0)), color="#EEF2F6", zorder=-1)  # where the first model is better
    grid_lines(ax, "x")


def _draw_confusion(ax: Axes, counts: dict[str, float], positive: str) -> None:
    negative = GRADES[1 - GRADES.index(positive)]
    cells = np.array([[counts["tp"], counts["fn"]], [counts["fp"], counts["tn"]]])
    ax.imshow(cells, cmap="Greys", vmin=0, vmax=1.8 * max(cells.max(), 1))
    for (row, column), name in zip(np.ndindex(2, 2), ("TP", "FN", "FP", "TN"), strict=True):
        ax.text(column, row, f"{cells[row, column]:.4g}\n{name}", ha="center", va="center", fontsize=11, fontweight="bold")
    ax.set_xticks([0, 1], [f"called {positive}", f"called {negative}"])
    ax.set_yticks([0, 1], [positive, negative])
    ax.spines[:].set_visible(False)
    ax.set_title(f"{positive} positive", color=GRADE_COLOURS[positive], loc="center")
    ax.set_ylabel("true grade")


def _patients(grades: pd.Series) -> str:
    return say_list(f"{n} {grade}" for grade, n in _n(grades).items()) + " patients"


def _roc_words(models: Mapping[str, pd.DataFrame], main: str, grades: pd.Series, table: pd.DataFrame | None) -> Words:
    if table is None:
        area = say(np.trapezoid(mean_roc(models[main], grades, np.linspace(0, 1, 201))[0], np.linspace(0, 1, 201)))
    else:
        area = say_interval(*table.loc[main, ["auc", "auc_low", "auc_high"]])
    best = None if table is None else table["auc"].idxmax()
    other = "" if best is None or best == main else f"; the best of the others, {best}, {say(table.loc[best, 'auc'])}"
    n = _patients(grades.reindex(models[main].index))
    return Words(
        f"AUC of the {main} {area}{other}.",
        f"ROC curves out of fold, {n}, mean over {say_count(models[main].shape[1], 'repeat')}. Brackets and band: 95 % bootstrap over "
        "patients within each grade. The area is the same with LGG positive.",
        f"ROC curves of {say_list(models)} above the diagonal of chance, with a grey band around that of the {main}.",
    )


def _probability_words(table: pd.DataFrame, grades: pd.Series) -> Words:
    mean = table.mean(axis=1)
    right = {grade: int(((mean > 0.5) == (grade == "HGG"))[grades[mean.index] == grade].sum()) for grade in GRADES}
    n = _n(grades[mean.index])
    told = say_list(f"{right[grade]} of {n[grade]} {grade}" for grade in GRADES)
    lines = f"; line: range over {table.shape[1]} repeats" if table.shape[1] > 1 else ""
    return Words(
        f"Called rightly at .5: {told}.",
        f"P(HGG) of each patient, out of fold, in its order; point: mean{lines}. Dashed: .5, above which a patient is called HGG.",
        "Points rise from 0 to 1 from left to right; LGG patients gather at the left, HGG patients at the right, and some lie on "
        "the wrong side.",
    )


def _confusion_words(table: pd.DataFrame, grades: pd.Series) -> Words:
    called, hgg = (table > 0.5).to_numpy(), (grades[table.index] == "HGG").to_numpy()[:, None]
    told = []
    for positive, cells in (("LGG", confusion_counts(~hgg, ~called)), ("HGG", confusion_counts(hgg, called))):
        told.append(f"recall {say(cells['tp'] / max(cells['tp'] + cells['fn'], 1))} with {positive} positive")
    return Words(
        f"The same calls read as {say_list(told)}.",
        f"Counts of {_patients(grades[table.index])}, out of fold, means over {say_count(table.shape[1], 'repeat')}; below, the rates "
        "with 95 % bootstrap intervals over patients where the table gives them. The published numbers are those of the left table, "
        "though the paper's text describes the right one.",
        "Two tables of true and called grade with the same four counts in other places: LGG positive at the left, HGG positive "
        "at the right.",
    )


def _models_words(table: pd.DataFrame, metrics: Collection[str]) -> Words:
    def told(name: str) -> str:
        return say_list(f"{metric_name(m)} {say_interval(*table.loc[name, [m, f'{m}_low', f'{m}_high']])}" for m in metrics)

    main = "codewords" if "codewords" in table.index else table.index[0]
    best = table[metrics[-1]].astype(float).idxmax() if table[metrics[-1]].notna().any() else main
    other = "" if best == main else f"; highest {metric_name(metrics[-1])}: {best}, {say(table.loc[best, metrics[-1]])}"
    return Words(
        f"{main.capitalize()}: {told(main)}{other}.",
        "A row per way of grading, on the same patients, out of fold. Bars: 95 % bootstrap intervals over patients; those of two models "
        "overlap more than their difference is uncertain. Diamond: the paper's accuracy.",
        f"{say_count(len(table), 'row')} with a point and its interval in {say_count(len(metrics), 'panel')}: "
        f"{say_list(map(metric_name, metrics))}.",
    )


def _differences_words(differences: pd.DataFrame, metrics: Collection[str], first: str) -> Words:
    told = []
    for metric in metrics:
        rows = differences[differences["metric"] == metric]
        above, below = rows["low"] > 0, rows["high"] < 0
        better, worse = (below, above) if metric in BETTER else (above, below)
        told.append(
            f"in {metric_name(metric)} better than {better.sum()} of {len(rows)} others, worse than {say_list(rows['model'][worse])}"
        )
    return Words(
        f"Where the interval leaves 0 out, {first} are {'; '.join(told)}.",
        f"{first.capitalize()} less each other way of grading, on the same patients; bars: paired 95 % bootstrap intervals over patients. "
        f"Hollow: the interval holds 0. Shaded: where {first} are better. Nothing corrects for the number of comparisons.",
        f"A row per other way of grading; in each of {say_count(len(metrics), 'panel')} a point with its interval beside a line at 0.",
    )


def _decision_words(decisions: pd.DataFrame, main: str) -> Words:
    told = []
    for positive in ("HGG", "LGG"):
        curve = decisions[(decisions["positive"] == positive) & (decisions["model"] == main)]
        useful = curve[curve["net_benefit"] > np.clip(curve["everybody"], 0, None) + 1e-9]["threshold"]
        span = f"from {say(useful.min())} to {say(useful.max())}" if len(useful) else "at no threshold"
        told.append(f"{span} ({positive} positive)")
    return Words(
        f"Acting on the {main} beats acting on everybody and on nobody at thresholds {say_list(told)}.",
        f"Net benefit: true positives per patient, less false ones weighted by the odds of the threshold. Band: 95 % bootstrap of the "
        f"{main} over patients within each grade. The height is cut at {MINUS}0.05.",
        "Two panels, HGG and LGG positive: curves of net benefit fall with the threshold, above the lines of acting on everybody "
        "and on nobody.",
    )


def _calibration_words(mean: np.ndarray, low: np.ndarray, high: np.ndarray, n: int) -> Words:
    holds = int(((low <= mean) & (mean <= high)).sum())
    return Words(
        f"In {holds} of {len(mean)} groups the interval of the observed share holds the mean P(HGG) that was given.",
        f"{n} patients in groups of equal size, by P(HGG) out of fold; bars: exact (Clopper-Pearson) 95 % intervals; dotted: perfect "
        "calibration. The ticks at the edges are the patients, HGG above, LGG below.",
        "Points with vertical intervals rise beside the diagonal from few to many HGG.",
    )
