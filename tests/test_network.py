import platform
import resource

import pytest
import torch
import torch.nn.functional as F

from drlib.profiles import NetworkSettings, QuantizerSettings
from drlib.segmentation.network import ImageSizeError, SegmentationNetwork
from drlib.segmentation.normalisation import NormalisedActivation

torch.set_num_threads(1)
SMALL = NetworkSettings(filters=(8, 16, 16))
CODEBOOK = QuantizerSettings(codebook_size=16, codeword_dim=8)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_papers_network_has_the_papers_size_within_five_percent_and_its_latent():
    network = SegmentationNetwork(NetworkSettings(), QuantizerSettings()).eval()
    size = sum(p.numel() for p in network.parameters()) + network.quantizer.codebook.numel()
    assert size == pytest.approx(3_323_908, rel=0.05)
    with torch.inference_mode():
        assert network.encode(torch.zeros(1, 4, 256, 256)).shape == (1, 64, 8, 8)


def test_any_divisible_size_works_also_non_square():
    network = SegmentationNetwork(SMALL, CODEBOOK).eval()
    output = network(images(2, 4, 24, 40))
    assert output.quantized.codes.shape == (2, 6, 10)
    assert output.logits.shape == (2, 4, 24, 40)
    torch.testing.assert_close(output.logits, network.decode(network.quantizer.lookup(network.encode_to_codes(images(2, 4, 24, 40)))))


@pytest.mark.parametrize("shape", [(1, 4, 30, 32), (1, 3, 32, 32), (4, 32, 32), (1, 4, 0, 32)])
def test_a_wrong_size_says_what_is_due(shape):
    with pytest.raises(ImageSizeError, match="divisible by 4"):
        SegmentationNetwork(SMALL, CODEBOOK).encode(torch.zeros(shape))


def test_slices_do_not_influence_one_another():
    network = SegmentationNetwork(SMALL, CODEBOOK).eval()
    batch = images(3, 4, 32, 32)
    torch.testing.assert_close(network.encode(batch)[1:2], network.encode(batch[1:2]))


def test_the_seed_determines_the_weights_and_no_global_state_is_touched():
    state = torch.get_rng_state()
    first, again, other = (SegmentationNetwork(SMALL, CODEBOOK, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    first, again, other = (torch.cat([p.flatten() for p in network.parameters()]) for network in (first, again, other))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_bf16_is_close_to_fp32_and_keeps_float32_at_the_seams():
    network = SegmentationNetwork(SMALL, CODEBOOK).eval()
    exact = network.encode(images(2, 4, 32, 32))
    network.precision = "bf16"
    rounded = network.encode(images(2, 4, 32, 32))
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    assert (rounded - exact).norm() / exact.norm() < 0.03
    network.train()(images(2, 4, 32, 32)).logits.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in network.encoder.parameters())


@pytest.mark.parametrize("shape", [(2, 16, 6, 10), (1, 8, 2, 3), (3, 24, 5, 3)])
def test_normalised_activation_and_its_gradients_are_those_of_the_framework(shape):
    layer = NormalisedActivation(shape[1], 8)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
        layer.bias.normal_(generator=torch.Generator().manual_seed(2))
    ours, theirs = (images(*shape).add(0.5).requires_grad_() for _ in range(2))
    weight, bias = (p.detach().clone().requires_grad_() for p in (layer.weight, layer.bias))
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    result, due = layer(ours), F.leaky_relu(F.group_norm(theirs, 8, weight, bias), 0.2)
    result.backward(gradient), due.backward(gradient)
    for came, wanted in ((result, due), (ours.grad, theirs.grad), (layer.weight.grad, weight.grad), (layer.bias.grad, bias.grad)):
        torch.testing.assert_close(came, wanted, rtol=1e-4, atol=2e-4)


def test_normalised_activation_in_bf16_has_gradients_within_rounding():
    layer, exact = NormalisedActivation(16, 8), NormalisedActivation(16, 8)
    rough, fine = images(4, 16, 16, 16).bfloat16().requires_grad_(), images(4, 16, 16, 16).bfloat16().float().requires_grad_()
    gradient = images(4, 16, 16, 16).roll(1, 3)
    layer(rough).backward(gradient.bfloat16()), exact(fine).backward(gradient)
    assert (rough.grad - fine.grad).norm() / fine.grad.norm() < 0.01
    assert (layer.weight.grad - exact.weight.grad).norm() / exact.weight.grad.norm() < 0.02


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told to keep memory")
def test_a_network_keeps_its_memory_instead_of_asking_for_cleared_pages_again():
    SegmentationNetwork(SMALL, CODEBOOK)
    for _ in range(3):
        torch.ones(5_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(5_000_000)  # 20 MB: 4,883 pages each time, where they are given back
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 5_000
