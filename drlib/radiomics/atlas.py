"""The codebook atlas: what each codeword stands for, where it lies, how it speaks of the grade, and what the decoder loses without it.

Everything is counted over the tokens of the graded patients: the tissue of their cells, their place, and a few of them that are looked at
closely, one each in some patients drawn at random. Source: ours; the paper shows its codewords by number only.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import max_pool2d, pad
from tqdm import tqdm

from drlib.cohort.regions import GRADES, LABELS, MODALITIES
from drlib.cohort.slices import SliceStore
from drlib.errors import DeepRadiomicsError
from drlib.parallel import map_patients
from drlib.radiomics.ablation import decode_codes
from drlib.radiomics.classifier import GradeClassifier, NestedLogistic
from drlib.radiomics.fidelity import counting_in
from drlib.radiomics.histogram import codeword_histogram, inside_brain
from drlib.radiomics.occupancy import count_occupancy
from drlib.radiomics.statistics import bootstrap_weights, check_grades
from drlib.seeds import generator
from drlib.segmentation.model import TrainedModel

TISSUES = ("outside", "brain", *LABELS[1:])  # outside the brain, brain without tumour, and the tumour's regions
HEIGHTS = 10  # equal parts of the slices that show brain, from inferior to superior
PATCH_MODALITIES = ("t1ce", "flair")
PATCH_MARGIN = 2  # cells shown around a token's own, to each side
MAP_MARGIN = 3  # the same of the ablation map
N_RESAMPLES = 300
TABLE, FACTS = "codewords.csv", "facts.json"


class AtlasError(DeepRadiomicsError):
    """A codeword is not in the atlas, or an atlas cannot be made of these patients."""


@dataclass(frozen=True)
class Atlas:
    """The codewords in use, a row and two pictures each.

    Attributes:
        table: index ``codeword``. ``tokens`` and ``patients`` that have any; ``mean_LGG``, ``mean_HGG`` per patient; ``auc``, ``q``,
            ``direction``, ``responsible``, ``selected_share`` (:func:`drlib.radiomics.responsible.find_responsible`); ``coefficient``,
            log odds of HGG per standard deviation of log(1 + count); means, AUC and coefficient with ``_low`` and ``_high`` (95 %);
            ``share_outside``, ``share_brain``, ``share_NET``, ``share_ED``, ``share_ET`` of the pixels of its cells, which sum to 1, and
            ``tissue``, the largest of them; ``near_tumour``, the share of its tokens with tumour in their cell or one of the eight
            around; ``background``, whether it is the background codeword; ``n_ablated`` tokens, and the mean
            change of the logits in their cells (``ablation_cell``) and in the eight cells around (``ablation_ring``).
        facts: how it was made: ``n_patients``, ``n_resamples``, ``n_tokens`` looked at, ``labels`` (truth or prediction), ``side`` of a
            cell in pixels, ``pixel_mm``, ``size`` and ``penalty`` of the classifier.
        folder: where the pictures are.
    """

    table: pd.DataFrame
    facts: dict
    folder: Path

    def patches(self, codeword: int) -> bytes:
        """Return a PNG: tokens of some patients side by side, T1ce above FLAIR, the token's cell outlined."""
        return self._picture("patches", codeword)

    def maps(self, codeword: int) -> bytes:
        """Return a PNG: where the codeword lies in the axial plane and over the height, and its ablation map."""
        return self._picture("maps", codeword)

    def _picture(self, kind: str, codeword: int) -> bytes:
        if codeword not in self.table.index:
            raise AtlasError(
                f"codeword {codeword} is not in use; the atlas has {len(self.table)} codewords, the first {self.table.index[0]}"
            )
        return (self.folder / kind / picture_name(codeword)).read_bytes()

    sprite = patches


def picture_name(codeword: int) -> str:
    """Return the file name of a codeword's picture."""
    return f"codeword-{codeword:03d}.png"


def load_atlas(folder: Path) -> Atlas:
    """Return the atlas that is in ``folder``."""
    table = pd.read_csv(folder / TABLE, index_col="codeword")
    return Atlas(table, json.loads((folder / FACTS).read_text(encoding="utf-8")), folder)


