"""Chapter 05 in numbers: the models beside one another, the responsible codewords, and the paper's values."""

import numpy as np
import pandas as pd

from drlib.series.claims import Claim, judge, judge_interval
from drlib.series.run import Run
from drlib.series.stages import Grading
from drlib.series.stages.grading import CODEWORDS, RESPONSIBLE

PAPER_ACCURACY = 0.90  # Results, "Classification accuracy"; so are the next four, which need LGG as the positive class
PAPER_RATES = {"ppv": 0.82, "sensitivity": 0.73, "specificity": 0.95, "npv": 0.93}
PAPER_PATIENTS = {"LGG": 76, "HGG": 259}  # Methods, Table 1
PAPER_RESPONSIBLE = {"LGG": 3, "HGG": 2}  # Results, "Identification of responsible vectors"
RATE_NAMES = {"ppv": "precision", "sensitivity": "recall", "specificity": "specificity", "npv": "negative predictive value"}
CONVENTIONS = {
    "sensitivity_LGG": "recall of LGG = specificity, HGG positive",
    "specificity_LGG": "recall of HGG = specificity, LGG positive",
    "ppv_LGG": "precision, LGG positive = NPV, HGG positive",
    "npv_LGG": "precision, HGG positive = NPV, LGG positive",
}
BASELINES = {  # the codewords are compared with each of these in the ledger
    "three true volumes": "true_volumes",
    "three predicted volumes": "predicted_volumes",
    "whole-tumour volume": "whole_tumour_volume",
    "ET/TC, true": "true_enhancing_share",
    "intensity histogram": "intensity_histogram",
}


def grading_claims(run: Run, grading: Grading) -> list[Claim]:
    """Return the claims on grading: the published numbers, the baselines and what separates us from them, calibration, and K*."""
    claims = [*_published_claims(grading), positive_class_claim(), *_baseline_claims(grading), *_probability_claims(grading)]
    return [*(claim for claim in claims if claim is not None), *_responsible_claims(grading)]


def grading_numbers(grading: Grading) -> dict[str, float]:
    """Return the numbers that the chapter's text speaks of; NaN for true volumes where the patients have none."""
    row = grading.table.loc[CODEWORDS]
    compared = grading.differences.set_index(["model", "metric"]).reindex([("three true volumes", "auc")]).iloc[0]
    numbers = {name: float(row[name]) for name in ("auc", "calibration_slope")}
    numbers |= {"true_volumes_auc": numbers["auc"] - float(compared["difference"]), "difference": float(compared["difference"])}
    numbers |= {f"difference_{end}": float(compared[end]) for end in ("low", "high")}
    counted = {"patients": len(grading.grades), "repeats": row["repeats"], "responsible": grading.responsible["responsible"].sum()}
    return numbers | {name: int(value) for name, value in counted.items()}


def discrimination_table(grading: Grading) -> pd.DataFrame:
    """Return a row per model: accuracy, balanced accuracy and AUC with their intervals, and the permutation p of the AUC."""
    return _metrics_table(grading, {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "auc": "AUC"}).assign(
        **{"permutation p of the AUC": [_permutation_text(row) for _, row in grading.table.iterrows()]}
    )


def conventions_table(grading: Grading) -> pd.DataFrame:
    """Return a row per model: the four rates, each under the name it has with LGG and with HGG as the positive class."""
    return _metrics_table(grading, CONVENTIONS)


def calibration_table(grading: Grading) -> pd.DataFrame:
    """Return a row per model: Brier score, slope and intercept of the recalibration, with their intervals."""
    names = {"brier": "Brier score", "calibration_slope": "slope (1 is right)", "calibration_intercept": "intercept (0 is right)"}
    return _metrics_table(grading, names)


def folds_table(grading: Grading, metrics: tuple[str, ...] = ("accuracy", "auc")) -> pd.DataFrame:
    """Return a row per model: mean and SD over folds, as the paper gives them, and the corrected resampled interval of the mean.

    The interval is cut at 0 and 1, which its formula does not know.
    """
    columns = {}
    for metric in metrics:
        name = {"auc": "AUC"}.get(metric, metric)
        rows = [grading.table.loc[model] for model in grading.table.index]
        columns[f"{name}, mean ± SD over folds"] = [f"{row[f'{metric}_mean']:.2f} ± {row[f'{metric}_sd']:.2f}" for row in rows]
        ends = [np.clip([row[f"{metric}_resampled_low"], row[f"{metric}_resampled_high"]], 0, 1) for row in rows]
        columns[f"{name}, corrected interval"] = [f"[{low:.2f}, {high:.2f}]" for low, high in ends]
    return pd.DataFrame(columns, index=grading.table.index)


