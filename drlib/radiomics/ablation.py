"""Responsible regions: what the decoder draws differently when the responsible codewords are taken away.

The codewords are replaced by the background codeword in the index map, both index maps are decoded, and the regions are where the
logits differ. Slices without any of the codewords do not change and are not decoded; equal index maps are decoded once.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import leaky_relu
from tqdm import tqdm

from drlib.cohort.regions import GRADES, LABELS
from drlib.cohort.slices import SliceStore
from drlib.errors import DeepRadiomicsError
from drlib.parallel import map_patients
from drlib.radiomics.histogram import encode_patient
from drlib.segmentation.model import TrainedModel
from drlib.segmentation.normalisation import EPSILON, SLOPE, NormalisedActivation

ABLATED_REGIONS = LABELS[1:]  # NET, ED, ET
TABLE_COLUMNS = ["patient", "grade", "responsible_for", "region", "mean", "sum", "n_voxels", "n_tokens", "share_outside", "labels"]


class AblationError(DeepRadiomicsError):
    """A codeword does not exist, or is to be replaced by itself."""


def responsible_regions(
    model: TrainedModel,
    images: np.ndarray,
    codewords: Sequence[int],
    background: int,
    batch_size: int | None = None,
) -> np.ndarray:
    """Return maps (S, H, W), float32: per pixel the L1 change of the four logits when ``codewords`` are replaced together.

    ``images`` (S, 4, H, W); ``background`` is the codeword put in their place (see ``background_codeword``). No codewords, or none
    that occurs: zeros.

    Source: paper, "Identification of responsible regions", Fig. 2b.
    Caveat: regions are not where the codewords lie; a token reaches every pixel (see ``share_outside``).
    """
    return change_maps(model, encode_patient(model, images, batch_size=batch_size), codewords, background, batch_size)


def change_maps(
    model: TrainedModel,
    codes: Tensor,
    codewords: Sequence[int],
    background: int,
    batch_size: int | None = None,
) -> np.ndarray:
    """Return ``responsible_regions`` of index maps (S, h, w) that are known already."""
    return _changes(model, codes, [replaced_tokens(model, codes, codewords, background)], background, batch_size)[0]


def each_change(
    model: TrainedModel,
    codes: Tensor,
    codewords: Sequence[int],
    background: int,
    batch_size: int | None = None,
) -> list[np.ndarray]:
    """Return ``change_maps`` of all ``codewords`` replaced together, and then of each of them alone: 1 + n maps (S, H, W)."""
    replaced = [replaced_tokens(model, codes, some, background) for some in (codewords, *([k] for k in codewords))]
    return _changes(model, codes, replaced, background, batch_size)


def _changes(model: TrainedModel, codes: Tensor, replaced: Sequence[Tensor], background: int, batch_size: int | None) -> list[np.ndarray]:
    """Return the maps of several replacements. Equal index maps, of whatever slice and replacement, are decoded once."""
    side, batch_size = model.profile.stride, batch_size or model.batch_size
    maps = [np.zeros((len(codes), codes.shape[1] * side, codes.shape[2] * side), dtype=np.float32) for _ in replaced]
    ablated = torch.stack([codes, *(codes.masked_fill(tokens, background) for tokens in replaced)])  # (1 + replacements, S, h, w)
    touched = (ablated[1:] != codes).flatten(2).any(dim=2)  # (replacements, S)
    slices = touched.any(dim=0).nonzero().flatten()
    _, kind = torch.unique(codes[slices], dim=0, return_inverse=True)
    for kinds in torch.arange(int(kind.max()) + 1 if len(kind) else 0).split(batch_size):
        same = [slices[kind == number].numpy() for number in kinds]
        variants = ablated[:, [slices[0] for slices in same]]
        distinct, which = torch.unique(variants.flatten(0, 1), dim=0, return_inverse=True)
        logits = torch.cat([decode_codes(model, part) for part in distinct.split(batch_size)])
        original, *others = which.view(variants.shape[:2])
        for number, other in enumerate(others):
            for row, members in enumerate(same):
                if touched[number, members[0]]:
                    maps[number][members] = (logits[original[row]] - logits[other[row]]).abs().sum(dim=0).cpu().numpy()
    return maps


def replaced_tokens(model: TrainedModel, codes: Tensor, codewords: Sequence[int], background: int) -> Tensor:
    """Return where ``codes`` (S, h, w) hold one of ``codewords``: boolean, same shape.

    Raises AblationError where a codeword or the background is not in the codebook, or the background is to be replaced by itself.
    """
    size = model.profile.quantizer.codebook_size
    unknown = [k for k in (*codewords, background) if not 0 <= k < size]
    if unknown:
        raise AblationError(f"the codebook has codewords 0 to {size - 1}, not {unknown}")
    if background in codewords:
        raise AblationError(f"codeword {background} is the background codeword; replacing it by itself says nothing")
    return torch.isin(codes, torch.tensor(list(codewords), dtype=codes.dtype))


def decode_codes(model: TrainedModel, codes: Tensor) -> Tensor:
    """Return the logits (B, 4, H, W) of index maps (B, h, w)."""
    model.network.eval()
    with torch.inference_mode():
        return model.network.decode(model.network.quantizer.lookup(codes.to(model.device)))


def predict_labels(model: TrainedModel, codes: Tensor, batch_size: int | None = None) -> np.ndarray:
    """Return the segmentation (S, H, W), uint8, that the decoder draws from index maps (S, h, w)."""
    batches = [decode_codes(model, batch).argmax(dim=1).to(torch.uint8).cpu() for batch in codes.split(batch_size or model.batch_size)]
    return torch.cat(batches).numpy()


def region_values(maps: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Return ``mean`` (per voxel), ``sum`` and ``n_voxels`` of ``maps`` in NET, ED and ET of ``labels`` (both S, H, W).

    Mean and sum are NaN where the patient has no voxel of a region.

    Source: paper, Fig. 7, which gives sums; they grow with the region, so that means stand beside them.
    """
    counts = np.bincount(labels.ravel(), minlength=len(LABELS))[1 : len(LABELS)]
    sums = np.bincount(labels.ravel(), weights=maps.ravel().astype(np.float64), minlength=len(LABELS))[1 : len(LABELS)]
    sums = np.where(counts > 0, sums, np.nan)
    means = sums / np.maximum(counts, 1)
    return pd.DataFrame({"region": ABLATED_REGIONS, "mean": means, "sum": sums, "n_voxels": counts})


