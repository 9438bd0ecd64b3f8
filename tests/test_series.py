"""The series: order, freshness by content, resuming, failures (drlib.series.workflow, execute)."""

import datetime
import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from drlib.errors import DeepRadiomicsError
from drlib.series.execute import _has_ended, format_seconds
from drlib.series.workflow import Series, SeriesError, read_chapters, run_series

ORDER = """
01_first: {minutes: {smoke: 0.1}}
02_aside: {}
03_next: {needs: [01_first]}
04_last: {needs: [all]}
"""
BUILD_A_STAGE = """\
from drlib.series.run import open_run
run = open_run(profile, data_dir, results_dir, seed)
run.build("cohort", (), (), lambda folder: (folder / "answer.txt").write_text("42"))"""


def write_notebook(path: Path, *code: str) -> None:
    parameters = nbformat.v4.new_code_cell(
        'profile = "demo"\ndata_dir = None\nresults_dir = "results"\nseed = 0', metadata={"tags": ["parameters"]}
    )
    cells = [nbformat.v4.new_markdown_cell(f"# {path.stem}"), parameters, *map(nbformat.v4.new_code_cell, code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


def make_project(root: Path) -> Series:
    (root / "notebooks").mkdir(parents=True)
    (root / "_toc.yml").write_text("root: book/intro\n")
    (root / "notebooks" / "series.yml").write_text(ORDER)
    write_notebook(root / "notebooks" / "01_first.ipynb", BUILD_A_STAGE)
    for name in ("02_aside", "03_next", "04_last"):
        write_notebook(root / "notebooks" / f"{name}.ipynb", "answer = 42")
    return Series(root, "smoke")


@pytest.fixture(scope="module")
def executed_once(tmp_path_factory):
    series = make_project(tmp_path_factory.mktemp("series") / "project")
    return series, run_series(series)


@pytest.fixture
def executed(executed_once, tmp_path) -> Series:
    """A copy of an executed project, which a test may change."""
    return Series(shutil.copytree(executed_once[0].root, tmp_path / "project"), "smoke")


def stale(series: Series) -> list[str]:
    again = Series(series.root, series.profile, series.data_dir, series.results_dir, series.seed)  # nothing remembered
    return [name[:2] for name in again.chapters if again.stale_reason(name)]


def edit(series: Series, name: str, cell: int, text: str) -> None:
    notebook = nbformat.read(series.notebook(name), as_version=4)
    notebook.cells[cell].source += text
    nbformat.write(notebook, series.notebook(name))


def test_every_chapter_is_executed_with_the_parameters(executed_once):
    series, outcomes = executed_once
    assert [(o.name, o.state) for o in outcomes] == [(name, "executed") for name in series.chapters]
    injected = nbformat.read(series.executed("03_next"), as_version=4).cells[2]
    assert 'profile = "smoke"' in injected.source and "injected-parameters" in injected.metadata.tags


def test_no_two_chapters_are_executed_at_once_unless_asked(executed_once):
    records = [executed_once[0].read_record(name) for name in executed_once[0].chapters]
    finished = [datetime.datetime.fromisoformat(record["finished"]).timestamp() for record in records]
    spans = sorted((end - record["seconds"], end) for end, record in zip(finished, records, strict=True))
    assert all(later[0] > earlier[1] - 1.5 for earlier, later in itertools.pairwise(spans)), spans  # times are whole seconds


def test_second_run_executes_nothing_even_in_a_copied_project(executed):
    lines = []
    assert {outcome.state for outcome in run_series(executed, say=lines.append)} == {"fresh"}
    assert lines == []


def test_touching_files_makes_nothing_stale(executed):
    for path in executed.root.rglob("*"):
        os.utime(path)
    assert stale(executed) == []


def test_edited_code_makes_the_chapter_and_its_dependents_stale(executed):
    edit(executed, "03_next", 2, "\nanswer += 1")
    assert stale(executed) == ["03", "04"]
    outcomes = run_series(executed)
    assert [outcome.name[:2] for outcome in outcomes if outcome.state == "executed"] == ["03", "04"]
    assert stale(executed) == []


def test_edited_prose_makes_only_its_own_chapter_stale(executed):
    edit(executed, "01_first", 0, "\nmore words")
    assert stale(executed) == ["01"]


def test_lost_result_makes_stale_who_made_it_and_who_reads_it(executed):
    shutil.rmtree(executed.run.folder / "cohort")
    assert stale(executed) == ["01", "03", "04"]


def test_other_seed_profile_data_and_sources_are_another_run(executed, tmp_path):
    everything = ["01", "02", "03", "04"]
    (tmp_path / "data").mkdir()
    assert stale(Series(executed.root, "smoke", seed=1)) == everything
    assert stale(Series(executed.root, "smoke+training.epochs=9")) == everything
    assert stale(Series(executed.root, "smoke", data_dir=str(tmp_path / "data"))) == everything
    executed.__dict__["_source_hash"] = "another version of drlib"
    assert executed.stale_reason("02_aside") == "the drlib sources changed"


def test_changed_data_file_makes_the_series_stale(executed, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "x.nii").write_text("voxels")
    before = Series(executed.root, "smoke", data_dir=str(data)).inputs("01_first")
    (data / "x.nii").write_text("voxels!")
    assert Series(executed.root, "smoke", data_dir=str(data)).inputs("01_first") != before


def test_asking_for_a_chapter_runs_what_it_needs_and_no_more(executed):
    assert executed.select(["03"]) == ["01_first", "03_next"]
    with pytest.raises(SeriesError, match="no chapter '9'; there are 01_first"):
        executed.select(["9"])


def test_failing_chapter_stops_its_dependents_only_and_says_where(executed, capfd):
    edit(executed, "01_first", 2, "\nraise RuntimeError('out of cheese')")
    edit(executed, "02_aside", 2, "\nanswer += 1")
    outcomes = {outcome.name[:2]: outcome.state for outcome in run_series(executed)}
    assert outcomes == {"01": "failed", "02": "executed", "03": "not run", "04": "not run"}
    said = capfd.readouterr().out
    assert "01_first failed in code cell 3: RuntimeError: out of cheese" in said
    assert "01_first.unfinished.ipynb" in said


def test_killed_run_leaves_nothing_behind_and_the_next_one_goes_on(tmp_path):
    series = make_project(tmp_path / "project")
    write_notebook(series.notebook("02_aside"), "import pathlib, time\nwhile pathlib.Path('slow').exists(): time.sleep(0.1)")
    (series.root / "slow").touch()
    command = [sys.executable, "-m", "drlib.series.cli", "run", "--profile", "smoke", "--chapters", "01,02"]
    process = subprocess.Popen(command, cwd=series.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: series.executed("01_first").is_file() and series.unfinished("02_aside").is_file())
    finally:
        process.kill()
        process.wait()
    until(lambda: not chapters_at_work(series), 30)  # without this, the chapter may end before it notices
    (series.root / "slow").unlink()
    done = subprocess.run(command, cwd=series.root, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "01_first                 fresh" in done.stdout and "02_aside                 executed" in done.stdout


def chapters_at_work(series: Series) -> list[int]:
    """Return the processes that execute a chapter of ``series``."""
    found = ((process.pid, " ".join(process.info["cmdline"] or ())) for process in psutil.process_iter(["cmdline"]))
    return [pid for pid, command in found if "drlib.series.execute" in command and str(series.folder) in command]


def until(condition, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_order_file_with_an_unknown_chapter_is_refused(tmp_path):
    series = make_project(tmp_path / "project")
    (series.root / "notebooks" / "series.yml").write_text("01_first: {needs: [00_zero]}\n")
    with pytest.raises(SeriesError, match="01_first needs '00_zero', which is not listed before it"):
        read_chapters(series.root)
    with pytest.raises(DeepRadiomicsError, match="run this command inside the project's folder"):
        read_chapters(tmp_path)


def test_project_lists_every_notebook_it_has():
    notebooks = Path(__file__).parents[1] / "notebooks"
    assert set(read_chapters(notebooks.parent)) == {path.stem for path in notebooks.glob("*.ipynb")}


def test_durations_read_as_people_say_them():
    assert [format_seconds(s) for s in (3.4, 60, 365)] == ["3 s", "1 min 00 s", "6 min 05 s"]


def test_chapter_ends_with_a_command_that_nobody_has_noticed_the_end_of():
    command = subprocess.Popen([sys.executable, "-c", ""])
    until(lambda: psutil.Process(command.pid).status() == psutil.STATUS_ZOMBIE)
    assert _has_ended(command.pid) and not _has_ended(os.getpid())
    command.wait()
    assert _has_ended(command.pid)
