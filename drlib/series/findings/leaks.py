"""Chapter 05's checks for leaks: is the grade told for the wrong reason?"""

import pandas as pd

from drlib.series.claims import Claim, judge_interval
from drlib.series.stages import Grading


def leak_table(grading: Grading) -> pd.DataFrame:
    """Return what each check found, and what to do, in words."""
    leaks, control = grading.leaks, grading.leaks.control_auc
    found = {
        "one head under two ids, perhaps mirrored": f"{len(leaks.twins)} pairs among {len(grading.grades) + len(leaks.twins)} patients",
        "the grade in slices without tumour": f"AUC {control.estimate:.2f} [{control.low:.2f}, {control.high:.2f}]; .5 is right, "
        "less is no warning",
    }
    warned = leaks.warnings
    advice = ["; ".join(warned[: len(leaks.twins)]) or "nothing to do", "; ".join(warned[len(leaks.twins) :]) or "nothing to do"]
    return pd.DataFrame({"found": found.values(), "what follows": advice}, index=pd.Index(found, name="check"))


def leak_claims(grading: Grading) -> list[Claim]:
    """Return whether this cohort's grades can be told without its tumours."""
    control, n = grading.leaks.control_auc, len(grading.grades)
    statement = "AUC of slices without tumour (a control: .5 where the scanner does not tell the grade)"
    verdict = judge_interval((control.low, 1.0), "covers", 0.5)  # below .5 is chance too
    return [Claim("control_auc", statement, None, control.estimate, (control.low, control.high), n, verdict, "grading-leaks")]
