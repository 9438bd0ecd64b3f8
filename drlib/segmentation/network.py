"""The segmentation network: encoder, vector quantizer, decoder. Source: Methods, "Encoder network" and "Decoder network".

Read literally from the text; it differs from the authors' code, whose settings give 3,323,908 parameters, in that a block is
convolution - normalization - activation (theirs: normalization first), that there is a residual block at the first resolution in the
encoder too, that the image enters through that block (no convolution of its own before it), that the latent is a 1x1 convolution of the
last residual block (theirs: a second residual block), and that a convolution before a normalization has no bias, which the
normalization would remove. An upsampling block is a 1x1 convolution and a bilinear interpolation (the two commute, and in this order the
convolution costs a quarter), as theirs.

Parameters are float32 always. With ``precision="bf16"`` the convolutions and normalizations work in bfloat16; latents, codebook
distances and logits are float32.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drlib.errors import DeepRadiomicsError
from drlib.profiles import NetworkSettings, QuantizerSettings
from drlib.seeds import torch_generator
from drlib.segmentation.finite_scalar import FiniteScalarQuantizer
from drlib.segmentation.memory import keep_freed_memory
from drlib.segmentation.normalisation import SLOPE, NormalisedActivation
from drlib.segmentation.quantizer import Quantized, Quantizer, VectorQuantizer

N_MODALITIES = 4
N_LABELS = 4
Precision = Literal["fp32", "bf16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
BOTTLENECKS: dict[str, type[Quantizer]] = {"codebook": VectorQuantizer, "fsq": FiniteScalarQuantizer}


class ImageSizeError(DeepRadiomicsError, ValueError):
    """Images do not have four modalities, or a height or width that the strides do not divide."""


@dataclass(frozen=True)
class SegmentationOutput:
    """Logits (B, 4, H, W), float32, in the order background, NET, ED, ET; and what the quantizer made of the latents."""

    logits: Tensor
    quantized: Quantized


class Convolution(nn.Module):
    """A convolution whose weights follow the type of its input and keep its size at stride 1."""

    def __init__(self, n_in: int, n_out: int, size: int, stride: int = 1, bias: bool = False):
        super().__init__()
        self.stride, self.padding = stride, size // 2
        self.weight = nn.Parameter(torch.empty(n_out, n_in, size, size))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n_out, H / stride, W / stride)."""
        weight = self.weight.to(x.dtype, memory_format=torch.channels_last)
        return F.conv2d(x, weight, None if self.bias is None else self.bias.to(x.dtype), self.stride, self.padding)


class ConvolutionBlock(nn.Sequential):
    """3x3 convolution, GroupNorm, LeakyReLU, and the sum with a shortcut; with stride 2, the paper's downsampling block."""

    def __init__(self, n_in: int, n_out: int, groups: int, stride: int = 1):
        super().__init__(Convolution(n_in, n_out, 3, stride), NormalisedActivation(n_out, groups))

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Return (B, n_out, H / stride, W / stride)."""
        convolution, activation = self
        return activation(convolution(x), shortcut)


class ResidualBlock(nn.Module):
    """Two convolution blocks beside a shortcut, which is a 1x1 convolution where the number of channels changes."""

    def __init__(self, n_in: int, n_out: int, groups: int):
        super().__init__()
        self.body = nn.Sequential(ConvolutionBlock(n_in, n_out, groups), ConvolutionBlock(n_out, n_out, groups))
        self.shortcut = nn.Identity() if n_in == n_out else Convolution(n_in, n_out, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n_out, H, W)."""
        first, second = self.body
        return second(first(x), self.shortcut(x))


class UpsamplingBlock(nn.Module):
    """Twice the height and width: a 1x1 convolution, then bilinear interpolation."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.convolution = Convolution(n_in, n_out, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n_out, 2H, 2W)."""
        return F.interpolate(self.convolution(x), scale_factor=2, mode="bilinear", align_corners=False)


