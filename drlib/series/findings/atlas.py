"""Chapter 12 in numbers: what the codewords in use stand for, and how that goes with what they say of the grade."""

import pandas as pd

from drlib.cohort.regions import LABELS
from drlib.figures.atlas import MOSTLY, TISSUE_NAMES
from drlib.figures.words import say_interval
from drlib.radiomics.atlas import Atlas
from drlib.radiomics.receptive_field import encoder_reach
from drlib.series.run import Run

TUMOUR = LABELS[1:]
OUTSIDE = TISSUE_NAMES["outside"]
AWAY, BESIDE = "brain, most tokens away from tumour", "brain, most tokens at a tumour"
FROM_FACTS = ("codebook_size", "n_patients", "n_resamples", "n_tokens", "n_patches", "side")


def atlas_numbers(run: Run, atlas: Atlas) -> dict[str, float]:
    """Return the numbers of the chapter's text, by name; shares in per cent."""
    table = _described(atlas)
    tumour, kept, levels = table["tissue"].isin(TUMOUR), table["responsible"].astype(bool), len(run.profile.network.filters)
    apart = (100 * table.groupby("kind")["apart"].mean()).to_dict()
    numbers = {
        "mostly_tumour": int(tumour.sum()),
        "tumour_tokens": 100 * float(table.loc[tumour, "tokens"].sum() / table["tokens"].sum()),
        "tumour_apart": 100 * float(table.loc[tumour, "apart"].mean()) if tumour.any() else 0.0,
        "responsible": int(kept.sum()),
        "responsible_tumour": int((kept & tumour).sum()),
        "responsible_near": int((kept & (table["near_tumour"] >= MOSTLY)).sum()),
        "largest_coefficient": float(table["coefficient"].abs().max()),
        "coefficients_apart": int(((table["coefficient_low"] > 0) | (table["coefficient_high"] < 0)).sum()),
        "other_sign": 100 * float(((table["coefficient"] > 0) != (table["auc"] > 0.5)).mean()),
        "ring": 100 * float((table["ablation_ring"] / table["ablation_cell"])[table["n_ablated"] > 0].median()),
        "few_patients": int((table["patients"] < atlas.facts["n_patients"] / 2).sum()),
        "offset": (int(atlas.facts["side"]) - 1) / 2 - sum(encoder_reach(levels, 0)) / 2,  # from a cell's middle to that of what it sees
    }
    for name, kind in (("outside", OUTSIDE), ("beside", BESIDE), ("away", AWAY)):
        numbers |= {f"n_{name}": int((table["kind"] == kind).sum()), f"{name}_apart": apart.get(kind, 0.0)}
    return numbers | {"in_use": len(table)} | {name: atlas.facts[name] for name in FROM_FACTS}


def tissue_table(atlas: Atlas) -> pd.DataFrame:
    """Return a row per tissue: codewords of which it is the largest share, their share of all tokens, and what they say of the grade."""
    table = _described(atlas)
    groups = table.groupby("kind")
    rows = {
        "codewords": groups.size(),
        "share of all tokens (%)": (100 * groups["tokens"].sum() / table["tokens"].sum()).round(1),
        "AUC, median distance from 0.5": groups["telling"].median().round(2),
        "AUC interval leaves out 0.5": groups["apart"].sum(),
        "responsible": groups["responsible"].sum(),
        "change in the cell (median)": groups["ablation_cell"].median().round(1),
    }
    found = pd.DataFrame(rows)
    return found.reindex([kind for kind in (OUTSIDE, AWAY, BESIDE, *TUMOUR) if kind in found.index]).rename_axis("mostly")


def _described(atlas: Atlas) -> pd.DataFrame:
    """Return the table with ``kind`` (the tissue, brain at a tumour apart), ``telling`` (distance of the AUC from 0.5) and ``apart``."""
    table = atlas.table
    kind = (
        table["tissue"]
        .replace({"outside": OUTSIDE, "brain": AWAY})
        .mask((table["tissue"] == "brain") & (table["near_tumour"] >= MOSTLY), BESIDE)
    )
    apart = (table["auc_low"] > 0.5) | (table["auc_high"] < 0.5)
    return table.assign(kind=kind, telling=(table["auc"] - 0.5).abs(), apart=apart)


def responsible_cards(atlas: Atlas) -> pd.DataFrame:
    """Return a row per responsible codeword: what it lies on, how often at a tumour, and what it says of the grade."""
    table = atlas.table[atlas.table["responsible"].astype(bool)]
    shown = pd.DataFrame(index=table.index)
    shown["more in"] = table["direction"]
    for tissue in ("brain", *TUMOUR):
        shown[f"{tissue} (%)"] = (100 * table[f"share_{tissue}"]).round(0).astype(int)
    shown["at a tumour (%)"] = (100 * table["near_tumour"]).round(0).astype(int)
    for column, name in (("auc", "AUC"), ("coefficient", "coefficient")):
        shown[name] = [say_interval(*row) for row in table[[column, f"{column}_low", f"{column}_high"]].to_numpy()]
    return shown
