"""What each chapter found, in numbers: summary tables, and the claims of the paper beside ours.

Published values stand here once, with their place in the paper.
"""

import numpy as np
import pandas as pd

from drlib.cohort.regions import REGIONS
from drlib.figures.segmentation import PAPER_DICE
from drlib.profiles import load_profile
from drlib.radiomics.statistics import Interval, bootstrap_interval
from drlib.seeds import generator
from drlib.segmentation.model import load_model, shipped_model
from drlib.segmentation.network import SegmentationNetwork
from drlib.series.claims import Claim, judge
from drlib.series.run import Run
from drlib.series.stages import Ablation, Grading, Robustness, Segmentation, open_grading, open_histograms, open_model

PAPER_ACCURACY = 0.90  # Results, "Classification accuracy"
PAPER_RESPONSIBLE = {"LGG": 3, "HGG": 2}  # Results, "Identification of responsible vectors"
GRADING_COLUMNS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "brier": "Brier score",
    "sensitivity_LGG": "sensitivity, LGG positive (specificity, HGG positive)",
    "specificity_LGG": "specificity, LGG positive (sensitivity, HGG positive)",
    "ppv_LGG": "PPV, LGG positive (NPV, HGG positive)",
    "npv_LGG": "NPV, LGG positive (PPV, HGG positive)",
}
PAPER_TOP_REGION = {"HGG": "ET", "LGG": "NET"}  # Results, Fig. 7


def mean_interval(run: Run, values: pd.Series, *names: str) -> Interval:
    """Return the mean over patients with its bootstrap interval, the same at every call."""
    return bootstrap_interval(values, generator(run.seed, "claims", *names))


def describe_network(run: Run) -> pd.DataFrame:
    """Return the network in numbers, of this profile and of the paper."""
    paper, rows = load_profile("paper"), {}
    for name, profile in (("this profile", run.profile), ("paper", paper)):
        network = SegmentationNetwork(profile.network, profile.quantizer)
        rows[name] = {
            "slice (pixels)": f"{profile.preprocessing.image_size} x {profile.preprocessing.image_size}",
            "filters": "-".join(map(str, profile.network.filters)),
            "index map": f"{profile.latent_size} x {profile.latent_size}",
            "codebook (K x D)": f"{profile.quantizer.codebook_size} x {profile.quantizer.codeword_dim}",
            "parameters": f"{sum(weights.numel() for weights in network.parameters()):,}",
        }
    return pd.DataFrame(rows)


def describe_training(run: Run) -> pd.DataFrame:
    """Return how the model was trained, and, where it continued from a model that comes with the library, how that one was."""
    cards = {"this run": open_model(run).card}
    if run.profile.training.start_from:
        cards["continued from"] = load_model(shipped_model(run.profile.training.start_from)).card
    rows = {name: card["provenance"] | {"profile": card["profile"]["name"]} for name, card in cards.items()}
    shown = ["profile", "seed", "patients", "epochs", "slices_seen", "training_minutes"]
    return pd.DataFrame(rows).reindex(shown).rename_axis("training")


