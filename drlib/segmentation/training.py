"""Training of the segmentation network: Eq. 4 minimised, one checkpoint per epoch, resumable at any moment.

A checkpoint is one safetensors file (weights, moving averages, optimizer) whose header carries the rest as JSON, so that it is replaced
in one step. Every random draw is determined by the seed and the epoch: nothing else needs to be stored, and on a CPU a training that was
killed and resumed ends with the same bits as one that was not. No pickle.
"""

import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from drlib.artifacts import content_key, write_atomically
from drlib.errors import DeepRadiomicsError
from drlib.profiles import Profile, TrainingSettings
from drlib.seeds import torch_generator
from drlib.segmentation.augmentation import augment
from drlib.segmentation.dice import evaluate_dice
from drlib.segmentation.losses import segmentation_loss, total_loss
from drlib.segmentation.model import SliceSource, TrainedModel, continue_from, save_model, shipped_model
from drlib.segmentation.network import SegmentationNetwork
from drlib.segmentation.quantizer import perplexity
from drlib.segmentation.sampling import Batch, TrainingSlices

logger = logging.getLogger(__name__)
CHECKPOINT, LOG, EARLY = "checkpoint.safetensors", "log.csv", "early"
WARM_UP = 0.2  # share of the steps in which a one-cycle schedule rises
LATENTS_PER_CODEWORD = 32  # gathered for the k-means start


class TrainingError(DeepRadiomicsError):
    """A training cannot start, resume or go on; the message says what to do."""


@dataclass(frozen=True)
class Validation:
    """Patients whose 3-D Dice is computed every ``every`` epochs and after the last."""

    store: SliceSource
    ids: Sequence[str] | None = None
    every: int = 1


def train(
    store: SliceSource,
    profile: Profile,
    folder: Path,
    *,
    ids: Sequence[str] | None = None,
    validation: Validation | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: bool = True,
    memory_gib: float = 4.0,
    stop_after: int | None = None,
) -> pd.DataFrame:
    """Train a network on the patients ``ids`` of a store (all by default) and write it to ``folder`` (read it with ``load_model``).

    Resumes where a killed training of the same profile, patients and seed left ``folder``. Models after epochs 1, 2, 5, 10, 20,
    50, ... stay in ``folder/early/epoch_NNNN``. ``stop_after``: end after this epoch as if killed.
    Returns the log: one row per epoch with loss, latent_loss, dice_loss, focal_loss, learning_rate, usage (codewords used in the epoch),
    perplexity (over the epoch), seconds, and mean dice_<region> where validated.
    Raises TrainingError. Source: Methods, "Training setups".
    """
    folder = Path(folder)
    slices = TrainingSlices(store, profile.training, ids=ids, seed=seed, memory_gib=memory_gib)
    run = _Training(profile, slices, device, seed)
    rows = _resume(folder / CHECKPOINT, run)
    last = min(profile.training.epochs, stop_after or profile.training.epochs)
    with _bar(run, len(rows), last, progress) as bar:
        for epoch in range(len(rows) + 1, last + 1):
            start = time.perf_counter()
            row = {"epoch": epoch} | run.epoch(epoch, bar)
            if validation and (epoch % validation.every == 0 or epoch == profile.training.epochs):
                row |= _mean_dice(run, validation)
            rows.append(row | {"seconds": round(time.perf_counter() - start, 2)})
            if _is_early(epoch):
                save_model(folder / EARLY / f"epoch_{epoch:04d}", run.network, profile, run.provenance(rows))
            _save_checkpoint(folder / CHECKPOINT, run, rows)  # last: from here on the epoch is done
            write_atomically(folder / LOG, lambda path: pd.DataFrame(rows).to_csv(path, index=False))
            logger.info(_line(rows[-1], profile.training.epochs))
    if len(rows) == profile.training.epochs:
        save_model(folder, run.network, profile, run.provenance(rows))
    return pd.DataFrame(rows)


def learning_rate(step: int, total: int, settings: TrainingSettings) -> float:
    """Return the learning rate of a step (0 .. total - 1): constant, or one cycle.

    One cycle: a cosine up over the first fifth, a cosine down to zero over the rest.
    """
    if settings.schedule == "constant":
        return settings.learning_rate
    progress = (step + 1) / (total + 1)
    phase = progress / WARM_UP if progress < WARM_UP else 1 - (progress - WARM_UP) / (1 - WARM_UP)
    return settings.learning_rate * (1 - math.cos(math.pi * phase)) / 2


