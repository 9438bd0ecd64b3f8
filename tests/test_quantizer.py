from itertools import product

import pytest
import torch
import torch.nn.functional as F

from drlib.profiles import QuantizerSettings
from drlib.segmentation.quantizer import (
    DEAD_AFTER,
    LatentShapeError,
    VectorQuantizer,
    kmeans,
    nearest,
    perplexity,
    rotated,
    unit,
    with_idle,
)

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


CHOICES = [
    dict(zip(("update", "distance", "estimator"), values, strict=True))
    for values in product(("ema", "gradient"), ("euclidean", "cosine"), ("straight-through", "rotation"))
]
every_choice = pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(choice.values()))


def codewords_of(vq: VectorQuantizer) -> torch.Tensor:
    """The codewords (K, D) that the decoder sees."""
    return vq.lookup(torch.arange(len(vq.codebook)).view(1, 1, -1))[0, :, 0].T.detach().clone()


@every_choice
def test_every_position_of_a_non_square_latent_gets_its_nearest_codeword_exactly(choice):
    vq, z_e = quantizer(**choice), 3 * random_latents(2, 4, 3, 5)
    codewords, quantized = codewords_of(vq), vq(z_e)
    assert quantized.codes.shape == (2, 3, 5)
    for b, row, column in product(range(2), range(3), range(5)):
        z, k = z_e[b, :, row, column], int(quantized.codes[b, row, column])
        angle, distance = F.cosine_similarity(codewords, z, dim=1), (codewords - z).norm(dim=1)
        assert k == (angle.argmax() if choice["distance"] == "cosine" else distance.argmin())
        assert torch.equal(quantized.z_q[b, :, row, column], codewords[k])


@every_choice
def test_the_gradient_reaches_the_encoder_exactly_as_the_estimator_says(choice):
    """Against the definition, written with a matrix for each position."""
    vq, z_e = quantizer(**choice), (2 * random_latents(2, 4, 3, 5)).requires_grad_()
    codewords, quantized = codewords_of(vq), vq(z_e)
    gradient = random_latents(2, 4, 3, 5, seed=1)
    (quantized.z_q * gradient).sum().backward()
    for b, row, column in product(range(2), range(3), range(5)):
        z, q = z_e[b, :, row, column].detach(), codewords[quantized.codes[b, row, column]]
        through, inside = torch.eye(4), z
        if choice["distance"] == "cosine":
            inside = z / z.norm()
            through = (torch.eye(4) - torch.outer(inside, inside)) / z.norm()
        if choice["estimator"] == "rotation":
            through = turn(inside, q) @ through
        torch.testing.assert_close(z_e.grad[b, :, row, column], through.T @ gradient[b, :, row, column], rtol=1e-4, atol=1e-5)


