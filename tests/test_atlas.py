"""The codebook atlas: what is counted under a codeword, what is drawn of it, and cards that hold nothing but text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from small_radiomics import MemoryStore, draw_counts, draw_labels, draw_slices, small_model, small_store

from drlib.figures.atlas import plot_atlas
from drlib.figures.sprites import draw_maps, draw_patches
from drlib.radiomics.ablation import token_change
from drlib.radiomics.atlas import (
    MAP_MARGIN,
    TISSUES,
    Atlas,
    AtlasError,
    ablate_tokens,
    assemble_atlas,
    cell_and_ring,
    choose_tokens,
    count_tissue,
    cut_patches,
    describe_tissue,
    mean_counts,
    mean_window,
    near_tumour,
    resample_coefficients,
    survey_patient,
    survey_tokens,
)
from drlib.radiomics.classifier import fit_classifier
from drlib.series.images import place_images, stage_images
from drlib.series.workflow import Series
from drlib.viewer import codebook_atlas
from drlib.viewer.atlas import leave_patches_out


def test_pixels_under_a_codeword_are_outside_brain_or_tumour():
    codes = np.array([[[0, 1]]])  # one slice, 1 x 2 cells of 2 x 2 pixels
    inside = np.array([[[False, True, True, True], [False, True, True, False]]])
    labels = np.array([[[0, 0, 1, 3], [0, 0, 2, 3]]], dtype=np.uint8)  # the last pixel: tumour that no modality shows
    assert count_tissue(codes, labels, inside, 3).tolist() == [[2, 2, 0, 0, 0], [0, 0, 1, 1, 2], [0] * 5]


def test_shares_of_tissue_sum_to_one_and_an_absent_codeword_has_none():
    described = describe_tissue(np.array([[2, 2, 0, 0, 0], [0, 0, 1, 1, 2], [0] * 5]))
    shares = described[[f"share_{name}" for name in TISSUES]]
    assert shares.iloc[:2].sum(axis=1).tolist() == pytest.approx([1, 1]) and shares.iloc[2].isna().all()
    assert described.loc[1, "tissue"] == "ET" and described.loc[1, "share_ET"] == 0.5


def test_a_cell_is_at_a_tumour_in_itself_and_in_the_eight_around():
    labels = np.zeros((1, 20, 20), dtype=np.uint8)
    labels[0, 9, 9] = 2  # in cell (2, 2) of cells of 4 pixels
    near = near_tumour(labels, 4)[0]
    assert near.sum() == 9 and near[1:4, 1:4].all()


def test_survey_counts_every_pixel_and_every_token_in_the_brain_once():
    model, store = small_model(), small_store()
    tokens = survey_patient("P00", model, store)
    images = store.images("P00")
    assert tokens.tissue.sum() == images[:, 0].size and (tokens.tissue.sum(axis=1) % model.profile.stride**2 == 0).all()
    assert tokens.tissue[:, 2:].sum(axis=0).tolist() == [(draw_labels() == k).sum() for k in (1, 2, 3)]
    inner = tokens.codes[1:-1]  # the first and the last slice are blank
    assert tokens.plane.sum(axis=(1, 2)).tolist() == np.bincount(inner.ravel(), minlength=16).tolist()
    assert tokens.height.sum(axis=1).tolist() == tokens.plane.sum(axis=(1, 2)).tolist()
    assert tokens.labels == "truth" and survey_patient("P03", model, store).labels == "prediction"


def test_nearest_token_of_a_codeword_has_the_latent_of_least_distance():
    model, store = small_model(), small_store()
    tokens = survey_patient("P01", model, store)
    with torch.inference_mode():
        latents = model.network.encode(torch.from_numpy(store.images("P01")).float())
    gap = (latents - model.network.quantizer.lookup(torch.from_numpy(tokens.codes.astype(np.int64)))).square().sum(dim=1).numpy()
    for codeword in np.unique(tokens.codes[1:-1]):
        where = tuple(tokens.nearest[codeword])
        assert tokens.codes[where] == codeword
        assert gap[where] == pytest.approx(gap[1:-1][tokens.codes[1:-1] == codeword].min(), rel=1e-4)
    absent = np.setdiff1d(np.arange(16), tokens.codes[1:-1])
    assert (tokens.nearest[absent] == -1).all()


def test_tokens_looked_at_are_of_different_patients_and_determined_by_the_seed():
    survey = survey_tokens(small_model(), small_store(), ["P00", "P01", "P02", "P03"])
    chosen = choose_tokens(survey, 3, np.random.default_rng(1))
    assert not chosen.duplicated(["codeword", "patient"]).any() and chosen.groupby("codeword").size().max() == 3
    pd.testing.assert_frame_equal(chosen, choose_tokens(survey, 3, np.random.default_rng(1)))


def test_patches_have_the_cell_in_the_middle_and_the_corner_beyond_the_slice():
    images = draw_slices(3)
    images[2, 1, 0, 0] = -4  # T1ce
    store = MemoryStore({"P": images}, {"P": None}, {"P": "LGG"})
    tokens = pd.DataFrame({"codeword": [5], "patient": ["P"], "slice": [2], "row": [0], "column": [3]})
    patch = cut_patches(store, tokens, 8)[0]
    assert patch.shape == (2, 40, 40)
    assert np.array_equal(patch[0, 16:24, 16:24], images[2, 1, :8, 24:]) and np.array_equal(patch[1, 16:24, 16:24], images[2, 3, :8, 24:])
    assert (patch[0, :16] == -4).all() and (patch[0, :, 24:] == -4).all()


def test_ablation_of_one_token_is_the_same_as_alone_and_nothing_for_the_background():
    model, store = small_model(), small_store()
    tokens = survey_patient("P00", model, store)
    codes, side = tokens.codes[1:4], model.profile.stride
    cells = np.array([[0, 0], [1, 2], [3, 3]])
    background = int(codes[1, 1, 2])
    windows = ablate_tokens(model, codes, cells, background, batch_size=3)
    for number, (row, column) in enumerate(cells):
        alone = token_change(model, torch.from_numpy(codes[number].astype(np.int64)), (row, column), background)
        wide = np.pad(alone, MAP_MARGIN * side, constant_values=np.nan)
        due = wide[row * side : (row + 2 * MAP_MARGIN + 1) * side, column * side : (column + 2 * MAP_MARGIN + 1) * side]
        np.testing.assert_allclose(windows[number], due, atol=1e-4)
    assert np.nansum(windows[1]) == 0 and np.nansum(windows[[0, 2]]) > 0
    assert np.isnan(windows[0, :8]).all()  # above the slice


def test_mean_of_windows_leaves_out_what_lies_beyond_the_slice_and_is_zero_for_none():
    windows = np.array([[[1.0, np.nan]], [[3.0, 5.0]]])
    assert mean_window(windows).tolist() == [[2.0, 5.0]]
    assert mean_window(windows[:0]).tolist() == [[0.0, 0.0]]


def test_cell_and_ring_are_told_apart():
    window = np.zeros((14, 14))  # 7 x 7 cells of 2 pixels
    window[6:8, 6:8] = 8
    window[4:6, 4:6] = 4
    assert cell_and_ring(window) == pytest.approx((8, 0.5))


def test_mean_counts_lie_in_their_intervals_and_are_the_means():
    counts, grades = draw_counts(planted={3: 3.0})
    found = mean_counts(counts, grades)
    for grade in ("LGG", "HGG"):
        due = counts[(grades == grade).to_numpy()].mean()
        assert found[f"mean_{grade}"].tolist() == pytest.approx(due.tolist())
        assert ((found[f"mean_{grade}_low"] <= due) & (due <= found[f"mean_{grade}_high"])).all()
    assert found.loc[3, "mean_HGG_low"] > found.loc[3, "mean_LGG_high"]


def test_interval_of_a_planted_codeword_holds_its_coefficient_and_leaves_out_zero():
    counts, grades = draw_counts(planted={3: 3.0, 7: 0.3})
    fitted = fit_classifier(counts, grades)
    found = resample_coefficients(counts, grades, fitted, resamples=60)
    scale = np.log1p(counts).std(ddof=0)
    assert found["coefficient"].tolist() == pytest.approx((np.array(fitted.coefficients) * scale).tolist())
    for codeword in (3, 7):
        row = found.loc[codeword]
        assert row["coefficient_low"] < row["coefficient"] < row["coefficient_high"]
    assert found.loc[3, "coefficient_low"] > 0 > found.loc[7, "coefficient_high"]
    pd.testing.assert_frame_equal(found, resample_coefficients(counts, grades, fitted, resamples=60))
    with pytest.raises(AtlasError, match="features"):
        resample_coefficients(counts, grades, fit_classifier(counts[[3, 7]], grades, "features"))


def test_pictures_are_png_of_one_size_and_the_same_every_time():
    random = np.random.default_rng(0)
    patches, plane, ablation = random.normal(size=(3, 2, 40, 40)), random.integers(0, 9, (4, 4)), random.random((56, 56))
    height, head = random.integers(0, 9, 10), np.pad(np.ones((16, 16)), 8)
    first, second = (draw_patches(some.astype(np.float32), 5) for some in (patches, patches[:1]))
    assert first == draw_patches(patches.astype(np.float32), 5) and first != second
    assert first[:8] == b"\x89PNG\r\n\x1a\n" and first[16:24] == second[16:24]  # width and height
    assert draw_maps(plane, height, ablation, head, 7) == draw_maps(plane, height, ablation, head, 7)
    assert draw_maps(plane, height, None, head, 7) != draw_maps(plane, height, ablation, head, 7)


def small_atlas(folder: Path = Path("atlas")) -> Atlas:
    """Return an atlas of the codewords of a small network, with numbers that were drawn."""
    model, store, random = small_model(), small_store(), np.random.default_rng(0)
    numbers = pd.DataFrame(random.random((16, 4)), columns=["mean_LGG", "mean_HGG", "auc", "coefficient"])
    for name in list(numbers):
        numbers = numbers.assign(**{f"{name}_low": numbers[name] - 0.1, f"{name}_high": numbers[name] + 0.1})
    numbers = numbers.assign(q=0.5, direction="HGG", responsible=False, selected_share=0.2)
    survey = survey_tokens(model, store, store.patients)
    background = int(np.bincount(survey[0].codes.ravel()).argmax())
    parts = assemble_atlas(model, store, survey, numbers, background, most=2)
    assert set(parts.patches_of) <= set(parts.table.index) and len(parts.ablation) == len(parts.table) == len(parts.plane)
    assert parts.table.loc[background, "n_ablated"] == 0 and parts.table["n_ablated"].max() == 2
    table = parts.table
    table.loc[table.index[2], ["responsible", "auc"]] = True, 0.9
    return Atlas(table, {"n_patches": 2, "n_patients": 4}, folder)


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return small_atlas()


def test_atlas_holds_the_codewords_in_use_and_refuses_others(atlas, tmp_path):
    assert (atlas.table["tokens"] > 0).all() and atlas.table["tokens"].sum() == 4 * 6 * 16
    with pytest.raises(AtlasError, match="99 is not in use"):
        atlas.patches(99)


class Cards(HTMLParser):
    """The tags of a page, the ids, the attributes of articles and images."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.ids, self.articles, self.images = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.articles += [attributes] if tag == "article" else []
        self.images += [attributes] if tag == "img" else []


