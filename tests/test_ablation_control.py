"""Random codeword sets as frequent as the responsible ones, and what chapter 07 says of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import mannwhitneyu
from small_radiomics import small_model, small_profile, small_store

from drlib.radiomics.ablation import TumourCodes, ablate_sets, encode_tumours
from drlib.radiomics.ablation_control import ControlError, control_p, count_tokens, matched_sets, region_contrast, summarise_sets
from drlib.series.claims import Claim
from drlib.series.findings.ablation import ablation_claims, auc_interval, call_leading, median_difference, one_by_one, region_tests, show_p
from drlib.series.run import Run
from drlib.series.stages import Ablation
from drlib.series.stages.ablation import N_CONTROLS, _ablate_controls, _compare_regions, _compare_with_captum, _measure_locality

REGIONS = ("NET", "ED", "ET")


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_tokens_are_counted_in_slices_or_in_the_tumours_cells():
    codes = torch.tensor([[[0, 1], [2, 2]], [[2, 0], [1, 1]]])
    inside = torch.tensor([[[False, True], [True, False]], [[False, False], [True, True]]])
    tumours = [TumourCodes("P0", codes, np.arange(2), inside, "truth")] * 2
    assert count_tokens(tumours, 4).tolist() == [4, 6, 6, 0] and count_tokens(tumours, 4, in_tumour=True).tolist() == [0, 6, 2, 0]


def test_random_sets_match_in_number_and_in_tokens_and_hold_nothing_excluded(random):
    counts = random.lognormal(4, 1.5, 200).astype(int)
    counts[:20] = 0
    chosen = [int(k) for k in np.argsort(counts)[[120, 150, 180]]]
    background = int(counts.argmax())
    sets = matched_sets(counts, chosen, [background], 20, random)
    assert len(set(sets)) == 20 and all(len(set(some)) == 3 for some in sets)
    assert not {k for some in sets for k in some} & {background, *chosen, *np.flatnonzero(counts == 0)}
    totals = np.array([counts[list(some)].sum() for some in sets])
    assert np.abs(np.log(totals / counts[chosen].sum())).max() < 0.1
    medians = np.median([np.sort(counts[list(some)]) for some in sets], axis=0)
    assert np.abs(np.log(medians / np.sort(counts[chosen]))).max() < 0.5  # a rare codeword's stand-in is rare


def test_the_same_seed_draws_the_same_sets():
    counts = np.arange(1, 60)
    first, second = (matched_sets(counts, [30, 40], [58], 10, np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_a_single_codeword_is_matched_by_the_most_similar_ones(random):
    assert set(matched_sets(np.arange(100), [50], [99], 4, random)) == {(48,), (49,), (51,), (52,)}


def test_too_few_codewords_or_none_to_match_are_refused(random):
    with pytest.raises(ControlError):
        matched_sets(np.array([5, 5, 5]), [0, 1], [2], 3, random)
    with pytest.raises(ControlError):
        matched_sets(np.array([0, 5, 5]), [0], [], 3, random)


def test_fewer_sets_come_back_where_there_are_not_so_many(random):
    assert sorted(matched_sets(np.array([9, 9, 9, 9]), [0], [3], 20, random)) == [(1,), (2,)]


def test_the_contrast_is_level_at_0_and_everything_at_3():
    means = pd.DataFrame([[2.0, 2, 2], [0, 0, 5], [1, 2, 3], [0, 0, 0]], columns=REGIONS)
    assert region_contrast(means, "ET").tolist()[:3] == pytest.approx([0, 3, 0.75]) and np.isnan(region_contrast(means, "ET")[3])


def test_the_p_of_a_control_counts_the_observed_set():
    assert control_p(5.0, [1, 2, 3]) == 0.25 and control_p(2.0, [1, 2, 3]) == 0.75 and control_p(0.0, [1, np.nan, 3]) == 0.75
    assert np.isnan(control_p(float("nan"), [1.0]))


def test_under_the_null_the_p_of_a_control_is_uniform(random):
    p = np.array([control_p(draw[0], draw[1:]) for draw in random.normal(size=(4000, 20))])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.012) and np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.03)


def make_measured(random, n: int = 30) -> pd.DataFrame:
    """Return values of two HGG codewords that change ET most, and of one LGG codeword that most patients lack."""
    rows = []
    for number in range(n):
        grade = "HGG" if number % 2 else "LGG"
        size = random.lognormal(0, 0.5)
        for owner, codeword, share in (("HGG", None, 1.0), ("HGG", 3, 0.7), ("HGG", 4, 0.4), ("LGG", None, 1.0), ("LGG", 9, 1.0)):
            present = owner == grade or number % 5 == 0
            for normalisation in ("live", "frozen") if codeword is None else ("live",):
                for region, height in zip(REGIONS, (1.0, 0.6, 1.6) if owner == "HGG" else (1.6, 0.6, 1.0), strict=True):
                    mean = present * size * share * (height + random.normal(0, 0.1))
                    row = {"patient": f"P{number:02d}", "grade": grade, "responsible_for": owner, "codeword": codeword, "labels": "truth"}
                    row |= {"normalisation": normalisation, "region": region, "mean": mean, "sum": 100 * mean, "n_voxels": 100}
                    shares = {"share_outside": 0.9 if present else np.nan, "share_in_tumour": 0.2 if present else np.nan}
                    rows.append(row | {"n_tokens": 5 * present, "total": 1000 * size * share * present} | shares)
    return pd.DataFrame(rows).astype({"codeword": "Int64"})


@pytest.fixture(scope="module")
def ablation():
    random = np.random.default_rng(1)
    measured = make_measured(random)
    tests, joint = _compare_regions(measured[measured["codeword"].isna() & (measured["normalisation"] == "live")])
    own = measured[measured["codeword"].isna() & (measured["normalisation"] == "live")].drop(columns=["codeword", "normalisation"])
    controls = [own.assign(set=0, counted=50)]
    for number in range(1, 21):  # random sets change every region alike
        controls.append(own.assign(set=number, counted=50, mean=own["mean"].where(own["mean"] == 0, random.normal(1, 0.1, len(own)))))
    controls = pd.concat(controls).assign(matched="slices with tumour", codewords="")
    locality = pd.DataFrame(
        {"patient": ["P00", "P01"] * 2, "normalisation": ["live"] * 2 + ["frozen"] * 2, "share_outside": [0.9, 0.8, 0.7, 0.6]}
    )
    return Ablation(measured, tests, joint, locality, controls, pd.DataFrame())


@pytest.fixture
def run(tmp_path):
    return Run(small_profile(), None, tmp_path, 0)


def test_claims_follow_a_cohort_in_which_the_paper_is_right(ablation, run):
    claims = {claim.id: claim for claim in ablation_claims(run, ablation)}
    assert claims["hgg_region_top"].ours == "ET" and claims["lgg_region_top"].ours == "NET"
    for name in ("hgg_region_p", "hgg_region_difference", "hgg_overlap_auc", "hgg_region_control_p", "lgg_region_control_p"):
        assert claims[name].verdict.startswith("holds"), claims[name]
    assert claims["hgg_region_control_p"].ours == pytest.approx(1 / 21)
    assert claims["hgg_region_difference"].interval[0] > 0 and claims["hgg_share_outside"].ours == pytest.approx(0.9)
    assert all(claim.evidence.startswith("ablation-") for claim in claims.values())


def test_paired_tests_alone_make_a_claim_hold_with_correction(ablation, run):
    weak = ablation.tests.assign(dunn_p=0.4)
    claims = {claim.id: claim for claim in ablation_claims(run, replace(ablation, tests=weak))}
    assert claims["hgg_region_p"].verdict == "holds with correction"


def test_random_codewords_that_do_the_same_refute_the_region(ablation, run):
    same = ablation.controls.assign(mean=ablation.controls["set"].map(lambda _: 1.0) * np.tile(ablation.controls["mean"][:180], 21))
    claims = {claim.id: claim for claim in ablation_claims(run, replace(ablation, controls=same))}
    assert claims["hgg_region_control_p"].ours == 1 and claims["hgg_region_control_p"].verdict == "does not hold"


def test_patients_without_the_codewords_do_not_hide_the_difference_of_the_others(ablation):
    difference, n = median_difference(ablation, "LGG", "mean", "NET", "ET")
    assert n < 30 and difference > 0.2
    assert region_tests(ablation).loc[("LGG", "per voxel", "NET \N{EN DASH} ET"), "in patients"] == n


def test_one_by_one_says_whether_the_whole_is_the_sum_of_its_parts(ablation):
    table = one_by_one(ablation)
    assert (
        table.loc[("HGG", "together"), "share of the sum"] == f"{1 / 1.1:.3f}"
        and table.loc[("LGG", "together"), "share of the sum"] == "1.000"
    )


def test_a_set_is_summarised_over_patients_with_all_regions():
    head = {"set": "a", "total": 10.0, "share_in_tumour": 0.5, "n_tokens": 2}
    rows = [head | {"patient": "P0", "region": region, "mean": mean} for region, mean in zip(REGIONS, (1.0, 2.0, 6.0), strict=True)]
    rows += [head | {"patient": "P1", "region": region, "mean": mean} for region, mean in zip(REGIONS, (9.0, 9.0, np.nan), strict=True)]
    found = summarise_sets(pd.DataFrame(rows), "ET").loc["a"]
    assert found[list(REGIONS)].tolist() == [1, 2, 6] and found["contrast"] == pytest.approx(1.5) and found["top"] == "ET"
    assert found["change_per_token"] == 5 and found["share_in_tumour"] == 0.5


def test_the_auc_is_the_rank_sum_statistic_and_its_interval_covers_the_truth(random):
    more, less = random.integers(0, 5, 20).astype(float), random.integers(0, 4, 15).astype(float)
    found = auc_interval(more, less, random)
    assert found.estimate == pytest.approx(mannwhitneyu(more, less).statistic / (20 * 15)) and found.low < found.estimate < found.high
    covered = [
        interval.low <= 0.5 <= interval.high
        for interval in (auc_interval(*random.normal(size=(2, 30)), random, resamples=200) for _ in range(200))
    ]
    assert np.mean(covered) == pytest.approx(0.94, abs=0.05)


def test_p_values_read_as_in_a_paper():
    assert [show_p(p) for p in (0.00001, 0.0123, 1.0, float("nan"))] == ["<.0001", ".0123", "1", "\N{EN DASH}"]


def test_the_stage_measures_the_responsible_set_like_any_other_and_captum_agrees(run):
    model, store = small_model(), small_store()
    tumours = encode_tumours(model, store)
    counts = count_tokens(tumours, 16)
    background, *others = (int(k) for k in np.argsort(counts)[::-1])
    by_grade = {"LGG": others[:1], "HGG": others[1:3]}
    controls = _ablate_controls(run, model, store, tumours, by_grade, background)
    own = controls.query("responsible_for == 'HGG' and set == 0 and matched == 'slices with tumour'")
    due = ablate_sets(model, store, tumours, {"own": by_grade["HGG"]}, background)
    assert own["mean"].to_numpy() == pytest.approx(due["mean"].to_numpy(), rel=1e-4, nan_ok=True)
    assert (own["counted"] == counts[by_grade["HGG"]].sum()).all() and 1 < controls["set"].max() <= N_CONTROLS
    drawn = {k for some in controls.loc[controls["set"] > 0, "codewords"] for k in map(int, some.split())}
    assert not drawn & {background, *others[:3]}
    compared = _compare_with_captum(model, store, tumours, by_grade, background)
    assert len(compared) == 4 and (compared["largest_difference"] < 1e-5 * compared["largest_change"]).all()
    shares = _measure_locality(model, store, tumours, background)
    assert len(shares) == 2 * len(store.patients) and shares["share_outside"].dropna().between(0, 1).all()


def test_codewords_that_are_not_responsible_are_called_leading():
    claims = [Claim("a", f"{grade}-responsible regions", None, 1.0, None, 3, "holds") for grade in ("LGG", "HGG")]
    ablated = pd.DataFrame({"status": ["responsible", "leading (none is responsible)"]}, index=["LGG", "HGG"])
    assert [claim.claim for claim in call_leading(claims, ablated)] == ["LGG-responsible regions", "HGG-leading regions"]
