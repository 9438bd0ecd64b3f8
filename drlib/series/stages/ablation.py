"""Chapter 07: what the decoder draws differently without the responsible codewords."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from drlib.cohort.slices import SliceStore
from drlib.radiomics.ablation import (
    TumourCodes,
    ablate_cohort,
    ablate_sets,
    encode_tumours,
    responsible_regions,
    share_outside,
    token_change,
    tumour_labels,
)
from drlib.radiomics.ablation_captum import captum_change
from drlib.radiomics.ablation_control import ControlError, count_tokens, matched_sets
from drlib.radiomics.fidelity import counting_in
from drlib.radiomics.statistics import StatisticsError, compare_regions
from drlib.seeds import generator
from drlib.segmentation.model import TrainedModel
from drlib.series.run import Run
from drlib.series.stages.cohort import open_cohort
from drlib.series.stages.grading import open_grading
from drlib.series.stages.histograms import RADIOMICS_SOURCES, open_histograms
from drlib.series.stages.segmentation import open_model

N_CONTROLS = 20  # random sets for each grade and each way of matching
N_CONTROL_PATIENTS = 28  # at equal steps; the others are left out of the control for time
MATCHED_BY = {"slices with tumour": False, "cells with tumour": True}  # where tokens are counted for matching
N_COMPARED = 4  # patients of whom one slice is ablated by captum as well
COMPARED_EVERY = 4  # of whose pixels every fourth, row and column


@dataclass(frozen=True)
class Ablation:
    """What the decoder draws differently without the responsible codewords of each grade.

    Attributes:
        measured: a row per patient, responsible_for (the grade of the codewords), codeword (missing: all of the grade together),
            normalisation (live, frozen) and region (:func:`drlib.radiomics.ablation.ablate_cohort`).
        tests: responsible_for, value (mean or sum), first and second region, the p of Dunn and of the paired Wilcoxon test (Holm).
        joint: responsible_for, value, the p of Kruskal-Wallis and of Friedman, and the region of the highest mean.
        locality: patient, normalisation (live or frozen) and share_outside of a single replaced token.
        controls: the same measures for random sets (set: 1 and up) and the responsible one (set: 0), with responsible_for, matched
            (where tokens were counted), counted (how many) and codewords, on some patients.
        captum: patient, responsible_for, tokens, pixels, largest_change, largest_difference, correlation and the seconds of both.
    """

    measured: pd.DataFrame
    tests: pd.DataFrame
    joint: pd.DataFrame
    locality: pd.DataFrame
    controls: pd.DataFrame
    captum: pd.DataFrame

    @property
    def values(self) -> pd.DataFrame:
        """The codewords of a grade together, normalisation live: what the paper measures."""
        return self._rows("live")

    @property
    def frozen(self) -> pd.DataFrame:
        """The codewords of a grade together, normalisation frozen."""
        return self._rows("frozen")

    @property
    def singles(self) -> pd.DataFrame:
        """Each codeword alone, normalisation live."""
        return self.measured[self.measured["codeword"].notna()]

    def _rows(self, normalisation: str) -> pd.DataFrame:
        return self.measured[self.measured["codeword"].isna() & (self.measured["normalisation"] == normalisation)]


def ablate_codewords(run: Run) -> Ablation:
    """Replace each grade's responsible codewords in every graded patient and measure where the segmentation changes."""
    run.build("ablation", RADIOMICS_SOURCES, ("cohort", "model", "histograms", "grading"), lambda folder: _ablate(run, folder))
    folder = run.folder / "ablation"
    types = {"patient": str, "codeword": "Int64", "codewords": str}
    tables = ("measured", "tests", "joint", "locality", "controls", "captum")
    return Ablation(*(pd.read_csv(folder / f"{name}.csv", dtype=types) for name in tables))


def _ablate(run: Run, folder: Path) -> None:
    store, model, background = open_cohort(run).grading, open_model(run), open_histograms(run).background
    by_grade, tumours = open_grading(run).by_grade, encode_tumours(model, store, progress=True)
    options = {"one_by_one": True, "frozen": True, "tumours": tumours, "progress": True}
    measured = ablate_cohort(model, store, by_grade, background, **options)
    tests, joint = _compare_regions(measured[measured["codeword"].isna() & (measured["normalisation"] == "live")])
    found = {
        "measured": measured,
        "tests": tests,
        "joint": joint,
        "locality": _measure_locality(model, store, tumours, background),
        "controls": _ablate_controls(run, model, store, tumours, by_grade, background),
        "captum": _compare_with_captum(model, store, tumours, by_grade, background),
    }
    for name, table in found.items():
        table.to_csv(folder / f"{name}.csv", index=False)


