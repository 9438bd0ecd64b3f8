"""Artifacts: what a stage writes, so that it can be trusted, reused and resumed.

A stage is one folder with a ``manifest.json``: the key (a hash of everything the content depends on), the SHA-256 of each file,
versions and seconds. A stage is built in ``<folder>.partial`` and renamed when complete, so that a killed run leaves either the old
artifact or a resumable partial one, never half of the new. Two processes on one folder: the second waits, then reuses.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from drlib.errors import DeepRadiomicsError

MANIFEST = "manifest.json"
KEY_FILE = "KEY"  # in a partial folder: what it was being built for
PACKAGES_RECORDED = ("drlib", "torch", "numpy", "scipy", "scikit-learn", "statsmodels", "nibabel", "zarr")
SELF_CHECKED_SUFFIXES = (".nii.gz",)  # the CRC of the gzip stream is verified on every read
SELF_CHECKED_FOLDERS = (".zarr",)  # every chunk carries its crc32c


class ArtifactError(DeepRadiomicsError):
    """An artifact is missing, damaged or made with something else; the message ends with the command that repairs it."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk and rename it: all of it or nothing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def remove_temporary_files(folder: Path) -> None:
    """Delete what killed processes left below ``folder`` while they wrote; no other process may be writing there."""
    for path in Path(folder).rglob(".[0-9]*.*"):
        path.unlink()


def write_json(path: Path, content: Any) -> Path:
    """Write ``content`` as readable JSON, atomically. NaN is refused: JSON has no such number."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def content_key(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of ``parts`` (anything JSON can hold)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_hash(*modules: str) -> str:
    """Return a hash of the Python sources of modules or packages of ``drlib`` (``"drlib.cohort"``), whatever their order."""
    digest = hashlib.sha256()
    for module in sorted(modules):
        origin = Path(importlib.util.find_spec(module).origin)
        for path in sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def build_stage(folder: Path, key_parts: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    """Return ``folder`` holding what ``make`` writes for ``key_parts``; make it only where it is not there already.

    ``make`` receives a folder to write to. If an earlier attempt for the same key was killed, that folder still holds what
    the attempt left, so that ``make`` can resume; what was left for another key is removed first.
    """
    folder = Path(folder)
    key = content_key(key_parts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if _is_intact(folder, key):
            return folder
        partial = folder.with_name(folder.name + ".partial")
        if partial.exists() and (not (partial / KEY_FILE).exists() or (partial / KEY_FILE).read_text() != key):
            shutil.rmtree(partial)
        partial.mkdir(exist_ok=True)
        (partial / KEY_FILE).write_text(key)
        start = time.perf_counter()
        make(partial)
        manifest = {
            "stage": folder.name,
            "key": key,
            "made_from": dict(key_parts),
            "seconds": round(time.perf_counter() - start, 1),
            "versions": {name: _version(name) for name in PACKAGES_RECORDED},
            "files": {str(path.relative_to(partial)): _fingerprint(path) for path in _files(partial)},
        }
        write_json(partial / MANIFEST, json.loads(json.dumps(manifest, default=str)))
        (partial / KEY_FILE).unlink()
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    return folder


def open_stage(folder: Path, repair: str) -> dict[str, Any]:
    """Return the manifest of a finished stage after checking every file against it.

    Raises ArtifactError, ending in the command ``repair``, where the stage is missing or a file does not match.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"{folder} is not there yet. Make it with: {repair}")
    manifest = json.loads((folder / MANIFEST).read_text())
    for problem in _damages(folder, manifest):
        raise ArtifactError(f"{folder}: {problem}. Delete that folder and make it again with: {repair}")
    return manifest


def _is_intact(folder: Path, key: str) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return manifest.get("key") == key and not list(_damages(folder, manifest))


def _damages(folder: Path, manifest: Mapping[str, Any]) -> Iterable[str]:
    for name, fingerprint in manifest["files"].items():
        if not (folder / name).is_file():
            yield f"{name} is missing"
        elif _fingerprint(folder / name) != fingerprint:
            yield f"{name} does not match the manifest"


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (MANIFEST, KEY_FILE))


def _fingerprint(path: Path) -> str:
    checked_by_itself = path.name.endswith(SELF_CHECKED_SUFFIXES) or any(part.endswith(SELF_CHECKED_FOLDERS) for part in path.parts)
    return f"{path.stat().st_size} bytes" if checked_by_itself else file_sha256(path)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
