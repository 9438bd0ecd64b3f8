"""What a run knows of itself, in words: the numbers and conditions that the checklists and the model card are filled in with."""

import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from drlib.segmentation.model import TrainedModel
from drlib.series.claims import read_claims
from drlib.series.notice import network_origin, phantom_trained
from drlib.series.reporting.places import find_labels
from drlib.series.run import Run, project_root
from drlib.series.stages import Cohort, Grading, open_cohort, open_grading, open_histograms, open_segmentation

RATES = {  # column of the grading table -> its name, both conventions in one
    "balanced_accuracy": "balanced accuracy",
    "sensitivity_LGG": "sensitivity for LGG",
    "specificity_LGG": "sensitivity for HGG",
    "brier": "Brier score",
}


@dataclass(frozen=True)
class Facts:
    """A run in words.

    Attributes:
        values: name -> number or text, to be put in the place of ``{name}``.
        flags: what holds: ``phantom`` or ``own`` (the cohort), ``phantom-trained``, ``confounded`` (the variant), ``small`` (the smallest
            profile), ``segmented`` (graded patients have true segmentations), ``responsible`` (there are responsible codewords),
            ``selected`` (the classifier left codewords out), ``permuted``, ``compared`` (codewords and volumes, patient by patient),
            ``recalibrated`` (slope and intercept), ``decided`` (a decision curve), ``has <label>`` for every label of the book and
            ``claim <id>`` for every claim of the ledger.
        labels: label -> page, for links.
    """

    values: Mapping[str, Any]
    flags: frozenset[str]
    labels: Mapping[str, str]

    def holds(self, condition: str) -> bool:
        """Return whether every comma-separated part of ``condition`` is a flag, or none where it begins with ``not``."""
        parts = [part.strip() for part in condition.split(",") if part.strip()]
        return all(part.removeprefix("not ") not in self.flags if part.startswith("not ") else part in self.flags for part in parts)

    def fill(self, text: str) -> str:
        """Return ``text`` with every ``{name}`` replaced. Raises KeyError for a name that no run has."""
        return text.format_map(self.values)


def read_facts(run: Run) -> Facts:
    """Return what the finished chapters of ``run`` say. Raises ArtifactError naming the chapter to execute where one is missing."""
    cohort, segmentation, grading = open_cohort(run), open_segmentation(run), open_grading(run)
    claims = read_claims(run).set_index("id")
    classifier = json.loads((run.folder / "grading" / "classifier.json").read_text(encoding="utf-8"))
    difference = _compare_volumes(run)
    labels = find_labels(project_root())
    values = (
        _of_run(run)
        | _of_cohort(run, cohort)
        | _of_model(run, segmentation.model)
        | _of_grading(run, grading, classifier)
        | _of_claims(claims)
    )
    values |= {"n_segmented": len(segmentation.dice), "difference": difference or "not computed"}
    values["n_used"] = int((open_histograms(run).counts.table.sum() > 0).sum())
    flags = {
        "phantom" if run.is_phantom else "own": True,
        "phantom-trained": phantom_trained(run.profile, run.cohort_name),
        "confounded": run.is_phantom and run.profile.cohort.variant == "confounded",
        "segmented": len(segmentation.dice) > 0,
        "responsible": bool(grading.responsible["responsible"].any()),
        "selected": classifier.get("size") is not None,
        "permuted": run.profile.grading.permutations > 0,
        "small": run.profile.name.startswith("smoke"),
        "compared": difference is not None,
        "recalibrated": "calibration_slope" in grading.table,
        "decided": (run.folder / "grading" / "decisions.csv").is_file(),
    }
    names = (
        {name for name, holds in flags.items() if holds} | {f"has {label}" for label in labels} | {f"claim {name}" for name in claims.index}
    )
    return Facts(values, frozenset(names), labels)


def with_interval(row: Mapping[str, Any] | pd.Series) -> str:
    """Return a claim's value, interval and n as people write them: ``0.63 [0.52, 0.73], n = 32``."""
    value, interval = row["ours"], row["interval"]
    if value is None:
        return "not computed"
    text = value if isinstance(value, str) else f"{value:.2f}"
    return text + ("" if interval is None else " [{:.2f}, {:.2f}]".format(*interval)) + f", n = {row['n']}"


def _of_run(run: Run) -> dict[str, Any]:
    made = run.manifest("grading")["versions"]
    versions = {"Python": platform.python_version(), **made}
    return {
        "cohort": run.cohort_name,
        "profile": run.profile.name,
        "hash": run.profile.hash,
        "seed": run.seed,
        "label": run.label,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "drlib": made["drlib"],
    }