def implied_rates() -> pd.DataFrame:
    """Return what the published recall and specificity imply for the other published numbers, with either grade as the positive one.

    Plain arithmetic on the patients of the paper's Table 1: no data of ours.
    """
    recall, specificity, columns = PAPER_RATES["sensitivity"], PAPER_RATES["specificity"], {}
    for positive, negative in (("LGG", "HGG"), ("HGG", "LGG")):
        true, true_negative = recall * PAPER_PATIENTS[positive], specificity * PAPER_PATIENTS[negative]
        false, missed = PAPER_PATIENTS[negative] - true_negative, PAPER_PATIENTS[positive] - true
        columns[f"implied, {positive} positive"] = {
            "accuracy": (true + true_negative) / sum(PAPER_PATIENTS.values()),
            "precision": true / (true + false),
            "negative predictive value": true_negative / (true_negative + missed),
        }
    published = {"accuracy": PAPER_ACCURACY, "precision": PAPER_RATES["ppv"], "negative predictive value": PAPER_RATES["npv"]}
    return pd.DataFrame({"published": published} | columns)


def positive_class_claim() -> Claim:
    """Return the claim on which grade the paper's numbers have as the positive one: the one that implies them most closely."""
    rates = implied_rates()
    distance = rates.drop(columns="published").sub(rates["published"], axis=0).abs().max()
    fits = distance.idxmin().removeprefix("implied, ").removesuffix(" positive")
    statement = "grade that is positive in the published precision, recall, specificity and negative predictive value"
    verdict = "holds" if fits == "HGG" else "does not hold"
    n = sum(PAPER_PATIENTS.values())
    return Claim("positive_class", statement, "HGG", fits, None, n, verdict, "grading-positive-class", cohort="published")


def responsible_tests(grading: Grading) -> pd.DataFrame:
    """Return the rank-sum test of the responsible codewords, those of HGG first: mean counts, AUC as the effect size, p and q."""
    chosen = _responsible(grading)
    return pd.DataFrame(
        {
            "more in": chosen["direction"],
            "mean count, LGG": chosen["mean_LGG"].round(1),
            "mean count, HGG": chosen["mean_HGG"].round(1),
            "AUC of the count": [_with_interval(row, "auc") for _, row in chosen.iterrows()],
            "p, rank-sum": chosen["rank_p"].map(_small),
            "q, Benjamini-Hochberg": chosen["q"].map(_small),
        }
    )


def responsible_choice(grading: Grading) -> pd.DataFrame:
    """Return how often the responsible codewords are chosen, and their effect likelihood-ratio tests: of all patients, and split."""
    chosen = _responsible(grading)
    return pd.DataFrame(
        {
            "chosen by halves": chosen["selected_share"].map("{:.0%}".format),
            "chosen in folds": chosen["fold_share"].map("{:.0%}".format),
            "log odds per SD": chosen["model_coefficient"].round(2),
            "LR statistic": chosen["model_lr_statistic"].round(1),
            "p, same patients": chosen["model_lr_p"].map(_small),
            "p, split patients": chosen["lr_p"].map(_small),
            "likelihood": chosen["likelihood"],
        }
    )


def _published_claims(grading: Grading) -> list[Claim | None]:
    metric, models = _metric_claim, "grading-models"
    statement = "five-fold accuracy of codeword counts, our protocol"
    ours = metric(grading, "grading_accuracy", statement, CODEWORDS, "accuracy", PAPER_ACCURACY, models)
    claims = [
        _with_correction(ours),  # nested choice, stratified and repeated folds, logarithms
        metric(
            grading,
            "grading_accuracy_published_protocol",
            "the same by the published protocol (raw counts, one unstratified split)",
            "codewords, published protocol",
            "accuracy",
            PAPER_ACCURACY,
            models,
        ),
        metric(
            grading,
            "grading_accuracy_responsible_alone",
            "the same by Eq. 6 on K* alone, chosen in the training patients of each fold",
            RESPONSIBLE,
            "accuracy",
            PAPER_ACCURACY,
            models,
        ),
    ]
    for rate, published in PAPER_RATES.items():
        statement = f"{RATE_NAMES[rate]} of codeword counts, LGG positive"
        claim = metric(grading, f"grading_{rate}_LGG", statement, CODEWORDS, f"{rate}_LGG", published, "grading-positive-class")
        claims.append(_with_correction(claim))  # the text has HGG as the positive class
    return claims


