"""Where in the book something is said: every link of the checklists leads through this table.

A place has one label or several, the best first; the first one that the project has is taken, so that a section may move or be absent.
"""

import json
import re
from functools import cache
from pathlib import Path

PLACES = {
    "first page": ("intro",),
    "cohort": ("chapter-cohort",),
    "quantizer": ("chapter-quantizer",),
    "segmentation": ("chapter-segmentation",),
    "histograms": ("chapter-histograms",),
    "grading": ("chapter-grading",),
    "models": ("grading-models", "chapter-grading"),
    "differences": ("grading-differences", "chapter-grading"),
    "positive class": ("grading-positive-class", "errata-positive", "deviations-positive", "deviations"),
    "calibration": ("grading-calibration", "chapter-grading"),
    "decision curve": ("grading-decision", "chapter-grading"),
    "robustness": ("chapter-robustness",),
    "scanners": ("robustness-scanners", "chapter-robustness"),
    "ablation": ("chapter-ablation",),
    "locality": ("ablation-local", "chapter-ablation"),
    "known truth": ("chapter-known-truth", "datasheet"),
    "stability": ("chapter-stability", "chapter-grading"),
    "deviations": ("deviations",),
    "verdict": ("chapter-verdict",),
    "datasheet": ("datasheet",),
    "variants": ("datasheet-variants", "datasheet"),
    "unlike life": ("datasheet-limits", "datasheet"),
    "own data": ("own-data",),
    "model card": ("reporting-model-card",),
    "checklists": ("chapter-reporting",),
    "status": ("status",),
}
_LABEL = re.compile(r"^\(([\w-]+)\)=\s*$", re.MULTILINE)


@cache
def find_labels(root: Path) -> dict[str, str]:
    """Return label -> page (``notebooks/05_grading``) for every label in the prose and the notebooks of a project."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted((root / "book").glob("*.md"))}
    pages |= {path: _markdown(path) for path in sorted((root / "notebooks").glob("*.ipynb"))}
    found = {label: str(path.relative_to(root).with_suffix("")) for path, text in pages.items() for label in _LABEL.findall(text)}
    return found | {"status": "book/status"}  # that page is written when the site is built


def link_to(place: str, labels: dict[str, str]) -> str | None:
    """Return the address of a place as seen from a chapter, ``05_grading.html#chapter-grading``; None where no label is there."""
    label = next((label for label in PLACES[place] if label in labels), None)
    if label is None:
        return None
    folder, page = labels[label].split("/")
    return ("" if folder == "notebooks" else f"../{folder}/") + f"{page}.html#{label}"


def _markdown(notebook: Path) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
