"""A trained model applied to patients: features, grading, maps, report (drlib.series.apply, report, and the commands)."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_patients import REAL_SAMPLES, draw_images, needs_real_samples, write_patient

from drlib.artifacts import write_json
from drlib.cohort.nifti import read_nifti
from drlib.profiles import load_profile
from drlib.radiomics.classifier import fit_classifier, save_classifier
from drlib.radiomics.histogram import codebook_hash
from drlib.segmentation.model import TrainedModel, save_model
from drlib.segmentation.network import SegmentationNetwork
from drlib.series.apply import ModelFolderError, extract_features, folder_name, grade_patients, open_applied_model, write_table

PROFILE = load_profile("smoke+preprocessing.image_size=32+cohort.spacing_mm=2")
K = PROFILE.quantizer.codebook_size
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """An untrained network with a classifier fitted to random counts."""
    folder = tmp_path_factory.mktemp("model")
    network = SegmentationNetwork(PROFILE.network, PROFILE.quantizer)
    save_model(folder, network, PROFILE, {"cohort": "none: untrained"})
    codebook = codebook_hash(TrainedModel(network, PROFILE, {}))
    patients = [f"p{number:02d}" for number in range(20)]
    counts = pd.DataFrame(np.random.default_rng(0).integers(0, 90, (20, K)), index=patients)
    grades = pd.Series(["LGG", "HGG"] * 10, index=patients)
    save_classifier(folder / "classifier.json", fit_classifier(counts, grades, codebook=codebook))
    codewords = {"LGG": [], "HGG": list(range(1, K))}
    write_json(folder / "responsible.json", {"codewords": codewords, "background": 0, "codebook": codebook, "cohort": "phantom"})
    return folder


@pytest.fixture
def cohort(tmp_path) -> Path:
    """Two sound patients, one graded, and one whose T2 lacks its second half."""
    root = tmp_path / "cohort"
    write_patient(root / "HGG" / "sound", "sound", seed=1)
    write_patient(root / "other", "other", images=draw_images(2, (30, 20, 9)), seed=2)
    broken = write_patient(root / "broken", "broken", seed=3) / "broken_t2.nii.gz"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    return root


def test_features_have_a_row_per_sound_patient_that_sums_to_slices_times_positions(model_folder, cohort, tmp_path):
    table, problems = extract_features(cohort, open_applied_model(model_folder))
    assert table["patient"].tolist() == ["other", "sound"]
    assert table["grade"].fillna("unknown").tolist() == ["unknown", "HGG"]
    counts = table.filter(like="codeword_")
    assert counts.shape == (2, K)
    assert (counts.sum(axis=1) == table["n_slices"] * table["latent_positions"]).all()
    assert [(problem.code, "broken" in problem.message) for problem in problems] == [("truncated", True)]
    for name in ("table.parquet", "table.csv"):
        path = write_table(table, tmp_path / name)
        again = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        pd.testing.assert_frame_equal(again[list(counts)], counts)


def test_duplicate_patient_is_reported_and_not_counted_twice(model_folder, cohort):
    shutil.copytree(cohort / "other", cohort / "copy")
    table, problems = extract_features(cohort, open_applied_model(model_folder))
    assert table["patient"].tolist() == ["sound"]
    assert {problem.code for problem in problems} == {"truncated", "duplicate_patient"}


def test_grading_writes_maps_on_the_grid_of_each_patient(model_folder, cohort, tmp_path):
    results, problems = grade_patients(cohort, open_applied_model(model_folder, graded=True), tmp_path / "graded")
    assert [result["patient"] for result in results] == ["other", "sound"] and len(problems) == 1
    for patient, source in (("other", cohort / "other"), ("sound", cohort / "HGG" / "sound")):
        truth = read_nifti(source / f"{patient}_t1ce.nii.gz")
        folder = tmp_path / "graded" / patient
        for name in ("segmentation", "codewords", "responsible_LGG", "responsible_HGG"):
            volume = read_nifti(folder / f"{name}.nii.gz")
            assert volume.voxels.shape == truth.voxels.shape
            np.testing.assert_allclose(volume.affine, truth.affine)
        assert set(np.unique(read_nifti(folder / "segmentation.nii.gz").voxels)) <= {0, 1, 2, 4}
        assert set(np.unique(read_nifti(folder / "codewords.nii.gz").voxels)) <= set(range(K))
        assert not read_nifti(folder / "responsible_LGG.nii.gz").voxels.any(), "no codeword speaks for LGG, so nothing changes"
        assert read_nifti(folder / "responsible_HGG.nii.gz").voxels.any()
        assert 0 < json.loads((folder / "grade.json").read_text())["p_hgg"] < 1


class Elements(HTMLParser):
    """Counts the scripts of a page, and collects its attributes and the addresses that a browser would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts, self.attributes, self.addresses = 0, set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        self.attributes |= {name for name, _ in attributes}
        self.addresses += [value for name, value in attributes if name in ("src", "href")]


