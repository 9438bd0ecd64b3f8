"""Widgets of the notebooks, each alive in a page without a kernel too, and the library's source beside its equation."""

from drlib.viewer.ablation import ablation_panel
from drlib.viewer.atlas import codebook_atlas
from drlib.viewer.codewords import codeword_explorer
from drlib.viewer.grading import grading_panel
from drlib.viewer.perturbation import PerturbedPatient, perturbation_panel
from drlib.viewer.quantizer import quantizer_widget
from drlib.viewer.slices import slice_browser
from drlib.viewer.source import show_source

__all__ = [
    "PerturbedPatient",
    "ablation_panel",
    "codebook_atlas",
    "codeword_explorer",
    "grading_panel",
    "perturbation_panel",
    "quantizer_widget",
    "show_source",
    "slice_browser",
]
