"""Threshold and prevalence: what the same probabilities come to under both conventions of the positive grade."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from drlib.figures.style import GRADE_COLOURS
from drlib.viewer.panel import Panel, read_script


class GradingPanel(Panel):
    """Two-by-two tables under both conventions. Everything happens in the browser; no kernel is asked."""

    _esm = read_script("grading.js")


def grading_panel(probabilities: Mapping[str, pd.DataFrame], grades: pd.Series, note: str) -> GradingPanel:
    """Return a widget with a threshold of P(HGG) and a share of HGG to move: tables and rates with LGG and with HGG positive.

    ``probabilities``: model -> P(HGG) out of fold, patients x repeats. ``grades``: LGG or HGG, one per patient. ``note`` says whose
    numbers these are. Counts and rates are means over repeats, as in :func:`drlib.radiomics.grading.grading_metrics`; another share of
    HGG weighs the patients of each grade anew, which leaves sensitivity and specificity as they are.

    Source: ours. The published numbers have LGG as the positive grade, though the text says HGG.
    """
    models = [
        {"name": name, "p": table.to_numpy(dtype=np.float32).tobytes(), "repeats": table.shape[1]}  # a patient's repeats together
        for name, table in probabilities.items()
    ]
    is_hgg = [bool(grade == "HGG") for grade in grades]
    for name, table in probabilities.items():
        if not table.index.equals(grades.index):
            raise ValueError(f"{name} graded other patients than there are grades of")
    return GradingPanel({"models": models, "is_hgg": is_hgg, "colours": GRADE_COLOURS, "note": note})
