"""Stage and build the book: the prose, the executed chapters, and the page that says how long everything took.

The site is staged in ``build/site`` with the layout of the repository (``book/``, ``notebooks/``), so that one ``_toc.yml`` names the
source and the executed copy alike, and built by Jupyter Book with every warning an error.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

from drlib.artifacts import MANIFEST
from drlib.series.claims import headline, read_claims
from drlib.series.execute import format_seconds
from drlib.series.notice import PHANTOM_TRAINED, RESEARCH_ONLY, network_origin, phantom_trained
from drlib.series.run import STAGE_CHAPTERS
from drlib.series.workflow import Series, SeriesError

PARAMETERS, INJECTED = "parameters", "injected-parameters"
# Jupyter Book loads sphinx-thebe whether it is used or not: an error in the console of every page, and an address outside the site.
_LIVE_CODE_SCRIPTS = re.compile(r"<script>const THEBE_JS_URL.*?</script>|<script[^>]*sphinx-thebe\.js[^>]*></script>", re.DOTALL)
# Where a notebook finds the pictures of the codebook atlas; the site has copies of its own.
_ATLAS_PICTURES = re.compile(r'(src=\\")[^"\\]*/atlas/(?=(patches|maps)/)')
SHOWN_PARAMETERS = ("profile", "seed")  # the others are folders of whoever ran it


def build_book(series: Series, say=lambda line: None) -> Path:
    """Stage the book of an executed series, build it strictly and return ``build/html/index.html``.

    Raises SeriesError where a chapter is not executed, or with the end of the log where Jupyter Book warns about anything.
    """
    staged = stage_book(series)
    built = series.root / "build" / "book"
    say("building the site, about half a minute")
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(staged)]
    command += ["--path-output", str(built), "--all", "--quiet", "-W", "--keep-going", "-n"]
    done = subprocess.run(command, cwd=series.root, capture_output=True, text=True, check=False)
    if done.returncode:
        warnings = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise SeriesError("the book does not build:\n" + "\n".join(warnings[-40:]))
    for page in (built / "_build" / "html").rglob("*.html"):
        page.write_text(_LIVE_CODE_SCRIPTS.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")
    site = series.root / "build" / "html"
    shutil.rmtree(site, ignore_errors=True)
    os.replace(built / "_build" / "html", site)
    shutil.rmtree(built)
    return site / "index.html"


def stage_book(series: Series) -> Path:
    """Put everything the site is built from under ``build/site`` and return that folder."""
    missing = [name for name in series.chapters if not series.executed(name).is_file()]
    if missing:
        raise SeriesError(f"not executed yet: {', '.join(missing)}. Execute with: drlib run --profile {series.profile}")
    site = series.root / "build" / "site"
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(series.root / "book", site / "book")
    shutil.copy(series.root / "_toc.yml", site)
    _write_config(series, site / "_config.yml")
    (site / "book" / "status.md").write_text(status_page(series), encoding="utf-8")
    (site / "book" / "_generated").mkdir()
    (site / "book" / "_generated" / "headline.md").write_text(headline(read_claims(series.run)), encoding="utf-8")
    _stage_atlas(series, site / "book" / "_static" / "atlas")
    (site / "notebooks").mkdir()
    for name in series.chapters:
        notebook = tidy_notebook(nbformat.read(series.executed(name), as_version=4), series)
        nbformat.write(notebook, site / "notebooks" / f"{name}.ipynb")
    return site


def tidy_notebook(notebook: nbformat.NotebookNode, series: Series) -> nbformat.NotebookNode:
    """Return an executed notebook as readers shall see it: the parameters that were used, and no folder of this computer."""
    injected = [cell for cell in notebook.cells if INJECTED in cell.metadata.get("tags", [])]
    notebook.cells = [cell for cell in notebook.cells if cell not in injected]
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if PARAMETERS in cell.metadata.get("tags", []):
            cell.source = _shown_parameters(cell.source, series)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata.pop("papermill", None)
    text = nbformat.writes(notebook)
    for folder in (series.root, series.run.folder.parent, Path.home()):
        quoted = json.dumps(str(folder))[1:-1]
        text = text.replace(quoted + "/", "").replace(quoted, ".")
    return nbformat.reads(_ATLAS_PICTURES.sub(r"\1../_static/atlas/", text), as_version=4)


def _stage_atlas(series: Series, folder: Path) -> None:
    """Copy the table and the pictures of the codebook atlas; patches of patients who are not phantoms stay where they are."""
    atlas = series.run.folder / "atlas"
    if (atlas / MANIFEST).is_file():
        hidden = ["tokens.csv", MANIFEST, *([] if series.run.is_phantom else ["patches"])]
        shutil.copytree(atlas, folder, ignore=shutil.ignore_patterns(*hidden))


def cohort_banner(series: Series) -> str:
    """Return the sentence on every page: research only, what trained the network, and whose numbers these are."""
    run = series.run
    notice = f"{RESEARCH_ONLY}, {PHANTOM_TRAINED}" if phantom_trained(run.profile, run.cohort_name) else RESEARCH_ONLY
    if run.is_phantom:
        whose = f"<strong>{notice}.</strong> Phantom cohort: every patient here is synthetic; no number on this site is a clinical result."
    else:
        origin = network_origin(run.profile, run.cohort_name)
        whose = f"<strong>{notice}.</strong> {html.escape(f'Cohort {run.cohort_name}, supplied by the user; the network is {origin}.')}"
    small = (
        " It is the smallest profile, which shows that everything runs and is too small to learn anything."
        if series.profile.startswith("smoke")
        else ""
    )
    return f"{whose} Profile {series.profile}, seed {series.seed}.{small}"


def status_page(series: Series) -> str:
    """Return the page of run times and versions, in Markdown, from the records of the executions."""
    records = {name: series.read_record(name) for name in series.chapters}
    stages = _stage_manifests(series)
    rows = [_status_row(name, record, stages) for name, record in records.items()]
    versions = next((manifest["versions"] for manifest in stages.values()), {})
    return STATUS_PAGE.format(
        label=series.run.label,
        hash=series.run.profile.hash,
        rows="\n".join(rows),
        total=format_seconds(sum(record["seconds"] for record in records.values())),
        computing=format_seconds(sum(manifest["seconds"] for manifest in stages.values())),
        cores=os.cpu_count(),
        versions="\n".join(f"| {name} | {version} |" for name, version in {"Python": sys.version.split()[0], **versions}.items()),
    )


STATUS_PAGE = """(status)=
# Status

