"""Chapter 07 in numbers: which codewords are replaced, and in which region the segmentation changes most."""

import numpy as np
import pandas as pd

from drlib.seeds import generator
from drlib.series.claims import Claim
from drlib.series.run import Run
from drlib.series.stages import Ablation, open_grading, open_histograms

PAPER_TOP_REGION = {"HGG": "ET", "LGG": "NET"}  # Results, Fig. 7


def ablated_codewords(run: Run) -> pd.DataFrame:
    """Return the codewords that are replaced for each grade, and whether they are responsible or only leading."""
    grading = open_grading(run)
    responsible = set(grading.responsible.index[grading.responsible["responsible"]])
    rows = {
        grade: {
            "codewords": ", ".join(map(str, codewords)),
            "status": "responsible" if responsible & set(codewords) else "leading (none is responsible)",
            "background codeword": open_histograms(run).background,
        }
        for grade, codewords in grading.by_grade.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("more in")


def summarise_ablation(ablation: Ablation) -> pd.DataFrame:
    """Return mean and SD over patients of the ablation values per grade of the codewords and region, as means and as sums."""
    table = ablation.values.groupby(["responsible_for", "region"], sort=False)[["mean", "sum"]].agg(["mean", "std", "count"])
    return table.rename_axis(["responsible for", "region"])


def ablation_claims(run: Run, ablation: Ablation) -> list[Claim]:
    """Return for each grade the region in which the mean change is greatest, and how often resampled cohorts agree."""
    claims = []
    for grade, published in PAPER_TOP_REGION.items():
        values = ablation.values[ablation.values["responsible_for"] == grade]
        name, statement = f"{grade.lower()}_region_top", f"{grade}-responsible regions: the change per voxel is greatest in"
        if values.empty:
            claims.append(Claim(name, statement, published, None, None, 0, "cannot be tested here"))
            continue
        wide = values.pivot(index="patient", columns="region", values="mean")
        top = str(wide.mean().idxmax())
        verdict = "holds" if top == published else "does not hold"
        claims.append(Claim(name, statement, published, top, None, len(wide), verdict))
        share = top_share(wide, published, generator(run.seed, "claims", "top", grade))
        statement = f"share of resampled cohorts in which {published} is on top ({grade}-responsible)"
        claims.append(Claim(f"{name}_share", statement, None, share, None, len(wide), "cannot be tested here"))
    return claims


def top_share(values: pd.DataFrame, region: str, random: np.random.Generator, resamples: int = 2000) -> float:
    """Return the share of bootstrap resamples of the rows of ``values`` in which the column ``region`` has the highest mean."""
    draws = random.integers(len(values), size=(resamples, len(values)))
    drawn = np.ma.masked_invalid(values.to_numpy()[draws])  # a region may be absent from a whole resample: then it does not lead
    means = drawn.mean(axis=1).filled(-np.inf)
    return float((values.columns[means.argmax(axis=1)] == region).mean())