class Encoder(nn.Sequential):
    """Images (B, 4, H, W) to latents (B, D, H / s, W / s), s = 2 ** (levels - 1)."""

    def __init__(self, settings: NetworkSettings, latent_dim: int):
        filters, groups = settings.filters, settings.groups
        blocks: list[nn.Module] = [ResidualBlock(N_MODALITIES, filters[0], groups)]
        for n_in, n_out in zip(filters, filters[1:], strict=False):
            blocks += [ConvolutionBlock(n_in, n_out, groups, stride=2), ResidualBlock(n_out, n_out, groups)]
        super().__init__(*blocks, Convolution(filters[-1], latent_dim, 1, bias=True))


class Decoder(nn.Sequential):
    """Quantized latents (B, D, h, w) to logits (B, 4, h s, w s)."""

    def __init__(self, settings: NetworkSettings, latent_dim: int):
        filters, groups = settings.filters[::-1], settings.groups
        blocks: list[nn.Module] = [Convolution(latent_dim, filters[0], 3, bias=True), ResidualBlock(filters[0], filters[0], groups)]
        for n_in, n_out in zip(filters, filters[1:], strict=False):
            blocks += [UpsamplingBlock(n_in, n_out), ResidualBlock(n_out, n_out, groups)]
        super().__init__(*blocks, Convolution(filters[-1], N_LABELS, 1, bias=True))


class SegmentationNetwork(nn.Module):
    """Encoder, vector quantizer and decoder.

    ``seed`` determines the first weights (He initialization) and the quantizer's draws. ``precision`` may be changed at any time.
    Source: Fig. 1; Methods, "Segmentation networks with a shareable set of feature vectors".
    """

    def __init__(self, network: NetworkSettings, quantizer: QuantizerSettings, *, seed: int = 0, precision: Precision = "fp32"):
        super().__init__()
        keep_freed_memory()
        self.precision = precision
        self.stride = 2 ** (len(network.filters) - 1)
        self.encoder = Encoder(network, quantizer.codeword_dim)
        self.quantizer = BOTTLENECKS[quantizer.kind](quantizer, seed=seed)
        self.decoder = Decoder(network, quantizer.codeword_dim)
        self._initialise(torch_generator(seed, "network weights"))

    def encode(self, images: Tensor) -> Tensor:
        """Return the continuous latents z_e (B, D, h, w), float32. Raises ImageSizeError."""
        self._check(images)
        return self.encoder(self._prepared(images)).float()

    def decode(self, z_q: Tensor) -> Tensor:
        """Return logits (B, 4, H, W), float32, of latents (B, D, h, w)."""
        return self.decoder(self._prepared(z_q)).float()

    def encode_to_codes(self, images: Tensor) -> Tensor:
        """Return the index map (B, h, w), int64, of images (B, 4, H, W)."""
        return self.quantizer.codes(self.encode(images))

    def forward(self, images: Tensor, quantize: bool = True) -> SegmentationOutput:
        """Return logits and quantized latents; ``quantize=False`` lets the continuous latents through."""
        quantized = self.quantizer(self.encode(images), quantize=quantize)
        return SegmentationOutput(self.decode(quantized.z_q), quantized)

    def _prepared(self, x: Tensor) -> Tensor:
        return x.to(DTYPES[self.precision], memory_format=torch.channels_last)

    def _check(self, images: Tensor) -> None:
        shape = tuple(images.shape)
        if len(shape) != 4 or shape[1] != N_MODALITIES or shape[2] % self.stride or shape[3] % self.stride or 0 in shape[2:]:
            raise ImageSizeError(
                f"images have shape {shape}; due is (batch, {N_MODALITIES}, height, width) with height and width divisible by "
                f"{self.stride}. Choose another preprocessing.image_size, or pad the slices."
            )

    def _initialise(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, Convolution):
                nn.init.kaiming_normal_(module.weight, a=SLOPE, nonlinearity="leaky_relu", generator=generator)