@dataclass(frozen=True)
class PatientTokens:
    """Where the tokens of one patient lie.

    Attributes:
        id: the patient.
        codes: (S, h, w), int16.
        tissue: (K, 5) pixels of each of ``TISSUES`` in the cells of each codeword.
        near_tumour: (K,) tokens with any tumour in their cell or one of the eight around.
        plane: (K, h, w) tokens at each position, in slices that show brain.
        height: (K, HEIGHTS) tokens in each tenth of the slices that show brain, from inferior to superior.
        nearest: (K, 3) slice, row and column of the token whose latent is nearest to the codeword, in slices that show brain; -1: none.
        head: (H, W) where any slice shows brain.
        labels: whose tumour: truth, or prediction where the patient has no truth.
    """

    id: str
    codes: np.ndarray
    tissue: np.ndarray
    near_tumour: np.ndarray
    plane: np.ndarray
    height: np.ndarray
    nearest: np.ndarray
    head: np.ndarray
    labels: str


def survey_tokens(model: TrainedModel, store: SliceStore, patients: Sequence[str], progress: bool = False) -> list[PatientTokens]:
    """Return where the tokens of each patient lie and on what."""
    work = map_patients(survey_patient, patients, model, store, n_jobs=1, ordered=True)
    return list(tqdm(work, desc="tokens", total=len(patients), unit="patient", disable=not progress))


def survey_patient(patient: str, model: TrainedModel, store: SliceStore) -> PatientTokens:
    """Return where the tokens of one patient lie."""
    images, labels, size = store.images(patient), store.labels(patient), model.profile.quantizer.codebook_size
    codes, distance = _encode(model, images)
    inside, truth = inside_brain(images), labels is not None
    labels = labels if truth else model.segment(images).numpy()
    shown = np.flatnonzero(inside.any(axis=(1, 2)))
    flat = codes[shown].reshape(len(shown), codes[0].size)
    tenth = np.arange(len(shown)) * HEIGHTS // max(len(shown), 1)
    return PatientTokens(
        patient,
        codes.astype(np.int16),
        count_tissue(codes, labels, inside, size),
        np.bincount(codes[near_tumour(labels, model.profile.stride)], minlength=size),
        count_places(flat, np.arange(codes[0].size), codes[0].size, size).reshape(size, *codes[0].shape),
        count_places(flat, tenth[:, None], HEIGHTS, size),
        _nearest(codes, distance, shown, size),
        inside.any(axis=0),
        "truth" if truth else "prediction",
    )


def count_tissue(codes: np.ndarray, labels: np.ndarray, inside: np.ndarray, codebook_size: int) -> np.ndarray:
    """Return how many pixels of each of ``TISSUES`` lie in the cells of each codeword: (K, 5).

    ``codes`` (S, h, w), ``labels`` (S, H, W), ``inside`` (S, H, W): whether a pixel is inside the brain. Tumour is tumour wherever it is.
    """
    regions = count_occupancy(codes, labels, codebook_size)
    outside = count_occupancy(codes, (~inside & (labels == 0)).astype(np.uint8), codebook_size)[:, 1:2]
    return np.hstack([outside, regions[:, :1] - outside, regions[:, 1:]])


def near_tumour(labels: np.ndarray, side: int) -> np.ndarray:
    """Return the cells (S, h, w) of ``side`` pixels that hold tumour of ``labels`` (S, H, W), or touch one that does."""
    return (max_pool2d(max_pool2d(torch.from_numpy(labels > 0).float()[:, None], side), 3, stride=1, padding=1)[:, 0] > 0).numpy()


