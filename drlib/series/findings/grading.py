"""Chapter 05 in numbers: the models beside one another, the responsible codewords, and the paper's values."""

import pandas as pd

from drlib.series.claims import Claim, judge
from drlib.series.run import Run
from drlib.series.stages import Grading

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
