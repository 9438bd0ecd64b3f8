"""A small store in memory: discs of tumour in a round brain, learnable in seconds."""

import numpy as np

from drlib.profiles import Profile, load_profile


class ToyStore:
    """The interface of a slice store, without files."""

    def __init__(self, n_patients: int = 3, n_slices: int = 10, size: int = 32):
        self.contents = {f"toy-{number}": toy_patient(number, n_slices, size) for number in range(n_patients)}
        self.n_read = 0

    @property
    def patients(self) -> tuple[str, ...]:
        return tuple(sorted(self.contents))

    def images(self, patient: str) -> np.ndarray:
        self.n_read += 1
        return self.contents[patient][0]

    def labels(self, patient: str) -> np.ndarray | None:
        return self.contents[patient][1]


def toy_patient(seed: int, n_slices: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images float16 (S, 4, size, size) and labels uint8: the first and last two slices blank, tumour in every other."""
    random = np.random.default_rng(seed)
    images = np.full((n_slices, 4, size, size), -3, np.float16)
    labels = np.zeros((n_slices, size, size), np.uint8)
    rows, columns = np.mgrid[:size, :size]
    for k in range(2, n_slices - 2):
        images[k][:, np.hypot(rows - size / 2, columns - size / 2) < 0.45 * size] = 0
        centre = random.integers(int(0.35 * size), int(0.65 * size), 2)
        for label, radius in ((2, 0.2), (3, 0.14), (1, 0.08)) if k % 2 else ():
            inside = np.hypot(rows - centre[0], columns - centre[1]) < radius * size
            labels[k][inside] = label
            images[k][:, inside] = 3 * np.eye(4)[label][:, None]
        images[k] += (images[k] > -3) * random.normal(0, 0.1, images[k].shape).astype(np.float16)
    return images, labels


def toy_profile(*switches: str) -> Profile:
    """A profile of three levels that trains in a second."""
    base = ("preprocessing.image_size=32", "network.filters=[8,16,16]", "quantizer.codebook_size=16", "quantizer.codeword_dim=8")
    training = ("training.epochs=4", "training.batch_size=4", "quantizer.start_epoch=1", "training.learning_rate=0.003")
    return load_profile("+".join(("smoke", *base, *training, *switches)))
