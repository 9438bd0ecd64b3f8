"""Intervals over patients that are the same at every call."""

import pandas as pd

from drlib.radiomics.statistics import Interval, bootstrap_interval
from drlib.seeds import generator
from drlib.series.run import Run


def mean_interval(run: Run, values: pd.Series, *names: str) -> Interval:
    """Return the mean over patients with its bootstrap interval, the same at every call."""
    return bootstrap_interval(values, generator(run.seed, "claims", *names))
