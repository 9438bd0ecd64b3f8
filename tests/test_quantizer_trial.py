"""The standard test of codebook usage: 512 codewords of 64 dimensions, 200 steps of moving latents."""

import pytest
import torch

from drlib.profiles import SWITCHES, QuantizerSettings
from drlib.segmentation.quantizer_trial import codebook_usage_over_steps, moving_latents

torch.set_num_threads(1)
AUTHORS = {path.split(".")[1]: value for path, value in SWITCHES["authors-code"].items() if path.startswith("quantizer.")}


@pytest.mark.parametrize("switches", [{}, {"update": "gradient"}, {"distance": "cosine"}], ids=str)
def test_nine_in_ten_codewords_live_and_none_leaves_the_data(switches):
    usage = codebook_usage_over_steps(QuantizerSettings(**switches))
    assert usage.alive[200] >= 0.9 * 512
    assert usage.longest.max() < 10 and usage.shortest.min() > 0.1


def test_the_authors_start_keeps_a_few_and_throws_the_others_away():
    usage = codebook_usage_over_steps(QuantizerSettings(**AUTHORS))
    assert usage.alive[200] < 0.1 * 512
    assert usage.longest[1] > 1000


def test_the_kmeans_start_without_revival_is_left_behind_by_moving_latents():
    assert codebook_usage_over_steps(QuantizerSettings(revive_dead=False), steps=100).alive[100] < 0.2 * 512


def test_a_grid_has_nothing_to_learn():
    usage = codebook_usage_over_steps(QuantizerSettings(kind="fsq"), steps=3)
    assert usage.used.min() > 50
    assert usage.longest.max() < 1.1 * usage.longest.min()


def test_the_latents_move_ever_less_and_are_the_same_for_a_seed():
    def background(z_e):
        rows = z_e[0].flatten(1).T
        return rows[torch.cdist(rows, rows).quantile(0.4, dim=1).argmin()]

    batches = list(moving_latents(102))
    early, late = ((background(batches[t + 1]) - background(batches[t])).norm() / background(batches[t]).norm() for t in (0, 100))
    assert 0.03 < early < 0.1 and late < 0.02
    assert all(torch.equal(one, other) for one, other in zip(batches, moving_latents(102), strict=True))
    assert not torch.equal(batches[0], next(moving_latents(1, seed=1)))
