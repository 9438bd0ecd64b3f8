"""An item of a checklist: what it asks, in our words, and what can be answered when."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["met", "partly", "not met", "not applicable"]


@dataclass(frozen=True)
class Answer:
    """How an item is met, or why it is not.

    Attributes:
        status: one of the four words.
        says: evidence or reason; ``{name}`` stands for a fact of the run (:class:`drlib.series.reporting.facts.Facts`).
        at: places in the book, comma-separated, of :mod:`drlib.series.reporting.places`; empty where nothing is to be seen.
        when: conditions on the run, comma-separated; empty: always.
    """

    status: Status
    says: str
    at: str = ""
    when: str = ""


@dataclass(frozen=True)
class Item:
    """What a checklist asks. Its answer is the first of ``answers`` whose condition holds.

    Attributes:
        number: as published.
        topic: what is asked, in our words.
        answers: the last one holds always.
        weight: of METRICS; None elsewhere.
    """

    number: str
    topic: str
    answers: tuple[Answer, ...]
    weight: float | None = None


@dataclass(frozen=True)
class Checklist:
    """A published checklist.

    Attributes:
        name: as its authors call it. ``key``: for file names and links.
        source: the publication, with DOI.
        checked: what its numbers and topics were compared with.
        sections: heading -> items, in the published order.
    """

    name: str
    key: str
    source: str
    checked: str
    sections: dict[str, tuple[Item, ...]]

    @property
    def items(self) -> list[Item]:
        """Every item, in order."""
        return [item for items in self.sections.values() for item in items]


def item(number: str | int, topic: str, *answers: Answer, weight: float | None = None) -> Item:
    """Return an item; its last answer must hold always."""
    assert answers and not answers[-1].when, f"item {number}: no answer holds always"
    return Item(str(number), topic, answers, weight)


def met(says: str, at: str = "", when: str = "") -> Answer:
    """The item is met, in full."""
    return Answer("met", says, at, when)


def partly(says: str, at: str = "", when: str = "") -> Answer:
    """A part of the item is met; ``says`` names the part that is not."""
    return Answer("partly", says, at, when)


def unmet(says: str, at: str = "", when: str = "") -> Answer:
    """The item is not met; ``says`` gives the reason."""
    return Answer("not met", says, at, when)


def not_applicable(says: str, at: str = "", when: str = "") -> Answer:
    """The item asks for something that this work does not have; ``says`` names it."""
    return Answer("not applicable", says, at, when)
