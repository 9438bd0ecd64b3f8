"""The errata: arithmetic against known answers, simulations against closed forms, and every deviation with its switch and effect."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy import stats
from scipy.optimize import linprog

from drlib import figures
from drlib.artifacts import file_sha256
from drlib.profiles import load_profile
from drlib.radiomics import null_models, separation
from drlib.radiomics.receptive_field import decoder_reach, encoder_reach, share_of_slice, transposed_index_map
from drlib.radiomics.statistics import share_interval
from drlib.radiomics.tcga import FILES, PUBLISHED_PATIENTS, SITES, TableError, find_tcga, read_tcga
from drlib.radiomics.two_by_two import matching_tables, rates_from
from drlib.segmentation.network import SegmentationNetwork
from drlib.segmentation.normalisation import NormalisedActivation
from drlib.segmentation.quantizer import nearest
from drlib.series import deviations, errata
from drlib.series.run import open_run
from drlib.series.studies import likelihood_ratio

REAL_TABLE = Path(os.environ.get("DRLIB_TCGA_TABLE", Path(__file__).parents[2] / "shared/data/tcga_radiomics"))


def test_the_published_rates_follow_from_lgg_as_the_positive_class_and_from_no_other():
    lgg, hgg = rates_from(0.73, 0.95, 76, 259), rates_from(0.73, 0.95, 259, 76)
    assert [round(lgg[rate], 3) for rate in ("accuracy", "precision", "npv")] == [0.900, 0.811, 0.923]
    assert [round(hgg[rate], 3) for rate in ("accuracy", "precision", "npv")] == [0.780, 0.980, 0.508]


def test_a_table_of_whole_patients_is_found_again_from_its_own_rates():
    tp, fn, tn, fp = 55, 21, 246, 13
    rates = {"accuracy": (tp + tn) / 335, "precision": tp / (tp + fp), "recall": tp / 76, "specificity": tn / 259, "npv": tn / (tn + fn)}
    assert matching_tables(rates, 76, 259, 1e-9)[["tp", "fn", "tn", "fp"]].to_numpy().tolist() == [[tp, fn, tn, fp]]
    found = errata.count_matching_tables()
    assert found.loc["LGG positive", "within 0.01"] > 0 and found.loc["HGG positive", "within 0.02"] == 0


def test_wilson_interval_is_the_closed_form():
    hits, n, z = 7, 50, stats.norm.ppf(0.975)
    centre, half = (hits + z**2 / 2) / (n + z**2), z * np.sqrt(hits * (n - hits) / n + z**2 / 4) / (n + z**2)
    found = share_interval(hits, n)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
    assert np.isnan(share_interval(0, 0).estimate)


def test_covers_share_is_his_count_of_dichotomies():
    # four points in general position in the plane, a line with intercept (3 parameters): 14 of 16 dichotomies (the two of XOR are missing)
    assert separation.separable_share(4, 3) == pytest.approx(14 / 16)
    assert separation.separable_share(336, 168) == pytest.approx(0.5)  # two patients per parameter
    assert separation.separable_share(10, 10) == 1


def is_separable(columns: np.ndarray, is_positive: np.ndarray) -> bool:
    """By a linear program: no convex combination of the signed patients is zero."""
    signed = np.column_stack([columns, np.ones(len(columns))]) * np.where(is_positive, 1, -1)[:, None]
    conditions = np.vstack([signed.T, np.ones(len(signed))])
    due = np.eye(len(conditions))[-1]
    return linprog(np.zeros(len(signed)), A_eq=conditions, b_eq=due, bounds=(0, None)).status == 2


@pytest.mark.parametrize("seed", range(6))
def test_separation_is_found_where_a_linear_program_finds_it(seed):
    columns = np.random.default_rng(seed).normal(size=(60, 12 + 4 * seed))
    is_positive = np.arange(60) < 20
    assert separation.effect_test(columns, is_positive).separable == is_separable(columns, is_positive)


def test_effect_test_is_statsmodels_where_it_exists():
    random = np.random.default_rng(3)
    columns, is_positive = random.normal(size=(120, 6)), random.random(120) < 0.4
    found = separation.effect_test(columns, is_positive)
    full, reduced = (sm.Logit(is_positive * 1.0, sm.add_constant(x)).fit(disp=0).llf for x in (columns, columns[:, 1:]))
    assert found.statistic == pytest.approx(2 * (full - reduced), abs=1e-6)
    assert found.p == pytest.approx(stats.chi2.sf(found.statistic, 1))


def test_simulated_separation_meets_cover():
    random = np.random.default_rng(0)
    found = separation.simulate_effect_tests(9, 10, 10, 400, random, coin=True)
    interval = share_interval(int(found["separable"].sum()), 400, 0.999)
    assert interval.low < separation.separable_share(20, 10) == 0.5 < interval.high


def test_threshold_is_half_for_balanced_grades_and_less_for_others():
    assert separation.separation_threshold(0.5) == pytest.approx(0.5)
    assert 0.35 < separation.separation_threshold(76 / 335) < 0.45


def test_both_likelihoods_vanish_with_more_covariates_than_patients():
    columns = np.random.default_rng(0).normal(size=(40, 60))
    table = separation.vanishing_likelihoods(columns, np.arange(40) < 9)
    assert table["all covariates"].is_monotonic_increasing and table.iloc[-1].abs().max() < 1e-30
    assert table["likelihood-ratio statistic"].abs().max() < 1e-9
    with pytest.raises(ValueError, match="cannot give 40 patients"):
        separation.vanishing_likelihoods(columns[:, :30], np.arange(40) < 9)


def test_a_stopped_study_resumes_with_the_same_table_and_another_seed_has_another(tmp_path):
    study = likelihood_ratio.run_likelihood_ratio(tmp_path / "a", (4, 8), 60, progress=False)
    partial = tmp_path / "b" / "likelihood_ratio.partial"

    def stop(*arguments):
        if len(list(partial.glob("rows/*.json"))) == 2:
            raise KeyboardInterrupt
        return separation.simulate_effect_tests(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(likelihood_ratio, "simulate_effect_tests", stop)
        likelihood_ratio.run_likelihood_ratio(tmp_path / "b", (4, 8), 60, progress=False)
    kept = {path.name: path.stat().st_mtime_ns for path in partial.glob("rows/*.json")}
    assert len(kept) == 2
    resumed = likelihood_ratio.run_likelihood_ratio(tmp_path / "b", (4, 8), 60, progress=False)
    pd.testing.assert_frame_equal(resumed.rows, study.rows)
    other = likelihood_ratio.run_likelihood_ratio(tmp_path / "c", (4, 8), 60, seed=1, progress=False)
    assert not other.rows["rejected"].equals(study.rows["rejected"])


def test_the_shipped_study_matches_its_manifest_and_shows_what_the_chapter_says():
    study = likelihood_ratio.open_likelihood_ratio()
    made = study.manifest["made_from"]
    assert study.manifest["files"] == {"rows.csv": file_sha256(likelihood_ratio.SHIPPED / "rows.csv")}
    assert tuple(made["columns"]) == likelihood_ratio.COLUMNS and made["data_sets"] >= 200
    assert len(study.rows) == 2 * len(made["columns"]) and (study.rows["data_sets"] == made["data_sets"]).all()
    table = errata.effect_test_table(study)
    for columns, published in ((20, 0.06), (60, 0.11), (100, 0.16), (130, 0.29)):
        assert table.loc[columns, "false_positive"] == pytest.approx(published, abs=0.05)
    assert table.loc[20, "separable"] == 0 and table.loc[160, "separable"] > 0.99
    near = (table["tossed_low"] - 0.02 <= table["cover"]) & (table["cover"] <= table["tossed_high"] + 0.02)
    assert near.all()
    assert figures.plot_effect_tests(table, 335, separation.separation_threshold(76 / 335))


def test_one_codeword_in_twenty_passes_by_chance_and_none_after_adjustment():
    found = null_models.count_false_discoveries(30, 60, 200, 12, np.random.default_rng(0))
    assert found["plain"].mean() == pytest.approx(10, abs=4) and found["adjusted"].mean() < 1


def test_friedman_of_many_data_sets_is_scipys():
    values = np.random.default_rng(0).normal(size=(4, 15, 3))
    due = [stats.friedmanchisquare(*one.T).pvalue for one in values]
    assert null_models._friedman_p(values) == pytest.approx(due)


def test_what_patients_share_makes_kruskal_too_careful_and_friedman_stronger():
    table = null_models.compare_region_tests(60, (0.0, 0.7), (0.0, 0.3), 400, np.random.default_rng(0))
    share = table.pivot(index=["effect", "shared"], columns="test", values="share")
    assert share.loc[(0.0, 0.7), "Kruskal-Wallis"] < 0.02 < share.loc[(0.0, 0.7), "Friedman"] < 0.1
    assert share.loc[(0.3, 0.7), "Friedman"] > share.loc[(0.3, 0.7), "Kruskal-Wallis"] + 0.2
    assert figures.plot_region_tests(table, 60)


def test_three_argument_logical_or_leaves_the_third_out():
    labels = np.array([0, 1, 2, 3, 3, 1])
    assert errata.whole_tumour_as_published(labels).tolist() == [False, True, True, False, False, True]


def test_reach_is_what_a_gradient_sees_where_nothing_normalises(monkeypatch):
    monkeypatch.setattr(NormalisedActivation, "forward", lambda self, x, shortcut=None: x if shortcut is None else x + shortcut)
    profile = load_profile("smoke+network.filters=[8,8,8]+quantizer.codebook_size=8+quantizer.codeword_dim=8")
    network, size, side = SegmentationNetwork(profile.network, profile.quantizer), 64, 16
    image = torch.randn(1, 4, size, size, requires_grad=True)
    network.encode(image)[0, :, 5, 5].sum().backward()
    seen = image.grad[0].abs().sum(dim=(0, 1)).nonzero().flatten()
    assert (int(seen[0]), int(seen[-1])) == encoder_reach(3, 5)
    latent = torch.randn(1, 8, side, side, requires_grad=True)
    network.decode(latent)[0].abs().sum(dim=0)[:, 20].sum().backward()
    changing = latent.grad[0].abs().sum(dim=(0, 1)).nonzero().flatten().tolist()
    assert changing == [k for k in range(side) if decoder_reach(3, k)[0] <= 20 <= decoder_reach(3, k)[1]]


def test_share_of_a_slice_ends_at_its_border():
    assert share_of_slice((-5, 200), 64) == 1 and share_of_slice((60, 70), 64) == 4 / 64


def test_transposed_map_counts_the_same_and_does_not_fit_a_latent_that_is_not_square():
    latent, codebook = torch.randn(8, 6, 9), torch.randn(12, 8)
    codes = nearest(latent.flatten(1).T, codebook).view(6, 9)
    index_map = transposed_index_map(latent, codebook)
    assert torch.equal(index_map, codes.T)
    assert torch.equal(torch.bincount(index_map.flatten(), minlength=12), torch.bincount(codes.flatten(), minlength=12))
    assert errata.attempt(errata.look_up, codes, latent, codebook) == "works"
    assert "RuntimeError" in errata.attempt(errata.look_up, index_map, latent, codebook)


def test_an_attribute_named_modules_stops_the_framework():
    assert "not iterable" in errata.attempt(errata.ShadowedByModules(), torch.zeros(1, 4, 8, 8))
    assert "not callable" in errata.attempt(errata.ShadowedByList().modules)


def test_rotation_fills_the_mean_of_the_brain_and_a_blank_image_is_no_number():
    assert np.isnan(errata.plain_z_score(np.full(9, 100.0))).all()


def test_signed_rank_refuses_unequal_groups_and_depends_on_the_pairing():
    counts = errata.draw_counts()
    assert errata.attempt(stats.wilcoxon, counts["LGG"], counts["HGG"]).startswith("ValueError")
    signed = errata.compare_rank_tests(counts, 200).iloc[1]
    assert signed["highest"] > 10 * signed["lowest"]


@pytest.fixture
def table(tmp_path) -> Path:
    """A table of the TCGA form, made up: enhancing volume and one feature tell the grade; with the words that spreadsheets leave."""
    random = np.random.default_rng(0)
    folder = tmp_path / "release" / "features"
    folder.mkdir(parents=True)
    for grade, name in FILES.items():
        n, shift = 30, 1.5 if grade == "HGG" else 0.0
        content = pd.DataFrame({"ID": [f"TCGA-{grade}-{k:02d}" for k in range(n)], "Date": "1998.01.01"})
        for column in ("VOLUME_ET", "VOLUME_NET", "VOLUME_ED"):
            content[column] = np.rint(np.exp(random.normal(9 + shift * (column == "VOLUME_ET"), 1, n))).astype(int).astype(str)
        content["TEXTURE"] = random.normal(shift, 1, n).astype(str)
        content["RATIO"] = ["#DIV/0!", "Inf", *random.normal(size=n - 2).astype(str)]
        content["GROWTH"] = ["1.5", *[""] * (n - 1)]
        content.to_csv(folder / name, index=False)
    return tmp_path / "release"


def test_table_is_found_below_the_folder_and_its_words_count_as_missing(table):
    found = read_tcga(find_tcga(table))
    assert found.grades.value_counts().to_dict() == {"HGG": 30, "LGG": 30} and found.cleaned == 4
    assert list(found.features) == ["VOLUME_ET", "VOLUME_NET", "VOLUME_ED", "TEXTURE", "RATIO"]  # GROWTH: in two patients only
    assert found.features["RATIO"].isna().sum() == 4
    assert found.volumes["ET"].iloc[0] == found.features["VOLUME_ET"].iloc[0] / 1000
    assert find_tcga(table / "nothing") is None and find_tcga(None) is None


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("VOLUME_ED", "-3", "VOLUME_ED"),
        ("VOLUME_NET", "", "VOLUME_NET"),
        ("TEXTURE", "many", "TEXTURE.*'many'"),
        ("ID", "TCGA-LGG-01", "twice"),
    ],
)
def test_a_faulty_cell_is_named(table, column, value, message):
    path = find_tcga(table) / FILES["LGG"]
    content = pd.read_csv(path, dtype=str, keep_default_na=False)
    content.loc[0, column] = value
    content.to_csv(path, index=False)
    with pytest.raises(TableError, match=message):
        read_tcga(path.parent)


def test_a_table_without_its_columns_or_its_other_half_is_named(table):
    folder = find_tcga(table)
    pd.read_csv(folder / FILES["HGG"]).drop(columns="VOLUME_ED").to_csv(folder / FILES["HGG"], index=False)
    with pytest.raises(TableError, match=f"{FILES['HGG']} has no column VOLUME_ED"):
        read_tcga(folder)
    (folder / FILES["HGG"]).unlink()
    assert find_tcga(table) is None
    with pytest.raises(TableError, match=f"{FILES['HGG']} is missing"):
        read_tcga(folder)


def as_released(folder: Path) -> None:
    """Make the made-up table one of the barcodes and the numbers of patients of the release."""
    for grade, n in PUBLISHED_PATIENTS.items():
        content = pd.read_csv(folder / FILES[grade], dtype=str, keep_default_na=False)
        content = content.loc[np.arange(n) % len(content)]
        content["ID"] = [f"TCGA-{SITES[grade][k % len(SITES[grade])]}-{k:04d}" for k in range(n)]
        content.to_csv(folder / FILES[grade], index=False)


def test_tables_that_were_cut_or_have_changed_places_are_refused(table):
    folder = find_tcga(table)
    as_released(folder)
    assert read_tcga(folder).grades.value_counts().to_dict() == PUBLISHED_PATIENTS
    gbm, lgg = (folder / FILES[grade] for grade in ("HGG", "LGG"))
    whole = lgg.read_text()
    lines = whole.splitlines(keepends=True)
    lgg.write_text("".join(lines[:-3]))
    with pytest.raises(TableError, match=f"{FILES['LGG']} was cut: it holds 62 of its 65 patients"):
        read_tcga(folder)
    lgg.write_text("".join(lines[:40]) + lines[40][: len(lines[40]) // 2])
    with pytest.raises(TableError, match=f"{FILES['LGG']} was cut: row 41 ends early"):
        read_tcga(folder)
    lgg.write_text(gbm.read_text())
    gbm.write_text(whole)
    with pytest.raises(TableError, match="have changed places"):
        read_tcga(folder)


@pytest.mark.skipif(not REAL_TABLE.is_dir(), reason=f"the TCGA feature table is not at {REAL_TABLE} (DRLIB_TCGA_TABLE)")
def test_the_released_tables_are_neither_cut_nor_changed_and_swapped_ones_are_seen(tmp_path):
    assert read_tcga(REAL_TABLE).grades.value_counts().to_dict() == PUBLISHED_PATIENTS
    for grade, other in (("HGG", "LGG"), ("LGG", "HGG")):
        (tmp_path / FILES[grade]).write_bytes((REAL_TABLE / FILES[other]).read_bytes())
    with pytest.raises(TableError, match="changed places"):
        read_tcga(tmp_path)


def test_volumes_come_from_the_readers_table_or_else_from_phantoms(table, tmp_path):
    run = open_run("smoke", str(table), str(tmp_path))
    shown = errata.volume_table(run)
    assert list(shown.index) == ["always the commoner grade", "three log volumes", "all features"]
    assert "TCGA" in errata.open_volumes(run)[2] and "supplied" in errata.tell_tcga(run)
    assert float(shown.loc["all features", "AUC, plain"]) > 0.7
    phantoms = open_run("smoke", None, str(tmp_path))
    volumes, grades, whose = errata.open_volumes(phantoms)
    assert "phantoms" in whose and len(volumes) == 167 and grades.value_counts()["LGG"] == 65
    assert "TCGA_GBM_radiomicFeatures.csv" in errata.tell_tcga(phantoms)


@pytest.mark.skipif(not REAL_TABLE.is_dir(), reason=f"the TCGA feature table is not at {REAL_TABLE} (DRLIB_TCGA_TABLE)")
def test_three_volumes_of_the_real_patients_reach_the_published_accuracy(tmp_path):
    run = open_run("smoke", str(REAL_TABLE), str(tmp_path))
    _, grades, _ = errata.open_volumes(run)
    assert grades.value_counts().to_dict() == {"HGG": 102, "LGG": 65}
    summary = errata.nested_volumes(run).summary
    assert summary.loc["accuracy", "estimate"] == pytest.approx(0.883, abs=0.02)
    assert summary.loc["auc", "estimate"] == pytest.approx(0.928, abs=0.015)


@pytest.mark.parametrize("deviation", deviations.DEVIATIONS, ids=lambda deviation: deviation.theirs[:40])
def test_every_deviation_has_a_switch_or_a_call_that_exists_and_an_effect_or_a_reason(deviation):
    deviation.check()
    assert bool(deviation.switch) != bool(deviation.call)
    assert deviation.topic in deviations.TOPICS
    assert callable(deviation.effect) or len(deviation.effect) > 20


def test_a_switch_changes_the_profile_unless_demo_has_it_already():
    switched = {d.switch for d in deviations.DEVIATIONS if d.switch and load_profile(f"demo+{d.switch}").hash == load_profile("demo").hash}
    assert switched == {"quantizer.start_epoch=0"}  # demo goes on from a model that had its continuous start


def test_effects_of_corrections_are_read_from_the_study():
    measured = deviations.Measured(open_run("smoke"))
    dice = next(d for d in deviations.DEVIATIONS if d.switch == "training.dice=pooled").tell_effect(measured)
    found = measured.changes.loc[(7, "dice_ET")]
    assert f"Dice ET {found['difference']:+.2f} [{found['low']:+.2f}" in dice
    assert ("**clear**" in dice) == any(measured.changes.loc[(7, m), "change"] != "not clear" for m in deviations.SHOWN)


@pytest.mark.parametrize(
    "content", ["", "ID,A\n1,2,3\n1,2,3,4,5\n", "ID,VOLUME_NET,VOLUME_ED,VOLUME_ET\n", "ID,VOLUME_NET,VOLUME_ED,VOLUME_ET\n,1,2,3\n"]
)
def test_a_table_that_is_no_table_is_refused_by_name(tmp_path, content):
    for name in FILES.values():
        (tmp_path / name).write_text(content)
    with pytest.raises(TableError, match="TCGA_GBM_radiomicFeatures.csv"):
        read_tcga(tmp_path)


def test_a_table_that_is_no_text_is_refused_by_name(tmp_path):
    for name in FILES.values():
        (tmp_path / name).write_bytes(b"ID,VOLUME_NET\n\xff\xfe\x00\x81,1\n")
    with pytest.raises(TableError, match="TCGA_GBM_radiomicFeatures.csv"):
        read_tcga(tmp_path)
