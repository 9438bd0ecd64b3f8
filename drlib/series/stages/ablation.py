"""Chapter 07: what the decoder draws differently without the responsible codewords."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from drlib.cohort.slices import SliceStore
from drlib.radiomics.ablation import ablate_cohort, encode_patient, share_outside, token_change
from drlib.radiomics.statistics import compare_regions
from drlib.segmentation.model import TrainedModel
from drlib.series.run import Run
from drlib.series.stages.cohort import open_cohort
from drlib.series.stages.grading import open_grading
from drlib.series.stages.histograms import RADIOMICS_SOURCES, open_histograms
from drlib.series.stages.segmentation import open_model


@dataclass(frozen=True)
class Ablation:
    """What the decoder draws differently without the responsible codewords of each grade.

    Attributes:
        values: patient, grade, responsible_for, region, mean, sum, n_voxels, n_tokens, share_outside.
        tests: responsible_for, value (mean or sum), region_a, region_b, and the p of Dunn and of the paired Wilcoxon test (Holm).
        joint: responsible_for, value, the p of Kruskal-Wallis and of Friedman, and the region of the highest mean.
        locality: variant (normalisation live or frozen) and share_outside of single replaced tokens.
    """

    values: pd.DataFrame
    tests: pd.DataFrame
    joint: pd.DataFrame
    locality: pd.DataFrame


def ablate_codewords(run: Run) -> Ablation:
    """Replace each grade's responsible codewords in every graded patient and measure where the segmentation changes."""
    run.build("ablation", RADIOMICS_SOURCES, ("cohort", "model", "histograms", "grading"), lambda folder: _ablate(run, folder))
    folder = run.folder / "ablation"
    values = pd.read_csv(folder / "values.csv", dtype={"patient": str})
    return Ablation(values, *(pd.read_csv(folder / f"{name}.csv") for name in ("tests", "joint", "locality")))


def _ablate(run: Run, folder: Path) -> None:
    cohort, model, background = open_cohort(run), open_model(run), open_histograms(run).background
    values = ablate_cohort(model, cohort.grading, open_grading(run).by_grade, background, progress=True)
    values.to_csv(folder / "values.csv", index=False)
    tests, joint = _compare_regions(values)
    tests.to_csv(folder / "tests.csv", index=False)
    joint.to_csv(folder / "joint.csv", index=False)
    _measure_locality(run).to_csv(folder / "locality.csv", index=False)


def _compare_regions(values: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    pairs, joint = [pd.DataFrame(columns=["responsible_for", "value"])], []
    for grade, table in values.groupby("responsible_for"):
        for value in ("mean", "sum"):
            found, head = compare_regions(table, value), {"responsible_for": grade, "value": value}
            pairs.append(found.pairs.assign(**head))
            tests = {"kruskal_p": found.kruskal_p, "friedman_p": found.friedman_p, "n_complete": found.n_complete}
            joint.append(head | tests | {"highest": found.highest})
    return pd.concat(pairs), pd.DataFrame(joint, columns=["responsible_for", "value", "kruskal_p", "friedman_p", "n_complete", "highest"])


def _measure_locality(run: Run, n_patients: int = 12) -> pd.DataFrame:
    """Replace, in each of some patients, the token in the middle of the tumour, and return how much changes outside its cell."""
    cohort, model, background = open_cohort(run), open_model(run), open_histograms(run).background
    rows = []
    for patient in cohort.grading.patients[:n_patients]:
        code_map, cell = tumour_token(model, cohort.grading, patient)
        for frozen in (False, True):
            change = token_change(model, code_map, cell, background, frozen)
            one = torch.zeros_like(code_map, dtype=torch.bool)
            one[cell] = True
            variant = "normalisation frozen" if frozen else "normalisation live"
            rows.append({"patient": patient, "variant": variant, "share_outside": share_outside(change[None], one[None])})
    return pd.DataFrame(rows)


def tumour_token(model: TrainedModel, store: SliceStore, patient: str) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return the index map (h, w) of the slice with the most tumour, and the cell (row, column) that holds most of it."""
    labels = store.labels(patient)
    index = int((labels > 0).sum(axis=(1, 2)).argmax())
    codes = encode_patient(model, store.images(patient)[index : index + 1])[0]
    cells = (labels[index] > 0).reshape(codes.shape[0], model.profile.stride, codes.shape[1], model.profile.stride).sum(axis=(1, 3))
    row, column = np.unravel_index(cells.argmax(), cells.shape)
    return codes, (int(row), int(column))
