"""Patients in parallel: on this machine, and on a real Dask scheduler with two workers, one of which is killed (drlib.parallel)."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client

from drlib import parallel
from drlib.cohort import validation
from drlib.cohort.brats import find_patients
from drlib.cohort.phantom import make_cohort
from drlib.cohort.slices import build_slice_store
from drlib.cohort.validation import check_cohort
from drlib.parallel import SCHEDULER, SchedulerError, SoftwareWarning, map_patients
from drlib.profiles import CohortSettings, load_profile
from drlib.radiomics.histogram import count_codewords
from drlib.radiomics.robustness import Perturbation, count_perturbed
from drlib.segmentation.model import save_model
from drlib.segmentation.network import SegmentationNetwork
from drlib.series.apply import extract_features, open_applied_model

PROFILE = load_profile("smoke+preprocessing.image_size=32")
SETTINGS = CohortSettings(spacing_mm=4.0, n_segmentation=4, n_grading=8, lgg_share=0.375)
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(Path(__file__).parent),  # the workers import the functions of this file
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    "OMP_NUM_THREADS": "1",
}


def double(number: int, factor: int = 2) -> int:
    time.sleep(0.02 * (5 - number))  # the last is finished first
    return number * factor


def fail_for_three(number: int) -> int:
    if number == 3:
        raise ValueError("no patient has the number three")
    return number


def fail_as_a_full_disk(number: int, folder: Path) -> None:
    (folder / str(number)).touch()
    raise OSError(28, "No space left on device")


def die_for_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


class Luggage:
    """Says whenever a process unpacks it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= state
        (self.folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()


def carry(number: int, luggage: Luggage) -> int:
    time.sleep(0.02)
    return os.getpid()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_results_come_in_order_where_asked_and_all_of_them_otherwise(n_jobs):
    assert list(map_patients(double, range(5), 3, n_jobs=n_jobs, ordered=True)) == [0, 3, 6, 9, 12]
    assert sorted(map_patients(double, iter(range(5)), n_jobs=n_jobs)) == [0, 2, 4, 6, 8]
    assert list(map_patients(double, [])) == []


def test_one_process_holds_one_patient_at_a_time():
    begun = []
    results = map_patients(begun.append, range(3), n_jobs=1)
    next(results)
    assert begun == [0]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_patient_that_fails_leaves_the_others_and_is_named(n_jobs):
    done = []
    with pytest.raises(ValueError, match="the number three") as caught:
        done.extend(map_patients(fail_for_three, range(6), n_jobs=n_jobs))  # extend keeps what came before the error
    assert sorted(done) == [0, 1, 2, 4, 5]
    notes = "\n".join(caught.value.__notes__)
    assert "patient 3, on" in notes and "fail_for_three" in notes and "1 of 6 patients" in notes
    replaced = map_patients(fail_for_three, range(6), n_jobs=n_jobs, ordered=True, failed=lambda number, error: (number, str(error)))
    assert list(replaced) == [0, 1, 2, (3, "no patient has the number three"), 4, 5]


def test_a_patient_whose_check_fails_is_a_row_of_the_report(cohort, monkeypatch):
    def check(patient):
        if patient.id.endswith("0003_1"):
            raise MemoryError("too large")
        return validation.PatientReport(patient.id, True, patient.grade, ())

    monkeypatch.setattr(validation, "check_patient", check)
    bad = [report for report in check_cohort(cohort, n_jobs=1, progress=False).patients if not report.ok]
    assert [(report.id, report.problems[0].code) for report in bad] == [("BraTS19_PHA_0003_1", "failed")]


def test_a_full_disk_ends_the_work_at_once(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        list(map_patients(fail_as_a_full_disk, range(6), tmp_path, n_jobs=1))
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_a_scheduler_that_does_not_answer_is_named_with_the_mend(monkeypatch):
    monkeypatch.setenv(SCHEDULER, "tcp://127.0.0.1:9")
    monkeypatch.setattr(parallel, "CONNECT_SECONDS", 0.5)
    with pytest.raises(SchedulerError, match="no Dask scheduler answers at 'tcp://127.0.0.1:9'.*dask scheduler"):
        list(map_patients(double, range(5)))
    monkeypatch.setenv(SCHEDULER, "nonsense://here")
    with pytest.raises(SchedulerError, match="no Dask scheduler answers at 'nonsense://here'"):
        list(map_patients(double, range(5)))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A scheduler and two workers in processes of their own; a worker that is killed is started again, as on a cluster."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard", "--host", "127.0.0.1"]
    commands = [["scheduler", *common, "--port", "0"], ["worker", *common, "--nworkers", "2", "--nthreads", "1"]]
    started = []
    with open(folder / "log", "w") as log:
        for command in commands:
            command = [sys.executable, "-m", "dask", *command]
            started.append(subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=log, stderr=log))
        deadline = time.monotonic() + 120
        while not file.is_file():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        try:
            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(2, timeout=120)
            yield address
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(60)


@pytest.fixture
def cluster(address, monkeypatch):
    monkeypatch.setenv(SCHEDULER, address)
    return address


@contextlib.contextmanager
def worker_killed_midway(address: str):
    """Kill, once some patients are done, a worker that has patients in work; fail where it could not be done."""
    killed, over = [], threading.Event()

    def kill() -> None:
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            processes = client.run(os.getpid)
            ready.set()
            seen: set[str] = set()
            while not over.is_set() and not killed:
                busy = {worker: {key for key in keys if key.startswith("_attempt")} for worker, keys in client.processing().items()}
                now = set().union(*busy.values())
                if now and seen - now:
                    worker = max(busy, key=lambda worker: len(busy[worker]))
                    os.kill(processes[worker], signal.SIGKILL)
                    killed.append(worker)
                seen |= now
                time.sleep(0.02)

    ready = threading.Event()
    thread = threading.Thread(target=kill)
    thread.start()
    ready.wait(60)
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert killed, "the work was over before a worker could be killed"


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("local") / "cohort"
    make_cohort(folder, SETTINGS, seed=1, n_jobs=1, progress=False)
    return folder


