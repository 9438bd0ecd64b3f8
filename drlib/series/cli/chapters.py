"""Commands for the notebooks: execute them, train their network, build the site, say what is up to date."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from drlib.series.cli.app import REPRODUCE, app, command
from drlib.series.cli.options import MACHINE, Devices, OwnData, Profile, Results, Scheduler, Seed, TrainingDevice
from drlib.series.cli.output import Answer, paint, say, tell
from drlib.series.cli.places import check_folder, shown

COLOUR_OF = {"executed": "green", "fresh": "green", "failed": "red", "not run": "yellow"}


@command(
    app,
    panel=REPRODUCE,
    example="drlib run --profile smoke --chapters 01,03",
    writes="results/RUN (every result, with a manifest), build/notebooks/RUN (the executed notebooks) and build/claims.json; RUN is named "
    "after profile, cohort and seed",
    status="0 every chapter is executed and up to date; 1 one failed: its cell and its notebook are named",
    kept="Executed chapters and every complete result are kept. Go on with the same command",
)
def run(
    profile: Profile = "demo",
    data: OwnData = None,
    results: Results = Path("results"),
    seed: Seed = 0,
    chapters: Annotated[
        str, typer.Option(metavar="NUMBERS", help="only these and what they need, by the numbers of the files in notebooks/, as 01,08b")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="execute the chapters even where nothing changed (results are still reused)")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="say what would be executed, with which resources; change nothing")
    ] = False,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, rich_help_panel=MACHINE, help="chapters executed at the same time")] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=MACHINE, help="each chapter as a job of a cluster: slurm, or the folder of a Snakemake profile"
        ),
    ] = None,
    scheduler: Scheduler = None,
    device: TrainingDevice = "cpu",
    devices: Devices = 1,
) -> Answer:
    """Execute the notebooks in order; only those whose text, code, data or inputs changed since the last time.

    Can be killed at any moment: the next call goes on.
    """
    from drlib.parallel import check_scheduler
    from drlib.series.run import DEVICE, DEVICES
    from drlib.series.workflow import run_series

    os.environ |= {DEVICE: device, DEVICES: str(devices)}  # for the notebooks: a machine is none of their parameters
    series = _series(profile, data, results, seed)
    check_scheduler()
    numbers = [number.strip() for number in chapters.split(",") if number.strip()]
    outcomes = run_series(series, numbers, force, jobs, tell, cluster, dry_run)
    found = {"chapters": [{"name": o.name, "state": o.state, "seconds": o.seconds} for o in outcomes], "folder": shown(series.folder)}
    if dry_run:
        return Answer(found)
    for outcome in outcomes:
        tell(f"{outcome.name:<24} {paint(outcome.state, COLOUR_OF[outcome.state], sys.stdout)}")
    if any(outcome.state in ("failed", "not run") for outcome in outcomes):
        return Answer(found, failure="the series is not complete; what failed is said above. Mend it and repeat the command")
    claims = series.publish_claims()
    tell(f"executed notebooks: {shown(series.folder)}" + (f"; claims: {shown(claims)}" if claims else ""))
    return Answer(found | {"claims": None if claims is None else shown(claims)})


@command(
    app,
    panel=REPRODUCE,
    example="drlib train --profile paper --device cuda --devices 8",
    writes="results/RUN/model: network, codebook and log; `drlib run` then finds it",
    status="0 the network is trained; 1 chapter 01 has not been executed, or there is no such device",
    kept="Complete epochs are kept. Go on with the same command",
)
def train(
    profile: Profile = "demo",
    data: OwnData = None,
    results: Results = Path("results"),
    seed: Seed = 0,
    device: TrainingDevice = "cpu",
    devices: Devices = 1,
    nodes: Annotated[
        int, typer.Option(metavar="N", min=1, rich_help_panel=MACHINE, help="machines that train together; start the command on each")
    ] = 1,
    memory_gib: Annotated[
        float, typer.Option("--memory-gib", metavar="GIB", min=0.1, rich_help_panel=MACHINE, help="memory of each process for slices")
    ] = 4.0,
) -> Answer | None:
    """Train chapter 03's network and nothing else, on one device or many; chapter 01 must have been executed.

    Several machines: start it on each, by torchrun or by `srun --nodes 4 --ntasks-per-node 8 drlib train --nodes 4 --devices 8 ...`
    """
    from drlib.series.stages.segmentation import train_model

    run = _series(profile, data, results, seed).run
    if not train_model(run, device, devices, nodes, memory_gib):
        return None  # one of the other processes: the first one speaks
    say(f"trained: {shown(run.folder / 'model')}")
    return Answer({"model": shown(run.folder / "model")})


@command(
    app,
    panel=REPRODUCE,
    example="drlib book --profile smoke",
    writes="build/html/index.html and the pages beside it; they open without a server and without a network",
    status="0 the site is built, without a warning; 1 a chapter is not executed, or Jupyter Book warns",
    kept="The site of the last complete build is kept. Build again with the same command",
)
def book(
    profile: Profile = "demo",
    data: OwnData = None,
    results: Results = Path("results"),
    seed: Seed = 0,
    publish_images: Annotated[
        bool, typer.Option("--publish-images", help="put images of your patients into viewer, atlas and widgets; never without this option")
    ] = False,
) -> Answer:
    """Build the site from the executed notebooks, after `drlib run` with the same options."""
    from drlib.series.book import build_book

    index = build_book(_series(profile, data, results, seed), tell, publish_images)
    tell(f"the book: {shown(index)}")
    return Answer({"index": shown(index)})


@command(
    app,
    panel=REPRODUCE,
    example="drlib status --profile smoke --json",
    writes="nothing; a line per chapter, with the reason where it has to be executed again",
    status="0, whatever is up to date",
    kept="Nothing was written. Ask again with the same command",
)
def status(profile: Profile = "demo", data: OwnData = None, results: Results = Path("results"), seed: Seed = 0) -> Answer:
    """Say which chapters are executed and up to date, and why the others are not."""
    series = _series(profile, data, results, seed)
    reasons = {name: series.stale_reason(name) for name in series.chapters}
    for name, reason in reasons.items():
        tell(f"{name:<24} {paint(reason or 'up to date', 'yellow' if reason else 'green', sys.stdout)}")
    return Answer({"chapters": [{"name": name, "up_to_date": reason is None, "reason": reason} for name, reason in reasons.items()]})


def _series(profile: str, data: Path | None, results: Path, seed: int) -> Any:
    """Return the series of the project that the current folder belongs to."""
    from drlib.series.run import project_root
    from drlib.series.workflow import Series

    check_folder(results, data)
    root = project_root()
    return Series(root, profile, None if data is None else shown(data.resolve(), root), shown(results.resolve(), root), seed)