@dataclass
class _Training:
    """Network and optimizer, and one epoch of their meeting the slices."""

    profile: Profile
    slices: TrainingSlices
    device: str
    seed: int
    network: SegmentationNetwork = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self):
        profile, settings = self.profile, self.profile.training
        self.network = SegmentationNetwork(profile.network, profile.quantizer, seed=self.seed, precision=settings.precision)
        if settings.start_from:
            continue_from(self.network, shipped_model(settings.start_from))
        self.network.to(self.device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
        )

    @property
    def key(self) -> str:
        """What a checkpoint must have been made with to be resumed."""
        return content_key({"profile": self.profile.hash, "patients": self.slices.patients, "seed": self.seed})

    def epoch(self, epoch: int, bar: tqdm) -> dict[str, float]:
        """Train for one epoch and return its row of the log."""
        quantize = epoch > self.profile.quantizer.start_epoch
        if quantize and not self.network.quantizer.started:
            self._start_codebook(epoch)
        self.network.train()
        sums = torch.zeros(4, dtype=torch.float64)
        counts = torch.zeros(self.profile.quantizer.codebook_size, dtype=torch.int64)
        for step, batch in enumerate(self.batches(epoch)):
            losses, batch_counts = self._step(batch, (epoch - 1) * self.slices.steps_per_epoch + step, quantize)
            sums += losses
            counts += batch_counts
            bar.set_postfix(epoch=epoch, loss=f"{losses[0]:.3f}", refresh=False)
            bar.update()
        means = (sums / self.slices.steps_per_epoch).tolist()
        row = dict(zip(("loss", "latent_loss", "dice_loss", "focal_loss"), means, strict=True))
        row |= {"learning_rate": self.optimizer.param_groups[0]["lr"], "usage": int((counts > 0).sum())}
        return row | {"perplexity": float(perplexity(counts)) if quantize else float("nan")}

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the augmented batches of an epoch, on the device."""
        generator = torch_generator(self.seed, "augmentation", epoch)
        for batch in self.slices.batches(epoch):
            images, labels = batch.images, batch.labels
            if self.profile.training.augmentation:
                images, labels = augment(images, labels, self.profile.preprocessing.background, generator)
            yield Batch(images.to(self.device), labels.to(self.device))

    def provenance(self, rows: list[dict[str, float]]) -> dict[str, Any]:
        """Return what a model card says of this training so far."""
        return {
            "continued_from": self.profile.training.start_from,
            "epochs": len(rows),
            "patients": len(self.slices.patients),
            "slices_seen": len(rows) * self.slices.slices_per_epoch,
            "seed": self.seed,
            "training_minutes": round(sum(row["seconds"] for row in rows) / 60, 1),
            "torch": torch.__version__,
        }

    def _step(self, batch: Batch, step: int, quantize: bool) -> tuple[Tensor, Tensor]:
        settings = self.profile.training
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, settings.epochs * self.slices.steps_per_epoch, settings)
        output = self.network(batch.images, quantize)
        dice, focal = segmentation_loss(output.logits, batch.labels, dice=settings.dice, gamma=settings.focal_gamma)
        latent = output.quantized.latent_loss
        loss = total_loss(latent, dice, focal)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is {loss.item()} at step {step}: lower training.learning_rate or set training.gradient_clip")
        self.optimizer.zero_grad()
        loss.backward()
        if settings.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_clip)
        self.optimizer.step()
        return torch.stack([loss, latent, dice, focal]).detach().double().cpu(), output.quantized.counts.cpu()

    @torch.no_grad()
    def _start_codebook(self, epoch: int) -> None:
        """Place the codewords at k-means centres of the latents of the coming epoch's first batches."""
        self.network.eval()
        latents: list[Tensor] = []
        for batch in self.batches(epoch):
            latents.append(self.network.encode(batch.images).movedim(1, -1).flatten(0, 2))
            if sum(map(len, latents)) >= LATENTS_PER_CODEWORD * self.profile.quantizer.codebook_size:
                break
        self.network.quantizer.start(torch.cat(latents), batches=len(latents))


def _bar(run: _Training, done: int, last: int, progress: bool) -> tqdm:
    steps = run.slices.steps_per_epoch
    return tqdm(total=last * steps, initial=done * steps, desc="train", unit="step", disable=None if progress else True)


def _line(row: dict[str, float], epochs: int) -> str:
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
    return f"epoch {row['epoch']}/{epochs}: {numbers}"


def _is_early(epoch: int) -> bool:
    """1, 2, 5, 10, 20, 50, 100, ..."""
    return epoch / 10 ** math.floor(math.log10(epoch)) in (1, 2, 5)


def _mean_dice(run: _Training, validation: Validation) -> dict[str, float]:
    model = TrainedModel(run.network, run.profile, {})
    table = evaluate_dice(model, validation.store, validation.ids)
    return {f"dice_{region}": float(value) for region, value in table.mean().items()}


def _save_checkpoint(path: Path, run: _Training, rows: list[dict[str, float]]) -> None:
    tensors = {f"network.{name}": value for name, value in run.network.state_dict().items()}
    for number, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    rest = json.dumps({"key": run.key, "rows": [{name: None if value != value else value for name, value in row.items()} for row in rows]})
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata={"training": rest}))


def _resume(path: Path, run: _Training) -> list[dict[str, float]]:
    """Bring ``run`` to the state of the checkpoint, if there is one, and return the rows of its log."""
    if not path.exists():
        return []
    try:
        with safe_open(path, "pt") as file:
            rest = json.loads((file.metadata() or {})["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise TrainingError(f"{path} is not a checkpoint ({error}). Delete it to train from the beginning.") from error
    if rest["key"] != run.key:
        raise TrainingError(
            f"{path} belongs to another profile, other patients or another seed. Delete {path.parent} or choose another folder."
        )
    run.network.load_state_dict({name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, part = name.split(".")
            state.setdefault(int(number), {})[part] = value
    run.optimizer.load_state_dict({"state": state, "param_groups": run.optimizer.state_dict()["param_groups"]})
    return [{name: math.nan if value is None else value for name, value in row.items()} for row in rest["rows"]]
