"""Order and freshness of the chapters: which notebooks have to be executed again, why, and in which order.

A chapter is *fresh* when its executed copy exists and the record beside it holds the same inputs as today: the notebook's text, the
sources of ``drlib``, the profile, the data, the seed, the code of the chapters before it, and the results those chapters left. All of
them are compared by content, so that touching a file or cloning the repository again makes nothing stale. Snakemake then makes what is
missing, in order (``series.smk``).
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat
import yaml
from filelock import FileLock, Timeout

import drlib
from drlib.artifacts import MANIFEST, content_key, file_sha256, write_json
from drlib.errors import DeepRadiomicsError, did_you_mean
from drlib.series.run import STAGE_CHAPTERS, Run, data_fingerprint, open_run, project_root

LOG = "snakemake.log"
ORDER_FILE = "series.yml"  # beside the notebooks: what each chapter needs, and how long it takes
CLUSTERS = Path(__file__).with_name("cluster")  # Snakemake profiles that come with the library, one folder each
# What runs the notebooks and does not enter their results.
ENGINE = ("apply.py", "book.py", "cli", "execute.py", "library.py", "maps.py", "report.py", "workflow.py")


class SeriesError(DeepRadiomicsError):
    """The series cannot be run as asked, or a chapter failed."""


@dataclass(frozen=True)
class Chapter:
    """One notebook of the series.

    Attributes:
        name: file name without suffix, for example ``03_segmentation``.
        needs: names of the chapters whose results it reads.
        minutes: typical duration per profile, for the estimate of a first run.
    """

    name: str
    needs: tuple[str, ...]
    minutes: Mapping[str, float]

    @property
    def number(self) -> str:
        """What stands in front of the name: ``03``, or ``03b`` for a chapter that belongs to it."""
        return self.name.split("_")[0]


def read_chapters(root: Path) -> dict[str, Chapter]:
    """Return the chapters that ``notebooks/series.yml`` lists, in its order, which is also an order of execution.

    Raises SeriesError where the file, a notebook or an earlier chapter that is needed is missing.
    """
    path = Path(root) / "notebooks" / ORDER_FILE
    if not path.is_file():
        raise SeriesError(f"{path} is not there: run this command inside the project's folder, the one that holds notebooks/ and _toc.yml")
    chapters: dict[str, Chapter] = {}
    for name, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        needs = tuple(entry.get("needs", ()))
        if needs == ("all",):
            needs = tuple(chapters)
        for needed in needs:
            if needed not in chapters:
                raise SeriesError(f"{path}: {name} needs {needed!r}, which is not listed before it")
        if not path.with_name(f"{name}.ipynb").is_file():
            raise SeriesError(f"{path} lists {name}, but there is no notebooks/{name}.ipynb")
        chapters[name] = Chapter(name, needs, entry.get("minutes", {}))
    return chapters


@dataclass(frozen=True)
class Series:
    """The notebooks of one project, to be executed with one set of parameters.

    Attributes:
        root: the project's folder, which holds ``notebooks``.
        profile, data_dir, results_dir, seed: the four parameters of every notebook.
    """

    root: Path
    profile: str = "demo"
    data_dir: str | None = None
    results_dir: str = "results"
    seed: int = 0

    @classmethod
    def load(cls, path: Path) -> "Series":
        """Return the series that :meth:`save` wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(**content | {"root": Path(content["root"])})

    def save(self) -> Path:
        """Write the parameters beside the executed notebooks and return the file."""
        return write_json(self.folder / "series.json", asdict(self) | {"root": str(self.root)})

    @cached_property
    def run(self) -> Run:
        """The run that the notebooks open; errors in the parameters show here, before anything is executed."""
        data_dir = None if self.data_dir is None else str(self.root / self.data_dir)
        return open_run(self.profile, data_dir, str(self.root / self.results_dir), self.seed)

    @cached_property
    def chapters(self) -> dict[str, Chapter]:
        """Every chapter, in order."""
        return read_chapters(self.root)

    @property
    def parameters(self) -> dict[str, Any]:
        """What papermill hands to each notebook."""
        return {"profile": self.profile, "data_dir": self.data_dir, "results_dir": self.results_dir, "seed": self.seed}

    @property
    def folder(self) -> Path:
        """Where the executed copies go."""
        return self.root / "build" / "notebooks" / self.run.folder.name

    def notebook(self, name: str) -> Path:
        """The chapter as it is in the repository."""
        return self.root / "notebooks" / f"{name}.ipynb"

    def executed(self, name: str) -> Path:
        """The chapter's executed copy."""
        return self.folder / f"{name}.ipynb"

    def unfinished(self, name: str) -> Path:
        """The copy of a chapter that is being executed or stopped at an error."""
        return self.folder / f"{name}.unfinished.ipynb"

    def read_record(self, name: str) -> dict[str, Any]:
        """Return what is known of the last complete execution: ``inputs``, ``results``, ``seconds``, ``finished``; empty if none."""
        try:
            return json.loads(self._record(name).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def write_record(self, name: str, inputs: Mapping[str, Any], seconds: float, finished: str) -> None:
        """Record a complete execution; to be called before the executed copy gets its final name."""
        record = {"inputs": inputs, "results": self.results(name), "seconds": round(seconds, 1), "finished": finished}
        write_json(self._record(name), record)

    def inputs(self, name: str) -> dict[str, str]:
        """Return the hash of everything a chapter is computed from, by kind."""
        return {
            "the notebook": file_sha256(self.notebook(name)),
            "the drlib sources": self._source_hash,
            "the profile": f"{self.profile} {self.run.profile.hash}",
            "the data": self._data_hash,
            "the seed": str(self.seed),
            "the code of an earlier chapter": content_key({needed: self._code_hash(needed) for needed in self.upstream([name])}),
        }

    def results(self, name: str) -> dict[str, str]:
        """Return a hash of each result that a chapter and those before it have left."""
        numbers = {self.chapters[chapter].number for chapter in (name, *self.upstream([name]))}
        manifests = {stage: self.run.folder / stage / MANIFEST for stage, number in STAGE_CHAPTERS.items() if number in numbers}
        return {stage: content_key(json.loads(path.read_text())["files"]) for stage, path in manifests.items() if path.is_file()}

    def upstream(self, names: Iterable[str]) -> list[str]:
        """Return every chapter that these need, directly or not, in order."""
        needed: set[str] = set()
        waiting = list(names)
        while waiting:
            for name in self.chapters[waiting.pop()].needs:
                if name not in needed:
                    needed.add(name)
                    waiting.append(name)
        return [name for name in self.chapters if name in needed]

    def stale_reason(self, name: str) -> str | None:
        """Return why a chapter has to be executed again, in words; None where its executed copy is fresh."""
        record = self.read_record(name)
        if not record or not self.executed(name).is_file():
            return "not finished the last time" if self.unfinished(name).is_file() else "not executed yet"
        inputs = self.inputs(name)
        changed = [kind for kind, value in inputs.items() if record["inputs"].get(kind) != value]
        today = self.results(name)
        if any(today.get(stage) != value for stage, value in record["results"].items()):
            changed.append("a result")
        return f"{' and '.join(changed)} changed" if changed else None

    def select(self, numbers: Iterable[str]) -> list[str]:
        """Return the chapters named by number or full name (``03`` or ``03_segmentation``) and those they need; all if none is named."""
        wanted = []
        for number in numbers:
            found = [name for name, chapter in self.chapters.items() if number in (chapter.number, name)]
            if not found:
                known = [chapter.number for chapter in self.chapters.values()] + list(self.chapters)
                meant = did_you_mean(number.zfill(2), known)
                raise SeriesError(f"there is no chapter {number!r}; there are {', '.join(self.chapters)}.{meant}")
            wanted += found
        chosen = {*wanted, *self.upstream(wanted)}
        return [name for name in self.chapters if not wanted or name in chosen]

    def expected_seconds(self, name: str) -> float | None:
        """Return how long a chapter took the last time, or typically takes with this profile."""
        seconds = self.read_record(name).get("seconds")
        minutes = self.chapters[name].minutes.get(self.profile.split("+")[0])
        return seconds if seconds is not None else None if minutes is None else 60 * minutes

    def publish_claims(self) -> Path | None:
        """Copy the claims that the verdict chapter gathered to ``build/claims.json``; None where there are none yet."""
        claims = self.run.folder / "claims.json"
        return write_json(self.root / "build" / "claims.json", json.loads(claims.read_text())) if claims.is_file() else None

    @cached_property
    def _source_hash(self) -> str:
        package = Path(drlib.__file__).parent
        digest = hashlib.sha256()
        for path in sorted([*package.rglob("*.py"), *package.rglob(f"shipped/*/{MANIFEST}")]):  # code, and tables that come with it
            if not any(path.is_relative_to(package / "series" / name) for name in ENGINE):
                digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
        return digest.hexdigest()

    @cached_property
    def _data_hash(self) -> str:
        return data_fingerprint(self.run.data_dir)

    def _code_hash(self, name: str) -> str:
        notebook = nbformat.read(self.notebook(name), as_version=4)
        return content_key({"cells": [cell.source for cell in notebook.cells if cell.cell_type == "code"]})

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"


@dataclass(frozen=True)
class Outcome:
    """What became of one chapter: ``state`` is ``fresh``, ``executed``, ``failed`` or ``not run``."""

    name: str
    state: str
    seconds: float | None


def run_series(
    series: Series,
    numbers: Iterable[str] = (),
    force: bool = False,
    jobs: int = 1,
    say=lambda line: None,
    cluster: str | None = None,
    dry_run: bool = False,
) -> list[Outcome]:
    """Execute the stale ones among the named chapters and those they need, and return what became of each.

    A chapter that fails stops only those that need it. Killed at any moment, the next call goes on where this one stopped. A second
    call at the same time waits for the first. ``jobs`` chapters run at once; ``say`` receives lines of progress. ``cluster`` is a
    Snakemake profile (:func:`cluster_profile`): each chapter is then one job there, and the profile says how many run at once.
    ``dry_run``: say what would be executed, and with which resources; execute and change nothing.
    """
    names = series.select(numbers)
    profile = None if cluster is None else cluster_profile(cluster)
    with _only_one(series, say):
        reasons = {name: "asked for" if force else series.stale_reason(name) for name in names}
        plan = [name for name in names if reasons[name]]
        for name in plan:
            say(f"{name:<24} to be executed: {reasons[name]}")
        if plan and dry_run:
            say(_snakemake(series, plan, jobs, profile, "--dry-run", "--force").read_text(encoding="utf-8"))
        elif plan:
            _make(series, plan, jobs, profile, say)
    return [_outcome(series, name, name in plan and not dry_run) for name in names]


def cluster_profile(name: str) -> Path:
    """Return the folder of a Snakemake profile: ``name`` is a folder that holds a ``config.yaml``, or one of those in CLUSTERS."""
    for folder in (Path(name), CLUSTERS / name):
        if (folder / "config.yaml").is_file():
            return folder.resolve()
    there = ", ".join(sorted(path.name for path in CLUSTERS.iterdir()))
    raise SeriesError(f"{name} is no profile of a cluster: give a folder with a config.yaml, or one that comes with drlib: {there}")


def _make(series: Series, plan: list[str], jobs: int, profile: Path | None, say) -> None:
    for name in plan:
        series.executed(name).unlink(missing_ok=True)
        series.unfinished(name).unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if name.startswith("DRLIB_")}  # not every cluster hands it on
    process = os.getpid() if profile is None else None
    write_json(series.folder / "plan.json", {"chapters": plan, "jobs": jobs, "process": process, "environment": environment})
    if profile:
        say(f"the jobs on the cluster are followed in {series.folder / LOG}")
    _snakemake(series, plan, jobs, profile)
    for name in plan if profile else ():  # on this machine, the chapter said it itself
        if series.unfinished(name).is_file() and not series.executed(name).is_file():
            say(f"{name} failed; the notebook up to the error: {series.unfinished(name).relative_to(series.root)}")


