"""Chapter 08 in numbers: what the trials with a known truth found, each rate with its interval."""

from dataclasses import replace

import pandas as pd

from drlib.radiomics.statistics import Interval, seed_interval, share_interval
from drlib.series.claims import Claim, Verdict
from drlib.series.studies.known_truth import CARRIES, KnownTruth

NOMINAL = 0.05  # of tests and intervals
CHANCE = 1 / 3  # of naming one of three regions
ASKED = {"top_mean": "change per voxel", "top_sum": "change summed", "top_enriched": "what lies under the codewords"}
PLANTED_WORDS = {"NET": "NET volume", "ED": "ED volume", "ET": "ET volume", "texture": "texture of NET"}


def null_rates(trials: KnownTruth) -> pd.DataFrame:
    """Return what null cohorts gave, a row per question: ``value`` with ``low`` and ``high``, what is ``due``, number of ``cohorts``."""
    null = trials.null
    covered = (null["auc_low"] <= 0.5) & (null["auc_high"] >= 0.5)
    rows = {
        "mean AUC of the codewords": (seed_interval(null["auc"]), "0.50"),
        "mean AUC, published protocol": (seed_interval(null["auc_published"]), "0.50"),
        "mean AUC of slices without tumour": (seed_interval(null["control_auc"]), "0.50"),
        "share of AUC intervals that hold .5": (_share(covered), "0.95"),
        "cohorts with a responsible codeword, our rule": (_share(null["found"] > 0), "at most 0.05"),
        "cohorts with a responsible codeword, published rule": (_share(null["found_published"] > 0), "at most 0.05"),
        "responsible among the codewords tested, our rule": (_ratio(null["found"], null["tested"]), "at most 0.05"),
    }
    table = pd.DataFrame({name: _plain(found) | {"due": due} for name, (found, due) in rows.items()}).T
    return table.assign(cohorts=len(null)).rename_axis("in cohorts without a signal")


def planted_rates(trials: KnownTruth) -> pd.DataFrame:
    """Return how often each way of asking names the planted region: ``planted``, ``asked``, ``value``, ``low``, ``high``, ``cohorts``.

    A cohort counts once. Of a planted texture, of which the codewords of both grades may speak, it is those of HGG that are asked.
    """
    rows, asked_of = [], trials.planted[(trials.planted["variant"] != "planted-texture") | (trials.planted["grade"] == "HGG")]
    for variant, table in asked_of.groupby("variant", sort=False):
        name = variant.removeprefix("planted-")
        for column, asked in ASKED.items():
            head = {"planted": name, "asked": asked, "cohorts": len(table)}
            rows.append(head | _plain(_share(table[column] == CARRIES[variant])))
    return pd.DataFrame(rows)


def planted_table(trials: KnownTruth) -> pd.DataFrame:
    """Return a row per planted truth: how often each way of asking names it, and how well the grade can be told at all."""
    rates = planted_rates(trials)
    rates["cell"] = [f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in rates.itertuples()]
    table = rates.pivot(index="planted", columns="asked", values="cell")[list(ASKED.values())]
    for name, row in trials.planted.assign(name=trials.planted["variant"].str.removeprefix("planted-")).groupby("name"):
        table.loc[name, "AUC, counts"] = f"{row['auc'].mean():.2f}"
        table.loc[name, "AUC, volume"] = f"{row['auc_volume'].mean():.2f}"
        table.loc[name, "responsible found"] = f"{(row['responsible'] > 0).sum()} of {len(row)}"
    return table.loc[[name for name in PLANTED_WORDS if name in table.index]].rename(PLANTED_WORDS).rename_axis("the grade lies in")


def power_table(trials: KnownTruth) -> pd.DataFrame:
    """Return per cohort size and informative share the mean ``auc``, and the shares of cohorts: interval above .5, codewords found."""
    table = trials.power.assign(
        clear=trials.power["auc_low"] > 0.5,
        found=(trials.power["found_LGG"] > 0) | (trials.power["found_HGG"] > 0),
        found_both=(trials.power["found_LGG"] > 0) & (trials.power["found_HGG"] > 0),
    )
    return table.groupby(["n", "informative"])[["auc", "clear", "found", "found_both"]].mean().reset_index()


def leak_trials(trials: KnownTruth) -> pd.DataFrame:
    """Return what leaks do to the AUC, and how often the checks speak, rightly and wrongly: value, low, high, cohorts."""
    mirrored, sound = trials.mirrored, trials.confounded["trial"] == "sound"
    confounded = trials.confounded[~sound]
    rows = {
        "twins in the cohort: mean AUC where nothing is to be found": seed_interval(mirrored["auc"]),
        "the same cohorts without the twins that were caught": seed_interval(mirrored["auc_without_twins"]),
        "cohorts in which every twin is caught": _share(mirrored["caught"] == mirrored["twins"]),
        "cohorts with a false alarm of twins": _share(mirrored["false_alarms"] > 0),
        "a scanner per grade: mean AUC where nothing is to be found": seed_interval(confounded["auc"]),
        "a scanner per grade: mean AUC of slices without tumour": seed_interval(confounded["control_auc"]),
        "a scanner per grade: cohorts with a warning": _share(confounded["warned"]),
        "sound cohorts: mean AUC of slices without tumour": seed_interval(trials.confounded[sound]["control_auc"]),
        "sound cohorts with a warning": _share(trials.confounded[sound]["warned"]),
    }
    cohorts = [len(mirrored)] * 4 + [len(confounded)] * 3 + [int(sound.sum())] * 2
    return pd.DataFrame({name: _plain(found) for name, found in rows.items()}).T.assign(cohorts=cohorts).rename_axis("leak")


