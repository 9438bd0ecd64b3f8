"""Trials with a known truth: the study runs and resumes, its tables are read rightly, and those that come with the library are whole."""

import numpy as np
import pandas as pd
import pytest
import torch

from drlib.artifacts import ArtifactError
from drlib.profiles import load_profile
from drlib.segmentation.model import save_model
from drlib.segmentation.network import SegmentationNetwork
from drlib.series.findings import known_truth as findings
from drlib.series.studies import known_truth
from drlib.series.studies.known_truth import CARRIES, SHIPPED, Design, KnownTruth, Trials, open_known_truth, run_known_truth

TOY = "smoke+cohort.spacing_mm=8+preprocessing.image_size=32+network.filters=[8,8,16]+grading.repeats=1+grading.folds=2"
SMALL = Design(TOY, 1, 28, 24, 1, 1, (24,), (1.0,), 1, 1, 12, 1, 12)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    profile = load_profile(TOY)
    return save_model(tmp_path_factory.mktemp("model"), SegmentationNetwork(profile.network, profile.quantizer), profile, {})


@pytest.fixture(scope="module")
def toy(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, run_known_truth(folder, SMALL, model, progress=False)


@pytest.mark.slow
def test_every_trial_is_held_and_a_second_call_reads_what_is_there(toy, model, monkeypatch):
    folder, trials = toy
    assert len(trials.null) == len(trials.mirrored) == len(trials.power) == 1
    assert sorted(trials.planted["variant"]) == sorted([*CARRIES, "planted-texture"])  # a texture speaks of both grades
    assert set(trials.confounded["trial"]) == {"confounded", "sound"} and trials.design == SMALL
    assert not any((folder / "work").iterdir())  # the phantoms are gone
    monkeypatch.setattr(known_truth, "_do", None)
    pd.testing.assert_frame_equal(run_known_truth(folder, SMALL, model).null, trials.null)


@pytest.mark.slow
def test_the_twins_of_the_mirrored_trial_are_all_caught(toy):
    assert toy[1].mirrored[["twins", "caught", "false_alarms"]].iloc[0].tolist() == [12, 12, 0]


@pytest.mark.slow
def test_a_cohort_that_was_tried_is_not_tried_again_after_a_kill(model, tmp_path):
    calls = []
    tasks = [(tmp_path / f"{n}.json", lambda n=n: calls.append(n)) for n in range(3)]
    tasks[1][0].write_text("[]")
    known_truth._do(tasks, 1, "trial", False)
    assert calls == [0, 2]
    trials = Trials(SMALL, model, tmp_path, tmp_path / "work")
    every = [*trials.pool_tasks(), *trials.planted_tasks(), *trials.confounded_tasks(), *trials.drawn_tasks()]
    assert len({path for path, _ in every}) == len(every)  # no two tasks write one file


def make_trials(found: int, top: str) -> KnownTruth:
    """Forty null cohorts, ``found`` of them with a discovery, and ten planted ones in which ``top`` is on top."""
    random = np.random.default_rng(0)
    auc = random.normal(0.5, 0.05, 40)
    null = pd.DataFrame(
        {"auc": auc, "auc_low": auc - 0.12, "auc_high": auc + 0.12, "auc_published": auc, "control_auc": auc, "tested": 100}
    )
    null["found"], null["found_published"] = np.arange(40) < found, 3
    planted = pd.DataFrame({"variant": np.repeat(list(CARRIES), 10), "top_mean": top, "top_sum": "ED", "top_enriched": top})
    planted = planted.assign(auc=0.8, auc_volume=0.9, responsible=1, grade="HGG")
    mirrored = pd.DataFrame({"auc": [0.9] * 5, "auc_without_twins": [0.5] * 5, "twins": 10, "caught": 10, "false_alarms": 0})
    rows = [("confounded", 0.9, 0.95, 0.8, True)] * 8 + [("sound", 0.9, 0.5, 0.4, False)] * 30
    confounded = pd.DataFrame(rows, columns=["trial", "auc", "control_auc", "control_low", "warned"])
    power = pd.DataFrame({"n": [28, 28, 56, 56], "informative": 1.0, "auc": [0.6, 0.8, 0.8, 0.9], "auc_low": [0.4, 0.6, 0.7, 0.8]})
    return KnownTruth(null, power.assign(found_LGG=[0, 0, 1, 0], found_HGG=[0, 1, 1, 1]), planted, mirrored, confounded, {})


@pytest.mark.parametrize(("found", "verdict"), [(0, "holds"), (2, "holds"), (20, "does not hold")])
def test_discoveries_where_there_is_nothing_are_judged_by_what_their_interval_allows(found, verdict):
    claims = {claim.id: claim for claim in findings.known_truth_claims(make_trials(found, "ET"))}
    assert claims["null_discovery_rate"].ours == found / 40 and claims["null_discovery_rate"].verdict == verdict
    assert claims["null_discovery_rate_published"].verdict == "does not hold"  # three in every cohort
    assert claims["null_auc"].verdict == "holds" and claims["null_auc"].unit == "cohorts"


def test_a_planted_region_must_be_named_more_often_than_by_chance():
    claims = {claim.id: claim for claim in findings.known_truth_claims(make_trials(0, "ET"))}
    assert claims["planted_ET"].ours == 1 and claims["planted_ET"].verdict == "holds"
    assert claims["planted_NET"].ours == 0 and claims["planted_NET"].verdict == "does not hold"
    low, high = claims["planted_ET"].interval
    assert (low, high) == pytest.approx((0.7225, 1.0), abs=1e-4)  # Wilson's interval of 10 of 10


def test_the_leaks_are_caught_and_sound_cohorts_are_left_in_peace():
    table = findings.leak_trials(make_trials(0, "ET"))
    assert table.loc["cohorts in which every twin is caught", "value"] == 1 and table.loc["sound cohorts with a warning", "value"] == 0
    claims = {claim.id: claim.verdict for claim in findings.known_truth_claims(make_trials(0, "ET"))}
    assert {claims[name] for name in ("leak_twins_caught", "leak_confounding_warned", "leak_false_warning")} == {"holds"}


def test_power_is_the_share_of_cohorts():
    table = findings.power_table(make_trials(0, "ET")).set_index("n")
    assert table.loc[28, ["clear", "found", "found_both"]].tolist() == [0.5, 0.5, 0.0]
    assert table.loc[56, ["clear", "found", "found_both"]].tolist() == [1.0, 1.0, 0.5]


def test_the_tables_that_come_with_the_library_are_those_of_the_stated_design():
    trials = open_known_truth()
    design = trials.design
    assert len(trials.null) == design.null_draws and len(trials.mirrored) == design.mirrored_draws
    assert len(trials.power) == len(design.power_sizes) * len(design.informative) * design.power_draws
    seeds = trials.planted.groupby("variant")["seed"].nunique()
    assert (seeds == design.planted_seeds).all() and set(seeds.index) == set(CARRIES)
    assert trials.manifest["made_from"]["command"] == known_truth.COMMAND
    assert trials.null["auc"].between(0, 1).all()


def test_tables_that_were_changed_are_refused(tmp_path):
    import shutil

    shutil.copytree(SHIPPED, tmp_path / "known_truth")
    path = tmp_path / "known_truth" / "null.csv"
    path.write_text(path.read_text().replace("0", "1", 1))
    with pytest.raises(ArtifactError, match=known_truth.COMMAND):
        open_known_truth(tmp_path / "known_truth")
