"""What each chapter found, in numbers: summary tables, and the claims of the paper beside ours.

Published values stand in the module of their chapter, once, with their place in the paper.
"""

from drlib.series.findings.ablation import (
    ablated_codewords,
    ablation_claims,
    captum_table,
    control_table,
    normalisation_table,
    one_by_one,
    overall_tests,
    overlap_table,
    overlap_values,
    region_means,
    region_tests,
    summarise_ablation,
    summarise_controls,
    token_reach,
    top_share,
)
from drlib.series.findings.grading import grading_claims, grading_table, responsible_table
from drlib.series.findings.intervals import mean_interval
from drlib.series.findings.robustness import robustness_claims, summarise_ratios
from drlib.series.findings.segmentation import describe_network, describe_training, segmentation_claims, summarise_dice

__all__ = [
    "ablated_codewords",
    "ablation_claims",
    "captum_table",
    "control_table",
    "describe_network",
    "describe_training",
    "grading_claims",
    "grading_table",
    "mean_interval",
    "normalisation_table",
    "one_by_one",
    "overall_tests",
    "overlap_table",
    "overlap_values",
    "region_means",
    "region_tests",
    "responsible_table",
    "robustness_claims",
    "segmentation_claims",
    "summarise_ablation",
    "summarise_controls",
    "summarise_dice",
    "summarise_ratios",
    "token_reach",
    "top_share",
]
