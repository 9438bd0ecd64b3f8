"""Options that several commands share, each in one place."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

MACHINE = "Where the work is done"


class Variant(StrEnum):
    """What the phantom cohort is for."""

    standard = "standard"
    null = "null"
    planted_net = "planted-NET"
    planted_ed = "planted-ED"
    planted_et = "planted-ET"
    planted_texture = "planted-texture"
    site_shifted = "site-shifted"
    confounded = "confounded"


class Arithmetic(StrEnum):
    """What the network computes in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


def use_scheduler(address: str | None) -> str | None:
    """Name the Dask scheduler to everything that works on patients, in this process and in the notebooks that it starts."""
    if address:
        from drlib.parallel import SCHEDULER

        os.environ[SCHEDULER] = address
    return address


Profile = Annotated[
    str,
    typer.Option(metavar="NAME", help="smoke (minutes), demo (a laptop) or paper (a GPU); switches follow behind '+', as in demo+paper"),
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="seed of every random draw, from 0 on")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        callback=use_scheduler,
        rich_help_panel=MACHINE,
        help="Dask scheduler whose workers take the patients, as tcp://node1:8786; this machine if left out",
    ),
]
TrainingDevice = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        envvar="DRLIB_DEVICE",
        rich_help_panel=MACHINE,
        help="cpu or cuda: where the network is trained and applied",
    ),
]
Devices = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, envvar="DRLIB_DEVICES", rich_help_panel=MACHINE, help="how many of them in this machine train together"
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", rich_help_panel=MACHINE, help="cpu or cuda")]
Workers = Annotated[int, typer.Option(metavar="N", rich_help_panel=MACHINE, help="processes; -1 for one per core")]
Data = Annotated[
    Path, typer.Argument(metavar="DATA", show_default=False, help="folder of patients, folder of one patient, or CSV manifest")
]
OwnData = Annotated[
    Path | None, typer.Option("--data", metavar="DATA", help="your patients instead of the phantoms: a folder or CSV manifest")
]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="folder for results: a subfolder per profile, cohort and seed")]
StudyTables = Annotated[Path, typer.Option("--results", metavar="DIR", help="folder for the tables, beside work that can be deleted")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="DIR",
        help="folder of a trained model, or the word shipped: the network that comes with drlib; left out, the newest under results/",
    ),
]
Precision = Annotated[
    Arithmetic,
    typer.Option(
        metavar="NAME",
        rich_help_panel=MACHINE,
        help="fp32, bf16 or auto: bf16 where chapter 05 measured that counts and grades stay the same, else as the model was fitted",
    ),
]
