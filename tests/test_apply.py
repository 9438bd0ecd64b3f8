"""A trained model applied to patients: features, grading, maps, report (drlib.series.apply, report, and the commands)."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from synthetic_patients import REAL_SAMPLES, draw_images, needs_real_samples, write_patient

from drlib.artifacts import write_json
from drlib.cohort.brats import find_patients, load_patient
from drlib.cohort.nifti import read_nifti
from drlib.cohort.preprocessing import make_slices
from drlib.figures.segmentation import codeword_colours
from drlib.figures.style import REGION_COLOURS
from drlib.profiles import load_profile
from drlib.radiomics.classifier import fit_classifier, save_classifier
from drlib.radiomics.histogram import codebook_hash
from drlib.segmentation.model import TrainedModel, save_model
from drlib.segmentation.network import SegmentationNetwork
from drlib.series.apply import ModelFolderError, examine, extract_features, folder_name, grade_patients, open_applied_model, write_table
from drlib.series.maps import how_to_open, read_place
from drlib.series.report import absent_grades, slices_shown, write_report

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


MAPS = ("segmentation", "codewords", "responsible_LGG", "responsible_HGG")


def read_labels(path: Path) -> dict[int, tuple]:
    """Return value -> red, green, blue, opacity, visible, surface, name of a label description of ITK-SNAP."""
    line = re.compile(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"([^"]+)"')
    found = [line.fullmatch(text).groups() for text in path.read_text().splitlines() if not text.startswith("#")]
    return {int(value): (int(r), int(g), int(b), float(a), int(v), int(m), name) for value, r, g, b, a, v, m, name in found}


def read_colours(path: Path) -> dict[int, tuple]:
    """Return value -> name, red, green, blue, opacity of a colour table of 3D Slicer."""
    first, count, *lines = path.read_text().splitlines()
    assert first.startswith("# Color table file")
    rows = {int(value): (name, *map(int, rgba)) for value, name, *rgba in map(str.split, lines)}
    assert count == f"# {max(rows) + 1} values" and all(len(row) == 5 and max(row[1:]) <= 255 for row in rows.values())
    return rows


@pytest.fixture(scope="module")
def graded(model_folder, tmp_path_factory) -> Path:
    """The results of one patient whose oblique T1ce has an sform that is aligned and a qform of the scanner that differs a little."""
    root = tmp_path_factory.mktemp("graded")
    turn = np.array([[0.0, -2, 0.1, 7], [-1.5, 0, 0, 99], [0, 0.15, 3, -4], [0, 0, 0, 1]])
    write_patient(root / "patient", "someone", affine=turn)
    for path in (root / "patient").glob("*.nii.gz"):
        image = nibabel.load(path)
        image = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
        image.set_qform(turn + np.array([[0, 0, 0, 0.5], [0] * 4, [0] * 4, [0] * 4]), code=1)
        image.set_sform(turn, code=2)
        image.header["descrip"], image.header["aux_file"], image.header["db_name"] = b"Jane Doe", b"1958-03-01", b"ward 7"
        nibabel.save(image, path)
    grade_patients(root / "patient", open_applied_model(model_folder, graded=True), root / "out")
    return root


def test_maps_lie_where_any_viewer_puts_the_patients_own_image(graded):
    truth = nibabel.load(graded / "patient" / "someone_t1ce.nii.gz")
    for name in MAPS:
        image = nibabel.load(graded / "out" / f"{name}.nii.gz")
        assert image.shape == truth.shape and image.header.get_xyzt_units()[0] == "mm"
        for ours, theirs in (
            (image.get_sform(coded=True), truth.get_sform(coded=True)),
            (image.get_qform(coded=True), truth.get_qform(coded=True)),
        ):
            np.testing.assert_array_equal(ours[0], theirs[0])
            assert ours[1] == theirs[1]


def test_maps_say_what_they_are_and_nothing_of_the_patients_header(graded):
    headers = {name: nibabel.load(graded / "out" / f"{name}.nii.gz").header for name in MAPS}
    assert [header.get_intent()[::2] for header in headers.values()] == [
        ("label", "segmentation"),
        ("label", "codewords"),
        ("estimate", "LGG-responsible"),
        ("estimate", "HGG-responsible"),
    ]
    for name in ("segmentation", "codewords"):
        assert (graded / "out" / headers[name]["aux_file"].item().decode()).is_file()
    window = {
        (float(headers[f"responsible_{grade}"]["cal_min"]), float(headers[f"responsible_{grade}"]["cal_max"])) for grade in ("LGG", "HGG")
    }
    largest = read_nifti(graded / "out" / "responsible_HGG.nii.gz").voxels.max()
    assert len(window) == 1 and 0 < max(window)[1] <= largest * 1.5
    for header in headers.values():
        assert not any(text in header.binaryblock for text in (b"Jane", b"1958", b"ward"))


def test_labels_have_the_colours_of_the_book_in_itk_snap_and_in_slicer(graded, model_folder):
    out = graded / "out"
    snap, slicer = read_labels(out / "segmentation_labels.txt"), read_colours(out / "segmentation_colours.ctbl")
    assert set(snap) == set(slicer) == {0, 1, 2, 4}
    assert snap[0][:6] == (0, 0, 0, 0, 0, 0) and slicer[0][1:] == (0, 0, 0, 0)
    for value, region in ((1, "NET"), (2, "ED"), (4, "ET")):
        colour = tuple(bytes.fromhex(REGION_COLOURS[region][1:]))
        assert snap[value][:6] == (*colour, 1, 1, 1) and snap[value][6].startswith(region)
        assert slicer[value][1:] == (*colour, 255) and slicer[value][0].startswith(region)
    snap, slicer = read_labels(out / "codewords_labels.txt"), read_colours(out / "codewords_colours.ctbl")
    codebook = open_applied_model(model_folder).model.network.quantizer.codebook.detach().numpy()
    colours = np.rint(255 * codeword_colours(codebook, 0)).astype(int)
    assert set(snap) == set(slicer) == set(range(K))
    assert all(snap[k][:3] == slicer[k][1:4] == tuple(colours[k]) and snap[k][6] == f"codeword {k}" for k in range(1, K))
    assert slicer[0] == ("codeword_0_(background)", *colours[0], 0)


def test_every_value_of_a_label_map_has_a_label(graded):
    for name in ("segmentation", "codewords"):
        values = np.unique(read_nifti(graded / "out" / f"{name}.nii.gz").voxels)
        assert set(values.tolist()) <= set(read_labels(graded / "out" / f"{name}_labels.txt"))


def test_readme_names_files_that_are_there_and_the_patients_image(graded):
    text = (graded / "out" / "README.txt").read_text()
    assert text.startswith("Research only") and "itksnap -g someone_t1ce.nii.gz -s segmentation.nii.gz -l segmentation_labels.txt" in text
    named = set(re.findall(r"[\w.]+\.(?:nii\.gz|txt|ctbl|json|html)", text)) - {"someone_t1ce.nii.gz", "_labels.txt", "_colours.ctbl"}
    assert len(named) >= 8 and all((graded / "out" / name).is_file() for name in named)
    assert "\n" not in how_to_open("$(rm -r x)\nitksnap.nii.gz", 1, "").split("itksnap -g '")[1].split("'")[0]


@pytest.mark.parametrize(("order", "packed"), [("<", True), (">", True), (">", False)])
def test_place_is_read_whatever_the_byte_order_the_packing_and_the_version(tmp_path, order, packed):
    for number, kind in enumerate((nibabel.Nifti1Image, nibabel.Nifti2Image)):
        header = kind.header_class(endianness=order)
        affine = np.array([[-1.0, 0, 0, 3], [0, 2, 0, 5], [0, 0, -2.5, 7], [0, 0, 0, 1]])
        path = tmp_path / f"image{number}.nii{'.gz' if packed else ''}"
        nibabel.save(kind(np.zeros((2, 3, 4), np.int16), affine, header), path)
        place, truth = read_place(path), nibabel.load(path).header
        np.testing.assert_array_equal(place.get_best_affine(), truth.get_best_affine())
        assert place.get_data_shape() == (2, 3, 4) and place.endianness == "<"


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


def test_report_shows_where_responsible_codewords_act_and_says_where_none_occurs(model_folder, tmp_path):
    write_patient(tmp_path / "data", "someone")
    applied = open_applied_model(model_folder, graded=True)
    patient = find_patients(tmp_path / "data")[0]
    found = examine(patient, make_slices(load_patient(patient), PROFILE.preprocessing, PROFILE.cohort.spacing_mm), applied)
    change = np.zeros(found.prediction.shape, np.float32)
    change[1, 4:6, 4:6] = 1.0
    found = replace(found, responsible={"LGG": np.zeros_like(change), "HGG": change}, n_responsible={"LGG": 1, "HGG": 2})
    assert 1 in slices_shown(found) and absent_grades(found) == ["LGG"]
    page = write_report(found, applied.provenance, tmp_path / "report.html").read_text()
    assert "No LGG-responsible codeword (1 there are) occurs in this patient" in page and "No HGG-responsible codeword" not in page


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
def test_maps_of_real_samples_lie_where_the_samples_lie(model_folder, tmp_path):
    grade_patients(REAL_SAMPLES, open_applied_model(model_folder, graded=True), tmp_path)
    for folder in tmp_path.iterdir():
        source = next(path for path in REAL_SAMPLES.rglob("*") if path.name.lower().startswith(folder.name.lower()) and "t1c" in path.name)
        truth = nibabel.load(source)
        for name in MAPS:
            image = nibabel.load(folder / f"{name}.nii.gz")
            assert image.shape == truth.shape and image.get_qform(coded=True)[1] == truth.get_qform(coded=True)[1]
            np.testing.assert_array_equal(image.affine, truth.affine)
            np.testing.assert_array_equal(image.get_qform(), truth.get_qform())


@needs_real_samples
def test_real_samples_give_rows_that_sum_to_slices_times_positions(model_folder):
    table, problems = extract_features(REAL_SAMPLES, open_applied_model(model_folder))
    assert not problems and len(table) >= 3
    assert (table.filter(like="codeword_").sum(axis=1) == table["n_slices"] * table["latent_positions"]).all()
