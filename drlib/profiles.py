"""Profiles: every choice of a run in one frozen, validated object.

A profile fixes the size of a run (``smoke`` for tests, ``demo`` for the book on a laptop, ``paper`` for a GPU). Deviations from the
paper are *switches on* a profile, written behind its name with ``+``::

    load_profile("demo")                              # what the book shows
    load_profile("demo+authors-code")                 # the published code's choices, where they can run
    load_profile("smoke+quantizer.update=gradient")   # one switch alone

The hash of a profile is in the name and the manifest of everything that is made with it.
"""

import hashlib
import json
import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from drlib.errors import DeepRadiomicsError, did_you_mean

PROFILE_NAMES = ("smoke", "demo", "paper")


class ProfileError(DeepRadiomicsError):
    """A profile name, switch or value that does not exist."""


class Settings(BaseModel):
    """Base of all settings: immutable, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CohortSettings(Settings):
    """Which phantom patients are made, and on what grid. A user's own folder replaces the phantoms."""

    spacing_mm: float = Field(gt=0, le=8, description="isotropic voxel size, also the slice spacing the network works at")
    n_segmentation: int = Field(ge=4, description="patients the segmentation network is trained on (grade unused)")
    n_grading: int = Field(ge=8, description="patients graded, never seen by the network in training")
    lgg_share: float = Field(76 / 335, gt=0, lt=1, description="share of LGG among the graded (paper: 76 of 335)")
    variant: Literal["standard", "null", "planted-NET", "planted-ED", "planted-ET", "planted-texture", "site-shifted", "confounded"] = (
        "standard"
    )


class PreprocessingSettings(Settings):
    """Intensities and slices."""

    image_size: int = Field(ge=16, description="height and width of a slice in pixels, after resizing")
    normalisation: Literal["z-score", "robust-z-score"] = Field(
        "robust-z-score", description="robust: mean and deviation over brain voxels between the 0.5th and 99.5th percentile"
    )
    background: float | None = Field(
        -3.0, description="value given to voxels outside the brain; None leaves them at -mean/std, as the authors' code"
    )


class QuantizerSettings(Settings):
    """Eq. 1-3: the codebook and how it learns."""

    codebook_size: int = Field(512, ge=2, description="K")
    codeword_dim: int = Field(64, ge=1, description="D")
    kind: Literal["codebook", "fsq"] = Field("codebook", description="a learned codebook, or finite scalar quantization: a fixed grid")
    fsq_levels: tuple[int, ...] = Field((8, 8, 8), description="kind fsq: values along each side of the grid; their product is K")
    distance: Literal["euclidean", "cosine"] = Field("euclidean", description="what makes a codeword the nearest")
    estimator: Literal["straight-through", "rotation"] = Field("straight-through", description="how the gradient passes the codeword")
    update: Literal["ema", "gradient"] = "ema"
    ema_decay: float = Field(0.99, gt=0, lt=1)
    bias_correction: bool = Field(True, description="EMA statistics start so that the first update is a mean, not an explosion")
    kmeans_start: bool = Field(True, description="codewords start at k-means centres of the first latents")
    revive_dead: bool = Field(True, description="codewords unused for long restart at a randomly drawn latent")
    commitment: float = Field(0.25, ge=0, description="beta of Eq. 3")
    start_epoch: int = Field(0, ge=0, description="epochs trained with the continuous latent before quantization begins")

    @model_validator(mode="after")
    def _grid_of_codebook_size(self):
        if self.kind == "fsq":
            product = math.prod(self.fsq_levels)
            if product != self.codebook_size or min(self.fsq_levels, default=0) < 3:
                raise ValueError(
                    f"fsq_levels {self.fsq_levels} make {product} codewords; due are codebook_size={self.codebook_size}, "
                    "with at least 3 levels on each side"
                )
            if (self.distance, self.estimator) != ("euclidean", "straight-through"):
                raise ValueError("kind fsq has no distance, and its estimator is straight-through: leave both as they are")
        return self


