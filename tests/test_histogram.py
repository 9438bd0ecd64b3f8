import numpy as np
import pytest
import torch
from small_radiomics import BACKGROUND, MemoryStore, draw_slices, small_model, small_profile, small_store
from torch import nn
from torch.nn.functional import avg_pool2d

from drlib.radiomics.histogram import (
    HistogramError,
    background_codeword,
    codebook_hash,
    codeword_histogram,
    count_codewords,
    encode_patient,
)
from drlib.segmentation.model import TrainedModel


class ReadableNetwork(nn.Module):
    """Codewords that can be read off the image: the mean of the cell in T1, and 9 in every cell of a blank slice."""

    def __init__(self):
        super().__init__()
        self.quantizer = nn.Module()
        self.quantizer.codebook = nn.Parameter(torch.zeros(16, 8))

    def encode_to_codes(self, images: torch.Tensor) -> torch.Tensor:
        codes = (avg_pool2d(images[:, 0], 8) + 4).round().long()
        blank = (images.flatten(1) == BACKGROUND).all(1)
        return torch.where(blank[:, None, None], 9, codes)


def readable_model() -> TrainedModel:
    return TrainedModel(ReadableNetwork(), small_profile(), {})


def test_a_histogram_counts_each_codeword():
    assert codeword_histogram(torch.tensor([[0, 3], [3, 1]]), 5).tolist() == [1, 1, 0, 2, 0]


def test_codes_outside_the_codebook_are_refused():
    with pytest.raises(HistogramError, match="from 0 to 4"):
        codeword_histogram(torch.tensor([5]), 5)


def test_counts_sum_to_slices_times_latent_positions_and_are_whole_numbers():
    counts = count_codewords(small_model(), small_store())
    assert (counts.table.sum(axis=1) == counts.n_slices * counts.latent_positions).all()
    assert counts.latent_positions == 16 and (counts.table.dtypes == np.int64).all()
    assert list(counts.table.columns) == list(range(16)) and list(counts.table.index) == list(small_store().patients)


def test_counts_equal_those_of_slices_encoded_one_by_one():
    model, store = small_model(), small_store()
    table = count_codewords(model, store, batch_size=3).table
    for patient in store.patients:
        one_by_one = [model.network.encode_to_codes(torch.from_numpy(image[None]).float()) for image in store.images(patient)]
        assert table.loc[patient].tolist() == np.bincount(torch.cat(one_by_one).ravel(), minlength=16).tolist()
    assert (table.gt(0).sum() > 0).sum() > 4  # the comparison is about several codewords


def test_blank_slices_are_encoded_once_and_counted_each():
    model, images = readable_model(), draw_slices(0, n=9)
    encoded = []
    transform = lambda batch: encoded.append(len(batch)) or batch  # noqa: E731
    codes = encode_patient(model, images, transform)
    assert sum(encoded) == 8  # nine slices of which two are blank
    assert codeword_histogram(codes, 16)[9] == 2 * 16


def test_a_transform_changes_what_is_counted():
    images = np.zeros((1, 4, 32, 32), dtype=np.float16)
    store = MemoryStore({"P": images}, {"P": None}, {"P": None})
    model = readable_model()
    assert count_codewords(model, store).table.loc["P", 4] == 16
    assert count_codewords(model, store, transform=lambda batch: batch + 2).table.loc["P", 6] == 16


def test_the_background_codeword_is_that_of_cells_outside_the_brain_in_slices_with_brain():
    images = np.full((9, 4, 32, 32), BACKGROUND, dtype=np.float16)
    images[4:6, 2, 8:24, 8:32] = 1.0  # brain of two slices, in one modality only; T1 is dark there, and the same codeword
    images[4:6, 0, 8:24, 8:32] = 2.0
    images[4, 0, 0, 0] = images[4, 2, 0, 0] = 2.0  # one pixel of brain in the corner cell
    store = MemoryStore({"P": images}, {"P": None}, {"P": None})
    assert background_codeword(readable_model(), store) == 1  # -3 + 4; the seven blank slices would say 9


def test_no_background_codeword_where_the_brain_fills_every_cell():
    images = np.random.default_rng(0).normal(0, 1, (3, 4, 32, 32)).astype(np.float16)
    with pytest.raises(HistogramError, match="outside the brain"):
        background_codeword(readable_model(), MemoryStore({"P": images}, {"P": None}, {"P": None}))


def test_the_codebook_hash_changes_with_any_weight():
    model = small_model()
    before = codebook_hash(model)
    assert before == codebook_hash(small_model()) and len(before) == 10
    with torch.no_grad():
        model.network.quantizer.codebook[3, 2] += 1e-3
    assert codebook_hash(model) != before
