"""The ladder of corrections read: means and intervals over seeds, what a correction changed and what it did not, in words from the data."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from drlib.cohort.regions import REGIONS
from drlib.profiles import SWITCHES, Profile, QuantizerSettings, load_profile
from drlib.radiomics.statistics import seed_interval
from drlib.segmentation.quantizer import SMOOTHING
from drlib.segmentation.quantizer_trial import codebook_usage_over_steps
from drlib.series.studies.corrections import LADDER, Corrections, watch_codebook
from drlib.viewer.quantizer import STARTS, make_bench, one_thread

MARKS = {"higher": "▲", "lower": "▼", "not clear": ""}
SLICES_OF_BRATS = 155
STARTS_IN_WORDS = dict(zip(STARTS, ("corrected start", "published start"), strict=True))

CODEBOOK = {"codewords_used": "codewords used", "perplexity": "perplexity", "largest_norm_ratio": "norm, codewords / latents"}
DICE = {f"dice_{region}": f"Dice {region}" for region in REGIONS}
GRADING = {
    "accuracy_paper": "accuracy, published protocol",
    "auc_paper": "AUC, published protocol",
    "accuracy_ours": "accuracy, our protocol",
    "auc_ours": "AUC, our protocol",
}
MEASURES = CODEBOOK | DICE | GRADING
ON_LOG_SCALE = ("largest_norm_ratio",)  # geometric mean and ratio in the place of mean and difference
JUDGED = {name: words for name, words in MEASURES.items() if name not in ON_LOG_SCALE}


@dataclass(frozen=True)
class Steps:
    """Codebooks (K, 2) of a quantizer in the plane at some steps, what each is, and the latents (N, 2) that it was shown."""

    latents: np.ndarray
    codebooks: list[np.ndarray]
    names: list[str]


def summarise_rungs(study: Corrections) -> pd.DataFrame:
    """Return ``mean``, ``low`` and ``high`` over seeds (:func:`seed_interval`), a row per ``rung`` and ``measure``."""
    rows = []
    for rung, table in study.rows.groupby("rung"):
        for measure in MEASURES:
            on_log_scale = measure in ON_LOG_SCALE
            found = seed_interval(np.log(table[measure]) if on_log_scale else table[measure])
            ends = [found.estimate, found.low, found.high]
            rows.append([rung, measure, *(np.exp(ends) if on_log_scale else ends)])
    return pd.DataFrame(rows, columns=["rung", "measure", "mean", "low", "high"])


def table_of(study: Corrections, measures: dict[str, str]) -> pd.DataFrame:
    """Return a row per rung and a column per measure, as ``mean [low, high]`` over seeds."""
    cells = summarise_rungs(study).set_index(["measure", "rung"])
    columns = {words: [_cell(row, measure) for row in cells.loc[measure].itertuples()] for measure, words in measures.items()}
    return pd.DataFrame(columns, index=pd.Index(rung_names(study), name="corrected up to"))


def rung_names(study: Corrections) -> list[str]:
    """Return the rungs in their order: ``0 published code's recipe``, ``1 rate for a short training``, ..."""
    rungs = study.rows.drop_duplicates("rung").sort_values("rung")
    return [f"{row.rung} {row.name_}" for row in rungs.rename(columns={"name": "name_"}).itertuples()]


def judge_changes(study: Corrections) -> pd.DataFrame:
    """Return what each rung changed against the one below: a row per rung and measure of ``JUDGED``.

    ``difference`` with ``low`` and ``high``: mean over seeds of the paired differences, and its t interval. ``change`` is ``higher`` or
    ``lower`` where that interval leaves out 0, else ``not clear``. Caveat: nothing corrects for the number of judgements.
    """
    rows = []
    for measure in JUDGED:
        wide = study.rows.pivot(index="seed", columns="rung", values=measure)
        for below, rung in zip(wide.columns, wide.columns[1:], strict=False):
            rows.append({"rung": rung, "measure": measure} | _judge(wide[rung] - wide[below]))
    return pd.DataFrame(rows)


