"""Which images enter the site: all those of phantoms; those of a user's patients only where they were asked for by name.

The viewer's volumes and the atlas's pictures are copied here; the figures of the chapters come with the executed notebooks.
"""

import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from drlib.artifacts import MANIFEST, write_atomically
from drlib.series.stages import open_published
from drlib.series.workflow import Series
from drlib.viewer.atlas import leave_patches_out
from drlib.viewer.page import leave_images_out
from drlib.viewer.panel import leave_panels_out
from drlib.viewer.volumes import as_script

# Where a notebook finds the pictures of the codebook atlas; the site has copies of its own.
_ATLAS_PICTURES = re.compile(r'(src=\\")[^"\\]*/atlas/(?=(patches|maps)/)')


def images_notice(series: Series, publish_images: bool) -> str:
    """Return the line that says whose images the viewer's pages hold."""
    if series.run.is_phantom:
        return "viewer: volumes of phantoms are part of the site"
    if publish_images:
        return f"viewer: IMAGES OF THE COHORT {series.run.cohort_name} ARE PART OF THE SITE, as --publish-images asks"
    return f"viewer: no volume of the cohort {series.run.cohort_name} is part of the site (--publish-images would put them in)"


def stage_images(series: Series, folder: Path, publish_images: bool) -> None:
    """Write the volumes of the viewer, and table and pictures of the atlas, below ``folder`` (``_static``), as far as they are public."""
    public = series.run.is_phantom or publish_images
    if public:
        _stage_volumes(series, folder / "patients")
    _stage_atlas(series, folder / "atlas", public)


def place_images(notebook: NotebookNode, series: Series, publish_images: bool) -> NotebookNode:
    """Return an executed notebook whose atlas shows the site's copies, without the pictures of patients where they are not public."""
    notebook = nbformat.reads(_ATLAS_PICTURES.sub(r"\1../_static/atlas/", nbformat.writes(notebook)), as_version=4)
    if not (series.run.is_phantom or publish_images):
        notebook = leave_panels_out(notebook)
        for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = leave_patches_out(leave_images_out(output.data["text/html"]))
    return notebook


def _stage_volumes(series: Series, folder: Path) -> None:
    """Write each published volume, and the list of patients, as a script that the viewer can load from a folder too."""
    if not (series.run.folder / "explorer").is_dir():
        return
    published = open_published(series.run)
    for key, path in published.files.items():
        write_atomically(folder / f"{key}.js", lambda out, key=key, path=path: out.write_text(as_script(key, path.read_bytes())))
    write_atomically(folder / "index.js", lambda out: out.write_text(as_script("index", published.index)))


def _stage_atlas(series: Series, folder: Path, public: bool) -> None:
    atlas = series.run.folder / "atlas"
    if (atlas / MANIFEST).is_file():
        hidden = ["tokens.csv", MANIFEST, *([] if public else ["patches"])]
        shutil.copytree(atlas, folder, ignore=shutil.ignore_patterns(*hidden))
