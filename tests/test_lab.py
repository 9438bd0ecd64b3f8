"""Notebooks in JupyterLab as a person uses them: opened, run, played with, in a browser with no address outside this computer."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from browser import NO_BROWSER, changes, drag_codeword, find_chromium, says, visit
from project import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_chromium() is None, reason=NO_BROWSER)]
STARTS, STOPS = 90, 20  # seconds
SECONDS_PER_NOTEBOOK = 300

OPEN = """async path => {
  const app = jupyterapp;
  await app.restored;
  const widget = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'});
  await widget.context.ready;
  await widget.sessionContext.ready;
  await widget.sessionContext.session.kernel.info;
  widget.content.notebookConfig = {...widget.content.notebookConfig, windowingMode: 'none'};
}"""
RUN = "() => { jupyterapp.commands.execute('notebook:run-all-cells').then(ran => { window.ran = ran ?? true; }); }"
AT_REST = "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
CELLS = "() => jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells"
CLOSE = "() => jupyterapp.shell.currentWidget.sessionContext.shutdown()"  # the kernel, so that the next notebook has the memory


@dataclass(frozen=True)
class Lab:
    """A JupyterLab that runs: its address, its token, its process and where it keeps what it knows of its kernels."""

    address: str
    token: str
    process: subprocess.Popen
    runtime: Path

    def processes(self) -> list[psutil.Process]:
        """The server and its kernels, wherever they hang in the tree: each has the runtime folder in its environment."""
        return [process for process in psutil.process_iter() if _belongs(process, self.runtime)]


def _belongs(process: psutil.Process, runtime: Path) -> bool:
    try:
        return process.environ().get("JUPYTER_RUNTIME_DIR") == str(runtime) and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


@contextmanager
def start_lab(folder: Path, own: Path) -> Iterator[Lab]:
    """Start JupyterLab on this computer only, at a free port, with a token of its own making; end it and its kernels whatever happens."""
    runtime = own / "runtime"
    environment = os.environ | {f"JUPYTER_{name}_DIR": str(own / name.lower()) for name in ("RUNTIME", "CONFIG", "DATA")}
    environment |= {f"JUPYTERLAB_{name}_DIR": str(own / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", "--port=0", "--no-browser", f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += ["--allow-root"] if os.geteuid() == 0 else []
    with (own / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    lab = Lab("", "", process, runtime)
    try:
        server = _wait_for_server(process, runtime, own / "log")
        yield Lab(server["url"], server["token"], process, runtime)
    finally:
        _end(lab)


def _wait_for_server(process: subprocess.Popen, runtime: Path, log: Path) -> dict:
    """Return what the server writes about itself once it listens."""
    deadline = time.monotonic() + STARTS
    while time.monotonic() < deadline and process.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                return json.loads(file.read_text())
            except json.JSONDecodeError:  # it is being written
                pass
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start in {STARTS} s:\n{log.read_text()[-3000:]}")


def _end(lab: Lab) -> None:
    """Ask the server to end, which ends its kernels; then end what is left by force."""
    started = lab.processes()
    lab.process.send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs(started, timeout=STOPS)
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=STOPS)
    lab.process.wait(timeout=STOPS)


@pytest.fixture(scope="module")
def lab(series, tmp_path_factory) -> Iterator[Lab]:
    """JupyterLab beside the results of the session's series, with copies of the notebooks whose parameters name them."""
    notebooks = series.root / "lab"
    notebooks.mkdir(exist_ok=True)
    for name in series.chapters:
        text = series.notebook(name).read_text(encoding="utf-8")
        (notebooks / f"{name}.ipynb").write_text(text.replace(r"profile = \"demo\"", rf"profile = \"{series.profile}\""), encoding="utf-8")
    with start_lab(series.root, tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@contextmanager
def run_notebook(chromium, lab: Lab, name: str):
    """Open a notebook, run all its cells, and give the page once the kernel has come to rest without an error."""
    with visit(chromium, f"{lab.address}lab?token={lab.token}", inside=lab.address) as opened:
        page = opened.page
        page.wait_for_function("() => window.jupyterapp", timeout=STARTS * 1000)
        page.evaluate(OPEN, f"lab/{name}.ipynb")
        page.evaluate(RUN)
        page.wait_for_function("() => window.ran !== undefined", timeout=SECONDS_PER_NOTEBOOK * 1000)
        page.wait_for_function(AT_REST)
        cells = [cell for cell in page.evaluate(CELLS) if cell["cell_type"] == "code"]
        failed = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
        assert not failed, "\n".join(f"{output['ename']}: {output['evalue']}" for output in failed)
        assert all(cell["execution_count"] for cell in cells if "".join(cell["source"]).strip())
        yield page
        assert opened.outside == []
        page.evaluate(CLOSE)


def widget_of(page, kind: str):
    """The widget of that class, in view, with what only a kernel can do."""
    widget = page.locator(f".drlib-{kind}").first
    widget.wait_for()
    widget.scroll_into_view_if_needed()
    return widget


def test_lab_is_heard_on_this_computer_only_and_by_those_who_have_its_token(lab):
    port = urlsplit(lab.address).port
    with pytest.raises(OSError):  # a server that listens at every address answers at this one too
        socket.create_connection(("127.0.0.2", port), timeout=2)
    assert urlsplit(lab.address).hostname == "127.0.0.1" and len(lab.token) >= 40
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{lab.address}api/contents")
    assert urllib.request.urlopen(f"{lab.address}api/contents?token={lab.token}").status == 200


def test_quantizer_is_dragged_and_trained_in_a_running_notebook(chromium, lab):
    with run_notebook(chromium, lab, "02_vector_quantizer") as page:
        widget = widget_of(page, "quantizer")
        before = widget.locator(".drlib-said").inner_text()
        widget.get_by_role("button", name="Step", exact=True).click()
        assert says(page, widget, before).startswith("Step 1:")
        drag_codeword(page, widget)


def test_threshold_moves_the_confusion_matrix_in_a_running_notebook(chromium, lab):
    with run_notebook(chromium, lab, "05_grading") as page:
        widget = widget_of(page, "grading")
        said, tables = widget.locator(".drlib-said").inner_text(), widget.locator(".drlib-HGG").inner_text()
        widget.get_by_label("threshold", exact=True).fill("0.9")
        assert "0.90" in says(page, widget, said)
        assert widget.locator(".drlib-HGG").inner_text() != tables


def test_kernel_answers_the_sliders_of_the_perturbation_panel(chromium, lab):
    with run_notebook(chromium, lab, "06_robustness") as page:
        widget = widget_of(page, "perturbation")
        widget.locator(".drlib-live").first.wait_for()
        said, canvas = widget.locator(".drlib-said").inner_text(), widget.locator("canvas").first
        shift = widget.get_by_label("shift", exact=True)
        changes(page, canvas, lambda: shift.fill(shift.get_attribute("max")), "shift")
        shifted = says(page, widget, said)
        widget.get_by_role("button", name="As it is").click()
        assert says(page, widget, shifted).startswith("Difference ratio 0.00")


def test_ending_the_lab_leaves_no_kernel_behind(series, tmp_path):
    with start_lab(series.root, tmp_path) as lab:
        request = urllib.request.Request(f"{lab.address}api/kernels?token={lab.token}", data=b"{}", method="POST")
        assert urllib.request.urlopen(request).status == 201
        assert len(lab.processes()) >= 2
    assert lab.processes() == []
