"""What each chapter found, in numbers: summary tables, and the claims of the paper beside ours.

Published values stand in the module of their chapter, once, with their place in the paper.
"""

from drlib.series.findings.ablation import ablated_codewords, ablation_claims, summarise_ablation, top_share
from drlib.series.findings.grading import (
    calibration_table,
    conventions_table,
    discrimination_table,
    folds_table,
    grading_claims,
    grading_numbers,
    implied_rates,
    responsible_choice,
    responsible_tests,
)
from drlib.series.findings.intervals import mean_interval
from drlib.series.findings.robustness import robustness_claims, summarise_ratios
from drlib.series.findings.segmentation import describe_network, describe_training, segmentation_claims, summarise_dice

__all__ = [
    "ablated_codewords",
    "ablation_claims",
    "calibration_table",
    "conventions_table",
    "describe_network",
    "describe_training",
    "discrimination_table",
    "folds_table",
    "grading_claims",
    "grading_numbers",
    "implied_rates",
    "mean_interval",
    "responsible_choice",
    "responsible_tests",
    "robustness_claims",
    "segmentation_claims",
    "summarise_ablation",
    "summarise_dice",
    "summarise_ratios",
    "top_share",
]
