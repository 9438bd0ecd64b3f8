"""The series on a cluster: jobs with their resources, submitted to a scheduler that runs them elsewhere (drlib.series.workflow)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from test_series import BUILD_A_STAGE, make_project, until, write_notebook

from drlib.series.workflow import CLUSTERS, Series, SeriesError, cluster_profile, run_series

ROOT = Path(__file__).parents[1]
SUBMIT = """#!/bin/sh
# As sbatch does: take a script, give it a number, run it elsewhere, with an environment of its own.
echo "$@" >> {folder}/submitted
env -u DRLIB_SCHEDULER setsid sh "$1" > {folder}/job.log 2>&1 < /dev/null &
echo $!
"""
RECORD_SCHEDULER = 'import os, pathlib\npathlib.Path("scheduler").write_text(os.environ.get("DRLIB_SCHEDULER", "none"))'


@pytest.fixture
def profile(tmp_path) -> Path:
    """A Snakemake profile whose submit command runs the job in the background."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    submit = folder / "submit"
    submit.write_text(SUBMIT.format(folder=folder))
    submit.chmod(0o755)
    options = {"executor": "cluster-generic", "cluster-generic-submit-cmd": str(submit), "jobs": 2, "latency-wait": 20}
    options |= {"seconds-between-status-checks": 1, "max-status-checks-per-second": 10}
    (folder / "config.yaml").write_text(yaml.safe_dump(options))
    return folder


def test_dry_run_names_the_jobs_with_the_resources_of_the_slurm_profile_and_submits_nothing(tmp_path):
    series = make_project(tmp_path / "project")
    write_notebook(series.notebook("03_segmentation"), "answer = 42")
    (series.root / "notebooks" / "series.yml").write_text("01_first: {}\n03_segmentation: {needs: [01_first]}\n")
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f"#!/bin/sh\ntouch {tmp_path}/submitted\nexit 1\n")
    sbatch.chmod(0o755)
    command = [sys.executable, "-m", "drlib.series.cli", "run", "--profile", "smoke", "--cluster", "slurm", "--dry-run"]
    environment = os.environ | {"PATH": f"{sbatch.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=series.root, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.split("rule chapter_01_first:")[1].split("rule chapter_03_segmentation:")
    settings = yaml.safe_load((CLUSTERS / "slurm" / "config.yaml").read_text())
    training = settings["set-resources"]["chapter_03_segmentation"]
    assert all(f"{name}={training[name]}" in second for name in ("runtime", "mem_mb", "gpu"))
    assert all(f"{name}={value}" in first for name, value in settings["default-resources"].items()) and "gpu" not in first
    assert not (tmp_path / "submitted").exists() and not series.executed("01_first").exists()


def test_slurm_profile_names_chapters_that_there_are():
    settings = yaml.safe_load((CLUSTERS / "slurm" / "config.yaml").read_text())
    chapters = {f"chapter_{name}" for name in Series(ROOT).chapters}
    assert set(settings["set-resources"]) <= chapters


def test_profile_is_a_folder_or_one_that_comes_with_the_library(profile, tmp_path):
    assert cluster_profile(str(profile)) == profile and cluster_profile("slurm") == CLUSTERS / "slurm"
    with pytest.raises(SeriesError, match=r"no profile of a cluster.*config\.yaml.*slurm"):
        cluster_profile(str(tmp_path))


def test_chapters_are_jobs_of_the_cluster_and_know_the_scheduler(profile, tmp_path, monkeypatch):
    series = make_project(tmp_path / "project")
    write_notebook(series.notebook("01_first"), BUILD_A_STAGE, RECORD_SCHEDULER)
    write_notebook(series.notebook("03_next"), "raise RuntimeError('out of cheese')")
    monkeypatch.setenv("DRLIB_SCHEDULER", "tcp://node1:8786")
    lines = []
    outcomes = {outcome.name: outcome.state for outcome in run_series(series, ["03"], say=lines.append, cluster=str(profile))}
    assert outcomes == {"01_first": "executed", "03_next": "failed"}
    assert len((profile / "submitted").read_text().splitlines()) == 2
    assert (series.root / "scheduler").read_text() == "tcp://node1:8786"
    assert "injected-parameters" in str(nbformat.read(series.executed("01_first"), as_version=4))
    assert any("03_next failed" in line and "03_next.unfinished.ipynb" in line for line in lines)


def test_jobs_outlive_the_command_that_submitted_them_and_the_next_one_waits_for_them(profile, tmp_path):
    series = make_project(tmp_path / "project")
    slow = "import pathlib, time\nwhile pathlib.Path('slow').exists(): time.sleep(0.1)"
    write_notebook(series.notebook("02_aside"), slow, "pathlib.Path('runs').open('a').write('x')")
    (series.root / "slow").touch()
    command = [sys.executable, "-m", "drlib.series.cli", "run", "--profile", "smoke", "--chapters", "02", "--cluster", str(profile)]
    process = subprocess.Popen(command, cwd=series.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: series.unfinished("02_aside").is_file())
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    again = subprocess.Popen(command, cwd=series.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until(lambda: len((profile / "submitted").read_text().splitlines()) == 2)
    (series.root / "slow").unlink()
    said = again.communicate(timeout=240)[0]
    assert again.returncode == 0 and "02_aside                 executed" in said, said
    assert (series.root / "runs").read_text() == "xx", "the first job was ended with the command that submitted it"
    assert json.loads((series.folder / "plan.json").read_text())["process"] is None
