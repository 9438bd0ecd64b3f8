"""Figures of the vector quantizer in two dimensions, where its cells, moves and failures can be seen (Eq. 1-3, Figure 1b)."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from drlib.figures.style import INK, QUIET, WIDTH_IN, describe, figure_and_axes, grid_lines, new_figure, styled
from drlib.figures.words import Words, say
from drlib.segmentation import quantizer

CELL_COLOURS = ("#DCE9F5", "#F9E4D0", "#DDF0E6", "#F6DDEA", "#FBF3CC", "#E6DFF3", "#E4E7EB", "#D3EEF2")
CELL_RGB = np.array([to_rgb(colour) for colour in CELL_COLOURS])
CODEWORD = "#B3261E"


@styled
def plot_quantizer(
    latents: np.ndarray, codebook: np.ndarray, previous: np.ndarray | None = None, ax: Axes | None = None, extent: float | None = None
) -> Figure:
    """Show two-dimensional latents, the codewords, the cell of each codeword (Eq. 1) and how far the codewords just moved.

    Args:
        latents: (N, 2) points, the encoder's outputs.
        codebook: (K, 2) codewords.
        previous: (K, 2) codewords before the last step: an arrow is drawn from there; None draws no arrows.
        extent: half the side of the square that is shown; None fits the data.

    Source: the paper, Eq. 1-3 and Figure 1b.
    """
    figure, ax = figure_and_axes(ax, 4.6, width_in=5.4)
    extent = extent or 1.08 * float(np.abs(np.vstack([latents, codebook])).max())
    used = np.bincount(nearest(latents, codebook), minlength=len(codebook))
    _draw_cells(ax, codebook, extent)
    ax.plot(*latents.T, ".", color=INK, markersize=2.6, alpha=0.45, label="latents")
    if previous is not None:
        _draw_moves(ax, previous, codebook, extent)
    _draw_codewords(ax, codebook, used)
    ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xlabel="latent dimension 1 (arbitrary units)")
    ax.set_ylabel("latent dimension 2 (arbitrary units)")
    ax.set_title(f"{(used > 0).sum()} of {len(codebook)} codewords in use, perplexity {perplexity(used):.1f}")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, handletextpad=0.3, columnspacing=1.2)
    return describe(figure, _plane_words(latents, codebook, used, previous))


@styled
def plot_usage(counts: np.ndarray, ax: Axes | None = None) -> Figure:
    """Show how often each codeword is used, most used first, with the number in use and the perplexity.

    ``counts``: (K,) counts. Perplexity is exp of the entropy of the shares, in nats: as many codewords, used equally often, would carry
    as much information. Source: ours.
    """
    figure, ax = figure_and_axes(ax, 2.8)
    share = np.sort(np.asarray(counts, float))[::-1] / max(np.sum(counts), 1)
    rank = np.arange(1, len(share) + 1)
    ax.bar(rank, 100 * share, width=1.0 if len(share) > 64 else 0.8, color=INK)
    ax.set_yscale("symlog", linthresh=0.1)
    ax.axvline(perplexity(counts), color=CODEWORD, linewidth=1.4, linestyle="--", label=f"perplexity {perplexity(counts):.1f}")
    ax.axvline(
        (share > 0).sum() + 0.5, color=QUIET, linewidth=1.4, linestyle=":", label=f"{(share > 0).sum()} of {len(share)} codewords in use"
    )
    ax.set(xlabel="codeword, most used first (rank)", ylabel="share of latents (%)", xlim=(0, len(share) + 1), ylim=(0, None))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.legend(loc="upper right")
    grid_lines(ax)
    return describe(figure, _usage_words(np.asarray(counts, float)))


@styled
def plot_quantizer_steps(latents: np.ndarray, codebooks: list[np.ndarray], names: list[str]) -> Figure:
    """Show the same latents with several codebooks (K, 2) side by side: steps of a training, or different updates. Source: ours."""
    figure, axes = new_figure(WIDTH_IN / len(codebooks) + 1.2, 1, len(codebooks), squeeze=False, sharex=True, sharey=True)
    extent = 1.08 * float(np.abs(latents).max())
    for ax, codebook, name in zip(axes[0], codebooks, names, strict=True):
        used = np.bincount(nearest(latents, codebook), minlength=len(codebook))
        _draw_cells(ax, codebook, extent)
        ax.plot(*latents.T, ".", color=INK, markersize=2, alpha=0.45, label="latents")
        _draw_codewords(ax, codebook, used)
        ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xlabel="dimension 1 (a.u.)")
        ax.set_title(f"{name}\n{(used > 0).sum()} of {len(codebook)} in use", loc="center", fontsize=9.5)
    axes[0, 0].set_ylabel("dimension 2 (a.u.)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return describe(figure, _sequence_words(latents, codebooks, names))


@styled
def plot_loss_arrows(latents: np.ndarray, codebook: np.ndarray, commitment: float, ax: Axes | None = None) -> Figure:
    """Show what the two terms of the latent loss pull on: codewords towards latents, latents towards codewords (Figure 1b).

    An arrow of a codeword ends at the mean of its latents, where the codebook loss is least; an arrow of a latent is ``commitment`` times
    the way to its codeword. Source: the paper, Eq. 3 and Figure 1b.
    """
    figure, ax = figure_and_axes(ax, 4.6, width_in=5.4)
    codes = nearest(latents, codebook)
    extent = 1.15 * float(np.abs(np.vstack([latents, codebook])).max())
    _draw_cells(ax, codebook, extent)
    pull = codebook[codes] - latents
    ax.quiver(
        *latents.T,
        *(commitment * pull).T,
        color=INK,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.004,
        label=f"latent: commitment loss, β = {commitment:g}",
    )
    toward = np.array([-pull[codes == k].mean(0) if (codes == k).any() else (0.0, 0.0) for k in range(len(codebook))])
    ax.quiver(
        *codebook.T,
        *toward.T,
        color=CODEWORD,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.009,
        zorder=4,
        label="codeword: codebook loss",
    )
    ax.plot(*latents.T, ".", color=INK, markersize=4)
    ax.plot(*codebook.T, "o", color=CODEWORD, markeredgecolor="white", markersize=8, zorder=5)
    ax.set(
        xlim=(-extent, extent),
        ylim=(-extent, extent),
        aspect="equal",
        xlabel="latent dimension 1 (a.u.)",
        ylabel="latent dimension 2 (a.u.)",
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    return describe(figure, _pull_words(latents, codebook, commitment))


def nearest(latents: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Return the index of the nearest codeword of each latent (N, D) (Eq. 1)."""
    return quantizer.nearest(torch.tensor(latents), torch.tensor(codebook)).numpy()


