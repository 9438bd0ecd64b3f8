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
from drlib.figures.atlas import plot_atlas
from drlib.figures.cohort import compare_with_table_1, plot_patients, plot_volumes
from drlib.figures.corrections import plot_codebook_steps, plot_ladder
from drlib.figures.engine import plot_growth, plot_ratios, plot_roofline
from drlib.figures.errata import plot_effect_tests, plot_false_discoveries, plot_region_tests, plot_rotations, plot_token_reach
from drlib.figures.grading import (
    plot_calibration,
    plot_confusion,
    plot_decision_curve,
    plot_differences,
    plot_models,
    plot_probabilities,
    plot_roc,
)
from drlib.figures.histograms import plot_codewords_by_grade, plot_histograms
from drlib.figures.images import Panel, largest_slice, tumour_panel
from drlib.figures.known_truth import plot_leaks, plot_null, plot_planted, plot_power
from drlib.figures.overview import plot_front, plot_overview
from drlib.figures.quantizer import plot_loss_arrows, plot_quantizer, plot_quantizer_steps, plot_usage
from drlib.figures.reporting import plot_tally
from drlib.figures.responsible import plot_responsible, plot_screening, plot_selection
from drlib.figures.robustness import plot_absorption, plot_difference_ratios, plot_performance, plot_scanner_images, plot_scanners
from drlib.figures.segmentation import plot_dice, plot_index_maps, plot_segmentations, plot_training
from drlib.figures.stability import plot_agreement, plot_matching, plot_seeds, plot_two_codebooks
from drlib.figures.verdict import linked_verdicts, plot_verdict, verdict_table

__all__ = [
    "AblationCase",
    "FrozenCase",
    "Panel",
    "compare_with_table_1",
    "largest_slice",
    "linked_verdicts",
    "plot_absorption",
    "plot_agreement",
    "plot_atlas",
    "plot_calibration",
    "plot_codebook_steps",
    "plot_codewords_by_grade",
    "plot_confusion",
    "plot_controls",
    "plot_decision_curve",
    "plot_dice",
    "plot_difference_ratios",
    "plot_differences",
    "plot_each_codeword",
    "plot_effect_tests",
    "plot_false_discoveries",
    "plot_front",
    "plot_frozen",
    "plot_growth",
    "plot_histograms",
    "plot_index_maps",
    "plot_ladder",
    "plot_leaks",
    "plot_locality",
    "plot_loss_arrows",
    "plot_matching",
    "plot_models",
    "plot_null",
    "plot_overlap",
    "plot_overview",
    "plot_patients",
    "plot_performance",
    "plot_planted",
    "plot_power",
    "plot_probabilities",
    "plot_quantizer",
    "plot_quantizer_steps",
    "plot_ratios",
    "plot_region_tests",
    "plot_region_values",
    "plot_responsible",
    "plot_responsible_regions",
    "plot_roc",
    "plot_roofline",
    "plot_rotations",
    "plot_scanner_images",
    "plot_scanners",
    "plot_screening",
    "plot_seeds",
    "plot_segmentations",
    "plot_selection",
    "plot_tally",
    "plot_token_reach",
    "plot_training",
    "plot_two_codebooks",
    "plot_usage",
    "plot_verdict",
    "plot_volumes",
    "tumour_panel",
    "verdict_table",
]