def compare_ends(study: Corrections, first: int = 1) -> pd.DataFrame:
    """Return what all corrections together changed, from rung ``first`` to the last: a row per measure of ``JUDGED``, and in words."""
    rows = {}
    for measure, words in JUDGED.items():
        wide = study.rows.pivot(index="seed", columns="rung", values=measure)
        found = _judge(wide[wide.columns[-1]] - wide[first])
        said = "{difference:+.2f} [{low:+.2f}, {high:+.2f}], {change}".format(**found)
        rows[words] = found | {"in words": said}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"rung {first} to {wide.columns[-1]}")


def table_of_changes(study: Corrections) -> pd.DataFrame:
    """Return the mean difference to the rung below, a row per rung and a column per measure; ▲ clearly higher, ▼ clearly lower."""
    changes = judge_changes(study)
    changes["cell"] = [
        f"{row.difference:+.{1 if row.measure in CODEBOOK else 2}f} {MARKS[row.change]}".rstrip() for row in changes.itertuples()
    ]
    wide = changes.pivot(index="rung", columns="measure", values="cell")[list(JUDGED)]
    return wide.set_axis(list(JUDGED.values()), axis=1).set_axis(pd.Index(rung_names(study)[1:], name="added"))


def tell_changes(study: Corrections) -> pd.DataFrame:
    """Return, per measure, after which corrections it is clearly higher, clearly lower, and the number of the others; rung 1 left out."""
    changes = judge_changes(study)
    corrections = changes[changes["rung"] > 1]
    rows = {}
    for measure, words in JUDGED.items():
        found = corrections[corrections["measure"] == measure]
        named = {change: list_rungs(found[found["change"] == change]["rung"]) for change in ("higher", "lower")}
        rows[words] = {f"clearly {change} after": names for change, names in named.items()}
        rows[words]["no clear change"] = f"{(found['change'] == 'not clear').sum()} of {len(found)}"
    return pd.DataFrame.from_dict(rows, orient="index")


def list_rungs(rungs: pd.Series) -> str:
    """Return ``k-means start; dead codewords restart``, or ``none``."""
    return "; ".join(LADDER[rung].name for rung in rungs) or "none"


def compare_whole_tumours(study: Corrections) -> pd.DataFrame:
    """Return the Dice of WT with and without ET, of the same predictions, per rung: mean over seeds of both and of their difference."""
    means = study.rows.groupby("rung")[["dice_WT", "dice_WT_without_ET"]].mean()
    means["difference"] = means["dice_WT"] - means["dice_WT_without_ET"]
    means.columns = ["WT = NET, ED, ET", "WT = NET, ED (published code)", "difference"]
    return means.set_axis(pd.Index(rung_names(study), name="corrected up to"))


def compare_refits(study: Corrections) -> pd.DataFrame:
    """Return, at the ends of the ladder, the difference ratio and the accuracy of frozen and refitted classifiers, means over seeds."""
    keys = ["rung", "kind", "magnitude"]
    perturbed = study.robustness[(study.robustness["magnitude"] > 0) | (study.robustness["kind"] == "scale")]
    accuracy = perturbed.pivot_table(index=keys, columns="classifier", values="accuracy").add_prefix("accuracy, ")
    table = accuracy.assign(**{"difference ratio": perturbed.groupby(keys)["difference_ratio"].mean()}).reset_index()
    table["kind"] = table["kind"].where(table["magnitude"] > 0, "none")
    table["rung"] = [f"{rung} {LADDER[rung].name}" for rung in table["rung"]]
    return table.set_index(["rung", "kind", "magnitude"])


