"""The layers of the package (pyproject.toml, tool.importlinter) and the rules that hold for all of its code."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_imports_point_one_way_only():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_code_keeps_the_style():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_library_does_not_print():
    speaking = {"series/cli/output.py", "series/execute.py"}  # what they print is their purpose
    found = [path for path in (ROOT / "drlib").rglob("*.py") if re.search(r"\bprint\(", path.read_text(encoding="utf-8"))]
    assert {str(path.relative_to(ROOT / "drlib")) for path in found} <= speaking


def test_command_line_starts_without_the_heavy_packages():
    code = "import sys, drlib, drlib.series.cli; print([m for m in ('torch', 'pandas', 'matplotlib', 'zarr') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
