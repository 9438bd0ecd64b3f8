"""The vector quantizer at work in two dimensions, to be watched and to be played with (Eq. 1-3, Figure 1b)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch

from drlib.figures.quantizer import perplexity
from drlib.profiles import QuantizerSettings
from drlib.seeds import generator
from drlib.segmentation.quantizer import VectorQuantizer
from drlib.viewer.plane import draw_plane, nearest
from drlib.viewer.player import FRAME_COLOURS, Frame, link_frames, make_slider, make_stack, show_when_alive, to_png

STARTS = {  # label -> switches of QuantizerSettings
    "moving average, corrected": {"bias_correction": True, "kmeans_start": False, "revive_dead": True},
    "as the authors' code": {"bias_correction": False, "kmeans_start": False, "revive_dead": False},
}
CODEWORDS = (4, 12, 32)
STEPS = (0, 1, 2, 4, 8, 16, 32, 64)
EXTENT = 4.2
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


def make_bench(codewords: int = 12, spread: float = 0.45, start: str = next(iter(STARTS)), seed: int = 0) -> Bench:
    """Return five clouds of latents with standard deviation ``spread`` and a quantizer that has not yet learned."""
    random = generator(seed, "bench", "latents")
    latents = CENTRES[random.integers(len(CENTRES), size=N_LATENTS)] + spread * random.normal(size=(N_LATENTS, 2))
    settings = QuantizerSettings(codebook_size=codewords, codeword_dim=2, ema_decay=0.85, **STARTS[start])
    return Bench(latents, VectorQuantizer(settings, seed=seed).train())


def draw_bench(bench: Bench, previous: np.ndarray | None = None, name: str = "", colours: int | None = None) -> bytes:
    """Return the bench as a PNG (of few ``colours``, to be small): latents, cells, codewords, arrows from ``previous`` codewords."""
    codebook = bench.codebook
    used = np.bincount(nearest(bench.latents, codebook), minlength=len(codebook))
    title = f"{name}: {(used > 0).sum()} of {len(codebook)} codewords in use, perplexity {perplexity(used):.1f}"
    return to_png(draw_plane(bench.latents, codebook, previous, EXTENT, title), colours)


def make_frames(codewords: int, start: str, spread: float = 0.45, seed: int = 0) -> list[bytes]:
    """Return one PNG for each of ``STEPS``, with arrows since the frame before."""
    bench, previous, frames = make_bench(codewords, spread, start, seed), None, []
    for done, due in zip((0, *STEPS), STEPS, strict=False):
        bench.step(due - done)
        frames.append(draw_bench(bench, previous, f"step {due}", FRAME_COLOURS))
        previous = bench.codebook
    return frames


def quantizer_widget(seed: int = 0, codewords: tuple[int, ...] = CODEWORDS) -> widgets.VBox:
    """Return the quantizer as a widget: turn over the steps of learning, choose the start and K; with a kernel, set everything.

    Without a kernel the sliders turn over prerendered frames. With one, a bench appears at the first move of a slider: number of
    codewords, spread of the latents, steps at a time, and the buttons Step, Train, Restart. ``seed`` determines the latents and the
    first codewords. Source: the paper, Eq. 1-3 and Figure 1b.
    """
    alt = "Latents in the plane, the cells of the codewords, and arrows that show how the codewords moved"
    inner = {(start, k): make_stack(make_frames(k, start, seed=seed), alt, "520px") for start in STARTS for k in codewords}
    by_start = [widgets.Stack([inner[start, k] for k in codewords], selected_index=min(1, len(codewords) - 1)) for start in STARTS]
    stack = widgets.Stack(by_start, selected_index=0)
    slider = make_slider(len(STEPS), "step")
    start = widgets.ToggleButtons(options=list(STARTS), index=0, description="learning", style={"button_width": "auto"})
    size = widgets.ToggleButtons(options=[str(k) for k in codewords], index=by_start[0].selected_index, description="codewords")
    size.style.button_width = "60px"
    link_frames(slider, list(inner.values()))
    link_frames(start, [stack], "index")
    link_frames(size, by_start, "index")
    bench = live_bench(seed)
    show_when_alive(bench, slider, start, size)
    note = widgets.HTML("<em>Move the slider. Where a kernel runs, a bench to experiment on appears below.</em>")
    return widgets.VBox([start, size, slider, stack, note, bench])


def live_bench(seed: int = 0) -> widgets.VBox:
    """Return the bench that needs a kernel: K, spread and steps as sliders, and the buttons Step, Train and Restart."""
    size = widgets.IntSlider(12, 2, 64, description="codewords")
    spread = widgets.FloatSlider(value=0.45, min=0.05, max=1.2, step=0.05, description="spread")
    steps = widgets.IntSlider(10, 1, 100, description="steps")
    start = widgets.Dropdown(options=list(STARTS), description="learning")
    buttons = {name: widgets.Button(description=name) for name in ("Step", "Train", "Restart")}
    state = {"bench": make_bench(seed=seed), "done": 0}
    image = Frame(draw_bench(state["bench"], name="step 0"), "The quantizer as set with the controls", "520px")

    def restart(_: object = None) -> None:
        state.update(bench=make_bench(size.value, spread.value, start.value, seed), done=0)
        image.show(draw_bench(state["bench"], name="step 0"))

    def advance(number: int) -> None:
        previous = state["bench"].codebook
        state["bench"].step(number)
        state["done"] += number
        image.show(draw_bench(state["bench"], previous, f"step {state['done']}"))

    buttons["Step"].on_click(lambda _: advance(1))
    buttons["Train"].on_click(lambda _: advance(steps.value))
    buttons["Restart"].on_click(restart)
    for control in (size, spread, start):
        control.observe(restart, names="value")
    return widgets.VBox([widgets.HBox([size, spread]), widgets.HBox([steps, start]), widgets.HBox(list(buttons.values())), image])
