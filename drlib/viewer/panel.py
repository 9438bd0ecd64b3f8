"""The base of the widgets: alive in a page without a kernel by what they carry, and answered by the library where a kernel runs.

A widget's script and style lie in ``static``. It shows its ``content``, and what can be computed from it, without asking anybody. Where a
kernel runs it also sets ``asked``; the kernel sets ``answered``. Controls that need the kernel are hidden until the first answer comes.
"""

from pathlib import Path
from typing import Any

import anywidget
import traitlets
from nbformat import NotebookNode

STATIC = Path(__file__).parent / "static"
VIEW, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"
LEFT_OUT = "This widget is left out: it holds images of patients, and publishing them was not asked for."


class Panel(anywidget.AnyWidget):
    """A widget of ours; ``content`` is what it shows, in JSON and bytes.

    ``images`` says whether ``content`` holds images of patients. A subclass gives its script as ``_esm`` and overrides :meth:`answer`
    where it has more to say to a kernel's user.
    """

    images = traitlets.Bool(False).tag(sync=True)
    content = traitlets.Dict().tag(sync=True)
    asked = traitlets.Dict().tag(sync=True)
    answered = traitlets.Dict().tag(sync=True)
    _css = (STATIC / "panel.css").read_text(encoding="utf-8")

    def __init__(self, content: dict[str, Any]):
        super().__init__(content=content)
        self.observe(self._hear, names="asked")

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return what the kernel says to what the browser asked; nothing is asked to hear whether there is a kernel."""
        return {}

    def _hear(self, change: dict[str, Any]) -> None:
        asked = dict(change["new"])
        number = asked.pop("number", 0)
        self.answered = self.answer(asked) | {"number": number}


def leave_panels_out(notebook: NotebookNode) -> NotebookNode:
    """Return an executed notebook without the widgets that hold images of patients: a sentence stands in the place of each."""
    states = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    hidden = {model for model, kept in states.items() if kept.get("state", {}).get("images") is True}
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if output.get("data", {}).get(VIEW, {}).get("model_id") in hidden:
            output.data = NotebookNode({"text/html": f"<p>{LEFT_OUT}</p>"})
    for model in hidden:
        del states[model]
    return notebook


def read_script(name: str) -> str:
    """Return a widget's script behind what all share: one module, for one that is imported from a blob cannot import its neighbours."""
    return "\n".join((STATIC / part).read_text(encoding="utf-8") for part in ("panel.js", name))
