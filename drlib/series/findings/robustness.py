"""Chapter 06 in numbers: difference ratios, and what the perturbations do to the grading."""

import pandas as pd

from drlib.radiomics.statistics import Interval
from drlib.series.claims import Claim
from drlib.series.findings.intervals import mean_interval
from drlib.series.run import Run
from drlib.series.stages import Robustness


def summarise_ratios(robustness: Robustness) -> pd.DataFrame:
    """Return mean and SD over patients of the difference ratio per kind and magnitude."""
    return (
        robustness.ratios.groupby(["kind", "magnitude"])["difference_ratio"].agg(["mean", "std", "count"]).unstack("kind").swaplevel(axis=1)
    )


def robustness_claims(run: Run, robustness: Robustness) -> list[Claim]:
    """Return the difference ratio at magnitude 1 of both kinds, and whether shifting tells more than scaling."""
    ratios = robustness.ratios.pivot(index="patient", columns=["kind", "magnitude"], values="difference_ratio")
    largest = max(robustness.ratios["magnitude"])
    claims = []
    for kind in ("scale", "shift"):
        interval = mean_interval(run, ratios[kind, largest], "ratio", kind)
        statement = f"difference ratio at {kind} {largest:.1f} (the paper shows a figure without numbers)"
        claims.append(_untested(f"difference_ratio_{kind}_{largest:.1f}", statement, interval, len(ratios)))
    excess = mean_interval(run, ratios["shift", largest] - ratios["scale", largest], "excess")
    verdict = "holds" if excess.low > 0 else "does not hold"
    statement = "shifting moves more counts than scaling: difference of the two ratios at 1.0"
    claims.append(Claim("shift_exceeds_scale", statement, None, excess.estimate, (excess.low, excess.high), len(ratios), verdict))
    return claims


def _untested(id: str, statement: str, interval: Interval, n: int) -> Claim:
    return Claim(id, statement, None, interval.estimate, (interval.low, interval.high), n, "cannot be tested here")
