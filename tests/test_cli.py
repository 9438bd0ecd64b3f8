"""The command line: help, exit status, messages; and what every ship has to agree on (pins, citation)."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from synthetic_patients import write_patient
from test_series import make_project, until, write_notebook
from typer.main import get_command
from typer.testing import CliRunner

from drlib.series.cli import app
from drlib.series.cli.output import Answer

ROOT = Path(__file__).parents[1]
SHAPE = {"command", "drlib", "ok", "exit_status", "answer", "problems", "error"}
GROUP = get_command(app)
COMMANDS = [name for name in GROUP.commands if name != "study"] + [f"study {name}" for name in GROUP.commands["study"].commands]
QUIET = ("NO_COLOR", "CI", "GITHUB_ACTIONS", "FORCE_COLOR")


def drlib(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "drlib.series.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=surroundings(**environment))


def surroundings(**environment: str) -> dict[str, str]:
    return (
        {name: value for name, value in os.environ.items() if name not in QUIET} | {"PYTHONPATH": str(ROOT), "TERM": "xterm"} | environment
    )


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Return everything that ``drlib`` writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "drlib.series.cli", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=surroundings(**environment))
    os.close(theirs)
    said = b""
    try:
        while more := os.read(ours, 2**16):
            said += more
    except OSError:  # what Linux says when the other end is closed
        pass
    process.wait()
    os.close(ours)
    return said.decode()


def answer_of(done: subprocess.CompletedProcess) -> dict:
    """Return the JSON that a command wrote, alone on standard output, after checking what holds for every command."""
    content = json.loads(done.stdout)
    assert set(content) == SHAPE
    assert content["exit_status"] == done.returncode and content["ok"] is (done.returncode == 0)
    assert content["ok"] is (content["error"] is None and not any(problem["severity"] == "error" for problem in content["problems"]))
    return content


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """One sound patient and one whose T2 lacks its second half."""
    root = tmp_path_factory.mktemp("cohort")
    write_patient(root / "HGG" / "sound", "sound", seed=1)
    broken = write_patient(root / "LGG" / "broken", "broken", seed=2) / "broken_t2.nii.gz"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    return root


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_itself(command, width):
    page = CliRunner().invoke(
        app, [*command.split(), "--help"], env={"COLUMNS": str(width), "TERMINAL_WIDTH": str(width)}, prog_name="drlib"
    )
    assert page.exit_code == 0
    text = " ".join(page.output.split())
    assert f"Usage: drlib {command} " in text and f"Example: drlib {command}" in text
    assert "Writes: " in text and "Exit status: 0" in text and "2 not understood; 130 interrupted" in text and "--json" in text
    assert max(map(len, page.output.splitlines())) <= width


def test_help_of_the_whole_says_the_order_of_work_and_the_exit_statuses():
    page = drlib("--help").stdout
    steps = [page.index(f"{number} drlib {name}") for number, name in enumerate(("check", "run", "book", "features", "grade"), start=1)]
    assert steps == sorted(steps)
    assert "0 done; 1 problems were found" in page and "--install-completion" in page
    assert all(re.search(rf"│ {name} ", page) for name in GROUP.commands)


def understand(line: str) -> None:
    """Parse a command line, without running it: a usage error where a command, an option or a value is unknown."""
    name, *arguments = shlex.split(re.sub(r" [#>] .*", "", line).replace("<run>", "run"))[1:]
    group = GROUP
    if name == "study":
        group, (name, *arguments) = GROUP.commands["study"], arguments
    with patch.dict(os.environ):  # an option may speak to the processes that a command starts (--scheduler)
        group.commands[name].make_context(name, arguments)


def test_examples_of_the_help_are_understood():
    for command in COMMANDS:
        group, name = (GROUP.commands["study"], command.split()[1]) if command.startswith("study ") else (GROUP, command)
        understand(re.search(r"Example\*\*: `(.+?)`", group.commands[name].epilog)[1])


@pytest.mark.parametrize("document", ["README.md", "book/own_data.md", "book/cluster.md"])
def test_commands_that_documents_print_are_understood(document):
    text = (ROOT / document).read_text().replace("\\\n", " ")
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    lines = re.findall(r"^(?:\.venv/bin/)?(drlib .+)$", fenced, re.MULTILINE)
    assert lines
    for line in lines:
        understand(line)


def test_readme_lists_every_command():
    table = (ROOT / "README.md").read_text().split("## The command line")[1].split("##")[0]
    assert set(GROUP.commands) == set(re.findall(r"`drlib (\w+)[^`]*`", table.split("The command lies")[0]))
    assert all(f"`{name}`" in table for name in GROUP.commands["study"].commands)


def test_wrong_names_are_answered_with_the_right_ones():
    assert "Did you mean 'features'? There are: check, phantom, run, train" in " ".join(drlib("feature").stderr.replace("│", "").split())
    study = drlib("study", "foo")
    assert study.returncode == 2
    assert "There are: corrections, known-truth, seeds, codebooks, likelihood-ratio" in " ".join(study.stderr.replace("│", "").split())
    assert "Did you mean 'smoke'?" in drlib("status", "--profile", "smok").stderr
    assert "Did you mean 'codebook_size'?" in drlib("status", "--profile", "demo+quantizer.codebok_size=256").stderr
    assert "Did you mean 'authors-code'?" in drlib("status", "--profile", "demo+author-code").stderr
    assert "Did you mean '03'?" in drlib("run", "--profile", "smoke", "--chapters", "3", "--dry-run").stderr


def test_colour_is_for_terminals_alone():
    for arguments in (["--help"], ["nonsense"], ["status", "--profile", "x"]):
        done = drlib(*arguments, GITHUB_ACTIONS="true", FORCE_COLOR="1")
        assert "\033" not in done.stdout + done.stderr, arguments
    assert "\033[" in on_a_terminal("--help") and "\033[31mdrlib:" in on_a_terminal("status", "--profile", "x")
    assert "40m" not in on_a_terminal("--help"), "no black ground, which a light terminal shows as bars"
    for quiet in ({"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "dumb"}):
        assert "\033" not in on_a_terminal("--help", **quiet), quiet


def test_json_is_alone_on_standard_output_and_of_one_shape(cohort, tmp_path):
    version = answer_of(drlib("version", "--json"))
    assert version["answer"]["drlib"] == version["drlib"] and version["answer"]["packages"]["torch"]
    check = answer_of(drlib("check", cohort, "--json", "--workers", 1))
    assert check["exit_status"] == 1 and [problem["code"] for problem in check["problems"]] == ["truncated"]
    assert [(patient["id"], patient["ok"]) for patient in check["answer"]["patients"]] == [("broken", False), ("sound", True)]
    features = answer_of(drlib("features", cohort, "--model", "shipped", "--out", tmp_path / "table.csv", "--json"))
    assert (
        features["exit_status"] == 1 and features["answer"]["patients"] == 1 and features["answer"]["network"].startswith("phantom-trained")
    )
    assert (tmp_path / "table.csv").is_file() and "broken_t2" in features["problems"][0]["message"]
    study = answer_of(drlib("study", "likelihood-ratio", "--data-sets", 1, "--results", tmp_path, "--json"))
    assert study["command"] == "study likelihood-ratio" and Path(study["answer"]["tables"], "rows.csv").is_file()


def test_json_says_errors_too(cohort, tmp_path):
    commands = {
        "grade": (cohort, "--model", "shipped", "--out", tmp_path / "out"),
        "phantom": (tmp_path / "phantom", "--profile", "giant"),
        "train": ("--profile", "smoke", "--results", tmp_path),
        "book": ("--profile", "smoke", "--results", tmp_path, "--seed", 7),
    }
    mends = {"grade": "drlib run --chapters 05", "phantom": "smoke, demo, paper", "train": "--chapters 01", "book": "drlib run"}
    for command, arguments in commands.items():
        done = drlib(command, *arguments, "--json")
        content = answer_of(done)
        assert content["command"] == command and content["answer"] is None and content["exit_status"] == 1
        assert mends[command] in content["error"]["message"] and content["error"]["message"] in done.stderr


def test_json_of_the_series_stands_alone_though_chapters_speak(tmp_path):
    series = make_project(tmp_path / "project")
    write_notebook(series.notebook("03_next"), "print('a chapter speaks')\nraise RuntimeError('out of cheese')")
    failed = drlib("run", "--profile", "smoke", "--json", cwd=series.root)
    content = answer_of(failed)
    states = {chapter["name"]: chapter["state"] for chapter in content["answer"]["chapters"]}
    assert content["exit_status"] == 1 and states["03_next"] == "failed" and states["02_aside"] == "executed"
    assert "not complete" in content["error"]["message"] and "03_next failed in code cell" in failed.stderr
    status = answer_of(drlib("status", "--profile", "smoke", "--json", cwd=series.root))["answer"]["chapters"]
    assert {chapter["name"]: chapter["up_to_date"] for chapter in status}["02_aside"] and status[2]["reason"]


def test_warnings_leave_the_exit_status_alone():
    warning = {"severity": "warning", "code": "no_grade", "file": None, "message": ""}
    assert Answer({}, [warning]).ok and not Answer({}, [warning | {"severity": "error"}]).ok and not Answer({}, failure="x").ok


def test_interruption_says_what_is_kept_and_how_to_go_on(tmp_path):
    series = make_project(tmp_path / "project")
    write_notebook(series.notebook("02_aside"), "import pathlib, time\nwhile pathlib.Path('slow').exists(): time.sleep(0.1)")
    (series.root / "slow").touch()
    arguments = ["run", "--profile", "smoke", "--chapters", "01,02", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "drlib.series.cli", *arguments],
        cwd=series.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: series.executed("01_first").is_file() and series.unfinished("02_aside").is_file())
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "drlib: interrupted. Executed chapters and every complete result are kept" in err
    assert err.rstrip().endswith("drlib run --profile smoke --chapters 01,02 --json") and "Traceback" not in err
    content = json.loads(out)
    assert content["exit_status"] == 130 and content["error"]["kind"] == "Interrupted"
    assert series.executed("01_first").is_file()


def test_places_that_cannot_be_written_are_refused_before_the_work(cohort, tmp_path):
    (tmp_path / "file").touch()
    cases = [
        (("features", cohort, "--model", "shipped", "--out", cohort / "HGG" / "t.csv"), "lies inside the patients' folder"),
        (("grade", cohort, "--out", cohort / "graded"), "Give a folder outside it"),
        (("grade", cohort, "--out", tmp_path / "file" / "x"), "is a file, where a folder was due"),
        (("phantom", tmp_path / "file"), "is a file, where a folder was due"),
        (("status", "--data", cohort, "--results", cohort / "results"), "results must not mix with data"),
    ]
    for arguments, words in cases:
        done = drlib(*arguments)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, arguments
    assert not (cohort / "graded").exists() and not (cohort / "results").exists()
    folder = tmp_path / "features.csv"
    folder.mkdir()
    assert "is a folder, where a file was due" in drlib("features", cohort, "--model", "shipped", "--out", folder).stderr


def test_device_that_is_not_there_is_one_sentence(cohort, tmp_path):
    done = drlib("features", cohort, "--model", "shipped", "--device", "tank", "--out", tmp_path / "t.csv")
    assert done.returncode == 1 and "no device 'tank' here: give cpu, or cuda" in done.stderr and "Traceback" not in done.stderr


def test_version_is_said_in_short_and_in_full():
    short = drlib("--version").stdout
    assert re.fullmatch(r"drlib \d+\.\d+\.\d+\n", short)
    full = drlib("version").stdout
    assert full.startswith(short.strip()) and "torch" in full


def test_command_that_is_not_understood_exits_with_2(tmp_path):
    assert drlib("nonsense").returncode == 2
    assert drlib("features", tmp_path, "--out", tmp_path / "table.xlsx").returncode == 2
    assert drlib("phantom", tmp_path, "--variant", "nonsense").returncode == 2


def test_known_error_is_one_message_without_a_traceback(tmp_path):
    done = drlib("phantom", tmp_path / "cohort", "--profile", "giant")
    assert done.returncode == 1
    assert done.stderr.startswith("drlib: unknown profile 'giant'; there are smoke, demo, paper")
    assert "Traceback" not in done.stderr


def test_missing_model_says_how_to_make_one(tmp_path):
    done = drlib("features", tmp_path / "patients", "--out", tmp_path / "table.csv", cwd=tmp_path)
    assert done.returncode == 1 and "drlib run" in done.stderr and "the word shipped" in done.stderr


def test_series_outside_the_project_says_where_to_go(tmp_path):
    done = drlib("status", cwd=tmp_path)
    assert done.returncode == 1 and "inside the project's folder" in done.stderr


def test_check_of_a_folder_without_patients_fails_in_json_too(tmp_path):
    assert drlib("check", tmp_path, "--json").returncode == 1


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.lower().replace("_", "-").split("==") for line in lines if line and not line.startswith("#"))


def test_lock_pins_every_dependency_exactly_and_publicly():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    names = {re.split(r"[<>=\[; ]", line)[0].lower().replace("_", "-") for line in wanted}
    assert names <= set(pins())
    assert all(re.fullmatch(r"[\w.]+", version) for version in pins().values()), "a local version such as +cpu exists for nobody else"


def test_installed_versions_are_those_of_the_lock():
    from importlib.metadata import version

    installed = {name: version(name).split("+")[0] for name in pins()}
    assert installed == pins()


def test_conda_environment_takes_its_versions_from_the_lock():
    *packages, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert "python=3.11" in packages
    assert pip["pip"][0] == f"torch=={pins()['torch']}" and "-r requirements.lock" in pip["pip"]


def test_public_documents_are_well_formed():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        assert yaml.safe_load(path.read_text())["jobs"]
    assert json.dumps(yaml.safe_load((ROOT / "_config.yml").read_text()))
