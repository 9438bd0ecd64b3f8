import numpy as np
import pandas as pd
import pytest
import torch
from small_radiomics import draw_labels, small_model, small_store

from drlib.profiles import load_profile
from drlib.radiomics import ablation
from drlib.radiomics.ablation import (
    AblationError,
    ablate_cohort,
    ablate_sets,
    change_maps,
    decode_codes,
    decoder_reach,
    each_change,
    encode_tumours,
    predict_labels,
    region_values,
    responsible_regions,
    share_outside,
    shared_normalisation,
    token_change,
)
from drlib.radiomics.ablation_captum import captum_change
from drlib.segmentation.network import SegmentationNetwork

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


def test_beyond_the_reach_of_the_kernels_a_frozen_change_is_exactly_zero_and_at_its_edge_it_is_not(model):
    reach, side = decoder_reach(model.network.decoder), model.profile.stride
    code_map = torch.from_numpy(np.random.default_rng(1).integers(1, 16, (32, 32)))
    live, frozen = (token_change(model, code_map, (15, 15), BACKGROUND, frozen_normalisation=f) for f in (False, True))
    first, last = 15 * side - reach, 16 * side - 1 + reach
    assert first > 0 and last < 32 * side - 1  # the map is wide enough to see both edges
    inside = np.zeros(frozen.shape, dtype=bool)
    inside[first : last + 1, first : last + 1] = True
    assert not frozen[~inside].any() and live[~inside].min() > 0
    touched = np.argwhere(frozen)
    assert touched.min(axis=0).tolist() == [first, first] and touched.max(axis=0).tolist() == [last, last]


