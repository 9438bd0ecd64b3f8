"""The claims ledger: what the paper says, what this run found, and what follows.

Each chapter records its claims; the verdict chapter gathers them into ``claims.json``.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import pandas as pd

from drlib.artifacts import ArtifactError, write_json
from drlib.series.run import Run, project_root

HEADLINE = (  # claims on the front page
    *("dice_WT", "dice_TC", "grading_accuracy", "grading_accuracy_published_protocol", "grading_auc", "volume_baseline_accuracy"),
    *("codewords_minus_true_volumes_auc", "difference_ratio_shift_1.0", "hgg_region_top", "lgg_region_top"),
)
RECORDING = ("03", "05", "06", "07", "08", "08b", "09")  # chapters that record claims
Verdict = Literal["holds", "holds with correction", "does not hold", "cannot be tested here"]


@dataclass(frozen=True)
class Claim:
    """One statement of the paper beside what was found.

    Attributes:
        id: stable name, for example ``grading_auc``.
        claim: the statement in words.
        paper: the published value; None where the paper gives none.
        ours: the value of this run; None where it could not be computed.
        interval: 95 % interval ``(low, high)`` of ``ours``; None where there is none.
        n: number of patients behind ``ours``, or of what ``unit`` says (simulated cohorts, seeds).
        verdict: one of the four words; see :func:`judge`.
        cohort, profile: what ``ours`` comes from where it is not the run: a study or a simulation has cohorts of its own.
        evidence: the label, in the chapter's notebook, of the section that shows it; empty: the chapter's beginning.
    """

    id: str
    claim: str
    paper: float | str | None
    ours: float | str | None
    interval: tuple[float, float] | None
    n: int
    verdict: Verdict
    evidence: str = ""
    unit: str = "patients"
    cohort: str | None = None
    profile: str | None = None


def judge(
    paper: float | None, ours: float | None, interval: tuple[float, float] | None, better: Literal["higher", "lower"] = "higher"
) -> Verdict:
    """Return ``holds`` where ours is at least as good as the published value or its interval reaches it, both at two digits as printed.

    ``cannot be tested here`` where either number is missing. Source: ours; the rule is printed in the verdict chapter.
    """
    if paper is None or ours is None or pd.isna(ours):
        return "cannot be tested here"
    low, high = interval if interval is not None else (ours, ours)
    reached = round(high, 2) >= round(paper, 2) if better == "higher" else round(low, 2) <= round(paper, 2)
    return "holds" if reached else "does not hold"


def judge_interval(interval: tuple[float, float] | None, question: Literal["above", "below", "covers"], value: float) -> Verdict:
    """Return whether a statement without a published value holds: all of our interval lies above (below) ``value``, or covers it.

    ``cannot be tested here`` where there is no interval. A difference whose interval holds 0 is a difference that was not shown.
    Source: ours.
    """
    if interval is None or any(map(pd.isna, interval)):
        return "cannot be tested here"
    low, high = interval
    return "holds" if {"above": low > value, "below": high < value, "covers": low <= value <= high}[question] else "does not hold"


def made_elsewhere(claims: Iterable[Claim], cohort: str, unit: str = "patients", profile: str | None = None) -> list[Claim]:
    """Return ``claims`` as those of another cohort than the run's: a study, a simulation, or the paper's own numbers."""
    return [replace(claim, cohort=cohort, unit=unit, profile=profile) for claim in claims]


def record_claims(run: Run, chapter: str, claims: Iterable[Claim]) -> pd.DataFrame:
    """Write a chapter's claims to the run's folder and return them as a table."""
    rows = [_plain(claim, run, chapter) for claim in claims]
    write_json(run.folder / "claims" / f"{chapter}.json", rows)
    return pd.DataFrame(rows)


def gather_claims(run: Run, chapters: Sequence[str] = RECORDING) -> pd.DataFrame:
    """Write ``claims.json`` from what the chapters recorded, in their order, and return it as a table.

    Raises ArtifactError naming those of ``chapters`` that have recorded nothing yet.
    """
    missing = [chapter for chapter in chapters if not (run.folder / "claims" / f"{chapter}.json").is_file()]
    if missing:
        raise ArtifactError(f"chapters that have recorded no claims yet: {', '.join(missing)}. Execute them with: {run.command(*missing)}")
    rows = [row for path in sorted((run.folder / "claims").glob("*.json")) for row in json.loads(path.read_text())]
    write_json(run.folder / "claims.json", rows)
    return _table(rows)


def read_claims(run: Run) -> pd.DataFrame:
    """Return the ledger that :func:`gather_claims` wrote; missing values are None. Raises ArtifactError where it is not there yet."""
    ledger = run.folder / "claims.json"
    if not ledger.is_file():
        raise ArtifactError(f"{ledger} is not there yet. Make it with: {run.command('99')}")
    return _table(json.loads(ledger.read_text(encoding="utf-8")))


def split_claims(claims: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the claims for which the paper gives a value, and the others."""
    stated = claims["paper"].notna()
    return claims[stated], claims[~stated]


