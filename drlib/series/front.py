"""The first page's picture and cards: one patient on the way through the method, and the headline numbers with their verdicts."""

import html
import math

import pandas as pd

from drlib.figures.verdict import VERDICTS
from drlib.figures.words import say_interval

CARDS = (  # claim, what is asked, what the number is
    ("dice_WT", "Do codewords draw the tumour?", "Dice of the whole tumour"),
    ("grading_accuracy", "Do their counts grade it?", "five-fold accuracy, our protocol"),
    ("codewords_minus_true_volumes_auc", "Better than three volumes?", "AUC of codewords less AUC of volumes"),
    ("scanner_robustness", "Do the counts survive a scanner?", "accuracy lost under the worst artefact"),
    ("hgg_region_difference", "Do HGG codewords sit in enhancing tumour?", "change per voxel, ET less NET"),
    ("lgg_region_difference", "Do LGG codewords sit in the non-enhancing core?", "change per voxel, NET less ET"),
)


def headline_cards(claims: pd.DataFrame) -> str:
    """Return the headline claims as a list of cards in HTML: what was asked, our value with its interval, the paper's, the verdict.

    ``claims``: the ledger of :func:`drlib.series.claims.read_claims`. A claim that the ledger lacks has no card.
    """
    ledger = claims.set_index("id")
    cards = [_card(ledger.loc[claim], *words) for claim, *words in CARDS if claim in ledger.index]
    return '<ul class="dr-cards">\n' + "\n".join(cards) + "\n</ul>"


def _card(row: pd.Series, asked: str, measure: str) -> str:
    value, _, interval = _value(row).partition(" ")
    paper = f"paper {row['paper']:.2f}" if isinstance(row["paper"], float) and not math.isnan(row["paper"]) else "not in the paper"
    page, word = html.escape(f"../{row['evidence']}", quote=True), row["verdict"]
    return (
        f'<li><a class="dr-card" href="{page}"><span class="dr-asked">{html.escape(asked)}</span>'
        f'<span class="dr-value">{value}</span> <span class="dr-interval">{interval}</span>'
        f'<span class="dr-measure">{html.escape(measure)}; {paper}</span>'
        f'<span class="dr-verdict" data-verdict="{word}">{VERDICTS[word][1]} {word}</span></a></li>'
    )


def _value(row: pd.Series) -> str:
    if not isinstance(row["ours"], (int, float)) or math.isnan(row["ours"]):
        return str(row["ours"] or "–")
    low, high = row["interval"] or (math.nan, math.nan)
    return say_interval(row["ours"], low, high)
