"""Two processes with gloo against one."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from drlib.profiles import QuantizerSettings
from drlib.segmentation.distributed import gather_rows, rank, sum_over_ranks, world_size
from drlib.segmentation.network import BOTTLENECKS

torch.set_num_threads(1)


def in_two_processes(work, folder: Path, *arguments) -> list:
    """Return what ``work(*arguments)`` returned in each of two processes that form one gloo group."""
    mp.spawn(_process, (work, str(folder), arguments), nprocs=2)
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


def _process(number: int, work, folder: str, arguments: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=2)
    torch.save(work(*arguments), f"{folder}/{number}.pt")
    dist.destroy_process_group()


def _sums_and_rows() -> dict:
    own = torch.tensor([1.0, 2.0]) * (rank() + 1)
    own.requires_grad_()
    total = sum_over_ranks(own)
    (total**2).sum().backward()
    rows = gather_rows(torch.full((2 + rank(), 3), rank()))
    return {
        "size": world_size(),
        "total": total.detach(),
        "gradient": own.grad,
        "rows": rows,
        "none": gather_rows(torch.zeros(2)[: 2 * rank()]),
    }


def test_sums_and_rows_of_two_processes(tmp_path):
    for result in in_two_processes(_sums_and_rows, tmp_path):
        assert result["size"] == 2
        assert result["total"].tolist() == [3, 6]
        assert result["gradient"].tolist() == [2 * 2 * 3, 2 * 2 * 6]  # both processes' gradients, summed
        assert result["rows"][:, 1].tolist() == [0, 0, 1, 1, 1]
        assert result["none"].shape == (2,)


SETTINGS = {
    "ema": {},
    "cosine": {"distance": "cosine", "estimator": "rotation"},
    "gradient": {"update": "gradient"},
    "authors": {"bias_correction": False, "kmeans_start": False, "revive_dead": False},
    "fsq": {"kind": "fsq", "fsq_levels": (4, 4)},
}


def _codebooks() -> dict:
    """Five updates, with a k-means start and a revival; of each batch, this process has the first slice or the other two."""
    part = {1: slice(0, 3), 2: (slice(0, 1), slice(1, 3))[rank()]}[world_size()]
    return {name: _codebook(QuantizerSettings(codebook_size=16, codeword_dim=4, **settings), part) for name, settings in SETTINGS.items()}


def _codebook(settings: QuantizerSettings, part: slice) -> dict:
    random = torch.Generator().manual_seed(0)
    vq = BOTTLENECKS[settings.kind](settings, seed=3).train()
    result = {}
    for step in range(5):
        if step == 2 and settings.kind == "codebook":
            with torch.no_grad():
                vq.codebook[:3] *= -50  # where no latent is
                vq.idle[:3] = 100
        z_e = torch.randn(3, 4, 6, 6, generator=random)[part].requires_grad_()
        quantized = vq(z_e)
        if quantized.latent_loss.requires_grad:
            quantized.latent_loss.backward()
            result[f"gradient of the latents {step}"] = gather_rows(z_e.grad) / world_size()  # as DDP averages
        if vq.codebook.requires_grad and settings.kind == "codebook":
            mean = sum_over_ranks(vq.codebook.grad) / world_size()
            result[f"gradient of the codebook {step}"] = mean
            with torch.no_grad():
                vq.codebook -= mean
            vq.codebook.grad = None
        result |= {f"loss {step}": quantized.latent_loss.detach(), f"counts {step}": quantized.counts}
        result |= {f"perplexity {step}": quantized.perplexity, f"codes {step}": gather_rows(quantized.codes)}
    return result | {name: value.clone() for name, value in vq.state_dict().items()}


@pytest.fixture(scope="module")
def codebooks(tmp_path_factory):
    """Of two processes, and of one."""
    return *in_two_processes(_codebooks, tmp_path_factory.mktemp("processes")), _codebooks()


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_learn_the_codebook_of_one(codebooks, name):
    first, second, alone = (result[name] for result in codebooks)
    assert first.keys() == second.keys() == alone.keys()
    for key, due in alone.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], due, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
    if name in ("ema", "cosine", "gradient"):
        assert alone["codebook"].norm(dim=1).max() < 10, "the codewords without latents were revived"


def test_evaluation_asks_no_other_process(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    for settings in SETTINGS.values():
        settings = QuantizerSettings(codebook_size=16, codeword_dim=4, **settings)
        quantized = BOTTLENECKS[settings.kind](settings).eval()(torch.randn(1, 4, 2, 2))
        assert quantized.counts.sum() == 4


def test_one_process_is_left_alone():
    tensor = torch.tensor([1.0, 2.0], requires_grad=True)
    assert (world_size(), rank()) == (1, 0)
    assert sum_over_ranks(tensor) is tensor
    assert torch.equal(gather_rows(tensor), tensor)
