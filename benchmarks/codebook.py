"""The nearest codeword: one volume's latents against the whole codebook."""

from collections.abc import Callable
from functools import partial

import torch
from monai.networks.layers.vector_quantizer import EMAQuantizer
from torch import Tensor
from vector_quantize_pytorch import VectorQuantize

from benchmarks.plain import plain_codes
from benchmarks.timing import best_of, peak_bytes_apart, row
from drlib.segmentation.quantizer import nearest

OURS = "ours"
PEERS = ("matmul and topk, as the authors", "MONAI", "vector-quantize-pytorch")
NOTE = "all codewords are screened in bfloat16, in registers; those that its error leaves in doubt are compared in float32: the same codes"


def codeword_lookup(quick: bool = False) -> list[dict]:
    """Return the seconds of looking up 155 x 8 x 8 latents of dimension 64 among 512 codewords, against three others; same codes."""
    slices = 2 if quick else 155
    ways = {name: make_lookup(name, slices) for name in (OURS, *PEERS, "matrix product alone")}
    with torch.inference_mode():
        seconds = best_of(ways, 2 if quick else 40)
        codes = {name: ways[name]().flatten() for name in (OURS, *PEERS)}
    scratch = {name: peak_bytes_apart(partial(make_lookup, name, 20 * slices)) / 20 for name in (OURS, *PEERS)}
    return [
        row(
            "codeword_lookup",
            seconds[OURS],
            seconds[name],
            name,
            "s",
            NOTE,
            equal=(codes[name] == codes[OURS]).float().mean().item(),
            seconds_of_the_matrix_product_alone=seconds["matrix product alone"],
            scratch_mb=scratch[OURS] / 1e6,
            peer_scratch_mb=scratch[name] / 1e6,
        )
        for name in PEERS
    ]


def make_lookup(name: str, slices: int) -> Callable[[], Tensor]:
    """Return the lookup of the same random latents, one of several ways."""
    torch.manual_seed(0)
    latents, codebook = torch.randn(slices, 64, 8, 8), torch.randn(512, 64)
    if name == "MONAI":
        monai = EMAQuantizer(spatial_dims=2, num_embeddings=512, embedding_dim=64).eval()
        monai.embedding.weight.data.copy_(codebook)
        return torch.inference_mode()(lambda: monai.quantize(latents)[2])
    if name == "vector-quantize-pytorch":
        theirs = VectorQuantize(dim=64, codebook_size=512, accept_image_fmap=True).eval()
        theirs._codebook.embed.copy_(codebook[None])
        return torch.inference_mode()(lambda: theirs(latents)[1])
    if name == "matmul and topk, as the authors":
        return partial(plain_codes, latents, codebook)
    latents = latents.contiguous(memory_format=torch.channels_last)  # as our encoder leaves them
    rows = latents.movedim(1, -1).flatten(0, 2)
    if name == "matrix product alone":
        return lambda: rows @ codebook.T
    return lambda: nearest(latents.movedim(1, -1).flatten(0, 2), codebook)
