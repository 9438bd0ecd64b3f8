"""The vector quantizer at work in two dimensions, to be watched and to be played with (Eq. 1-3, Figure 1b)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from drlib.profiles import QuantizerSettings
from drlib.seeds import generator
from drlib.segmentation.quantizer import DEAD_AFTER, REVIVED_SHARE, SMOOTHING, VectorQuantizer
from drlib.viewer.panel import Panel, read_script

STARTS = {  # label -> switches of QuantizerSettings
    "moving average, corrected": {"bias_correction": True, "kmeans_start": False, "revive_dead": True},
    "as the authors' code": {"bias_correction": False, "kmeans_start": False, "revive_dead": False},
}
SIZES = (2, 4, 8, 12, 16, 24, 32, 48, 64)  # codewords that the widget offers
DECAY = 0.85
EXTENT = 4.2
SPREAD = 0.45
N_LATENTS = 360
CENTRES = np.array([(-2.2, 1.6), (1.9, 2.0), (2.4, -1.2), (-0.4, -2.4), (-0.2, 0.5)])


@dataclass(frozen=True)
class Bench:
    """Latents in the plane and a quantizer that learns them.

    Attributes:
        latents: (N, 2), five clouds.
        quantizer: the library's own, with K codewords of two dimensions.
    """

    latents: np.ndarray
    quantizer: VectorQuantizer

    @property
    def codebook(self) -> np.ndarray:
        """A copy of the (K, 2) codewords."""
        return self.quantizer.codebook.detach().numpy().copy()

    def step(self, steps: int = 1) -> None:
        """Show the latents to the quantizer ``steps`` times; each time the codebook learns (Eq. 3, moving average)."""
        batch = torch.tensor(self.latents.T, dtype=torch.float32)[None, :, :, None]  # (1, 2, N, 1)
        with one_thread():
            for _ in range(steps):
                self.quantizer(batch)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work in one thread: for so few latents, waiting for other threads takes longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def draw_latents(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of each latent's cloud and a standard normal step from there, both (N, 2)."""
    random = generator(seed, "bench", "latents")
    return CENTRES[random.integers(len(CENTRES), size=N_LATENTS)], random.normal(size=(N_LATENTS, 2))


def make_bench(codewords: int = 12, spread: float = SPREAD, start: str = next(iter(STARTS)), seed: int = 0) -> Bench:
    """Return five clouds of latents with standard deviation ``spread`` and a quantizer that has not yet learned."""
    centres, normals = draw_latents(seed)
    settings = QuantizerSettings(codebook_size=codewords, codeword_dim=2, ema_decay=DECAY, **STARTS[start])
    return Bench(centres + spread * normals, VectorQuantizer(settings, seed=seed).train())


class QuantizerPanel(Panel):
    """Latents, cells and codewords in the plane. Everything happens in the browser; no kernel is asked."""

    _esm = read_script("quantizer.js")


def quantizer_widget(seed: int = 0) -> QuantizerPanel:
    """Return a quantizer to play with: drag codewords, step, train, restart, with K codewords and latents of a given spread.

    It runs in the reader's browser, with the update of :class:`drlib.segmentation.quantizer.VectorQuantizer`; only the draw that revives
    dead codewords is the browser's own. ``seed`` determines the latents and the first codewords. Source: the paper, Eq. 1-3 and Figure 1b.
    """
    centres, normals = draw_latents(seed)
    first = [make_bench(k, seed=seed).codebook for k in SIZES]
    return QuantizerPanel(
        {
            "extent": EXTENT,
            "spread": SPREAD,
            "centres": centres.tolist(),
            "normals": normals.round(4).tolist(),
            "first": [codebook.astype(float).round(4).tolist() for codebook in first],
            "sizes": list(SIZES),
            "constants": {"decay": DECAY, "smoothing": SMOOTHING, "dead_after": DEAD_AFTER, "revived_share": REVIVED_SHARE},
        }
    )