def count_verdicts(claims: pd.DataFrame, *verdicts: Verdict) -> int:
    """Return how many claims have one of these verdicts."""
    return int(claims["verdict"].isin(verdicts).sum())


def _table(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype(object).where(pd.DataFrame(rows).notna(), None)


def headline(claims: pd.DataFrame) -> str:
    """Return the front page's summary in Markdown: whose numbers they are, and the main claims that are numbers, paper's value beside ours.

    Which region is highest is no number, and says nothing of how clearly: that is in the cards (:mod:`drlib.series.front`).
    """
    lines = []
    shown = claims[claims["id"].isin(HEADLINE) & claims["ours"].map(lambda value: isinstance(value, (int, float)))]
    for row in shown.itertuples():
        interval = "" if row.interval is None else " [{:.2f}, {:.2f}]".format(*row.interval)
        told = "–" if row.verdict == "cannot be tested here" else row.verdict  # a description: there is nothing to hold
        line = f"| {row.claim} | {_shown(row.paper)} | {_shown(row.ours)}{interval} | {told} |"
        lines.append(line.replace("-0.", "\N{MINUS SIGN}0."))
    first, n = shown.iloc[0], int(shown["n"].max())
    whose = "synthetic patients (phantoms)" if first["cohort"] == "phantom" else f"patients of the cohort {first['cohort']}"
    return "\n".join(
        [
            f"Computed on {n} graded {whose}, profile `{first['profile']}`; brackets are 95 % intervals over patients. The paper's "
            "patients are those of BraTS.",
            "",
            "| claim | paper | here | verdict |",
            "|:--|--:|--:|:--|",
            *lines,
            "",
            _caveat(claims),
        ]
    )


def _caveat(claims: pd.DataFrame) -> str:
    """Return what the studies found about the intervals, where they are in the ledger."""
    ours = claims.set_index("id")["ours"].to_dict()
    covered, unanimous = ours.get("null_auc_coverage"), ours.get("verdicts_unanimous")
    if covered is None or unanimous is None:
        return ""
    return (
        f"The intervals are those of one training, and too narrow: in {{ref}}`trials with a known truth <known-truth-null>` "
        f"{100 * covered:.0f} % of those of the AUC held it, where 95 % were due, and {{ref}}`runs with other seeds <chapter-stability>` "
        f"agree on the verdict of only {100 * unanimous:.0f} % of the claims.\n"
    )


def _shown(value: float | str | None) -> str:
    return "–" if value is None or value != value else value if isinstance(value, str) else f"{value:.2f}"


def _plain(claim: Claim, run: Run, chapter: str) -> dict:
    row = asdict(claim)
    made_from = {"cohort": row.pop("cohort") or run.cohort_name, "profile": row.pop("profile") or run.profile.name}
    row["paper"], row["ours"] = _number(claim.paper), _number(claim.ours)
    row["interval"] = None if claim.interval is None or any(map(pd.isna, claim.interval)) else [float(x) for x in claim.interval]
    row["n"] = int(claim.n)
    head = {"id": row.pop("id"), "chapter": chapter}
    verdict, label = row.pop("verdict"), row.pop("evidence")
    page = next((project_root() / "notebooks").glob(f"{chapter}_*.ipynb"), None)
    evidence = None if page is None else f"notebooks/{page.stem}.html" + (f"#{label}" if label else "")
    return head | row | made_from | {"verdict": verdict, "evidence": evidence}


def _number(value: float | str | None) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    return None if pd.isna(value) else float(value)
