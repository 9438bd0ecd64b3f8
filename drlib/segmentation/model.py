"""A trained model as one folder that another laboratory can apply: ``model.safetensors``, ``model.json`` and a model card.

No pickle is written or read: tensors are safetensors, everything else is JSON.
"""

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from drlib import __version__
from drlib.artifacts import file_sha256, write_atomically, write_json
from drlib.errors import DeepRadiomicsError
from drlib.profiles import Profile
from drlib.segmentation.network import Precision, SegmentationNetwork
from drlib.segmentation.quantizer import with_idle

BATCH_PIXELS = {"cpu": 2**19}  # of the slices that go through the network together: what a processor's cache can hold
LARGER_BATCH_PIXELS = 2**22  # for other devices
SHIPPED = Path(__file__).parent / "shipped"
FORMAT = "deep-radiomics-model-1"
WEIGHTS, CARD, README = "model.safetensors", "model.json", "README.md"


class ModelError(DeepRadiomicsError):
    """A model folder is missing, damaged, or of another kind; the message ends with what to do."""


class SliceSource(Protocol):
    """What training and application need of a slice store. Patients in the order of their ids."""

    @property
    def patients(self) -> tuple[str, ...]: ...
    def images(self, patient: str) -> np.ndarray:
        """Slices (S, 4, H, W), float16."""

    def labels(self, patient: str) -> np.ndarray | None:
        """Labels (S, H, W), uint8."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained network, the profile it was made with, and its card (the content of ``model.json``)."""

    network: SegmentationNetwork
    profile: Profile
    card: Mapping[str, Any]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.quantizer.codebook.device

    @property
    def batch_size(self) -> int:
        """How many slices go through the network together where nobody says otherwise."""
        return max(1, BATCH_PIXELS.get(self.device.type, LARGER_BATCH_PIXELS) // self.profile.preprocessing.image_size**2)

    def encode_to_codes(self, images: np.ndarray | Tensor, batch_size: int | None = None) -> Tensor:
        """Return the index maps (S, h, w), int64, of the slices (S, 4, H, W) of a patient."""
        return self.map_slices(self.network.encode_to_codes, images, batch_size)

    def segment(self, images: np.ndarray | Tensor, batch_size: int | None = None) -> Tensor:
        """Return the most probable labels (S, H, W), uint8, of the slices (S, 4, H, W) of a patient."""
        return self.map_slices(lambda batch: self.network(batch).logits.argmax(1).to(torch.uint8), images, batch_size)

    @torch.inference_mode()
    def map_slices(self, function: Callable[[Tensor], Tensor], images: np.ndarray | Tensor, batch_size: int | None = None) -> Tensor:
        """Return ``function`` of every slice (S, 4, H, W), in batches on the model's device; the result lies on the CPU.

        Blank slices are all the same, so the function sees one of them. ``function`` must treat slices independently.
        """
        self.network.eval()
        images = torch.as_tensor(images)
        blank = blank_slices(images)
        keep = ~blank
        if blank.any():
            keep[blank.nonzero()[0]] = True
        rows = keep.nonzero().flatten()
        batches = [function(images[part].to(self.device, torch.float32)).cpu() for part in rows.split(batch_size or self.batch_size)]
        if not batches:
            return function(images.to(self.device, torch.float32)).cpu()
        values = torch.cat(batches)
        position = keep.cumsum(0) - 1  # of each slice's value
        if blank.any():
            position[blank] = position[blank.nonzero()[0]]
        return values[position]


def blank_slices(images: Tensor) -> Tensor:
    """Return True (S,) for slices (S, C, H, W) that are one value per channel, the same as in the first such slice."""
    pixels = images.flatten(2)
    if not len(images):
        return torch.zeros(0, dtype=torch.bool)
    blank = (pixels == pixels[:, :, :1]).all(2).all(1)
    if blank.any():
        first = pixels[blank.nonzero()[0, 0], :, 0]
        blank &= (pixels[:, :, 0] == first).all(1)
    return blank


def save_model(folder: Path, network: SegmentationNetwork, profile: Profile, provenance: Mapping[str, Any]) -> Path:
    """Write a model folder; ``provenance`` (JSON) says what it was trained on, by whom and for how long."""
    folder = Path(folder)
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_atomically(folder / WEIGHTS, lambda path: save_file(tensors, path))
    card = {
        "format": FORMAT,
        "drlib": __version__,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "profile": profile.model_dump(mode="json"),
        "profile_hash": profile.hash,
        "sha256": file_sha256(folder / WEIGHTS),
        "parameters": sum(value.numel() for value in network.parameters()),
        "codewords_in_use": int(network.quantizer.codebook_in_use.sum()),
        "provenance": dict(provenance),
    }
    write_json(folder / CARD, card)
    write_atomically(folder / README, lambda path: path.write_text(_readme(card), encoding="utf-8"))
    return folder


def load_model(folder: Path, device: str = "cpu", precision: Precision | None = None) -> TrainedModel:
    """Return the model of a folder, in evaluation mode on ``device``; ``precision`` None is the one it was trained in.

    Raises ModelError where the folder is not a model, its weights do not match its card, or its profile is of another version.
    """
    folder = Path(folder)
    card = _read_card(folder)
    if file_sha256(folder / WEIGHTS) != card["sha256"]:
        raise ModelError(f"{folder / WEIGHTS} does not match the SHA-256 in {CARD}: it is damaged. {_mend(folder)}")
    try:
        profile = Profile.model_validate(card["profile"])
    except ValidationError as error:
        raise ModelError(f"the profile in {folder / CARD} is not valid for drlib {__version__}: {error}. {_mend(folder)}") from error
    network = SegmentationNetwork(profile.network, profile.quantizer, precision=precision or profile.training.precision)
    try:
        tensors = with_idle(load_file(folder / WEIGHTS))
    except SafetensorError as error:
        raise ModelError(f"{folder / WEIGHTS} is not safetensors ({error}). {_mend(folder)}") from error
    _fill(network, tensors, folder)
    return TrainedModel(network.to(device).eval(), profile, card)


def shipped_model(name: str) -> Path:
    """Return the folder of a model that comes with the library (trained on phantoms only). Raises ModelError naming those there are."""
    folder = SHIPPED / name
    if not folder.is_dir():
        raise ModelError(f"no model {name!r} comes with drlib; there are {sorted(path.name for path in SHIPPED.glob('*'))}")
    return folder


def continue_from(network: SegmentationNetwork, folder: Path) -> None:
    """Give ``network`` the weights and the codebook of the model in ``folder``.

    Raises ModelError where the network has another architecture, or the folder is not a sound model.
    """
    tensors = load_model(folder).network.state_dict()
    due, came = ({name: tuple(value.shape) for name, value in state.items()} for state in (network.state_dict(), tensors))
    if due != came:
        raise ModelError(f"{folder} has another architecture than the profile: train from the beginning, with the switch +from-scratch")
    network.load_state_dict(tensors)


def _read_card(folder: Path) -> dict[str, Any]:
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder} is not a trained model: {name} is missing. {_mend(folder)}")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder / CARD} is not JSON: {error}. {_mend(folder)}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT or not {"profile", "sha256"} <= card.keys():
        raise ModelError(f"{folder / CARD} is not the card of a {FORMAT}. {_mend(folder)}")
    return card