def share_outside(maps: np.ndarray, replaced: Tensor) -> float:
    """Return the share of the change in ``maps`` (S, H, W) outside the cells of the ``replaced`` tokens (S, h, w); NaN: no change.

    Source: ours. A token's receptive field is nearly the slice, and group normalisation carries a change to every pixel.
    """
    total = maps.sum(dtype=np.float64)
    side = maps.shape[1] // replaced.shape[1]
    own = np.kron(replaced.numpy(), np.ones((1, side, side), dtype=bool))
    return float(1 - maps[own].sum(dtype=np.float64) / total) if total > 0 else float("nan")


def ablate_cohort(
    model: TrainedModel,
    store: SliceStore,
    codewords_by_grade: Mapping[str, Sequence[int]],
    background: int,
    *,
    patients: Sequence[str] | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Ablate each patient's responsible codewords, those of a grade together, and measure the change in the tumour's regions.

    Regions are the truth where there is one, else the model's own segmentation (column ``labels``: truth or prediction). Only slices
    with tumour are decoded: what happens elsewhere enters no region.

    Returns a row per patient, ``responsible_for`` (LGG, HGG) and region: patient, grade (of the patient), responsible_for, region,
    mean, sum, n_voxels, labels, and for all three regions alike n_tokens (replaced in the slices with tumour) and share_outside (of
    the change in these slices). A grade without responsible codewords has no rows.
    """
    patients = list(store.patients if patients is None else patients)
    asked = {grade: codewords_by_grade[grade] for grade in GRADES if codewords_by_grade.get(grade)}
    patients = patients if asked else []
    work = map_patients(_ablate_patient, patients, model, store, asked, background, batch_size, n_jobs=1, ordered=True)
    tables = list(tqdm(work, desc="ablation", total=len(patients), unit="patient", disable=not progress))
    return pd.concat(tables or [pd.DataFrame(columns=TABLE_COLUMNS)], ignore_index=True)[TABLE_COLUMNS]


def _ablate_patient(
    patient: str, model: TrainedModel, store: SliceStore, asked: Mapping[str, Sequence[int]], background: int, batch_size: int | None
) -> pd.DataFrame:
    codes, labels, source = _tumour_slices(model, store, patient, batch_size)
    replaced = [replaced_tokens(model, codes, codewords, background) for codewords in asked.values()]
    maps = _changes(model, codes, replaced, background, batch_size)
    tables = []
    for grade, tokens, grade_maps in zip(asked, replaced, maps, strict=True):
        identity = {"patient": patient, "grade": store.grade(patient), "responsible_for": grade, "labels": source}
        measured = {"n_tokens": int(tokens.sum()), "share_outside": share_outside(grade_maps, tokens)}
        tables.append(region_values(grade_maps, labels).assign(**identity, **measured))
    return pd.concat(tables)


def _tumour_slices(model: TrainedModel, store: SliceStore, patient: str, batch_size: int | None) -> tuple[Tensor, np.ndarray, str]:
    """Return index maps and labels of the slices with tumour, and whose labels they are."""
    images, truth = store.images(patient), store.labels(patient)
    if truth is not None:
        shown = np.flatnonzero(truth.any(axis=(1, 2)))
        codes = encode_patient(model, images[shown], batch_size=batch_size) if len(shown) else _no_codes(model, images)
        return codes, truth[shown], "truth"
    codes = encode_patient(model, images, batch_size=batch_size)
    prediction = predict_labels(model, codes, batch_size)
    shown = np.flatnonzero(prediction.any(axis=(1, 2)))
    return codes[shown], prediction[shown], "prediction"


def _no_codes(model: TrainedModel, images: np.ndarray) -> Tensor:
    return torch.zeros((0, images.shape[2] // model.profile.stride, images.shape[3] // model.profile.stride), dtype=torch.int64)


def token_change(
    model: TrainedModel,
    code_map: Tensor,
    cell: tuple[int, int],
    background: int,
    frozen_normalisation: bool = False,
) -> np.ndarray:
    """Return the map (H, W) of the L1 change of the logits when the one token at ``cell`` (row, column) of ``code_map`` (h, w) is replaced.

    ``frozen_normalisation``: the normalisations keep the means and deviations of the unchanged slice, so that a change travels
    through the convolutions alone.

    Source: ours (how local is a responsible region?).
    """
    ablated = code_map.clone()
    ablated[cell] = background
    both = torch.stack([code_map, ablated])
    with shared_normalisation(model) if frozen_normalisation else nullcontext():
        logits = decode_codes(model, both)
    return (logits[0] - logits[1]).abs().sum(dim=0).cpu().numpy()


@contextmanager
def shared_normalisation(model: TrainedModel) -> Iterator[None]:
    """Let every group normalisation use, for all slices of a batch, the means and deviations of the first one."""
    modules = [module for module in model.network.modules() if isinstance(module, NormalisedActivation)]
    hooks = [module.register_forward_hook(_normalise_as_first) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _normalise_as_first(module: NormalisedActivation, inputs: tuple[Tensor, Tensor | None], output: Tensor) -> Tensor:
    x, shortcut = inputs
    grouped = x.float().unflatten(1, (module.groups, -1))  # (B, groups, channels, H, W)
    variance, mean = torch.var_mean(grouped[:1], dim=(2, 3, 4), keepdim=True, correction=0)
    normalised = ((grouped - mean) / torch.sqrt(variance + EPSILON)).flatten(1, 2)
    activated = leaky_relu(normalised * module.weight[:, None, None] + module.bias[:, None, None], SLOPE).to(output.dtype)
    return activated if shortcut is None else shortcut + activated
