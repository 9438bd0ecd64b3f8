"""Chapter 06 in numbers: what perturbations and scanners do to counts, latents and grading, and what the quantizer absorbs."""

import numpy as np
import pandas as pd

from drlib.radiomics.robustness import draw_performance
from drlib.radiomics.scanners import SCANNER_CHANGES
from drlib.radiomics.statistics import Interval, percentile_interval
from drlib.series.claims import Claim, Verdict
from drlib.series.findings.intervals import mean_interval
from drlib.series.run import Run
from drlib.series.stages import Robustness

LEVELS = {(change.kind, change.magnitude): change.level for change in SCANNER_CHANGES}
CLEAN = ("scale", 0.0)
BEND = 0.6  # "worsened when the magnitude exceeds more than 0.6", caption of Figure 4
RATES = {"sensitivity_HGG": "HGG called HGG", "sensitivity_LGG": "LGG called LGG"}


def ratio_intervals(run: Run, robustness: Robustness) -> pd.DataFrame:
    """Return kind, magnitude, area (all or brain positions) and the mean difference ratio with its interval over patients."""
    rows = []
    for (kind, magnitude, area), values in robustness.movement.groupby(["kind", "magnitude", "area"])["difference_ratio"]:
        interval = mean_interval(run, values, "ratio", kind, magnitude, area)
        rows.append({"kind": kind, "magnitude": magnitude, "area": area} | _triple("mean", interval, ("mean", "low", "high")))
    return pd.DataFrame(rows)


def summarise_ratios(intervals: pd.DataFrame) -> pd.DataFrame:
    """Return the mean difference ratio with its interval as text: a row per magnitude, a column per kind and area."""
    words = {"all": "all positions", "brain": "positions with brain"}
    text = intervals.assign(text=[_text(row.mean, row.low, row.high) for row in intervals.itertuples(index=False, name="Row")])
    wide = text.assign(area=text["area"].map(words)).pivot(index="magnitude", columns=["kind", "area"], values="text")
    return wide.sort_index(axis=1)


