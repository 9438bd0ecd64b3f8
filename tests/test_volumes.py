"""Volumes for the viewer: where their voxels lie, what their bytes mean, and that nothing in them or beside them runs by itself."""

import gzip
import json
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import nbformat
import nibabel
import numpy as np
import pandas as pd
import pytest
from synthetic_patients import draw_images, draw_labels

from drlib.cohort.loading import to_lps
from drlib.cohort.patient import PatientVolume
from drlib.cohort.preprocessing import Slices, make_slices
from drlib.profiles import load_profile
from drlib.radiomics.histogram import inside_brain
from drlib.series.book import stage_book
from drlib.series.images import images_notice
from drlib.series.report import within_script
from drlib.series.stages import Published
from drlib.series.stages.explorer import choose_published
from drlib.viewer.page import OVERLAYS, StillPicture, VolumeViewer, draw_still, leave_images_out
from drlib.viewer.volumes import RANGE, STEP, as_script, encode_image, find_grid, make_index, make_volumes, slice_affine

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028&\"'"
OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.2, 0.1, -0.15) @ np.diag([2.0, -1.5, 3.0]), [12.0, -40.0, 7.0]
)  # LAS-like, so that reading turns axes around
SIZE = 32


def make_patient(affine=OBLIQUE, shape=(24, 20, 12), spacing_mm=3.0, size=SIZE) -> Slices:
    """A patient as it is read and sliced; not square, so that slices are padded."""
    images, labels = draw_images(0, shape).astype(np.float32), draw_labels(shape)
    labels[labels == 4] = 3
    moved = [to_lps(image, affine)[0] for image in images]
    volume = PatientVolume("p", np.stack(moved), to_lps(labels, affine)[0], to_lps(labels, affine)[1], "HGG", affine, shape)
    settings = load_profile("smoke").preprocessing.model_copy(update={"image_size": size})
    return make_slices(volume, settings, spacing_mm)


@pytest.fixture(scope="module")
def slices() -> Slices:
    return make_patient()


@pytest.fixture(scope="module")
def volumes(slices):
    codes = np.random.default_rng(0).integers(0, 512, (len(slices.images), 4, 4))
    maps = {"HGG": np.random.default_rng(1).random(slices.labels.shape) * 7, "LGG": np.zeros(slices.labels.shape)}
    return make_volumes(slices, HOSTILE, "HGG", 0.7, slices.labels[:, ::-1], codes, maps), codes, maps


def read(content: bytes) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(content))


def test_affine_of_slices_puts_a_voxel_of_the_file_where_it_was(slices):
    """A slice grid of the volume's own voxels: restoring a map to the file's grid and going through the affine is the same place."""
    own = make_patient(size=24, spacing_mm=3.0)
    geometry = own.geometry
    restored = geometry.restore(own.labels)
    to_file = np.linalg.inv(geometry.affine) @ slice_affine(geometry)
    for k, row, column in np.argwhere(own.labels == 3):
        i, j, n = np.rint(to_file @ [column, row, k, 1])[:3].astype(int)
        assert restored[i, j, n] == 3


def test_middle_of_the_slices_is_the_middle_of_the_padded_volume(slices):
    geometry = slices.geometry
    _, lps = to_lps(np.zeros(geometry.file_shape, np.uint8), geometry.affine)
    middle = [(geometry.image_size - 1) / 2, (geometry.image_size - 1) / 2, (geometry.n_slices - 1) / 2, 1]
    due = lps @ [*((np.array(geometry.shape) - 1) / 2), 1]
    np.testing.assert_allclose(slice_affine(geometry) @ middle, due, atol=1e-9)


@pytest.mark.parametrize("finest", [1.0, 2.0, 9.0])
def test_cropped_and_thinned_voxels_lie_where_they_lay(slices, monkeypatch, finest):
    monkeypatch.setattr("drlib.viewer.volumes.FINEST_MM", finest)
    grid, whole = find_grid(slices.images, slices.geometry), slice_affine(slices.geometry)
    positions = np.moveaxis(np.indices(slices.labels.shape), 0, -1)  # of every voxel, as (slice, row, column)
    taken = positions[grid.where].transpose(2, 1, 0, 3)  # (i, j, k, 3)
    assert (np.array(slices.labels.shape[::-1]) > taken.shape[:3]).any()
    for index in ((0, 0, 0), (1, 2, 1), tuple(side - 1 for side in taken.shape[:3])):
        k, row, column = taken[index]
        np.testing.assert_allclose(grid.affine @ [*index, 1], whole @ [column, row, k, 1], atol=1e-9)


