"""The notebooks as they are in the repository: stripped, small cells, no code that belongs in the library."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMETERS = {"profile": "demo", "data_dir": None, "results_dir": "results", "seed": 0}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@each_notebook
def test_notebook_is_stored_without_outputs(path):
    command = [
        sys.executable,
        "-m",
        "nbstripout",
        "--verify",
        "--keep-id",
        "--extra-keys",
        "metadata.widgets metadata.papermill",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"strip it: nbstripout --keep-id {path}\n{done.stdout}"


@each_notebook
def test_one_cell_holds_the_parameters(path):
    tagged = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    values: dict = {}
    exec(tagged[0].source, values)
    assert {name: value for name, value in values.items() if name != "__builtins__"} == PARAMETERS


@each_notebook
def test_code_in_cells_is_calls_only(path):
    forbidden = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While, ast.Lambda, ast.Try)
    for cell in code_cells(path):
        assert not re.search(r"^\s*[!%]", cell.source, re.MULTILINE), f"a shell or magic line in:\n{cell.source}"
        found = [type(node).__name__ for node in ast.walk(ast.parse(cell.source)) if isinstance(node, forbidden)]
        assert not found, f"{found} belongs in drlib:\n{cell.source}"


@each_notebook
def test_cells_are_short(path):
    longest = max(code_cells(path), key=lambda cell: cell.source.count("\n"))
    assert longest.source.count("\n") < 15, longest.source


@each_notebook
def test_notebook_begins_with_its_title_and_says_what_it_reads_and_writes(path):
    first = nbformat.read(path, as_version=4).cells[0].source
    assert re.search(r"^# \S", first, re.MULTILINE)
    assert "**Reads**" in first and re.search(r"\*\*Writes\*\*|\*\*Wri", first)
