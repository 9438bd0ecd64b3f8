"""Do independently trained codebooks agree? Several networks, each trained from random weights, read the same patients.

A training has its own phantoms and its own seed (first weights, order and augmentation of the slices, start of the codebook); as a
control, each set of phantoms trains a second network with another seed. All of them are applied to one common cohort that none has
seen, and every pair is compared: its codes, its responsible codewords and regions, its grades and its segmentations.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from drlib.artifacts import build_stage, open_stage, source_hash, write_json
from drlib.cohort.regions import GRADES, LABELS, MODALITIES, region_mask
from drlib.cohort.slices import SliceStore
from drlib.figures.images import largest_slice
from drlib.profiles import Profile, load_profile
from drlib.radiomics.ablation import change_maps, region_values
from drlib.radiomics.agreement import (
    cohens_kappa,
    compare_codes,
    correlate,
    count_together,
    kappa_of_independent_errors,
    overlap,
    overlap_of_highest,
    pairs_of,
    partners_shared,
    permute_within,
)
from drlib.radiomics.grading import GradingResult, cross_validate, grading_metrics, volume_features
from drlib.radiomics.histogram import background_codeword, cells_outside, codeword_histogram, encode_patient
from drlib.radiomics.responsible import find_responsible, responsible_by_grade
from drlib.radiomics.statistics import bootstrap_weights
from drlib.seeds import derive_seed, generator
from drlib.segmentation.dice import dice_scores
from drlib.segmentation.model import TrainedModel, load_model
from drlib.segmentation.training import train
from drlib.series.stages.cohort import region_volumes
from drlib.series.stages.histograms import RADIOMICS_SOURCES
from drlib.series.stages.segmentation import SEGMENTATION_SOURCES
from drlib.series.studies.corrections import open_cohort

BASE = "smoke"
BUDGET = (
    *("cohort.n_segmentation=48", "training.epochs=20", "training.slices_per_epoch=640"),
    *("grading.repeats=5", "grading.permutations=0"),
)
N_SETS, N_TWINS = 5, 3  # of training phantoms, and how many of them train a second network
WEIGHTS = ("a", "b")
COMMON_SEED, N_COMMON = 900, 96
COMMAND = "drlib study codebooks"
SHIPPED = Path(__file__).parent / "shipped" / "codebooks"
SOURCES = (*RADIOMICS_SOURCES, "drlib.profiles", "drlib.series.studies.codebooks")
TABLES = ("trainings", "pairs", "regions", "patients", "codewords", "overlaps", "averaged")
OTHER, SAME = "other phantoms", "same phantoms"  # that the two networks of a pair were trained on
RESPONSIBLE, DRAWN, OTHER_GRADE = "responsible", "drawn at random", "of the other grade"  # codewords whose maps are compared
CODEWORD_COLUMNS = ["count", "auc", "q", "selected_share", "direction", "responsible"]


@dataclass(frozen=True)
class Training:
    """One network: the number of its set of phantoms (1, 2, ...) and which training on them (``a`` or ``b``)."""

    phantoms: int
    weights: str

    @property
    def name(self) -> str:
        """``2a``: the first training on the second set of phantoms."""
        return f"{self.phantoms}{self.weights}"

    @property
    def seed(self) -> int:
        """The seed of everything drawn in training; no two trainings share one."""
        return 100 * (1 + WEIGHTS.index(self.weights)) + self.phantoms


@dataclass(frozen=True)
class Codebooks:
    """What the study found.

    Attributes:
        trainings: one row per training, see :func:`describe_reading`.
        pairs: one row per pair of trainings (:func:`chosen_pairs`): ``first``, ``second``, ``kind`` (*other phantoms* or *same phantoms*),
            and the measures of :func:`compare_readings`.
        regions: one row per pair, ``responsible_for`` and ``codewords`` (responsible in both, or a control), see :func:`compare_maps`:
            means over patients, and the number of ``patients`` in whom neither map is flat.
        patients: ``patient``, ``grade``, ``p_<training>``: P(HGG) out of fold; ``p_volumes`` of the three true volumes.
        codewords: ``training``, ``codeword``, ``count`` (in the brain), ``auc``, ``q``, ``selected_share``, ``direction``, ``responsible``.
        overlaps: two pairs in full: ``first``, ``second``, ``k``, ``l``, ``count`` of positions coded so by the two.
        averaged: how well the mean P(HGG) of some codebooks grades, see :func:`average_codebooks`.
        examples: pixels of a slice of a patient of each grade, with codes and maps of two codebooks, see :func:`show_examples`.
        manifest: what it was made from, with which versions, and the SHA-256 of each table.
    """

    trainings: pd.DataFrame
    pairs: pd.DataFrame
    regions: pd.DataFrame
    patients: pd.DataFrame
    codewords: pd.DataFrame
    overlaps: pd.DataFrame
    averaged: pd.DataFrame
    examples: pd.DataFrame
    manifest: dict[str, Any]

    @property
    def profile(self) -> Profile:
        """The profile that every network was trained with."""
        made = self.manifest["made_from"]
        return load_profile("+".join([made["base"], *made["budget"]]))


def run_codebooks(
    folder: Path,
    sets: int = N_SETS,
    twins: int = N_TWINS,
    base: str = BASE,
    budget: Sequence[str] = BUDGET,
    n_common: int = N_COMMON,
    progress: bool = True,
) -> Codebooks:
    """Train a network on each of ``sets`` of phantoms and a second one on ``twins`` of them, let all read the common cohort, compare.

    The tables are kept in ``folder/codebooks``, the networks in ``folder/work``.

    Killed at any moment, the next call goes on with the network where this one stopped.
    """
    profile = load_profile("+".join([base, *budget]))
    key_parts = {
        "command": COMMAND,
        "base": base,
        "budget": list(budget),
        "sets": sets,
        "twins": twins,
        "common": {"patients": n_common, "seed": COMMON_SEED},
        "profile": profile.hash,
        "sources": source_hash(*SOURCES),
    }
    trainings = [Training(number, weights) for weights, count in zip(WEIGHTS, (sets, twins), strict=True) for number in range(1, count + 1)]
    folder = Path(folder)

    def make(partial: Path) -> None:
        common = open_common(folder / "work", profile, n_common)
        models, readings = {}, {}
        for training in tqdm(trainings, desc="codebooks", unit="training", disable=not progress):
            models[training.name] = train_network(training, profile, folder / "work")
            readings[training.name] = read_cohort(training, models[training.name], common, folder / "work")
        _write_tables(partial, models, readings, common)

    return open_codebooks(build_stage(folder / "codebooks", key_parts, make))


def open_codebooks(folder: Path = SHIPPED) -> Codebooks:
    """Return the tables of a finished study, by default those that come with the library, checked against their manifest."""
    manifest = open_stage(folder, repair=COMMAND)
    tables = [pd.read_csv(folder / f"{name}.csv") for name in TABLES]
    return Codebooks(*tables, pd.read_parquet(folder / "examples.parquet"), manifest)


@dataclass(frozen=True)
class Common:
    """The cohort that every network reads, slices of all patients one after the other.

    Attributes:
        store: the slices.
        grades: LGG or HGG of each patient.
        patient: (S,) the number of the patient of each slice.
        brain, tumour: (S, h, w), boolean: latent positions whose cell holds some of it.
        profile: how it is graded.
    """

    store: SliceStore
    grades: pd.Series
    patient: np.ndarray
    brain: np.ndarray
    tumour: np.ndarray
    profile: Profile

    @cached_property
    def is_hgg(self) -> np.ndarray:
        """Whether each patient has HGG."""
        return (self.grades == "HGG").to_numpy()

    @cached_property
    def slices(self) -> np.ndarray:
        """The number of the slice of each latent position in the brain."""
        return np.nonzero(self.brain)[0]

    def of(self, values: np.ndarray, number: int) -> np.ndarray:
        """Return the slices of one patient."""
        return values[self.patient == number]


@dataclass(frozen=True)
class Reading:
    """What one network says of the common cohort.

    Attributes:
        codes: (S, h, w) index maps.
        labels: (S, H, W) predicted labels.
        probabilities, other_folds: P(HGG) out of fold, patients x repeats, for the folds shared by all networks and for others.
        codewords: the table of :func:`drlib.radiomics.responsible.find_responsible`, with ``count`` in the brain.
        by_grade: responsible codewords of each grade; where there is none, the leading one.
        background: the codeword of what lies outside the head.
        facts: the training in numbers.
    """

    codes: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    other_folds: np.ndarray
    codewords: pd.DataFrame
    by_grade: dict[str, list[int]]
    background: int
    facts: dict[str, Any]

    @property
    def p_hgg(self) -> np.ndarray:
        """P(HGG) of each patient, averaged over repeats."""
        return self.probabilities.mean(axis=1)

    def drawn(self, grade: str, seed: int) -> list[int]:
        """Return as many codewords, drawn from those in the brain, as speak for ``grade``; neither these nor the background."""
        own = {*self.by_grade[grade], self.background}
        others = [int(k) for k in self.codewords.index[self.codewords["count"] > 0] if k not in own]
        count = min(len(self.by_grade[grade]), len(others))
        return [int(k) for k in generator(seed, "codebooks", DRAWN, grade).choice(others, count, replace=False)]


def open_common(work: Path, profile: Profile, n_common: int) -> Common:
    """Return the common cohort, made where it is not there."""
    cohort = profile.cohort.model_copy(update={"n_segmentation": 4, "n_grading": n_common})
    store = open_cohort(work, cohort, profile.preprocessing, COMMON_SEED)[1]
    grades = pd.Series({patient: store.grade(patient) for patient in store.patients})
    side = profile.stride
    brain = [~cells_outside(store.images(patient), side) for patient in store.patients]
    tumour = [_cells_with(store.labels(patient) > 0, side) for patient in store.patients]
    patient = np.repeat(np.arange(len(brain)), [len(cells) for cells in brain])
    return Common(store, grades, patient, np.concatenate(brain), np.concatenate(tumour), profile)


def train_network(training: Training, profile: Profile, work: Path) -> TrainedModel:
    """Return the network of a training, trained where it is not there."""
    key_parts = {
        "profile": profile.hash,
        "phantoms": training.phantoms,
        "seed": training.seed,
        "sources": source_hash(*SEGMENTATION_SOURCES),
    }

    def make(folder: Path) -> None:
        cohort = profile.cohort.model_copy(update={"n_grading": 8})  # nobody is graded here: as few as there can be
        store = open_cohort(work, cohort, profile.preprocessing, 100 + training.phantoms)[0]
        train(store, profile, folder, seed=training.seed, progress=False)

    return load_model(build_stage(work / f"network-{training.name}", key_parts, make))


def read_cohort(training: Training, model: TrainedModel, common: Common, work: Path) -> Reading:
    """Return what a network says of the common cohort, computed where it is not there."""
    key_parts = {"network": model.card["sha256"], "patients": len(common.grades), "sources": source_hash(*SOURCES)}
    folder = build_stage(work / f"reading-{training.name}", key_parts, lambda partial: _read(partial, training, model, common))
    arrays = [np.load(folder / f"{name}.npy") for name in ("codes", "labels", "probabilities", "other_folds")]
    facts = json.loads((folder / "facts.json").read_text())
    codewords = pd.read_csv(folder / "codewords.csv", index_col="codeword")
    return Reading(*arrays, codewords, facts.pop("by_grade"), facts.pop("background"), facts)


def _read(folder: Path, training: Training, model: TrainedModel, common: Common) -> None:
    store, profile = common.store, common.profile
    codes, labels, dice = [], [], []
    for patient in store.patients:
        images = store.images(patient)
        codes.append(encode_patient(model, images).numpy())
        labels.append(model.segment(images).numpy())
        dice.append(dice_scores(labels[-1], store.labels(patient)))
    size = profile.quantizer.codebook_size
    counts = pd.DataFrame([codeword_histogram(torch.from_numpy(one), size) for one in codes], index=common.grades.index)
    codes = np.concatenate(codes)
    shared, others = (cross_validate(counts, common.grades, profile.grading, seed) for seed in (0, derive_seed(0, "other folds")))
    table = find_responsible(counts, common.grades)
    table["count"] = codeword_histogram(torch.from_numpy(codes[common.brain]), size)
    for name, values in (("codes", codes), ("labels", np.concatenate(labels))):
        np.save(folder / f"{name}.npy", values)
    np.save(folder / "probabilities.npy", shared.probabilities)
    np.save(folder / "other_folds.npy", others.probabilities)
    table.to_csv(folder / "codewords.csv")
    facts = {f"dice_{region}": value for region, value in pd.DataFrame(dice).mean().items()}
    facts |= {metric: float(shared.summary.loc[metric, "estimate"]) for metric in ("accuracy", "balanced_accuracy", "auc", "brier")}
    facts |= {"minutes": model.card["provenance"]["training_minutes"], "slices_seen": model.card["provenance"]["slices_seen"]}
    facts |= {"by_grade": responsible_by_grade(table, at_least=1), "background": background_codeword(model, store)}
    write_json(folder / "facts.json", facts | {"phantoms": training.phantoms, "weights": training.weights})


def describe_reading(reading: Reading, volumes: np.ndarray, common: Common) -> dict[str, Any]:
    """Return the row of a training: its set of phantoms, Dice, how it grades, its codebook, and what a second look gives.

    ``kappa_folds``, ``differently_folds``: the same codebook with other folds. ``kappa_volumes``: against the three true ``volumes``.
    """
    counts = reading.codewords["count"].to_numpy()
    share = counts[counts > 0] / counts.sum()
    responsible = reading.codewords[reading.codewords["responsible"]]
    again = _compare_grades(reading.p_hgg, reading.other_folds.mean(axis=1), common.is_hgg)
    row = reading.facts | {"codewords_used": len(share), "perplexity": float(np.exp(-(share * np.log(share)).sum()))}
    row |= {f"n_responsible_{grade}": int((responsible["direction"] == grade).sum()) for grade in GRADES}
    row |= {f"{name}_folds": again[name] for name in ("p_correlation", "kappa", "differently", "p_difference")}
    return row | {"kappa_volumes": _compare_grades(reading.p_hgg, volumes, common.is_hgg)["kappa"]}


def compare_readings(first: Reading, second: Reading, common: Common, seed: int = 0) -> dict[str, float]:
    """Return how far two networks agree on the common cohort; where a measure has a value by chance, with ``_chance`` behind its name.

    Codes, of latent positions in the brain and again (``_tumour``) in the tumour: ``matched_share``, ``merged_share``, ``ami``, ``ari``;
    by chance: the codes of the second in random order within each slice. Responsible codewords: ``partners_<grade>`` (of each other, in
    both sets), ``positions_<grade>`` (Dice of the positions that hold them). ``auc_correlation``: of what matched codewords say about the
    grade. Predictions: ``p_correlation``, ``kappa`` (and ``kappa_chance``: of independent errors), ``differently`` (share of patients),
    ``p_difference`` (mean absolute). ``dice_<region>``: of the two segmentations.
    """
    row = {}
    for where, cells in (("", common.brain), ("_tumour", common.tumour)):
        codes = first.codes[cells], second.codes[cells]
        sizes = len(first.codewords), len(second.codewords)
        found = compare_codes(*codes, sizes)
        mixed = permute_within(codes[1], np.nonzero(cells)[0], generator(seed, "codebooks", "chance"))
        chance = compare_codes(codes[0], mixed, sizes)
        for name in ("matched_share", "merged_share", "ami", "ari"):
            row |= {f"{name}{where}": getattr(found, name), f"{name}{where}_chance": getattr(chance, name)}
        if not where:
            row |= _compare_responsible(first, second, found.partner, codes, mixed)
    row |= _compare_grades(first.p_hgg, second.p_hgg, common.is_hgg)
    row |= {f"dice_{region}": _mean_overlap(first.labels, second.labels, region, common) for region in ("WT", "TC", "ET")}
    return row


def _compare_responsible(
    first: Reading, second: Reading, partner: np.ndarray, codes: tuple[np.ndarray, np.ndarray], mixed: np.ndarray
) -> dict[str, float]:
    row = {}
    used = min(int((reading.codewords["count"] > 0).sum()) for reading in (first, second))
    for grade in GRADES:
        own, other = first.by_grade[grade], second.by_grade[grade]
        row[f"partners_{grade}"] = partners_shared(own, other, partner)
        row[f"partners_{grade}_chance"] = 2 * len(own) * len(other) / used / (len(own) + len(other))
        there = np.isin(codes[0], own)
        row[f"positions_{grade}"] = overlap(there, np.isin(codes[1], other))
        row[f"positions_{grade}_chance"] = overlap(there, np.isin(mixed, other))
    pairs = [(k, partner[k]) for k in np.flatnonzero(partner >= 0)]
    tested = [(k, one) for k, one in pairs if pd.notna(first.codewords["q"][k]) and pd.notna(second.codewords["q"][one])]
    says = [
        [reading.codewords["auc"][k] for k in chosen] for reading, chosen in zip((first, second), zip(*tested, strict=True), strict=True)
    ]
    return row | {"auc_correlation": correlate(*says), "n_auc": len(tested)}


def _compare_grades(first: np.ndarray, second: np.ndarray, is_hgg: np.ndarray) -> dict[str, float]:
    grades = first > 0.5, second > 0.5
    return {
        "p_correlation": correlate(first, second),
        "kappa": float(cohens_kappa(*grades)[0]),
        "kappa_chance": kappa_of_independent_errors(*grades, is_hgg),
        "differently": float(np.mean(grades[0] != grades[1])),
        "p_difference": float(np.abs(first - second).mean()),
    }


def _mean_overlap(first: np.ndarray, second: np.ndarray, region: str, common: Common) -> float:
    masks = region_mask(first, region), region_mask(second, region)
    return float(np.nanmean([overlap(*(common.of(mask, number) for mask in masks)) for number in range(len(common.grades))]))


def compare_maps(models: dict[str, TrainedModel], readings: dict[str, Reading], common: Common) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return how far the responsible-region maps of every pair agree, and in which region those of each network are highest on average.

    Maps of one patient by two networks are compared in the slices with tumour: Pearson's correlation over the brain (``brain``) and
    within the tumour (``tumour``), Dice of the 5 % of brain pixels that change most (``highest``), and whether the mean change is greatest
    in the same one of NET, ED and ET (``same_region``). Controls: the map of the one's responsible codewords against that of as many
    codewords drawn at random from the other, and against that of the other's responsible codewords of the other grade.
    """
    rows, means = [], []
    for number in range(len(common.grades)):
        labels, inside, maps = _maps_of_patient(number, models, readings, common)
        if not len(labels):
            continue
        regions = {key: region_values(one, labels).set_index("region")["mean"] for key, one in maps.items()}
        means += [{"training": key[0], "grade": key[1]} | dict(one) for key, one in regions.items() if key[2] != DRAWN]
        for pair in chosen_pairs(list(models)):
            for grade, what, keys in _compared(pair):
                head = dict(zip(("first", "second"), pair, strict=True)) | {"responsible_for": grade, "codewords": what}
                agreement = _agreement_of_maps(*(maps[key] for key in keys), labels > 0, inside)
                rows.append(head | agreement | {"same_region": _same_highest(*(regions[key] for key in keys))})
    table = pd.DataFrame(rows).groupby(["first", "second", "responsible_for", "codewords"], sort=False)
    agreement = table.mean().assign(patients=table["brain"].count()).reset_index()
    return agreement, pd.DataFrame(means).groupby(["training", "grade"]).mean().idxmax(axis=1).unstack()