def test_a_fine_grid_is_thinned_to_two_millimetres_and_a_coarse_one_is_not():
    fine, coarse = (make_patient(np.diag([-mm, -mm, mm, 1.0]), (24, 24, 12), mm, 24) for mm in (1.0, 2.0))
    assert [axis.step for axis in find_grid(fine.images, fine.geometry).where] == [2, 2, 2]
    assert [axis.step for axis in find_grid(coarse.images, coarse.geometry).where] == [1, 1, 1]


def test_crop_holds_the_whole_brain(slices):
    inside, grid = inside_brain(slices.images), find_grid(slices.images, slices.geometry)
    assert 0 < inside.sum() == grid.take(inside).sum()


def test_bytes_give_scores_back_within_half_a_step(slices, volumes):
    grid, inside = find_grid(slices.images, slices.geometry), None
    inside = grid.take(inside_brain(slices.images))
    for channel, name in enumerate(("t1", "t1ce", "t2", "flair")):
        image = read(volumes[0].files[name])
        assert image.get_data_dtype() == np.uint8
        due = np.clip(grid.take(slices.images[:, channel]).astype(float), *RANGE)
        assert np.abs(image.get_fdata() - due)[inside].max() <= STEP / 2 + 1e-6
        assert (np.asarray(image.dataobj.get_unscaled())[~inside] == 0).all()


def test_scores_beyond_the_range_stop_at_its_ends_and_only_outside_is_zero():
    encoded = encode_image(np.array([-99.0, RANGE[0], 0.0, RANGE[1], 99.0]), np.array([True, True, True, True, False]))
    assert encoded.voxels.tolist() == [1, 1, 86, 255, 0]


