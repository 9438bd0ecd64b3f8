"""The checklists answered from a run: tables, a tally, the METRICS score, and the page that shows them."""

import html
import re

import pandas as pd

from drlib.series.reporting.claim import CLAIM
from drlib.series.reporting.facts import Facts
from drlib.series.reporting.item import Checklist
from drlib.series.reporting.metrics_score import METRICS
from drlib.series.reporting.places import link_to
from drlib.series.reporting.tripod_ai import TRIPOD_AI

CHECKLISTS = {checklist.key: checklist for checklist in (CLAIM, TRIPOD_AI, METRICS)}
SIGNS = {"met": "\N{CHECK MARK}", "partly": "\N{TILDE OPERATOR}", "not met": "\N{MULTIPLICATION SIGN}", "not applicable": "–"}


def answer_checklist(checklist: Checklist, facts: Facts) -> pd.DataFrame:
    """Return a row per item: section, number, topic, status, says, at (places, comma-separated) and weight (METRICS, else None)."""
    rows = []
    for section, items in checklist.sections.items():
        for item in items:
            answer = next(answer for answer in item.answers if facts.holds(answer.when))
            row = {"section": section, "number": item.number, "topic": item.topic, "status": answer.status}
            rows.append(row | {"says": facts.fill(answer.says), "at": answer.at, "weight": item.weight})
    return pd.DataFrame(rows)


def tally_checklists(facts: Facts) -> pd.DataFrame:
    """Return how many items of each checklist (rows) have each status (columns)."""
    counts = {checklist.name: answer_checklist(checklist, facts)["status"].value_counts() for checklist in CHECKLISTS.values()}
    return pd.DataFrame(counts).T.reindex(columns=list(SIGNS)).fillna(0).astype(int).rename_axis("checklist")


def metrics_score(answers: pd.DataFrame) -> float:
    """Return the METRICS score in per cent: the weights of the items that are met over those of all that apply.

    METRICS knows yes and no, so that an item that is met in part counts as no. Source: Kocak et al. 2024, as their online tool does.
    """
    applicable = answers[answers["status"] != "not applicable"]
    return 100 * float(applicable.loc[applicable["status"] == "met", "weight"].sum() / applicable["weight"].sum())


def heaviest_gaps(answers: pd.DataFrame, most: int = 3) -> str:
    """Return the topics of METRICS with the greatest weights that are met in part or not at all, in words."""
    gaps = answers[answers["status"].isin(["partly", "not met"])].nlargest(most, "weight")
    return "; ".join(f"{row.topic[0].lower()}{row.topic[1:]} ({row.status})" for row in gaps.itertuples())


def unmet_items(facts: Facts) -> pd.DataFrame:
    """Return every item that is not met, of all checklists: checklist, item, what it asks for, reason."""
    tables = [answer_checklist(checklist, facts).assign(checklist=checklist.name) for checklist in CHECKLISTS.values()]
    found = pd.concat(tables).query("status == 'not met'")
    return found[["checklist", "number", "topic", "says"]].set_axis(["checklist", "item", "asks for", "reason"], axis="columns")


class Page:
    """HTML that a notebook shows as the value of a cell."""

    def __init__(self, content: str):
        self.content = content

    def _repr_html_(self) -> str:
        return self.content


def unmet_page(facts: Facts) -> Page:
    """Return :func:`unmet_items` as HTML."""
    table = unmet_items(facts).to_html(index=False, border=0, justify="left")
    return Page(f'<div class="checklist-gaps">{table}</div>')


def checklist_page(checklist: Checklist, facts: Facts) -> Page:
    """Return a checklist as HTML: per section a table of number, topic, status, evidence or reason, and links.

    Sections fold; those in which nothing is missing are folded at first.
    """
    answers = answer_checklist(checklist, facts)
    sections = [_section(name, answers[answers["section"] == name], facts) for name in checklist.sections]
    source = f'<p class="checklist-source">{html.escape(checklist.source)}. Topics in our words; {html.escape(checklist.checked)}.</p>'
    return Page(f'<div class="checklist">{"".join(sections)}{source}</div>')


def _section(name: str, answers: pd.DataFrame, facts: Facts) -> str:
    counts = answers["status"].value_counts()
    unfolded = " open" if {"partly", "not met"} & set(counts.index) else ""
    summary = ", ".join(f"{counts[status]} {status}" for status in SIGNS if status in counts)
    head = "<tr><th>item</th><th>asks for</th><th>status</th><th>evidence, or reason</th><th>where</th></tr>"
    rows = "".join(_row(row, facts) for row in answers.itertuples())
    return (
        f"<details{unfolded}><summary><strong>{html.escape(name)}</strong> <span>{summary}</span></summary>"
        f"<table><thead>{head}</thead><tbody>{rows}</tbody></table></details>"
    )


def _row(row, facts: Facts) -> str:
    status = f'<td class="status" data-status="{row.status}">{SIGNS[row.status]} {row.status}</td>'
    weight = "" if pd.isna(row.weight) else f"<br><small>weight {row.weight:.3f}</small>"
    links = ", ".join(_link(place.strip(), facts) for place in row.at.split(",") if place.strip()) or "–"
    said = to_html(row.says)
    return f"<tr><th>{row.number}</th><td>{html.escape(row.topic)}{weight}</td>{status}<td>{said}</td><td>{links}</td></tr>"


def _link(place: str, facts: Facts) -> str:
    address = link_to(place, facts.labels)
    return html.escape(place) if address is None else f'<a href="{address}">{html.escape(place)}</a>'


def to_html(text: str) -> str:
    """Return a line with its ``code`` in backquotes as HTML."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
