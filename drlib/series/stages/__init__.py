"""The stages of the series: each computes one chapter's result once, keeps it, and gives it back.

A notebook calls a function here and shows what comes back. A stage is made again only when what it depends on changed
(:meth:`drlib.series.run.Run.build`); otherwise the kept result is checked and read.
"""

from drlib.series.stages.ablation import Ablation, ablate_codewords, tumour_token
from drlib.series.stages.atlas import make_atlas, open_atlas
from drlib.series.stages.cohort import Cohort, choose_patients, make_phantoms, open_cohort, prepare_cohort, region_volumes
from drlib.series.stages.explorer import Published, open_published, publish_patients
from drlib.series.stages.grading import MODELS, Grading, grade_patients, open_grading
from drlib.series.stages.histograms import Histograms, count_histograms, open_histograms
from drlib.series.stages.robustness import Robustness, measure_robustness
from drlib.series.stages.segmentation import Segmentation, open_model, open_segmentation, train_and_evaluate

__all__ = [
    "Ablation",
    "Cohort",
    "Grading",
    "Histograms",
    "MODELS",
    "Published",
    "Robustness",
    "Segmentation",
    "ablate_codewords",
    "choose_patients",
    "count_histograms",
    "grade_patients",
    "make_atlas",
    "make_phantoms",
    "open_atlas",
    "open_cohort",
    "open_grading",
    "open_histograms",
    "open_model",
    "open_published",
    "open_segmentation",
    "prepare_cohort",
    "publish_patients",
    "region_volumes",
    "measure_robustness",
    "train_and_evaluate",
    "tumour_token",
]
