"""The ledger of claims (drlib.series.claims) and what is computed for it (drlib.series.findings)."""

import json

import numpy as np
import pandas as pd
import pytest

from drlib.series.claims import Claim, gather_claims, headline, judge, read_claims, record_claims
from drlib.series.findings import top_share
from drlib.series.run import open_run


@pytest.fixture
def run(tmp_path):
    return open_run("smoke", None, str(tmp_path), 0)


@pytest.mark.parametrize(
    ("paper", "ours", "interval", "verdict"),
    [
        (0.9, 0.85, (0.8, 0.92), "holds"),  # the interval reaches the published value
        (0.9, 0.95, (0.93, 0.97), "holds"),  # better
        (0.9, 0.80, (0.75, 0.85), "does not hold"),
        (None, 0.80, (0.75, 0.85), "cannot be tested here"),
        (0.9, float("nan"), None, "cannot be tested here"),
        (0.9, 0.8, None, "does not hold"),
    ],
)
def test_verdict_follows_from_the_interval(paper, ours, interval, verdict):
    assert judge(paper, ours, interval) == verdict


def test_chapters_record_and_the_verdict_gathers_plain_numbers_in_order(run):
    record_claims(run, "05", [Claim("grading_auc", "AUC", None, np.float32(0.75), (np.nan, np.nan), np.int64(12), "cannot be tested here")])
    record_claims(run, "03", [Claim("dice_WT", "Dice of WT", 0.76, 0.8, (0.7, 0.9), 12, "holds", "dice")])
    table = gather_claims(run)
    assert table["id"].tolist() == ["dice_WT", "grading_auc"]
    stored = json.loads((run.folder / "claims.json").read_text())
    assert stored[0] == {
        "id": "dice_WT",
        "chapter": "03",
        "claim": "Dice of WT",
        "paper": 0.76,
        "ours": 0.8,
        "interval": [0.7, 0.9],
        "n": 12,
        "unit": "patients",
        "cohort": "phantom",
        "profile": "smoke",
        "verdict": "holds",
        "evidence": "notebooks/03_segmentation.html#dice",
    }
    assert stored[1]["ours"] == 0.75 and stored[1]["paper"] is None and stored[1]["interval"] is None
    page = headline(read_claims(run))
    assert "| Dice of WT | 0.76 | 0.80 [0.70, 0.90] |" in page and "| AUC | – | 0.75 |" in page
    assert "12 graded synthetic patients (phantoms), profile `smoke`" in page


def test_top_share_counts_resamples_in_which_a_region_leads():
    clear = pd.DataFrame({"NET": [1.0, 1.0, 1.0], "ED": [2.0, np.nan, 2.0], "ET": [5.0, 6.0, 7.0]})
    assert top_share(clear, "ET", np.random.default_rng(0)) == 1
    assert top_share(clear, "NET", np.random.default_rng(0)) == 0
    even = pd.DataFrame({"NET": [0.0, 1.0] * 20, "ET": [1.0, 0.0] * 20})
    assert 0.35 < top_share(even, "ET", np.random.default_rng(0)) < 0.65