def performance_table(run: Run, robustness: Robustness, magnitudes: int = 3) -> pd.DataFrame:
    """Return accuracy, AUC and the share of each grade that is recognised, with intervals, clean and at the largest perturbations.

    ``HGG called HGG`` is the sensitivity where HGG is positive and the specificity where LGG is.
    """
    draws = draw_performance(robustness.probabilities, robustness.grades, run.seed, ("accuracy", "auc", *RATES))
    kinds = [(kind, m) for kind in ("scale", "shift") for m in _some(robustness.probabilities["magnitude"], magnitudes)]
    rows = {}
    for kind, magnitude in [CLEAN, *kinds]:
        name = "none" if (kind, magnitude) == CLEAN else f"{kind} {magnitude:g}"
        for classifier in ("frozen", "refitted"):
            found = {m: percentile_interval(draws[m][classifier, kind, magnitude]) for m in draws}
            rows[name, classifier] = {m: _text(i.estimate, i.low, i.high) for m, i in found.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename(columns={"auc": "AUC"} | RATES)
    return table.rename_axis(["perturbation", "classifier"])


def scanner_table(run: Run, robustness: Robustness) -> pd.DataFrame:
    """Return a row per thing that a scanner does: kind, level (words), difference ratio, change of the accuracy (frozen, refitted), AUCs.

    ``ratio``, ``frozen``, ``refitted``, ``auc_frozen`` and ``auc_refitted`` with ``_low`` and ``_high``; ``n``: patients scanned again.
    """
    draws = draw_performance(robustness.scanner_probabilities, robustness.grades, run.seed, ("accuracy", "auc"))
    everywhere = robustness.scanner_movement.query("area == 'all'")
    rows = []
    for kind, magnitude in LEVELS:
        ratios = everywhere.query("kind == @kind and magnitude == @magnitude")["difference_ratio"]
        row = {"kind": kind, "level": LEVELS[kind, magnitude], "n": len(ratios)}
        row |= _triple("ratio", mean_interval(run, ratios, "scanner", kind, magnitude))
        for classifier in ("frozen", "refitted"):
            accuracy, auc = (draws[metric][classifier] for metric in ("accuracy", "auc"))
            row |= _triple(classifier, percentile_interval(accuracy[kind, magnitude] - accuracy[CLEAN]))
            row |= _triple(f"auc_{classifier}", percentile_interval(auc[kind, magnitude]))
        rows.append(row)
    return pd.DataFrame(rows)


def summarise_scanners(table: pd.DataFrame) -> pd.DataFrame:
    """Return the scanner table as text: difference ratio, change of the accuracy and AUC, each with its interval."""
    columns = {
        "ratio": "difference ratio",
        "frozen": "accuracy, change (frozen)",
        "refitted": "accuracy, change (refitted)",
        "auc_frozen": "AUC (frozen)",
        "auc_refitted": "AUC (refitted)",
    }
    text = {
        words: [_text(*values) for values in table[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)]
        for name, words in columns.items()
    }
    return pd.DataFrame(text, index=pd.MultiIndex.from_frame(table[["kind", "level"]], names=["change", ""]))


def absorption_table(run: Run, robustness: Robustness) -> pd.DataFrame:
    """Return a row per change, in the brain: ``group``, kind, magnitude, how far latents and codewords moved, and what kept its code.

    ``latent_change``, ``codeword_change``, ``kept``, ``ratio`` (codeword over latent, a patient's own) and ``rms_ratio`` with ``_low`` and
    ``_high``; ``random_change`` and ``random_kept``: steps as long in random directions; ``n`` patients.
    """
    rows = []
    for table in (robustness.movement, robustness.scanner_movement):
        brain = table[(table["area"] == "brain") & (table["magnitude"] > 0)]
        for (kind, magnitude), values in _with_ratios(brain).groupby(["kind", "magnitude"], sort=False):
            row = {"group": _group(kind), "kind": kind, "magnitude": magnitude, "n": len(values)}
            for name in ("latent_change", "codeword_change", "kept", "ratio", "rms_ratio"):
                row |= _triple(name, mean_interval(run, values[name], "absorption", kind, magnitude, name))
            rows.append(row | values[["random_change", "random_kept"]].mean().to_dict())
    return pd.DataFrame(rows)


def summarise_absorption(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of :func:`absorption_table` as text, without the gain, which moves nothing."""
    shown = table[table["latent_change"] > 0.01]
    text = {
        words: [_text(*values) for values in shown[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)]
        for name, words in {
            "latent_change": "step of the latent",
            "kept": "keep their code",
            "ratio": "codeword : latent",
            "rms_ratio": "the same, root mean square",
        }.items()
    }
    text["codeword : latent, at random"] = [_number(x) for x in shown["random_change"] / shown["latent_change"]]
    words = [LEVELS.get(key, f"{key[1]:g}") for key in zip(shown["kind"], shown["magnitude"], strict=True)]
    return pd.DataFrame(text, index=pd.MultiIndex.from_arrays([shown["kind"], words], names=["change", ""]))


def robustness_claims(run: Run, robustness: Robustness) -> list[Claim]:
    """Return what the paper says of Figure 4 and of its causes beside what was found here."""
    return [
        *_ratio_claims(run, robustness),
        *_performance_claims(run, robustness),
        _scanner_claim(run, robustness),
        *_cause_claims(run, robustness),
    ]


def _ratio_claims(run: Run, robustness: Robustness) -> list[Claim]:
    ratios = robustness.ratios.pivot(index="patient", columns=["kind", "magnitude"], values="difference_ratio")
    largest, n, claims = max(robustness.ratios["magnitude"]), len(ratios), []
    for kind in ("scale", "shift"):
        interval = mean_interval(run, ratios[kind, largest], "ratio", kind)
        statement = f"difference ratio at {kind} {largest:.1f} (the paper shows a figure without numbers)"
        id = f"difference_ratio_{kind}_{largest:.1f}"
        claims.append(_claim(id, statement, interval, n, "cannot be tested here", "robustness-ratio"))
    order = {
        kind: ratios[kind].rank(axis=1).T.corrwith(pd.Series(sorted(ratios[kind].columns)).rank().set_axis(ratios[kind].columns))
        for kind in ("scale", "shift")
    }
    steps = pd.concat([ratios[kind].diff(axis=1).iloc[:, 1:].mean() for kind in ("scale", "shift")])
    rank = mean_interval(run, (order["scale"] + order["shift"]) / 2, "order")
    verdict = "does not hold" if rank.low <= 0 else "holds" if (steps > 0).all() else "holds with correction"
    statement = "the difference ratio increases with the perturbation: rank correlation within a patient, mean of scale and shift"
    claims.append(_claim("difference_ratio_increases", statement, rank, n, verdict, "robustness-ratio"))
    excess = mean_interval(run, ratios["shift", largest] - ratios["scale", largest], "excess")
    statement = f"shifting moves more counts than scaling: difference of the two ratios at {largest:.1f}"
    claims.append(_claim("shift_exceeds_scale", statement, excess, n, _direction(excess), "robustness-ratio"))
    return claims


def _performance_claims(run: Run, robustness: Robustness) -> list[Claim]:
    accuracy = draw_performance(robustness.probabilities, robustness.grades, run.seed, ("accuracy",))["accuracy"]["frozen"]
    magnitudes, n = sorted(set(accuracy.columns.get_level_values("magnitude"))), len(robustness.grades)
    lost = {kind: accuracy[CLEAN] - accuracy[kind, magnitudes[-1]] for kind in ("scale", "shift")}
    claims = []
    for kind, draws in lost.items():
        interval, statement = percentile_interval(draws), f"accuracy lost at {kind} {magnitudes[-1]:.1f}, classifier frozen"
        claims.append(_claim(f"accuracy_lost_{kind}", statement, interval, n, _direction(interval), "robustness-grading"))
    interval = percentile_interval(lost["shift"] - lost["scale"])
    statement = "shifting costs the frozen classifier more accuracy than scaling: difference of the two losses"
    claims.append(_claim("shift_costs_more", statement, interval, n, _direction(interval), "robustness-grading"))
    interval = _worsening(accuracy["shift"], magnitudes)
    statement = f"under shift the loss of accuracy is steeper beyond {BEND}: difference of the two slopes, classifier frozen"
    verdict = "cannot be tested here" if interval is None else _direction(interval)
    interval = interval or Interval(np.nan, np.nan, np.nan)
    claims.append(_claim("shift_worse_beyond_0.6", statement, interval, n, verdict, "robustness-grading"))
    interval = _agreement(accuracy, robustness)
    statement = "the loss of accuracy goes with the difference ratio: rank correlation over perturbations, classifier frozen"
    claims.append(_claim("degradation_follows_ratio", statement, interval, n, _direction(interval), "robustness-grading"))
    return claims


def _scanner_claim(run: Run, robustness: Robustness) -> Claim:
    accuracy = draw_performance(robustness.scanner_probabilities, robustness.grades, run.seed, ("accuracy",))["accuracy"]["frozen"]
    strongest = {kind: magnitude for kind, magnitude in LEVELS if _group(kind) == "scanner"}
    level = 1 - 0.05 / len(strongest)  # Bonferroni: the worst of several is looked at
    lost = [percentile_interval(accuracy[CLEAN] - accuracy[key], level) for key in strongest.items()]
    interval, n = max(lost, key=lambda one: one.estimate), robustness.scanner_probabilities["patient"].nunique()
    verdict = {"holds": "does not hold", "does not hold": "holds"}.get(_direction(interval), "cannot be tested here")
    statement = (
        "robust to scanners, not to scale and shift alone: accuracy lost, frozen, under the worst kind of change (of all scans made)"
    )
    return _claim("scanner_robustness", statement, interval, n, verdict, "robustness-scanners")


def _worsening(shifted: pd.DataFrame, magnitudes: list[float]) -> Interval | None:
    """Return how much more accuracy is lost per unit of shift beyond BEND than up to it; None where BEND was not tried."""
    if BEND not in magnitudes or magnitudes[-1] == BEND:
        return None
    up_to = (shifted[0.0] - shifted[BEND]) / BEND
    beyond = (shifted[BEND] - shifted[magnitudes[-1]]) / (magnitudes[-1] - BEND)
    return percentile_interval(beyond - up_to)


def _agreement(accuracy: pd.DataFrame, robustness: Robustness) -> Interval:
    """Return Spearman's correlation over perturbations of accuracy lost and mean difference ratio, its interval over patients."""
    means = robustness.ratios.query("magnitude > 0").groupby(["kind", "magnitude"])["difference_ratio"].mean()
    ranks = (-accuracy[means.index]).rank(axis=1)  # a loss ranks high where the accuracy is low
    return percentile_interval(ranks.T.corrwith(means.rank()))


def _cause_claims(run: Run, robustness: Robustness) -> list[Claim]:
    brain = _with_ratios(robustness.movement.query("area == 'brain' and magnitude > 0"))
    pooled = brain.groupby("patient")[["codeword_change", "latent_change"]].sum()
    interval = mean_interval(run, pooled["codeword_change"] / pooled["latent_change"], "absorbed")
    each = [mean_interval(run, values, "absorbed", *key) for key, values in brain.groupby(["kind", "magnitude"])["rms_ratio"]]
    always = interval.high < 1 and all(one.high < 1 for one in each)
    verdict = "holds" if always else "holds with correction" if interval.high < 1 else "does not hold"
    statement = "the quantizer suppresses what perturbations do to the encoder's output: step of the codewords over step of the latents"
    return [
        _claim("quantizer_absorbs", statement, interval, len(pooled), verdict, "robustness-quantizer"),
        *_normalisation_claims(run, robustness),
    ]


def _normalisation_claims(run: Run, robustness: Robustness) -> list[Claim]:
    """Return, for each kind, the share of the latents' step that is left when only the normalised path sees the perturbation."""
    keys, claims = ["patient", "kind", "magnitude"], []
    whole = robustness.movement.query("area == 'brain'").set_index(keys)["latent_change"]
    alone = robustness.normalisation.set_index(keys)["latent_change"]
    left = (alone / whole.loc[alone.index]).rename("left").reset_index()
    for kind, values in left.groupby("kind")["left"]:
        interval = mean_interval(run, values, "normalisation", kind)
        statement = f"normalisation takes the {kind} out: share of the latents' step left when the first shortcut sees the clean slices"
        verdict = "holds with correction" if interval.high < 0.5 else "does not hold" if interval.low >= 0.5 else "cannot be tested here"
        claims.append(_claim(f"normalisation_absorbs_{kind}", statement, interval, len(values), verdict, "robustness-normalisation"))
    return claims


def _with_ratios(movement: pd.DataFrame) -> pd.DataFrame:
    """Add each patient's step of the codewords over that of the latents: of the means, and of the root mean squares."""
    still = movement["latent_change"] == 0
    return movement.assign(
        ratio=(movement["codeword_change"] / movement["latent_change"]).mask(still),
        rms_ratio=(movement["codeword_rms"] / movement["latent_rms"]).mask(still),
    )


def _group(kind: str) -> str:
    return kind if kind in ("scale", "shift") else "missing scan" if kind.startswith("no ") else "scanner"


def _some(magnitudes: pd.Series, n: int) -> list[float]:
    """Return ``n`` of the magnitudes beyond 0 at equal steps, the largest among them."""
    there = sorted(set(magnitudes) - {0.0})
    return [there[i] for i in sorted({round((step + 1) * len(there) / n) - 1 for step in range(n)} - {-1})]


def _direction(interval: Interval) -> Verdict:
    """Return the verdict on a positive effect: an interval on both sides of 0 decides nothing."""
    if interval.low > 0:
        return "holds"
    return "does not hold" if interval.high <= 0 else "cannot be tested here"


def _claim(id: str, statement: str, interval: Interval, n: int, verdict: Verdict, evidence: str) -> Claim:
    return Claim(id, statement, None, interval.estimate, (interval.low, interval.high), n, verdict, evidence)


def _triple(name: str, interval: Interval, names: tuple[str, str, str] | None = None) -> dict[str, float]:
    names = names or (name, f"{name}_low", f"{name}_high")
    return dict(zip(names, (interval.estimate, interval.low, interval.high), strict=True))


def _text(value: float, low: float, high: float) -> str:
    return f"{_number(value)} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
