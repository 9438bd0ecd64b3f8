"""The project copied elsewhere, for tests that execute or build it, and the pages of a built site."""

import shutil
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def copy_project(to: Path) -> Path:
    """Copy what a series and its book are made from, and return the folder."""
    for folder in ("book", "notebooks"):
        shutil.copytree(ROOT / folder, to / folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"), dirs_exist_ok=True)
    for file in ("_config.yml", "_toc.yml", "CITATION.cff"):
        shutil.copy(ROOT / file, to)
    return to


def contents() -> list[str]:
    """Return the pages that the table of contents lists, as addresses within the site, in its order."""

    def listed(entries: list[dict]) -> list[str]:
        return [name for entry in entries for name in (entry["file"], *listed(entry.get("sections", [])))]

    table = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [table["root"], *(name for part in table["parts"] for name in listed(part["chapters"]))]
    return [f"{file}.html" for file in files]


def pages(site: Path) -> list[Path]:
    """Return the pages of the book in a built site: the texts, then the chapters."""
    return [page for folder in ("book", "notebooks") for page in sorted((site / folder).glob("*.html"))]
