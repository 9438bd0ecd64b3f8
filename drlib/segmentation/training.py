"""Training of the segmentation network: Eq. 4 minimised, on one device or many, resumable at any moment.

A checkpoint is one safetensors file (weights, moving averages, optimizer, sums of the unfinished epoch) whose header carries the rest as
JSON, so that it is replaced in one step. Every random draw is determined by the seed, the epoch and the step: nothing else needs to be
stored, and on a CPU a training that was killed and resumed ends with the same bits as one that was not. No pickle.

In a distributed training (:func:`launch`) each process has a part of every batch, and all together do what one process does with the
whole of it. The first writes; all read.
"""

import json
import logging
import math
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from drlib.artifacts import content_key, remove_temporary_files, write_atomically
from drlib.errors import DeepRadiomicsError
from drlib.profiles import Profile, TrainingSettings
from drlib.seeds import torch_generator
from drlib.segmentation.augmentation import augment
from drlib.segmentation.dice import evaluate_dice
from drlib.segmentation.distributed import gather_rows
from drlib.segmentation.losses import segmentation_loss, total_loss
from drlib.segmentation.model import SliceSource, TrainedModel, continue_from, save_model, shipped_model
from drlib.segmentation.network import Precision, SegmentationNetwork
from drlib.segmentation.quantizer import perplexity
from drlib.segmentation.sampling import Batch, TrainingSlices

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger(__name__)
CHECKPOINT, LOG, EARLY = "checkpoint.safetensors", "log.csv", "early"
WARM_UP = 0.2  # share of the steps in which a one-cycle schedule rises
LATENTS_PER_CODEWORD = 32  # gathered for the k-means start
READ_AHEAD = 2  # batches made ready while the network is busy
TERMS = ("loss", "latent_loss", "dice_loss", "focal_loss")


class TrainingError(DeepRadiomicsError):
    """A training cannot start, resume or go on; the message says what to do."""


@dataclass(frozen=True)
class Validation:
    """Patients whose 3-D Dice is computed every ``every`` epochs and after the last."""

    store: SliceSource
    ids: Sequence[str] | None = None
    every: int = 1


