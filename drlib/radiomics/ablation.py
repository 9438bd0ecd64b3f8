"""Responsible regions: what the decoder draws differently when the responsible codewords are taken away.

The codewords are replaced by the background codeword in the index map, both index maps are decoded, and the regions are where the
logits differ. Slices without any of the codewords do not change and are not decoded; equal index maps are decoded once.

A change reaches other pixels in two ways: through the convolutions, as far as ``decoder_reach`` says, and through the group
normalisations, whose means and deviations are those of the whole slice. With *frozen* normalisation the changed slice is normalised
with the means and deviations of the unchanged one, so that only the first way is left.

A change is the difference of two nearly equal numbers, so that the decoder works in float32 here, whatever the network was trained in: in
bfloat16 rounding alone changes every pixel a little, and there are many pixels.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, max_pool2d
from tqdm import tqdm

from drlib.cohort.regions import GRADES, LABELS
from drlib.cohort.slices import SliceStore
from drlib.errors import DeepRadiomicsError
from drlib.parallel import map_patients
from drlib.radiomics.fidelity import counting_in
from drlib.radiomics.histogram import encode_patient
from drlib.segmentation.model import TrainedModel
from drlib.segmentation.network import Decoder, ResidualBlock, UpsamplingBlock
from drlib.segmentation.normalisation import EPSILON, SLOPE, NormalisedActivation

ABLATED_REGIONS = LABELS[1:]  # NET, ED, ET
SETS_AT_ONCE = 24  # so many maps of a patient are held at a time
MEASURES = ["region", "mean", "sum", "n_voxels", "n_tokens", "total", "share_outside", "share_in_tumour", "labels"]
SET_COLUMNS = ["patient", "grade", "set", "normalisation", *MEASURES]
TABLE_COLUMNS = ["patient", "grade", "responsible_for", "codeword", "normalisation", *MEASURES]


class AblationError(DeepRadiomicsError):
    """A codeword does not exist, or is to be replaced by itself."""


def responsible_regions(
    model: TrainedModel,
    images: np.ndarray,
    codewords: Sequence[int],
    background: int,
    batch_size: int | None = None,
    frozen_normalisation: bool = False,
) -> np.ndarray:
    """Return maps (S, H, W), float32: per pixel the L1 change of the four logits when ``codewords`` are replaced together.

    ``images`` (S, 4, H, W); ``background`` is the codeword put in their place (see ``background_codeword``). No codewords, or none
    that occurs: zeros. ``frozen_normalisation``: the normalisations keep the means and deviations of the unchanged slice.

    Source: paper, "Identification of responsible regions", Fig. 2b; the frozen variant is ours.
    Caveat: regions are not where the codewords lie; a token reaches every pixel (see ``share_outside``).
    """
    return change_maps(model, encode_patient(model, images, batch_size=batch_size), codewords, background, batch_size, frozen_normalisation)


def change_maps(
    model: TrainedModel,
    codes: Tensor,
    codewords: Sequence[int],
    background: int,
    batch_size: int | None = None,
    frozen_normalisation: bool = False,
) -> np.ndarray:
    """Return ``responsible_regions`` of index maps (S, h, w) that are known already."""
    replaced = [replaced_tokens(model, codes, codewords, background)]
    return _changes(model, codes, replaced, background, batch_size, frozen_normalisation)[0]


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


def token_change(
    model: TrainedModel,
    code_map: Tensor,
    cell: tuple[int, int],
    background: int,
    frozen_normalisation: bool = False,
) -> np.ndarray:
    """Return the map (H, W) of the L1 change of the logits when the one token at ``cell`` (row, column) of ``code_map`` (h, w) is replaced.

    Source: ours (how local is a responsible region?).
    """
    one = torch.zeros_like(code_map, dtype=torch.bool)
    one[cell] = True
    return _changes(model, code_map[None], [one[None]], background, None, frozen_normalisation)[0][0]


def _changes(
    model: TrainedModel, codes: Tensor, replaced: Sequence[Tensor], background: int, batch_size: int | None, frozen: bool = False
) -> list[np.ndarray]:
    """Return the maps of several replacements. Equal index maps, of whatever slice and replacement, are decoded once, in float32."""
    side, batch_size = model.profile.stride, batch_size or model.batch_size
    maps = [np.zeros((len(codes), codes.shape[1] * side, codes.shape[2] * side), dtype=np.float32) for _ in replaced]
    ablated = torch.stack([codes, *(codes.masked_fill(tokens, background) for tokens in replaced)])  # (1 + replacements, S, h, w)
    touched = (ablated[1:] != codes).flatten(2).any(dim=2)  # (replacements, S)
    slices = touched.any(dim=0).nonzero().flatten()
    if not len(slices):
        return maps
    _, kind = torch.unique(codes[slices], dim=0, return_inverse=True)
    together = max(1, batch_size // len(ablated)) if frozen else batch_size
    for kinds in torch.arange(int(kind.max()) + 1).split(together):
        same = [slices[kind == number].numpy() for number in kinds]
        with counting_in(model, "fp32"):
            logits, (original, *others) = _decode_distinct(model, ablated[:, [members[0] for members in same]], batch_size, frozen)
        for number, other in enumerate(others):
            for row, members in enumerate(same):
                if touched[number, members[0]]:
                    maps[number][members] = (logits[original[row]] - logits[other[row]]).abs().sum(dim=0).cpu().numpy()
    return maps


def _decode_distinct(model: TrainedModel, variants: Tensor, batch_size: int, frozen: bool) -> tuple[Tensor, Tensor]:
    """Return the logits of the distinct index maps among ``variants`` (V, n, h, w), and which of them each variant has, (V, n).

    ``frozen``: the first variant of each of the n slices lends its means and deviations to the others, and only equal index maps of
    one slice have the same logits.
    """
    owner = torch.arange(variants.shape[1]) if frozen else torch.zeros(variants.shape[1], dtype=torch.int64)
    keys = torch.cat([owner.expand(variants.shape[:2])[..., None], variants.flatten(2)], dim=2).flatten(0, 1)
    distinct, which = torch.unique(keys, dim=0, return_inverse=True)
    which, maps = which.view(variants.shape[:2]), distinct[:, 1:].unflatten(1, variants.shape[2:])
    if frozen:  # each slice and its variants go through the network in one batch
        with shared_normalisation(model, which[0][distinct[:, 0]]):
            return decode_codes(model, maps), which
    return torch.cat([decode_codes(model, part) for part in maps.split(batch_size)]), which


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
    side = maps.shape[1] // replaced.shape[1]
    return 1 - _share(maps, np.kron(replaced.numpy(), np.ones((1, side, side), dtype=bool)).astype(bool))


def _share(maps: np.ndarray, inside: np.ndarray) -> float:
    """Return the share of the change that lies ``inside`` (S, H, W)."""
    total = maps.sum(dtype=np.float64)
    return float(maps[inside].sum(dtype=np.float64) / total) if total > 0 else float("nan")


def decoder_reach(decoder: Decoder) -> int:
    """Return how many pixels beyond its own cell, to each side, a token's change can travel through the decoder's convolutions.

    A 3 x 3 convolution adds one position, a residual block two; an upsampling turns a reach of r positions into 2 r + 1, for bilinear
    interpolation gives half a source pixel's neighbour a part of it.

    Source: ours; with frozen normalisation the change beyond is exactly zero.
    """
    reach = 0
    for block in decoder:
        if isinstance(block, UpsamplingBlock):
            reach = 2 * reach + 1
        elif isinstance(block, ResidualBlock):
            reach += sum(convolution.padding for convolution, _ in block.body)
        else:
            reach += block.padding
    return reach


@contextmanager
def shared_normalisation(model: TrainedModel, reference: Tensor | None = None) -> Iterator[None]:
    """Let every group normalisation use, for each slice of a batch, the means and deviations of another slice of it.

    ``reference`` (B,): for each slice the row of the batch whose statistics it gets; None: all get those of the first.
    """
    hook = partial(_normalise_by_reference, reference)
    modules = [module for module in model.network.modules() if isinstance(module, NormalisedActivation)]
    hooks = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _normalise_by_reference(
    reference: Tensor | None, module: NormalisedActivation, inputs: tuple[Tensor, Tensor | None], output: Tensor
) -> Tensor:
    x, shortcut = inputs
    rows, row = (torch.zeros(len(x), dtype=torch.int64) if reference is None else reference).to(x.device).unique(return_inverse=True)
    grouped = x[rows].float().unflatten(1, (module.groups, -1))  # (references, groups, channels, H, W)
    variance, mean = torch.var_mean(grouped, dim=(2, 3, 4), correction=0)
    each = module.weight.numel() // module.groups
    scale = module.weight * torch.rsqrt(variance + EPSILON).repeat_interleave(each, dim=1)  # (references, channels)
    shift = module.bias - scale * mean.repeat_interleave(each, dim=1)
    normalised = torch.addcmul(shift[row, :, None, None], x.float(), scale[row, :, None, None])
    activated = leaky_relu(normalised, SLOPE, inplace=True).to(output.dtype)
    return activated if shortcut is None else shortcut + activated


@dataclass(frozen=True)
class TumourCodes:
    """The slices of a patient that hold tumour, as index maps.

    Attributes:
        id: the patient.
        codes: (S, h, w), int64.
        slices: (S,) their numbers in the store.
        in_tumour: (S, h, w), whether the token's cell holds any tumour.
        labels: whose tumour: truth, or prediction where the patient has no truth.
    """

    id: str
    codes: Tensor
    slices: np.ndarray
    in_tumour: Tensor
    labels: str


def encode_tumours(
    model: TrainedModel,
    store: SliceStore,
    *,
    patients: Sequence[str] | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> list[TumourCodes]:
    """Return the index maps of the slices with tumour of each patient; tumour by truth where there is one, else by prediction."""
    patients = list(store.patients if patients is None else patients)
    work = map_patients(_encode_tumour, patients, model, store, batch_size, n_jobs=1, ordered=True)
    return list(tqdm(work, desc="index maps", total=len(patients), unit="patient", disable=not progress))


def _encode_tumour(patient: str, model: TrainedModel, store: SliceStore, batch_size: int | None) -> TumourCodes:
    images, labels = store.images(patient), store.labels(patient)
    if labels is not None:
        slices = np.flatnonzero(labels.any(axis=(1, 2)))
        size = model.profile.preprocessing.image_size // model.profile.stride
        codes = encode_patient(model, images[slices], batch_size=batch_size) if len(slices) else torch.zeros(0, size, size).long()
    else:
        codes = encode_patient(model, images, batch_size=batch_size)
        prediction = predict_labels(model, codes, batch_size)
        slices = np.flatnonzero(prediction.any(axis=(1, 2)))
        codes, labels = codes[slices], prediction
    in_tumour = max_pool2d(torch.from_numpy(labels[slices] > 0).float()[:, None], model.profile.stride)[:, 0] > 0
    return TumourCodes(patient, codes, slices, in_tumour, "prediction" if store.labels(patient) is None else "truth")


def tumour_labels(model: TrainedModel, store: SliceStore, tumour: TumourCodes, batch_size: int | None = None) -> np.ndarray:
    """Return the labels (S, H, W), uint8, of the slices of ``tumour``: the truth, or the prediction where there is none."""
    if tumour.labels == "truth":
        return store.labels(tumour.id)[tumour.slices]
    return predict_labels(model, tumour.codes, batch_size)


def ablate_sets(
    model: TrainedModel,
    store: SliceStore,
    tumours: Sequence[TumourCodes],
    sets: Mapping[str, Sequence[int]],
    background: int,
    *,
    frozen: Collection[str] = (),
    batch_size: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Replace sets of codewords, each together, in each patient's slices with tumour, and measure the change in the tumour's regions.

    ``frozen``: names of the sets that are replaced with frozen normalisation as well.

    Returns a row per patient, set, normalisation (live, frozen) and region: patient, grade (of the patient), set, normalisation, region,
    mean and sum of the change in the region, n_voxels, labels (truth or prediction), and for all three regions alike n_tokens
    (replaced), total (change in all pixels of the slices), share_outside (of it outside the cells of the tokens) and share_in_tumour
    (of it in the whole tumour); the shares are NaN where nothing changes.
    """
    tumours = list(tumours) if sets else []
    work = map_patients(_ablate_patient, tumours, model, store, sets, background, set(frozen), batch_size, n_jobs=1, ordered=True)
    tables = list(tqdm(work, desc="ablation", total=len(tumours), unit="patient", disable=not progress))
    return pd.concat(tables or [pd.DataFrame(columns=SET_COLUMNS)], ignore_index=True)[SET_COLUMNS]