def describe_switches(profile: Profile) -> pd.DataFrame:
    """Return every setting in which ``profile`` and the published code's recipe differ, and how each is switched alone, both ways."""
    rows = {}
    for path, theirs in SWITCHES["authors-code"].items():
        section, field = path.split(".")
        ours = getattr(getattr(profile, section), field)
        if ours != theirs:
            rows[path] = {"published code": _plain(theirs), "this profile": _plain(ours)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("+section.field=value")


def describe_study(study: Corrections) -> pd.DataFrame:
    """Return what the tables were made from."""
    made = study.manifest["made_from"]
    cohort, training = study.profile.cohort, study.profile.training
    facts = {
        "cohort": "phantoms (synthetic patients, not clinical), drawn anew for every seed",
        "profile": " + ".join([made["base"], *made["budget"]]),
        "patients per seed": f"{cohort.n_segmentation} train the network, {cohort.n_grading} others are segmented and graded",
        "training of a rung": f"from random weights, {study.n_steps} steps of {training.batch_size} slices",
        "seeds": len(made["seeds"]),
        "trainings": len(study.rows),
        "minutes of one core": round(study.rows["seconds"].sum() / 60),
        "torch": study.manifest["versions"]["torch"],
        "drlib sources (SHA-256)": made["sources"][:10],
        "made again by": made["command"],
    }
    return pd.DataFrame({"this study": facts})


def watch_start(seed: int = 0, codewords: int = 24, steps: int = 16) -> Steps:
    """Return the first codewords of a quantizer in the plane, and what the published start and the corrected one make of them."""
    corrected, published = (make_bench(codewords, start=start, seed=seed) for start in STARTS)
    codebooks, names = [published.codebook], ["both, step 0"]
    for bench, name, due in ((published, "published", 1), (published, "published", steps), (corrected, "corrected", steps)):
        bench.step(due - int(bench.quantizer.n_updates))
        codebooks.append(bench.codebook)
        names.append(f"{name}, step {due}")
    return Steps(published.latents, codebooks, names)


def watch_recovery(seed: int = 0, steps: int = 1300) -> pd.DataFrame:
    """Return ``start``, ``seed``, ``step``, ``norm_ratio``, ``used`` of a quantizer with either start.

    Its latents move as those of an encoder that learns, but there is no network: what happens is the moving average alone
    (:mod:`drlib.segmentation.quantizer_trial`).
    """
    tables = []
    for start, settings in STARTS.items():
        with watch_codebook() as seen, one_thread():
            codebook_usage_over_steps(QuantizerSettings(codebook_size=64, codeword_dim=16, **settings), steps, seed)
        kept = np.unique(np.geomspace(1, steps, 60).astype(int)) - 1
        tables.append(pd.DataFrame(seen).iloc[kept].assign(start=start, seed=seed))
    return pd.concat(tables, ignore_index=True)


def recovery_steps(settings: QuantizerSettings) -> float:
    """Return after how many steps a codeword that the published start threw out is back at its first norm.

    A codeword without latents is its first value times decay ** steps, divided by the smoothing of its count.
    """
    return math.log(SMOOTHING) / math.log(settings.ema_decay)


def published_steps() -> int:
    """Return the steps of the paper's training: every slice of 292 patients, in batches of 72, 600 times."""
    paper = load_profile("paper")
    return paper.training.epochs * -(-paper.cohort.n_segmentation * SLICES_OF_BRATS // paper.training.batch_size)


def _judge(differences: pd.Series) -> dict[str, float | str]:
    found = seed_interval(differences)
    change = "higher" if found.low > 0 else "lower" if found.high < 0 else "not clear"
    return {"difference": found.estimate, "low": found.low, "high": found.high, "change": change}


def _cell(row: tuple, measure: str) -> str:
    if measure in ON_LOG_SCALE:
        return (
            f"{row.mean:,.2g} [{row.low:,.2g}, {row.high:,.2g}]" if row.mean < 100 else f"{row.mean:,.0f} [{row.low:,.0f}, {row.high:,.0f}]"
        )
    digits = 1 if measure in CODEBOOK else 2
    return f"{row.mean:.{digits}f} [{row.low:.{digits}f}, {row.high:.{digits}f}]"


def _plain(value: object) -> str:
    return json.dumps(value)
