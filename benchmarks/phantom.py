"""One synthetic patient to work on."""

import functools
import shutil
import tempfile
from pathlib import Path

from drlib.cohort.brats import find_patients
from drlib.cohort.patient import Patient
from drlib.cohort.phantom.cohort import draw_cohort, write_patient
from drlib.profiles import load_profile


def phantom_patient(folder: Path, quick: bool = False) -> Patient:
    """Write a graded phantom below ``folder`` in BraTS's form, 240 x 240 x 155 voxels (quick: a quarter of each), and return it."""
    shutil.copytree(_rendered(quick).name, folder, dirs_exist_ok=True)
    return find_patients(folder)[0]


@functools.cache
def _rendered(quick: bool) -> tempfile.TemporaryDirectory:
    """Return a folder that holds the patient, rendered once for all cases of this process and removed at its end."""
    settings = load_profile("smoke" if quick else "paper").cohort.model_copy(update={"n_segmentation": 4, "n_grading": 8})
    draw = next(draw for draw in draw_cohort(settings, seed=0) if draw.cohort == "grading" and draw.grade == "HGG")
    folder = tempfile.TemporaryDirectory()
    write_patient(draw, Path(folder.name), settings.spacing_mm)
    return folder
