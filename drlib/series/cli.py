"""The command line ``drlib``: every capability of the project as one command, with help, progress, exit status and JSON on request.

Exit status: 0 all is well, 1 something is wrong that the message explains, 2 the command was not understood. Modules that take long to
import are imported by the command that needs them.
"""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from drlib.errors import DeepRadiomicsError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown", help="""
Deep radiomics: a codebook of glioma imaging phenotypes, from raw MRI to the tumour regions that a classifier relies on.

**Reproduce the argument of the paper**, on synthetic patients or on your own: `drlib run`, then `drlib book`.

**Apply a trained model to patients**: `drlib check`, then `drlib features` (codeword histograms) or `drlib grade` (maps and a report).

DATA is a folder of BraTS-style patients, the folder of one patient, or a CSV manifest with the columns
`patient, t1, t1ce, t2, flair, seg, grade` (the last two may be left out). Research only: not a medical device.
""")  # fmt: skip


study = typer.Typer(no_args_is_help=True, help="Make again the tables of a study that come with the library.")
app.add_typer(study, name="study")


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
    str, typer.Option(help="smoke (minutes), demo (a laptop) or paper (a GPU); switches follow behind '+', as in demo+paper")
]
Seed = Annotated[int, typer.Option(min=0, help="seed of every random draw")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        callback=use_scheduler,
        help="Dask scheduler whose workers take the patients, as tcp://node1:8786; this machine if left out",
    ),
]
Device = Annotated[str, typer.Option(envvar="DRLIB_DEVICE", help="where the network is trained and applied: cpu or cuda")]
Devices = Annotated[int, typer.Option(min=1, envvar="DRLIB_DEVICES", help="how many of them in this machine train together")]
Workers = Annotated[int, typer.Option(help="processes; -1 for one per core")]
Data = Annotated[Path, typer.Argument(help="folder of patients, folder of one patient, or CSV manifest")]
OwnData = Annotated[Path | None, typer.Option("--data", help="your patients instead of the phantom cohort: a folder or CSV manifest")]
Results = Annotated[Path, typer.Option("--results", help="folder for results, one subfolder per profile, cohort and seed")]
Model = Annotated[Path | None, typer.Option("--model", help="folder of a trained model; the newest under results/ if left out")]
Precision = Annotated[
    Arithmetic, typer.Option(help="auto: bf16 where chapter 05 measured that counts and grades stay the same, else as the model was fitted")
]
AsJson = Annotated[bool, typer.Option("--json", help="write the answer as JSON on standard output")]


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="folder to be made, in BraTS's layout")],
    profile: Profile = "demo",
    variant: Annotated[
        Variant,
        typer.Option(
            help="standard; null: the grade tells nothing; planted-X: only X tells it; confounded: a scanner per grade; site-shifted"
        ),
    ] = Variant.standard,
    seed: Seed = 0,
    workers: Workers = -1,
    scheduler: Scheduler = None,
) -> None:
    """Make the synthetic cohort as BraTS folders: same profile and seed, same bytes, whatever the number of workers.

    Example: drlib phantom /tmp/cohort --profile smoke
    """
    from drlib.cohort.phantom import make_cohort
    from drlib.profiles import load_profile

    settings = load_profile(profile).cohort.model_copy(update={"variant": variant.value})
    table = make_cohort(out, settings, seed, n_jobs=workers)
    say(f"{len(table)} synthetic patients are in {out}")


@app.command()
def check(data: Data, as_json: AsJson = False, workers: Workers = -1, scheduler: Scheduler = None) -> None:
    """List every problem of a cohort: missing, truncated or damaged files, grids that differ, unknown labels, and more.

    Exit status 0 only if there is no error (warnings are allowed). Example: drlib check /data/brats --json > problems.json
    """
    from drlib.cohort.validation import check_cohort

    report = check_cohort(data, n_jobs=workers, progress=sys.stderr.isatty())
    if as_json:
        print_json(report.to_dict())
    else:
        print_problems(report.to_table())
        bad = sum(not patient.ok for patient in report.patients)
        print(f"{len(report.patients)} patients, {bad} with errors")
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def features(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="table to be written: .parquet or .csv")],
    model: Model = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    precision: Precision = Arithmetic.auto,
    scheduler: Scheduler = None,
) -> None:
    """Write the codeword histogram of every patient: one row each, with the columns that say where it comes from.

    A patient that cannot be read is listed at the end; the others are written, and the exit status is 1.
    Example: drlib features /data/brats --model results/demo-.../model --out features.parquet
    """
    check_suffix(out)
    from drlib.series.apply import extract_features, open_applied_model, write_table

    table, problems = extract_features(data, open_applied_model(model, device, precision=precision.value), progress=sys.stderr.isatty())
    if len(table):
        write_table(table, out)
        say(f"{len(table)} patients are in {out}")
    end_batch(problems)


@app.command()
def grade(
    patient: Annotated[Path, typer.Argument(help="folder of one patient, of several, or CSV manifest")],
    out: Annotated[Path, typer.Option("--out", help="folder for the results; one subfolder each where there are several patients")],
    model: Model = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    precision: Precision = Arithmetic.auto,
    as_json: AsJson = False,
) -> None:
    """Grade patients: probability, segmentation, codeword map and responsible regions as NIfTI, and a report to read.

    The maps lie on the patient's own grid and open over the T1ce in any viewer. Example: drlib grade /data/brats/X --out graded
    """
    from drlib.series.apply import grade_patients, open_applied_model
    from drlib.series.notice import prediction_notice

    applied = open_applied_model(model, device, graded=True, precision=precision.value)
    results, problems = grade_patients(patient, applied, out, progress=sys.stderr.isatty())
    if as_json:
        print_json({"patients": results, "problems": [problem.to_dict() for problem in problems]})
    else:
        for result in results:
            print(f"{result['patient']:<28} P(HGG) = {result['p_hgg']:.3f}   {result['report']}")
        tell(prediction_notice(applied.model.profile, applied.provenance["trained_on"]))
        tell(f"Model {applied.hash}, its classifier fitted to the {applied.provenance['trained_on']} cohort.")
    end_batch(problems)


@app.command()
def run(
    profile: Profile = "demo",
    data: OwnData = None,
    results: Results = Path("results"),
    seed: Seed = 0,
    chapters: Annotated[str, typer.Option(help="only these and what they need, by number: 01,03")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="execute the chapters even where nothing changed (results are still reused)")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="chapters executed at the same time")] = 1,
    cluster: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="each chapter as a job of a cluster: slurm, or the folder of a Snakemake profile")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be executed, with which resources; change nothing")] = False,
    scheduler: Scheduler = None,
    device: Device = "cpu",
    devices: Devices = 1,
) -> None:
    """Execute the notebooks in order; only those whose text, code, data or inputs changed since the last time.

    Can be killed at any moment: the next call goes on. Example: drlib run --profile smoke --data /data/brats
    """
    from drlib.parallel import check_scheduler
    from drlib.series.run import DEVICE, DEVICES
    from drlib.series.workflow import run_series

    os.environ |= {DEVICE: device, DEVICES: str(devices)}  # for the notebooks: a machine is none of their parameters
    series = make_series(profile, data, results, seed)
    check_scheduler()
    numbers = [number.strip() for number in chapters.split(",") if number.strip()]
    outcomes = run_series(series, numbers, force, jobs, tell, cluster, dry_run)
    if dry_run:
        return
    for outcome in outcomes:
        tell(f"{outcome.name:<24} {outcome.state}")
    if any(outcome.state in ("failed", "not run") for outcome in outcomes):
        raise DeepRadiomicsError("the series is not complete; what failed is said above")
    claims = series.publish_claims()
    tell(f"executed notebooks: {shown(series.folder)}" + (f"; claims: {shown(claims)}" if claims else ""))


@app.command()
def train(
    profile: Profile = "demo",
    data: OwnData = None,
    results: Results = Path("results"),
    seed: Seed = 0,
    device: Device = "cpu",
    devices: Devices = 1,
    nodes: Annotated[int, typer.Option(min=1, help="machines that train together; the command is started on each")] = 1,
    memory_gib: Annotated[float, typer.Option("--memory-gib", min=0.1, help="memory of each process for slices")] = 4.0,
) -> None:
    """Train chapter 03's network and nothing else, on one device or many; chapter 01 must have been executed.

    Goes on where it was killed. `drlib run` then finds the model. Example: drlib train --profile paper --device cuda --devices 8.
    Several machines: `srun --nodes 4 --ntasks-per-node 8 drlib train --profile paper --device cuda --devices 8 --nodes 4`, or torchrun.
    """
    from drlib.series.stages.segmentation import train_model

    run = make_series(profile, data, results, seed).run
    if train_model(run, device, devices, nodes, memory_gib):
        say(f"trained: {shown(run.folder / 'model')}")


@app.command()
def book(
    profile: Profile = "demo",
    data: OwnData = None,
    results: Results = Path("results"),
    seed: Seed = 0,
    publish_images: Annotated[
        bool, typer.Option("--publish-images", help="put volumes of your patients into the site's viewer; never without this option")
    ] = False,
) -> None:
    """Build the site from the executed notebooks (after `drlib run` with the same options): build/html/index.html."""
    from drlib.series.book import build_book

    index = build_book(make_series(profile, data, results, seed), tell, publish_images)
    tell(f"the book: {shown(index)}")


@app.command()
def status(profile: Profile = "demo", data: OwnData = None, results: Results = Path("results"), seed: Seed = 0) -> None:
    """Say which chapters are executed and up to date, and why the others are not."""
    series = make_series(profile, data, results, seed)
    for name in series.chapters:
        print(f"{name:<24} {series.stale_reason(name) or 'up to date'}")


@study.command()
def corrections(
    seeds: Annotated[int, typer.Option(min=1, help="phantom cohorts, each with its own first weights")] = 5,
    results: Annotated[Path, typer.Option("--results", help="folder for the tables, beside the work that can be deleted")] = Path(
        "results/studies"
    ),
) -> None:
    """Climb from the published code's recipe to ours, one correction at a time (chapter 03b); half an hour on one core.

    Can be killed at any moment: the next call goes on. Example: drlib study corrections --seeds 5
    """
    from drlib.series.studies.corrections import run_corrections

    found = run_corrections(results, range(seeds))
    tell(f"{len(found.rows)} trainings, {found.rows['seconds'].sum() / 60:.0f} minutes: {shown(results / 'corrections')}")


@study.command(name="known-truth")
def known_truth(
    results: Annotated[Path, typer.Option("--results", help="folder for the tables, beside the work that can be deleted")] = Path(
        "results/studies"
    ),
    workers: Workers = -1,
) -> None:
    """Hold the trials with a known truth: null, planted, mirrored and confounded cohorts (chapter 08); about an hour on two cores.

    Can be killed at any moment: the next call goes on. Example: drlib study known-truth --workers 2
    """
    from drlib.series.studies.known_truth import run_known_truth

    found = run_known_truth(results, n_jobs=workers)
    tell(f"{len(found.null)} null and {len(found.planted)} planted cohorts: {shown(results / 'known_truth')}")


@study.command("likelihood-ratio")
def likelihood_ratio(
    data_sets: Annotated[int, typer.Option(min=1, help="simulated cohorts for each number of covariates")] = 1000,
    results: Annotated[Path, typer.Option("--results", help="folder for the table")] = Path("results/studies"),
) -> None:
    """Simulate when the effect likelihood-ratio test exists and keeps its level (chapter 09); a few minutes of one core.

    Can be killed at any moment: the next call goes on. Example: drlib study likelihood-ratio --data-sets 1000
    """
    from drlib.series.studies.likelihood_ratio import run_likelihood_ratio

    found = run_likelihood_ratio(results, data_sets=data_sets)
    tell(f"{len(found.rows)} simulated cohorts: {shown(results / 'likelihood_ratio')}")


@study.command()
def seeds(
    profile: Profile = "demo",
    seeds: Annotated[int, typer.Option(min=2, help="how many: 0, 1, 2, ...")] = 5,
    gather: Annotated[bool, typer.Option("--gather", help="execute nothing: gather what lies in the folders of the runs")] = False,
    results: Results = Path("results"),
    tables: Annotated[Path, typer.Option("--tables", help="folder for the tables")] = Path("results/studies"),
) -> None:
    """Execute every chapter that makes claims for several seeds, where it is stale, and lay the claims side by side (chapter 08b).

    Can be killed at any moment: the next call goes on. Example: drlib study seeds --profile smoke --seeds 5
    """
    from drlib.series.run import project_root
    from drlib.series.studies.seeds import run_seeds

    root = project_root()
    found = run_seeds(tables, root, profile, range(seeds), shown(results.resolve(), root), not gather, tell)
    tell(f"{found.claims['id'].nunique()} claims of {len(found.runs)} seeds: {shown(tables / 'seeds')}")


@study.command()
def codebooks(
    sets: Annotated[int, typer.Option(min=2, help="sets of phantoms, each trains a network")] = 5,
    twins: Annotated[int, typer.Option(min=0, help="how many of them train a second one")] = 3,
    results: Annotated[Path, typer.Option("--results", help="folder for the tables, beside the work that can be deleted")] = Path(
        "results/studies"
    ),
) -> None:
    """Train networks from random weights and compare their codebooks, regions and grades (chapter 08b); 20 minutes on one core.

    Can be killed at any moment: the next call goes on. Example: drlib study codebooks --sets 5 --twins 3
    """
    from drlib.series.studies.codebooks import run_codebooks

    found = run_codebooks(results, sets, twins)
    tell(f"{len(found.trainings)} trainings, {len(found.pairs)} pairs: {shown(results / 'codebooks')}")


@app.command()
def version() -> None:
    """Say the version."""
    from importlib.metadata import version as installed

    print(f"drlib {installed('drlib')}")


def make_series(profile: str, data: Path | None, results: Path, seed: int) -> Any:
    """Return the series of the project that the current folder belongs to."""
    from drlib.series.run import project_root
    from drlib.series.workflow import Series

    root = project_root()
    return Series(root, profile, None if data is None else shown(data.resolve(), root), shown(results.resolve(), root), seed)


def shown(path: Path, folder: Path | None = None) -> str:
    """Return a path relative to ``folder`` (the current one) where it lies below, as it is elsewhere."""
    folder = folder or Path.cwd()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def check_suffix(out: Path) -> None:
    """Refuse a table of unknown format before anything is computed."""
    if out.suffix not in (".parquet", ".csv"):
        raise typer.BadParameter(f"{out}: the table is written as .parquet or .csv", param_hint="--out")


def end_batch(problems: list) -> None:
    """Print a table of what went wrong in a batch and end with status 1; return if nothing did."""
    if problems:
        say("")
        for problem in problems:
            say(f"{problem.severity:<8} {problem.code:<18} {problem.message}")
        say(f"{len(problems)} problems; the patients without one are done")
        raise typer.Exit(1)


def print_problems(table) -> None:
    """Print one line per problem on standard output."""
    for row in table.itertuples():
        print(f"{row.severity:<8} {row.code:<18} {row.message}")


def print_json(content: Any) -> None:
    """Print JSON on standard output."""
    print(json.dumps(content, indent=2, allow_nan=False))


def tell(line: str) -> None:
    """Print a line of progress on standard output, at once."""
    print(line, flush=True)


def say(line: str) -> None:
    """Print a line for people on standard error, beside an answer on standard output."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run the command; a known error becomes its message and exit status 1."""
    try:
        app(prog_name="drlib")
    except DeepRadiomicsError as error:
        say(f"drlib: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
