"""The command that says which software this is."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from drlib import __version__
from drlib.series.cli.app import ABOUT, app, command
from drlib.series.cli.output import Answer, tell

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "statsmodels", "nibabel", "zarr")


def _say_version(asked: bool) -> None:
    if asked:
        tell(f"drlib {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_say_version, is_eager=True, help="say the version and end")
    ] = False,
) -> None:
    """Options of ``drlib`` itself; its help is that of the application."""


@command(
    app,
    example="drlib version --json",
    writes="nothing",
    status="0",
    kept="Nothing was written",
    name="version",
    panel=ABOUT,
)
def say_versions() -> Answer:
    """Say the versions of drlib, of Python and of the packages that results depend on."""
    found = {"drlib": __version__, "python": platform.python_version(), "packages": {name: _version(name) for name in PACKAGES}}
    tell(f"drlib {__version__}, Python {found['python']}, {sys.platform} {platform.machine()}")
    for name, number in found["packages"].items():
        tell(f"{name:<14} {number}")
    return Answer(found | {"platform": f"{sys.platform} {platform.machine()}"})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
