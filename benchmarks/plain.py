"""The same network as anyone would write it: framework modules, float32, channels first, eager. The peer of every case with a network."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drlib.profiles import NetworkSettings
from drlib.segmentation.network import N_LABELS, N_MODALITIES, SegmentationNetwork
from drlib.segmentation.normalisation import SLOPE


class Block(nn.Sequential):
    """3x3 convolution, GroupNorm, LeakyReLU."""

    def __init__(self, n_in: int, n_out: int, groups: int, stride: int = 1):
        super().__init__(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.GroupNorm(groups, n_out), nn.LeakyReLU(SLOPE))


class Residual(nn.Module):
    """Two blocks beside a shortcut."""

    def __init__(self, n_in: int, n_out: int, groups: int):
        super().__init__()
        self.body = nn.Sequential(Block(n_in, n_out, groups), Block(n_out, n_out, groups))
        self.shortcut = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.body(x)


class Upsampling(nn.Conv2d):
    """1x1 convolution, then twice the size, bilinear."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(super().forward(x), scale_factor=2, mode="bilinear", align_corners=False)


class PlainNetwork(nn.Module):
    """Encoder and decoder of `drlib.segmentation.network`, plainly."""

    def __init__(self, settings: NetworkSettings | None = None, latent_dim: int = 64):
        super().__init__()
        settings = settings or NetworkSettings()
        filters, groups = settings.filters, settings.groups
        down: list[nn.Module] = [Residual(N_MODALITIES, filters[0], groups)]
        for n_in, n_out in zip(filters, filters[1:], strict=False):
            down += [Block(n_in, n_out, groups, 2), Residual(n_out, n_out, groups)]
        up: list[nn.Module] = [nn.Conv2d(latent_dim, filters[-1], 3, padding=1), Residual(filters[-1], filters[-1], groups)]
        for n_in, n_out in zip(filters[::-1], filters[-2::-1], strict=False):
            up += [Upsampling(n_in, n_out, 1), Residual(n_out, n_out, groups)]
        self.encoder = nn.Sequential(*down, nn.Conv2d(filters[-1], latent_dim, 1))
        self.decoder = nn.Sequential(*up, nn.Conv2d(filters[0], N_LABELS, 1))

    @torch.no_grad()
    def load_from(self, network: SegmentationNetwork) -> "PlainNetwork":
        """Take the weights of ``network`` and return self; both list their parameters in the order of computation."""
        for own, other in ((self.encoder, network.encoder), (self.decoder, network.decoder)):
            for parameter, source in zip(own.parameters(), other.parameters(), strict=True):
                if parameter.shape != source.shape:
                    raise ValueError(f"the plain network has {tuple(parameter.shape)} where {tuple(source.shape)} came")
                parameter.copy_(source)
        return self.eval()


def plain_codes(latents: Tensor, codebook: Tensor) -> Tensor:
    """Return the index map (B, h, w) of latents (B, D, h, w) by distances and topk, as the authors' code does."""
    rows = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    distances = rows.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * rows @ codebook.T
    return distances.topk(1, dim=1, largest=False).indices.view(len(latents), *latents.shape[2:])
