"""How time, memory and disk grow with the number of patients, and what one patient of full size costs."""

import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
from joblib.externals.loky import get_reusable_executor

from benchmarks.timing import apart
from drlib.cohort.brats import find_patients
from drlib.cohort.phantom import make_cohort
from drlib.cohort.slices import SliceStore, build_slice_store
from drlib.cohort.validation import check_cohort
from drlib.profiles import Profile, load_profile
from drlib.radiomics.histogram import count_codewords
from drlib.segmentation.model import TrainedModel
from drlib.segmentation.network import SegmentationNetwork

PATIENTS = (8, 16, 32, 64, 128, 256)


def against_patients(quick: bool = False) -> list[dict]:
    """Return, for more and more phantoms of the demo profile, the seconds of each step and the peak memory of all processes together."""
    profile = load_profile("smoke" if quick else "demo")
    numbers = (2, 4) if quick else PATIENTS
    with tempfile.TemporaryDirectory() as folder:
        data = _phantoms(Path(folder), profile, numbers[-1])
        return [apart(partial(_work_on, data, profile, number)) | {"patients": number} for number in numbers]


def one_patient(quick: bool = False) -> dict:
    """Return seconds per patient and step, and bytes per patient, of the paper profile (1 mm, 256 x 256), all cores at work."""
    profile = load_profile("smoke" if quick else "paper+training.precision=bf16")
    with tempfile.TemporaryDirectory() as folder:
        data = _phantoms(Path(folder), profile, 4)
        found = apart(partial(_work_on, data, profile, 4))
        nifti = sum(path.stat().st_size for path in data.rglob("*.nii.gz")) / 4
    seconds = {name: found[name] / 4 for name in ("check", "store", "histograms")}
    slices, size = found["slices"], profile.preprocessing.image_size
    return {
        "profile": profile.name,
        "nifti_bytes": nifti,
        "store_bytes": found["store_bytes"] / 4,
        "slices": slices,
        "size": size,
    } | seconds


def _phantoms(folder: Path, profile: Profile, number: int) -> Path:
    settings = profile.cohort.model_copy(update={"n_segmentation": 4, "n_grading": max(8, number)})
    make_cohort(folder / "data", settings, seed=0, progress=False)
    return folder / "data"


def _work_on(data: Path, profile: Profile, number: int) -> dict:
    """Check, preprocess and count ``number`` patients with a network of random weights; called in a process of its own."""
    patients = [patient for patient in find_patients(data) if patient.grade][:number]
    network = SegmentationNetwork(profile.network, profile.quantizer, precision=profile.training.precision).eval()
    model = TrainedModel(network, profile, {})
    with tempfile.TemporaryDirectory() as folder:
        manifest = _manifest(Path(folder, "patients.csv"), patients)
        watched = {
            "check": lambda: check_cohort(manifest, progress=False),
            "store": lambda: build_slice_store(
                patients, Path(folder, "slices.zarr"), profile.preprocessing, profile.cohort.spacing_mm, progress=False
            ),
            "histograms": lambda: count_codewords(model, SliceStore(Path(folder, "slices.zarr"))),
        }
        found = {name: _watch(function) for name, function in watched.items()}
        get_reusable_executor().shutdown()  # or this process would wait for idle workers before it ends
        store = SliceStore(Path(folder, "slices.zarr"))
        disk = sum(path.stat().st_size for path in Path(folder, "slices.zarr").rglob("*") if path.is_file())
        seconds = {name: value for name, (value, _) in found.items()}
        peaks = {f"{name}_peak_bytes": peak for name, (_, peak) in found.items()}
        return seconds | peaks | {"store_bytes": disk, "slices": store.n_slices(store.patients[0])}


def _manifest(path: Path, patients: list) -> Path:
    lines = ["patient,t1,t1ce,t2,flair,seg,grade"]
    lines += [",".join([p.id, *(str(p.files[m]) for m in ("t1", "t1ce", "t2", "flair")), str(p.segmentation), p.grade]) for p in patients]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _watch(function: Callable[[], object]) -> tuple[float, int]:
    """Return the seconds of a call, and the most memory that this process and its workers had together meanwhile."""
    peak, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], _memory_of_all())

    thread = threading.Thread(target=look)
    thread.start()
    start = time.perf_counter()
    try:
        function()
        return time.perf_counter() - start, max(peak[0], _memory_of_all())
    finally:
        done.set()
        thread.join()


def _memory_of_all() -> int:
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        try:
            total += process.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return total