def test_cards_come_responsible_first_with_ids_alt_texts_and_lazy_pictures(atlas):
    cards = Cards(codebook_atlas(atlas).data)
    assert len(cards.articles) == len(atlas.table) and len(set(cards.ids)) == len(cards.ids)
    assert cards.articles[0]["id"] == f"codeword-{atlas.table.index[2]:03d}" and cards.articles[0]["data-only"] == "responsible"
    assert all(image["alt"] and image["loading"] == "lazy" for image in cards.images) and len(cards.images) == 2 * len(cards.articles)


def test_page_without_patches_says_so_and_keeps_the_rest(atlas):
    text = codebook_atlas(atlas).data
    left = leave_patches_out(text)
    assert "patches/" in text and "patches/" not in left and "left out" in left
    assert left.count("maps/") == text.count("maps/") and Cards(left).ids == Cards(text).ids
    assert leave_patches_out("<p>another page</p>") == "<p>another page</p>"


def test_hostile_words_in_the_table_stay_text(atlas):
    hostile = '"><script>alert(1)</script>'
    table = atlas.table.assign(tissue=hostile, direction=hostile, responsible=True)
    cards = Cards(codebook_atlas(Atlas(table, atlas.facts, Path(f"a{hostile}"))).data)
    assert "script" not in cards.tags and cards.articles[0]["data-tissue"] == hostile


