import math

import numpy as np
import pytest
import torch
from segmentation_toys import ToyStore, toy_profile

from drlib.segmentation.dice import NoLabelsError, dice_scores, evaluate_dice, segment_store
from drlib.segmentation.model import TrainedModel
from drlib.segmentation.network import SegmentationNetwork

torch.set_num_threads(1)


def untrained() -> TrainedModel:
    profile = toy_profile()
    return TrainedModel(SegmentationNetwork(profile.network, profile.quantizer).eval(), profile, {})


def test_known_overlaps_and_wt_includes_et():
    truth, prediction = np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4), np.uint8)
    truth[0, 0] = 3
    prediction[0, 0, :2] = 3
    prediction[1, 0, :2] = 3
    scores = dice_scores(prediction, truth)
    assert scores["ET"] == scores["TC"] == scores["WT"] == pytest.approx(2 * 2 / 8)
    assert math.isnan(scores["NET"]) and math.isnan(scores["ED"])


def test_confused_subregions_count_in_their_union():
    truth, prediction = np.array([[[1, 3, 2]]]), np.array([[[3, 1, 2]]])
    assert dice_scores(prediction, truth) == {"NET": 0, "ET": 0, "ED": 1, "TC": 1, "WT": 1}


def test_one_empty_is_zero_and_dice_is_symmetric_and_three_dimensional():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 4, (2, 5, 6, 7), dtype=np.uint8)
    assert dice_scores(np.zeros_like(a), a)["NET"] == 0
    assert dice_scores(a, b) == dice_scores(b, a)
    assert dice_scores(a, b)["ED"] == pytest.approx(2 * ((a == 2) & (b == 2)).sum() / ((a == 2).sum() + (b == 2).sum()))


def test_segmentation_in_batches_is_that_of_every_slice_alone():
    model, store = untrained(), ToyStore(n_patients=2)
    for patient, prediction in segment_store(model, store, batch_size=3):
        images = torch.from_numpy(store.images(patient)).float()
        with torch.inference_mode():
            alone = torch.cat([model.network(images[k : k + 1]).logits.argmax(1) for k in range(len(images))])
        assert prediction.dtype == np.uint8
        assert np.mean(prediction == alone.numpy()) > 0.999


def test_the_table_has_a_row_per_patient_and_needs_labels():
    store = ToyStore(n_patients=3)
    table = evaluate_dice(untrained(), store, ids=["toy-2", "toy-0"])
    assert list(table.index) == ["toy-2", "toy-0"] and list(table.columns) == ["NET", "ED", "ET", "TC", "WT"]
    store.contents["toy-1"] = store.contents["toy-1"][0], None
    with pytest.raises(NoLabelsError, match="toy-1"):
        evaluate_dice(untrained(), store)
