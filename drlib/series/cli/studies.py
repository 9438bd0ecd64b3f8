"""Commands for the studies: each makes again a set of tables that comes with the library."""

import os
from pathlib import Path
from typing import Annotated

import typer

from drlib.series.cli.app import REPRODUCE, app, command, study
from drlib.series.cli.options import Profile, Results, StudyTables, Workers
from drlib.series.cli.output import Answer, shows_progress, tell
from drlib.series.cli.places import check_folder, shown

app.add_typer(study, name="study", rich_help_panel=REPRODUCE)
TABLES = Path("results/studies")
STATUS = "0 the tables are complete; 1 something that the message names"
KEPT = "Every complete piece is kept. Go on with the same command"


@study.callback()
def draw_progress_on_a_terminal_only() -> None:
    """Tell tqdm, which draws the progress of every study, whether somebody watches."""
    if not shows_progress():
        os.environ["TQDM_DISABLE"] = "1"


@command(
    study,
    example="drlib study corrections --seeds 5",
    writes="results/studies/corrections: the tables of chapter 03b",
    status=STATUS,
    kept=KEPT,
)
def corrections(
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="phantom cohorts, each with its own first weights")] = 5,
    results: StudyTables = TABLES,
) -> Answer:
    """Climb from the published code's recipe to ours, one correction at a time (chapter 03b); half an hour on one core."""
    from drlib.series.studies.corrections import run_corrections

    check_folder(results)
    found = run_corrections(results, range(seeds))
    minutes = found.rows["seconds"].sum() / 60
    return _answer(results / "corrections", f"{len(found.rows)} trainings, {minutes:.0f} minutes", trainings=len(found.rows))


@command(
    study,
    name="known-truth",
    example="drlib study known-truth --workers 2",
    writes="results/studies/known_truth: the tables of chapter 08",
    status=STATUS,
    kept=KEPT,
)
def known_truth(results: StudyTables = TABLES, workers: Workers = -1) -> Answer:
    """Hold the trials with a known truth: null, planted, mirrored and confounded cohorts (chapter 08); about an hour on two cores."""
    from drlib.series.studies.known_truth import run_known_truth

    check_folder(results)
    found = run_known_truth(results, n_jobs=workers)
    words = f"{len(found.null)} null and {len(found.planted)} planted cohorts"
    return _answer(results / "known_truth", words, null=len(found.null), planted=len(found.planted))


@command(
    study,
    example="drlib study seeds --profile smoke --seeds 5",
    writes="the runs under results/, and results/studies/seeds: the tables of chapter 08b",
    status=STATUS,
    kept=KEPT,
)
def seeds(
    profile: Profile = "demo",
    seeds: Annotated[int, typer.Option(metavar="N", min=2, help="how many: 0, 1, 2, ...")] = 5,
    gather: Annotated[
        bool, typer.Option("--gather", metavar="", help="execute nothing: gather what lies in the folders of the runs")
    ] = False,
    results: Results = Path("results"),
    tables: Annotated[Path, typer.Option("--tables", metavar="DIR", help="folder for the tables")] = TABLES,
) -> Answer:
    """Execute every chapter that makes claims for several seeds, where it is stale, and lay the claims side by side (chapter 08b)."""
    from drlib.series.run import project_root
    from drlib.series.studies.seeds import run_seeds

    check_folder(results)
    check_folder(tables)
    root = project_root()
    found = run_seeds(tables, root, profile, range(seeds), shown(results.resolve(), root), not gather, tell)
    n_claims = found.claims["id"].nunique()
    return _answer(tables / "seeds", f"{n_claims} claims of {len(found.runs)} seeds", claims=n_claims, seeds=len(found.runs))


@command(
    study,
    example="drlib study codebooks --sets 5 --twins 3",
    writes="results/studies/codebooks: the tables of chapter 08b",
    status=STATUS,
    kept=KEPT,
)
def codebooks(
    sets: Annotated[int, typer.Option(metavar="N", min=2, help="sets of phantoms, each trains a network")] = 5,
    twins: Annotated[int, typer.Option(metavar="N", min=0, help="how many of them train a second one")] = 3,
    results: StudyTables = TABLES,
) -> Answer:
    """Train networks from random weights and compare their codebooks, regions and grades (chapter 08b); 20 minutes on one core."""
    from drlib.series.studies.codebooks import run_codebooks

    check_folder(results)
    found = run_codebooks(results, sets, twins)
    n_trainings, n_pairs = len(found.trainings), len(found.pairs)
    return _answer(results / "codebooks", f"{n_trainings} trainings, {n_pairs} pairs", trainings=n_trainings, pairs=n_pairs)


@command(
    study,
    name="likelihood-ratio",
    example="drlib study likelihood-ratio --data-sets 1000",
    writes="results/studies/likelihood_ratio: the table of chapter 09",
    status=STATUS,
    kept=KEPT,
)
def likelihood_ratio(
    data_sets: Annotated[int, typer.Option(metavar="N", min=1, help="simulated cohorts for each number of covariates")] = 1000,
    results: StudyTables = TABLES,
) -> Answer:
    """Simulate when the effect likelihood-ratio test exists and keeps its level (chapter 09); a few minutes of one core."""
    from drlib.series.studies.likelihood_ratio import run_likelihood_ratio

    check_folder(results)
    found = run_likelihood_ratio(results, data_sets=data_sets)
    return _answer(results / "likelihood_ratio", f"{len(found.rows)} simulated cohorts", cohorts=len(found.rows))


def _answer(folder: Path, words: str, **numbers: int) -> Answer:
    tell(f"{words}: {shown(folder)}")
    return Answer({"tables": shown(folder), **{name: int(number) for name, number in numbers.items()}})
