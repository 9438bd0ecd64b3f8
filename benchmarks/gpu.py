"""``make bench-gpu``: network and nearest codeword on an accelerator, in bfloat16, against the same peers; ``build/bench_gpu.json``.

``python -m benchmarks.gpu --device cuda``. With ``--device cpu --quick`` every line of it runs without an accelerator.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.network import convolution_roof, make_work, stage_cost
from benchmarks.plain import plain_codes
from benchmarks.timing import best_of, row
from drlib.artifacts import write_json
from drlib.profiles import load_profile
from drlib.segmentation.quantizer import nearest

BATCHES = (16, 64, 128, 256)


def network(device: str, quick: bool) -> list[dict]:
    """Return slices per second of the paper's network, ours in bfloat16 against the plain one under autocast, each at its best batch."""
    profile = load_profile("smoke" if quick else "paper")
    roof = convolution_roof(profile, device)["bf16"]
    rows = []
    for stage in ("encoder", "forward", "train_step"):
        best = {"plain": (0.0, 0), "bf16": (0.0, 0)}
        for batch in BATCHES[:1] if quick else BATCHES:
            for how in best:
                best[how] = max(best[how], (_rate(stage, how, profile, batch, device), batch))
        (ours, batch), (peer, their_batch) = best["bf16"], best["plain"]
        peer_name = f"the same network run plainly: autocast to bfloat16, channels first, eager, batch {their_batch}"
        share = stage_cost(profile, stage)["gflop"] * ours / roof
        rows.append(row(f"{stage}_slices_per_s", ours, peer, peer_name, "slices/s", "channels last", batch=batch, share_of_roof=share))
    return rows


def codeword_lookup(device: str, quick: bool) -> list[dict]:
    """Return seconds of looking up the latents of 16 volumes (155 x 8 x 8 each) among 512 codewords of dimension 64."""
    latents = torch.randn(2 if quick else 16 * 155, 64, 8, 8, device=device)
    codebook = torch.randn(512, 64, device=device)
    ways: dict[str, Callable[[], object]] = {
        "ours": _waited(lambda: nearest(latents.movedim(1, -1).flatten(0, 2), codebook), device),
        "matmul and topk, as the authors": _waited(partial(plain_codes, latents, codebook), device),
    }
    seconds = best_of(ways, 3 if quick else 30)
    return [row("codeword_lookup", seconds["ours"], seconds[peer], peer, "s", "one product and one argmin") for peer in list(ways)[1:]]


def _rate(stage: str, how: str, profile, batch: int, device: str) -> float:
    work = make_work(stage, how, profile, batch, device)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=how == "plain"):
        seconds = best_of({"it": work}, 5)["it"]
    return batch / seconds


def _waited(function: Callable[[], object], device: str) -> Callable[[], None]:
    def call() -> None:
        function()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return call


def main() -> int:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("build"))
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("bench-gpu: torch sees no CUDA device here. Run it on a machine with one, with a CUDA build of torch", file=sys.stderr)
        return 1
    rows = network(arguments.device, arguments.quick) + codeword_lookup(arguments.device, arguments.quick)
    for found in rows:
        print(f"{found['id']:<26} {found['ratio']:7.2f} x   {found['peer_name']}")
    write_json(arguments.out / "bench_gpu.json", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
