"""Seeds and stability: codewords matched, agreement measured, claims of several seeds side by side."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, cohen_kappa_score

from drlib import figures
from drlib.artifacts import file_sha256
from drlib.figures.style import figure_png
from drlib.radiomics import agreement
from drlib.radiomics.agreement import AgreementError, compare_codes, match_codewords, pair_interval
from drlib.radiomics.statistics import bootstrap_weights
from drlib.seeds import generator
from drlib.series.claims import Claim, record_claims
from drlib.series.findings import stability
from drlib.series.studies import codebooks, seeds
from drlib.series.workflow import Outcome, Series

ROOT = Path(__file__).parents[1]
TOY = (
    *("cohort.spacing_mm=8", "cohort.n_segmentation=4", "preprocessing.image_size=32", "training.epochs=3", "network.filters=[8,8,16]"),
    *("training.slices_per_epoch=32", "grading.permutations=0", "grading.repeats=1", "grading.folds=2"),
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def codes(random) -> np.ndarray:
    return random.choice(20, size=3000, p=random.dirichlet(np.ones(20)))


def test_a_codebook_with_its_rows_in_another_order_agrees_perfectly(codes, random):
    order = random.permutation(20)
    found = compare_codes(codes, order[codes], (20, 20))
    assert found.matched_share == found.merged_share == 1
    assert found.ami == pytest.approx(1) and found.ari == pytest.approx(1)
    used = np.unique(codes)
    assert (found.partner[used] == order[used]).all()


def test_independent_codes_agree_by_chance(codes, random):
    other = random.integers(20, size=len(codes))
    found = compare_codes(codes, other, (20, 20))
    chance = [compare_codes(codes, random.permutation(other), (20, 20)).matched_share for _ in range(20)]
    assert abs(found.ami) < 0.01 and abs(found.ari) < 0.01
    assert abs(found.matched_share - np.mean(chance)) < 4 * np.std(chance)


def test_a_codebook_that_splits_every_codeword_in_two_is_merged_again(codes, random):
    split = 2 * codes + random.integers(2, size=len(codes))
    found = compare_codes(codes, split, (20, 40))
    assert found.table.max(axis=0).sum() == len(codes)  # from the finer to the coarser nothing is lost
    assert found.matched_share < 0.6 < found.merged_share


def test_the_matching_is_the_best_of_all_permutations(random):
    for _ in range(20):
        table = random.integers(1, 50, size=(5, 5))
        partner = match_codewords(table)
        best = max(sum(table[row, column] for row, column in enumerate(order)) for order in itertools.permutations(range(5)))
        assert table[np.arange(5), partner].sum() == best
        assert sorted(partner) == list(range(5))


def test_codewords_that_never_meet_are_no_partners():
    assert match_codewords(np.array([[7, 0], [3, 0], [0, 0]])).tolist() == [0, -1, -1]


def test_mutual_information_and_rand_index_are_those_of_scikit_learn(codes, random):
    other = np.where(random.random(len(codes)) < 0.5, codes, random.integers(20, size=len(codes)))
    found = compare_codes(codes, other, (20, 20))
    assert found.ami == pytest.approx(adjusted_mutual_info_score(codes, other))
    assert found.ari == pytest.approx(adjusted_rand_score(codes, other))
    assert found.table.sum() == len(codes)


def test_codes_of_other_positions_are_refused(codes):
    with pytest.raises(AgreementError, match="3000 and 2999 positions"):
        compare_codes(codes, codes[:-1], (20, 20))
    with pytest.raises(AgreementError, match="no position"):
        compare_codes(codes[:0], codes[:0], (20, 20))


def test_codes_stay_in_their_slice_when_they_change_places(codes, random):
    slices = random.integers(40, size=len(codes))
    mixed = agreement.permute_within(codes, slices, random)
    assert (mixed != codes).any()
    for number in range(40):
        assert sorted(mixed[slices == number]) == sorted(codes[slices == number])


def test_kappa_is_that_of_scikit_learn_for_every_weight_of_the_patients(random):
    first = random.random(80) < 0.6
    second = np.where(random.random(80) < 0.7, first, ~first)
    weights = np.vstack([np.ones(80), random.integers(0, 4, size=(5, 80))])
    due = [cohen_kappa_score(first, second, sample_weight=row) for row in weights]
    assert agreement.cohens_kappa(first, second, weights) == pytest.approx(due)
    assert agreement.cohens_kappa(first, first)[0] == 1
    assert np.isnan(agreement.cohens_kappa(np.ones(9), np.ones(9))[0])


def test_independent_errors_have_the_kappa_that_simulation_gives(random):
    truth = np.arange(400_000) % 3 > 0
    first, second = (np.where(random.random(len(truth)) < right, truth, ~truth) for right in (0.8, 0.7))
    expected = agreement.kappa_of_independent_errors(first, second, truth)
    assert expected == pytest.approx(agreement.cohens_kappa(first, second)[0], abs=0.005)
    assert expected > 0.1  # and yet they share nothing but the truth


def test_overlap_of_the_highest_is_1_for_the_same_map_and_the_share_by_chance(random):
    first, second = random.random((2, 40_000))
    assert agreement.overlap_of_highest(first, 3 * first + 1) == 1
    assert agreement.overlap_of_highest(first, second) == pytest.approx(0.05, abs=0.01)
    assert np.isnan(agreement.overlap_of_highest(first, np.zeros(40_000)))
    assert agreement.correlate(first, -first) == pytest.approx(-1)
    assert np.isnan(agreement.correlate(first, np.zeros(40_000)))


def test_partners_shared_counts_both_sets():
    partner = np.array([3, 0, -1, 1])
    assert agreement.partners_shared([0, 1], [3, 0], partner) == 1
    assert agreement.partners_shared([0, 2], [3], partner) == pytest.approx(2 / 3)
    assert np.isnan(agreement.partners_shared([], [], partner))


def test_leaving_out_one_codebook_at_a_time_gives_the_known_interval_of_a_mean(random):
    """For a measure that is the sum of two members' values, the jackknife is the t interval of twice their mean."""
    own = pd.Series(random.normal(size=6), index=list("abcdef"))
    pairs = pd.Series({pair: own[pair[0]] + own[pair[1]] for pair in itertools.combinations(own.index, 2)})
    found = pair_interval(pairs)
    half = t.ppf(0.975, 5) * 2 * own.std() / np.sqrt(6)
    assert found.estimate == pytest.approx(2 * own.mean())
    assert (found.low, found.high) == pytest.approx((2 * own.mean() - half, 2 * own.mean() + half))
    assert np.isnan(pair_interval(pairs.iloc[:1]).low)


