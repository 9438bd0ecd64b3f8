"""The application that commands are added to: its first page, how a command explains itself, and what becomes of its errors."""

import errno
import inspect
import shlex
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from drlib.errors import DeepRadiomicsError
from drlib.series.cli.output import Answer, answer_stream, print_json, say, say_error

UsageError = typer.BadParameter.__base__  # of the parser that typer brings
DONE, FAILED, INTERRUPTED = 0, 1, 130  # 2, not understood, is said before a command begins
OF_THE_DISK = {getattr(errno, name) for name in ("EACCES", "EDQUOT", "EEXIST", "EISDIR", "ENOENT", "ENOSPC", "ENOTDIR", "EPERM", "EROFS")}
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="write the answer as JSON, alone on standard output")]

ORDER = ("check", "phantom", "run", "train", "book", "status", "study", "features", "grade", "version")
COHORT, REPRODUCE, APPLY, ABOUT = "Patients", "Reproduce the argument", "Apply a trained model", "About"


class Commands(TyperGroup):
    """A group that answers a mistyped name with all names that there are, in the order of the work."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands: those of ORDER first."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that ``args`` begin with; a usage error that lists every command where there is none."""
        try:
            return super().resolve_command(ctx, args)
        except UsageError as error:
            error.message += f" There are: {', '.join(self.list_commands(ctx))}."
            raise


HELP = """
Deep radiomics: a codebook of glioma imaging phenotypes, from raw MRI to the tumour regions that a classifier relies on.

1. `drlib check DATA` - is the folder of patients sound? (not needed for the phantoms)
2. `drlib run` - execute the notebooks, on phantoms or with `--data DATA`; killed, it goes on where it stopped
3. `drlib book` - build the site: build/html/index.html
4. `drlib features DATA --model shipped --out table.csv` - codeword histograms; needs no run before
5. `drlib grade PATIENT --out graded` - maps and a report, with the model that `drlib run` made
"""
EPILOG = """
DATA is a folder of BraTS-style patients, the folder of one patient, or a CSV manifest with the columns
`patient, t1, t1ce, t2, flair, seg, grade` (the last two may be left out).

Exit status of every command: 0 done; 1 problems were found, or an error that names its mend; 2 not understood; 130 interrupted.

`drlib COMMAND --help` explains a command. `drlib --install-completion` completes commands and options in your shell. Research only: not a
medical device.
"""

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
    epilog=EPILOG,
)
study = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Make again the tables of a study that come with the library; `drlib study NAME --help` explains one.",
    epilog="Each can be killed at any moment and goes on at the next call. Exit status as of `drlib --help`.",
)


def command(group: typer.Typer, *, example: str, writes: str, status: str, kept: str, name: str | None = None, panel: str | None = None):
    """Make a function a command of ``group``: its help ends in an example, what is written and what the exit status means.

    The function returns an Answer, or None where another process answers. ``kept``: what an interruption leaves, and how to go on.
    ``--json`` is added to its options.
    """

    def register(function: Callable[..., Answer | None]) -> Callable[..., Answer | None]:
        @wraps(function)
        def with_outcome(*arguments: Any, as_json: bool, **options: Any) -> None:
            said = f"study {called}" if group is study else called
            with answer_stream(as_json) as stream:
                ended, answer, error = _outcome(lambda: function(*arguments, **options), kept)
                if as_json and not (answer is None and error is None):  # one of several processes speaks
                    print_json(stream, said, ended, answer, error)
            raise typer.Exit(ended)

        called = name or function.__name__
        signature = inspect.signature(function)
        json_option = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
        with_outcome.__signature__ = signature.replace(parameters=[*signature.parameters.values(), json_option])
        with_outcome.__annotations__ = function.__annotations__ | {"as_json": AsJson}
        epilog = f"- **Example**: `{example}`\n- **Writes**: {writes}\n- **Exit status**: {status}; 2 not understood; 130 interrupted"
        group.command(called, epilog=epilog, rich_help_panel=panel)(with_outcome)
        return function

    return register


def _outcome(work: Callable[[], Answer | None], kept: str) -> tuple[int, Answer | None, tuple[str, str] | None]:
    """Return exit status, answer and error (kind and message) of a command's work; an error has been said."""
    try:
        answer = work()
    except KeyboardInterrupt:
        message = f"interrupted. {kept}: {shlex.join(['drlib', *sys.argv[1:]])}"
        say("")
        say_error(message)
        return INTERRUPTED, None, ("Interrupted", message)
    except (DeepRadiomicsError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in OF_THE_DISK:
            raise
        message = str(error) if isinstance(error, DeepRadiomicsError) else _of_the_disk(error)
        say_error(message)
        return FAILED, None, (type(error).__name__, message)
    if answer is None or answer.ok:
        return DONE, answer, None
    if answer.failure is None:
        return FAILED, answer, None
    say_error(answer.failure)
    return FAILED, answer, ("Failed", answer.failure)


def _of_the_disk(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"{where}{error.strerror}. Check the path, your permissions and the free space, then repeat the command; what is complete is kept"
    )
