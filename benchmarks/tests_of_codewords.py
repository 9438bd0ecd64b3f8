"""A likelihood-ratio test for every codeword."""

import warnings

import numpy as np
import pandas as pd
import statsmodels.api as sm
from statsmodels.tools.sm_exceptions import ConvergenceWarning, PerfectSeparationWarning

from benchmarks.timing import best_of, row
from drlib.radiomics import statistics
from drlib.seeds import generator

TOLERANCE = 1e-6  # relative, of statistics and coefficients
PEER = "a statsmodels Logit loop"


def likelihood_ratio_tests(quick: bool = False) -> list[dict]:
    """Return the seconds for every codeword alone (512 codewords, 335 patients), and for leaving each of twenty out of one model.

    The peer also fits the codewords that separate the grades (``n_firth``), on which it does not converge; values are compared on the
    others.
    """
    logs, grades = draw_counts(n_codewords=60 if quick else 512)
    is_hgg, chosen = (grades == "HGG").to_numpy(float), logs.iloc[:, : 5 if quick else 20]
    seconds = best_of(
        {
            "ours": lambda: statistics.likelihood_ratio_tests(logs, grades),
            "peer": lambda: alone_by_statsmodels(logs, is_hgg),
            "ours, left out": lambda: statistics.effect_likelihood_ratio(chosen, grades),
            "peer, left out": lambda: left_out_by_statsmodels(chosen, is_hgg),
        },
        repeats=1 if quick else 5,
    )
    table, left_out = statistics.likelihood_ratio_tests(logs, grades), statistics.effect_likelihood_ratio(chosen, grades)
    finite = (table["likelihood"] == "maximum").to_numpy()
    equal = agree(table[finite], alone_by_statsmodels(logs, is_hgg)[finite])
    return [
        row(
            "likelihood_ratio_tests",
            seconds["ours"],
            seconds["peer"],
            PEER,
            "s",
            "Newton's method on all codewords at once, a cacheful at a time; those that separate the grades get Firth's penalty, equally",
            equal=equal,
            n_firth=int((~finite).sum()),
        ),
        row(
            "likelihood_ratio_left_out",
            seconds["ours, left out"],
            seconds["peer, left out"],
            PEER,
            "s",
            "the full model and those that lack one codeword are fitted at once; half of the time is the linear program for separation",
            equal=agree(left_out, left_out_by_statsmodels(chosen, is_hgg)),
        ),
    ]


def draw_counts(n_codewords: int, n_lgg: int = 76, n_hgg: int = 259) -> tuple[pd.DataFrame, pd.Series]:
    """Return log(1 + count), patients x codewords from common to very rare, twenty of which are commoner in HGG; and the grades."""
    random, grades = generator(0, "benchmark counts"), pd.Series(["LGG"] * n_lgg + ["HGG"] * n_hgg)
    rates = random.lognormal(np.linspace(4, -4, n_codewords), 1) * random.lognormal(0, 0.8, (len(grades), n_codewords))
    rates[n_lgg:, :20] *= 1.4
    return pd.DataFrame(np.log1p(random.poisson(rates))), grades


def alone_by_statsmodels(logs: pd.DataFrame, is_hgg: np.ndarray) -> np.ndarray:
    """Return coefficient and statistic (codewords, 2) of each codeword alone; zeros for one that does not vary."""
    null, rows = fit(np.ones((len(is_hgg), 1)), is_hgg).llf, np.zeros((logs.shape[1], 2))
    for number, column in enumerate(logs.to_numpy().T):
        if np.ptp(column) > 0:
            model = fit(sm.add_constant(column), is_hgg)
            rows[number] = model.params[1], 2 * (model.llf - null)
    return rows


def left_out_by_statsmodels(chosen: pd.DataFrame, is_hgg: np.ndarray) -> np.ndarray:
    """Return coefficient and statistic (codewords, 2) of each codeword in the model of all."""
    full = fit(sm.add_constant(chosen.to_numpy()), is_hgg)
    without = [fit(sm.add_constant(chosen.drop(columns=name).to_numpy()), is_hgg).llf for name in chosen]
    return np.column_stack([full.params[1:], 2 * (full.llf - np.array(without))])


def fit(design: np.ndarray, is_hgg: np.ndarray):
    """Fit by statsmodels without its summary; what does not converge is not the peer's to say here."""
    with warnings.catch_warnings():
        for category in (ConvergenceWarning, PerfectSeparationWarning, RuntimeWarning):
            warnings.simplefilter("ignore", category)
        return sm.Logit(is_hgg, design).fit(disp=0, tol=1e-10)


def agree(table: pd.DataFrame, due: np.ndarray) -> bool:
    """Return whether coefficients and statistics are those of the peer."""
    return bool(np.allclose(table[["coefficient", "lr_statistic"]].to_numpy(), due, rtol=TOLERANCE, atol=1e-9))
