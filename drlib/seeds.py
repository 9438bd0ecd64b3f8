"""Randomness that does not depend on the order or the number of workers.

Every random draw of the project comes from a generator that is derived from the run's seed and the *names* of what is drawn
(``generator(seed, "phantom", "patient-017")``), never from a shared stream. Same seed and names, same numbers.
"""

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit integer determined by ``seed`` and ``names`` alone.

    Uses SHA-256, hence stable across Python processes and versions (unlike ``hash``).
    """
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator determined by ``seed`` and ``names``."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))


def torch_generator(seed: int, *names: str | int, device: str = "cpu") -> torch.Generator:
    """Return a torch generator determined by ``seed`` and ``names``."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))