def test_a_bootstrap_draw_keeps_the_number_of_patients_of_each_grade(random):
    is_hgg = np.arange(50) % 5 > 1
    weights = bootstrap_weights(is_hgg, random, 100)
    assert (weights[0] == 1).all()
    assert (weights[:, is_hgg].sum(axis=1) == 30).all() and (weights[:, ~is_hgg].sum(axis=1) == 20).all()


def made_up_claims(seed: int) -> list[Claim]:
    value = 0.7 + 0.02 * generator(seed, "test").normal()
    return [
        Claim("dice_WT", "Dice of WT", 0.76, value, (value - 0.04, value + 0.04), 32, "holds" if value > 0.7 else "does not hold"),
        Claim("hgg_region_top", "the change is greatest in", "ET", "NET" if seed == 1 else "ET", None, 32, "holds"),
        Claim("not_computed", "what could not be computed", None, None, None, 0, "cannot be tested here"),
    ]


@pytest.fixture
def study(tmp_path, monkeypatch) -> seeds.Seeds:
    monkeypatch.setattr(seeds, "_describe_run", lambda series: {**RUN, "seed": series.seed})
    for seed in range(5):
        run = Series(ROOT, "smoke", None, str(tmp_path / "results"), seed).run
        record_claims(run, "05", made_up_claims(seed))
        record_claims(run, "08b", [Claim("of_this_chapter", "must not be gathered", None, 1.0, None, 1, "holds")])
    return seeds.run_seeds(tmp_path, ROOT, "smoke", range(5), str(tmp_path / "results"), execute=False)