def _encode(model: TrainedModel, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return codes (S, h, w) and the squared distance of each latent to its codeword."""
    quantizer = model.network.quantizer

    def encode(batch: Tensor) -> Tensor:
        latents = model.network.encode(batch)
        codes = quantizer.codes(latents)
        gap = quantizer(latents, quantize=False).z_q - quantizer.lookup(codes)
        return torch.stack([codes.double(), gap.square().sum(dim=1).double()], dim=1)

    codes, distance = model.map_slices(encode, images).numpy().swapaxes(0, 1)
    return codes.astype(np.int64), distance


def count_places(codes: np.ndarray, places: np.ndarray, n: int, codebook_size: int) -> np.ndarray:
    """Return how many of ``codes`` (any shape) are each codeword at each of ``n`` places: (K, n); ``places`` broadcasts to their shape."""
    return np.bincount((codes * n + places).ravel(), minlength=codebook_size * n).reshape(codebook_size, n)


def _nearest(codes: np.ndarray, distance: np.ndarray, shown: np.ndarray, codebook_size: int) -> np.ndarray:
    flat = codes[shown].ravel()
    order = np.lexsort((distance[shown].ravel(), flat))
    present, first = np.unique(flat[order], return_index=True)
    number, row, column = np.unravel_index(order[first], (len(shown), *codes.shape[1:]))
    nearest = np.full((codebook_size, 3), -1)
    nearest[present] = np.column_stack([shown[number], row, column])
    return nearest


def choose_tokens(survey: Sequence[PatientTokens], most: int, random: np.random.Generator) -> pd.DataFrame:
    """Return the tokens that are looked at: codeword, patient, slice, row, column.

    For each codeword at most ``most`` patients, drawn at random among those who have it; of each the token nearest to the codeword in
    latent space.
    """
    nearest = np.stack([tokens.nearest for tokens in survey])  # (patients, K, 3)
    rows = []
    for codeword in np.flatnonzero((nearest[:, :, 0] >= 0).any(axis=0)):
        having = np.flatnonzero(nearest[:, codeword, 0] >= 0)
        for number in random.permutation(having)[:most]:
            rows.append((codeword, survey[number].id, *nearest[number, codeword]))
    return pd.DataFrame(rows, columns=["codeword", "patient", "slice", "row", "column"])


def cut_patches(store: SliceStore, tokens: pd.DataFrame, side: int) -> np.ndarray:
    """Return the surroundings of ``tokens`` (``choose_tokens``): (N, 2, W, W), T1ce and FLAIR, z-scored; outside the slice as its corner.

    ``side``: pixels of a cell. W is ``side`` times 2 ``PATCH_MARGIN`` + 1.
    """
    margin, width = PATCH_MARGIN * side, (2 * PATCH_MARGIN + 1) * side
    channels = [MODALITIES.index(modality) for modality in PATCH_MODALITIES]
    patches = np.zeros((len(tokens), len(channels), width, width), dtype=np.float32)
    numbered = tokens.assign(number=np.arange(len(tokens)))
    for patient, chosen in numbered.groupby("patient"):
        images = store.images(patient)
        for token in chosen.itertuples():
            image = images[token.slice, channels].astype(np.float32)
            wide = np.stack([np.pad(channel, margin, constant_values=channel[0, 0]) for channel in image])
            top, left = token.row * side, token.column * side
            patches[token.number] = wide[:, top : top + width, left : left + width]
    return patches


def ablate_tokens(
    model: TrainedModel, codes: np.ndarray, cells: np.ndarray, background: int, batch_size: int | None = None, progress: bool = False
) -> np.ndarray:
    """Return the change of the logits around each of N single tokens when it is replaced by the background codeword: (N, W, W), float32.

    ``codes`` (N, h, w) are the index maps of the tokens' slices, ``cells`` (N, 2) their row and column. The change is the sum of absolute
    differences over the four labels, as in :func:`drlib.radiomics.ablation.responsible_regions`; W is the pixels of a cell times
    2 ``MAP_MARGIN`` + 1, the token's cell in the middle; NaN outside the slice. A token that is the background codeword changes nothing.
    """
    side, together = model.profile.stride, max(1, (batch_size or model.batch_size) // 2)
    margin, width = MAP_MARGIN * side, (2 * MAP_MARGIN + 1) * side
    windows = np.zeros((len(codes), width, width), dtype=np.float32)
    for start in tqdm(range(0, len(codes), together), desc="ablation", unit="batch", disable=not progress):
        kept = torch.from_numpy(codes[start : start + together].astype(np.int64))
        replaced, some = kept.clone(), cells[start : start + together]
        replaced[torch.arange(len(some)), *torch.tensor(some).T] = background
        with counting_in(model, "fp32"):
            before, after = decode_codes(model, torch.cat([kept, replaced])).chunk(2)
        change = pad((before - after).abs().sum(dim=1), [margin] * 4, value=float("nan")).cpu().numpy()
        for number, (row, column) in enumerate(some * side):
            windows[start + number] = change[number, row : row + width, column : column + width]
    return windows


def mean_window(windows: np.ndarray) -> np.ndarray:
    """Return the mean (W, W) of ``windows`` (n, W, W) over those that have the pixel; 0 where none has, or there are none."""
    present = np.isfinite(windows)
    return np.where(present, windows, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)


def cell_and_ring(window: np.ndarray) -> tuple[float, float]:
    """Return the mean of a map (W, W) in the token's cell, and in the eight cells around it."""
    side = len(window) // (2 * MAP_MARGIN + 1)
    around = window[(MAP_MARGIN - 1) * side : (MAP_MARGIN + 2) * side, (MAP_MARGIN - 1) * side : (MAP_MARGIN + 2) * side]
    cell = float(around[side : 2 * side, side : 2 * side].mean())
    return cell, float((9 * around.mean() - cell) / 8)


def describe_tissue(tissue: np.ndarray) -> pd.DataFrame:
    """Return ``share_`` of each of ``TISSUES`` and ``tissue``, the largest, of pixel counts (K, 5); a codeword without tokens has NaN."""
    total = tissue.sum(axis=1, keepdims=True)
    shares = np.divide(tissue, total, out=np.full(tissue.shape, np.nan), where=total > 0)
    return pd.DataFrame(shares, columns=[f"share_{name}" for name in TISSUES]).assign(tissue=np.array(TISSUES)[tissue.argmax(axis=1)])


def mean_counts(counts: pd.DataFrame, grades: pd.Series, seed: int = 0) -> pd.DataFrame:
    """Return the mean count of each codeword in each grade, with ``_low`` and ``_high``: 95 %, bootstrap over the patients of the grade."""
    is_hgg = (check_grades(counts, grades) == "HGG").to_numpy()
    weights, values, columns = bootstrap_weights(is_hgg, generator(seed, "atlas", "counts")), counts.to_numpy(dtype=float), {}
    for grade, chosen in zip(GRADES, (~is_hgg, is_hgg), strict=True):
        means = weights[:, chosen] @ values[chosen] / chosen.sum()
        low, high = np.quantile(means[1:], [0.025, 0.975], axis=0)
        columns |= {f"mean_{grade}": means[0], f"mean_{grade}_low": low, f"mean_{grade}_high": high}
    return pd.DataFrame(columns, index=counts.columns)


def resample_coefficients(
    counts: pd.DataFrame, grades: pd.Series, fitted: GradeClassifier, seed: int = 0, resamples: int = N_RESAMPLES
) -> pd.DataFrame:
    """Return the ``coefficient`` of each codeword in ``fitted``, with ``_low`` and ``_high``: 95 %, percentiles over ``resamples`` refits.

    Log odds of HGG per standard deviation of log(1 + count) in ``counts``, given all other codewords. Patients are drawn with replacement
    within each grade. How many codewords are kept and how strong the penalty is stays as ``fitted`` chose it: a patient who is drawn twice
    would stand on both sides of the inner folds that choose.

    Caveat: the penalty pulls every coefficient, and so every interval, towards 0. An interval says how far the fit hangs on the patients,
    not where an unpenalised coefficient lies; alike codewords share what one of them would have alone.

    Source: ours.
    """
    if fitted.kind != "counts":
        raise AtlasError(f"coefficients of a classifier of counts are resampled, not of the kind {fitted.kind!r}")
    is_hgg = (check_grades(counts, grades) == "HGG").to_numpy()
    logs = np.log1p(counts.to_numpy(dtype=float))
    draws, refitted = bootstrap_weights(is_hgg, generator(seed, "atlas", "coefficients"), resamples)[1:].astype(int), []
    logistic = NestedLogistic(sizes=(fitted.size,), penalties=(fitted.penalty,))
    with threadpool_limits(1):  # matrices too small to share
        for times in draws:
            rows = np.repeat(np.arange(len(times)), times)
            refitted.append(logistic.fit(logs[rows], is_hgg[rows]).coef_)
    low, high = np.quantile(refitted, [0.025, 0.975], axis=0) * logs.std(axis=0)
    columns = {"coefficient": np.array(fitted.coefficients) * logs.std(axis=0), "coefficient_low": low, "coefficient_high": high}
    return pd.DataFrame(columns, index=counts.columns)


@dataclass(frozen=True)
class AtlasParts:
    """What an atlas is drawn from: the ``table`` (see :class:`Atlas`), and for each codeword in it, in its order, what is to be seen.

    Attributes:
        table: a row per codeword in use.
        tokens: the tokens looked at (``choose_tokens``).
        patches: (N, 2, W, W) of these (``cut_patches``).
        plane: (n, h, w) tokens at each position.
        height: (n, HEIGHTS).
        ablation: (n, W, W) mean change around a token.
        head: (H, W) share of the patients whose brain shows there in any slice.
    """

    table: pd.DataFrame
    tokens: pd.DataFrame
    patches: np.ndarray
    plane: np.ndarray
    height: np.ndarray
    ablation: np.ndarray
    head: np.ndarray

    @cached_property
    def patches_of(self) -> dict[int, np.ndarray]:
        """The patches (n, 2, W, W) of each codeword."""
        return {int(codeword): self.patches[rows] for codeword, rows in self.tokens.groupby("codeword").indices.items()}


def assemble_atlas(
    model: TrainedModel,
    store: SliceStore,
    survey: Sequence[PatientTokens],
    numbers: pd.DataFrame,
    background: int,
    seed: int = 0,
    most: int = 8,
    progress: bool = False,
) -> AtlasParts:
    """Return everything an atlas is drawn from.

    ``survey``: of the graded patients. ``numbers``: a row per codeword with what ``mean_counts``, ``resample_coefficients`` and
    ``find_responsible`` say. ``most``: tokens of each codeword that are looked at and ablated.
    """
    size, side = model.profile.quantizer.codebook_size, model.profile.stride
    usage = np.stack([codeword_histogram(torch.from_numpy(tokens.codes.astype(np.int64)), size) for tokens in survey])
    tokens = choose_tokens(survey, most, generator(seed, "atlas", "tokens"))
    ablation, described = _ablate_codewords(model, survey, tokens, background, size, progress)
    near = sum(tokens.near_tumour for tokens in survey) / np.maximum(usage.sum(axis=0), 1)
    facts = {
        "tokens": usage.sum(axis=0),
        "near_tumour": near,
        "patients": (usage > 0).sum(axis=0),
        "background": np.arange(size) == background,
    }
    table = pd.DataFrame(facts).join(numbers).join(describe_tissue(sum(tokens.tissue for tokens in survey))).join(described)
    used = np.flatnonzero(usage.sum(axis=0))
    return AtlasParts(
        table.loc[used].rename_axis("codeword"),
        tokens,
        cut_patches(store, tokens, side),
        sum(tokens.plane for tokens in survey)[used],
        sum(tokens.height for tokens in survey)[used],
        ablation[used],
        np.mean([tokens.head for tokens in survey], axis=0),
    )


def _ablate_codewords(
    model: TrainedModel, survey: Sequence[PatientTokens], tokens: pd.DataFrame, background: int, size: int, progress: bool
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the mean window (K, W, W) of every codeword, and ``n_ablated``, ``ablation_cell`` and ``ablation_ring``."""
    asked = tokens[tokens["codeword"] != background]
    maps = {tokens.id: tokens.codes for tokens in survey}
    codes = np.stack([maps[token.patient][token.slice] for token in asked.itertuples()])
    windows = ablate_tokens(model, codes, asked[["row", "column"]].to_numpy(), background, progress=progress)
    number = asked["codeword"].to_numpy()
    means = np.stack([mean_window(windows[number == codeword]) for codeword in range(size)])
    described = pd.DataFrame([cell_and_ring(window) for window in means], columns=["ablation_cell", "ablation_ring"])
    return means, described.assign(n_ablated=np.bincount(number, minlength=size))
