"""A small network and cohorts held in memory, for the tests of deep radiomics."""

from collections import Counter

import numpy as np
import pandas as pd
import torch

from drlib.profiles import Profile, load_profile
from drlib.segmentation.model import TrainedModel
from drlib.segmentation.network import SegmentationNetwork

BACKGROUND = -3.0


class MemoryStore:
    """What a slice store offers, in memory; ``reads`` counts how often the images of a patient were asked for."""

    def __init__(self, images: dict[str, np.ndarray], labels: dict[str, np.ndarray | None], grades: dict[str, str | None]):
        self._images, self._labels, self._grades = images, labels, grades
        self.patients = tuple(sorted(images))
        self.reads = Counter()

    def images(self, patient: str) -> np.ndarray:
        self.reads[patient] += 1
        return self._images[patient]

    def labels(self, patient: str) -> np.ndarray | None:
        return self._labels[patient]

    def grade(self, patient: str) -> str | None:
        return self._grades[patient]


def small_profile() -> Profile:
    """Return a profile of 32 x 32 pixels, 4 x 4 latent positions and 16 codewords."""
    return load_profile("smoke+preprocessing.image_size=32+quantizer.codebook_size=16+quantizer.codeword_dim=8")


def draw_slices(seed: int, n: int = 6, size: int = 32) -> np.ndarray:
    """Return float16 slices (n, 4, size, size): noise in a square brain, the first and last slice blank."""
    random = np.random.default_rng(seed)
    images = np.full((n, 4, size, size), BACKGROUND, dtype=np.float16)
    brain = slice(size // 4, 3 * size // 4)
    images[1:-1, :, brain, brain] = random.normal(0, 1, (n - 2, 4, size // 2, size // 2)) + random.normal(0, 1, (n - 2, 4, 1, 1))
    return images


def draw_labels(n: int = 6, size: int = 32) -> np.ndarray:
    """Return uint8 labels (n, size, size) with NET and ED but no ET."""
    labels = np.zeros((n, size, size), dtype=np.uint8)
    labels[2, 12:16, 12:16] = 1
    labels[2:4, 16:20, 12:20] = 2
    return labels


def small_store(n_patients: int = 4) -> MemoryStore:
    """Return a store of patients P0, P1, ... with grades in turn; the last one has no labels."""
    ids = [f"P{number:02d}" for number in range(n_patients)]
    images = {patient: draw_slices(number) for number, patient in enumerate(ids)}
    labels = {patient: None if patient == ids[-1] else draw_labels() for patient in ids}
    return MemoryStore(images, labels, {patient: ("LGG", "HGG")[number % 2] for number, patient in enumerate(ids)})


def small_model(seed: int = 0) -> TrainedModel:
    """Return an untrained network whose codewords are latents of drawn slices, so that many are in use."""
    profile = small_profile()
    network = SegmentationNetwork(profile.network, profile.quantizer, seed=seed).eval()
    with torch.inference_mode():
        latents = network.encode(torch.from_numpy(draw_slices(99, 8)).float())
    rows = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    chosen = torch.linspace(0, len(rows) - 1, profile.quantizer.codebook_size).long()
    with torch.no_grad():
        network.quantizer.codebook.copy_(rows[chosen])
    return TrainedModel(network, profile, {})


def draw_counts(n_lgg: int = 20, n_hgg: int = 30, n_codewords: int = 40, planted: dict[int, float] | None = None, seed: int = 0):
    """Return counts (patients x codewords) and grades; ``planted`` codewords are so many times as common in HGG."""
    random = np.random.default_rng(seed)
    grades = np.array(["LGG"] * n_lgg + ["HGG"] * n_hgg)
    rates = random.lognormal(2, 1, n_codewords) * random.lognormal(0, 0.5, (len(grades), n_codewords))
    for codeword, times in (planted or {}).items():
        rates[:, codeword] = 20 * random.lognormal(0, 0.5, len(grades)) * np.where(grades == "HGG", times, 1)
    index = [f"P{number:03d}" for number in random.permutation(len(grades))]
    return pd.DataFrame(random.poisson(rates), index=index), pd.Series(grades, index=index)
