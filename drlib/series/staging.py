"""What readers see of an executed notebook: parameters, captioned figures, tables to download, and no folder of this computer.

A figure of :mod:`drlib.figures` leaves its cell and becomes a numbered figure with its own caption, as an SVG file beside a PNG; a table
keeps its place and gets a CSV file of full precision.
"""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path

import nbformat
from matplotlib.figure import Figure
from nbformat import NotebookNode

from drlib.series.images import place_images
from drlib.series.workflow import Series

PARAMETERS, INJECTED = "parameters", "injected-parameters"
SHOWN_PARAMETERS = ("profile", "seed")  # the others are folders of whoever ran it
EMPTY = "<p>None in this run: the table has no row.</p>"
FIGURE = """```{{figure}} /book/_generated/figures/{name}.svg
:name: {name}
:alt: {alt}

**{finding}** {reading}
```"""


def stage_notebook(series: Series, name: str, site: Path, publish_images: bool = False) -> None:
    """Write the chapter ``name`` as readers shall see it to ``site``, its figures and tables to ``site/book/_generated``."""
    notebook = tidy_notebook(nbformat.read(series.executed(name), as_version=4), series)
    notebook = place_images(notebook, series, publish_images)
    notebook = take_figures(notebook, name, site / "book" / "_generated" / "figures")
    take_tables(notebook, name, site / "book" / "_generated" / "tables")
    nbformat.write(notebook, site / "notebooks" / f"{name}.ipynb")


def tidy_notebook(notebook: NotebookNode, series: Series) -> NotebookNode:
    """Return an executed notebook with the parameters that were used, imports folded, glue left out, and no folder of this computer."""
    injected = [cell for cell in notebook.cells if INJECTED in cell.metadata.get("tags", [])]
    notebook.cells = [cell for cell in notebook.cells if cell not in injected]
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if PARAMETERS in cell.metadata.get("tags", []):
            cell.source = _shown_parameters(cell.source, series)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    _fold_imports(notebook)
    _leave_glue_out(notebook)
    notebook.metadata.pop("papermill", None)
    text = nbformat.writes(notebook)
    for folder in (series.root, series.run.folder.parent, Path.home()):
        quoted = json.dumps(str(folder))[1:-1]
        text = text.replace(quoted + "/", "").replace(quoted, ".")
    return nbformat.reads(text, as_version=4)


def take_figures(notebook: NotebookNode, chapter: str, folder: Path) -> NotebookNode:
    """Return ``notebook`` with each figure as a Markdown cell behind the cell that drew it; SVG and PNG are written to ``folder``.

    A figure is called as its cell says (``mystnb.figure.name``) or by chapter and position.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        found = [output for output in cell.get("outputs", []) if "drlib" in output.get("metadata", {})]
        if not found:
            continue
        named = cell.metadata.pop("mystnb", {}).get("figure", {}).get("name")
        cell.outputs = [output for output in cell.outputs if output not in found]
        for number, output in enumerate(found):
            name = f"{named}-{number}" if named and number else named or f"fig-{chapter.replace('_', '-')}-{len(cells)}"
            _write_figure(output.data, folder / name)
            cells.append(nbformat.v4.new_markdown_cell(_figure_source(name, output.metadata["drlib"])))
    notebook.cells = cells
    return notebook


def take_tables(notebook: NotebookNode, chapter: str, folder: Path) -> None:
    """Write the frames that ``notebook`` shows to ``folder`` as CSV of full precision, and name the file in the table."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            values = data.pop("text/csv", "")
            if "<table" not in data.get("text/html", "") or not values:
                continue
            if re.search(r"<tbody>\s*</tbody>", data["text/html"]):
                data["text/html"] = EMPTY
                continue
            number += 1
            name = f"{chapter}_table_{number}.csv"
            (folder / name).write_text(values, encoding="utf-8")
            data["text/html"] = data["text/html"].replace("<table", f'<table data-csv="{name}"', 1)


def stage_figure(figure: Figure, name: str, folder: Path) -> str:
    """Write ``figure`` to ``folder`` as a notebook's output would be, and return its Markdown."""
    data, metadata = figure._repr_mimebundle_()
    _write_figure(data, folder / name)
    return _figure_source(name, metadata["drlib"])


def _write_figure(data: Mapping[str, str], path: Path) -> None:
    path.with_suffix(".svg").write_text(data["image/svg+xml"], encoding="utf-8")
    path.with_suffix(".png").write_bytes(base64.b64decode(data["image/png"]))


def _figure_source(name: str, words: dict[str, str]) -> str:
    return FIGURE.format(name=name, alt=" ".join(words["alt"].split()), finding=_plain(words["finding"]), reading=_plain(words["reading"]))


def _plain(text: str) -> str:
    """Return ``text`` as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_$\[\]{}<>])", r"\\\1", " ".join(text.split()))


def _fold_imports(notebook: NotebookNode) -> None:
    """Fold the chapter's first cell of imports, so that it opens with its question; in JupyterLab it stays as it is."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and PARAMETERS not in tags:
            if re.match(r"from |import ", cell.source):
                cell.metadata["tags"] = [*tags, "hide-input"]
            return


def _leave_glue_out(notebook: NotebookNode) -> None:
    """Show no line that only hands a number to the text; a cell of such lines alone is not shown at all."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "glue(" in cell.source:
            cell.source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("glue(")).strip()
            if not cell.source:
                cell.metadata["tags"] = sorted({*cell.metadata.get("tags", []), "remove-input"})


def _shown_parameters(source: str, series: Series) -> str:
    values = series.parameters
    lines = source.splitlines()
    for name in SHOWN_PARAMETERS:
        lines = [_assign(line, name, values[name]) for line in lines]
    return "\n".join(lines)


def _assign(line: str, name: str, value: str | int) -> str:
    if line.split("=")[0].strip() != name:
        return line
    _, hash_sign, comment = line.partition("#")
    return f"{name} = {json.dumps(value)}" + (f"  #{comment}" if hash_sign else "")