def _snakemake(series: Series, plan: list[str], jobs: int, profile: Path | None, *options: str) -> Path:
    """Let Snakemake make the executed copies in ``plan``, and return its log."""
    where = ("--cores", str(jobs), "--latency-wait", "10") if profile is None else ("--workflow-profile", str(profile))
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(Path(__file__).with_name("series.smk"))),
        *("--configfile", str(series.save()), "--directory", str(series.root / "build" / "snakemake")),
        *("--nolock", "--keep-going", "--rerun-incomplete", "--rerun-triggers", "mtime", *where, *options),
        *("--", *(str(series.executed(name)) for name in plan)),
    ]
    (series.root / "build" / "snakemake").mkdir(parents=True, exist_ok=True)
    log = series.folder / LOG
    with open(log, "w", encoding="utf-8") as errors:
        code = subprocess.run(command, cwd=series.root, stderr=errors, check=False).returncode
    if code and not any(series.unfinished(name).is_file() for name in plan):
        raise SeriesError(f"Snakemake stopped with status {code}; the end of {log}:\n" + "\n".join(log.read_text().splitlines()[-15:]))
    return log


def _outcome(series: Series, name: str, planned: bool) -> Outcome:
    if series.executed(name).is_file():
        return Outcome(name, "executed" if planned else "fresh", series.read_record(name).get("seconds"))
    return Outcome(name, "failed" if series.unfinished(name).is_file() else "not run", None)


def _only_one(series: Series, say) -> FileLock:
    series.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(series.folder / ".lock")  # released by the system when the process ends, however it ends
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("another process is running this series; waiting for it")
        lock.acquire()
    return lock


__all__ = ["Chapter", "Outcome", "Series", "SeriesError", "project_root", "read_chapters", "run_series"]
