"""The phantom cohort: synthetic gliomas in exact BraTS form whose truth is known (METHOD 4)."""

from drlib.cohort.phantom.cohort import draw_cohort, draw_truth, make_cohort, write_patient
from drlib.cohort.phantom.patient import PatientDraw, PhantomVolume, render_patient
from drlib.cohort.phantom.volumes import TABLE_1, compare_with_table_1, draw_volumes

__all__ = [
    "TABLE_1",
    "PatientDraw",
    "PhantomVolume",
    "compare_with_table_1",
    "draw_cohort",
    "draw_truth",
    "draw_volumes",
    "make_cohort",
    "render_patient",
    "write_patient",
]