def turn(z: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The matrix that stretches z to the length of q and turns it to q in their plane, leaving what is orthogonal to it."""
    first = z / z.norm()
    second = q - (q @ first) * first
    second = second / second.norm()
    cosine, sine = (q / q.norm()) @ first, (q / q.norm()) @ second
    plane = torch.stack([first, second])
    inside = plane.T @ torch.tensor([[cosine, -sine], [sine, cosine]]) @ plane
    return q.norm() / z.norm() * (torch.eye(len(z)) - plane.T @ plane + inside)


@every_choice
def test_only_used_codewords_move_and_as_far_as_the_update_says(choice):
    vq, z_e = quantizer(**choice), 3 * random_latents(1, 4, 2, 3)
    before, free = codewords_of(vq), vq.codebook.detach().clone()
    quantized = vq(z_e)
    inside = z_e / z_e.norm(dim=1, keepdim=True) if choice["distance"] == "cosine" else z_e
    used = quantized.counts > 0
    if choice["update"] == "ema":
        after = codewords_of(vq)
        torch.testing.assert_close(after[~used], before[~used])
        for k in used.nonzero().flatten():
            mean = inside.movedim(1, -1)[quantized.codes == k].mean(0)  # the first corrected update
            torch.testing.assert_close(after[k], mean / mean.norm() if choice["distance"] == "cosine" else mean)
        return
    quantized.latent_loss.backward()
    leaf = free.requires_grad_()
    words = leaf / leaf.norm(dim=1, keepdim=True) if choice["distance"] == "cosine" else leaf
    (words[quantized.codes[0]].movedim(-1, 0) - inside[0]).square().mean().backward()
    torch.testing.assert_close(vq.codebook.grad, leaf.grad)
    assert not leaf.grad[~used].any() and leaf.grad[used].any(1).all()


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_rotation_has_the_gradient_of_vector_quantize_pytorch(distance):
    from vector_quantize_pytorch import VectorQuantize

    vq = quantizer(64, 16, distance=distance, estimator="rotation")
    theirs = VectorQuantize(16, 64, accept_image_fmap=True, rotation_trick=True, use_cosine_sim=distance == "cosine").train()
    theirs._codebook.embed.data.copy_(vq.codebook[None])
    ours_in, theirs_in = (random_latents(2, 16, 6, 7).requires_grad_() for _ in range(2))
    ours, due = vq(ours_in).z_q, theirs(theirs_in, freeze_codebook=True)[0]
    torch.testing.assert_close(ours, due, rtol=1e-4, atol=1e-5)
    for value in (ours, due):
        (value * random_latents(2, 16, 6, 7, seed=1)).sum().backward()
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, rtol=1e-4, atol=1e-5)


def test_rotation_of_zero_opposite_and_equal_vectors_is_finite():
    z_e = torch.tensor([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0], [3.0, 0.0]]).T.reshape(1, 2, 2, 2).requires_grad_()
    codewords = torch.tensor([[1.0, 1.0], [-1.0, -2.0], [1.0, 2.0], [0.0, 0.0]]).T.reshape(1, 2, 2, 2)
    value = rotated(z_e, codewords)
    torch.testing.assert_close(value.flatten(2)[..., 1:], codewords.flatten(2)[..., 1:])
    value.sum().backward()
    assert z_e.grad.flatten(2)[0].T.tolist()[0] == [1, 1]  # no direction: straight through
    torch.testing.assert_close(z_e.grad.flatten(2)[0, :, 2], torch.ones(2))  # already there
    assert torch.isfinite(z_e.grad).all()


@every_choice
def test_zero_latents_do_no_harm(choice):
    vq, z_e = quantizer(**choice), torch.zeros(1, 4, 2, 2, requires_grad=True)
    quantized = vq(z_e)
    (quantized.z_q.sum() + quantized.latent_loss).backward()
    assert torch.isfinite(quantized.z_q).all() and torch.isfinite(vq.codebook).all()
    assert torch.isfinite(z_e.grad).all() and z_e.grad.abs().max() < 100


@every_choice
def test_codewords_stay_among_the_data_at_every_step_of_every_choice(choice):
    vq = quantizer(32, 4, kmeans_start=True, revive_dead=True, **choice)
    for step in range(60):
        z_e = 5 * random_latents(2, 4, 8, 8, seed=step)
        vq(z_e)
        length = 1 if choice["distance"] == "cosine" else z_e.norm(dim=1).mean()
        assert 0 < codewords_of(vq).norm(dim=1).max() < 10 * length


def test_cosine_codes_ignore_length_and_agree_with_vector_quantize_pytorch():
    from vector_quantize_pytorch import VectorQuantize

    vq, z_e = quantizer(64, 16, distance="cosine").eval(), random_latents(2, 16, 6, 7)
    theirs = VectorQuantize(dim=16, codebook_size=64, accept_image_fmap=True, use_cosine_sim=True).eval()
    theirs._codebook.embed.copy_(vq.codebook[None])
    assert torch.equal(vq.codes(z_e), theirs(z_e)[1])
    assert torch.equal(vq.codes(z_e), vq.codes(z_e * torch.linspace(0.1, 50, 7)))


def test_cosine_codewords_have_length_one_and_are_mean_directions():
    vq = quantizer(k=2, d=2, distance="cosine", kmeans_start=True)
    z_e = torch.tensor([[9.0, 0.0], [0.0, 2.0], [-3.0, 0.1], [-1.0, -0.1]]).T.reshape(1, 2, 2, 2)
    vq(z_e)
    torch.testing.assert_close(codewords_of(vq).norm(dim=1), torch.ones(2))
    due = unit(unit(z_e.flatten(2)[0].T)[:2].sum(0))
    assert (codewords_of(vq) - due).norm(dim=1).min() < 1e-5


def test_unit_divides_by_the_length_and_leaves_zero():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    assert unit(vectors).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
    unit(vectors).sum().backward()
    assert torch.isfinite(vectors.grad).all() and not vectors.grad[1].any()


@every_choice
def test_latents_that_are_not_numbers_show_in_the_loss(choice):
    assert quantizer(**choice).eval()(torch.full((1, 4, 2, 2), torch.nan)).latent_loss.isnan()


def test_idle_counts_the_batches_since_a_codeword_was_used():
    vq, z_e = quantizer(k=2, d=1), torch.zeros(1, 1, 1, 3)
    vq.codebook.copy_(torch.tensor([[0.0], [10.0]]))
    assert not vq.codebook_in_use.any()
    vq(z_e + 10)
    for _ in range(DEAD_AFTER - 1):
        vq(z_e)
    assert vq.idle.tolist() == [0, DEAD_AFTER - 1] and vq.codebook_in_use.all()
    vq(z_e)
    assert vq.codebook_in_use.tolist() == [True, False]


def test_a_network_saved_before_idle_batches_were_counted_gets_them():
    old = {"quantizer.cluster_size": torch.tensor([5.0, 0.0, 3.0])}
    assert with_idle(old)["quantizer.idle"].tolist() == [0, DEAD_AFTER, 0]
    new = old | {"quantizer.idle": torch.tensor([1, 2, 3])}
    assert with_idle(new) is new and with_idle({"other": torch.ones(1)}).keys() == {"other"}


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


def test_a_codeword_is_revived_when_it_is_dead_not_before_and_then_has_time_to_be_found():
    vq = quantizer(2, 1, revive_dead=True, kmeans_start=True)
    vq(torch.tensor([0.0, 0.1, 5.0, 5.1]).view(1, 1, 2, 2))
    far, near = int(vq.codebook.argmax()), torch.tensor([0.0, 0.1]).view(1, 1, 1, 2)
    for _ in range(DEAD_AFTER - 1):
        vq(near)
    assert vq.codebook[far] > 4 and vq.idle[far] == DEAD_AFTER - 1
    vq(near)
    assert vq.codebook[far] < 0.2 and vq.idle[far] == 0


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


def test_spherical_kmeans_finds_directions_of_length_one():
    angles = torch.tensor([0.0, 0.2, 2.0, 2.2, 4.0])
    points = torch.stack([angles.cos(), angles.sin()], 1)
    centres, counts = kmeans(points, 3, torch.Generator().manual_seed(0), spherical=True)
    assert sorted((torch.atan2(centres[:, 1], centres[:, 0]) % (2 * torch.pi)).tolist()) == pytest.approx([0.1, 2.1, 4.0], abs=1e-5)
    assert centres.norm(dim=1).tolist() == pytest.approx([1, 1, 1]) and counts.sum() == 5


def test_wrong_latents_and_codes_are_refused():
    with pytest.raises(LatentShapeError, match=r"\(batch, 4"):
        quantizer()(torch.zeros(1, 5, 2, 2))
    with pytest.raises(LatentShapeError, match="0..7"):
        quantizer().lookup(torch.full((1, 2, 2), 8))