def summarise_dice(run: Run, segmentation: Segmentation) -> pd.DataFrame:
    """Return Dice per region: mean, SD, interval of the mean and number of patients, beside the paper's mean and SD."""
    rows = {}
    for region in REGIONS:
        values = segmentation.dice[region].dropna()
        interval = mean_interval(run, values, "dice", region)
        rows[region] = {
            "mean": interval.estimate,
            "SD": values.std(),
            "95 % low": interval.low,
            "95 % high": interval.high,
            "patients": len(values),
            "paper mean": PAPER_DICE[region][0],
            "paper SD": PAPER_DICE[region][1],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("region")


def segmentation_claims(run: Run, segmentation: Segmentation) -> list[Claim]:
    """Return one claim per region: the mean Dice over unseen patients."""
    table = summarise_dice(run, segmentation)
    claims = []
    for region, row in table.iterrows():
        interval = (row["95 % low"], row["95 % high"])
        verdict = judge(row["paper mean"], row["mean"], interval)
        claims.append(Claim(f"dice_{region}", f"Dice of {region}", row["paper mean"], row["mean"], interval, row["patients"], verdict))
    return claims


def grading_claims(run: Run, grading: Grading) -> list[Claim]:
    """Return the claims on grading: accuracy and AUC of the codewords, what volumes reach, how many codewords are responsible."""
    table, n = grading.table, len(grading.grades)
    claims = [
        _metric_claim("grading_accuracy", "five-fold accuracy of codeword counts", table, "codewords", "accuracy", PAPER_ACCURACY),
        _metric_claim(
            "grading_accuracy_published_protocol",
            "the same by the published protocol (raw counts, one unstratified split)",
            table,
            "codewords, published protocol",
            "accuracy",
            PAPER_ACCURACY,
        ),
        _metric_claim("grading_auc", "AUC of codeword counts", table, "codewords", "auc", None),
        _metric_claim(
            "volume_baseline_accuracy", "accuracy of the three true volumes alone", table, "three true volumes", "accuracy", None
        ),
        _metric_claim("volume_baseline_auc", "AUC of the three true volumes alone", table, "three true volumes", "auc", None),
        _metric_claim(
            "majority_accuracy", "accuracy of always answering the commoner grade", table, "always the commoner grade", "accuracy", None
        ),
    ]
    directions = grading.responsible.loc[grading.responsible["responsible"], "direction"]
    for grade, published in PAPER_RESPONSIBLE.items():
        ours = int((directions == grade).sum())
        verdict = "holds with correction" if ours else "does not hold"
        statement = f"{grade}-responsible codewords (the paper's test is undefined; chosen here by stability selection)"
        claims.append(Claim(f"n_responsible_{grade}", statement, published, ours, None, n, verdict))
    return [claim for claim in claims if claim is not None]


def grading_table(grading: Grading) -> pd.DataFrame:
    """Return a column per model with the paper's metrics under both conventions, AUC and Brier score, each with its interval."""
    columns = {}
    for metric, name in GRADING_COLUMNS.items():
        columns[name] = [_with_interval(row, metric) for _, row in grading.table.iterrows()]
    columns["permutation p of the AUC"] = ["–" if pd.isna(p) else f"{p:.3f}" for p in grading.table["permutation_p"]]
    return pd.DataFrame(columns, index=grading.table.index).T


def responsible_table(grading: Grading) -> pd.DataFrame:
    """Return the responsible codewords, those of HGG first; where there are none, an empty table."""
    columns = ["direction", "mean_LGG", "mean_HGG", "coefficient", "auc", "rank_p", "q", "selected_share", "lr_statistic", "lr_p"]
    return grading.responsible.loc[grading.responsible["responsible"], columns].sort_values(["direction", "rank_p"])


def _with_interval(row: pd.Series, metric: str) -> str:
    if pd.isna(row[metric]):
        return "–"
    return f"{row[metric]:.2f} [{row[f'{metric}_low']:.2f}, {row[f'{metric}_high']:.2f}]"


def _metric_claim(id: str, statement: str, table: pd.DataFrame, model: str, metric: str, paper: float | None) -> Claim | None:
    if model not in table.index:
        return None
    row = table.loc[model]
    interval = (row[f"{metric}_low"], row[f"{metric}_high"])
    return Claim(id, statement, paper, row[metric], interval, row["patients"], judge(paper, row[metric], interval))


def summarise_ratios(robustness: Robustness) -> pd.DataFrame:
    """Return mean and SD over patients of the difference ratio per kind and magnitude."""
    return (
        robustness.ratios.groupby(["kind", "magnitude"])["difference_ratio"].agg(["mean", "std", "count"]).unstack("kind").swaplevel(axis=1)
    )


def robustness_claims(run: Run, robustness: Robustness) -> list[Claim]:
    """Return the difference ratio at magnitude 1 of both kinds, and whether shifting tells more than scaling."""
    ratios = robustness.ratios.pivot(index="patient", columns=["kind", "magnitude"], values="difference_ratio")
    largest = max(robustness.ratios["magnitude"])
    claims = []
    for kind in ("scale", "shift"):
        interval = mean_interval(run, ratios[kind, largest], "ratio", kind)
        statement = f"difference ratio at {kind} {largest:.1f} (the paper shows a figure without numbers)"
        claims.append(_untested(f"difference_ratio_{kind}_{largest:.1f}", statement, interval, len(ratios)))
    excess = mean_interval(run, ratios["shift", largest] - ratios["scale", largest], "excess")
    verdict = "holds" if excess.low > 0 else "does not hold"
    statement = "shifting moves more counts than scaling: difference of the two ratios at 1.0"
    claims.append(Claim("shift_exceeds_scale", statement, None, excess.estimate, (excess.low, excess.high), len(ratios), verdict))
    return claims


def _untested(id: str, statement: str, interval: Interval, n: int) -> Claim:
    return Claim(id, statement, None, interval.estimate, (interval.low, interval.high), n, "cannot be tested here")


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