What this copy of the book was made from: {label} (profile hash `{hash}`).

| chapter | executed in | results computed in it (seconds) | finished (UTC) |
|:--|--:|:--|:--|
{rows}

Executing all chapters took {total}; computing the results that they show, once, {computing}, on a computer with {cores} cores.
A result that is already there is checked and reused, so that a chapter may be executed in less time than its results took.

| software | version |
|:--|:--|
{versions}
"""


def _write_config(series: Series, path: Path) -> None:
    config = yaml.safe_load((series.root / "_config.yml").read_text(encoding="utf-8"))
    config.setdefault("html", {})["announcement"] = cohort_banner(series)
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


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


def _stage_manifests(series: Series) -> dict[str, dict]:
    paths = {stage: series.run.folder / stage / MANIFEST for stage in STAGE_CHAPTERS}
    return {stage: json.loads(path.read_text()) for stage, path in paths.items() if path.is_file()}


def _status_row(name: str, record: dict, stages: dict[str, dict]) -> str:
    number, finished = name.split("_")[0], record["finished"][:16].replace("T", " ")
    computed = ", ".join(f"{stage} {manifest['seconds']:.0f}" for stage, manifest in stages.items() if STAGE_CHAPTERS[stage] == number)
    return f"| {{doc}}`../notebooks/{name}` | {format_seconds(record['seconds'])} | {computed} | {finished} |"
