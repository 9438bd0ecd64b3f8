"""What commands say and to whom: answers on standard output, everything for people who wait on standard error, JSON on request."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

from drlib import __version__

COLOURS = {"red": 31, "green": 32, "yellow": 33, "bold": 1}


@dataclass(frozen=True)
class Answer:
    """What a command found.

    ``content``: what JSON can hold. ``problems``: records with ``severity``, ``code``, ``file`` and ``message``. ``failure``: why the
    work as a whole is not done, with the mend; None where it is done. ``ok``: whether the exit status is 0.
    """

    content: dict[str, Any]
    problems: list[dict[str, Any]] = field(default_factory=list)
    failure: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing failed and no problem is an error (warnings are allowed)."""
        return self.failure is None and not any(problem["severity"] == "error" for problem in self.problems)


def print_json(stream: TextIO, command: str, status: int, answer: Answer | None, error: tuple[str, str] | None) -> None:
    """Write the one shape that ``--json`` has for every command.

    ``command``, ``drlib`` (version), ``ok``, ``exit_status``, ``answer`` (differs by command; null where there is none), ``problems``,
    ``error`` (``kind`` and ``message``, or null).
    """
    content = {
        "command": command,
        "drlib": __version__,
        "ok": status == 0,
        "exit_status": status,
        "answer": None if answer is None else answer.content,
        "problems": [] if answer is None else answer.problems,
        "error": None if error is None else dict(zip(("kind", "message"), error, strict=True)),
    }
    print(json.dumps(content, indent=2, allow_nan=False), file=stream, flush=True)


@contextmanager
def answer_stream(as_json: bool) -> Iterator[TextIO]:
    """Yield standard output; ``as_json``: all else that this process and its children print there goes to standard error meanwhile."""
    if not as_json:
        yield sys.stdout
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(kept, "w", encoding="utf-8", closefd=False) as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def tell(line: str) -> None:
    """Print a line of the answer, or of the record of the work, on standard output, at once."""
    print(line, flush=True)


def say(line: str) -> None:
    """Print a line for people on standard error, beside an answer on standard output."""
    print(line, file=sys.stderr, flush=True)


def say_error(message: str) -> None:
    """Print why the command ends without having done its work."""
    say(f"{paint('drlib:', 'red', sys.stderr)} {message}")


def shows_progress() -> bool:
    """Whether somebody watches: progress is drawn on a terminal only."""
    return sys.stderr.isatty()


def is_coloured(stream: TextIO) -> bool:
    """Whether colour may be written to ``stream``: a terminal that can, no ``NO_COLOR`` (no-color.org), and no continuous integration."""
    wanted = not (os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb")
    return wanted and stream.isatty()


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Return ``text`` in one of COLOURS where ``stream`` may be coloured, else as it is."""
    return f"\033[{COLOURS[colour]}m{text}\033[0m" if is_coloured(stream) else text


def prepare_help() -> None:
    """Hold the help pages to the same rule, and make them legible on a light terminal.

    Left alone they are coloured in GitHub's actions, bold in spite of ``NO_COLOR``, dim after their first paragraph, with code on black.
    """
    if not (is_coloured(sys.stdout) and is_coloured(sys.stderr)):
        os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"
    elif len(sys.argv) <= 2 or {"-h", "--help"} & set(sys.argv):  # a page is due, so that rich is imported anyway
        from rich.default_styles import DEFAULT_STYLES
        from rich.style import Style
        from typer import rich_utils

        DEFAULT_STYLES["markdown.code"] = Style.parse("bold cyan")
        rich_utils.STYLE_HELPTEXT = ""
