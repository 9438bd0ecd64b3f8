import numpy as np
import pytest
import torch
from small_radiomics import draw_slices, small_model
from torch.nn import functional as F

from drlib.profiles import load_profile
from drlib.radiomics.absorption import Encoding, encode_normalised_path, encode_slices, measure_movement, step_at_random
from drlib.segmentation.quantizer import VectorQuantizer


def plane(codebook: torch.Tensor) -> VectorQuantizer:
    """Return a quantizer whose codewords are ``codebook`` (K, 2)."""
    settings = load_profile("smoke").quantizer.model_copy(update={"codebook_size": len(codebook), "codeword_dim": 2})
    quantizer = VectorQuantizer(settings).eval()
    quantizer.codebook.copy_(codebook)
    return quantizer


def encoding(quantizer: VectorQuantizer, points: torch.Tensor) -> Encoding:
    """Return points (N, 2) as the latents of N positions of one slice."""
    latents = points.T[None, :, None].float()  # (1, 2, 1, N)
    codes = quantizer.codes(latents)
    return Encoding(latents, codes, quantizer.lookup(codes))


def test_two_codewords_in_the_plane_give_the_steps_done_by_hand():
    quantizer = plane(torch.tensor([[0.0, 3.0], [4.0, 3.0]]))
    before = encoding(quantizer, torch.tensor([[0.0, 5.0], [3.0, 4.0], [4.0, 3.0]]))  # all 5 long; codes 0, 1, 1
    after = encoding(quantizer, torch.tensor([[1.0, 5.0], [1.0, 4.0], [4.0, 3.0]]))  # steps 1, 2, 0; codes 0, 0, 1
    found = measure_movement(before, after)
    assert found["latent_change"] == pytest.approx(3 / 15) and found["codeword_change"] == pytest.approx(4 / 15)
    assert found["latent_rms"] == pytest.approx(np.sqrt(5 / 75)) and found["codeword_rms"] == pytest.approx(np.sqrt(16 / 75))
    assert found["moved"] == pytest.approx(2 / 3) and found["kept"] == pytest.approx(1 / 2) and found["changed"] == pytest.approx(1 / 3)
    assert found["difference_ratio"] == pytest.approx(2 / 3)  # counts (1, 2) become (2, 1)
    first = measure_movement(before, after, torch.tensor([[[True, False, False]]]))
    assert (first["positions"], first["latent_change"], first["codeword_change"], first["kept"]) == (1, pytest.approx(0.2), 0, 1)


def test_evenly_spaced_codewords_on_a_line_neither_damp_nor_amplify_on_average_but_square_errors_grow():
    quantizer = plane(F.pad(torch.arange(-60, 61.0)[:, None], (0, 1)))
    start = torch.rand(20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 80 - 40
    points = torch.stack([start, torch.zeros_like(start)], dim=1)
    for step in (0.1, 0.7, 2.3):
        found = measure_movement(encoding(quantizer, points), encoding(quantizer, points + torch.tensor([step, 0.0])))
        assert found["codeword_change"] / found["latent_change"] == pytest.approx(1, abs=0.06)  # E|Q(x + d) - Q(x)| = d
        whole, part = divmod(step, 1)  # E|Q(x + d) - Q(x)|^2 with steps of floor(d) or floor(d) + 1
        square = (1 - part) * whole**2 + part * (whole + 1) ** 2
        assert (found["codeword_rms"] / found["latent_rms"]) ** 2 == pytest.approx(square / step**2, rel=0.1)


def test_a_codebook_on_a_line_absorbs_steps_across_it_and_half_the_variance_of_random_ones():
    quantizer = plane(F.pad(torch.arange(-60, 61.0)[:, None] / 4, (0, 1)))
    points = torch.rand(5000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([20.0, 0.0]) - torch.tensor([10.0, 0.0])
    before, across = encoding(quantizer, points), encoding(quantizer, points + torch.tensor([0.0, 3.0]))
    where = torch.ones_like(before.codes, dtype=torch.bool)
    assert measure_movement(before, across)["kept"] == 1
    random = step_at_random(quantizer, before, across, where)
    mean_length = float(points.norm(dim=1).mean())
    assert random["random_change"] == pytest.approx(3 * 2 / np.pi / mean_length, rel=0.03)  # mean |cos| of a random angle
    assert random["random_kept"] < 0.1


def test_nothing_moves_without_a_change_and_codes_are_those_of_the_network():
    model, images = small_model(), draw_slices(3)
    clean = encode_slices(model, images)
    assert torch.equal(clean.codes, model.encode_to_codes(images))
    assert torch.equal(clean.codewords, model.network.quantizer.lookup(clean.codes))
    found = measure_movement(clean, encode_slices(model, images, lambda batch: batch + 0.0))
    assert found["latent_change"] == found["codeword_change"] == found["changed"] == 0 and np.isnan(found["kept"])


def test_the_normalised_path_of_unchanged_slices_is_the_network_and_leaves_no_hook():
    model, images = small_model(), draw_slices(4)
    alone = encode_normalised_path(model, images, lambda batch: batch)
    assert torch.equal(alone.latents, encode_slices(model, images).latents)
    assert not model.network.encoder[0].shortcut._forward_pre_hooks


@pytest.mark.parametrize(
    "switch", ["quantizer.distance=cosine", "quantizer.kind=fsq+quantizer.fsq_levels=[4,4]+quantizer.codebook_size=16"]
)
def test_latents_lie_where_the_codewords_do_whatever_the_quantizer(switch):
    from drlib.segmentation.model import TrainedModel
    from drlib.segmentation.network import SegmentationNetwork

    profile = load_profile(f"smoke+preprocessing.image_size=32+{switch}")
    model = TrainedModel(SegmentationNetwork(profile.network, profile.quantizer).eval(), profile, {})
    found = encode_slices(model, draw_slices(5))
    assert torch.equal(found.codes, model.encode_to_codes(draw_slices(5)))
    with torch.inference_mode():
        due = model.network(torch.from_numpy(draw_slices(5)).float()).quantized
    assert torch.allclose(found.codewords, due.z_q, atol=1e-6)
    if profile.quantizer.kind == "fsq":
        assert (found.latents - found.codewords).norm(dim=1).mean() < found.latents.norm(dim=1).mean() * 2
        where = torch.ones_like(found.codes, dtype=torch.bool)
        assert np.isnan(step_at_random(model.network.quantizer, found, found, where)["random_change"])
    else:
        assert torch.allclose(found.latents.norm(dim=1), torch.ones(1), atol=1e-5)
