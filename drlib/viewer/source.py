"""The library's own lines beside the equation they implement."""

import inspect
from collections.abc import Callable
from pathlib import Path

from IPython.display import Markdown

REPOSITORY = "https://github.com/deep-radiomics/deep-radiomics"


def show_source(thing: Callable, docstring: bool = False) -> Markdown:
    """Return the source of a function or class of the library as a highlighted block with a link to its file.

    The lines are read from the installed library when the notebook runs, so that text and code cannot drift apart.
    ``docstring=False`` leaves the docstring out, for it repeats what the page says.
    """
    lines, first = inspect.getsourcelines(thing)
    source = inspect.cleandoc("\n" + "".join(lines)) if lines[0].startswith(" ") else "".join(lines)
    if not docstring and thing.__doc__:
        quoted = next((q for q in ('"""', "'''") if q in source), None)
        if quoted:
            head, _, rest = source.partition(quoted)
            _, _, tail = rest.partition(quoted)
            source = head.rstrip() + tail
    package = Path(__file__).parents[1]
    path = Path(inspect.getsourcefile(thing)).relative_to(package.parent)
    link = f"{REPOSITORY}/blob/main/{path.as_posix()}#L{first}"
    return Markdown(f"```python\n{source.rstrip()}\n```\n[`{path.as_posix()}`, line {first}]({link})")
