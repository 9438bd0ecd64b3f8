"""Every figure of the book: results in, ``Figure`` out, one style. Nothing here reads from disk or computes a result."""

from drlib.figures.ablation import (
    AblationCase,
    FrozenCase,
    plot_controls,
    plot_each_codeword,
    plot_frozen,
    plot_locality,
    plot_overlap,
    plot_region_values,
    plot_responsible_regions,
)
from drlib.figures.cohort import compare_with_table_1, plot_patients, plot_volumes
from drlib.figures.corrections import plot_codebook_steps, plot_ladder
from drlib.figures.engine import plot_growth, plot_ratios, plot_roofline
from drlib.figures.grading import plot_calibration, plot_confusion, plot_models, plot_probabilities, plot_roc
from drlib.figures.histograms import plot_codewords_by_grade, plot_histograms
from drlib.figures.images import Panel, largest_slice, tumour_panel
from drlib.figures.overview import plot_overview
from drlib.figures.quantizer import plot_loss_arrows, plot_quantizer, plot_quantizer_steps, plot_usage
from drlib.figures.responsible import plot_responsible, plot_screening
from drlib.figures.robustness import plot_difference_ratios, plot_performance
from drlib.figures.segmentation import plot_dice, plot_index_maps, plot_segmentations, plot_training
from drlib.figures.verdict import plot_verdict, verdict_table

__all__ = [
    "AblationCase",
    "FrozenCase",
    "Panel",
    "compare_with_table_1",
    "largest_slice",
    "plot_calibration",
    "plot_codebook_steps",
    "plot_codewords_by_grade",
    "plot_confusion",
    "plot_controls",
    "plot_difference_ratios",
    "plot_dice",
    "plot_each_codeword",
    "plot_frozen",
    "plot_growth",
    "plot_histograms",
    "plot_index_maps",
    "plot_ladder",
    "plot_locality",
    "plot_loss_arrows",
    "plot_models",
    "plot_overlap",
    "plot_overview",
    "plot_patients",
    "plot_performance",
    "plot_probabilities",
    "plot_quantizer",
    "plot_quantizer_steps",
    "plot_ratios",
    "plot_region_values",
    "plot_responsible",
    "plot_responsible_regions",
    "plot_roc",
    "plot_roofline",
    "plot_screening",
    "plot_segmentations",
    "plot_training",
    "plot_usage",
    "plot_verdict",
    "plot_volumes",
    "tumour_panel",
    "verdict_table",
]