def launch(profile: Profile, device: str = "cpu", devices: int = 1, nodes: int = 1) -> "Fabric":
    """Return the processes that train ``profile`` together: one for each of ``devices`` (``cpu``, ``cuda``) on each of ``nodes``.

    Those that torchrun or srun started are found; where neither did, this one starts the others of its node by running the command
    that started itself once more (not in a notebook), and ``MASTER_ADDR``, ``MASTER_PORT`` and ``NODE_RANK`` say where the other nodes
    are. Raises TrainingError.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment
    from lightning_fabric.strategies import DDPStrategy

    strategy, plugins = "auto", [LightningEnvironment()]  # one process is one also within a cluster's job of several tasks
    if devices * nodes > 1 or "WORLD_SIZE" in os.environ:
        # The buffers are the codebook and its averages: equal at the start, and kept equal by the quantizer, not copied from rank 0 in each
        # forward pass. A codebook that learns by gradient is an unused parameter while the latents are still continuous.
        plugins = []  # ask the environment: torchrun, Slurm, or none
        strategy = DDPStrategy(forward_sync_buffers=False, find_unused_parameters=profile.quantizer.update == "gradient")
        warnings.filterwarnings("ignore", "Grad strides do not match")  # of 1x1 convolutions: one layout by two names
    try:
        fabric = Fabric(accelerator=device, devices=devices, num_nodes=nodes, strategy=strategy, plugins=plugins)
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"cannot train on {nodes} x {devices} x {device}: {error}") from error
    return fabric


def train(
    store: SliceSource,
    profile: Profile,
    folder: Path,
    *,
    ids: Sequence[str] | None = None,
    validation: Validation | None = None,
    fabric: "Fabric | None" = None,
    precision: Precision | None = None,
    seed: int = 0,
    progress: bool = True,
    memory_gib: float = 4.0,
    checkpoint_minutes: float = 10.0,
    stop_after: int | None = None,
) -> pd.DataFrame:
    """Train a network on the patients ``ids`` of a store (all by default) and write it to ``folder`` (read it with ``load_model``).

    Resumes where a killed training of the same profile, patients and seed left ``folder``: at the last checkpoint, written after each
    epoch and every ``checkpoint_minutes``. Models after epochs 1, 2, 5, 10, 20, 50, ... stay in ``folder/early/epoch_NNNN``.
    ``fabric``: the processes and devices to train on, from :func:`launch`; by default one process on the CPU. Each calls this function.
    ``precision`` overrides the profile's. ``memory_gib``: for the slices, in each process. ``stop_after``: end after this epoch as if
    killed.
    Returns the log: one row per epoch with loss, latent_loss, dice_loss, focal_loss, learning_rate, usage (codewords used in the epoch),
    perplexity (over the epoch), seconds, and mean dice_<region> where validated.
    Raises TrainingError. Source: Methods, "Training setups".
    """
    folder = Path(folder)
    if precision:
        profile = profile.model_copy(update={"training": profile.training.model_copy(update={"precision": precision})})
    fabric = fabric or launch(profile)
    slices = TrainingSlices(store, profile.training, ids=ids, seed=seed, memory_gib=memory_gib)
    run = _Training(profile, slices, fabric, seed)
    checkpoints = _Checkpoints(folder / CHECKPOINT, run, checkpoint_minutes)
    checkpoints.restore()
    last = min(profile.training.epochs, stop_after or profile.training.epochs)
    with _bar(run, last, progress) as bar:
        while run.epoch <= last:
            row = run.train_epoch(bar, checkpoints.save_if_due)
            if validation and (run.epoch % validation.every == 0 or run.epoch == profile.training.epochs):
                row |= _mean_dice(run, validation)
            run.finish_epoch(row)
            if fabric.is_global_zero:
                if _is_early(len(run.rows)):
                    save_model(folder / EARLY / f"epoch_{len(run.rows):04d}", run.network, profile, run.provenance())
                write_atomically(folder / LOG, lambda path: pd.DataFrame(run.rows).to_csv(path, index=False))
                checkpoints.save()  # last: from here on the epoch is done
                logger.info(_line(run.rows[-1], profile.training.epochs))
    if len(run.rows) == profile.training.epochs and fabric.is_global_zero:
        save_model(folder, run.network, profile, run.provenance())
    fabric.barrier()
    return pd.DataFrame(run.rows)


def learning_rate(step: int, total: int, settings: TrainingSettings) -> float:
    """Return the learning rate of a step (0 .. total - 1): constant, or one cycle.

    One cycle: a cosine up over the first fifth, a cosine down to zero over the rest.
    """
    if settings.schedule == "constant":
        return settings.learning_rate
    progress = (step + 1) / (total + 1)
    phase = progress / WARM_UP if progress < WARM_UP else 1 - (progress - WARM_UP) / (1 - WARM_UP)
    return settings.learning_rate * (1 - math.cos(math.pi * phase)) / 2


class _Objective(nn.Module):
    """Eq. 4 on a part of a batch: what DDP sees as the network."""

    def __init__(self, network: SegmentationNetwork, settings: TrainingSettings):
        super().__init__()
        self.network, self.settings = network, settings

    def forward(self, images: Tensor, labels: Tensor, quantize: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, its terms (4,) and the counts of the codewords (K,), all of them of the whole batch."""
        output = self.network(images, quantize)
        dice, focal = segmentation_loss(output.logits, labels, dice=self.settings.dice, gamma=self.settings.focal_gamma)
        latent = output.quantized.latent_loss
        loss = total_loss(latent, dice, focal)
        return loss, torch.stack([loss, latent, dice, focal]).detach(), output.quantized.counts


