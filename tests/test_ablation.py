import numpy as np
import pandas as pd
import pytest
import torch
from small_radiomics import draw_labels, small_model, small_store

from drlib.radiomics import ablation
from drlib.radiomics.ablation import (
    AblationError,
    ablate_cohort,
    change_maps,
    decode_codes,
    each_change,
    predict_labels,
    region_values,
    responsible_regions,
    share_outside,
    shared_normalisation,
    token_change,
)

BACKGROUND = 0


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def codes():
    """Index maps of five slices; codeword 7 is in slices 1 and 3, codeword 9 in slice 3, codeword 12 nowhere."""
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (5, 4, 4)))
    codes[1, 0, 1] = codes[3, 2, 2] = codes[3, 2, 3] = 7
    codes[3, 1, 1] = 9
    return codes


def test_ablating_an_absent_codeword_or_none_changes_nothing(model, codes):
    assert not change_maps(model, codes, [12], BACKGROUND).any()
    assert not change_maps(model, codes, [], BACKGROUND).any()


def test_only_slices_with_the_codeword_change_and_by_what_decoding_says(model, codes):
    maps = change_maps(model, codes, [7, 9], BACKGROUND, batch_size=1)
    assert [bool(slice_map.any()) for slice_map in maps] == [False, True, False, True, False]
    ablated = codes.clone()
    ablated[torch.isin(codes, torch.tensor([7, 9]))] = BACKGROUND
    due = (decode_codes(model, codes) - decode_codes(model, ablated)).abs().sum(1).numpy()
    assert maps == pytest.approx(due, abs=1e-4) and maps.shape == (5, 32, 32)


def test_codewords_ablated_together_are_not_those_ablated_one_by_one(model, codes):
    together = change_maps(model, codes, [7, 9], BACKGROUND)
    one_by_one = sum(change_maps(model, codes, [k], BACKGROUND) for k in (7, 9))
    assert together[1] == pytest.approx(one_by_one[1], abs=1e-4)  # slice 1 holds one of them only
    assert not np.allclose(together[3], one_by_one[3], atol=1e-3)


def test_responsible_regions_start_from_images(model):
    images = small_store().images("P00")
    codes = model.encode_to_codes(images)
    chosen = [int(codes[2].max())]
    assert (responsible_regions(model, images, chosen, BACKGROUND) == change_maps(model, codes, chosen, BACKGROUND)).all()


@pytest.mark.parametrize("wrong", [[BACKGROUND], [16], [-1]])
def test_the_background_itself_and_unknown_codewords_are_refused(model, codes, wrong):
    with pytest.raises(AblationError):
        change_maps(model, codes, wrong, BACKGROUND)


def test_region_values_are_mean_and_sum_over_the_labels():
    maps, labels = np.zeros((1, 2, 3)), np.array([[[0, 1, 1], [2, 2, 2]]], dtype=np.uint8)
    maps[0] = [[9, 1, 2], [3, 3, 6]]
    table = region_values(maps, labels).set_index("region")
    assert table.loc["NET"].tolist() == [1.5, 3.0, 2] and table.loc["ED"].tolist() == [4.0, 12.0, 3]
    assert table.loc["ET", ["mean", "sum"]].isna().all() and table.loc["ET", "n_voxels"] == 0


def test_the_share_outside_is_what_lies_not_in_the_tokens_cell():
    maps, replaced = np.zeros((1, 4, 4)), torch.zeros(1, 2, 2, dtype=torch.bool)
    replaced[0, 0, 1] = True
    maps[0, :2, 2:] = 3.0  # its own cell: 12
    maps[0, 3, 0] = 4.0
    assert share_outside(maps, replaced) == pytest.approx(4 / 16)
    assert np.isnan(share_outside(0 * maps, replaced))


def test_the_cohort_table_is_tidy_and_falls_back_to_the_prediction(model):
    store = small_store()
    codes = model.encode_to_codes(store.images("P00"))
    chosen = int(codes[2].max())
    table = ablate_cohort(model, store, {"HGG": [chosen], "LGG": []}, BACKGROUND)
    assert len(table) == 4 * 3 and set(table["responsible_for"]) == {"HGG"} and table["grade"].tolist()[::3] == ["LGG", "HGG"] * 2
    assert table.groupby("patient")["labels"].first().tolist() == ["truth", "truth", "truth", "prediction"]
    maps = change_maps(model, codes, [chosen], BACKGROUND)
    net = table.query("patient == 'P00' and region == 'NET'").iloc[0]
    assert net["sum"] == pytest.approx(maps[draw_labels() == 1].sum(), rel=1e-5) and net["n_voxels"] == 16
    assert net["n_tokens"] == int((codes[2:4] == chosen).sum())  # the slices with tumour
    assert net["share_outside"] == pytest.approx(share_outside(maps[2:4], codes[2:4] == chosen), rel=1e-5)
    assert table.query("patient == 'P00' and region == 'ET'")["mean"].isna().all()


