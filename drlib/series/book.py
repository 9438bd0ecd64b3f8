"""Stage and build the book: the prose, the executed chapters, and the page that says how long everything took.

The site is staged in ``build/site`` with the layout of the repository (``book/``, ``notebooks/``), so that one ``_toc.yml`` names the
source and the executed copy alike, and built by Jupyter Book with every warning an error.
"""

import datetime
import html
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from drlib.artifacts import MANIFEST
from drlib.figures import plot_front
from drlib.series.citation import bibtex_entries
from drlib.series.claims import headline, read_claims
from drlib.series.examples import front_example
from drlib.series.execute import format_seconds
from drlib.series.front import headline_cards
from drlib.series.images import images_notice, stage_images
from drlib.series.notice import PHANTOM_TRAINED, RESEARCH_ONLY, network_origin, phantom_trained
from drlib.series.pages import finish_pages
from drlib.series.run import STAGE_CHAPTERS
from drlib.series.staging import stage_figure, stage_notebook
from drlib.series.workflow import Series, SeriesError
from drlib.viewer.page import STATIC


def build_book(series: Series, say=lambda line: None, publish_images: bool = False) -> Path:
    """Stage the book of an executed series, build it strictly and return ``build/html/index.html``.

    The viewer's volumes are put in for phantoms; those of a user's cohort only where ``publish_images`` asks for it.
    Raises SeriesError where a chapter is not executed, or with the end of the log where Jupyter Book warns about anything.
    """
    staged = stage_book(series, publish_images)
    say(images_notice(series, publish_images))
    built = series.root / "build" / "book"
    say("building the site, about half a minute")
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(staged)]
    command += ["--path-output", str(built), "--all", "--quiet", "-W", "--keep-going", "-n"]
    done = subprocess.run(command, cwd=series.root, capture_output=True, text=True, check=False)
    if done.returncode:
        warnings = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise SeriesError("the book does not build:\n" + "\n".join(warnings[-40:]))
    finish_pages(built / "_build" / "html", staged, series, cohort_banner(series))
    site = series.root / "build" / "html"
    shutil.rmtree(site, ignore_errors=True)
    os.replace(built / "_build" / "html", site)
    shutil.rmtree(built)
    return site / "index.html"


def stage_book(series: Series, publish_images: bool = False) -> Path:
    """Put everything the site is built from under ``build/site`` and return that folder; see :func:`build_book` for ``publish_images``."""
    missing = [name for name in series.chapters if not series.executed(name).is_file()]
    if missing:
        raise SeriesError(f"not executed yet: {', '.join(missing)}. Execute with: drlib run --profile {series.profile}")
    site = series.root / "build" / "site"
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(series.root / "book", site / "book")
    shutil.copytree(STATIC, site / "book" / "_static", dirs_exist_ok=True)
    stage_images(series, site / "book" / "_static", publish_images)
    shutil.copy(series.root / "_toc.yml", site)
    _write_config(series, site / "_config.yml")
    (site / "book" / "status.md").write_text(status_page(series), encoding="utf-8")
    _write_front(series, site / "book" / "_generated")
    (site / "notebooks").mkdir()
    for name in series.chapters:
        stage_notebook(series, name, site, publish_images)
    return site


CITE = """```bibtex
{}
```

```bibtex
{}
```
"""


def _write_front(series: Series, folder: Path) -> None:
    """Write what the first page includes: its picture, its cards and its table."""
    claims = read_claims(series.run)
    (folder / "figures").mkdir(parents=True)
    (folder / "headline.md").write_text(headline(claims), encoding="utf-8")
    (folder / "cards.md").write_text(headline_cards(claims), encoding="utf-8")
    (folder / "cite.md").write_text(CITE.format(*bibtex_entries(series.root / "CITATION.cff")), encoding="utf-8")
    (folder / "front.md").write_text(
        stage_figure(plot_front(*front_example(series.run)), "fig-front", folder / "figures"), encoding="utf-8"
    )


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
        built=datetime.datetime.now(datetime.UTC).date(),
        rows="\n".join(rows),
        total=format_seconds(sum(record["seconds"] for record in records.values())),
        computing=format_seconds(sum(manifest["seconds"] for manifest in stages.values())),
        cores=os.cpu_count(),
        versions="\n".join(f"| {name} | {version} |" for name, version in {"Python": sys.version.split()[0], **versions}.items()),
    )


STATUS_PAGE = """(status)=
# Status

What this copy of the book was made from: {label} (profile hash `{hash}`), built on {built}.

## Run times

| chapter | executed in | results computed in it (seconds) | finished (UTC) |
|:--|--:|:--|:--|
{rows}

Executing all chapters took {total}; computing the results that they show, once, {computing}, on a computer with {cores} cores.
A result that is already there is checked and reused, so that a chapter may be executed in less time than its results took.

## Software

| software | version |
|:--|:--|
{versions}

## Weight of the pages

<div id="page-weights"></div>
"""


def _write_config(series: Series, path: Path) -> None:
    config = yaml.safe_load((series.root / "_config.yml").read_text(encoding="utf-8"))
    config.setdefault("html", {})["announcement"] = cohort_banner(series)
    entries = bibtex_entries(series.root / "CITATION.cff")
    config["sphinx"]["config"]["html_context"] = {"default_mode": "auto", **dict(zip(("cite_book", "cite_paper"), entries, strict=True))}
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _stage_manifests(series: Series) -> dict[str, dict]:
    paths = {stage: series.run.folder / stage / MANIFEST for stage in STAGE_CHAPTERS}
    return {stage: json.loads(path.read_text()) for stage, path in paths.items() if path.is_file()}


def _status_row(name: str, record: dict, stages: dict[str, dict]) -> str:
    number, finished = name.split("_")[0], record["finished"][:16].replace("T", " ")
    computed = ", ".join(f"{stage} {manifest['seconds']:.0f}" for stage, manifest in stages.items() if STAGE_CHAPTERS[stage] == number)
    return f"| {{doc}}`../notebooks/{name}` | {format_seconds(record['seconds'])} | {computed} | {finished} |"
