import pytest
import torch

from drlib.profiles import QuantizerSettings
from drlib.segmentation.quantizer import LatentShapeError, VectorQuantizer, kmeans, nearest, perplexity

torch.set_num_threads(1)


def quantizer(k: int = 8, d: int = 4, **settings) -> VectorQuantizer:
    plain = {"kmeans_start": False, "revive_dead": False} | settings
    return VectorQuantizer(QuantizerSettings(codebook_size=k, codeword_dim=d, **plain)).train()


def random_latents(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_codes_are_those_of_exhaustive_search_and_keep_rows_and_columns_of_a_non_square_latent():
    vq, z_e = quantizer().eval(), random_latents(2, 4, 3, 5)
    codes = vq.codes(z_e)
    assert codes.shape == (2, 3, 5)
    for b, row, column in ((0, 0, 4), (1, 2, 0), (1, 1, 3)):
        assert codes[b, row, column] == (vq.codebook - z_e[b, :, row, column]).norm(dim=1).argmin()
    assert torch.equal(vq.lookup(codes)[1, :, 2, 4], vq.codebook[codes[1, 2, 4]])


def test_codes_agree_with_vector_quantize_pytorch_and_monai():
    from monai.networks.layers.vector_quantizer import EMAQuantizer
    from vector_quantize_pytorch import VectorQuantize

    vq, z_e = quantizer(64, 16).eval(), random_latents(2, 16, 6, 7)
    theirs = VectorQuantize(dim=16, codebook_size=64, accept_image_fmap=True).eval()
    theirs._codebook.embed.copy_(vq.codebook[None])
    monai = EMAQuantizer(spatial_dims=2, num_embeddings=64, embedding_dim=16).eval()
    monai.embedding.weight.data.copy_(vq.codebook)
    assert torch.equal(vq.codes(z_e), theirs(z_e)[1])
    assert torch.equal(vq.codes(z_e), monai.quantize(z_e)[2])


def test_forward_is_the_codeword_exactly_and_the_gradient_passes_straight_through():
    vq, z_e = quantizer(), random_latents(2, 4, 3, 3).requires_grad_()
    due = vq.lookup(vq.codes(z_e.detach())).clone()
    quantized = vq(z_e)
    assert torch.equal(quantized.z_q, due)
    gradient = random_latents(2, 4, 3, 3, seed=1)
    (quantized.z_q * gradient).sum().backward()
    assert torch.equal(z_e.grad, gradient)


def test_latent_loss_is_commitment_with_ema_and_both_terms_with_gradient():
    z_e = random_latents(2, 4, 3, 3)
    for update, factor in (("ema", 0.25), ("gradient", 1.25)):
        vq = quantizer(update=update, commitment=0.25)
        distance = (z_e - vq.lookup(vq.codes(z_e))).square().mean().item()
        assert vq(z_e).latent_loss.item() == pytest.approx(factor * distance, rel=1e-5)


def test_gradient_update_pulls_only_used_codewords_towards_their_latents():
    vq, z_e = quantizer(update="gradient"), random_latents(1, 4, 2, 2)
    quantized = vq(z_e)
    quantized.latent_loss.backward()
    k = int(quantized.codes[0, 0, 0])
    members = z_e.movedim(1, -1)[quantized.codes == k]
    due = 2 * (vq.codebook[k].detach() - members).sum(0) / z_e.numel()
    torch.testing.assert_close(vq.codebook.grad[k], due)
    assert not vq.codebook.grad[quantized.counts == 0].any()


def test_the_first_corrected_update_is_the_mean_and_the_second_the_closed_form():
    vq = quantizer(k=2, d=1, ema_decay=0.9)
    vq.codebook.copy_(torch.tensor([[0.0], [10.0]]))
    vq(torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3))
    assert vq.codebook.flatten().tolist() == pytest.approx([2.0, 10.0])  # the mean; the unused one stays
    vq(torch.tensor([5.0]).view(1, 1, 1, 1))
    assert vq.codebook[0].item() == pytest.approx((0.9 * 6 + 5) / (0.9 * 3 + 1), rel=1e-6)


def test_after_a_kmeans_start_a_codeword_moves_by_the_share_of_one_batch():
    vq = quantizer(k=2, d=1, ema_decay=0.9)
    vq.start(torch.tensor([[0.0], [0.0], [10.0], [10.0]]))
    low = int(vq.codebook.argmin())
    vq(torch.tensor([1.0, 1.0, 10.0, 10.0]).view(1, 1, 2, 2))
    assert vq.codebook[low].item() == pytest.approx(0.1, rel=1e-5)


