"""Chapter 12: the codebook atlas, a row and two pictures of every codeword in use."""

from pathlib import Path

import numpy as np
import pandas as pd

from drlib.artifacts import write_json
from drlib.figures.sprites import draw_maps, draw_patches
from drlib.radiomics.atlas import (
    FACTS,
    MAP_MARGIN,
    N_RESAMPLES,
    PATCH_MARGIN,
    TABLE,
    Atlas,
    AtlasParts,
    assemble_atlas,
    load_atlas,
    mean_counts,
    picture_name,
    resample_coefficients,
    survey_tokens,
)
from drlib.radiomics.classifier import load_classifier
from drlib.series.run import Run
from drlib.series.stages.cohort import open_cohort
from drlib.series.stages.grading import open_grading
from drlib.series.stages.histograms import RADIOMICS_SOURCES, open_histograms
from drlib.series.stages.segmentation import open_model

ATLAS_SOURCES = (*RADIOMICS_SOURCES, "drlib.figures.sprites")
N_TOKENS, N_PATCHES = 8, 4  # of each codeword: tokens looked at and ablated, and those of them that are shown
FROM_GRADING = ["auc", "auc_low", "auc_high", "q", "direction", "responsible", "selected_share"]


def make_atlas(run: Run) -> Atlas:
    """Describe every codeword in use and draw its pictures."""
    run.build("atlas", ATLAS_SOURCES, ("cohort", "model", "histograms", "grading"), lambda folder: _make(run, folder))
    return open_atlas(run)


def open_atlas(run: Run) -> Atlas:
    """Return what chapter 12 wrote."""
    run.manifest("atlas")
    return load_atlas(run.folder / "atlas")


def _make(run: Run, folder: Path) -> None:
    store, model, histograms, grading = open_cohort(run).grading, open_model(run), open_histograms(run), open_grading(run)
    counts, patients = histograms.counts.table.loc[grading.grades.index], list(grading.grades.index)
    fitted = load_classifier(run.folder / "grading" / "classifier.json")
    tables = [mean_counts(counts, grading.grades, run.seed), resample_coefficients(counts, grading.grades, fitted, run.seed)]
    numbers = pd.concat([*tables, grading.responsible[FROM_GRADING]], axis="columns")
    survey = survey_tokens(model, store, patients, progress=True)
    parts = assemble_atlas(model, store, survey, numbers, histograms.background, run.seed, N_TOKENS, progress=True)
    parts.table.to_csv(folder / TABLE)
    parts.tokens.to_csv(folder / "tokens.csv", index=False)
    _draw(parts, folder)
    geometry, labels = store.geometry(patients[0]), {tokens.labels for tokens in survey}
    facts = {
        "n_patients": len(patients),
        "n_resamples": N_RESAMPLES,
        "n_tokens": N_TOKENS,
        "n_patches": N_PATCHES,
        "labels": "truth" if labels == {"truth"} else "prediction" if labels == {"prediction"} else "truth, or prediction without it",
        "side": model.profile.stride,
        "pixel_mm": float(np.sqrt(geometry.pixel_volume_mm3 / geometry.spacing_mm)),
        "size": fitted.size,
        "penalty": fitted.penalty,
        "codebook_size": model.profile.quantizer.codebook_size,
    }
    write_json(folder / FACTS, facts)


def _draw(parts: AtlasParts, folder: Path) -> None:
    for kind in ("patches", "maps"):
        (folder / kind).mkdir(exist_ok=True)
    empty = parts.patches[:0]
    for row, (codeword, described) in enumerate(parts.table.iterrows()):
        name, ablation = picture_name(codeword), parts.ablation[row] if described["n_ablated"] else None
        patches = parts.patches_of.get(codeword, empty)
        (folder / "patches" / name).write_bytes(draw_patches(patches, 2 * PATCH_MARGIN + 1, N_PATCHES))
        (folder / "maps" / name).write_bytes(draw_maps(parts.plane[row], parts.height[row], ablation, parts.head, 2 * MAP_MARGIN + 1))
