"""The compiled inner loops say what the framework's operations say (drlib.segmentation.kernels)."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from drlib.segmentation import kernels
from drlib.segmentation.normalisation import EPSILON, SLOPE, NormalisedActivation
from drlib.segmentation.quantizer import nearest

compiled = pytest.mark.skipif(kernels.library() is None, reason="no C++ compiler here: the framework's operations are used")
searches = pytest.mark.skipif(not kernels.finds_nearest(torch.zeros(1, 1)), reason="this processor does not multiply bfloat16")
SHAPES = [(2, 16, 8, 8), (3, 24, 5, 7), (1, 32, 33, 3), (2, 8, 1, 1)]  # channels and pixels that fill no whole vector too


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def activation(channels: int) -> NormalisedActivation:
    module = NormalisedActivation(channels, 8)
    module.weight.data, module.bias.data = 1 + random(channels, seed=1) / 3, random(channels, seed=2)
    return module


def framework(x, module, shortcut=None):
    y = F.leaky_relu(F.group_norm(x, module.groups, module.weight, module.bias, EPSILON), SLOPE)
    return y if shortcut is None else y + shortcut


@compiled
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_shortcut", [False, True])
def test_normalised_activation_and_its_gradients_are_the_frameworks(shape, with_shortcut):
    module, results = activation(shape[1]), []
    for function in (module, lambda x, shortcut: framework(x, module, shortcut)):
        x = (3 + 2 * random(*shape)).requires_grad_()
        shortcut = random(*shape, seed=3).requires_grad_() if with_shortcut else None
        module.zero_grad()
        y = function(x, shortcut)
        (y * random(*shape, seed=4)).sum().backward()
        found = [y, x.grad, module.weight.grad, module.bias.grad, *([shortcut.grad] if with_shortcut else [])]
        results.append([value.detach().clone() for value in found])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 if shape[-1] > 1 else 2e-2)  # one pixel: 1/deviation is large


@compiled
def test_bfloat16_rounds_the_float32_result_and_keeps_its_gradient():
    module, x = activation(32), random(2, 32, 16, 16).bfloat16()
    exact = framework(x.float(), module)
    came = module(x)
    assert came.dtype == torch.bfloat16 and came.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(came.float(), exact.bfloat16().float()) or (came.float() - exact).abs().max() <= exact.abs().max() / 256
    ours, theirs = x.clone().requires_grad_(), x.float().requires_grad_()
    module(ours).float().square().sum().backward()
    framework(theirs, module).square().sum().backward()
    torch.testing.assert_close(ours.grad.float(), theirs.grad, rtol=0.05, atol=0.02)


@compiled
def test_results_do_not_depend_on_the_number_of_threads():
    module, x, latents, codebook = activation(32), random(3, 32, 20, 20), random(333, 16), random(70, 16, seed=1)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            given = x.clone().requires_grad_()
            y = module(given)
            y.square().sum().backward()
            results.append((y.detach(), given.grad, nearest(latents, codebook)))
    finally:
        torch.set_num_threads(before)
    for later in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], later, strict=True))


@searches
@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 1), (7, 31, 3), (100, 33, 64), (1000, 512, 64)])
@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_nearest_is_exhaustive_search_however_close_the_codewords(n, k, d, spread):
    latents, codebook = 1 + random(n, d), 1 + spread * random(k, d, seed=1)  # with the small spread bfloat16 sees them all as one
    distances = (latents[:, None].double() - codebook.double()).square().sum(2)
    found = kernels.nearest(latents, codebook)
    excess = distances.gather(1, found[:, None])[:, 0] - distances.min(1).values
    assert excess.max() <= 1e-5 * d
    assert (found == distances.argmin(1)).float().mean() > 0.98 and (spread < 1 or torch.equal(found, distances.argmin(1)))


@searches
def test_of_equal_codewords_the_first_is_nearest():
    codebook = torch.zeros(70, 4)
    codebook[[5, 37, 50]] = 1.0
    assert kernels.nearest(torch.ones(9, 4), codebook).tolist() == [5] * 9


def test_nan_stays_nan():
    x = random(1, 16, 4, 4)
    x[0, 0, 0, 0] = torch.nan
    assert all(activation(16)(given).isnan().any() for given in (x, x.bfloat16()))


@pytest.mark.parametrize("setting", [{"DRLIB_KERNELS": "off"}, {"CXX": "no-such-compiler", "PATH": "/nowhere"}])
def test_without_a_compiler_the_framework_is_used_and_the_network_agrees(setting, tmp_path):
    script = (
        "import torch; from drlib.profiles import load_profile; from drlib.segmentation import kernels;"
        "from drlib.segmentation.network import SegmentationNetwork;"
        "p = load_profile('smoke'); network = SegmentationNetwork(p.network, p.quantizer).eval();"
        "x = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0));"
        "print(kernels.library() is None, float(network.encode(x).double().square().sum()))"
    )
    plain = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    said = [
        subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True).stdout.split()
        for environment in (plain | setting, {})
    ]
    assert said[0][0] == "True"
    assert float(said[0][1]) == pytest.approx(float(said[1][1]), rel=1e-4)
