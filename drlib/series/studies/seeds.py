"""Every number of the series over several seeds: the chapters are executed for each, and their claims laid beside one another.

A seed draws the phantoms, those that train and those that are graded, the order and augmentation of the slices, the folds, the
permutations and the bootstraps. With a profile that continues from a model that comes with the library, first weights and first codebook
are the same for every seed; that trainings from random weights agree is another question (:mod:`drlib.series.studies.codebooks`).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from drlib.artifacts import build_stage, content_key, open_stage
from drlib.errors import DeepRadiomicsError
from drlib.profiles import Profile, load_profile
from drlib.series.stages import open_cohort
from drlib.series.workflow import Series, run_series

N_SEEDS = 5
COMMAND = "drlib study seeds"
SHIPPED = Path(__file__).parent / "shipped" / "seeds"
NOT_GATHERED = ("08b", "99", "10")  # this study's own chapter, the ledger, and the machine


class StudyError(DeepRadiomicsError):
    """The claims of a seed are not there, or are not those of today's code."""


@dataclass(frozen=True)
class Seeds:
    """What the study found.

    Attributes:
        claims: one row per claim and seed: ``seed``, ``chapter``, ``id``, ``claim``, ``paper``, ``ours`` (as text), ``low``, ``high`` (the
            95 % interval of that seed's run), ``n``, ``verdict``; and ``paper_value``, ``value``: the same as numbers, NaN for a word.
        runs: one row per seed: ``seed``, ``n_training``, ``n_graded``, ``n_LGG``; ``stale``: chapters that were not up to date
            when they were gathered (empty, unless only gathered).
        manifest: what it was made from, with which versions, and the SHA-256 of each table.
    """

    claims: pd.DataFrame
    runs: pd.DataFrame
    manifest: dict[str, Any]

    @property
    def profile(self) -> Profile:
        """The profile of every run."""
        return load_profile(self.manifest["made_from"]["profile"])


def run_seeds(
    folder: Path,
    root: Path,
    profile: str = "demo",
    seeds: Sequence[int] = tuple(range(N_SEEDS)),
    results: str = "results",
    execute: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Seeds:
    """Execute the chapters that make claims for every seed, where they are not up to date, and gather the claims in ``folder/seeds``.

    Killed at any moment, the next call goes on where this one stopped. ``execute`` False: gather only what lies in the folders of the
    runs, and say which chapters are not up to date. Raises StudyError where a seed has no claims, or a chapter failed.
    """
    series = [Series(root, profile, None, results, seed) for seed in seeds]
    for one in series if execute else ():
        say(f"seed {one.seed}")
        outcomes = run_series(one, _claiming(one), say=say)
        if failed := [outcome.name for outcome in outcomes if outcome.state not in ("fresh", "executed")]:
            raise StudyError(f"seed {one.seed}: {', '.join(failed)} did not come to an end; see `drlib status --seed {one.seed}`")
    claims = pd.concat([_read_claims(one) for one in series], ignore_index=True)
    runs = pd.DataFrame([_describe_run(one) for one in series])
    for row in runs[runs["stale"] != ""].itertuples():
        say(f"seed {row.seed}: not up to date: {row.stale}")
    key_parts = {
        "command": f"{COMMAND} --profile {profile} --seeds {len(seeds)}",
        "profile": profile,
        "hash": load_profile(profile).hash,
        "seeds": list(seeds),
        "claims": content_key({"claims": claims.to_csv(index=False), "runs": runs.to_csv(index=False)}),
    }

    def write(partial: Path) -> None:
        claims.to_csv(partial / "claims.csv", index=False)
        runs.to_csv(partial / "runs.csv", index=False)

    return open_seeds(build_stage(Path(folder) / "seeds", key_parts, write))


def open_seeds(folder: Path = SHIPPED) -> Seeds:
    """Return the tables of a finished study, by default those that come with the library, checked against their manifest."""
    manifest = open_stage(folder, repair=COMMAND)
    claims = pd.read_csv(folder / "claims.csv", dtype={"chapter": str, "paper": str, "ours": str}, keep_default_na=False, na_values=[""])
    claims = claims.assign(
        **{name: pd.to_numeric(claims[of], errors="coerce") for name, of in (("paper_value", "paper"), ("value", "ours"))}
    )
    return Seeds(claims, pd.read_csv(folder / "runs.csv", keep_default_na=False), manifest)


def _claiming(series: Series) -> list[str]:
    """Return the numbers of the chapters whose claims are gathered: all that read what a run computes."""
    with_results = {name for name, chapter in series.chapters.items() if chapter.needs or chapter.number == "01"}
    return [chapter.number for name, chapter in series.chapters.items() if name in with_results and chapter.number not in NOT_GATHERED]


def _read_claims(series: Series) -> pd.DataFrame:
    rows = []
    for number in _claiming(series):
        path = series.run.folder / "claims" / f"{number}.json"
        rows += json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    if not rows:
        raise StudyError(f"{series.run.folder} holds no claims; make them with: {COMMAND} --profile {series.profile}")
    return pd.DataFrame([_claim_row(row, series.seed) for row in rows])


def _claim_row(row: dict[str, Any], seed: int) -> dict[str, Any]:
    low, high = row["interval"] or (None, None)
    kept = {name: row[name] for name in ("chapter", "id", "claim")}
    texts = {name: _as_text(row[name]) for name in ("paper", "ours")}
    return {"seed": seed} | kept | texts | {"low": _as_text(low), "high": _as_text(high), "n": row["n"], "verdict": row["verdict"]}


def _as_text(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def _describe_run(series: Series) -> dict[str, Any]:
    cohort = open_cohort(series.run)
    chapters = [name for name, chapter in series.chapters.items() if chapter.number in _claiming(series)]
    stale = [name for name in chapters if series.stale_reason(name)]
    return {
        "seed": series.seed,
        "n_training": len(cohort.segmentation),
        "n_graded": len(cohort.grading),
        "n_LGG": int((cohort.grades == "LGG").sum()),
        "stale": " ".join(stale),
    }