@pytest.mark.parametrize("profile", ["smoke", "demo", "paper"])
def test_the_reach_is_that_of_the_impulse_through_convolutions_of_ones(profile):
    settings = load_profile(profile)
    decoder = SegmentationNetwork(settings.network, settings.quantizer).decoder
    reach, side = decoder_reach(decoder), 2 ** (len(settings.network.filters) - 1)
    line = torch.zeros(1, 1, 2 * reach // side + 5)
    line[0, 0, line.shape[2] // 2] = 1
    for number in range(len(settings.network.filters)):  # the first convolution, and at each level a residual block of two
        if number:
            line = torch.nn.functional.interpolate(line, scale_factor=2, mode="linear", align_corners=False)
        for _ in range(3 if number == 0 else 2):
            line = torch.nn.functional.conv1d(line, torch.ones(1, 1, 3), padding=1)
    assert int((line > 0).sum()) == side + 2 * reach


def test_frozen_maps_of_many_slices_are_those_of_each_pair_in_one_batch(model, codes):
    maps = change_maps(model, codes, [7, 9], BACKGROUND, frozen_normalisation=True)
    ablated = codes.masked_fill(torch.isin(codes, torch.tensor([7, 9])), BACKGROUND)
    for number in (1, 3):
        with shared_normalisation(model):
            before, after = decode_codes(model, torch.stack([codes[number], ablated[number]]))
        assert maps[number] == pytest.approx((before - after).abs().sum(0).numpy(), abs=1e-4)
    assert not maps[[0, 2, 4]].any()
    live = change_maps(model, codes, [7, 9], BACKGROUND)
    assert not np.allclose(maps[1], live[1], atol=1e-2)


def test_each_slice_of_a_batch_can_have_its_own_reference(model, codes):
    with shared_normalisation(model, torch.tensor([0, 0, 2, 2, 0])):
        together = decode_codes(model, codes)
    for rows in ([0, 1, 4], [2, 3]):
        with shared_normalisation(model):
            assert decode_codes(model, codes[rows]) == pytest.approx(together[rows], abs=1e-4)


def test_a_network_trained_in_bfloat16_is_ablated_in_float32(model, codes):
    due = change_maps(model, codes, [7], BACKGROUND)
    try:
        model.network.precision = "bf16"
        assert (change_maps(model, codes, [7], BACKGROUND) == due).all() and model.network.precision == "bf16"
    finally:
        model.network.precision = "fp32"


def test_captum_finds_the_same_maps(model):
    images = small_store().images("P00").astype(np.float32)
    codes = model.encode_to_codes(images)
    chosen = [int(codes[2].max()), int(codes[2, 1, 1])]
    background = next(k for k in range(16) if k not in chosen)
    ours = responsible_regions(model, images[2:3], chosen, background)[0]
    theirs = captum_change(model, images[2], chosen, background)
    rounding = 1e-5 * float(ours.max())
    assert ours.max() > 1 and np.abs(theirs - ours).max() < rounding
    assert np.abs(captum_change(model, images[2], chosen, background, every=4) - theirs[::4, ::4]).max() < rounding
    absent = next(k for k in range(16) if k != background and not (codes[2] == k).any())
    assert not captum_change(model, images[2], [absent], background).any()


def test_one_by_one_stands_beside_together_and_frozen_beside_live(model):
    store = small_store(2)
    codes = model.encode_to_codes(store.images("P00"))
    high, low = sorted(set(codes[2].flatten().tolist()))[-2:]
    table = ablate_cohort(model, store, {"HGG": [high, low]}, BACKGROUND, one_by_one=True, frozen=True)
    assert len(table) == 2 * 4 * 3 and table["codeword"].isna().sum() == 2 * 2 * 3
    net = table.query("patient == 'P00' and region == 'NET'").set_index(["codeword", "normalisation"])
    for k in (high, low):
        assert net.loc[(k, "live"), "sum"] == pytest.approx(change_maps(model, codes, [k], BACKGROUND)[draw_labels() == 1].sum(), rel=1e-4)
    live, frozen = (net[net.index.get_level_values(0).isna()].xs(name, level=1).iloc[0] for name in ("live", "frozen"))
    assert live["n_tokens"] == frozen["n_tokens"] == net["n_tokens"].loc[[high, low]].sum() and live["sum"] != frozen["sum"]
    due = change_maps(model, codes, [high, low], BACKGROUND, frozen_normalisation=True)
    assert frozen["sum"] == pytest.approx(due[draw_labels() == 1].sum(), rel=1e-4)


def test_the_share_in_the_tumour_is_that_of_all_of_the_change(model):
    store = small_store(2)
    codes = model.encode_to_codes(store.images("P00"))[2:4]
    chosen = int(codes[0].max())
    row = ablate_sets(model, store, encode_tumours(model, store, patients=["P00"]), {"some": [chosen]}, BACKGROUND).iloc[0]
    maps, labels = change_maps(model, codes, [chosen], BACKGROUND), draw_labels()[2:4]
    assert row["total"] == pytest.approx(maps.sum(), rel=1e-5)
    assert row["share_in_tumour"] == pytest.approx(maps[labels > 0].sum() / maps.sum(), rel=1e-5)


def test_many_sets_measured_in_groups_are_each_set_alone(model, monkeypatch):
    store = small_store(2)
    tumours = encode_tumours(model, store)
    sets = {str(k): [k] for k in range(1, 8)}
    together = ablate_sets(model, store, tumours, sets, BACKGROUND, frozen=["3"])
    monkeypatch.setattr(ablation, "SETS_AT_ONCE", 2)
    grouped = ablate_sets(model, store, tumours, sets, BACKGROUND, frozen=["3"])
    pd.testing.assert_frame_equal(together, grouped, rtol=1e-4)
    assert (together["normalisation"] == "frozen").sum() == 2 * 3


def test_tokens_in_the_tumour_are_those_whose_cell_holds_any(model):
    tumour = encode_tumours(model, small_store(2), patients=["P00"])[0]
    due = draw_labels()[2:4].reshape(2, 4, 8, 4, 8).any(axis=(2, 4))
    assert (tumour.in_tumour.numpy() == due).all() and tumour.slices.tolist() == [2, 3] and tumour.labels == "truth"