def test_the_uncorrected_update_is_monais():
    from monai.networks.layers.vector_quantizer import EMAQuantizer

    vq = quantizer(8, 4, bias_correction=False)
    monai = EMAQuantizer(spatial_dims=2, num_embeddings=8, embedding_dim=4, decay=0.99).train()
    monai.embedding.weight.data.copy_(vq.codebook)
    monai.ema_w.data.copy_(vq.codebook)
    for seed in range(3):
        z_e = random_latents(2, 4, 4, 4, seed=seed)
        vq(z_e), monai(z_e)
        torch.testing.assert_close(vq.codebook, monai.embedding.weight.data, rtol=1e-3, atol=1e-3)


def test_codewords_stay_among_the_data_with_correction_and_explode_with_the_authors_start():
    largest = {True: 0.0, False: 0.0}
    for corrected in largest:
        vq = quantizer(128, 16, bias_correction=corrected)
        for step in range(30):
            z_e = random_latents(4, 16, 8, 8, seed=step)
            vq(z_e)
            largest[corrected] = max(largest[corrected], (vq.codebook.norm(dim=1).max() / z_e.norm(dim=1).mean()).item())
    assert largest[True] < 10
    assert largest[False] > 100


def mixture(n: int, seed: int) -> torch.Tensor:
    """Latents (n, 8, 4, 4) of 40 tight clusters, one of which holds half of them."""
    random = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(40, 8, generator=torch.Generator().manual_seed(99))
    weights = torch.tensor([39.0] + [1.0] * 39)
    chosen = torch.multinomial(weights, n * 16, replacement=True, generator=random)
    return (centres[chosen] + 0.3 * torch.randn(n * 16, 8, generator=random)).view(n, 4, 4, 8).movedim(-1, 1)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_kmeans_start_and_revival_keep_nine_in_ten_codewords_alive(update):
    vq = quantizer(64, 8, kmeans_start=True, revive_dead=True, update=update)
    used = torch.zeros(64, dtype=torch.int64)
    for step in range(200):
        counts = vq(mixture(32, step)).counts
        used += counts if step >= 180 else 0
    assert (used > 0).float().mean() >= 0.9
    assert vq.codebook_in_use.float().mean() >= 0.9


def test_without_them_the_same_mixture_leaves_most_codewords_dead():
    vq = quantizer(64, 8)
    for step in range(200):
        vq(mixture(32, step))
    assert vq.codebook_in_use.float().mean() < 0.7


def test_revival_draws_where_the_error_is_never_where_it_is_zero():
    vq = quantizer(4, 2, revive_dead=True)
    vq.codebook.copy_(torch.tensor([[0.0, 0.0], [50.0, 0.0], [60.0, 0.0], [70.0, 0.0]]))
    latents = torch.zeros(1, 2, 1, 20)
    latents[0, :, 0, 3] = torch.tensor([0.0, 5.0])
    for _ in range(100):
        vq(latents)
    assert (vq.codebook - torch.tensor([0.0, 5.0])).norm(dim=1).min() < 0.5
    assert vq.codes(latents).unique().numel() == 2


def test_the_same_seed_and_batches_give_the_same_codebook():
    first, second = (quantizer(32, 8, kmeans_start=True, revive_dead=True) for _ in range(2))
    for step in range(80):
        first(mixture(4, step)), second(mixture(4, step))
    assert torch.equal(first.codebook, second.codebook)


def test_evaluation_and_continuous_latents_teach_nothing():
    vq, z_e = quantizer(kmeans_start=True), random_latents(2, 4, 3, 3)
    before = {name: value.clone() for name, value in vq.state_dict().items()}
    through = vq(z_e, quantize=False)
    vq.eval()(z_e)
    assert torch.equal(through.z_q, z_e) and through.codes is None and through.latent_loss == 0
    assert all(torch.equal(value, before[name]) for name, value in vq.state_dict().items())


def test_perplexity_of_equal_and_of_single_use():
    assert perplexity(torch.full((8,), 5)).item() == pytest.approx(8)
    assert perplexity(torch.tensor([0, 7, 0])).item() == pytest.approx(1)


def test_distances_are_float32_whatever_the_input():
    codebook = torch.tensor([[100.0], [100.1]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nearest(torch.tensor([[100.09]]), codebook).item() == 1


def test_kmeans_finds_separated_clusters_and_survives_too_few_points():
    points = torch.tensor([[0.0], [0.1], [5.0], [5.1], [9.0]])
    centres, counts = kmeans(points, 3, torch.Generator().manual_seed(0))
    assert sorted(centres.flatten().tolist()) == pytest.approx([0.05, 5.05, 9.0])
    assert counts.sum() == 5
    centres, _ = kmeans(torch.ones(4, 2), 6, torch.Generator().manual_seed(0))
    assert torch.isfinite(centres).all()


def test_wrong_latents_and_codes_are_refused():
    with pytest.raises(LatentShapeError, match=r"\(batch, 4"):
        quantizer()(torch.zeros(1, 5, 2, 2))
    with pytest.raises(LatentShapeError, match="0..7"):
        quantizer().lookup(torch.full((1, 2, 2), 8))