def _of_cohort(run: Run, cohort: Cohort) -> dict[str, Any]:
    problems, grades = cohort.problem_counts()["patients"], cohort.grades.dropna()
    errors = {problem["code"] for patient in cohort.report["patients"] if not patient["ok"] for problem in patient["problems"]}
    training = run.profile.cohort
    return {
        "n_checked": int(problems["checked"]),
        "n_sound": int(problems["sound"]),
        "n_left_out": int(problems["checked"] - problems["sound"]),
        "reasons": f" ({', '.join(sorted(errors))})" if errors else "",
        "n_segmentation": len(cohort.segmentation),
        "n_graded": len(grades),
        "n_lgg": int((grades == "LGG").sum()),
        "n_hgg": int((grades == "HGG").sum()),
        "n_slices": f"{int(cohort.patients['n_slices'].sum()):,}",
        "spacing": training.spacing_mm,
        "variant": training.variant,
        "n_scanners": _count_scanners(run),
    }


def _count_scanners(run: Run) -> int:
    truth = run.folder / "phantom" / "truth.csv"
    return int(pd.read_csv(truth)["scanner"].nunique()) if run.is_phantom else 0


def _of_model(run: Run, model: TrainedModel) -> dict[str, Any]:
    profile, made = run.profile, model.card["provenance"]
    shipped = profile.training.start_from
    return {
        "image_size": profile.preprocessing.image_size,
        "normalisation": profile.preprocessing.normalisation,
        "background": profile.preprocessing.background,
        "K": profile.quantizer.codebook_size,
        "D": profile.quantizer.codeword_dim,
        "in_use": model.card["codewords_in_use"],
        "filters": "-".join(map(str, profile.network.filters)),
        "latent": profile.latent_size,
        "parameters": f"{model.card['parameters']:,}",
        "n_training": made["patients"],
        "epochs": made["epochs"],
        "slices_seen": f"{made['slices_seen']:,}",
        "minutes": made["training_minutes"],
        "devices": made.get("devices", "unknown"),
        "batch": profile.training.batch_size,
        "rate": profile.training.learning_rate,
        "precision": profile.training.precision,
        "start": f"the shipped model “{shipped}”, trained on phantoms" if shipped else "random weights (He)",
        "origin": network_origin(profile, run.cohort_name),
        "sha256": model.card["sha256"],
        "written": model.card["written"][:10],
        "magnitudes": f"{min(profile.robustness.magnitudes):g} to {max(profile.robustness.magnitudes):g}",
    }


def _of_grading(run: Run, grading: Grading, classifier: dict[str, Any]) -> dict[str, Any]:
    settings, row = run.profile.grading, grading.table.loc["codewords"]
    rates = {name: f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]" for name in RATES}
    p = row["permutation_p"]
    directions = grading.responsible.loc[grading.responsible["responsible"], "direction"]
    return rates | {
        "folds": settings.folds,
        "repeats": settings.repeats,
        "permutations": settings.permutations,
        "permutation_p": "not computed" if pd.isna(p) else f"{p:.3f}",
        "models": len(grading.table),
        "chosen": "all codewords" if classifier.get("size") is None else f"{classifier['size']} codewords",
        "codebook": classifier["codebook"],
        **{f"responsible_{grade}": _list_codewords(directions.index[directions == grade]) for grade in ("LGG", "HGG")},
    }


def _list_codewords(codewords: pd.Index) -> str:
    return "none" if codewords.empty else f"{len(codewords)} ({', '.join(map(str, codewords))})"


def _compare_volumes(run: Run) -> str | None:
    """Return the AUC of codewords less that of true volumes on the same patients, with its interval; None where it was not computed."""
    path = run.folder / "grading" / "differences.csv"
    if not path.is_file():
        return None
    rows = pd.read_csv(path).query("model == 'three true volumes' and metric == 'auc'")
    return None if rows.empty else "{difference:+.2f} [{low:+.2f}, {high:+.2f}]".format(**rows.iloc[0])


def _of_claims(claims: pd.DataFrame) -> dict[str, Any]:
    dice = {name.removeprefix("dice_"): row for name, row in claims.iterrows() if re.fullmatch(r"dice_[A-Z]{2,3}", str(name))}
    shown = ("grading_accuracy", "grading_auc", "volume_baseline_accuracy", "volume_baseline_auc", "majority_accuracy")
    one = {name: with_interval(claims.loc[name]) if name in claims.index else "not computed" for name in shown}
    ratios = {kind: _largest_ratio(claims, kind) for kind in ("scale", "shift")}
    tops = {f"top_{grade}": claims["ours"].get(f"{grade.lower()}_region_top") or "not computed" for grade in ("LGG", "HGG")}
    counted = claims["verdict"].value_counts()
    return {
        **one,
        **{f"ratio_{kind}": value for kind, value in ratios.items()},
        **tops,
        **{f"dice_{region}": with_interval(row) for region, row in dice.items()},
        "dice": "; ".join(f"{region} {with_interval(row)}" for region, row in dice.items()) or "not computed",
        "n_claims": len(claims),
        "n_hold": int(counted.get("holds", 0) + counted.get("holds with correction", 0)),
        "n_fail": int(counted.get("does not hold", 0)),
    }


def _largest_ratio(claims: pd.DataFrame, kind: str) -> str:
    names = sorted(name for name in claims.index if str(name).startswith(f"difference_ratio_{kind}_"))
    return with_interval(claims.loc[names[-1]]) if names else "not computed"