def test_overview_says_in_its_caption_how_many_codewords_lie_on_tumour(atlas):
    tumour = atlas.table["tissue"].isin(["NET", "ED", "ET"]).sum()
    assert plot_atlas(atlas.table, 4).words.finding.startswith(f"{tumour} of {len(atlas.table)} codewords")


def test_site_has_its_own_copies_of_the_pictures(tmp_path):
    html = '<img src="results/demo-1/atlas/maps/codeword-001.png"><a href="results/demo-1/atlas/maps/">as it is</a>'
    output = nbformat.v4.new_output("display_data", {"text/html": html})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output])])
    tidied = place_images(notebook, Series(tmp_path, "smoke"), False).cells[0].outputs[0]["data"]["text/html"]
    assert re.findall(r'(?:src|href)="(.*?)"', tidied) == ["../_static/atlas/maps/codeword-001.png", "results/demo-1/atlas/maps/"]


@pytest.mark.parametrize("is_phantom", [True, False])
def test_patches_of_patients_who_are_no_phantoms_are_not_published(tmp_path, is_phantom):
    atlas = tmp_path / "run" / "atlas"
    for name in ("maps/codeword-001.png", "patches/codeword-001.png", "codewords.csv", "tokens.csv"):
        (atlas / name).parent.mkdir(parents=True, exist_ok=True)
        (atlas / name).write_text(name)
    (atlas / "manifest.json").write_text(json.dumps({}))
    series = SimpleNamespace(run=SimpleNamespace(folder=tmp_path / "run", is_phantom=is_phantom))
    stage_images(series, tmp_path / "site", publish_images=False)
    published = {str(path.relative_to(tmp_path / "site" / "atlas")) for path in (tmp_path / "site").rglob("*.*")}
    due = {"maps/codeword-001.png", "codewords.csv"} | ({"patches/codeword-001.png"} if is_phantom else set())
    assert published == due
