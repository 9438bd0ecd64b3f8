"""The command line ``drlib``: every capability of the project as one command, with help, progress, exit status and JSON on request.

Exit status: 0 done; 1 problems were found, or an error whose message names the mend; 2 the command was not understood; 130 interrupted
(Ctrl-C): what is kept and how to go on is said. Modules that take long to import are imported by the command that needs them.
"""

import sys

from drlib.errors import DeepRadiomicsError
from drlib.series.cli import about, chapters, patients, studies
from drlib.series.cli.app import app
from drlib.series.cli.output import prepare_help, say_error

COMMANDS = (patients, chapters, studies, about)  # importing them made their commands known


def main() -> None:
    """Run the command that the arguments of this process name."""
    prepare_help()
    try:
        app(prog_name="drlib")
    except DeepRadiomicsError as error:  # of an option, before a command began
        say_error(str(error))
        sys.exit(1)