def _compare_regions(values: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    pairs, joint = [pd.DataFrame(columns=["responsible_for", "value"])], []
    for grade, table in values.groupby("responsible_for"):
        for value in ("mean", "sum"):
            try:
                found = compare_regions(table, value)
            except StatisticsError:
                continue  # fewer than two regions occur in this cohort
            head = {"responsible_for": grade, "value": value}
            pairs.append(found.pairs.assign(**head))
            tests = {"kruskal_p": found.kruskal_p, "friedman_p": found.friedman_p, "n_complete": found.n_complete}
            joint.append(head | tests | {"highest": found.highest})
    return pd.concat(pairs), pd.DataFrame(joint, columns=["responsible_for", "value", "kruskal_p", "friedman_p", "n_complete", "highest"])


def _measure_locality(model: TrainedModel, store: SliceStore, tumours: Sequence[TumourCodes], background: int) -> pd.DataFrame:
    """Replace, in each patient, the token in the middle of the tumour, and return how much changes outside its cell."""
    rows = []
    for tumour in tqdm([tumour for tumour in tumours if len(tumour.slices)], desc="single tokens", unit="patient"):
        code_map, cell = tumour_token(model, store, tumour)
        one = torch.zeros_like(code_map, dtype=torch.bool)
        one[cell] = True
        for normalisation in ("live", "frozen"):
            change = token_change(model, code_map, cell, background, normalisation == "frozen")
            share = share_outside(change[None], one[None])
            rows.append({"patient": tumour.id, "normalisation": normalisation, "share_outside": share})
    return pd.DataFrame(rows, columns=["patient", "normalisation", "share_outside"])


def tumour_token(model: TrainedModel, store: SliceStore, tumour: TumourCodes) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return the index map (h, w) of the slice with the most tumour, and the cell (row, column) that holds most of it."""
    inside = tumour_labels(model, store, tumour) > 0
    index = int(inside.sum(axis=(1, 2)).argmax())
    codes, side = tumour.codes[index], model.profile.stride
    cells = inside[index].reshape(codes.shape[0], side, codes.shape[1], side).sum(axis=(1, 3))
    row, column = np.unravel_index(cells.argmax(), cells.shape)
    return codes, (int(row), int(column))


def _ablate_controls(
    run: Run, model: TrainedModel, store: SliceStore, tumours: Sequence[TumourCodes], by_grade: dict[str, list[int]], background: int
) -> pd.DataFrame:
    """Ablate random sets of codewords as frequent as the responsible ones, and these, in some patients."""
    some, rows = tumours[:: max(1, -(-len(tumours) // N_CONTROL_PATIENTS))], []
    for matched, in_tumour in MATCHED_BY.items():
        counts = count_tokens(some, model.profile.quantizer.codebook_size, in_tumour)
        excluded = {background, *(k for codewords in by_grade.values() for k in codewords)}
        for grade, codewords in by_grade.items():
            random = generator(run.seed, "ablation", "controls", matched, grade)
            try:
                drawn = matched_sets(counts, codewords, excluded, N_CONTROLS, random)
            except ControlError:
                continue
            head = {"responsible_for": grade, "matched": matched}
            for number, chosen in enumerate([tuple(codewords), *drawn]):
                rows.append(head | {"set": number, "codewords": chosen, "counted": int(counts[list(chosen)].sum())})
    if not rows:
        return pd.DataFrame(columns=["responsible_for", "matched", "set", "codewords", "counted", "patient"])
    asked = pd.DataFrame(rows)
    sets = {" ".join(map(str, chosen)): list(chosen) for chosen in asked["codewords"]}  # a set that is drawn twice is ablated once
    measured = ablate_sets(model, store, some, sets, background, progress=True).rename(columns={"set": "codewords"})
    return asked.assign(codewords=[" ".join(map(str, chosen)) for chosen in asked["codewords"]]).merge(measured, on="codewords")


def _compare_with_captum(
    model: TrainedModel, store: SliceStore, tumours: Sequence[TumourCodes], by_grade: dict[str, list[int]], background: int
) -> pd.DataFrame:
    """Ablate one slice of some patients by captum too: the one with most tokens of the grade's codewords, in float32."""
    rows = []
    for grade, codewords in by_grade.items():
        held = {tumour.id: np.isin(tumour.codes.numpy(), codewords).sum(axis=(1, 2)) for tumour in tumours}
        most = sorted((patient for patient, n in held.items() if n.any()), key=lambda patient: -held[patient].max())
        slices = {tumour.id: tumour.slices for tumour in tumours}
        for patient in most[: N_COMPARED // 2]:
            image = store.images(patient)[slices[patient][held[patient].argmax()]]
            with counting_in(model, "fp32"):
                started = time.perf_counter()
                ours = responsible_regions(model, image[None], codewords, background)[0, ::COMPARED_EVERY, ::COMPARED_EVERY]
                between = time.perf_counter()
                theirs = captum_change(model, image, codewords, background, COMPARED_EVERY)
                seconds = {"seconds": between - started, "captum_seconds": time.perf_counter() - between}
            rows.append(
                {"patient": patient, "responsible_for": grade, "tokens": int(held[patient].max())} | _agreement(ours, theirs) | seconds
            )
    columns = ["patient", "responsible_for", "tokens", "pixels", "largest_change", "largest_difference", "correlation"]
    return pd.DataFrame(rows, columns=[*columns, "seconds", "captum_seconds"])


def _agreement(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    difference = float(np.abs(ours - theirs).max())
    correlation = float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])
    return {"pixels": ours.size, "largest_change": float(ours.max()), "largest_difference": difference, "correlation": correlation}