def test_report_is_one_page_that_escapes_what_files_say(model_folder, tmp_path):
    images = [f"{modality}.nii.gz" for modality in ("t1", "t1ce", "t2", "flair")]
    write_patient(tmp_path / "data", "", names=dict(zip(("t1", "t1ce", "t2", "flair", "seg"), [*images, "seg.nii.gz"], strict=True)))
    (tmp_path / "data" / "manifest.csv").write_text(f"patient,t1,t1ce,t2,flair\n{HOSTILE},{','.join(images)}\n")
    grade_patients(tmp_path / "data", open_applied_model(model_folder, graded=True), tmp_path / "graded")
    report = tmp_path / "graded" / "report.html"
    shown = Elements(page := report.read_text())
    assert shown.scripts == 3, "volumes, drawing library, viewer: nothing that came from a file"
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in page and "\\u003c/script\\u003e\\u003cimg" in page
    assert not [address for address in shown.addresses if not address.startswith("data:")], "the page needs no network"
    assert "onerror" not in shown.attributes
    assert "Research only, phantom-trained" in page and "Synthetic patients" in page
    assert report.stat().st_size < 5e6


def test_report_without_the_drawing_library_says_so_and_shows_the_rest(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("drlib.series.report.NIIVUE", tmp_path / "absent.js")
    write_patient(tmp_path / "data", "someone")
    grade_patients(tmp_path / "data", open_applied_model(model_folder, graded=True), tmp_path / "graded")
    page = (tmp_path / "graded" / "report.html").read_text()
    assert "The viewer is left out" in page and "<script" not in page and "mri-poster" not in page.split("</style>")[-1]
    assert "What the network saw" in page


@pytest.mark.parametrize(("start_from", "says"), [("demo", True), (None, False)])
def test_report_of_a_users_model_says_phantom_trained_where_it_continued_a_shipped_one(model_folder, tmp_path, start_from, says):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    for name, change in (("model.json", {"start_from": start_from}), ("responsible.json", {"cohort": "clinic"})):
        content = json.loads((folder / name).read_text())
        (content if name == "responsible.json" else content["profile"]["training"]).update(change)
        (folder / name).write_text(json.dumps(content))
    write_patient(tmp_path / "data", "someone")
    results, _ = grade_patients(tmp_path / "data", open_applied_model(folder, graded=True), tmp_path / "graded")
    page = (tmp_path / "graded" / "report.html").read_text()
    assert "Research only" in page and "fitted to the cohort clinic" in page
    assert ("phantom-trained" in page) is says and ("phantom-trained" in results[0]["network"]) is says


def test_folder_of_a_patient_cannot_lead_elsewhere():
    assert folder_name("BraTS19_PHA_0001_1") == "BraTS19_PHA_0001_1"
    assert folder_name("../../etc/passwd") == "_.._etc_passwd"
    assert folder_name("..") == "patient"


def test_model_without_a_classifier_says_how_to_make_one(model_folder, tmp_path):
    bare = shutil.copytree(model_folder, tmp_path / "model")
    (bare / "classifier.json").unlink()
    assert open_applied_model(bare).classifier is None
    with pytest.raises(ModelFolderError, match="drlib run --chapters 05"):
        open_applied_model(bare, graded=True)


def test_classifier_of_another_network_is_refused(model_folder, tmp_path):
    other = shutil.copytree(model_folder, tmp_path / "model")
    save_model(other, SegmentationNetwork(PROFILE.network, PROFILE.quantizer, seed=1), PROFILE, {})
    with pytest.raises(ModelFolderError, match="belongs to another network"):
        open_applied_model(other, graded=True)


def test_newest_model_below_results_is_the_default(model_folder, tmp_path):
    with pytest.raises(ModelFolderError, match="no trained model below"):
        open_applied_model(None, results=tmp_path)
    shutil.copytree(model_folder, tmp_path / "smoke-1" / "model")
    assert open_applied_model(None, results=tmp_path).hash == open_applied_model(model_folder).hash


@needs_real_samples
def test_real_samples_give_rows_that_sum_to_slices_times_positions(model_folder):
    table, problems = extract_features(REAL_SAMPLES, open_applied_model(model_folder))
    assert not problems and len(table) >= 3
    assert (table.filter(like="codeword_").sum(axis=1) == table["n_slices"] * table["latent_positions"]).all()