def _ablate_patient(
    tumour: TumourCodes,
    model: TrainedModel,
    store: SliceStore,
    sets: Mapping[str, Sequence[int]],
    background: int,
    frozen: set[str],
    batch_size: int | None,
) -> pd.DataFrame:
    labels, grade, tables = tumour_labels(model, store, tumour, batch_size), store.grade(tumour.id), []
    for normalisation, names in (("live", list(sets)), ("frozen", [name for name in sets if name in frozen])):
        for start in range(0, len(names), SETS_AT_ONCE):
            some = names[start : start + SETS_AT_ONCE]
            replaced = [replaced_tokens(model, tumour.codes, sets[name], background) for name in some]
            maps = _changes(model, tumour.codes, replaced, background, batch_size, normalisation == "frozen")
            for name, tokens, changes in zip(some, replaced, maps, strict=True):
                identity = {"patient": tumour.id, "grade": grade, "set": name, "normalisation": normalisation, "labels": tumour.labels}
                tables.append(_measure(changes, labels, tokens).assign(**identity))
    return pd.concat(tables)


def _measure(maps: np.ndarray, labels: np.ndarray, replaced: Tensor) -> pd.DataFrame:
    return region_values(maps, labels).assign(
        n_tokens=int(replaced.sum()),
        total=float(maps.sum(dtype=np.float64)) if len(maps) else np.nan,
        share_outside=share_outside(maps, replaced),
        share_in_tumour=_share(maps, labels > 0),
    )