def build(cohort: Path, folder: Path, n_jobs: int = 1):
    return build_slice_store(find_patients(cohort), folder, PROFILE.preprocessing, 4.0, n_jobs=n_jobs, progress=False)


@pytest.fixture(scope="module")
def store(cohort, tmp_path_factory):
    return build(cohort, tmp_path_factory.mktemp("local") / "slices.zarr")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, SegmentationNetwork(PROFILE.network, PROFILE.quantizer), PROFILE, {"cohort": "none: untrained"})
    return open_applied_model(folder)


def test_phantoms_are_the_same_bytes_though_a_worker_was_killed(cluster, cohort, tmp_path):
    with worker_killed_midway(cluster):
        make_cohort(tmp_path / "cohort", SETTINGS, seed=1, progress=False)
    assert digests(tmp_path / "cohort") == digests(cohort)
    assert not list((tmp_path / "cohort").rglob(".*")), "nothing half done is left"


def test_slice_store_is_the_same_bytes_though_a_worker_was_killed(cluster, cohort, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cohort, tmp_path / "cohort", copy_function=shutil.copy2)  # with the times that the store keeps
    with worker_killed_midway(cluster):
        build(Path("cohort"), Path("slices.zarr"))  # relative: the workers are elsewhere
    assert digests(tmp_path / "slices.zarr") == digests(store.folder)


def test_features_are_the_same_table_though_a_worker_was_killed(cluster, cohort, model, tmp_path, monkeypatch):
    with worker_killed_midway(cluster):
        table, problems = extract_features(cohort, model)
    monkeypatch.delenv(SCHEDULER)
    expected, _ = extract_features(cohort, model)
    pd.testing.assert_frame_equal(table, expected)
    assert not problems and len(table) == SETTINGS.n_segmentation + SETTINGS.n_grading


def test_checking_counting_and_perturbing_give_what_they_give_here(cluster, cohort, store, model, monkeypatch):
    def measured() -> tuple:
        applied = (Perturbation("scale", 0.0), Perturbation("shift", 0.5))
        counts = count_codewords(model.model, store, transform=applied[1])
        return counts.table, counts.n_slices, *count_perturbed(model.model, store, applied).values()

    report, tables = check_cohort(cohort, progress=False), measured()
    monkeypatch.delenv(SCHEDULER)
    assert report == check_cohort(cohort, n_jobs=1, progress=False)
    for there, here in zip(tables, measured(), strict=True):
        pd.testing.assert_frame_equal(pd.DataFrame(there), pd.DataFrame(here))


def test_a_damaged_patient_does_not_keep_the_others_from_their_features(cluster, cohort, model, tmp_path):
    shutil.copytree(cohort, tmp_path / "cohort")
    patients = find_patients(tmp_path / "cohort")
    file = patients[2].files["t2"]
    file.write_bytes(file.read_bytes()[:2000])
    table, problems = extract_features(tmp_path / "cohort", model)
    assert table["patient"].tolist() == [patient.id for patient in patients if patient != patients[2]]
    assert [(problem.code, patients[2].id in problem.message) for problem in problems] == [("truncated", True)]


def test_a_patient_that_fails_or_kills_its_workers_leaves_the_others(cluster):
    done = []
    with pytest.raises(ValueError, match="the number three") as caught:
        done.extend(map_patients(fail_for_three, range(6)))
    assert sorted(done) == [0, 1, 2, 4, 5] and "patient 3, on" in caught.value.__notes__[0]
    done = []
    with pytest.raises(SchedulerError, match="patient 3: every worker that took it died.*memory"):
        done.extend(map_patients(die_for_three, range(6)))
    assert sorted(done) == [0, 1, 2, 4, 5]


def test_what_is_shared_goes_to_each_worker_once(cluster, tmp_path):
    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    processes = set(map_patients(carry, range(40), Luggage(tmp_path)))
    unpacked = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert len(processes) == 2 and sorted(unpacked) == sorted(map(str, processes))


def test_other_software_on_the_workers_is_a_warning_that_names_it(cluster, monkeypatch):
    monkeypatch.setattr(parallel, "version", lambda name: "0.1")
    with pytest.warns(SoftwareWarning, match=r"numpy is \S+ on tcp://127.0.0.1:\d+ and 0.1 here"):
        assert sorted(map_patients(double, range(5))) == [0, 2, 4, 6, 8]


def test_the_command_line_takes_the_scheduler(address, cohort):
    command = [sys.executable, "-m", "drlib.series.cli", "check", cohort.name, "--json", "--scheduler", address]
    done = subprocess.run(command, cwd=cohort.parent, capture_output=True, text=True, check=False)  # relative: the workers are elsewhere
    assert done.returncode == 0, done.stderr
    assert all(patient["ok"] for patient in json.loads(done.stdout)["answer"]["patients"])


def test_a_lost_scheduler_is_a_typed_error(cluster):  # the last test: it takes the scheduler of the others away
    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        scheduler = client.run_on_scheduler(os.getpid)
    results = map_patients(carry, range(500), Path())
    next(results)
    os.kill(scheduler, signal.SIGKILL)
    with pytest.raises(SchedulerError, match="was lost"):
        list(results)
