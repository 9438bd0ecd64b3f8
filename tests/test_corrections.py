"""The ladder of corrections: its rungs as settings, a study that resumes, and the tables that come with the library."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from drlib import figures
from drlib.artifacts import ArtifactError, file_sha256
from drlib.profiles import PROFILES, SWITCHES, Profile, load_profile
from drlib.segmentation.sampling import TrainingSlices
from drlib.series.studies import changes, corrections
from drlib.series.studies.corrections import BASE, BUDGET, LADDER, SHIPPED, open_corrections, rung_profile

ROOT = Path(__file__).parents[1]
TOY = (
    *("cohort.spacing_mm=8", "cohort.n_segmentation=4", "cohort.n_grading=10", "preprocessing.image_size=32", "training.epochs=3"),
    *("network.filters=[8,8,16]", "training.slices_per_epoch=32", "grading.permutations=0", "grading.repeats=1", "grading.folds=2"),
)


def settings(profile: Profile) -> dict[str, object]:
    content = profile.model_dump(exclude={"name"})
    return {f"{section}.{field}": value for section, fields in content.items() for field, value in fields.items()}


def differing(one: Profile, other: Profile) -> set[str]:
    left, right = settings(one), settings(other)
    return {path for path in left if left[path] != right[path]}


def test_the_ladder_begins_at_the_published_codes_recipe_and_ends_at_ours():
    budget = "+".join(BUDGET)
    assert differing(rung_profile(0), load_profile(f"{BASE}+authors-code+{budget}")) == set()
    assert differing(rung_profile(len(LADDER) - 1), load_profile(f"{BASE}+{budget}")) == set()
    changed_by_budget = {switch.split("=")[0] for switch in BUDGET}
    assert differing(rung_profile(0), load_profile(f"{BASE}+authors-code")) <= changed_by_budget


@pytest.mark.parametrize("number", range(1, len(LADDER)))
def test_a_rung_differs_from_the_one_below_in_the_settings_that_it_names(number):
    assert differing(rung_profile(number), rung_profile(number - 1)) == set(LADDER[number].settings)
    assert rung_profile(number) == load_profile(rung_profile(number).name)  # anyone can type it


@pytest.mark.parametrize("path", SWITCHES["authors-code"])
@pytest.mark.parametrize("base", PROFILES)
def test_every_deviation_is_switched_alone_both_ways(base, path):
    ours, theirs = load_profile(base), load_profile(f"{base}+authors-code")
    both = [settings(profile)[path] for profile in (ours, theirs)]
    there, back = (load_profile(f"{name}+{path}={json.dumps(value)}") for name, value in zip((base, theirs.name), both[::-1], strict=True))
    due = {path} if both[0] != both[1] else set()
    assert differing(there, ours) == differing(back, theirs) == due


def test_blank_slices_train_where_asked():
    from segmentation_toys import ToyStore

    counts = [
        len(TrainingSlices(ToyStore(), load_profile(f"smoke{more}").training).has_tumour) for more in ("", "+training.blank_slices=true")
    ]
    assert counts == [3 * 7, 3 * 10]  # of ten slices four are blank


def climb(folder: Path) -> corrections.Corrections:
    return corrections.run_corrections(folder, [0], "smoke", TOY, (1, len(LADDER) - 1), progress=False)


def without_seconds(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns="seconds")


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> tuple[Path, corrections.Corrections, list[int]]:
    """A tiny study, killed by SIGKILL after its first rung, and finished by a second call; and the rungs that this one trained."""
    folder = tmp_path_factory.mktemp("study")
    code = f"import torch; torch.set_num_threads(1); from test_corrections import climb, Path; climb(Path({str(folder)!r}))"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)
    first_row = folder / "corrections.partial" / "rows" / "01-0.json"
    while not first_row.exists():
        assert child.poll() is None, "the study ended before its first row"
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    trained, measure = [], corrections.measure_rung
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corrections, "measure_rung", lambda number, *rest, **more: trained.append(number) or measure(number, *rest, **more))
        return folder, climb(folder), trained


def test_a_killed_study_goes_on_where_it_was_and_finds_the_same(killed, tmp_path):
    folder, study, trained = killed
    assert trained == [len(LADDER) - 1]
    assert list(study.rows["rung"]) == [1, len(LADDER) - 1]
    assert not (folder / "corrections.partial").exists()
    (tmp_path / "work").symlink_to(folder / "work")  # the same phantoms: what is tested is the training
    pd.testing.assert_frame_equal(without_seconds(climb(tmp_path).rows), without_seconds(study.rows))


def test_the_study_sees_the_start_explode_and_the_correction_hold(killed):
    study = killed[1]
    published, ours = study.rows.set_index("rung")["largest_norm_ratio"]
    assert published > 10 > ours > 0.1  # times the norm of the latents
    assert set(study.robustness["classifier"]) == {"frozen", "refitted"}
    assert study.rows[["dice_WT", "auc_ours", "accuracy_paper", "codewords_used"]].notna().all(axis=None)


def test_a_training_that_diverges_is_a_row_that_says_so(killed, monkeypatch):
    def diverge(store, profile, *rest, **more):
        network = corrections.VectorQuantizer(profile.quantizer).train()
        network(torch.full((1, profile.quantizer.codeword_dim, 2, 2), torch.nan))
        raise corrections.TrainingError("the loss is nan at step 0")

    monkeypatch.setattr(corrections, "train", diverge)
    row = corrections.measure_rung(1, rung_profile(1, "smoke", TOY), 0, killed[0] / "work", perturb=True)
    assert row["stopped"] == "the loss is nan at step 0" and row["nonfinite_share"] == 1
    assert row["largest_norm_ratio"] is None and row["robustness"] == [] and "dice_WT" not in row


def test_shipped_tables_match_their_manifest_and_hold_every_rung_and_seed():
    study = open_corrections()
    made = study.manifest["made_from"]
    assert study.manifest["files"] == {f"{name}.csv": file_sha256(SHIPPED / f"{name}.csv") for name in ("robustness", "rows", "steps")}
    assert made["base"] == BASE and tuple(made["budget"]) == BUDGET and list(made["rungs"]) == [rung.name for rung in LADDER]
    assert len(made["seeds"]) >= 5
    assert set(zip(study.rows["rung"], study.rows["seed"], strict=True)) == {(r, s) for r in range(len(LADDER)) for s in made["seeds"]}
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 200_000


def test_damaged_tables_name_the_command_that_makes_them_again(tmp_path):
    (tmp_path / "manifest.json").write_text((SHIPPED / "manifest.json").read_text())
    with pytest.raises(ArtifactError, match="drlib study corrections"):
        open_corrections(tmp_path)


def make_study(effect: float, n_seeds: int = 6) -> corrections.Corrections:
    """Two rungs; the upper is better by ``effect`` in every seed, while the seeds differ by much more."""
    seeds = np.arange(n_seeds)
    noise = np.random.default_rng(0).normal(0, 0.01, (2, n_seeds))
    tables = []
    for rung in (1, 2):
        measures = {measure: seeds + noise[rung - 1] + (rung == 2) * effect for measure in changes.MEASURES}
        tables.append(pd.DataFrame({"rung": rung, "name": LADDER[rung].name, "seed": seeds, **measures}))
    return corrections.Corrections(pd.concat(tables), pd.DataFrame(), pd.DataFrame(), {})


@pytest.mark.parametrize(("effect", "change"), [(0.5, "higher"), (-0.5, "lower"), (0.0, "not clear")])
def test_changes_are_judged_in_pairs_so_that_seeds_may_differ(effect, change):
    judged = changes.judge_changes(make_study(effect))
    assert set(judged["change"]) == {change}
    told = changes.tell_changes(make_study(effect)).iloc[0]
    assert (LADDER[2].name in told["clearly higher after"], LADDER[2].name in told["clearly lower after"]) == (effect > 0, effect < 0)


def test_published_start_loses_codewords_in_its_first_step_and_the_corrected_one_none():
    start = changes.watch_start(codewords=12)
    norms = [np.linalg.norm(codebook, axis=1).max() for codebook in start.codebooks]
    assert norms[1] > 100 * norms[0] and norms[3] < 2 * np.linalg.norm(start.latents, axis=1).max()
    assert figures.plot_quantizer_steps(start.latents, start.codebooks, start.names)


def test_ladder_is_drawn_with_every_seed_and_every_name():
    study = open_corrections()
    names = changes.rung_names(study)
    drawn = figures.plot_ladder(study.rows, changes.summarise_rungs(study), names, 64)
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == names
    seeds = drawn.axes[3].get_lines()
    assert any(len(line.get_xdata()) == len(study.rows) and np.allclose(line.get_xdata(), study.rows["auc_ours"]) for line in seeds)
