"""What chapter 06 says of its tables: verdicts on results that are known."""

import numpy as np
import pandas as pd
import pytest

from drlib.radiomics.scanners import SCANNER_CHANGES
from drlib.series import findings
from drlib.series.run import open_run
from drlib.series.stages import Robustness

MAGNITUDES = (0.0, 0.2, 0.6, 1.0)
PATIENTS = [f"P{n:02d}" for n in range(40)]
GRADES = pd.Series(["LGG", "HGG"] * 20, index=PATIENTS)


@pytest.fixture
def run(tmp_path):
    return open_run("smoke", None, str(tmp_path), 0)


def probabilities(keys, wrong) -> pd.DataFrame:
    """Return P(HGG) of classifiers that err on the first ``wrong(kind, magnitude)`` patients."""
    rows = []
    for kind, magnitude in keys:
        for classifier in ("frozen", "refitted"):
            right = np.arange(40) >= (wrong(kind, magnitude) if classifier == "frozen" else 4)
            p_hgg = np.where((GRADES == "HGG") == right, 0.9, 0.1)
            identity = {"kind": kind, "magnitude": magnitude, "classifier": classifier}
            rows.append(pd.DataFrame({"patient": PATIENTS, "fold": np.arange(40) % 4, "p_hgg": p_hgg} | identity))
    return pd.concat(rows, ignore_index=True)


def movement(keys, ratio: float, rms: float) -> pd.DataFrame:
    """Return movements in which codewords step ``ratio`` times as far as latents, in the root mean square ``rms`` times."""
    random, rows = np.random.default_rng(0), []
    for kind, magnitude in keys:
        for patient in PATIENTS:
            step = magnitude * (0.2 if kind == "scale" else 0.5) * random.uniform(0.9, 1.1)
            own = ratio * random.uniform(0.99, 1.01)
            measured = {"latent_change": step, "codeword_change": own * step, "latent_rms": step, "codeword_rms": rms / ratio * own * step}
            shares = {"moved": 1.0, "kept": 0.5 if step else np.nan, "changed": 0.5, "difference_ratio": step, "positions": 100}
            identity = {"patient": patient, "kind": kind, "magnitude": magnitude}
            random_step = {"random_change": 0.1 * step, "random_kept": 0.9}
            rows += [identity | measured | shares | random_step | {"area": area} for area in ("brain", "all")]
    return pd.DataFrame(rows)


def robustness(
    ratio: float = 0.8, rms: float = 1.5, wrong=lambda kind, magnitude: 4 + int(16 * magnitude) * (kind == "shift")
) -> Robustness:
    paper = [(kind, magnitude) for kind in ("scale", "shift") for magnitude in MAGNITUDES]
    scanner = [("scale", 0.0), *((change.kind, change.magnitude) for change in SCANNER_CHANGES)]
    moved = movement(paper, ratio, rms)
    ratios = moved.query("area == 'all'")[["patient", "kind", "magnitude", "difference_ratio"]]
    largest = moved.query("area == 'brain' and magnitude == 1.0")
    left = np.where(largest["kind"] == "scale", 0.02, 0.8) * largest["codeword_change"] / ratio
    return Robustness(
        GRADES,
        ratios,
        pd.DataFrame(),
        probabilities(paper, wrong),
        moved,
        probabilities(scanner, lambda kind, magnitude: 4 if kind == "scale" else 12),
        movement(scanner, ratio, rms),
        largest.assign(latent_change=left)[["patient", "kind", "magnitude", "latent_change"]],
    )


def claims(run, made: Robustness) -> dict:
    return {claim.id: claim for claim in findings.robustness_claims(run, made)}


def test_verdicts_follow_what_the_tables_hold(run):
    found = claims(run, robustness())
    due = {
        "difference_ratio_scale_1.0": "cannot be tested here",  # the paper gives no number
        "difference_ratio_shift_1.0": "cannot be tested here",
        "difference_ratio_increases": "holds",
        "shift_exceeds_scale": "holds",
        "accuracy_lost_scale": "does not hold",  # nothing is lost
        "accuracy_lost_shift": "holds",
        "shift_costs_more": "holds",
        "scanner_robustness": "does not hold",
        "quantizer_absorbs": "holds with correction",  # the mean is damped, the root mean square grows
        "normalisation_absorbs_scale": "holds with correction",
        "normalisation_absorbs_shift": "does not hold",
    }
    assert {id: found[id].verdict for id in due} == due
    assert found["accuracy_lost_shift"].ours == pytest.approx(16 / 40) and found["quantizer_absorbs"].ours == pytest.approx(0.8, rel=0.01)
    assert found["scanner_robustness"].ours == pytest.approx(8 / 40)
    assert all(claim.evidence for claim in found.values()) and {claim.n for claim in found.values()} == {40}


@pytest.mark.parametrize(("ratio", "rms", "verdict"), [(0.8, 0.9, "holds"), (0.9, 1.2, "holds with correction"), (1.1, 2, "does not hold")])
def test_the_quantizer_absorbs_where_its_codewords_step_less_than_the_latents(run, ratio, rms, verdict):
    assert claims(run, robustness(ratio, rms))["quantizer_absorbs"].verdict == verdict


def test_the_loss_beyond_0_6_is_steeper_only_where_its_slope_is(run):
    bent = robustness(wrong=lambda kind, magnitude: 4 + (28 * (magnitude == 1.0) if kind == "shift" else 0))
    straight = robustness(wrong=lambda kind, magnitude: 4 + int(20 * magnitude) * (kind == "shift"))
    assert claims(run, bent)["shift_worse_beyond_0.6"].verdict == "holds"
    found = claims(run, straight)["shift_worse_beyond_0.6"]
    assert found.ours == pytest.approx(0, abs=1e-9) and found.verdict == "cannot be tested here"
    assert claims(run, straight)["degradation_follows_ratio"].ours > 0.5


def test_tables_say_each_grades_share_and_every_change_with_its_unit(run):
    made = robustness()
    performance = findings.performance_table(run, made)
    assert performance.loc[("none", "frozen"), "accuracy"].startswith("0.90") and performance.columns.tolist()[2:] == [
        "HGG called HGG",
        "LGG called LGG",
    ]
    scanners = findings.scanner_table(run, made)
    assert len(scanners) == len(SCANNER_CHANGES) and scanners["frozen"].tolist() == pytest.approx([-8 / 40] * len(scanners))
    assert ("slice thickness", "5 mm") in findings.summarise_scanners(scanners).index
    absorption = findings.absorption_table(run, made)
    assert absorption["ratio"].tolist() == pytest.approx([0.8] * len(absorption), rel=0.01)
    assert ("shift", "0.6") in findings.summarise_absorption(absorption).index
    assert findings.summarise_ratios(findings.ratio_intervals(run, made)).shape == (4, 4)