RUN = {"n_training": 16, "n_graded": 32, "n_LGG": 12, "stale": ""}


def test_claims_of_all_seeds_are_gathered_but_not_those_of_this_chapter(study):
    assert study.claims.groupby("id").size().to_dict() == {"dice_WT": 5, "hgg_region_top": 5, "not_computed": 5}
    due = [made_up_claims(seed)[0].ours for seed in range(5)]
    assert study.claims.query("id == 'dice_WT'")["value"].tolist() == pytest.approx(due, rel=1e-5)
    assert study.claims.query("id == 'hgg_region_top'")["ours"].tolist() == ["ET", "NET", "ET", "ET", "ET"]


def test_numbers_words_and_missing_answers_are_told_apart(study):
    summary = stability.summarise_seeds(study)
    assert list(summary.index) == ["dice_WT"]
    values = study.claims.query("id == 'dice_WT'")["value"]
    half = t.ppf(0.975, 4) * values.std() / np.sqrt(5)
    assert summary.loc["dice_WT", ["mean", "low", "high"]].tolist() == pytest.approx(
        [values.mean(), values.mean() - half, values.mean() + half]
    )
    assert summary.loc["dice_WT", "ratio"] == pytest.approx(values.std() / (0.04 / 1.959964), rel=1e-4)
    assert stability.answers_by_seed(study).loc["the change is greatest in", "seeds"] == "ET 4 of 5, NET 1 of 5"
    verdicts = stability.verdicts_by_seed(study)
    assert verdicts["unanimous"].to_dict() == {"dice_WT": False, "hgg_region_top": True, "not_computed": True}
    assert stability.changing_verdicts(study).sum(axis=1).tolist() == [5]


def test_intervals_of_replicates_hold_one_another_as_often_as_is_due(random):
    """400 pairs of runs whose values spread exactly as their intervals say: 83 %, not 95 %."""
    values = random.normal(size=800)
    rows = {
        "id": np.repeat(np.arange(400), 2).astype(str),
        "seed": np.tile([0, 1], 400),
        "value": values,
        "claim": "",
        "paper_value": np.nan,
    }
    claims = pd.DataFrame(rows).assign(low=values - 1.959964, high=values + 1.959964)
    found = stability.coverage(seeds.Seeds(claims, pd.DataFrame(), {}))
    assert found["compared"] == 800
    assert found["share"] == pytest.approx(found["due"], abs=0.04)
    assert found["due"] == pytest.approx(0.834, abs=0.001)


def test_gathering_is_done_again_only_when_a_claim_changed(study, tmp_path):
    manifest = tmp_path / "seeds" / "manifest.json"
    before = manifest.stat().st_mtime_ns
    again = (tmp_path, ROOT, "smoke", range(5), str(tmp_path / "results"), False)
    seeds.run_seeds(*again)
    assert manifest.stat().st_mtime_ns == before
    changed = [Claim("dice_WT", "Dice of WT", 0.76, 0.1, (0.0, 0.2), 32, "does not hold")]
    record_claims(Series(ROOT, "smoke", None, str(tmp_path / "results"), 3).run, "05", changed)
    assert seeds.run_seeds(*again).claims.query("id == 'dice_WT' and seed == 3")["value"].item() == 0.1


def test_every_chapter_that_claims_something_is_executed_for_every_seed_and_a_failure_is_named(study, tmp_path, monkeypatch):
    asked, state = [], "fresh"

    def execute(series, numbers, say):
        asked.append((series.seed, tuple(numbers)))
        return [Outcome(number, state, None) for number in numbers]

    monkeypatch.setattr(seeds, "run_series", execute)
    again = (tmp_path, ROOT, "smoke", range(2), str(tmp_path / "results"))
    seeds.run_seeds(*again)
    assert [seed for seed, _ in asked] == [0, 1]
    assert {"01", "03", "04", "05", "06", "07"} <= set(asked[0][1]) and "08b" not in asked[0][1]
    state = "failed"
    with pytest.raises(seeds.StudyError, match="seed 0: 01, 03"):
        seeds.run_seeds(*again)


