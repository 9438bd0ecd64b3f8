"""Where codewords lie: pixel counts under their cells, and what is enriched there."""

import numpy as np
import pytest

from drlib.radiomics.occupancy import count_occupancy, region_enrichment


def test_pixels_are_counted_under_the_codeword_of_their_cell():
    codes = np.array([[[0, 1, 1]]])  # one slice, 1 x 3 cells of 2 x 2 pixels: not square
    labels = np.array([[[0, 0, 1, 1, 3, 3], [0, 2, 1, 1, 3, 0]]], dtype=np.uint8)
    assert count_occupancy(codes, labels, 3).tolist() == [[3, 0, 1, 0], [1, 4, 0, 3], [0, 0, 0, 0]]


def test_occupancy_sums_to_the_labels():
    random = np.random.default_rng(0)
    codes, labels = random.integers(0, 7, (5, 4, 3)), random.integers(0, 4, (5, 16, 24)).astype(np.uint8)
    counts = count_occupancy(codes, labels, 7)
    assert counts.sum(axis=0).tolist() == np.bincount(labels.ravel(), minlength=4).tolist()
    assert (counts.sum(axis=1) == 4 * 8 * np.bincount(codes.ravel(), minlength=7)).all()


def test_enrichment_is_one_where_codewords_lie_as_everything_does_and_names_what_they_stand_on():
    occupancy = np.array([[80, 10, 5, 5], [80, 10, 5, 5], [0, 0, 0, 10]])
    assert region_enrichment(occupancy[:2], [0]).tolist() == pytest.approx([1, 1, 1])
    ratio = region_enrichment(occupancy, [2])
    assert ratio.idxmax() == "ET" and ratio["ET"] == pytest.approx(210 / 20) and ratio["NET"] == 0
    assert region_enrichment(np.array([[90, 0, 5, 5], [10, 0, 0, 0]]), [0])["NET"] == 0  # a region that is nowhere