def test_both_grades_at_once_are_each_grade_alone(model):
    store = small_store(2)
    codes = model.encode_to_codes(store.images("P00"))
    high, low = int(codes[2].max()), int(codes[2][codes[2] != codes[2].max()].max())
    both = ablate_cohort(model, store, {"HGG": [high], "LGG": [low]}, BACKGROUND)
    alone = ablate_cohort(model, store, {"HGG": [high]}, BACKGROUND)
    pd.testing.assert_frame_equal(both[both["responsible_for"] == "HGG"].reset_index(drop=True), alone)


def test_a_patient_without_tumour_has_no_values(model):
    store = small_store(1)
    store._labels["P00"] = np.zeros((6, 32, 32), dtype=np.uint8)
    table = ablate_cohort(model, store, {"LGG": [5]}, BACKGROUND)
    assert len(table) == 3 and table[["mean", "sum", "share_outside"]].isna().all(axis=None) and (table["n_voxels"] == 0).all()


def test_no_responsible_codewords_give_an_empty_table_with_its_columns(model):
    table = ablate_cohort(model, small_store(), {"HGG": [], "LGG": []}, BACKGROUND)
    assert len(table) == 0 and "share_outside" in table


def test_predicted_labels_are_the_most_probable_ones(model, codes):
    assert (predict_labels(model, codes, batch_size=2) == decode_codes(model, codes).argmax(1).numpy()).all()


def test_normalisation_carries_the_change_of_one_token_to_every_pixel_and_frozen_it_stays_near(model):
    code_map = torch.from_numpy(np.random.default_rng(1).integers(1, 16, (24, 24)))
    live, frozen = (token_change(model, code_map, (2, 3), BACKGROUND, frozen_normalisation=f) for f in (False, True))
    far = np.s_[16 * 8 :, 16 * 8 :]  # beyond the reach of the decoder's convolutions
    assert live[far].min() > 0 and not frozen[far].any() and frozen[16:24, 24:32].all()
    one = torch.zeros(1, 24, 24, dtype=torch.bool)
    one[0, 2, 3] = True
    assert share_outside(frozen[None], one) < share_outside(live[None], one)


def test_the_change_of_one_token_is_that_of_decoding_twice(model, codes):
    ablated = codes[3].clone()
    ablated[2, 2] = BACKGROUND
    due = (decode_codes(model, codes[3:4]) - decode_codes(model, ablated[None])).abs().sum(1)[0].numpy()
    assert token_change(model, codes[3], (2, 2), BACKGROUND) == pytest.approx(due, abs=1e-4)


def test_shared_normalisation_leaves_the_first_slice_as_it_was_and_ends_with_its_block(model, codes):
    due = decode_codes(model, codes)
    with shared_normalisation(model):
        inside = decode_codes(model, codes)
    assert inside[0] == pytest.approx(due[0], abs=1e-4) and not torch.allclose(inside[1:], due[1:], atol=1e-2)
    assert torch.equal(decode_codes(model, codes), due)


def test_each_change_is_the_joint_change_and_that_of_every_codeword_alone(model, codes):
    present = [k for k in torch.unique(codes).tolist() if k != 0][:3]
    joint, *alone = each_change(model, codes, present, 0, batch_size=4)
    np.testing.assert_allclose(joint, change_maps(model, codes, present, 0), rtol=1e-4, atol=1e-5)
    for k, one in zip(present, alone, strict=True):
        np.testing.assert_allclose(one, change_maps(model, codes, [k], 0), rtol=1e-4, atol=1e-5)


def test_equal_index_maps_are_decoded_once(model, codes, monkeypatch):
    k = 7
    twice, decoded = torch.cat([codes, codes, torch.zeros_like(codes)]), []
    monkeypatch.setattr(ablation, "decode_codes", lambda model, some: decoded.append(len(some)) or decode_codes(model, some))
    maps = change_maps(model, twice, [k], 0, batch_size=100)
    n_changed = len(torch.unique(codes[(codes == k).flatten(1).any(1)], dim=0))
    assert n_changed <= sum(decoded) <= 2 * n_changed
    np.testing.assert_array_equal(maps[: len(codes)], maps[len(codes) : 2 * len(codes)])
    assert not maps[2 * len(codes) :].any()
