"""Commands for patients: make phantoms, check a cohort, count codewords, grade."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from drlib.series.cli.app import APPLY, COHORT, app, command
from drlib.series.cli.options import Arithmetic, Data, Device, Model, Precision, Profile, Scheduler, Seed, Variant, Workers
from drlib.series.cli.output import Answer, paint, say, shows_progress, tell
from drlib.series.cli.places import check_folder, check_table

COLOUR_OF = {"error": "red", "warning": "yellow"}


@command(
    app,
    panel=COHORT,
    example="drlib check /data/brats --json > problems.json",
    writes="nothing; one line per problem, which ends in what to do (codes: page 'Your own data' of the book)",
    status="0 no error (warnings are allowed); 1 a patient has an error",
    kept="Nothing was written. Check again with the same command",
)
def check(data: Data, workers: Workers = -1, scheduler: Scheduler = None) -> Answer:
    """List every problem of a cohort at once: missing, cut or damaged files, grids that differ, unknown labels, patients twice."""
    from drlib.cohort.validation import check_cohort

    report = check_cohort(data, n_jobs=workers, progress=shows_progress())
    problems = [problem.to_dict() for patient in report.patients for problem in patient.problems]
    _print_problems(problems, tell, sys.stdout)
    bad = sum(not patient.ok for patient in report.patients)
    tell(f"{len(report.patients)} patients, {bad} with errors")
    return Answer({"patients": [patient.to_dict() for patient in report.patients]}, problems)


@command(
    app,
    panel=APPLY,
    example="drlib features /data/brats --model shipped --out features.csv",
    writes="one table: a row per patient with the counts of all codewords, which sum to n_slices x latent_positions, and the columns "
    "that say which model made them",
    status="0 all patients are in the table; 1 some could not be read: they are listed, the others are in the table",
    kept="Nothing was written, for the table is written whole. Count again with the same command",
)
def features(
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="table to be written: .parquet or .csv", show_default=False)],
    model: Model = None,
    device: Device = "cpu",
    precision: Precision = Arithmetic.auto,
    scheduler: Scheduler = None,
) -> Answer:
    """Count the codewords of every patient: the histogram that the classifier reads, as a table."""
    check_table(out, data)
    from drlib.series.apply import extract_features, open_applied_model, write_table

    applied = open_applied_model(model, device, precision=precision.value)
    table, problems = extract_features(data, applied, progress=shows_progress())
    if len(table):
        write_table(table, out)
        say(f"{len(table)} patients are in {out}")
    written = str(out) if len(table) else None
    return _batch_answer({"table": written, "patients": len(table), **applied.provenance}, problems)


@command(
    app,
    panel=APPLY,
    example="drlib grade /data/brats/X --out graded",
    writes="report.html, grade.json, the maps as NIfTI on the patient's own grid, their labels and colours for ITK-SNAP and 3D Slicer, and "
    "README.txt, which says how to open them; several patients have a folder each",
    status="0 all patients are graded; 1 some could not be read (they are listed, the others are graded), or there is no classifier",
    kept="Patients whose report.html is there are complete. Grade all again with the same command",
)
def grade(
    patient: Annotated[
        Path, typer.Argument(metavar="PATIENT", help="folder of one patient, of several, or CSV manifest", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder for the results", show_default=False)],
    model: Model = None,
    device: Device = "cpu",
    precision: Precision = Arithmetic.auto,
) -> Answer:
    """Grade patients: probability of HGG, segmentation, codewords and responsible regions, and a report to read.

    The classifier is made by `drlib run` (chapter 05); the shipped network has none.
    """
    check_folder(out, patient)
    from drlib.series.apply import grade_patients, open_applied_model
    from drlib.series.notice import prediction_notice

    applied = open_applied_model(model, device, graded=True, precision=precision.value)
    results, problems = grade_patients(patient, applied, out, progress=shows_progress())
    for result in results:
        tell(f"{result['patient']:<28} P(HGG) = {result['p_hgg']:.3f}   {result['report']}")
    tell(prediction_notice(applied.model.profile, applied.provenance["trained_on"]))
    tell(f"Model {applied.hash}, its classifier fitted to the {applied.provenance['trained_on']} cohort.")
    return _batch_answer({"patients": results}, problems)


@command(
    app,
    panel=COHORT,
    example="drlib phantom /tmp/cohort --profile smoke",
    writes="BraTS folders of synthetic patients, name_mapping_phantom.csv, and truth.csv with what is known of each",
    status="0 the cohort is complete",
    kept="Complete patients are kept. Make the others with the same command",
)
def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder to be made, in BraTS's layout", show_default=False)],
    profile: Profile = "demo",
    variant: Annotated[
        Variant,
        typer.Option(
            metavar="NAME",
            help="standard; null: the grade tells nothing; planted-NET, planted-ED, planted-ET, planted-texture: only that tells it; "
            "confounded: a scanner per grade; site-shifted: all from one unusual scanner",
        ),
    ] = Variant.standard,
    seed: Seed = 0,
    workers: Workers = -1,
    scheduler: Scheduler = None,
) -> Answer:
    """Make the synthetic cohort as BraTS folders: same profile and seed, same bytes, whatever the number of workers."""
    check_folder(out)
    from drlib.cohort.phantom import make_cohort
    from drlib.profiles import load_profile

    settings = load_profile(profile).cohort.model_copy(update={"variant": variant.value})
    table = make_cohort(out, settings, seed, n_jobs=workers, progress=shows_progress())
    say(f"{len(table)} synthetic patients are in {out}")
    return Answer({"folder": str(out), "patients": len(table), "profile": profile, "variant": variant.value, "seed": seed})


def _batch_answer(content: dict[str, Any], problems: list) -> Answer:
    """Print a table of what went wrong in a batch, if anything did, and return the answer."""
    records = [problem.to_dict() for problem in problems]
    if records:
        say("")
        _print_problems(records, say, sys.stderr)
        say(f"{len(records)} problems; the patients without one are done")
    return Answer(content, records)


def _print_problems(problems: list[dict[str, Any]], write, stream) -> None:
    for problem in problems:
        severity = paint(f"{problem['severity']:<8}", COLOUR_OF[problem["severity"]], stream)
        write(f"{severity} {problem['code']:<18} {problem['message']}")
