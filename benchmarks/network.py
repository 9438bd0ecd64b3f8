"""The network: encoder, forward pass and training step against the same network run plainly, and where each stands below the roof."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.plain import PlainNetwork, plain_codes
from benchmarks.timing import best_of, best_of_apart, row
from drlib.profiles import NetworkSettings, Profile, load_profile
from drlib.segmentation.losses import segmentation_loss, total_loss
from drlib.segmentation.memory import keep_freed_memory
from drlib.segmentation.network import Convolution, SegmentationNetwork
from drlib.segmentation.normalisation import NormalisedActivation

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
BATCHES = (1, 2, 4, 8)
TRAINING_BATCHES = (4, 8, 16)
PLAIN = "the same network run plainly: float32, channels first, eager"
NOTES = {
    "encoder": "bfloat16 with channels last doubles the convolutions' rate; normalization, activation and shortcut are one compiled "
    "function; freed memory stays in the process",
    "forward": "as the encoder; the decoder's 1x1 convolutions come before the interpolation, where there are a quarter of the pixels",
    "train_step": "as the forward pass; the gradient of normalization and activation is one compiled function too, and half the bytes move",
}


def network_speed(quick: bool = False) -> tuple[list[dict], list[dict]]:
    """Return the rows of slices per second of the paper's network (256 x 256), and the points of the roofline.

    Each side works at the batch size that suits it best, in a process of its own. A point of the roofline has a stage's arithmetic (GFLOP
    per slice), its traffic (GB per slice), and the rate it achieves; the first holds the machine's roofs.
    """
    profile = load_profile("smoke" if quick else "paper")
    roof = convolution_roof(profile)
    rows, points = [], [{"stage": "roof", **roof, "memory_gb_per_s": memory_bandwidth(quick)}]
    for stage in ("encoder", "forward", "train_step"):
        found = rates(stage, profile, TRAINING_BATCHES if stage == "train_step" else BATCHES, quick)
        costs = {precision: stage_cost(profile, stage, precision) for precision in DTYPES}
        for precision, cost in costs.items():
            points.append({"stage": stage, "precision": precision, **cost, "gflop_per_s": cost["gflop"] * found[precision]["slices_per_s"]})
        rows.append(
            row(
                f"{stage}_slices_per_s",
                found["bf16"]["slices_per_s"],
                found["plain"]["slices_per_s"],
                f"{PLAIN}, batch {found['plain']['batch']}",
                "slices/s",
                NOTES[stage],
                batch=found["bf16"]["batch"],
                share_of_roof=points[-1]["gflop_per_s"] / roof["bf16"],
                ratio_fp32=found["fp32"]["slices_per_s"] / found["plain"]["slices_per_s"],
                ratio_if_the_peer_kept_its_memory=found["bf16"]["slices_per_s"] / found["plain, memory kept"]["slices_per_s"],
            )
        )
    return rows, points


def rates(stage: str, profile: Profile, batches: tuple[int, ...], quick: bool) -> dict[str, dict[str, float]]:
    """Return for each way of working its highest ``slices_per_s`` over batch sizes, and that ``batch``."""
    batches = batches[:1] if quick else batches
    most = batches if stage != "train_step" else batches[-1:]  # the memory of all of them at once would not suffice
    groups = [{"plain": batches, "bf16": batches}, {"plain, memory kept": most, "fp32": most}]
    found: dict[str, dict[str, float]] = {}
    for group in groups:
        makers = {(how, batch): partial(make_work, stage, how, profile, batch) for how, sizes in group.items() for batch in sizes}
        seconds = best_of_apart(makers, repeats=1 if quick else 3 if stage == "train_step" else 6)
        for (how, batch), value in seconds.items():
            if batch / value > found.get(how, {}).get("slices_per_s", 0):
                found[how] = {"slices_per_s": batch / value, "batch": batch}
    return found


def make_work(stage: str, how: str, profile: Profile, batch: int, device: str = "cpu") -> Callable[[], object]:
    """Return a function that does one batch of ``stage``: ``plain``, ``plain, memory kept``, or ours in ``fp32`` or ``bf16``."""
    torch.manual_seed(0)
    size = profile.preprocessing.image_size
    images = torch.randn(batch, 4, size, size, device=device)
    plain = how.startswith("plain")
    if how == "plain, memory kept":
        keep_freed_memory()
    if plain:
        network = PlainNetwork(profile.network, profile.quantizer.codeword_dim).to(device)
        codebook = torch.randn(profile.quantizer.codebook_size, profile.quantizer.codeword_dim, device=device)
        encode, decode = network.encoder, network.decoder
        codes = partial(plain_codes, codebook=codebook)
    else:
        network = SegmentationNetwork(profile.network, profile.quantizer, precision=how).to(device)
        encode, decode, codes = network.encode, network.decode, network.quantizer.codes
    if stage == "train_step":
        return partial(
            _train_step, network.train(), encode, decode, images, torch.randint(0, 4, (batch, size, size), device=device).byte(), plain
        )
    network.eval()
    functions = {"encoder": lambda: encode(images), "forward": lambda: _forward(encode, decode, codes, network, images)}
    return partial(_finished, torch.inference_mode()(functions[stage]), device)


def _forward(encode, decode, codes, network, images: Tensor) -> Tensor:
    latents = encode(images)
    codes(latents)
    return decode(latents)


def _train_step(network: nn.Module, encode, decode, images: Tensor, labels: Tensor, plain: bool) -> None:
    if not hasattr(network, "optimizer"):
        network.optimizer = torch.optim.Adam(network.parameters(), 1e-4, fused=not plain)
    logits = decode(encode(images)).float()
    loss = total_loss(0, *segmentation_loss(logits, labels))
    network.optimizer.zero_grad()
    loss.backward()
    network.optimizer.step()
    _finished(lambda: None, images.device.type)


def _finished(function: Callable[[], object], device: str) -> None:
    function()
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def stage_cost(profile: Profile, stage: str, precision: str = "bf16") -> dict[str, float]:
    """Return ``gflop``, multiplications and additions of the convolutions, and ``gbyte``, what layers read and write, per slice.

    A training step is counted as three forward passes.
    """
    network = SegmentationNetwork(profile.network, profile.quantizer).eval()
    part = network.encoder if stage == "encoder" else network
    flop, numbers = [], []

    def count(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        numbers.append(output.numel() + sum(value.numel() for value in inputs if value is not None))
        if isinstance(module, Convolution):
            flop.append(2 * output.numel() * module.weight[0].numel())

    for module in part.modules():
        if isinstance(module, Convolution | NormalisedActivation):
            module.register_forward_hook(count)
    size = profile.preprocessing.image_size
    with torch.inference_mode():
        latents = network.encode(torch.zeros(1, 4, size, size))
        if stage != "encoder":
            network.decode(latents)
    passes = 3 if stage == "train_step" else 1
    return {"gflop": passes * sum(flop) / 1e9, "gbyte": passes * sum(numbers) * (2 if precision == "bf16" else 4) / 1e9}


def convolution_roof(profile: Profile, device: str = "cpu") -> dict[str, float]:
    """Return the highest GFLOP/s, per precision, of a 3x3 convolution of the network alone, its input in place, channels last."""
    return {
        name: max(_convolution_rates(profile.network, profile.preprocessing.image_size, dtype, device)) for name, dtype in DTYPES.items()
    }


def _convolution_rates(settings: NetworkSettings, size: int, dtype: torch.dtype, device: str) -> list[float]:
    keep_freed_memory()
    rates = []
    for level, channels in enumerate(settings.filters[:3]):
        side = size >> level
        x, weight = (torch.randn(*shape, device=device).to(dtype, memory_format=torch.channels_last) for shape in (
            (4, channels, side, side), (channels, channels, 3, 3)))  # fmt: skip
        with torch.inference_mode():
            seconds = best_of({"it": partial(_finished, partial(torch.conv2d, x, weight, padding=1), device)}, 12)["it"]
        rates.append(2 * x.numel() * channels * 9 / seconds / 1e9)
    return rates


def memory_bandwidth(quick: bool = False) -> float:
    """Return GB/s of adding two arrays that fit no cache into a third."""
    n = 2**16 if quick else 2**26
    a, b, c = torch.ones(3, n)
    return 12 * n / best_of({"it": lambda: torch.add(a, b, out=c)}, 8)["it"] / 1e9