def perplexity(counts: np.ndarray) -> float:
    """Return exp of the entropy (nats) of the shares of ``counts`` (K,)."""
    return float(quantizer.perplexity(torch.tensor(np.array(counts))))


def _draw_cells(ax: Axes, codebook: np.ndarray, extent: float, side: int = 360) -> None:
    line = np.linspace(-extent, extent, side)
    x, y = np.meshgrid(line, line)
    cell = nearest(np.column_stack([x.ravel(), y.ravel()]), codebook).reshape(side, side)
    picture = CELL_RGB[cell % len(CELL_RGB)]
    border = (cell != np.roll(cell, 1, axis=0)) | (cell != np.roll(cell, 1, axis=1))
    border[0], border[:, 0] = False, False
    picture[border] = 1.0
    ax.imshow(picture, extent=(-extent, extent, -extent, extent), origin="lower", interpolation="bilinear", zorder=0)


def _draw_moves(ax: Axes, previous: np.ndarray, codebook: np.ndarray, extent: float) -> None:
    move = codebook - previous
    far = np.linalg.norm(move, axis=1) > 0.01 * extent
    ax.quiver(*previous[far].T, *move[far].T, angles="xy", scale_units="xy", scale=1, width=0.006, color=CODEWORD, alpha=0.75, zorder=3)


def _draw_codewords(ax: Axes, codebook: np.ndarray, used: np.ndarray) -> None:
    alive = used > 0
    size = 30 + 170 * used / max(used.max(), 1)
    ax.scatter(
        *codebook[alive].T, s=size[alive], color=CODEWORD, edgecolor="white", linewidth=1.2, zorder=5, label="codeword (area: usage)"
    )
    ax.scatter(*codebook[~alive].T, s=42, color=QUIET, marker="X", edgecolor="white", linewidth=0.8, zorder=4, label="dead codeword")


def _plane_words(latents: np.ndarray, codebook: np.ndarray, used: np.ndarray, previous: np.ndarray | None) -> Words:
    alive = int((used > 0).sum())
    moved = "" if previous is None else f" Arrows: the last step, {say(np.linalg.norm(codebook - previous, axis=1).max())} at the longest."
    return Words(
        f"{alive} of {len(codebook)} codewords stand for {len(latents)} latents; perplexity {say(perplexity(used), 1)}.",
        "A latent (small point) is replaced by the codeword (dot, its area the usage) in whose cell it lies; a cross is a dead codeword. "
        f"Both axes in arbitrary units.{moved}",
        f"Points in the plane in several clouds, {len(codebook)} codewords and the coloured cells around them"
        + (", with arrows for the last move of each codeword." if previous is not None else "."),
    )


def _usage_words(counts: np.ndarray) -> Words:
    share = np.sort(counts)[::-1] / max(counts.sum(), 1)
    half = int(np.searchsorted(np.cumsum(share), 0.5)) + 1
    return Words(
        f"{(counts > 0).sum()} of {len(counts)} codewords are used, and {half} of them make half of the tokens.",
        "Perplexity: as many codewords, used equally often, would carry as much information. The height is linear up to 0.1 %.",
        "Bars that fall from the most used codeword to the least used one, with lines at the perplexity and at the number in use.",
    )


def _sequence_words(latents: np.ndarray, codebooks: list[np.ndarray], names: list[str]) -> Words:
    used = [len(np.unique(nearest(latents, codebook))) for codebook in codebooks]
    names = [" ".join(name.split()) for name in names]
    told = [f"{name}: {n}" for name, n in zip(names, used, strict=True)]
    return Words(
        f"Codewords in use, of {len(codebooks[0])}: {', '.join(told)}.",
        f"The same {len(latents)} latents in every panel, with the codebook and its cells; codewords that leave the picture stand "
        "for nothing.",
        f"{len(codebooks)} panels with the same points and the codewords among them: {', '.join(names)}.",
    )


def _pull_words(latents: np.ndarray, codebook: np.ndarray, commitment: float) -> Words:
    way = float(np.linalg.norm(codebook[nearest(latents, codebook)] - latents, axis=1).mean())
    return Words(
        f"A latent is {say(way)} from its codeword on average; the commitment loss pulls it {say(100 * commitment, 0)} % of that way, the "
        "codebook loss pulls the codeword to the mean of its latents.",
        f"Thin arrows: {len(latents)} latents; thick arrows: codewords. Both axes in arbitrary units. Counterpart of Figure 1b of "
        "the paper.",
        "Thick arrows from codewords to the middle of their latents and short thin arrows from latents towards codewords.",
    )