class NetworkSettings(Settings):
    """The encoder-decoder around the quantizer. One stride-2 step between consecutive levels."""

    filters: tuple[int, ...] = (32, 64, 128, 128, 128, 128)
    groups: int = Field(8, ge=1, description="groups of GroupNorm")

    @model_validator(mode="after")
    def _filters_divisible(self):
        if len(self.filters) < 2 or any(f % self.groups for f in self.filters):
            raise ValueError(f"filters {self.filters} need at least two levels, each divisible by groups={self.groups}")
        return self


class TrainingSettings(Settings):
    """Eq. 4 and how it is minimised."""

    epochs: int = Field(ge=1)
    slices_per_epoch: int | None = Field(None, description="slices drawn per epoch; None: every slice once")
    tumour_share: float | None = Field(None, ge=0, le=1, description="share of drawn slices that contain tumour; None: as they come")
    blank_slices: bool = Field(False, description="every blank slice trains, as in the paper; otherwise one per patient")
    batch_size: int = Field(72, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "one-cycle"] = "constant"
    gradient_clip: float | None = Field(None, gt=0)
    dice: Literal["per-class", "pooled"] = Field("per-class", description="soft Dice averaged over classes, or over all pixels at once")
    focal_gamma: float = Field(2.0, ge=0)
    augmentation: bool = True
    precision: Literal["fp32", "bf16"] = "fp32"
    start_from: str | None = Field(None, description="shipped model whose weights and codebook the training continues from; None: scratch")


class GradingSettings(Settings):
    """Eq. 6, cross-validated over patients."""

    folds: int = Field(5, ge=2)
    repeats: int = Field(10, ge=1)
    permutations: int = Field(200, ge=0)


class RobustnessSettings(Settings):
    """Eq. 7: magnitudes of the scaling and the shift."""

    magnitudes: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    every: int = Field(1, ge=1, description="take every so-manieth slice of a patient only")


class Profile(Settings):
    """All settings of a run."""

    name: str
    cohort: CohortSettings
    preprocessing: PreprocessingSettings
    network: NetworkSettings
    quantizer: QuantizerSettings
    training: TrainingSettings
    grading: GradingSettings
    robustness: RobustnessSettings = RobustnessSettings()

    @model_validator(mode="after")
    def _image_divisible_by_strides(self):
        stride = self.stride
        if self.preprocessing.image_size % stride:
            raise ValueError(
                f"image_size {self.preprocessing.image_size} is not divisible by {stride} = 2**{len(self.network.filters) - 1}, "
                f"the product of the strides of {len(self.network.filters)} levels"
            )
        return self

    @property
    def stride(self) -> int:
        """Pixels per latent position along one side."""
        return 2 ** (len(self.network.filters) - 1)

    @property
    def latent_size(self) -> int:
        """Height and width of the index map."""
        return self.preprocessing.image_size // self.stride

    @property
    def hash(self) -> str:
        """Ten hexadecimal digits determined by every setting except the name."""
        content = json.dumps(self.model_dump(mode="json", exclude={"name"}), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:10]

    @property
    def slug(self) -> str:
        """Folder name of the run: the plain name and the hash, for example ``demo-1a2b3c4d5e``."""
        return f"{self.name.split('+')[0]}-{self.hash}"


PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {
        "cohort": {"spacing_mm": 4.0, "n_segmentation": 16, "n_grading": 32, "lgg_share": 0.375},
        "preprocessing": {"image_size": 64},
        "network": {"filters": (8, 16, 32, 32)},
        "quantizer": {"codebook_size": 64, "codeword_dim": 16, "start_epoch": 2},
        "training": {
            "epochs": 8,
            "batch_size": 16,
            "learning_rate": 2e-3,
            "schedule": "one-cycle",
            "tumour_share": 0.6,
            "gradient_clip": 1.0,
        },
        "grading": {"repeats": 2, "permutations": 20},
        "robustness": {"magnitudes": (0.0, 0.5, 1.0)},
    },
    "demo": {
        "cohort": {"spacing_mm": 2.0, "n_segmentation": 64, "n_grading": 112, "lgg_share": 0.375},
        "preprocessing": {"image_size": 128},
        "network": {"filters": (16, 32, 64, 64)},
        "quantizer": {},
        "training": {
            "epochs": 5,
            "slices_per_epoch": 2400,
            "batch_size": 24,
            "learning_rate": 3e-4,
            "schedule": "one-cycle",
            "tumour_share": 0.6,
            "gradient_clip": 1.0,
            "precision": "bf16",
            "start_from": "demo",
        },
        "grading": {},
        "robustness": {"magnitudes": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "every": 4},
    },
    "paper": {
        "cohort": {"spacing_mm": 1.0, "n_segmentation": 292, "n_grading": 335},
        "preprocessing": {"image_size": 256},
        "network": {},
        "quantizer": {},
        "training": {"epochs": 600, "betas": (0.9, 0.9999), "weight_decay": 1e-5},
        "grading": {},
    },
}