def _compared(pair: tuple[str, str]) -> list[tuple[str, str, list[tuple[str, str, str]]]]:
    """Return what is compared in a pair: grade, what the codewords of the second are, and the keys of the two maps."""
    first, second = pair
    rows = []
    for grade, other in (GRADES, GRADES[::-1]):
        rows.append((grade, RESPONSIBLE, [(first, grade, RESPONSIBLE), (second, grade, RESPONSIBLE)]))
        rows.append((grade, OTHER_GRADE, [(first, grade, RESPONSIBLE), (second, other, RESPONSIBLE)]))
        rows += [
            (grade, DRAWN, [(first, grade, kinds[0]), (second, grade, kinds[1])]) for kinds in ((RESPONSIBLE, DRAWN), (DRAWN, RESPONSIBLE))
        ]
    return rows


def _maps_of_patient(number: int, models: dict[str, TrainedModel], readings: dict[str, Reading], common: Common) -> tuple:
    """Return labels and brain (S, H, W) of the slices with tumour, and the maps by training, grade and kind of codewords."""
    labels = common.store.labels(common.store.patients[number])
    shown = np.flatnonzero(labels.any(axis=(1, 2)))
    side = common.profile.stride
    inside = np.kron(common.of(common.brain, number)[shown], np.ones((1, side, side), dtype=bool))
    maps = {}
    for name, reading in readings.items():
        codes = torch.from_numpy(common.of(reading.codes, number)[shown])
        for grade in GRADES:
            for kind, chosen in ((RESPONSIBLE, reading.by_grade[grade]), (DRAWN, reading.drawn(grade, number))):
                maps[name, grade, kind] = change_maps(models[name], codes, chosen, reading.background)
    return labels[shown], inside, maps


