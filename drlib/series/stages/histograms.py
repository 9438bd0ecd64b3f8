"""Chapter 04: the codeword counts of the graded patients (Eq. 5)."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from drlib.artifacts import write_json
from drlib.radiomics.histogram import CodewordCounts, background_codeword, count_codewords
from drlib.series.run import Run
from drlib.series.stages.cohort import open_cohort
from drlib.series.stages.segmentation import SEGMENTATION_SOURCES, open_model

RADIOMICS_SOURCES = (*SEGMENTATION_SOURCES, "drlib.radiomics")


@dataclass(frozen=True)
class Histograms:
    """The counts of the graded patients and the codeword that stands for what lies outside the head."""

    counts: CodewordCounts
    background: int
    grades: pd.Series

    @property
    def sums_hold(self) -> bool:
        """Whether every patient's counts sum to slices x latent positions."""
        return bool((self.counts.table.sum(axis=1) == self.counts.n_slices * self.counts.latent_positions).all())


def count_histograms(run: Run) -> Histograms:
    """Count the codewords of every graded patient (Eq. 5)."""
    run.build("histograms", RADIOMICS_SOURCES, ("cohort", "model"), lambda folder: _count(run, folder))
    return open_histograms(run)


def open_histograms(run: Run) -> Histograms:
    """Return what chapter 04 wrote."""
    run.manifest("histograms")
    folder = run.folder / "histograms"
    table = pd.read_parquet(folder / "counts.parquet")
    facts = json.loads((folder / "facts.json").read_text())
    n_slices = table.pop("n_slices")
    table.columns = range(table.shape[1])
    counts = CodewordCounts(table, n_slices, facts["latent_positions"], facts["codebook"])
    return Histograms(counts, facts["background"], open_cohort(run).patients.loc[table.index, "grade"])


def _count(run: Run, folder: Path) -> None:
    cohort, model = open_cohort(run), open_model(run)
    counts = count_codewords(model, cohort.grading, progress=True)
    table = counts.table.rename(columns="codeword_{:03d}".format)
    table.insert(0, "n_slices", counts.n_slices)
    table.to_parquet(folder / "counts.parquet")
    table.to_csv(folder / "counts.csv")
    facts = {"latent_positions": counts.latent_positions, "codebook": counts.codebook}
    write_json(folder / "facts.json", facts | {"background": background_codeword(model, cohort.grading)})
