"""Chapter 12 in numbers: what the codewords in use stand for, and how that goes with what they say of the grade."""

import pandas as pd

from drlib.cohort.regions import LABELS
from drlib.figures.atlas import TISSUE_NAMES
from drlib.radiomics.atlas import Atlas
from drlib.radiomics.receptive_field import encoder_reach
from drlib.series.run import Run

TUMOUR = LABELS[1:]


def atlas_numbers(run: Run, atlas: Atlas) -> dict[str, float]:
    """Return the numbers of the chapter's text, by name."""
    table = atlas.table
    tumour, kept = table["tissue"].isin(TUMOUR), table["responsible"].astype(bool)
    telling = (table["auc"] - 0.5).abs()
    apart = (table["auc_low"] > 0.5) | (table["auc_high"] < 0.5)
    levels, side = len(run.profile.network.filters), int(atlas.facts["side"])
    brain = table[table["tissue"] == "brain"]
    return {
        "in_use": len(table),
        "codebook_size": int(atlas.facts["codebook_size"]),
        "mostly_tumour": int(tumour.sum()),
        "mostly_outside": int((table["tissue"] == "outside").sum()),
        "mostly_brain": len(brain),
        "tumour_tokens": 100 * float(table.loc[tumour, "tokens"].sum() / table["tokens"].sum()),
        "brain_apart": 100 * float(apart[brain.index].mean()) if len(brain) else 0.0,
        "tumour_apart": 100 * float(apart[tumour].mean()) if tumour.any() else 0.0,
        "responsible": int(kept.sum()),
        "responsible_tumour": int((kept & tumour).sum()),
        "near_and_telling": float(table["near_tumour"].corr(telling, method="spearman")),
        "largest_coefficient": float(table["coefficient"].abs().max()),
        "coefficients_apart": int(((table["coefficient_low"] > 0) | (table["coefficient_high"] < 0)).sum()),
        "ring": 100 * float((table["ablation_ring"] / table["ablation_cell"])[table["n_ablated"] > 0].median()),
        "few_patients": int((table["patients"] < atlas.facts["n_patients"] / 2).sum()),
        "offset": side * 10 + (side - 1) / 2 - sum(encoder_reach(levels, 10)) / 2,  # from a cell's middle to that of what it sees
    } | {name: atlas.facts[name] for name in ("n_patients", "n_resamples", "n_tokens", "n_patches", "side")}


def tissue_table(atlas: Atlas) -> pd.DataFrame:
    """Return a row per tissue: codewords of which it is the largest share, their share of all tokens, and what they say of the grade."""
    table = atlas.table.assign(
        apart=(atlas.table["auc_low"] > 0.5) | (atlas.table["auc_high"] < 0.5), telling=(atlas.table["auc"] - 0.5).abs()
    )
    groups = table.groupby("tissue")
    rows = pd.DataFrame(
        {
            "codewords": groups.size(),
            "share of all tokens (%)": (100 * groups["tokens"].sum() / table["tokens"].sum()).round(1),
            "AUC interval leaves out 0.5": groups["apart"].sum(),
            "AUC, median distance from 0.5": groups["telling"].median().round(2),
            "responsible": groups["responsible"].sum(),
            "change in the cell (median)": groups["ablation_cell"].median().round(1),
        }
    )
    return rows.reindex([tissue for tissue in TISSUE_NAMES if tissue in rows.index]).rename(index=TISSUE_NAMES).rename_axis("mostly")


def responsible_cards(atlas: Atlas) -> pd.DataFrame:
    """Return a row per responsible codeword: what it lies on, how often at a tumour, and what it says of the grade."""
    table = atlas.table[atlas.table["responsible"].astype(bool)]
    interval = "{:.2f} ({:.2f} to {:.2f})".format
    shown = pd.DataFrame(index=table.index)
    shown["more in"] = table["direction"]
    for tissue in ("brain", *TUMOUR):
        shown[f"{tissue} (%)"] = (100 * table[f"share_{tissue}"]).round(0).astype(int)
    shown["at a tumour (%)"] = (100 * table["near_tumour"]).round(0).astype(int)
    for column, name in (("auc", "AUC"), ("coefficient", "coefficient")):
        shown[name] = [interval(*row) for row in table[[column, f"{column}_low", f"{column}_high"]].to_numpy()]
    return shown