def _baseline_claims(grading: Grading) -> list[Claim | None]:
    models, metric = "grading-models", _metric_claim
    true, majority = "three true volumes", "always the commoner grade"
    claims = [
        metric(grading, "grading_auc", "AUC of codeword counts", CODEWORDS, "auc", None, models),
        metric(grading, "majority_accuracy", "accuracy of always answering the commoner grade", majority, "accuracy", None, models),
        metric(grading, "volume_baseline_accuracy", "accuracy of the three true volumes alone", true, "accuracy", None, models),
        metric(grading, "volume_baseline_auc", "AUC of the three true volumes alone", true, "auc", None, models),
    ]
    for model, name in BASELINES.items():
        statement = f"AUC of codeword counts, above that of {model.replace('three ', 'the three ')} by more than chance (difference)"
        claims.append(_difference_claim(grading, f"codewords_minus_{name}_auc", statement, model, "auc", "above"))
    return claims


def _probability_claims(grading: Grading) -> list[Claim | None]:
    row, n = grading.table.loc[CODEWORDS], len(grading.grades)
    slope = _interval(row, "calibration_slope")
    statement = "P(HGG) of codeword counts is calibrated (slope 1)"
    told = judge_interval(slope, "above", 0) == "holds"  # an interval that holds both 0 and 1 says nothing of calibration
    verdict = judge_interval(slope, "covers", 1) if told else "cannot be tested here"
    claims = [Claim("calibration_slope", statement, None, row["calibration_slope"], slope, n, verdict, "grading-calibration")]
    statement = "Brier score of codeword counts, below that of always answering the share of HGG"
    less = _difference_claim(grading, "brier", statement, "always the commoner grade", "brier", "below")
    claims.append(Claim("brier", statement, None, row["brier"], _interval(row, "brier"), n, less.verdict, "grading-calibration"))
    if not pd.isna(row["permutation_p"]):
        statement = f"grade can be told from codeword counts (permutation p of the AUC, {row['permutations']:.0f} shuffles)"
        verdict = judge_interval((row["permutation_p"],) * 2, "below", 0.05)
        claims.append(Claim("grading_permutation_p", statement, None, row["permutation_p"], None, n, verdict, "grading-models"))
    return claims


def _responsible_claims(grading: Grading) -> list[Claim]:
    directions, claims = grading.responsible.loc[grading.responsible["responsible"], "direction"], []
    for grade, published in PAPER_RESPONSIBLE.items():
        ours = int((directions == grade).sum())
        verdict = "holds with correction" if ours else "does not hold"
        statement = f"{grade}-responsible codewords (the paper's test is undefined; chosen here by stability selection)"
        claims.append(
            Claim(f"n_responsible_{grade}", statement, published, ours, None, len(grading.grades), verdict, "grading-responsible")
        )
    return claims


def _metrics_table(grading: Grading, names: dict[str, str]) -> pd.DataFrame:
    columns = {name: [_with_interval(row, metric) for _, row in grading.table.iterrows()] for metric, name in names.items()}
    return pd.DataFrame(columns, index=grading.table.index)


def _responsible(grading: Grading) -> pd.DataFrame:
    return grading.responsible[grading.responsible["responsible"]].sort_values(["direction", "rank_p"])


def _metric_claim(grading: Grading, id: str, statement: str, model: str, metric: str, paper: float | None, evidence: str) -> Claim | None:
    if model not in grading.table.index:
        return None
    row = grading.table.loc[model]
    interval = _interval(row, metric)
    return Claim(id, statement, paper, row[metric], interval, row["patients"], judge(paper, row[metric], interval), evidence)


def _difference_claim(grading: Grading, id: str, statement: str, model: str, metric: str, better: str) -> Claim | None:
    found = grading.differences[(grading.differences["model"] == model) & (grading.differences["metric"] == metric)]
    if found.empty:
        return None
    row = found.iloc[0]
    interval = (row["low"], row["high"])
    verdict = judge_interval(interval, better, 0)
    return Claim(id, statement, None, row["difference"], interval, len(grading.grades), verdict, "grading-differences")


def _with_correction(claim: Claim | None) -> Claim | None:
    return claim if claim is None or claim.verdict != "holds" else Claim(**(vars(claim) | {"verdict": "holds with correction"}))


def _interval(row: pd.Series, metric: str) -> tuple[float, float]:
    return row[f"{metric}_low"], row[f"{metric}_high"]


def _with_interval(row: pd.Series, metric: str) -> str:
    if pd.isna(row[metric]):
        return "–"
    low, high = _interval(row, metric)
    return f"{_hundredths(row[metric])} [{_hundredths(low)}, {_hundredths(high)}]"


def _hundredths(value: float) -> str:
    return f"{round(value, 2) + 0:.2f}".replace("-", "\N{MINUS SIGN}")  # + 0: no minus before a zero


def _permutation_text(row: pd.Series) -> str:
    return "–" if pd.isna(row["permutation_p"]) else f"{row['permutation_p']:.3f} ({row['permutations']:.0f} shuffles)"


def _small(p: float) -> str:
    return "–" if pd.isna(p) else f"{p:.3f}" if p >= 0.001 else f"{p:.0e}".replace("-", "\N{MINUS SIGN}")
