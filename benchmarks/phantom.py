"""One synthetic patient to work on."""

from pathlib import Path

from drlib.cohort.brats import find_patients
from drlib.cohort.patient import Patient
from drlib.cohort.phantom.cohort import draw_cohort, write_patient
from drlib.profiles import load_profile


def phantom_patient(folder: Path, quick: bool = False) -> Patient:
    """Write a graded phantom below ``folder`` in BraTS's form, 240 x 240 x 155 voxels (quick: a quarter of each), and return it."""
    settings = load_profile("smoke" if quick else "paper").cohort.model_copy(update={"n_segmentation": 4, "n_grading": 8})
    draw = next(draw for draw in draw_cohort(settings, seed=0) if draw.cohort == "grading" and draw.grade == "HGG")
    return find_patients(write_patient(draw, folder, settings.spacing_mm))[0]
