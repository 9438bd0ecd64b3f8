"""Which slices an epoch sees, in which order, from memory or from the store.

Everything is determined by the seed and the epoch, so that a resumed training sees what the uninterrupted one would have.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from drlib.errors import DeepRadiomicsError
from drlib.profiles import TrainingSettings
from drlib.seeds import generator
from drlib.segmentation.model import SliceSource, blank_slices

GIBIBYTE = 2**30


class NothingToTrainOnError(DeepRadiomicsError):
    """The store has no patients, a patient has no labels, or slices that are asked for do not exist."""


@dataclass(frozen=True)
class Batch:
    """Images (B, 4, H, W), float16 as in the store, and labels (B, H, W), uint8: this ``part`` of a batch of ``size`` slices."""

    images: Tensor
    labels: Tensor
    size: int
    part: slice


class TrainingSlices:
    """The slices of some patients of a store, all but the blank ones: of these, one per patient stays (unless ``blank_slices``).

    Patients are held in memory (float16) as long as they fit ``memory_gib``. Otherwise an epoch goes through them in blocks that
    fit, in a new random order each time, and slices are shuffled within a block.
    """

    def __init__(
        self, store: SliceSource, settings: TrainingSettings, *, ids: Sequence[str] | None = None, seed: int = 0, memory_gib: float = 4
    ):
        self.store, self.settings, self.seed = store, settings, seed
        self.patients = tuple(store.patients if ids is None else ids)
        if not self.patients:
            raise NothingToTrainOnError("no patients to train on: the store or the list of ids is empty")
        self._memory = memory_gib * GIBIBYTE
        self._loaded: dict[int, tuple[Tensor, Tensor]] = {}
        self._read_index()
        if settings.tumour_share and not self.has_tumour.any():
            raise NothingToTrainOnError(f"training.tumour_share is {settings.tumour_share}, but no slice of these patients has tumour")
        total = len(self.patient_of_slice)
        self.slices_per_epoch = settings.slices_per_epoch or total
        self.steps_per_epoch = -(-self.slices_per_epoch // settings.batch_size)

    def batches(self, epoch: int, first: int = 0, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """Yield the batches of an epoch (1, 2, ...), from batch ``first`` on; nothing is read for those before.

        Each process of a distributed training gets its part of every batch: the parts, in the order of ranks, are the batch. They
        differ by one slice at most, and may be empty at the end of an epoch.
        """
        order, block_of_patient = self._order(epoch)
        for start in range(first * self.settings.batch_size, len(order), self.settings.batch_size):
            rows = order[start : start + self.settings.batch_size]
            part = slice(len(rows) * rank // world_size, len(rows) * (rank + 1) // world_size)
            yield self._batch(rows, part, block_of_patient)

    def _read_index(self) -> None:
        """Read every patient once: which slices stay, which hold tumour; keep the patients while they fit."""
        self._kept, patient_of_slice, has_tumour, used = [], [], [], 0
        for number, patient in enumerate(self.patients):
            images, labels = self._read(patient)
            kept = torch.arange(len(images)) if self.settings.blank_slices else _slices_to_keep(images)
            self._kept.append(kept)
            patient_of_slice += [number] * len(kept)
            has_tumour += (labels[kept].flatten(1) > 0).any(1).tolist()
            used += (images[0].nbytes + labels[0].nbytes) * len(kept)
            if used <= self._memory:
                self._loaded[number] = images[kept], labels[kept]
        self.fits_in_memory = used <= self._memory
        self._bytes_of_patient = {number: (images[0].nbytes + labels[0].nbytes) * len(kept) for number, kept in enumerate(self._kept)}
        self.patient_of_slice, self.has_tumour = np.array(patient_of_slice), np.array(has_tumour)
        self._first = np.concatenate([[0], np.cumsum([len(kept) for kept in self._kept])])

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        random = generator(self.seed, "order", epoch)
        chosen = self._draw(random)
        block_of_patient = self._blocks(random)
        shuffled = random.permutation(chosen)
        return shuffled[np.argsort(block_of_patient[self.patient_of_slice[shuffled]], kind="stable")], block_of_patient

    def _draw(self, random: np.random.Generator) -> np.ndarray:
        n, share = self.slices_per_epoch, self.settings.tumour_share
        if share is None:
            return _cycle(np.arange(len(self.patient_of_slice)), n, random)
        tumour, other = np.flatnonzero(self.has_tumour), np.flatnonzero(~self.has_tumour)
        n_tumour = n if not len(other) else round(share * n)
        return np.concatenate([_cycle(tumour, n_tumour, random), _cycle(other, n - n_tumour, random)])

    def _blocks(self, random: np.random.Generator) -> np.ndarray:
        """Return the block (0, 1, ...) of each patient: all 0 where all fit."""
        blocks, block, used = np.zeros(len(self.patients), dtype=int), 0, 0
        if self.fits_in_memory:
            return blocks
        for patient in random.permutation(len(self.patients)):
            used += self._bytes_of_patient[int(patient)]
            if used > self._memory:
                block, used = block + 1, self._bytes_of_patient[int(patient)]
            blocks[patient] = block
        return blocks

    def _batch(self, batch: np.ndarray, part: slice, block_of_patient: np.ndarray) -> Batch:
        n = part.stop - part.start
        rows = batch[part] if n else batch[:1]  # of which an empty part takes nothing but the shape
        numbers = self.patient_of_slice[rows]
        self._load(numbers, block_of_patient)
        pairs = list(zip(numbers.tolist(), (rows - self._first[numbers]).tolist(), strict=True))
        images, labels = (torch.stack([self._loaded[number][of][k] for number, k in pairs])[:n] for of in (0, 1))
        return Batch(images, labels, len(batch), part)

    def _load(self, numbers: np.ndarray, block_of_patient: np.ndarray) -> None:
        needed = set(numbers.tolist())
        if needed <= self._loaded.keys():
            return
        blocks = {int(block_of_patient[number]) for number in needed}
        ahead = set(np.flatnonzero(block_of_patient == max(blocks)).tolist())
        for number in self._loaded.keys() - needed - ahead:
            del self._loaded[number]
        for number in sorted((needed | ahead) - self._loaded.keys()):
            images, labels = self._read(self.patients[number])
            kept = self._kept[number]
            self._loaded[number] = images[kept], labels[kept]

    def _read(self, patient: str) -> tuple[Tensor, Tensor]:
        labels = self.store.labels(patient)
        if labels is None:
            raise NothingToTrainOnError(f"{patient} has no segmentation; leave it out of the patients that are trained on")
        return torch.from_numpy(np.ascontiguousarray(self.store.images(patient))), torch.from_numpy(np.ascontiguousarray(labels))


def _slices_to_keep(images: Tensor) -> Tensor:
    blank = blank_slices(images)
    keep = ~blank
    if blank.any():
        keep[blank.nonzero()[0]] = True  # the network must know what nothing looks like
    return keep.nonzero().flatten()


def _cycle(population: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
    """Draw ``n`` of a population, none twice before all have come once."""
    if not n:
        return population[:0]
    rounds = -(-n // len(population))
    return np.concatenate([random.permutation(population) for _ in range(rounds)])[:n]