def test_labels_and_codes_are_the_very_ones(slices, volumes):
    made, codes, _ = volumes
    grid = find_grid(slices.images, slices.geometry)
    np.testing.assert_array_equal(read(made.files["truth"]).get_fdata(), grid.take(slices.labels))
    np.testing.assert_array_equal(read(made.files["prediction"]).get_fdata(), grid.take(slices.labels[:, ::-1]))
    cell = SIZE // 4
    for (k, row, column), code in np.ndenumerate(codes):
        box = np.zeros(slices.labels.shape, bool)
        box[k, row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = True
        assert set(np.unique(read(made.files["codewords"]).get_fdata()[grid.take(box)])) <= {float(code)}
    assert codes.max() > 255, "codes that one byte does not hold"


def test_responsible_regions_of_both_grades_share_one_scale(slices, volumes):
    made, _, maps = volumes
    grid = find_grid(slices.images, slices.geometry)
    images = {grade: read(made.files[grade]) for grade in maps}
    assert len({image.dataobj.slope for image in images.values()}) == 1
    for grade, image in images.items():
        assert np.abs(image.get_fdata() - grid.take(maps[grade])).max() <= maps["HGG"].max() / 255 / 2 + 1e-6


def test_viewer_opens_in_the_tumour_core_and_in_the_responsible_region(slices, volumes):
    made = volumes[0]
    i, j, k = made.starts["tumour"]
    truth = read(made.files["truth"]).get_fdata()
    assert truth[i, j, k] in (1, 3)
    assert k == np.isin(truth, (1, 3)).sum(axis=(0, 1)).argmax()
    assert "HGG" in made.starts and "LGG" not in made.starts, "a region that is nowhere has no place to open at"


def test_same_patient_gives_the_same_bytes(slices):
    first, second = (make_volumes(slices, "p", responsible={"HGG": np.ones(slices.labels.shape)}) for _ in range(2))
    assert first.files == second.files


def test_patient_without_truth_prediction_and_grade_has_images_alone(slices):
    made = make_volumes(replace(slices, labels=None), "p")
    assert list(made.files) == ["t1", "t1ce", "t2", "flair"]
    assert made.to_entry("p001")["p"] is None and made.starts["tumour"] == tuple(side // 2 for side in made.shape)


class _Elements(HTMLParser):
    """Collects the elements of a page and what stands in its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] == "script":
            self.scripts.append(data)


def test_a_hostile_id_stays_a_string_in_a_script(volumes):
    script = as_script("index", make_index([volumes[0].to_entry("p001")], "label", np.random.default_rng(0).normal(size=(512, 8)), 3))
    assert not {"<", ">", "&", "\u2028"} & set(script)
    content = json.loads(script.partition("] = ")[2].rstrip(";\n"))
    assert content["patients"][0]["id"] == HOSTILE and len(content["codewordColours"]) == 512
    found = _Elements(f"<script>{script}</script>")
    assert [tag for tag, _ in found.elements] == ["script"]


def test_a_hostile_id_stays_an_attribute_in_the_page():
    still = StillPicture(b"png", f"slice of {HOSTILE}")
    page = VolumeViewer(HOSTILE, [still], f"cohort {HOSTILE}")._repr_html_()
    found = _Elements(page)
    assert [tag for tag, _ in found.elements] == ["figure", "div", "img", "p", "figcaption"]
    assert found.elements[0][1]["data-patient"] == HOSTILE and "onerror" not in found.elements[2][1]


def test_scripts_in_a_page_cannot_end_their_element():
    text = within_script("a('</script>', '</SCRIPT x', '<!--', '<script');")
    assert not any(ending in text.lower() for ending in ("</script", "<!--"))
    assert text.count("\\x3C") == 3


@pytest.mark.parametrize("kind", OVERLAYS)
def test_still_picture_shows_each_overlay(kind):
    image, overlay = np.zeros((20, 14), np.float32), np.zeros((20, 14), int)
    overlay[5:9, 4:8] = 2
    colours = np.array([(0, 0, 0), (1, 0, 0), (0, 0, 1)], float)
    bare, drawn = draw_still(image), draw_still(image, overlay, kind, colours)
    assert drawn[8:12] == b"WEBP" and (drawn == bare) is (kind == "none")


def test_pictures_can_be_left_out_of_a_page():
    page = VolumeViewer("p", [StillPicture(b"secret", "a")] * 2, "cohort x", compare="truth")._repr_html_()
    bare = leave_images_out(f"<div>{page}</div><img src='other'>{page}")
    assert "base64" not in bare and bare.count("left out of the page on purpose") == 2
    assert bare.count('data-left-out="true"') == 2 and "data-patient" not in bare and "<img src='other'>" in bare


def test_published_patients_are_the_middle_ones_and_then_the_worst_and_best_graded():
    names = [f"{grade}{number}" for grade in ("HGG", "LGG") for number in range(5)]
    grades = pd.Series([name[:3] for name in names], index=names)
    probability = pd.Series([0.1, 0.5, 0.9, 0.6, 0.7, 0.9, 0.5, 0.1, 0.4, 0.3], index=names)
    table = pd.DataFrame({"grade": grades, "WT": range(10)})
    cohort, grading = SimpleNamespace(volumes=table), SimpleNamespace(grades=grades, probability=probability)
    assert choose_published(cohort, grading, 6) == ["HGG2", "LGG2", "HGG0", "LGG0", "HGG1", "LGG1"]
    assert sorted(choose_published(cohort, grading, 99)) == sorted(names)


def project(root, is_phantom: bool):
    """A staged project with one executed chapter that shows a viewer, and one published patient."""
    for folder in ("book", "notebooks", "results/explorer/p001"):
        (root / folder).mkdir(parents=True)
    for file in ("_toc.yml", "_config.yml"):
        (root / file).write_text("title: x\n")
    (root / "results/explorer/p001/flair.nii.gz").write_bytes(b"voxels")
    page = VolumeViewer("p", [StillPicture(b"picture", "a")], "x")._repr_html_()
    output = nbformat.v4.new_output("display_data", data={"text/html": page})
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])]), root / "notebooks/01_x.ipynb")
    run = SimpleNamespace(is_phantom=is_phantom, folder=root / "results", cohort_name="clinic")
    executed = root / "notebooks/01_x.ipynb"
    return SimpleNamespace(root=root, run=run, profile="smoke", chapters=["01_x"], executed=lambda name: executed)


@pytest.mark.parametrize(
    ("is_phantom", "asked", "there"),
    [(True, False, True), (False, False, False), (False, True, True)],
    ids=["phantom", "own", "own, asked"],
)
def test_images_of_a_users_cohort_enter_the_site_only_where_asked_for(tmp_path, monkeypatch, is_phantom, asked, there):
    series = project(tmp_path, is_phantom)
    published = Published({"patients": [{"id": "p", "folder": "p001", "bytes": {"flair": 6}}]}, tmp_path / "results/explorer")
    monkeypatch.setattr("drlib.series.images.open_published", lambda run: published)
    for name in ("_write_config", "status_page", "_write_front"):
        monkeypatch.setattr(f"drlib.series.book.{name}", lambda *given: "")
    monkeypatch.setattr("drlib.series.staging.tidy_notebook", lambda notebook, series: notebook)
    site = stage_book(series, asked)
    assert (site / "book/_static/viewer.js").is_file() and (site / "book/_static/vendor/niivue/niivue.umd.js").is_file()
    assert [path.name for path in sorted((site / "book/_static").rglob("patients/**/*.js"))] == (["index.js", "flair.js"] if there else [])
    assert ("base64" in (site / "notebooks/01_x.ipynb").read_text()) is there
    assert ("clinic ARE PART" in images_notice(series, asked)) is (not is_phantom and asked)
