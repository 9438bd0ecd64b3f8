"""Figures: facts that a reader relies on without looking twice."""

import base64
import functools
import html
import itertools
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from sklearn.metrics import roc_curve

from drlib import figures
from drlib.figures import images, quantizer, style, vector, words
from drlib.figures.ablation import standardise, stars
from drlib.figures.grading import binomial_interval, confusion_counts, mean_roc
from drlib.figures.segmentation import codeword_colours
from drlib.profiles import GradingSettings
from drlib.radiomics.grading import compare_models, cross_validate, decision_curve

REGIONS = ("NET", "ED", "ET", "TC", "WT")


@pytest.fixture
def random():
    return np.random.default_rng(0)


def make_panel(random, grade="HGG", size=64):
    """A disc of brain with a tumour of three shells."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    brain = np.hypot(x, y * 0.85) < 0.38
    distance = np.hypot(x - 0.15, y + 0.05)
    labels = np.select([distance < 0.05, distance < 0.08, distance < 0.14], [1, 3, 2], 0).astype(np.uint8) * brain
    picture = np.where(brain, random.normal(0, 0.3, (4, size, size)), -3.0) + labels * 0.8
    return figures.Panel("BraTS19_PHA_0007_1", picture.astype(np.float16), labels, np.roll(labels, 2, axis=1), grade, 240 / size)


def make_grades(n=60):
    return pd.Series(np.where(np.arange(n) % 3 == 0, "LGG", "HGG"), index=[f"P{i:03d}" for i in range(n)])


def make_volumes(random, grades):
    scale = {"LGG": (52, 54, 5), "HGG": (14, 59, 23)}
    table = pd.DataFrame([random.gamma(1.2, np.array(scale[g]) / 1.2) for g in grades], columns=["NET", "ED", "ET"], index=grades.index)
    return table.assign(grade=grades)


def make_counts(random, grades, size=64):
    means = 3000 * np.exp(-np.arange(size) / 5) + 0.3
    factor = np.ones((2, size))
    factor[0, 8:11], factor[1, 11:13] = 3.0, 2.5
    rows = [random.poisson(random.gamma(2, means / 2) * factor[int(g == "HGG")]) for g in grades]
    return pd.DataFrame(rows, index=grades.index, columns=range(size))


@functools.cache
def make_result(seed=0, n=60):
    random, grades = np.random.default_rng(seed), make_grades(n)
    return cross_validate(make_counts(random, grades, 14)[[8, 9, 11, 13]], grades, GradingSettings(repeats=2, permutations=0), seed=seed)


def make_models(results):
    rows = {}
    for name, result in results.items():
        summary = result.summary.rename(columns={"estimate": "", "low": "_low", "high": "_high"})[["", "_low", "_high"]]
        rows[name] = {f"{metric}{end}": value for metric, row in summary.iterrows() for end, value in row.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def make_responsible(random, size=64):
    auc = np.clip(random.normal(0.5, 0.12, size), 0.02, 0.98)
    p = 10 ** (-60 * np.abs(auc - 0.5) ** 1.5)
    keep = np.zeros(size, bool)
    keep[[auc.argmin(), auc.argmax(), 5]] = True
    mean = random.gamma(1, 40, size)
    return pd.DataFrame(
        {"mean_LGG": mean * 2 * (1 - auc), "mean_HGG": mean * 2 * auc, "auc": auc, "coefficient": random.normal(0, 0.3, size), "rank_p": p},
        index=pd.Index(range(size), name="codeword"),
    ).assign(
        auc_low=auc - 0.08,
        auc_high=auc + 0.08,
        fold_share=random.random(size),
        q=np.minimum(p * 5, 1),
        lr_p=p,
        selected_share=np.abs(auc - 0.5) * 2,
        direction=np.where(auc > 0.5, "HGG", "LGG"),
        responsible=keep,
    )


def make_robustness(random, n=12):
    rows = itertools.product([f"P{i}" for i in range(n)], ("scale", "shift"), np.linspace(0, 1, 6))
    ratios = [(p, k, m, m * (0.2 + 0.4 * (k == "shift")) * random.uniform(0.7, 1.3)) for p, k, m in rows]
    rows = itertools.product(("scale", "shift"), np.linspace(0, 1, 6), ("frozen", "refitted"), range(5))
    measures = ("accuracy", "precision", "recall", "specificity", "npv")
    rows = itertools.product(("scale", "shift"), np.linspace(0, 1, 6), ("frozen", "refitted"), enumerate(measures))
    performance = [(k, m, c, name, 0.9 - 0.04 * i - m * 0.4 * (k == "shift"), 0.03) for k, m, c, (i, name) in rows]
    columns = ["kind", "magnitude", "mode", "measure", "value", "spread"]
    return (
        pd.DataFrame(ratios, columns=["patient", "kind", "magnitude", "difference_ratio"]).query("kind == 'scale' or magnitude > 0"),
        pd.DataFrame(performance, columns=columns).query("kind == 'scale' or magnitude > 0"),
    )


def make_ratio_intervals(ratios):
    means = ratios.groupby(["kind", "magnitude"])["difference_ratio"].mean().rename("mean").reset_index()
    means = means.assign(low=means["mean"] - 0.03, high=means["mean"] + 0.03)
    return pd.concat([means.assign(area="all"), means.assign(area="brain", mean=means["mean"] * 1.2)])


def make_changes(random):
    kinds = [("bias field", "0.1 log SD"), ("bias field", "0.4 log SD"), ("noise", "5 %"), ("no t1", "1")]
    table = pd.DataFrame(kinds, columns=["kind", "level"]).assign(group=["scanner", "scanner", "shift", "missing scan"], n=40)
    for name in ("ratio", "frozen", "refitted", "latent_change", "codeword_change", "kept"):
        value = random.uniform(0.1, 0.6, 4)
        table = table.assign(**{name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.05})
    return table.assign(random_change=0.1, random_kept=0.9)


def make_region_values(random, grades):
    rows = itertools.product(grades.index, ("HGG", "LGG"), ("NET", "ED", "ET"))
    level = {("HGG", "ET"): 7.7, ("HGG", "NET"): 5.5, ("HGG", "ED"): 3.8, ("LGG", "NET"): 1.2, ("LGG", "ED"): 1.0, ("LGG", "ET"): 0.9}
    return pd.DataFrame(
        [(p, g, r, random.gamma(2, level[g, r] / 2)) for p, g, r in rows], columns=["patient", "responsible_for", "region", "mean"]
    )


def make_tests():
    pairs = pd.DataFrame({"first": ["NET", "ED", "NET"], "second": ["ED", "ET", "ET"], "wilcoxon_p_holm": [0.03, 1e-7, 0.2]})
    return pd.concat([pairs.assign(responsible_for=grade, value="mean") for grade in ("HGG", "LGG")])


def make_claims():
    return pd.DataFrame(
        [
            ("dice_WT", "Dice of the whole tumour", 0.76, 0.81, [0.78, 0.84], 112, "holds"),
            ("grading_accuracy", "Five-fold accuracy", 0.90, 0.85, [0.79, 0.90], 112, "holds"),
            ("grading_auc", "Area under the ROC curve", None, 0.91, [0.86, 0.95], 112, "cannot be tested here"),
            ("recall", "Recall is that of HGG", 0.73, 0.88, [0.8, 0.94], 112, "does not hold"),
            ("volume_baseline_accuracy", "Volumes alone do worse", "not given", 0.89, [0.83, 0.94], 112, "holds with correction"),
            ("n_responsible_LGG", "LGG-responsible codewords", 3, 4, None, 112, "holds"),
            ("hgg_region_top", "Region highest in HGG regions", "ET", "ET", None, 112, "holds"),
        ],
        columns=["id", "claim", "paper", "ours", "interval", "n", "verdict"],
    )


def make_log():
    epoch = np.arange(1, 21)
    log = pd.DataFrame(
        {
            "epoch": epoch,
            "loss": 1.4 / epoch**0.5,
            "dice_loss": 0.9 / epoch**0.4,
            "focal_loss": 0.2 / epoch,
            "latent_loss": 0.3 / epoch**0.3,
        }
    )
    log["usage"], log["perplexity"] = 200 * (1 - np.exp(-epoch / 5)), 60 * (1 - np.exp(-epoch / 6))
    for i, region in enumerate(REGIONS):
        log[f"dice_{region}"] = np.where(epoch % 4 == 0, (0.5 + 0.08 * i) * (1 - np.exp(-epoch / 6)), np.nan)
    return log


def make_codeword_means(random) -> pd.DataFrame:
    named = [("HGG", pd.NA), ("HGG", 12), ("HGG", 40), ("LGG", pd.NA), ("LGG", 7)]
    rows = [
        {"responsible_for": g, "codeword": k, "region": r, "n": 60, "mean": 1.0, "low": 0.8, "high": 1.3}
        for g, k in named
        for r in REGIONS[:3]
    ]
    return pd.DataFrame(rows).astype({"codeword": "Int64"})


def make_controls(random) -> pd.DataFrame:
    rows = [
        {"responsible_for": grade, "matched": matched, "set": number}
        | dict(zip(("contrast", "share_in_tumour", "change_per_token"), draw, strict=True))
        for grade in ("LGG", "HGG")
        for matched in ("slices with tumour", "cells with tumour")
        for number, draw in enumerate(random.random((21, 3)))
    ]
    return pd.DataFrame(rows)


def make_overlap(random) -> pd.DataFrame:
    grades = make_grades()
    tables = [pd.DataFrame({"patient": grades.index, "grade": grades.to_numpy(), "responsible_for": owner}) for owner in ("HGG", "LGG")]
    return pd.concat(tables).assign(change=lambda table: random.gamma(2, 1, len(table)))


def make_all(random):
    """One of every figure, by name."""
    grades = make_grades()
    counts, result, values = make_counts(random, grades), make_result(), make_region_values(random, grades)
    panels = [make_panel(random, grade) for grade in ("HGG", "HGG", "LGG")]
    latents, codebook = random.normal(0, 1, (300, 2)), random.normal(0, 1, (12, 2))
    codebook[0] = (3.4, 3.4)
    dice = pd.DataFrame(random.beta(6, 2, (60, 5)), columns=REGIONS, index=grades.index)
    codes = [random.integers(0, 64, (8, 8)) for _ in panels]
    models = make_models({"codewords": result, "three true volumes": make_result(1), "three predicted volumes": make_result(2)})
    results = {"codewords": result, "three true volumes": make_result(1)}
    differences = compare_models({"three true volumes": result, "same": make_result(1)}, "same").query("model != 'same'")
    decisions = pd.concat([decision_curve(r, np.linspace(0.05, 0.95, 19)).assign(model=name) for name, r in results.items()])
    maps = [{"HGG": random.gamma(1, 1, (64, 64)) * (p.labels > 0), "LGG": random.gamma(1, 0.4, (64, 64))} for p in panels]
    shares = pd.DataFrame({"normalisation": np.repeat(["live", "frozen"], 40), "share_outside": random.beta(8, 2, 80)})
    y, x = np.mgrid[:64, :64]
    ratios = make_robustness(random)[0]
    return {
        "overview": lambda: figures.plot_overview(
            panels[0], codes[0], random.normal(size=(64, 16)), counts.iloc[0], 0.8, maps[0]["HGG"], 3
        ),
        "front": lambda: figures.plot_front(panels[0], codes[0], random.normal(size=(64, 16)), maps[0]["HGG"], 0.8, 3),
        "patients": lambda: figures.plot_patients(panels),
        "volumes": lambda: figures.plot_volumes(make_volumes(random, grades)),
        "quantizer": lambda: figures.plot_quantizer(latents, codebook, codebook + 0.3 * random.normal(size=codebook.shape)),
        "quantizer_steps": lambda: figures.plot_quantizer_steps(
            latents, [codebook, 0.8 * codebook, 0.5 * codebook], ["start", "step 5", "step 50"]
        ),
        "usage": lambda: figures.plot_usage(counts.sum().to_numpy()),
        "loss_arrows": lambda: figures.plot_loss_arrows(latents[:40], codebook[1:6], 0.25),
        "training": lambda: figures.plot_training(make_log()),
        "segmentations": lambda: figures.plot_segmentations(panels, [0.9, 0.8, 0.7]),
        "dice": lambda: figures.plot_dice(dice),
        "index_maps": lambda: figures.plot_index_maps(panels, codes, random.normal(size=(64, 16)), 3),
        "histograms": lambda: figures.plot_histograms(counts, grades),
        "codewords_by_grade": lambda: figures.plot_codewords_by_grade(counts, grades),
        "roc": lambda: figures.plot_roc(
            {"codewords": result.probabilities, "three true volumes": make_result(1).probabilities}, grades, models
        ),
        "probabilities": lambda: figures.plot_probabilities(result.probabilities, grades),
        "confusion": lambda: figures.plot_confusion(result.probabilities, grades, models.iloc[0]),
        "models": lambda: figures.plot_models(models),
        "differences": lambda: figures.plot_differences(differences),
        "decision_curve": lambda: figures.plot_decision_curve(decisions),
        "calibration": lambda: figures.plot_calibration(result.probabilities, grades),
        "difference_ratios": lambda: figures.plot_difference_ratios(ratios, make_ratio_intervals(ratios)),
        "performance": lambda: figures.plot_performance(make_robustness(random)[1]),
        "scanner_images": lambda: figures.plot_scanner_images({"as it is": panels[0], "bias field\n0.4 log SD": panels[1]}),
        "scanners": lambda: figures.plot_scanners(make_changes(random)),
        "absorption": lambda: figures.plot_absorption(make_changes(random)),
        "responsible": lambda: figures.plot_responsible(make_responsible(random)),
        "screening": lambda: figures.plot_screening(make_responsible(random)),
        "selection": lambda: figures.plot_selection(make_responsible(random)),
        "responsible_regions": lambda: figures.plot_responsible_regions(
            [figures.AblationCase(p, m) for p, m in zip(panels, maps, strict=True)]
        ),
        "frozen": lambda: figures.plot_frozen(
            [figures.FrozenCase(panels[0], random.random((8, 8)) > 0.95, maps[0]["HGG"], maps[0]["LGG"])]
        ),
        "each_codeword": lambda: figures.plot_each_codeword(make_codeword_means(random)),
        "controls": lambda: figures.plot_controls(make_controls(random)),
        "overlap": lambda: figures.plot_overlap(make_overlap(random)),
        "region_values": lambda: figures.plot_region_values(values, make_tests()),
        "locality": lambda: figures.plot_locality(np.exp(-np.hypot(x - 20, y - 36) / 6), (4, 2), 8, shares, panels[0]),
        "verdict": lambda: figures.plot_verdict(make_claims()),
    }


IMAGE_FIGURES = {
    "overview",
    "front",
    "patients",
    "models",
    "differences",
    "segmentations",
    "index_maps",
    "responsible_regions",
    "locality",
    "frozen",
    "confusion",
    "verdict",
    "controls",
    "scanner_images",
    "scanners",
}


def test_every_figure_draws_without_a_warning_and_leaves_the_session_as_it_was(random, recwarn):
    before = dict(matplotlib.rcParams)
    for name, plot in make_all(random).items():
        assert style.figure_png(plot(), dpi=50).startswith(b"\x89PNG"), name
    assert dict(matplotlib.rcParams) == before
    assert [str(warning.message) for warning in recwarn] == []


@pytest.fixture(scope="module")
def drawn():
    """One of every figure, drawn once for the tests that only look."""
    return {name: plot() for name, plot in make_all(np.random.default_rng(0)).items()}


def test_every_figure_comes_with_a_finding_a_way_to_read_it_and_an_alternative_text(drawn):
    for name, figure in drawn.items():
        finding, reading, alt = figure.words
        assert re.search(r"\d|no |nothing", finding, re.IGNORECASE) and finding.endswith("."), (name, finding)
        assert len(reading) > 60 and 30 < len(alt) < 400 and "nan" not in f"{finding} {reading}", (name, reading, alt)


def test_a_caption_holds_the_numbers_of_the_results_that_are_drawn(random):
    grades, result, dice = make_grades(), make_result(), pd.DataFrame({region: [0.5, 0.6] for region in REGIONS}).assign(WT=[0.7, 0.9])
    models = make_models({"codewords": result})
    area = models.loc["codewords", ["auc", "auc_low", "auc_high"]]
    assert (
        "AUC of the codewords {:.2f} [{:.2f}, {:.2f}].".format(*area)
        == figures.plot_roc(result.probabilities, grades, models).words.finding
    )
    assert figures.plot_dice(dice).words.finding.startswith("Mean Dice from 0.55 (NET) to 0.80 (WT)")
    shares = pd.DataFrame({"normalisation": ["live"] * 3 + ["frozen"] * 3, "share_outside": [0.9, 0.92, 0.99, 0.4, 0.5, 0.6]})
    finding = figures.plot_locality(np.ones((64, 64)), (4, 2), 8, shares).words.finding
    assert finding.startswith("92 % of the change (live) and 50 % of the change (frozen)")
    claims = figures.plot_verdict(make_claims()).words.finding
    assert "Of 5 claims" in claims and "2 \N{CHECK MARK} holds" in claims


def test_a_notebook_gets_the_figure_in_three_forms_with_its_words(random):
    figure = figures.plot_dice(pd.DataFrame(random.beta(6, 2, (9, 5)), columns=REGIONS))
    data, metadata = figure._repr_mimebundle_()
    assert metadata["drlib"] == figure.words._asdict()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG") and data["image/svg+xml"].startswith("<svg")
    assert html.escape(figure.words.alt) in data["text/html"] and html.escape(figure.words.finding) in data["text/html"]


def test_numbers_in_words_have_a_true_minus_and_no_negative_zero():
    assert [words.say(-0.001), words.say(-0.31, sign=True), words.say(0.004, sign=True), words.say(np.nan)] == [
        "0.00",
        "−0.31",
        "0.00",
        "–",
    ]
    assert words.say_interval(0.1, -0.2, 0.4) == "0.10 [−0.20, 0.40]" and words.say_interval(0.1, np.nan, np.nan) == "0.10"
    assert [words.say_list([]), words.say_list("a"), words.say_list("abc")] == ["none", "a", "a, b and c"]


def test_in_the_dark_every_colour_of_a_figure_stands_out_and_scans_keep_their_grey_levels(random):
    for colour in (*style.REGION_COLOURS.values(), *style.GRADE_COLOURS.values(), style.INK, style.QUIET, "#0b4f8a", "#b3261e", "#000000"):
        assert vector.contrast(vector.dark(colour), vector.DARK_GROUND) >= 4.4, colour
    assert vector.dark("#ffffff") == vector.DARK_GROUND
    svg = vector.figure_svg(figures.plot_patients([make_panel(random)]))
    kept = [text for text, is_kept in vector._split_kept(svg) if is_kept]
    assert len(kept) > 5 and not any("class=" in text for text in kept)  # R and L, scale bars
    assert "svg:target{" in svg and "--cffffff:#14181e" in svg


def test_a_difference_of_nothing_has_no_sign_and_a_rate_no_bar_beyond_one(random):
    table = pd.DataFrame([("a", "auc", -0.001, -0.1, 0.1)], columns=["model", "metric", "difference", "low", "high"])
    texts = [text.get_text() for text in figures.plot_differences(table, ("auc",)).axes[0].texts]
    assert texts == ["0.00"]
    performance = make_robustness(random)[1].assign(value=0.98, spread=0.1)
    for ax in figures.plot_performance(performance).axes:
        ends = np.concatenate([segment[:, 1] for bars in ax.collections for segment in bars.get_segments()])
        assert ends.max() <= 1 + 1e-9 and ends.min() < 0.9


def test_every_axis_of_a_graph_says_what_it_shows_and_in_which_unit(drawn):
    unit = ("(", "rank", "count", "region", "codeword", "epoch", "normalisation", "−log", "L1 change")
    for name, figure in drawn.items():
        if name in IMAGE_FIGURES:
            continue
        labels = [figure.axes[-1].get_xlabel(), figure.axes[0].get_ylabel()]
        assert all(any(word in label for word in unit) for label in labels), (name, labels)


def test_region_and_grade_colours_stay_apart_for_colour_blind_readers():
    for matrix in (np.eye(3), *COLOUR_BLINDNESS.values()):
        for group in (style.REGION_COLOURS, style.GRADE_COLOURS):
            seen = [lab(np.clip(matrix @ linear(colour), 0, 1)) for colour in group.values()]
            assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 20


def test_the_lgg_colour_is_the_same_in_every_figure(random):
    grades = make_grades()
    volumes = figures.plot_volumes(make_volumes(random, grades))
    histograms = figures.plot_histograms(make_counts(random, grades), grades)
    lgg_points = volumes.axes[0].lines[0].get_color()
    lgg_line = histograms.axes[1].lines[0].get_color()
    assert lgg_points == lgg_line == style.GRADE_COLOURS["LGG"]


def test_a_marker_at_the_patients_left_is_seen_at_the_right_of_the_picture():
    images_ = np.full((4, 32, 32), -3.0)
    images_[:, 14:18, 26:30] = 5.0  # high column = patient's left in LPS
    figure, ax = style.new_figure(3, width_in=3)
    images.show_image(ax, images_[0])
    columns = rendered(figure, hide_text=True).mean(axis=(0, 2))
    bright = columns.argmax()
    box = ax.get_window_extent()
    assert (bright - box.x0) / box.width > 0.75


def test_anterior_is_on_top():
    image = np.full((32, 32), -3.0)
    image[2:6, 14:18] = 5.0  # low row = anterior
    figure, ax = style.new_figure(3, width_in=3)
    images.show_image(ax, image)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert ax.transData.transform((0, 3))[1] > ax.transData.transform((0, 28))[1]


def test_r_stands_at_the_left_edge_and_l_at_the_right():
    figure, ax = style.new_figure(3, width_in=3)
    images.show_image(ax, np.zeros((8, 8)))
    sides = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert sides["R"] < 0.1 and sides["L"] > 0.9


def test_all_images_of_a_figure_share_one_grey_window(random):
    figure = figures.plot_patients([make_panel(random), make_panel(random)])
    windows = {ax.images[0].get_clim() for ax in figure.axes if len(ax.images) == 1 and ax.images[0].get_array().ndim == 2}
    assert windows == {images.WINDOW}


def test_region_labels_take_the_region_colours():
    assert [tuple(row) for row in images.LABEL_RGB[1:]] == [to_rgb(style.REGION_COLOURS[name]) for name in ("NET", "ED", "ET")]


def test_the_largest_slice_is_the_one_with_most_tumour():
    labels = np.zeros((5, 4, 4), np.uint8)
    labels[1, 0, 0] = 1
    labels[3, :2] = 2
    assert images.largest_slice(labels) == 3
    assert images.largest_slice(np.zeros((5, 4, 4))) == 2


def test_perplexity_of_equal_usage_is_the_number_of_codewords():
    assert quantizer.perplexity(np.full(7, 3)) == pytest.approx(7)
    assert quantizer.perplexity(np.array([5, 0, 0])) == pytest.approx(1)


def test_equal_codewords_get_near_colours_and_the_background_is_grey(random):
    codebook = random.normal(size=(20, 8))
    colours = codeword_colours(codebook, background=4)
    assert colours.shape == (20, 3) and colours.min() >= 0 and colours.max() <= 1
    assert (colours[4] == 0.2).all()
    assert (codeword_colours(codebook) == codeword_colours(codebook)).all()
    assert codeword_colours(codebook[:, :2]).shape == (20, 3)


def test_both_maps_of_a_patient_share_one_scale():
    maps = standardise({"HGG": np.array([[10.0, 0.0]]), "LGG": np.array([[1.0, 0.0]])})
    assert maps["HGG"][0, 0] > maps["LGG"][0, 0]
    assert maps["HGG"][0, 1] == maps["LGG"][0, 1]
    assert (standardise({"HGG": np.zeros((2, 2))})["HGG"] == 0).all()


def test_brackets_appear_only_for_significant_pairs(random):
    assert [stars(p) for p in (0.2, 0.03, 0.005, 5e-4, 1e-5)] == ["", "*", "**", "***", "****"]
    figure = figures.plot_region_values(make_region_values(random, make_grades()), make_tests())
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["*", "****"]


def test_the_grade_of_the_codewords_decides_not_that_of_the_patient(random):
    values = make_region_values(random, make_grades()).assign(grade="HGG")  # every patient is HGG
    values = values[values["responsible_for"] == "HGG"]
    figure = figures.plot_region_values(values, make_tests())
    assert [text.get_text() for text in figure.axes[1].texts] == ["no responsible codeword"]


def test_exact_interval_of_a_share_matches_the_known_values():
    assert binomial_interval(0, 10) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert binomial_interval(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)


def test_swapping_the_positive_class_swaps_the_four_counts():
    truth, call = np.array([[1, 1, 0, 0, 1]], bool).T, np.array([[1, 0, 0, 1, 1]], bool).T
    assert confusion_counts(truth, call) == {"tp": 2, "fn": 1, "fp": 1, "tn": 1}
    assert confusion_counts(~truth, ~call) == {"tp": 1, "fn": 1, "fp": 1, "tn": 2}


def test_the_roc_curve_agrees_with_scikit_learn_even_with_equal_probabilities():
    grades = make_grades(30)
    score = np.round(np.random.default_rng(1).uniform(size=30) + 0.5 * (grades == "HGG"), 1)
    false, true, _ = roc_curve(grades == "HGG", score, drop_intermediate=False)
    axis = np.linspace(0.001, 0.999, 50)
    assert mean_roc(score.to_frame(), grades, axis)[0] == pytest.approx(np.interp(axis, false, true))


def test_table_1_stands_beside_the_cohort():
    volumes = pd.DataFrame({"grade": ["LGG", "LGG", "HGG"], "NET": [50.0, 54.0, 1.0], "ED": [1.0, 1.0, 1.0], "ET": [0.0, 0.0, 1.0]})
    table = figures.compare_with_table_1(volumes)
    assert table.loc["NET", ("LGG", "paper")] == "52.4 ± 47.3"
    assert table.loc["NET", ("LGG", "this cohort, n = 2")] == "52.0 ± 2.8"
    assert table.loc["WT", ("LGG", "paper")] == "111.5 ± 76.7"


def test_the_ledger_links_each_claim_and_lets_no_markup_through():
    claims = (
        make_claims().iloc[:2].assign(cohort="<b>mine</b>", unit="patients", evidence=["notebooks/05_grading.html#grading-models", None])
    )
    claims["claim"] = ["AUC <script>alert(1)</script>", "plain"]
    page = figures.linked_verdicts(claims).to_html()
    assert '<a href="05_grading.html#grading-models">AUC &lt;script&gt;' in page and "<script>" not in page
    assert "&lt;b&gt;mine&lt;/b&gt;" in page and page.count("<a ") == 1


def test_the_verdict_table_tells_numbers_words_and_intervals_apart():
    table = figures.verdict_table(make_claims())
    assert table.loc["Dice of the whole tumour", "ours"] == "0.81 [0.78, 0.84]"
    assert table.loc["LGG-responsible codewords", ["paper", "ours"]].tolist() == ["3", "4"]
    assert table.loc["Area under the ROC curve", "paper"] == "–"
    assert table.loc["Region highest in HGG regions", "ours"] == "ET"


def test_a_count_is_whole_and_a_rate_with_its_interval_has_two_digits():
    rows = [("n", 2.0, 0.0, None), ("rate", None, 0.0, [0.0, 1.0]), ("loss", None, -0.5, [-0.75, -0.25])]
    claims = pd.DataFrame(rows, columns=["claim", "paper", "ours", "interval"]).assign(n=8, verdict="holds")
    assert figures.verdict_table(claims)["ours"].tolist() == ["0", "0.00 [0.00, 1.00]", "−0.50 [−0.75, −0.25]"]


def test_a_cohort_without_some_region_still_draws(random):
    dice = pd.DataFrame({region: [0.5, 0.6] for region in REGIONS}).assign(ET=np.nan)
    values = make_region_values(random, make_grades(6)).query("region != 'ET'")
    style.figure_png(figures.plot_dice(dice), dpi=40)
    style.figure_png(figures.plot_region_values(values), dpi=40)


def rendered(figure, hide_text=False):
    for text in figure.axes[0].texts if hide_text else ():
        text.set_visible(False)
    figure.set_facecolor("black")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(float)


COLOUR_BLINDNESS = {  # Machado, Oliveira & Fernandes 2009, severity 1.0
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


def linear(colour):
    value = np.array(to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(light):
    """CIE L*a*b* (D65) of linear RGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ light / (0.9505, 1.0, 1.089)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_decision_curve_is_drawn_as_computed_with_everybody_and_nobody_beside_it():
    curve = decision_curve(make_result(), np.linspace(0.05, 0.95, 19)).assign(model="codewords")
    figure = figures.plot_decision_curve(curve)
    hgg = curve[curve["positive"] == "HGG"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["codewords"].get_ydata().tolist() == hgg["net_benefit"].tolist()
    assert lines["everybody"].get_ydata().tolist() == hgg["everybody"].tolist() and set(lines["nobody"].get_ydata()) == {0}
    assert [ax.get_title("left") for ax in figure.axes] == ["HGG positive", "LGG positive"]


def test_a_difference_whose_interval_holds_zero_is_drawn_hollow():
    table = pd.DataFrame(
        [("volumes", "auc", 0.1, 0.02, 0.2), ("ratio", "auc", 0.1, -0.02, 0.2), ("volumes", "brier", -0.1, -0.2, -0.02)],
        columns=["model", "metric", "difference", "low", "high"],
    )
    figure = figures.plot_differences(table, ("auc",))
    filled = [line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert filled == [style.INK, "white"]
    assert "below 0" in figures.plot_differences(table.query("model == 'volumes'"), ("brier",)).axes[0].get_xlabel()