def describe_trials(trials: KnownTruth) -> pd.DataFrame:
    """Return what the tables were made from."""
    made, design = trials.manifest["made_from"], trials.design
    facts = {
        "cohorts": "phantoms (synthetic patients, not clinical), drawn anew",
        "codebook": f"one, of the model that comes with the library ({made['model'][:10]})",
        "profile of phantoms and slices": design.profile,
        "pool": f"{design.pool_cohorts * design.pool_size} phantoms of both growth types",
        "null cohorts": f"{design.null_draws} of {design.n_patients} patients",
        "planted cohorts": f"{len(CARRIES)} x {design.planted_seeds} of {design.planted_size} patients",
        "torch": trials.manifest["versions"]["torch"],
        "drlib sources (SHA-256)": made["sources"][:10],
        "made again by": made["command"],
    }
    return pd.DataFrame({"this study": facts})


def known_truth_claims(trials: KnownTruth) -> list[Claim]:
    """Return whether the method does nothing where there is nothing, finds what was planted, and warns of leaks."""
    null, leaks, planted = null_rates(trials), leak_trials(trials), planted_rates(trials).set_index(["planted", "asked"])
    auc = null.loc["mean AUC of the codewords"]
    ours, published = (null.loc[f"cohorts with a responsible codeword, {rule} rule"] for rule in ("our", "published"))
    coverage = null.loc["share of AUC intervals that hold .5"]
    twins, warned, unduly = (
        leaks.loc[row]
        for row in ("cohorts in which every twin is caught", "a scanner per grade: cohorts with a warning", "sound cohorts with a warning")
    )
    label = "known-truth-null"
    claims = [
        _claim("null_auc", "AUC where the grade is independent of the images", auc, auc.low <= 0.5 <= auc.high, label),
        _claim(
            "null_auc_coverage", "intervals of the AUC over patients that hold the truth (.95 due)", coverage, coverage.high >= 0.95, label
        ),
        _claim(
            "null_discovery_rate",
            "cohorts without a signal in which a codeword is called responsible (.05 allowed)",
            ours,
            ours.low <= NOMINAL,
            label,
        ),
        _claim(
            "null_discovery_rate_published",
            "the same by the published rule, tested on the patients that chose",
            published,
            published.low <= NOMINAL,
            label,
        ),
    ]
    for name, words in PLANTED_WORDS.items():
        row = planted.loc[name, ASKED["top_mean"]]
        statement = f"cohorts in which the responsible region is the planted one: {words} (chance .33)"
        claims.append(_claim(f"planted_{name}", statement, row, row.low > CHANCE, "known-truth-planted"))
    label = "known-truth-leaks"
    return [
        *claims,
        _claim("leak_twins_caught", "cohorts in which every mirrored twin is caught", twins, twins.low > 0.5, label),
        _warned_claim("leak_confounding_warned", "cohorts with a scanner per grade that are warned of", warned, label),
        _claim("leak_false_warning", "sound cohorts that are warned of (.05 allowed)", unduly, unduly.low <= NOMINAL, label),
    ]


def _warned_claim(name: str, statement: str, row: pd.Series, evidence: str) -> Claim:
    """Return whether most are warned of; few cohorts may leave that open."""
    claim = _claim(name, statement, row, row["low"] > 0.5, evidence)
    return replace(claim, verdict="cannot be tested here") if row["low"] <= 0.5 <= row["high"] else claim


def _claim(name: str, statement: str, row: pd.Series, holds: bool, evidence: str) -> Claim:
    verdict: Verdict = "holds" if holds else "does not hold"
    n, interval = int(row["cohorts"]), (row["low"], row["high"])
    return Claim(name, statement, None, row["value"], interval, n, verdict, evidence, "cohorts", "phantom, study", "known-truth")


def _share(happened: pd.Series) -> Interval:
    return share_interval(int(happened.sum()), len(happened))


def _ratio(some: pd.Series, all: pd.Series) -> Interval:
    """Return the share of all cohorts together; the interval is over cohorts, whose parts are not independent."""
    share = seed_interval(some / all.where(all > 0))
    return Interval(float(some.sum() / all.sum()), share.low, share.high)


def _plain(found: Interval) -> dict[str, float]:
    """Return an AUC or a share with its interval, cut at 0 and 1, which a t interval does not know."""
    return {"value": found.estimate, "low": max(found.low, 0.0), "high": min(found.high, 1.0)}
