"""The two-by-two table of true and predicted grade: every published rate follows from four whole numbers."""

import numpy as np
import pandas as pd

RATES = ("accuracy", "precision", "recall", "specificity", "npv")


def rates_from(recall: float, specificity: float, n_positive: int, n_negative: int) -> dict[str, float]:
    """Return the five RATES that follow from ``recall`` and ``specificity`` (0..1) in ``n_positive`` and ``n_negative`` patients.

    Source: paper, Results, "Classification accuracy" gives all five; any two of them and the two numbers of patients fix the others.
    """
    true_positive, true_negative = recall * n_positive, specificity * n_negative
    return {
        "accuracy": (true_positive + true_negative) / (n_positive + n_negative),
        "precision": true_positive / (true_positive + (1 - specificity) * n_negative),
        "recall": recall,
        "specificity": specificity,
        "npv": true_negative / (true_negative + (1 - recall) * n_positive),
    }


def matching_tables(published: dict[str, float], n_positive: int, n_negative: int, tolerance: float = 0.005) -> pd.DataFrame:
    """Return every table of whole patients whose RATES all lie within ``tolerance`` of the ``published`` ones: a row each.

    Columns ``tp``, ``fn``, ``tn``, ``fp`` and the RATES. ``tolerance`` .005 is rounding to two digits; a mean over five folds may lie
    a little away from the rate of all patients together, which a tolerance of .01 allows.

    Source: ours; a search through all (n_positive + 1) x (n_negative + 1) tables.
    """
    tp, tn = (grid.ravel() for grid in np.meshgrid(np.arange(n_positive + 1), np.arange(n_negative + 1), indexing="ij"))
    fn, fp = n_positive - tp, n_negative - tn
    with np.errstate(invalid="ignore"):
        table = pd.DataFrame({"tp": tp, "fn": fn, "tn": tn, "fp": fp}).assign(
            accuracy=(tp + tn) / (n_positive + n_negative),
            precision=tp / (tp + fp),
            recall=tp / n_positive,
            specificity=tn / n_negative,
            npv=tn / (tn + fn),
        )
    near = (table[list(published)] - pd.Series(published)).abs().max(axis=1, skipna=False) <= tolerance
    return table[near].reset_index(drop=True)
