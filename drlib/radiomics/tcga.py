"""The radiomic feature table of the TCGA gliomas, if the reader has it: 102 glioblastomas and 65 lower-grade gliomas.

Bakas et al. 2017, Scientific Data 4:170117; The Cancer Imaging Archive, CC BY 3.0. It does not come with the library.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from drlib.errors import DeepRadiomicsError

FILES = {"HGG": "TCGA_GBM_radiomicFeatures.csv", "LGG": "TCGA_LGG_radiomicFeatures.csv"}
VOLUMES = {"NET": "VOLUME_NET", "ED": "VOLUME_ED", "ET": "VOLUME_ET"}  # mm3
NOT_NUMBERS = ("#DIV/0!", "#NUM!", "#VALUE!", "#N/A", "Inf", "inf", "-Inf", "-inf", "NA", "NaN", "nan", "")  # of spreadsheets
PUBLISHED_PATIENTS = {"HGG": 102, "LGG": 65}
SITES = {
    "HGG": ("02", "06", "08", "12", "14", "19", "76"),
    "LGG": ("CS", "DU", "FG", "HT"),
}  # second part of a TCGA barcode, as TCGA-02-0001
LARGEST_MISSING_SHARE = 0.2  # of the patients; the parameters of a growth model are missing in most


class TableError(DeepRadiomicsError):
    """The feature table is incomplete or not what it should be; the message names file and column."""


@dataclass(frozen=True)
class TcgaTable:
    """A row per patient (index: its id).

    ``features``: every numeric column that at least 80 % of the patients have (NaN where a cell holds no number, as of a region that
    the patient lacks); ``volumes``: NET, ED, ET in cm3, of the experts' masks; ``grades``: HGG (GBM) or LGG; ``cleaned``: cells that
    held words such as ``#DIV/0!`` or ``Inf`` and count as missing.
    """

    features: pd.DataFrame
    volumes: pd.DataFrame
    grades: pd.Series
    cleaned: int


def find_tcga(folder: Path | None) -> Path | None:
    """Return the folder that holds both FILES: ``folder`` or one below it; None where there is none."""
    if folder is None or not Path(folder).is_dir():
        return None
    found = sorted(path.parent for path in Path(folder).rglob(FILES["HGG"]) if (path.parent / FILES["LGG"]).is_file())
    return found[0] if found else None


def read_tcga(folder: Path) -> TcgaTable:
    """Read the two tables.

    Raises TableError naming file, column or patient where one is missing, doubled, negative or no number, where a file was cut, or where
    the two have changed places.
    """
    tables = {grade: _read(Path(folder) / name) for grade, name in FILES.items()}
    _check_patients(tables)
    different = tables["HGG"].columns.symmetric_difference(tables["LGG"].columns)
    if len(different):
        raise TableError(
            f"{FILES['HGG']} and {FILES['LGG']} have different columns: {', '.join(different[:5])}; take both from one release"
        )
    text = pd.concat(tables.values())
    if text.index.has_duplicates:
        raise TableError(f"{text.index[text.index.duplicated()][0]} occurs twice in {FILES['HGG']} and {FILES['LGG']}")
    values, cleaned = _as_numbers(text)
    volumes = values[list(VOLUMES.values())].set_axis(list(VOLUMES), axis=1) / 1000
    for region, column in VOLUMES.items():
        if not (volumes[region] >= 0).all():
            patient = volumes.index[~(volumes[region] >= 0)][0]
            raise TableError(f"{_file_of(patient, tables)}, column {column}: {patient} has no volume of 0 or more; mend or remove that row")
    grades = pd.Series(np.repeat(list(tables), [len(table) for table in tables.values()]), index=text.index, name="grade")
    often_there = values.isna().mean() <= LARGEST_MISSING_SHARE
    return TcgaTable(values.loc[:, often_there], volumes, grades, cleaned)


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise TableError(f"{path} is missing; both {' and '.join(FILES.values())} are needed")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise TableError(f"{path} cannot be read as a table ({error}); copy it again from The Cancer Imaging Archive") from error
    missing = [column for column in ("ID", *VOLUMES.values()) if column not in table]
    if missing:
        raise TableError(f"{path} has no column {missing[0]}; it is not the table of radiomic features of Bakas et al. 2017")
    nameless = table.index[table["ID"].str.strip() == ""]
    if short := _short_row(path):
        raise TableError(f"{path} was cut: row {short} ends early. Copy it again from The Cancer Imaging Archive")
    if table.empty or len(nameless):
        raise TableError(f"{path} has {'no patient' if table.empty else f'no ID in row {nameless[0] + 2}'}; copy it again")
    return table.set_index("ID").drop(columns="Date", errors="ignore")


def _short_row(path: Path) -> int | None:
    """Return the number of the first line with fewer cells than the first; pandas would take it for a line of empty cells."""
    with open(path, newline="", encoding="utf-8") as file:
        widths = [len(row) for row in csv.reader(file)]
    return next((number for number, width in enumerate(widths, start=1) if 0 < width < widths[0]), None)


def _check_patients(tables: dict[str, pd.DataFrame]) -> None:
    """Refuse tables that have changed places, and those of the release that lack patients; tables of other patients are their reader's."""
    for grade, other in (("HGG", "LGG"), ("LGG", "HGG")):
        sites = tables[grade].index.str.split("-").str[1]
        strange = tables[grade].index[sites.isin(SITES[other])]
        if len(strange):
            raise TableError(f"{FILES[grade]} holds {strange[0]}, who is in {FILES[other]} as released: the two have changed places")
        n, due = len(sites), PUBLISHED_PATIENTS[grade]
        if sites.isin(SITES[grade]).all() and n < due:
            raise TableError(f"{FILES[grade]} was cut: it holds {n} of its {due} patients. Copy it again from The Cancer Imaging Archive")


def _as_numbers(text: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    stripped = text.apply(lambda column: column.str.strip())
    no_number = stripped.isin(NOT_NUMBERS)
    values = stripped.mask(no_number).apply(pd.to_numeric, errors="coerce")
    odd = values.isna() & ~no_number
    if odd.any(axis=None):
        column = odd.columns[odd.any()][0]
        patient = odd.index[odd[column]][0]
        raise TableError(f"column {column}: {patient} has {stripped.loc[patient, column]!r}, where a number was due")
    return values.replace([np.inf, -np.inf], np.nan), int(
        (no_number & (stripped != "") & ~stripped.isin(("NA", "NaN", "nan"))).sum(axis=None)
    )


def _file_of(patient: str, tables: dict[str, pd.DataFrame]) -> str:
    return next(FILES[grade] for grade, table in tables.items() if patient in table.index)