@dataclass
class _Training:
    """Network and optimizer meeting the slices, and how far they have come: everything that a checkpoint holds."""

    profile: Profile
    slices: TrainingSlices
    fabric: "Fabric"
    seed: int
    rows: list[dict[str, float]] = field(init=False, default_factory=list)  # of the log: one for each epoch done
    step: int = field(init=False, default=0)  # steps done of the epoch after these
    seconds: float = field(init=False, default=0.0)  # spent on them
    sums: Tensor = field(init=False)  # of the loss and its terms over them
    counts: Tensor = field(init=False)  # of the codewords over them
    network: SegmentationNetwork = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self):
        profile, settings = self.profile, self.profile.training
        self.network = SegmentationNetwork(profile.network, profile.quantizer, seed=self.seed, precision=settings.precision)
        if settings.start_from:
            continue_from(self.network, shipped_model(settings.start_from))
        self.objective = self.fabric.setup_module(_Objective(self.network, settings))
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
        )
        self._forget_steps()

    @property
    def key(self) -> str:
        """What a checkpoint must have been made with to be resumed."""
        tensors = sorted(self.network.state_dict())  # of this version of the network
        return content_key({"profile": self.profile.hash, "patients": self.slices.patients, "seed": self.seed, "tensors": tensors})

    @property
    def epoch(self) -> int:
        """The epoch that is being trained: 1, 2, ..."""
        return len(self.rows) + 1

    @property
    def steps_done(self) -> int:
        """Steps since the beginning of the training."""
        return len(self.rows) * self.slices.steps_per_epoch + self.step

    def train_epoch(self, bar: tqdm, after_step: Callable[[], None]) -> dict[str, float]:
        """Train for the rest of the epoch and return its row of the log; ``after_step`` is called after each step but the last."""
        start = time.perf_counter() - self.seconds
        quantize = self.epoch > self.profile.quantizer.start_epoch
        if quantize and not self.network.quantizer.started:
            self._start_codebook()
        self.network.train()
        for batch in self.batches(self.step, self.fabric.global_rank, self.fabric.world_size):
            terms, counts = self._step(batch, quantize)
            self.sums += terms
            self.counts += counts
            self.step += 1
            self.seconds = time.perf_counter() - start
            bar.set_postfix(epoch=self.epoch, loss=f"{terms[0]:.3f}", refresh=False)
            bar.update()
            if self.step < self.slices.steps_per_epoch:
                after_step()
        row = {"epoch": self.epoch} | dict(zip(TERMS, (self.sums / self.slices.steps_per_epoch).tolist(), strict=True))
        row |= {"learning_rate": self.optimizer.param_groups[0]["lr"], "usage": int((self.counts > 0).sum())}
        return row | {"perplexity": float(perplexity(self.counts)) if quantize else float("nan")}

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Add the row of the epoch to the log and turn to the next epoch."""
        self.rows.append(row | {"seconds": round(self.seconds, 2)})
        self._forget_steps()

    def batches(self, first: int = 0, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """Yield the augmented batches of the epoch, from batch ``first`` on, on the device."""
        device, settings, background = self.fabric.device, self.profile.training, self.profile.preprocessing.background
        ready = _ahead(self.slices.batches(self.epoch, first, rank, world_size), pin=device.type == "cuda")
        for number, batch in enumerate(ready, first):
            images = batch.images.to(device, non_blocking=True).float()
            labels = batch.labels.to(device, non_blocking=True)
            if settings.augmentation:
                generator = torch_generator(self.seed, "augmentation", self.epoch, number)
                images, labels = augment(images, labels, background, generator, size=batch.size, part=batch.part)
            yield Batch(images, labels, batch.size, batch.part)

    def provenance(self) -> dict[str, Any]:
        """Return what a model card says of this training so far."""
        return {
            "continued_from": self.profile.training.start_from,
            "epochs": len(self.rows),
            "patients": len(self.slices.patients),
            "slices_seen": len(self.rows) * self.slices.slices_per_epoch,
            "seed": self.seed,
            "devices": f"{self.fabric.world_size} x {self.fabric.device.type}",
            "training_minutes": round(sum(row["seconds"] for row in self.rows) / 60, 1),
            "torch": torch.__version__,
        }

    def _forget_steps(self) -> None:
        self.step, self.seconds = 0, 0.0
        self.sums = torch.zeros(len(TERMS), dtype=torch.float64)
        self.counts = torch.zeros(self.profile.quantizer.codebook_size, dtype=torch.int64)

    def _step(self, batch: Batch, quantize: bool) -> tuple[Tensor, Tensor]:
        settings = self.profile.training
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.steps_done, settings.epochs * self.slices.steps_per_epoch, settings)
        loss, terms, counts = self.objective(batch.images, batch.labels, quantize)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.steps_done}: lower training.learning_rate or set training.gradient_clip"
            )
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        if settings.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_clip)
        self.optimizer.step()
        return terms.double().cpu(), counts.cpu()

    @torch.no_grad()
    def _start_codebook(self) -> None:
        """Place the codewords at k-means centres of the latents of the coming epoch's first batches.

        Every process sees the whole of these few batches.
        """
        self.network.eval()
        latents: list[Tensor] = []
        for batch in self.batches():
            latents.append(self.network.encode(batch.images).movedim(1, -1).flatten(0, 2))
            if sum(map(len, latents)) >= LATENTS_PER_CODEWORD * self.profile.quantizer.codebook_size:
                break
        self.network.quantizer.start(torch.cat(latents), batches=len(latents))


def _ahead(batches: Iterator[Batch], pin: bool) -> Iterator[Batch]:
    """Yield batches that a thread reads while the network is busy, in page-locked memory where they go to a GPU."""

    def read() -> Batch | None:
        batch = next(batches, None)
        return Batch(batch.images.pin_memory(), batch.labels.pin_memory(), batch.size, batch.part) if batch and pin else batch

    with ThreadPoolExecutor(1) as thread:
        futures = deque(thread.submit(read) for _ in range(READ_AHEAD))
        while batch := futures.popleft().result():
            futures.append(thread.submit(read))
            yield batch


def _bar(run: _Training, last: int, progress: bool) -> tqdm:
    total, disable = last * run.slices.steps_per_epoch, None if progress and run.fabric.is_global_zero else True
    return tqdm(total=total, initial=run.steps_done, desc="train", unit="step", disable=disable)


def _line(row: dict[str, float], epochs: int) -> str:
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
    return f"epoch {row['epoch']}/{epochs}: {numbers}"


def _is_early(epoch: int) -> bool:
    """1, 2, 5, 10, 20, 50, 100, ..."""
    return epoch / 10 ** math.floor(math.log10(epoch)) in (1, 2, 5)


def _mean_dice(run: _Training, validation: Validation) -> dict[str, float]:
    """Return the mean Dice of each region, the patients being shared among the processes."""
    ids = list(validation.store.patients if validation.ids is None else validation.ids)
    model = TrainedModel(run.network, run.profile, {})
    table = evaluate_dice(model, validation.store, ids[run.fabric.global_rank :: run.fabric.world_size])
    rows = gather_rows(torch.tensor(table.to_numpy(float), device=run.fabric.device)).cpu().numpy()
    return {f"dice_{region}": float(value) for region, value in pd.DataFrame(rows, columns=table.columns).mean().items()}


@dataclass
class _Checkpoints:
    """The one file that a training is resumed from. The first process writes and reads it."""

    path: Path
    run: _Training
    minutes: float
    saved: float = field(init=False, default_factory=time.monotonic)

    def save_if_due(self) -> None:
        """Write the checkpoint if the last one is older than ``minutes``."""
        if self.run.fabric.is_global_zero and time.monotonic() - self.saved >= 60 * self.minutes:
            self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        run = self.run
        tensors = {f"network.{name}": value for name, value in run.network.state_dict().items()}
        for number, state in run.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        tensors |= {"epoch.sums": run.sums, "epoch.counts": run.counts}
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        rows = [{name: None if value != value else value for name, value in row.items()} for row in run.rows]
        rest = json.dumps({"key": run.key, "rows": rows, "step": run.step, "seconds": run.seconds})
        write_atomically(self.path, lambda temporary: save_file(tensors, temporary, metadata={"training": rest}))
        self.saved = time.monotonic()

    def restore(self) -> None:
        """Bring the training of every process to the state of the checkpoint, if there is one."""
        fabric, content = self.run.fabric, None
        if fabric.is_global_zero:
            remove_temporary_files(self.path.parent)
            try:
                content = self._read()
            except TrainingError as error:  # for all to raise: none must be left waiting
                content = error
        content = fabric.broadcast(content)
        if isinstance(content, TrainingError):
            raise content
        if content:
            self._apply(*content)

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                rest = json.loads((file.metadata() or {})["training"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise TrainingError(f"{self.path} is not a checkpoint ({error}). Delete it to train from the beginning.") from error
        if rest["key"] != self.run.key:
            raise TrainingError(
                f"{self.path} belongs to another profile, seed or version, or other patients. Delete it or choose another folder."
            )
        return rest, tensors

    def _apply(self, rest: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        run, parts = self.run, {"network": {}, "optimizer": {}, "epoch": {}}
        for name, value in tensors.items():
            part, _, name = name.partition(".")
            parts[part][name] = value
        run.network.load_state_dict(parts["network"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimizer"].items():
            number, _, moment = name.partition(".")
            state.setdefault(int(number), {})[moment] = value
        run.optimizer.load_state_dict({"state": state, "param_groups": run.optimizer.state_dict()["param_groups"]})
        run.sums, run.counts = parts["epoch"]["sums"], parts["epoch"]["counts"]
        run.rows = [{name: math.nan if value is None else value for name, value in row.items()} for row in rest["rows"]]
        run.step, run.seconds = rest["step"], rest["seconds"]