SWITCHES: dict[str, dict[str, Any]] = {
    # How the model that demo continues from was trained.
    "from-scratch": {
        "quantizer.start_epoch": 4,
        "training.epochs": 22,
        "training.learning_rate": 1e-3,
        "training.start_from": None,
    },
    # What the text of the paper says, made well defined.
    "paper": {
        "preprocessing.normalisation": "z-score",
        "quantizer.commitment": 1.0,
        "quantizer.start_epoch": 0,
        "training.start_from": None,
        "training.tumour_share": None,
        "training.blank_slices": True,
        "training.slices_per_epoch": None,
        "training.learning_rate": 1e-4,
        "training.schedule": "constant",
        "training.gradient_clip": None,
    },
    # What the published code does, as far as it can run (METHOD: pooled Dice, EMA without correction, raw background).
    "authors-code": {
        "preprocessing.normalisation": "z-score",
        "preprocessing.background": None,
        "quantizer.bias_correction": False,
        "quantizer.kmeans_start": False,
        "quantizer.revive_dead": False,
        "quantizer.commitment": 1.0,
        "quantizer.start_epoch": 0,
        "training.start_from": None,
        "training.tumour_share": None,
        "training.blank_slices": True,
        "training.slices_per_epoch": None,
        "training.learning_rate": 1e-4,
        "training.betas": (0.9, 0.9999),
        "training.weight_decay": 1e-5,
        "training.schedule": "constant",
        "training.gradient_clip": None,
        "training.dice": "pooled",
    },
}


def load_profile(text: str) -> Profile:
    """Return the profile that ``text`` names: a base name and any number of ``+switch`` or ``+section.field=value``.

    Raises ProfileError naming what is unknown and what there is.
    """
    base, *switches = str(text).split("+")
    if base not in PROFILES:
        there = f"there are {', '.join(PROFILE_NAMES)} (switches follow behind '+')"
        raise ProfileError(f"unknown profile {base!r}; {there}.{did_you_mean(base, PROFILE_NAMES)}")
    content = {"robustness": {}} | {section: dict(fields) for section, fields in PROFILES[base].items()}
    for switch in switches:
        for path, value in _switch_values(switch).items():
            section, field = path.split(".")
            if section not in content:
                raise ProfileError(
                    f"unknown section {section!r} in switch {switch!r}; there are {', '.join(content)}.{did_you_mean(section, content)}"
                )
            fields = Profile.model_fields[section].annotation.model_fields
            if field not in fields:
                there = f"{section} has {', '.join(fields)}"
                raise ProfileError(f"unknown field {field!r} in switch {switch!r}; {there}.{did_you_mean(field, fields)}")
            content[section][field] = value
    try:
        return Profile(name=text, **content)
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'profile'}: {e['msg']}" for e in error.errors())
        raise ProfileError(f"profile {text!r} is not valid: {details}") from error


def _switch_values(switch: str) -> dict[str, Any]:
    if switch in SWITCHES:
        return SWITCHES[switch]
    path, equals, value = switch.partition("=")
    if not equals or path.count(".") != 1:
        there = f"there are {', '.join(SWITCHES)}, or section.field=value"
        raise ProfileError(f"unknown switch {switch!r}; {there}.{did_you_mean(switch, SWITCHES)}")
    try:
        return {path: json.loads(value)}
    except json.JSONDecodeError:
        return {path: value}
