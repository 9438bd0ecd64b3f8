import pytest
import torch
from segmentation_toys import ToyStore, toy_profile

from drlib.profiles import ProfileError, QuantizerSettings, load_profile
from drlib.radiomics.ablation import change_maps
from drlib.radiomics.histogram import background_codeword, count_codewords, encode_patient
from drlib.segmentation.finite_scalar import FiniteScalarQuantizer
from drlib.segmentation.model import load_model
from drlib.segmentation.quantizer import LatentShapeError
from drlib.segmentation.training import train

torch.set_num_threads(1)
LEVELS = [(4, 4), (5, 3, 7), (8, 6, 5)]


def quantizer(levels=(4, 4), d: int = 8, seed: int = 0) -> FiniteScalarQuantizer:
    size = int(torch.tensor(levels).prod())
    return FiniteScalarQuantizer(QuantizerSettings(kind="fsq", codebook_size=size, codeword_dim=d, fsq_levels=levels), seed=seed).train()


def random_latents(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("levels", LEVELS)
def test_codes_values_and_gradients_are_those_of_vector_quantize_pytorch(levels):
    from vector_quantize_pytorch import FSQ

    ours, theirs = quantizer(levels), FSQ(levels, dim=8)
    theirs.load_state_dict({name: value for name, value in ours.state_dict().items() if name.startswith("project")})
    gradient, results = random_latents(2, 8, 3, 5, seed=1), []
    for module in (ours, theirs):
        z_e = random_latents(2, 8, 3, 5).requires_grad_()
        out = module(z_e)
        value, codes = (out.z_q, out.codes) if module is ours else out
        (value * gradient).sum().backward()
        results.append((value.detach(), codes.long(), z_e.grad, module.project_in.weight.grad, module.project_out.weight.grad))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.codebook, theirs.indices_to_codes(torch.arange(len(ours.codebook))))


@pytest.mark.parametrize("levels", LEVELS)
def test_every_codeword_is_one_combination_and_can_be_reached(levels):
    vq = quantizer(levels, d=len(levels))
    with torch.no_grad():
        for layer in (vq.project_in, vq.project_out):
            layer.weight.copy_(torch.eye(len(levels)))
    assert len(vq.codebook.unique(dim=0)) == len(vq.codebook) and vq.codebook.abs().max() == 1
    z_e = 6 * torch.rand(1, len(levels), 200, 200, generator=torch.Generator().manual_seed(0)) - 3
    assert len(vq.codes(z_e).unique()) == len(vq.codebook)


def test_z_q_is_the_codeword_exactly_at_its_place_of_a_non_square_latent():
    vq, z_e = quantizer(), random_latents(2, 8, 3, 5)
    quantized = vq(z_e)
    assert torch.equal(quantized.codes, vq.codes(z_e)) and quantized.codes.shape == (2, 3, 5)
    assert torch.equal(quantized.z_q, vq.lookup(quantized.codes))
    assert torch.equal(quantized.z_q[1, :, 2, 4], vq.codebook[quantized.codes[1, 2, 4]])
    alone = vq.codes(z_e[1:, :, 2:, 4:])
    assert alone.item() == quantized.codes[1, 2, 4]


def test_there_is_no_latent_loss_and_nothing_to_start_and_usage_is_counted():
    vq, z_e = quantizer(), random_latents(2, 8, 3, 5)
    before = vq.codebook.clone()
    vq.start(z_e.movedim(1, -1).flatten(0, 2))
    quantized = vq(z_e)
    assert vq.started and quantized.latent_loss == 0 and torch.equal(vq.codebook, before)
    assert quantized.counts.sum() == 30
    assert torch.equal(vq.codebook_in_use, quantized.counts > 0)
    assert quantizer(seed=0).codebook.equal(before) and not quantizer(seed=1).codebook.equal(before)


def test_without_quantization_latents_are_bounded_but_not_rounded():
    vq, z_e = quantizer().eval(), random_latents(2, 8, 3, 5)
    through = vq(z_e, quantize=False)
    assert through.codes is None and through.z_q.shape == z_e.shape
    step = (through.z_q - vq(z_e).z_q).abs()
    assert 0 < step.max() < 0.51 * vq.project_out.weight.abs().sum(1).max() / 2  # half a level, of 2 to a side


def test_latents_that_are_not_numbers_get_codes_and_the_loss_says_so():
    quantized = quantizer()(torch.full((1, 8, 2, 2), torch.nan))
    assert quantized.codes.min() >= 0 and quantized.z_q.isnan().all()


def test_a_training_saves_loads_counts_and_ablates(tmp_path):
    store, profile = ToyStore(), toy_profile("quantizer.kind=fsq", "quantizer.fsq_levels=[4,4]")
    log = train(store, profile, tmp_path, progress=False)
    assert log.loss.iloc[-1] < log.loss.iloc[0] and (log.latent_loss == 0).all() and log.usage.iloc[-1] > 1
    model = load_model(tmp_path)
    assert isinstance(model.network.quantizer, FiniteScalarQuantizer)
    assert model.card["codewords_in_use"] == int(model.network.quantizer.codebook_in_use.sum()) > 1
    counts = count_codewords(model, store, progress=False).table
    assert counts.shape == (3, 16) and (counts.sum(axis=1) == 10 * 8 * 8).all()
    codes = encode_patient(model, store.images("toy-0"))
    background = background_codeword(model, store)
    others = [k for k in codes.unique().tolist() if k != background]
    assert change_maps(model, codes, others, background).max() > 0


def test_levels_that_do_not_make_the_codebook_are_refused():
    for switches, message in (
        ("quantizer.fsq_levels=[4,4]", "make 16 codewords; due are codebook_size=64"),
        ("quantizer.fsq_levels=[2,32]", "at least 3"),
        ("quantizer.fsq_levels=[8,8]+quantizer.distance=cosine", "no distance"),
        ("quantizer.fsq_levels=[8,8]+quantizer.estimator=rotation", "straight-through"),
    ):
        with pytest.raises(ProfileError, match=message):
            load_profile(f"smoke+quantizer.kind=fsq+{switches}")
    with pytest.raises(LatentShapeError, match=r"\(batch, 8"):
        quantizer()(torch.zeros(1, 5, 2, 2))
    with pytest.raises(LatentShapeError, match="0..15"):
        quantizer().lookup(torch.full((1, 2, 2), 16))
