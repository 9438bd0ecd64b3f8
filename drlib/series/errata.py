"""Chapter 09 in numbers: the arithmetic of the published results, and what the published code does, each by a call of a few lines.

Nothing here needs a stage of the run. Patients are two phantoms made on the fly, the network is the model that comes with the library,
and what needs many trainings or simulations comes from the studies (:mod:`drlib.series.studies`).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import mannwhitneyu, wilcoxon
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from drlib.cohort.patient import PatientVolume
from drlib.cohort.phantom import draw_cohort, draw_truth, render_patient
from drlib.cohort.preprocessing import Slices, make_slices
from drlib.cohort.regions import MODALITIES
from drlib.profiles import CohortSettings, GradingSettings, PreprocessingSettings, QuantizerSettings
from drlib.radiomics import grading
from drlib.radiomics.ablation import region_values, share_outside, token_change
from drlib.radiomics.receptive_field import decoder_reach, share_of_slice
from drlib.radiomics.separation import separable_share, summarise_effect_tests
from drlib.radiomics.statistics import bootstrap_interval, seed_interval, share_interval
from drlib.radiomics.tcga import TcgaTable, find_tcga, read_tcga
from drlib.radiomics.two_by_two import matching_tables, rates_from
from drlib.seeds import derive_seed, generator
from drlib.segmentation.augmentation import rotate_and_flip
from drlib.segmentation.dice import dice_scores
from drlib.segmentation.model import TrainedModel, load_model, shipped_model
from drlib.segmentation.quantizer_trial import codebook_usage_over_steps
from drlib.series.claims import Claim, made_elsewhere
from drlib.series.run import Run
from drlib.series.studies.corrections import LADDER, Corrections, open_corrections
from drlib.series.studies.likelihood_ratio import LikelihoodRatio, open_likelihood_ratio
from drlib.viewer.quantizer import one_thread

PUBLISHED = {"accuracy": 0.90, "precision": 0.82, "recall": 0.73, "specificity": 0.95, "npv": 0.93}  # Results, "Classification accuracy"
N_LGG, N_HGG = 76, 259  # Methods, "Dataset"
N_STATED = 355  # the same paragraph
N_CODEWORDS = 512
CONVENTIONS = {"LGG positive": (N_LGG, N_HGG), "HGG positive": (N_HGG, N_LGG)}
METRICS = {"accuracy": "accuracy", "AUC": "auc"}  # as they are called in tables, and in the library
PLAIN = GradingSettings(folds=5, repeats=10, permutations=0)
TEXT_AND_CODE = (  # subject, the text, the code, this book
    ("order within a block", "convolution, normalisation, activation", "normalisation and activation first", "as the text"),
    ("first resolution of the encoder", "a residual block of 32 filters", "a convolution, no residual block", "as the text"),
    (
        "soft Dice",
        "over which pixels is not said",
        "all classes and slices of a batch pooled",
        "per class; a switch",
    ),
    ("weight of the commitment (β of Eq. 3)", "not given", "1", "0.25; a switch"),
    ("whole tumour", "NET + ED + ET", "NET + ED", "NET + ED + ET"),
    ("classifier under perturbation", "the one that was fitted before", "fitted again to perturbed images", "both"),
    ("positive class", "HGG", "LGG, the second of the sorted names", "both, always"),
)


@dataclass(frozen=True)
class Example:
    """A phantom made on the fly: its ``volume``, and its ``slices`` as the model that comes with the library takes them."""

    patient: str
    grade: str
    volume: PatientVolume
    slices: Slices

    @property
    def index(self) -> int:
        """The slice with the most tumour."""
        return int((self.slices.labels > 0).sum(axis=(1, 2)).argmax())


class ShadowedByList(nn.Module):
    """A network with an attribute of the name ``modules`` that is a list."""

    def __init__(self):
        super().__init__()
        self.modules = [nn.Conv2d(4, 8, 3)]


class ShadowedByModules(nn.Module):
    """A network with an attribute of the name ``modules`` that is a list of the framework's kind."""

    def __init__(self):
        super().__init__()
        self.modules = nn.ModuleList([nn.Conv2d(4, 8, 3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` after every module."""
        for module in self.modules:
            x = module(x)
        return x


def attempt(call: Callable, *arguments: object) -> str:
    """Return what ``call`` answers, in words: ``works``, or the kind and the message of the error that it raises."""
    try:
        call(*arguments)
    except Exception as error:  # to be shown, whatever it is
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "works"


def make_examples(seed: int = 0) -> list[Example]:
    """Return one HGG and one LGG phantom at 2 mm, the first of each grade that have all three regions."""
    model = open_shipped()
    settings = CohortSettings(spacing_mm=2.0, n_segmentation=4, n_grading=16, lgg_share=0.5)
    chosen = {}
    for draw in draw_cohort(settings, seed):
        if draw.cohort == "grading" and min(draw.volumes_cm3) > 1:
            chosen.setdefault(draw.grade, draw)
    examples = []
    for grade in ("HGG", "LGG"):
        made = render_patient(chosen[grade], 2.0)
        images = made.images.astype(np.float32)
        volume = PatientVolume(chosen[grade].id, images, made.labels, made.affine, grade, made.affine, made.labels.shape)
        examples.append(Example(chosen[grade].id, grade, volume, make_slices(volume, model.profile.preprocessing, 2.0)))
    return examples


@functools.cache
def open_shipped() -> TrainedModel:
    """Return the model that comes with the library, computing in float32."""
    return load_model(shipped_model("demo"), precision="fp32")


# 1: the positive class. 2: the patients.


def positive_class_table() -> pd.DataFrame:
    """Return the published rates, and those that follow from recall .73 and specificity .95 with either grade as the positive one."""
    rows = {"published": PUBLISHED}
    for name, (positive, negative) in CONVENTIONS.items():
        rows[f"{name}: {positive} and {negative}"] = rates_from(PUBLISHED["recall"], PUBLISHED["specificity"], positive, negative)
    return pd.DataFrame.from_dict(rows, orient="index")


def count_matching_tables(tolerances: tuple[float, ...] = (0.005, 0.01, 0.02)) -> pd.DataFrame:
    """Return how many tables of whole patients have the published rates, per convention and tolerance, and the accuracy nearest to .90.

    ``nearest accuracy`` is that of the table, among all that have the published recall and specificity (to .01), nearest to .90.
    """
    rows = {}
    for name, (positive, negative) in CONVENTIONS.items():
        counts = {f"within {tolerance:g}": len(matching_tables(PUBLISHED, positive, negative, tolerance)) for tolerance in tolerances}
        two = {rate: PUBLISHED[rate] for rate in ("recall", "specificity")}
        accuracy = matching_tables(two, positive, negative, 0.01)["accuracy"]
        rows[name] = counts | {"nearest accuracy": float(accuracy.iloc[(accuracy - PUBLISHED["accuracy"]).abs().argmin()])}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("positive class")


def count_patients() -> pd.DataFrame:
    """Return the patients by grade, their sum beside the number that is stated, and what always answering the commoner grade scores."""
    total = N_LGG + N_HGG
    rows = {"LGG": N_LGG, "HGG": N_HGG, "LGG + HGG": total, "stated": N_STATED, "accuracy of always HGG": f"{N_HGG / total:.3f}"}
    return pd.DataFrame({"patients": rows})


# 3: the rank test.


def draw_counts(seed: int = 0) -> dict[str, np.ndarray]:
    """Return simulated counts of one codeword in 76 LGG and 259 HGG patients, moderately more in HGG."""
    random = generator(seed, "errata", "counts")
    return {"LGG": random.negative_binomial(2, 2 / 14, N_LGG), "HGG": random.negative_binomial(2, 2 / 20, N_HGG)}


def compare_rank_tests(counts: dict[str, np.ndarray], pairings: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Return the p of the rank-sum test, and of the signed-rank test after 76 of the HGG patients were paired with LGG at random.

    Nothing says who belongs to whom, and every pairing gives another p: ``lowest`` and ``highest`` over ``pairings``.
    """
    random, lgg, hgg = generator(seed, "errata", "pairings"), counts["LGG"], counts["HGG"]
    drawn = np.array([random.permutation(hgg)[: len(lgg)] for _ in range(pairings)])
    signed = wilcoxon(drawn - lgg, axis=1, method="asymptotic").pvalue
    plain = float(mannwhitneyu(hgg, lgg).pvalue)
    rows = {
        "rank-sum, 76 against 259": {"p": plain, "lowest": plain, "highest": plain, "share below .05": float(plain < 0.05)},
        f"signed-rank, {pairings} random pairings": {
            "p": float(np.median(signed)),
            "lowest": float(signed.min()),
            "highest": float(signed.max()),
            "share below .05": float((signed < 0.05).mean()),
        },
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename(columns={"p": "p (median)"})


# 4: the effect likelihood-ratio test.


def effect_test_table(study: LikelihoodRatio) -> pd.DataFrame:
    """Return, per number of covariates, the share of separable data sets with fixed and with tossed grades, Cover's, and the level.

    ``false_positive`` is the share of p < .05 among the data sets in which the test exists; its nominal value is .05.
    """
    fixed, tossed = (summarise_effect_tests(study.of(grades)) for grades in ("76 and 259", "tossed by a coin"))
    cover = [separable_share(N_LGG + N_HGG, columns + 1) for columns in fixed.index]
    return fixed.assign(tossed=tossed["separable"], tossed_low=tossed["separable_low"], tossed_high=tossed["separable_high"], cover=cover)


def show_effect_tests(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``effect_test_table`` as text for the page."""
    return pd.DataFrame(
        {
            "p < .05 without signal": [_cell(row, "false_positive") for _, row in table.iterrows()],
            "data sets in which the test exists": table["tested"].astype(int),
            "separable, 76 and 259": [_cell(row, "separable") for _, row in table.iterrows()],
            "separable, tossed grades": [_cell(row, "tossed") for _, row in table.iterrows()],
            "Cover, exact": table["cover"].map("{:.3f}".format),
        },
        index=table.index.rename("covariates"),
    )


# 5: multiplicity, and regions.


def uniform_change_table(example: Example) -> pd.DataFrame:
    """Return sum and mean per region of a change that is 1 everywhere, in the true regions of a phantom: only the sum tells them apart."""
    table = region_values(np.ones(example.slices.labels.shape, np.float32), example.slices.labels)
    return table.set_index("region").rename(columns={"n_voxels": "pixels"})[["pixels", "sum", "mean"]]


# 6: the whole tumour.


def whole_tumour_as_published(labels: np.ndarray) -> np.ndarray:
    """Return the whole tumour as a ``logical_or`` with three arguments makes it: the third receives the result and is not looked at."""
    net, oedema, enhancing = (labels == value for value in (1, 2, 3))
    return np.logical_or(net, oedema, enhancing)


def compare_whole_tumours(examples: list[Example]) -> pd.DataFrame:
    """Return, of the true labels and of the shipped model's: pixels of the whole tumour both ways, and both Dice coefficients."""
    rows = {}
    for example in examples:
        truth = example.slices.labels
        predicted = open_shipped().segment(example.slices.images).numpy()
        without = [whole_tumour_as_published(labels).astype(np.uint8) for labels in (predicted, truth)]
        rows[f"{example.grade} {example.patient}"] = {
            "pixels, NET + ED + ET": int((truth > 0).sum()),
            "pixels, as published": int(without[1].sum()),
            "Dice WT": dice_scores(predicted, truth)["WT"],
            "Dice WT, as published": dice_scores(*without)["WT"],
            "Dice TC": dice_scores(predicted, truth)["TC"],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("phantom")


# 7: refitting.


def refitting_gains(study: Corrections) -> pd.DataFrame:
    """Return the accuracy of the classifier that was fitted again minus that of the frozen one, per kind and end of the ladder.

    Mean over seeds with its 95 % t interval, at the study's largest magnitude.
    """
    largest = study.robustness[study.robustness["magnitude"] == study.robustness["magnitude"].max()]
    rows = []
    for (rung, kind), found in largest.groupby(["rung", "kind"]):
        wide = found.pivot(index="seed", columns="classifier", values="accuracy")
        gain = seed_interval(wide["refitted"] - wide["frozen"])
        means = wide.mean()
        rows.append([f"{rung} {LADDER[rung].name}", kind, means["frozen"], means["refitted"], gain.estimate, gain.low, gain.high])
    columns = ["rung", "perturbation", "frozen", "refitted", "difference", "95 % low", "95 % high"]
    return pd.DataFrame(rows, columns=columns).set_index(["rung", "perturbation"])


# 8: the codebook's start.


def first_steps(seed: int = 0, shown: tuple[int, ...] = (1, 2, 3, 10, 50)) -> pd.DataFrame:
    """Return the longest codeword (in lengths of a latent) and the codewords in use, step by step, with both starts of the average."""
    columns = {}
    for name, corrected in (("published start", False), ("corrected start", True)):
        settings = QuantizerSettings(bias_correction=corrected, kmeans_start=False, revive_dead=False)
        with one_thread():
            steps = codebook_usage_over_steps(settings, max(shown), seed).loc[list(shown)]
        columns |= {(name, "longest codeword"): steps["longest"], (name, f"used of {settings.codebook_size}"): steps["used"]}
    return pd.DataFrame(columns)


# 11: the background. 12: how local is a token.


def background_values(examples: list[Example]) -> pd.DataFrame:
    """Return what the z-score makes of the empty space around each head, per modality: minus the mean over the deviation of the brain."""
    settings = PreprocessingSettings(image_size=128, normalisation="z-score", background=None)
    rows = {}
    for example in examples:
        corner = make_slices(example.volume, settings, 2.0).images[0, :, 0, 0].astype(float)
        rows[f"{example.grade} {example.patient}"] = dict(zip(MODALITIES, corner, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("phantom")


def blank_modality(example: Example) -> PatientVolume:
    """Return the example with a FLAIR that is 100 wherever the head is."""
    images = example.volume.images.copy()
    images[3] = np.where(images.any(axis=0), 100.0, 0.0)
    volume = example.volume
    return PatientVolume(volume.id, images, volume.labels, volume.affine, volume.grade, volume.file_affine, volume.file_shape)


def plain_z_score(values: np.ndarray) -> np.ndarray:
    """Return (x - mean) / deviation without looking: 0 / 0, which is not a number, where all values are the same."""
    with np.errstate(invalid="ignore"):
        return (values - values.mean()) / values.std()


def rotated_slices(example: Example, degrees: float = 10.0) -> dict[str, np.ndarray]:
    """Return the T1 slice with the most tumour after a rotation that fills in 0 around a plain z-score, and after ours."""
    slices = {}
    for name, background in (("published: 0 comes in", None), ("here: the background comes in", -3.0)):
        settings = PreprocessingSettings(image_size=128, normalisation="z-score", background=background)
        image = torch.from_numpy(make_slices(example.volume, settings, 2.0).images[example.index].astype(np.float32))[None]
        turned = torch.tensor([np.deg2rad(degrees)], dtype=torch.float32)
        nothing = torch.zeros(image[:, 0].shape, dtype=torch.uint8)
        slices[name] = rotate_and_flip(image, nothing, turned, torch.tensor([False]), background or 0.0)[0][0, 0].numpy()
    return slices


def measure_locality(examples: list[Example], tokens: int = 5) -> pd.DataFrame:
    """Return, for ``tokens`` tumour positions of each example, the share of the change outside the position's own cell, both ways.

    A row per position and ``variant`` (normalisation as it is, or with its statistics frozen): ``share_outside``, ``share_changed``
    (pixels that changed at all) and ``share_reached`` (pixels within :func:`decoder_reach`).
    """
    model, rows = open_shipped(), []
    side, levels = model.profile.stride, len(model.profile.network.filters)
    for example in examples:
        code_map = model.encode_to_codes(example.slices.images[example.index][None])[0]
        background = int(code_map[0, 0])  # a corner lies outside every head
        tumour = (example.slices.labels[example.index] > 0).reshape(code_map.shape[0], side, code_map.shape[1], side).sum(axis=(1, 3))
        order = np.argsort(-tumour, axis=None, kind="stable")[:tokens]
        for cell in zip(*map(np.ndarray.tolist, np.unravel_index(order, tumour.shape)), strict=True):
            if int(code_map[cell]) == background or not tumour[cell]:
                continue
            reached = np.prod([share_of_slice(decoder_reach(levels, place), side * code_map.shape[0]) for place in cell])
            for variant, frozen in (("as it is", False), ("statistics frozen", True)):
                with one_thread():
                    change = token_change(model, code_map, cell, background, frozen)
                own = torch.zeros(code_map.shape, dtype=torch.bool)
                own[cell] = True
                row = {"grade": example.grade, "row": cell[0], "column": cell[1], "variant": variant, "share_reached": float(reached)}
                row |= {"share_outside": share_outside(change[None], own[None]), "share_changed": float((change > 0).mean())}
                rows.append(row)
    return pd.DataFrame(rows)


def one_token(example: Example) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Return the change maps (H, W) of the position with the most tumour, as it is and with frozen statistics, and its cell."""
    model = open_shipped()
    side = model.profile.stride
    code_map = model.encode_to_codes(example.slices.images[example.index][None])[0]
    tumour = (example.slices.labels[example.index] > 0).reshape(code_map.shape[0], side, code_map.shape[1], side).sum(axis=(1, 3))
    tumour = np.where(code_map.numpy() == int(code_map[0, 0]), 0, tumour)
    cell = tuple(int(place) for place in np.unravel_index(tumour.argmax(), tumour.shape))
    maps = (token_change(model, code_map, cell, int(code_map[0, 0]), frozen) for frozen in (False, True))
    return *maps, cell


def latent_of(example: Example, rows: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first ``rows`` rows of the latent (D, h, w) of the example's slice with the most tumour, and the codebook (K, D)."""
    network = open_shipped().network
    with torch.inference_mode():
        latent = network.encode(torch.from_numpy(example.slices.images[example.index][None]).float())[0]
    return latent[:, :rows], network.quantizer.codebook.detach()


def look_up(index_map: torch.Tensor, latent: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """Return ``latent`` (D, h, w) with the codewords of ``index_map`` put in by the straight-through estimator's sum."""
    return latent + (codebook[index_map].movedim(-1, 0) - latent)


def text_and_code() -> pd.DataFrame:
    """Return where the text and the published code differ, and what this book does."""
    return pd.DataFrame(TEXT_AND_CODE, columns=["", "text", "published code", "this book"]).set_index("")


# 14: volumes alone.


def open_tcga(run: Run) -> TcgaTable | None:
    """Return the reader's table of TCGA features, where ``data_dir`` holds it; None otherwise."""
    folder = find_tcga(run.data_dir)
    return None if folder is None else read_tcga(folder)


def open_volumes(run: Run) -> tuple[pd.DataFrame, pd.Series, str]:
    """Return NET, ED, ET in cm3, the grades, and in words whose they are: the reader's TCGA patients, or as many phantoms."""
    table = open_tcga(run)
    if table is not None:
        return table.volumes, table.grades, f"{len(table.grades)} patients of the TCGA table (supplied by the reader)"
    settings = CohortSettings(spacing_mm=2.0, n_segmentation=4, n_grading=167, lgg_share=65 / 167)
    truth = draw_truth(settings, run.seed).query("cohort == 'grading'").set_index("id")
    volumes = truth[["NET_cm3", "ED_cm3", "ET_cm3"]].set_axis(["NET", "ED", "ET"], axis=1)
    return volumes, truth["grade"], f"{len(truth)} phantoms (synthetic patients; their volumes alone, no image is made)"


def volume_table(run: Run) -> pd.DataFrame:
    """Return accuracy and AUC of log volumes, and with the TCGA table of all its features, by the plain and by our protocol.

    Plain: logistic regression on standardised columns, 5 stratified folds, 10 repeats, mean +- SD over the 50 folds. Ours: penalty
    chosen inside the training folds, with the 95 % bootstrap interval over patients.
    """
    volumes, grades, _ = open_volumes(run)
    table, logs = open_tcga(run), np.log1p(volumes)
    rows = {"always the commoner grade": {"columns": 0, "accuracy, plain": f"{grades.value_counts(normalize=True).max():.3f}"}}
    rows["three log volumes"] = _graded(logs, grades, LogisticRegression(max_iter=2000), run.seed)
    if table is not None:
        features = np.sign(table.features) * np.log1p(table.features.abs())
        rows["all features"] = _graded(features, grades, LogisticRegression(C=0.01, max_iter=5000), run.seed)
    return pd.DataFrame.from_dict(rows, orient="index").fillna("–").rename_axis("grading by")


def nested_volumes(run: Run) -> grading.GradingResult:
    """Return our protocol's result of three log volumes."""
    volumes, grades, _ = open_volumes(run)
    return grading.cross_validate(np.log1p(volumes), grades, PLAIN, run.seed, kind="features")


def tell_tcga(run: Run) -> str:
    """Return what section 14 shows, and what it would show."""
    if open_tcga(run) is not None:
        return "The numbers are those of the table that was supplied."
    return (
        "The table was not supplied, so these are phantoms, whose volumes were drawn to resemble it. With `data_dir` (or `--data`) at a "
        "folder that holds `TCGA_GBM_radiomicFeatures.csv` and `TCGA_LGG_radiomicFeatures.csv`, this section shows the same of 102 GBM and "
        "65 LGG patients, of three volumes and of all features of the table."
    )


def _graded(features: pd.DataFrame, grades: pd.Series, model: LogisticRegression, seed: int) -> dict[str, object]:
    plain = _plain_protocol(features, grades, make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), model), seed)
    filled = features.fillna(features.median())  # without a look at the grades
    summary = grading.cross_validate(filled, grades, PLAIN, seed, kind="features").summary
    nested = {f"{name}, ours": "{estimate:.3f} [{low:.3f}, {high:.3f}]".format(**summary.loc[metric]) for name, metric in METRICS.items()}
    return {"columns": features.shape[1]} | plain | nested


def _plain_protocol(features: pd.DataFrame, grades: pd.Series, model: Pipeline, seed: int) -> dict[str, str]:
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=10, random_state=derive_seed(seed, "errata", "folds") % 2**32)
    found = cross_validate(model, features.to_numpy(), (grades == "HGG").to_numpy(), cv=folds, scoring=("accuracy", "roc_auc"))
    accuracy, auc = found["test_accuracy"], found["test_roc_auc"]
    return {"accuracy, plain": f"{accuracy.mean():.3f} ± {accuracy.std():.3f}", "AUC, plain": f"{auc.mean():.3f}"}


def errata_claims(run: Run, locality: pd.DataFrame, discoveries: pd.DataFrame, volumes: grading.GradingResult) -> list[Claim]:
    """Return the claims of the chapter: statements of the paper that its own numbers, simulations or the code decide."""
    total, implied = N_LGG + N_HGG, {name: rates_from(0.73, 0.95, *numbers)["accuracy"] for name, numbers in CONVENTIONS.items()}
    claims = [
        Claim(
            f"published_accuracy_as_{name.split()[0]}_positive",
            f"accuracy that the published recall and specificity imply, {name} (published: {PUBLISHED['accuracy']:.2f})",
            None,
            accuracy,
            None,
            total,
            "holds" if abs(accuracy - PUBLISHED["accuracy"]) <= 0.005 else "does not hold",
            "errata-positive",
        )
        for name, accuracy in implied.items()
    ]
    claims.append(Claim("patients", "patients with a known grade", N_STATED, total, None, total, "does not hold", "errata-patients"))
    mean = seed_interval(discoveries["plain"])
    by_chance = Claim(
        "codewords_without_signal",
        "of 512 codewords, those with p < .05 where the grade tells nothing (the paper names 5 responsible ones)",
        None,
        mean.estimate,
        (mean.low, mean.high),
        len(discoveries),
        "cannot be tested here",
        "errata-multiplicity",
    )
    shares = locality.loc[locality["variant"] == "as it is", "share_outside"]
    outside = bootstrap_interval(shares, generator(run.seed, "claims", "outside"), np.median)
    elsewhere = Claim(
        "change_outside_own_cell",
        "a region that changes is where the codeword is: median share of the change outside its cell",
        None,
        outside.estimate,
        (outside.low, outside.high),
        len(shares),
        "does not hold" if outside.low > 0.5 else "holds",
        "errata-locality",
    )
    return [
        *made_elsewhere(claims, "published"),
        *made_elsewhere([*_effect_test_claims(open_likelihood_ratio()), by_chance], "simulation", "data sets"),
        *made_elsewhere([_whole_tumour_claim(open_corrections())], "phantom, study", "trainings", "corrections"),
        *made_elsewhere([elsewhere], "phantom, shipped model", "positions", "demo"),
        *made_elsewhere(_volume_claim(run, volumes), "TCGA"),
    ]


def _effect_test_claims(study: LikelihoodRatio) -> list[Claim]:
    table, claims = effect_test_table(study), []
    for columns in (100, 130):
        row = table.loc[columns]
        verdict = "does not hold" if row["false_positive_low"] > 0.05 else "holds"
        statement = f"level of the effect likelihood-ratio test with {columns} covariates, nominal .05"
        interval = (row["false_positive_low"], row["false_positive_high"])
        name = f"lr_test_type1_{columns}"
        claims.append(Claim(name, statement, None, row["false_positive"], interval, row["tested"], verdict, "errata-likelihood-ratio"))
    row = table.loc[160]
    statement = "share of data sets in which the test exists, with 160 covariates"
    exists = share_interval(int(row["tested"]), int(row["data_sets"]))
    verdict = "does not hold" if exists.high < 0.5 else "holds"
    interval = (exists.low, exists.high)
    claims.append(
        Claim("lr_test_exists_160", statement, None, exists.estimate, interval, row["data_sets"], verdict, "errata-likelihood-ratio")
    )
    return claims


def _whole_tumour_claim(study: Corrections) -> Claim:
    last = study.rows[study.rows["rung"] == study.rows["rung"].max()]
    loss = seed_interval(last["dice_WT_without_ET"] - last["dice_WT"])
    statement = "the published whole tumour contains ET: Dice without it minus Dice with it, same predictions"
    verdict = "does not hold" if loss.high < 0 or loss.low > 0 else "cannot be tested here"
    return Claim(
        "whole_tumour_without_ET", statement, None, loss.estimate, (loss.low, loss.high), len(last), verdict, "errata-whole-tumour"
    )


def _volume_claim(run: Run, volumes: grading.GradingResult) -> list[Claim]:
    """Return what the volumes of real patients reach, where the reader has their table; no claim where not."""
    if open_tcga(run) is None:
        return []
    row, statement = (
        volumes.summary.loc["accuracy"],
        "accuracy of three log volumes of other patients (the paper's .90 is of codewords in BraTS)",
    )
    n, interval = len(volumes.grades), (row["low"], row["high"])
    return [Claim("tcga_volume_accuracy", statement, None, row["estimate"], interval, n, "cannot be tested here", "errata-volumes")]


def _cell(row: pd.Series, name: str) -> str:
    if pd.isna(row[name]):
        return "no test"
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def transposition_errors(example: Example) -> float:
    """Return the share of positions whose code is another one if the index map of the slice with the most tumour is transposed."""
    codes = open_shipped().encode_to_codes(example.slices.images[example.index][None])[0]
    return float((codes != codes.T).float().mean())
