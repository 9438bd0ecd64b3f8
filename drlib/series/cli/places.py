"""Paths that a user gives: refused before anything is computed where nothing can be written to them."""

import os
from pathlib import Path

import typer

from drlib.errors import DeepRadiomicsError

TABLE_SUFFIXES = (".parquet", ".csv")


class PlaceError(DeepRadiomicsError):
    """Results cannot be written where the user wants them; the message says where they can."""


def shown(path: Path, folder: Path | None = None) -> str:
    """Return a path relative to ``folder`` (the current one) where it lies below, as it is elsewhere."""
    folder = folder or Path.cwd()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def check_folder(folder: Path, data: Path | None = None) -> None:
    """Raise PlaceError where ``folder`` cannot be made or written to, or lies inside the folder ``data`` of patients."""
    _check(Path(folder), Path(folder), data)


def check_table(table: Path, data: Path) -> None:
    """Raise BadParameter for another suffix than TABLE_SUFFIXES, PlaceError where ``table`` is a folder or cannot be written."""
    if table.suffix not in TABLE_SUFFIXES:
        raise typer.BadParameter(f"{table}: the table is written as .parquet or .csv; end its name in one of them", param_hint="--out")
    if table.is_dir():
        raise PlaceError(f"{table} is a folder, where a file was due. Give another name, such as {table / 'features.csv'}")
    _check(table, table.parent, data)


def _check(given: Path, folder: Path, data: Path | None) -> None:
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise PlaceError(f"{given}: {there} is a file, where a folder was due. Give another name, or move that file away")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PlaceError(f"{given}: you may not write to {there}. Give a folder of your own, or have its permissions changed")
    if data is not None and Path(data).is_dir() and folder.resolve().is_relative_to(Path(data).resolve()):
        raise PlaceError(f"{given} lies inside the patients' folder {data}: results must not mix with data. Give a folder outside it")
