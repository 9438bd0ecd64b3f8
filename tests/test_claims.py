"""The ledger of claims (drlib.series.claims) and what is computed for it (drlib.series.findings)."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from small_radiomics import draw_counts

from drlib.artifacts import ArtifactError
from drlib.profiles import GradingSettings
from drlib.radiomics.grading import compare_models, cross_validate, decision_curve
from drlib.radiomics.responsible import ResponsibleSettings, find_responsible
from drlib.series import findings
from drlib.series.claims import RECORDING, Claim, gather_claims, headline, judge, judge_interval, read_claims, record_claims
from drlib.series.findings import top_share
from drlib.series.run import open_run, project_root
from drlib.series.stages import Grading
from drlib.series.stages.grading import CODEWORDS, COMPARED, CONTROL, RESPONSIBLE, codewords_less_others, metrics_row


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
    table = gather_claims(run, ("03", "05"))
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


def test_a_verdict_before_its_chapters_says_which_to_execute_first(run):
    record_claims(run, "03", [Claim("dice_WT", "Dice of WT", 0.76, 0.8, None, 12, "holds")])
    with pytest.raises(ArtifactError, match="drlib run --profile smoke --chapters 99"):
        read_claims(run)
    with pytest.raises(ArtifactError, match="drlib run --profile smoke --chapters 05,06$"):
        gather_claims(run, ("03", "05", "06"))


def test_the_verdict_waits_for_every_chapter_that_records():
    recording = {
        chapter
        for path in (project_root() / "notebooks").glob("*.ipynb")
        for chapter in re.findall(r'record_claims\(run, \\?"(\w+)', path.read_text(encoding="utf-8"))
    }
    assert recording == set(RECORDING)


def test_top_share_counts_resamples_in_which_a_region_leads():
    clear = pd.DataFrame({"NET": [1.0, 1.0, 1.0], "ED": [2.0, np.nan, 2.0], "ET": [5.0, 6.0, 7.0]})
    assert top_share(clear, "ET", np.random.default_rng(0)) == 1
    assert top_share(clear, "NET", np.random.default_rng(0)) == 0
    even = pd.DataFrame({"NET": [0.0, 1.0] * 20, "ET": [1.0, 0.0] * 20})
    assert 0.35 < top_share(even, "ET", np.random.default_rng(0)) < 0.65


@pytest.mark.parametrize(
    ("interval", "question", "value", "verdict"),
    [
        ((0.01, 0.2), "above", 0, "holds"),
        ((-0.01, 0.2), "above", 0, "does not hold"),  # a difference that was not shown
        ((-0.2, -0.01), "below", 0, "holds"),
        ((0.8, 1.3), "covers", 1, "holds"),
        ((0.3, 0.7), "covers", 1, "does not hold"),
        ((float("nan"), 0.2), "above", 0, "cannot be tested here"),
        (None, "above", 0, "cannot be tested here"),
    ],
)
def test_a_statement_without_a_published_value_is_judged_by_where_its_interval_lies(interval, question, value, verdict):
    assert judge_interval(interval, question, value) == verdict


@pytest.fixture(scope="module")
def grading() -> Grading:
    counts, grades = draw_counts(24, 36, planted={0: 5.0, 1: 0.2})
    settings, kinds = GradingSettings(folds=5, repeats=2, permutations=0), {CODEWORDS: "counts", RESPONSIBLE: "responsible"}
    results = {name: cross_validate(counts, grades, settings, kind=kind) for name, kind in kinds.items()}
    results["three true volumes"] = cross_validate(counts[[5, 6, 7]], grades, settings, kind="features")
    results[CONTROL] = cross_validate(counts[[8, 9]], grades, settings, kind="features")
    results["always the commoner grade"] = cross_validate(counts, grades, settings, kind="majority")
    table = pd.DataFrame({name: metrics_row(result, None) for name, result in results.items()}).T
    responsible = find_responsible(counts, grades, ResponsibleSettings(halves=20)).assign(fold_share=results[RESPONSIBLE].chosen)
    curves = pd.concat([decision_curve(result, np.array([0.5])).assign(model=name) for name, result in results.items()])
    probabilities = {name: result.probabilities for name, result in results.items()}
    differences = codewords_less_others(compare_models(results, CODEWORDS, 0, COMPARED))
    twins = pd.DataFrame(columns=["first", "second", "mirrored", "correlation"])
    return Grading(grades, probabilities, table, differences, curves, responsible, {}, twins)


def test_differences_are_the_codewords_less_the_others(grading):
    auc = grading.table["auc"]
    rows = grading.differences.query("metric == 'auc'").set_index("model")
    assert CODEWORDS not in rows.index
    for model in rows.index:
        assert rows.loc[model, "difference"] == pytest.approx(auc[CODEWORDS] - auc[model])
    assert (rows["low"] <= rows["difference"]).all() and (rows["difference"] <= rows["high"]).all()


def test_the_control_of_noise_is_no_leak(grading):
    (claim,) = findings.leak_claims(grading)
    assert claim.id == "control_auc" and claim.verdict == "holds" and claim.evidence == "grading-leaks"
    assert findings.leak_table(grading)["what follows"].tolist() == ["nothing to do", "nothing to do"]


def test_grading_claims_have_stable_names_evidence_and_verdicts(run, grading):
    claims = {claim.id: claim for claim in findings.grading_claims(run, grading)}
    assert {"grading_accuracy", "grading_auc", "volume_baseline_accuracy", "n_responsible_LGG", "n_responsible_HGG"} <= set(claims)
    assert all(claim.evidence.startswith("grading-") for claim in claims.values())
    better = claims["codewords_minus_true_volumes_auc"]  # planted codewords against three columns of noise
    assert better.verdict == "holds" and better.ours > 0.2
    assert claims["brier"].verdict == "holds" and "grading_accuracy_published_protocol" not in claims
    assert claims["grading_sensitivity_LGG"].verdict == "holds with correction"
    assert claims["positive_class"].ours == "LGG" and claims["positive_class"].verdict == "does not hold"
    json.dumps(record_claims(run, "05", claims.values()).to_dict(), default=str)


def test_the_published_rates_are_implied_with_lgg_positive_only():
    rates = findings.implied_rates()
    assert rates["implied, LGG positive"].tolist() == pytest.approx([0.900, 0.811, 0.923], abs=0.001)
    assert rates["implied, HGG positive"].tolist() == pytest.approx([0.780, 0.980, 0.508], abs=0.001)


def test_grading_tables_show_every_model_and_both_names_of_a_rate(grading):
    shown = findings.conventions_table(grading)
    assert shown.index.tolist() == grading.table.index.tolist()
    assert all("positive" in name and "=" in name for name in shown.columns)
    row = grading.table.loc[CODEWORDS]
    assert findings.discrimination_table(grading).loc[CODEWORDS, "AUC"].startswith(f"{row['auc']:.2f} [{row['auc_low']:.2f}")
    assert findings.calibration_table(grading).loc["always the commoner grade", "slope (1 is right)"] == "–"
    assert "±" in findings.folds_table(grading).loc[CODEWORDS, "AUC, mean ± SD over folds"]


def test_tables_of_responsible_codewords_name_the_grade_the_effect_and_the_choice(grading):
    tests, choice = findings.responsible_tests(grading), findings.responsible_choice(grading)
    assert tests["more in"].to_dict() == {0: "HGG", 1: "LGG"} and tests.index.equals(choice.index)
    assert choice["chosen in folds"].str.endswith("%").all() and set(choice["likelihood"]) <= {"maximum", "firth"}
