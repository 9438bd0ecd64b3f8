"""The two tables a cohort may come with: BraTS's own ``name_mapping*.csv`` and a manifest for folders of any other form (Source: ours)."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drlib.cohort.problems import CohortError
from drlib.cohort.regions import GRADES, MODALITIES

MANIFEST_COLUMNS = ("patient", *MODALITIES)  # and seg, grade: optional
MAPPED_ID = re.compile(r"brats\D*\d\d.*id", re.IGNORECASE)  # BraTS_2019_subject_ID, BraTS20ID and their like
NOTHING = ("", "na", "n/a", "nan", "none", "unknown", "-")


@dataclass(frozen=True)
class ManifestRow:
    """One row of a manifest; ``files`` holds t1, t1ce, t2, flair and seg as far as their cells are filled, relative to the manifest."""

    patient: str
    files: dict[str, Path]
    grade: str | None


def read_manifest(path: Path) -> list[ManifestRow]:
    """Read a manifest: columns patient, t1, t1ce, t2, flair and, optionally, seg and grade, in any order and case.

    Commas, semicolons or tabs separate; a byte-order mark is accepted; paths are relative to the manifest.
    Raises CohortError naming every row that cannot be used and how to mend it.
    """
    rows, complaints = [], []
    for line, cells in _read_table(path, required=MANIFEST_COLUMNS):
        try:
            rows.append(_manifest_row(path.parent, cells))
        except ValueError as error:
            complaints.append(f"row {line}: {error}")
    if complaints:
        raise CohortError(f"{path}: {'; '.join(complaints)}")
    if not rows:
        raise CohortError(f"{path}: the manifest has a header but no patient. Add one row per patient")
    return rows


def read_grades(path: Path) -> dict[str, str]:
    """Return the grade of each id (in lower case) of a ``name_mapping*.csv``: columns Grade and any number of BraTS_20xx_subject_ID.

    A table without these columns (some BraTS years have no grades) yields nothing. Raises CohortError as `read_manifest`.
    """
    grades, complaints = {}, []
    for line, cells in _read_table(path):
        try:
            grade = parse_grade(cells.get("grade", ""))
        except ValueError as error:
            complaints.append(f"row {line}: {error}")
            continue
        ids = {value.lower() for column, value in cells.items() if MAPPED_ID.fullmatch(column) and value.lower() not in NOTHING}
        for patient in ids if grade else ():
            if grades.setdefault(patient, grade) != grade:
                complaints.append(f"row {line}: {patient} is {grade} here and {grades[patient]} in an earlier row. Keep one of the two")
    if complaints:
        raise CohortError(f"{path}: {'; '.join(complaints)}")
    return grades


def parse_grade(text: str) -> str | None:
    """Return LGG, HGG, or None for an empty cell. Raises ValueError for anything else."""
    if text.strip().lower() in NOTHING:
        return None
    if text.strip().upper() not in GRADES:
        raise ValueError(f"the grade is {text!r}, where LGG, HGG or an empty cell was due")
    return text.strip().upper()


def _manifest_row(folder: Path, cells: dict[str, str]) -> ManifestRow:
    if not cells["patient"]:
        raise ValueError("the cell 'patient' is empty. Give every patient an id")
    files = {name: folder / cells[name] for name in (*MODALITIES, "seg") if cells.get(name)}
    return ManifestRow(cells["patient"], files, parse_grade(cells.get("grade", "")))


def _read_table(path: Path, required: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, column in lower case -> stripped cell) of every row that is not empty."""
    text = _read_text(path)
    first_line = text.partition("\n")[0]
    separator = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise CohortError(f"{path}: row {reader.line_num} cannot be read as CSV ({error}). Check its quotes") from error
    columns = [name.lower() for name in lines[0][1]] if lines else []
    if missing := [name for name in required if name not in columns]:
        due = ", ".join(required)
        raise CohortError(f"{path}: row 1 lacks the columns {', '.join(missing)} (due are {due}, and optionally seg, grade)")
    if repeated := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise CohortError(f"{path}: row 1 has the column {', '.join(repeated)} more than once. Keep one")
    rows = [(line, cells) for line, cells in lines[1:] if any(cells)]
    if bad := [str(line) for line, cells in rows if len(cells) != len(columns)]:
        raise CohortError(f"{path}: row {', '.join(bad)}: not {len(columns)} cells as in row 1. Quote cells that contain {separator!r}")
    return [(line, dict(zip(columns, cells, strict=True))) for line, cells in rows]


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CohortError(f"{path}: the table cannot be read ({error.strerror}). Check that it exists and that you may read it") from error
    except UnicodeDecodeError as error:
        row = path.read_bytes()[: error.start].count(b"\n") + 1
        raise CohortError(f"{path}: row {row} is not UTF-8 text. Save the table as CSV (UTF-8)") from error
    if not text.strip():
        raise CohortError(f"{path}: the table is empty. Its first row names the columns: {', '.join(MANIFEST_COLUMNS)}, seg, grade")
    return text
