"""The command line: help, exit status, messages; and what every ship has to agree on (pins, citation)."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMMANDS = ["phantom", "check", "features", "grade", "run", "train", "book", "status", "version"]


def drlib(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "drlib.series.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    done = drlib(command, "--help")
    assert done.returncode == 0 and f"drlib {command}" in done.stdout


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
    done = drlib("features", tmp_path, "--out", tmp_path / "table.csv", cwd=tmp_path)
    assert done.returncode == 1 and "drlib run" in done.stderr


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