def _fill(network: SegmentationNetwork, tensors: Mapping[str, Tensor], folder: Path) -> None:
    due = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    came = {name: tuple(value.shape) for name, value in tensors.items()}
    if due != came:
        wrong = sorted(name for name in due.keys() | came.keys() if due.get(name) != came.get(name))
        details = "; ".join(f"{name}: {came.get(name, 'missing')}, due {due.get(name, 'nothing')}" for name in wrong[:3])
        raise ModelError(f"{folder / WEIGHTS} does not fit its profile in {len(wrong)} tensors ({details}). {_mend(folder)}")
    network.load_state_dict(dict(tensors))


def _mend(folder: Path) -> str:
    return f"Copy the folder {folder} again from where it was made, or train the model again."


def _readme(card: Mapping[str, Any]) -> str:
    profile = card["profile"]
    quantizer, preprocessing = profile["quantizer"], profile["preprocessing"]
    provenance = "\n".join(f"- {name}: {value}" for name, value in card["provenance"].items()) or "- none given"
    return f"""# Deep radiomics model

A segmentation network with a codebook of {quantizer["codebook_size"]} codewords of dimension {quantizer["codeword_dim"]}
({card["codewords_in_use"]} in use at the end of training), after Kobayashi et al. 2021, *Sci Rep* 11:10942.

Input: axial slices of T1, T1ce, T2 and FLAIR (in this order), {preprocessing["image_size"]} x {preprocessing["image_size"]} pixels at
{profile["cohort"]["spacing_mm"]} mm, {preprocessing["normalisation"]} inside the brain, background {preprocessing["background"]}.
Output: labels background, NET, ED, ET; and the index map of the codebook.

Profile `{profile["name"]}` ({card["profile_hash"]}), {card["parameters"]:,} parameters, drlib {card["drlib"]}.

## Provenance

{provenance}

For research. Not a medical device: it must not be used for the diagnosis or treatment of a patient.
`{WEIGHTS}` is checked against the SHA-256 in `{CARD}` whenever it is loaded.
"""
