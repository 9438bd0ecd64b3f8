"""Chapter 03's training as a command: on several devices, started by the chapter, by itself and by torchrun."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_patients import write_patient

from drlib.artifacts import ArtifactError
from drlib.segmentation.training import TrainingError, launch
from drlib.series.run import DEVICES, Run, open_run
from drlib.series.stages.cohort import prepare_cohort
from drlib.series.stages.segmentation import train_and_evaluate, train_model

ROOT = Path(__file__).parents[1]
PROFILE = "smoke+cohort.spacing_mm=1+preprocessing.image_size=32+network.filters=[8,8]+training.epochs=3"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    for number in range(6):
        write_patient(folder / "data" / ("HGG" if number % 2 else "LGG") / f"p{number}", f"p{number}", seed=number)
    return open_run(PROFILE, str(folder / "data"), str(folder / "results"))


def test_a_training_without_a_cohort_says_what_to_run_first(run):
    with pytest.raises(ArtifactError, match="drlib run .* --chapters 01"):
        train_model(run)


def test_devices_that_are_not_there_are_named(run):
    with pytest.raises(TrainingError, match="1 x 1 x tank"):
        launch(run.profile, "tank")


def test_one_device_is_one_process_also_in_a_notebook_and_in_a_job_of_several_tasks(run, monkeypatch):
    monkeypatch.setattr(sys, "ps1", "In: ", raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert launch(run.profile).world_size == 1


@pytest.mark.slow
def test_chapter_and_torchrun_train_on_two_devices_and_end_with_the_same_bits(run, monkeypatch):
    prepare_cohort(run)
    monkeypatch.setenv(DEVICES, "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    segmentation = train_and_evaluate(run)
    assert segmentation.model.card["provenance"]["devices"] == "2 x cpu" and len(segmentation.log) == 3
    weights = (run.folder / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(run.folder / "model")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "drlib.series.cli"]
    options = ["--profile", PROFILE, "--data", run.data_dir, "--results", run.folder.parent, "--devices", "2"]
    done = subprocess.run([*command, "train", *map(str, options)], cwd=ROOT, timeout=300, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trained: ") == 1  # one process speaks
    assert (run.folder / "model" / "model.safetensors").read_bytes() == weights
