"""How the work is reported: three checklists and a model card, generated from a run, and the notice on everything that shows predictions.

What a checklist asks is data (:mod:`claim`, :mod:`tripod_ai`, :mod:`metrics_score`: number, topic in our words, and what holds when);
what a run can answer is read from its stages and its ledger of claims (:mod:`facts`). Another cohort gives other answers.
"""

from drlib.series.reporting.checklists import (
    CHECKLISTS,
    answer_checklist,
    checklist_page,
    heaviest_gaps,
    metrics_score,
    tally_checklists,
    unmet_items,
    unmet_page,
)
from drlib.series.reporting.facts import Facts, read_facts
from drlib.series.reporting.model_card import card_page, describe_model, write_model_card

__all__ = [
    "CHECKLISTS",
    "Facts",
    "answer_checklist",
    "card_page",
    "checklist_page",
    "describe_model",
    "heaviest_gaps",
    "metrics_score",
    "read_facts",
    "tally_checklists",
    "unmet_items",
    "unmet_page",
    "write_model_card",
]