def ablate_cohort(
    model: TrainedModel,
    store: SliceStore,
    codewords_by_grade: Mapping[str, Sequence[int]],
    background: int,
    *,
    one_by_one: bool = False,
    frozen: bool = False,
    tumours: Sequence[TumourCodes] | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Ablate each patient's responsible codewords, those of a grade together, and measure the change in the tumour's regions.

    Regions are the truth where there is one, else the model's own segmentation (column ``labels``: truth or prediction). Only slices
    with tumour are decoded: what happens elsewhere enters no region. ``one_by_one``: each codeword alone as well; ``frozen``: those of a
    grade together with frozen normalisation as well. ``tumours``: what ``encode_tumours`` returned, of the patients to be ablated; None:
    all.

    Returns the rows of ``ablate_sets`` with ``responsible_for`` (LGG, HGG) and ``codeword`` (the one that is replaced; <NA>: all of the
    grade together) in place of ``set``. A grade without responsible codewords has no rows.
    """
    asked = {grade: codewords_by_grade[grade] for grade in GRADES if codewords_by_grade.get(grade)}
    singles = {f"{grade} {k}": [k] for grade, codewords in asked.items() for k in codewords} if one_by_one else {}
    if tumours is None:
        tumours = encode_tumours(model, store, batch_size=batch_size, progress=progress) if asked else []
    options = {"frozen": asked if frozen else (), "batch_size": batch_size, "progress": progress}
    table = ablate_sets(model, store, tumours, asked | singles, background, **options)
    named = {grade: (grade, pd.NA) for grade in asked} | {name: (name.split()[0], k) for name, (k,) in singles.items()}
    grades, codewords = [named[name][0] for name in table["set"]], [named[name][1] for name in table["set"]]
    return table.assign(responsible_for=grades, codeword=pd.array(codewords, dtype="Int64"))[TABLE_COLUMNS]