def test_a_seed_without_claims_is_named_with_the_command_that_makes_them(tmp_path):
    with pytest.raises(seeds.StudyError, match="drlib study seeds --profile smoke"):
        seeds.run_seeds(tmp_path, ROOT, "smoke", [0, 1], str(tmp_path / "nothing"), execute=False)


def run_small(folder: Path) -> codebooks.Codebooks:
    return codebooks.run_codebooks(folder, 2, 1, "smoke", TOY, 16, progress=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("codebooks")


@pytest.fixture(scope="module")
def small(folder) -> codebooks.Codebooks:
    return run_small(folder)


def test_a_study_that_was_killed_while_it_compared_trains_no_network_again(folder, small, monkeypatch):
    (folder / "codebooks" / "manifest.json").unlink()
    monkeypatch.setattr(codebooks, "train", None)
    again = run_small(folder)
    for name in codebooks.TABLES:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(small, name))


def test_every_pair_is_compared_and_twins_share_their_phantoms(small):
    assert list(small.trainings["training"]) == ["1a", "2a", "1b"]
    assert small.pairs.set_index(["first", "second"])["kind"].to_dict() == {
        ("1a", "2a"): "other phantoms",
        ("1a", "1b"): "same phantoms",
    }
    shares = small.pairs[["matched_share", "merged_share", "dice_WT", "positions_HGG"]]
    assert ((shares >= 0) & (shares <= 1)).all(axis=None)
    assert (small.pairs["matched_share"] <= small.pairs["merged_share"]).all()


def test_the_stored_overlap_gives_the_measured_share(small):
    for number, row in enumerate(small.pairs.itertuples()):
        counts, names = stability.ordered_overlap(small, number)
        assert names == (row.first, row.second)
        assert np.trace(counts.to_numpy()) / counts.to_numpy().sum() == pytest.approx(row.matched_share, rel=1e-4)


def test_the_stored_probabilities_give_the_measured_kappa(small):
    called = {name: small.patients[f"p_{name}"] > 0.5 for name in small.trainings["training"]}
    due = [cohen_kappa_score(called[row.first], called[row.second]) for row in small.pairs.itertuples()]
    assert small.pairs["kappa"].tolist() == pytest.approx(due, abs=1e-4)
    one = small.averaged.set_index("size")["accuracy"][1]
    own = small.trainings.set_index("training")["accuracy"][["1a", "2a"]]
    assert one == pytest.approx(own.mean(), abs=1e-4)


def test_no_two_trainings_share_a_seed():
    every = [codebooks.Training(number, weights) for number in range(1, 10) for weights in codebooks.WEIGHTS]
    assert len({training.seed for training in every}) == len(every)


def test_shipped_tables_match_their_manifest_and_are_small():
    for module in (seeds, codebooks):
        manifest = json.loads((module.SHIPPED / "manifest.json").read_text())
        assert manifest["files"] == {path.name: file_sha256(path) for path in module.SHIPPED.iterdir() if path.name != "manifest.json"}
        assert sum(path.stat().st_size for path in module.SHIPPED.iterdir()) < 400_000


def test_the_chapter_draws_what_is_shipped():
    of_seeds, study = seeds.open_seeds(), codebooks.open_codebooks()
    claims = stability.stability_claims(of_seeds, study)
    assert len({claim.id for claim in claims}) == len(claims)
    notebook = (ROOT / "notebooks" / "08b_stability.ipynb").read_text()
    assert all(f"({claim.evidence})=" in notebook for claim in claims)
    assert (study.pairs["ami"] > study.pairs["ami_chance"]).all()
    overlaps = [stability.ordered_overlap(study, number) for number in (0, 1)]
    counts, names = overlaps[0]
    drawn = (
        figures.plot_seeds(*stability.headline_by_seed(of_seeds)),
        figures.plot_matching(overlaps, ["one", "other"]),
        figures.plot_agreement(study.pairs, stability.CODES),
        figures.plot_two_codebooks(study.examples, names, stability.partners(counts), list(counts.index), 4.0),
    )
    assert all(len(figure_png(figure, dpi=40)) > 1000 for figure in drawn)
