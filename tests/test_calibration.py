"""Calibration and decision curves (drlib.radiomics.calibration)."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit

from drlib.radiomics.calibration import calibration_metrics, net_benefit

THRESHOLDS = np.linspace(0.05, 0.95, 19)


def draw(n: int, sharpen: float = 1.0, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (n, 1) whose log odds are ``sharpen`` times the true ones plus ``shift``, and who is HGG."""
    random = np.random.default_rng(seed)
    true = random.normal(0.4, 1.3, n)
    return expit(sharpen * true + shift)[:, None], random.random(n) < expit(true)


def recalibration(probabilities, is_hgg, weights=None) -> tuple[np.ndarray, np.ndarray]:
    found = calibration_metrics(probabilities, is_hgg, np.zeros(probabilities.shape, dtype=int), weights)
    return found["calibration_slope"], found["calibration_intercept"]


def test_true_probabilities_have_slope_one_and_intercept_zero():
    slope, intercept = recalibration(*draw(60_000))
    assert (slope[0], intercept[0]) == pytest.approx((1, 0), abs=0.03)


@pytest.mark.parametrize(("sharpen", "slope"), [(2.0, 0.5), (0.5, 2.0), (-1.0, -1.0)])
def test_log_odds_that_are_multiplied_have_the_inverse_as_their_slope(sharpen, slope):
    plain, changed = (recalibration(*draw(400, factor))[0][0] for factor in (1.0, sharpen))
    assert changed == pytest.approx(slope * plain, rel=1e-5)


def test_log_odds_that_are_shifted_have_the_shift_as_their_intercept_and_keep_their_slope():
    (slope, intercept), (shifted_slope, shifted) = recalibration(*draw(400)), recalibration(*draw(400, shift=0.7))
    assert (shifted - intercept)[0] == pytest.approx(-0.7, abs=1e-6) and shifted_slope[0] == pytest.approx(slope[0], rel=1e-6)


def test_slope_and_intercept_are_those_of_statsmodels():
    p, is_hgg = draw(90, sharpen=1.7, shift=-0.4, seed=1)
    log_odds, y = logit(p[:, 0]), is_hgg.astype(float)
    slope = sm.Logit(y, sm.add_constant(log_odds)).fit(disp=0, tol=1e-12).params[1]
    intercept = sm.GLM(y, np.ones(len(y)), family=sm.families.Binomial(), offset=log_odds).fit(tol=1e-12).params[0]
    found = recalibration(p, is_hgg)
    assert (found[0][0], found[1][0]) == pytest.approx((slope, intercept), rel=1e-5)


def test_a_bootstrap_draw_counts_its_patients_as_often_as_they_were_drawn():
    p, is_hgg = draw(60, seed=2)
    random = np.random.default_rng(0)
    draws = [random.integers(0, 60, 60) for _ in range(8)]
    by_weight = recalibration(p, is_hgg, np.array([np.ones(60), *(np.bincount(drawn, minlength=60) for drawn in draws)], dtype=float))
    for number, drawn in enumerate(draws):
        by_copy = recalibration(p[drawn], is_hgg[drawn])
        assert [values[number + 1] for values in by_weight] == pytest.approx([values[0] for values in by_copy], rel=1e-5)


def test_repeats_are_averaged():
    (first, is_hgg), (second, _) = draw(80), draw(80, sharpen=3.0)
    both = recalibration(np.hstack([first, second]), is_hgg)
    alone = [recalibration(p, is_hgg) for p in (first, second)]
    assert [values[0] for values in both] == pytest.approx([(alone[0][i][0] + alone[1][i][0]) / 2 for i in (0, 1)])


def test_an_answer_that_is_the_same_for_all_patients_of_a_fold_has_an_intercept_but_no_slope():
    is_hgg, folds = np.arange(40) < 25, np.arange(40)[:, None] % 4
    found = calibration_metrics(np.array([0.61, 0.62, 0.63, 0.64])[folds], is_hgg, folds)
    assert np.isnan(found["calibration_slope"][0]) and found["calibration_intercept"][0] == pytest.approx(0, abs=0.01)
    half = calibration_metrics(np.full((40, 1), 0.5), is_hgg, folds)
    assert half["calibration_intercept"][0] == pytest.approx(logit(25 / 40))


def test_probabilities_that_separate_the_grades_have_no_finite_slope():
    is_hgg = np.arange(30) < 18
    for p in (np.where(is_hgg, 0.8, 0.3), np.linspace(1, 0, 30), np.linspace(0, 1, 30)):
        slope, intercept = recalibration(p[:, None], is_hgg)
        assert np.isnan(slope[0]) and np.isfinite(intercept[0])


def test_certain_probabilities_that_are_wrong_now_and_then_are_too_extreme_and_converge():
    random = np.random.default_rng(3)
    is_hgg = random.random(200) < 0.6
    p = np.where(random.random(200) < 0.1, ~is_hgg, is_hgg).astype(float)[:, None]
    weights = random.multinomial(200, np.full(200, 1 / 200), size=50).astype(float)
    slope, intercept = recalibration(p, is_hgg, weights)
    assert ((slope > 0.1) & (slope < 0.25)).all() and np.isfinite(intercept).all()  # about log(9) of 13.8


def test_net_benefit_of_calling_everybody_and_nobody_has_a_closed_form():
    is_hgg, odds = np.arange(50) < 30, THRESHOLDS / (1 - THRESHOLDS)
    assert net_benefit(np.ones((50, 1)), is_hgg, THRESHOLDS)[0] == pytest.approx(0.6 - 0.4 * odds)
    assert net_benefit(np.zeros((50, 1)), is_hgg, THRESHOLDS)[0] == pytest.approx(np.zeros(19))
    assert net_benefit(np.zeros((50, 1)), is_hgg, THRESHOLDS, positive="LGG")[0] == pytest.approx(0.4 - 0.6 * odds)


def test_a_perfect_oracle_has_the_prevalence_as_its_benefit_at_every_threshold():
    is_hgg = np.arange(50) < 30
    assert net_benefit(is_hgg[:, None].astype(float), is_hgg, THRESHOLDS)[0] == pytest.approx(np.full(19, 0.6))


def test_net_benefit_is_true_less_weighted_false_positives():
    p, is_hgg = draw(70)
    weights = np.random.default_rng(0).multinomial(70, np.full(70, 1 / 70), size=3).astype(float)
    found = net_benefit(p, is_hgg, np.array([0.3]), weights)
    called = p[:, 0] > 0.3
    for row, w in zip(found, weights, strict=True):
        assert row[0] == pytest.approx((w[called & is_hgg].sum() - w[called & ~is_hgg].sum() * 0.3 / 0.7) / 70)


def test_both_conventions_are_one_curve_read_from_both_ends():
    p, is_hgg = draw(70)
    everybody = net_benefit(np.ones((70, 1)), is_hgg, THRESHOLDS)[0]
    hgg, lgg = net_benefit(p, is_hgg, THRESHOLDS)[0], net_benefit(p, is_hgg, 1 - THRESHOLDS, positive="LGG")[0]
    assert hgg - everybody == pytest.approx(THRESHOLDS / (1 - THRESHOLDS) * lgg)


def test_acting_on_true_probabilities_is_never_worse_than_acting_on_everybody_or_nobody():
    p, is_hgg = draw(40_000)
    best = np.maximum(net_benefit(np.ones((len(p), 1)), is_hgg, THRESHOLDS)[0], 0)
    assert (net_benefit(p, is_hgg, THRESHOLDS)[0] >= best - 0.003).all()