def _agreement_of_maps(first: np.ndarray, second: np.ndarray, tumour: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    brain = first[inside], second[inside]
    return {"brain": correlate(*brain), "tumour": correlate(first[tumour], second[tumour]), "highest": overlap_of_highest(*brain)}


def _same_highest(first: pd.Series, second: pd.Series) -> float:
    return float(first.idxmax() == second.idxmax()) if first.max() > 0 and second.max() > 0 else float("nan")


def average_codebooks(readings: dict[str, Reading], folds: np.ndarray, is_hgg: np.ndarray) -> pd.DataFrame:
    """Return how well the mean P(HGG) of some codebooks grades: a row per number of them (``size``), over all choices of so many.

    Only codebooks with phantoms of their own, on the ``folds`` (patients, repeats) that all share. Of ``accuracy``, ``auc`` and ``brier``
    the mean over choices, ``_low`` and ``_high`` (least and greatest), and what averaging gains over one codebook: ``_gain`` with
    its 95 % interval, a bootstrap over patients.
    """
    own = [reading.probabilities for name, reading in readings.items() if name.endswith(WEIGHTS[0])]
    weights = bootstrap_weights(is_hgg, generator(0, "codebooks", "averaged"))
    rows, single = [], {}
    for size in range(1, len(own) + 1):
        found = [grading_metrics(np.mean(some, axis=0), is_hgg, folds, weights) for some in combinations(own, size)]
        row: dict[str, float] = {"size": size, "choices": len(found)}
        for metric in ("accuracy", "auc", "brier"):
            values = np.array([one[metric] for one in found])  # (choices, draws), the first draw being the patients themselves
            mean = values.mean(axis=0)
            gain = mean - single.setdefault(metric, mean)
            row |= {metric: mean[0], f"{metric}_low": values[:, 0].min(), f"{metric}_high": values[:, 0].max(), f"{metric}_gain": gain[0]}
            row |= dict(zip((f"{metric}_gain_low", f"{metric}_gain_high"), np.quantile(gain[1:], (0.025, 0.975)), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def chosen_pairs(names: list[str]) -> list[tuple[str, str]]:
    """Return the pairs that are compared: all with phantoms of their own (first trainings), and the two on the same set."""
    first = [name for name in names if name.endswith(WEIGHTS[0])]
    twins = [(name, name[:-1] + WEIGHTS[1]) for name in first if name[:-1] + WEIGHTS[1] in names]
    return pairs_of(first) + twins


def kind_of(pair: tuple[str, str]) -> str:
    """Return whether the two networks were trained on the same phantoms."""
    return SAME if pair[0][:-1] == pair[1][:-1] else OTHER


def show_examples(models: dict[str, TrainedModel], readings: dict[str, Reading], common: Common) -> pd.DataFrame:
    """Return pixels (``patient``, ``grade``, ``row``, ``column``) of one slice of a patient of each grade, as two codebooks see it.

    ``t1ce``, ``flair``, ``label``; ``code_<training>`` and ``map_<training>_<grade>`` of the first two trainings. Of each grade the
    patient with the median tumour volume among those who have a slice that holds codewords of their grade of both networks (where nobody
    has, among all), and the slice that holds most of those of the network that has fewer there.
    """
    names, tables = list(models)[:2], []
    volume = np.array([np.count_nonzero(common.store.labels(patient)) for patient in common.store.patients])
    for grade in GRADES:
        held = np.min([np.isin(readings[name].codes, readings[name].by_grade[grade]).sum(axis=(1, 2)) for name in names], axis=0)  # (S,)
        own = np.flatnonzero(common.grades == grade)
        both = np.array([number for number in own if common.of(held, number).any()], dtype=int)
        chosen = both if len(both) else own
        number = int(chosen[volume[chosen].argsort()[len(chosen) // 2]])
        index = int(common.of(held, number).argmax()) if len(both) else largest_slice(common.store.labels(common.store.patients[number]))
        tables.append(_pixels(number, index, grade, {name: (models[name], readings[name]) for name in names}, common))
    return pd.concat(tables, ignore_index=True)


def _pixels(number: int, index: int, grade: str, networks: dict[str, tuple[TrainedModel, Reading]], common: Common) -> pd.DataFrame:
    patient = common.store.patients[number]
    images, labels = common.store.images(patient)[index], common.store.labels(patient)[index]
    row, column = np.indices(labels.shape)
    pixels = {"row": row, "column": column, "label": labels}
    pixels |= {name: images[MODALITIES.index(name)] for name in ("t1ce", "flair")}
    for name, (model, reading) in networks.items():
        codes = common.of(reading.codes, number)[index : index + 1]
        pixels[f"code_{name}"] = np.kron(codes[0], np.ones((common.profile.stride,) * 2, dtype=int))
        for which, codewords in reading.by_grade.items():
            pixels[f"map_{name}_{which}"] = change_maps(model, torch.from_numpy(codes), codewords, reading.background)[0]
    flat = {name: np.round(values.ravel().astype(np.float32), 3) for name, values in pixels.items()}
    return pd.DataFrame({"patient": patient, "grade": grade} | flat)


def _write_tables(partial: Path, models: dict[str, TrainedModel], readings: dict[str, Reading], common: Common) -> None:
    volumes = _grade_by_volumes(common)
    p_volumes = volumes.probabilities.to_numpy().mean(axis=1)
    regions, tops = compare_maps(models, readings, common)
    pairs = chosen_pairs(list(models))
    twins = [pair for pair in pairs if kind_of(pair) == SAME]
    tables = {
        "trainings": pd.DataFrame(
            [
                {"training": name}
                | describe_reading(one, p_volumes, common)
                | {f"top_region_{grade}": tops.loc[name, grade] for grade in GRADES}
                for name, one in readings.items()
            ]
        ),
        "pairs": pd.DataFrame(
            [
                {"first": first, "second": second, "kind": kind_of((first, second))}
                | compare_readings(readings[first], readings[second], common)
                for first, second in pairs
            ]
        ),
        "regions": regions,
        "patients": pd.DataFrame(
            {"patient": common.grades.index, "grade": common.grades.to_numpy()}
            | {f"p_{name}": one.p_hgg for name, one in readings.items()}
            | {"p_volumes": p_volumes}
        ),
        "codewords": pd.concat(
            [one.codewords[CODEWORD_COLUMNS].reset_index().assign(training=name) for name, one in readings.items()], ignore_index=True
        ),
        "overlaps": pd.concat(
            [_overlap_table(*pair, readings, common) for pair in dict.fromkeys((pairs[0], twins[0] if twins else pairs[-1]))],
            ignore_index=True,
        ),
        "averaged": average_codebooks(readings, volumes.folds.to_numpy(), common.is_hgg),
    }
    for name, table in tables.items():
        table.to_csv(partial / f"{name}.csv", index=False, float_format="%.5g")
    show_examples(models, readings, common).to_parquet(partial / "examples.parquet", compression="zstd", index=False)


def _grade_by_volumes(common: Common) -> GradingResult:
    rows = {}
    for patient in common.store.patients:
        volumes = region_volumes(common.store.labels(patient), common.store.geometry(patient).pixel_volume_mm3)
        rows[patient] = {region: volumes[region] for region in LABELS[1:]}
    features = volume_features(pd.DataFrame.from_dict(rows, orient="index"))
    return cross_validate(features, common.grades, common.profile.grading, seed=0, kind="features")


def _overlap_table(first: str, second: str, readings: dict[str, Reading], common: Common) -> pd.DataFrame:
    both = readings[first], readings[second]
    table = count_together(*(one.codes[common.brain] for one in both), tuple(len(one.codewords) for one in both))
    k, other = table.nonzero()
    return pd.DataFrame({"first": first, "second": second, "k": k, "l": other, "count": table[k, other]})


def _cells_with(mask: np.ndarray, side: int) -> np.ndarray:
    """Return (S, h, w): whether a cell of ``side`` x ``side`` pixels of ``mask`` (S, H, W) holds any."""
    n_slices, height, width = mask.shape
    return mask.reshape(n_slices, height // side, side, width // side, side).any(axis=(2, 4))
