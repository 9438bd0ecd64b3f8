"""How to cite: ``CITATION.cff`` as two BibTeX entries, of the book and of the paper whose argument it runs."""

from pathlib import Path

import yaml


def bibtex_entries(path: Path) -> tuple[str, str]:
    """Return the BibTeX entries of the book and of the paper, from a ``CITATION.cff`` with a ``preferred-citation``."""
    book = yaml.safe_load(path.read_text(encoding="utf-8"))
    paper = book["preferred-citation"]
    of_book = {"title": book["title"], "author": _authors(book), "version": book["version"], "url": book["repository-code"]}
    of_paper = {"title": paper["title"], "author": _authors(paper), "journal": paper["journal"], "volume": paper["volume"]}
    of_paper |= {"pages": paper["start"], "year": paper["year"], "doi": paper.get("doi")}
    first = paper["authors"][0]["family-names"].lower()
    return _entry("software", "deep_radiomics", of_book), _entry("article", f"{first}{paper['year']}", of_paper)


def _authors(work: dict) -> str:
    """Return the authors as BibTeX wants them: a group's name in braces of its own."""
    names = [f"{{{one['name']}}}" if "name" in one else f"{one['family-names']}, {one['given-names']}" for one in work["authors"]]
    return " and ".join(names)


def _entry(kind: str, key: str, fields: dict) -> str:
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
    return f"@{kind}{{{key},\n" + ",\n".join(lines) + "\n}"
