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
from drlib.series.findings.known_truth import (
    describe_trials,
    known_truth_claims,
    leak_trials,
    null_rates,
    planted_rates,
    planted_table,
    power_table,
)
from drlib.series.findings.leaks import leak_claims, leak_table
from drlib.series.findings.robustness import (
    absorption_table,
    performance_table,
    ratio_intervals,
    robustness_claims,
    scanner_table,
    summarise_absorption,
    summarise_ratios,
    summarise_scanners,
)
from drlib.series.findings.segmentation import describe_network, describe_training, segmentation_claims, summarise_dice

__all__ = [
    "ablated_codewords",
    "ablation_claims",
    "absorption_table",
    "calibration_table",
    "conventions_table",
    "describe_network",
    "describe_training",
    "describe_trials",
    "discrimination_table",
    "folds_table",
    "grading_claims",
    "grading_numbers",
    "implied_rates",
    "known_truth_claims",
    "leak_claims",
    "leak_table",
    "leak_trials",
    "mean_interval",
    "null_rates",
    "performance_table",
    "planted_rates",
    "planted_table",
    "power_table",
    "ratio_intervals",
    "responsible_choice",
    "responsible_tests",
    "robustness_claims",
    "scanner_table",
    "segmentation_claims",
    "summarise_ablation",
    "summarise_absorption",
    "summarise_dice",
    "summarise_ratios",
    "summarise_scanners",
    "top_share",
]
