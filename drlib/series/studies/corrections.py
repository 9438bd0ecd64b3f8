"""What each correction changes: a ladder from the published code's recipe to ours, one correction added at a time, over several seeds.

Every rung is a profile that anyone can type (``rung_profile(3).name``). A seed draws the phantom cohort, the first weights, the order of
the slices and the folds; all rungs of a seed share them, so that two rungs can be compared in pairs. All rungs see the same number of
slices in the same number of steps.
"""

import functools
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.modules.module import register_module_forward_hook
from tqdm import tqdm

from drlib.artifacts import build_stage, content_key, open_stage, source_hash, write_json
from drlib.cohort.brats import find_patients, split_cohort
from drlib.cohort.phantom import make_cohort
from drlib.cohort.regions import REGIONS
from drlib.cohort.slices import SliceStore, build_slice_store
from drlib.profiles import CohortSettings, PreprocessingSettings, Profile, RobustnessSettings, load_profile
from drlib.radiomics.grading import cross_validate
from drlib.radiomics.histogram import count_codewords
from drlib.radiomics.robustness import sweep
from drlib.segmentation.dice import dice_scores, segment_store
from drlib.segmentation.model import TrainedModel, load_model
from drlib.segmentation.quantizer import VectorQuantizer, perplexity
from drlib.segmentation.training import TrainingError, train
from drlib.series.stages.histograms import RADIOMICS_SOURCES

BASE = "smoke"
BUDGET = ("cohort.n_grading=48", "training.slices_per_epoch=320", "grading.permutations=0")  # shared by all rungs
N_SEEDS = 5
COMMAND = "drlib study corrections"
SHIPPED = Path(__file__).parent / "shipped" / "corrections"
SOURCES = (*RADIOMICS_SOURCES, "drlib.profiles", "drlib.series.studies.corrections")
KEPT_STEPS = (1, 2, 3, 5, 7, 10, 14, 20, 30, 40, 50, 70, 100, 140, 180, 250, 350, 500)
PERTURBED = RobustnessSettings(magnitudes=(0.0, 1.0), every=2)


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: its name, and the settings that go from the published code's value to ours."""

    name: str
    settings: tuple[str, ...] = ()


LADDER = (
    Rung("published code's recipe"),
    Rung(
        "rate for a short training",
        ("training.learning_rate", "training.schedule", "training.gradient_clip", "training.betas", "training.weight_decay"),
    ),
    Rung("averages start together", ("quantizer.bias_correction",)),
    Rung("k-means start", ("quantizer.kmeans_start",)),
    Rung("dead codewords restart", ("quantizer.revive_dead",)),
    Rung("weaker commitment", ("quantizer.commitment",)),
    Rung("continuous latent first", ("quantizer.start_epoch",)),
    Rung("Dice per class", ("training.dice",)),
    Rung("robust z-score", ("preprocessing.normalisation",)),
    Rung("constant background", ("preprocessing.background",)),
    Rung("tumour slices more often", ("training.tumour_share", "training.blank_slices")),
)


@dataclass(frozen=True)
class Corrections:
    """What the study found.

    Attributes:
        rows: one row per rung and seed: ``rung`` (its number), ``name``, ``seed``; ``stopped`` (why a training ended early);
            ``quantized_steps``, the ``nonfinite_share`` of them, and ``norm_ratio`` and ``largest_norm_ratio`` (median norm of the
            codewords divided by the mean norm of the latents, at the last step and at its largest); on the graded patients
            ``codewords_used``, ``perplexity``, mean ``dice_<region>`` and ``dice_WT_without_ET``, ``accuracy_<protocol>``,
            ``auc_<protocol>`` and ``majority`` (the share of the commoner grade); ``seconds`` of processor.
        steps: ``rung``, ``seed``, ``step``, ``norm_ratio``, ``used`` (codewords, in the batch), ``finite``: some of the training steps.
        robustness: ``rung`` (the first and the last), ``seed``, ``kind``, ``magnitude``, ``classifier`` (frozen or refitted),
            ``accuracy``, ``difference_ratio``.
        manifest: what it was made from, with which versions, and the SHA-256 of each table.
    """

    rows: pd.DataFrame
    steps: pd.DataFrame
    robustness: pd.DataFrame
    manifest: dict[str, Any]

    @property
    def profile(self) -> Profile:
        """The profile of the last rung."""
        made = self.manifest["made_from"]
        return load_profile("+".join([made["base"], *made["budget"]]))

    @property
    def n_steps(self) -> int:
        """Training steps of every rung."""
        training = self.profile.training
        return training.epochs * -(-training.slices_per_epoch // training.batch_size)


def rung_profile(number: int, base: str = BASE, budget: Sequence[str] = BUDGET) -> Profile:
    """Return the profile of a rung (0, 1, ...): ``base`` with the published code's recipe, corrected up to this rung."""
    ours = load_profile(base).model_dump(mode="json")
    corrected = [path.split(".") for rung in LADDER[: number + 1] for path in rung.settings]
    switches = [f"{section}.{field}={json.dumps(ours[section][field])}" for section, field in corrected]
    return load_profile("+".join([base, "authors-code", *switches, *budget]))


def run_corrections(
    folder: Path,
    seeds: Sequence[int] = tuple(range(N_SEEDS)),
    base: str = BASE,
    budget: Sequence[str] = BUDGET,
    rungs: Sequence[int] = tuple(range(len(LADDER))),
    progress: bool = True,
) -> Corrections:
    """Climb the ladder for every seed and return what was measured, kept in ``folder/corrections``.

    Killed at any moment, the next call goes on at the rung where this one stopped.
    """
    key_parts = {
        "command": COMMAND,
        "base": base,
        "budget": list(budget),
        "seeds": list(seeds),
        "rungs": {LADDER[number].name: rung_profile(number, base, budget).hash for number in rungs},
        "sources": source_hash(*SOURCES),
    }
    folder = Path(folder)

    def climb(partial: Path) -> None:
        tasks = [(seed, number) for seed in seeds for number in rungs]
        for seed, number in tqdm(tasks, desc="corrections", unit="training", disable=not progress):
            path = partial / "rows" / f"{number:02d}-{seed}.json"
            if not path.exists():
                profile = rung_profile(number, base, budget)
                write_json(path, measure_rung(number, profile, seed, folder / "work", perturb=number in (rungs[0], rungs[-1])))
        _gather(partial)

    return open_corrections(build_stage(folder / "corrections", key_parts, climb))


def open_corrections(folder: Path = SHIPPED) -> Corrections:
    """Return the tables of a finished study, by default those that come with the library, checked against their manifest."""
    manifest = open_stage(folder, repair=COMMAND)
    return Corrections(*(pd.read_csv(folder / f"{name}.csv") for name in ("rows", "steps", "robustness")), manifest)


def measure_rung(number: int, profile: Profile, seed: int, work: Path, perturb: bool) -> dict[str, Any]:
    """Train a rung from scratch, apply it to graded patients, and return its row, with ``steps`` and ``robustness`` as lists of rows."""
    start = time.process_time()
    training, graded = open_cohort(work, profile.cohort, profile.preprocessing, seed)
    shutil.rmtree(work / "model", ignore_errors=True)
    with watch_codebook() as steps:
        try:
            train(training, profile, work / "model", seed=seed, progress=False)
            stopped = None
        except TrainingError as error:
            stopped = str(error)
    row = {"rung": number, "name": LADDER[number].name, "seed": seed, "stopped": stopped} | _describe_steps(steps)
    robustness = []
    if stopped is None:
        model = load_model(work / "model")
        row |= _mean_dice(model, graded) | _grade(model, graded, profile, seed)
        robustness = _perturb(model, graded, profile, seed) if perturb else []
    which = {"rung": number, "seed": seed}
    kept = [which | step | {"norm_ratio": _finite(step["norm_ratio"])} for step in steps if step["step"] in KEPT_STEPS]
    seconds = round(time.process_time() - start, 1)
    return row | {"seconds": seconds, "steps": kept, "robustness": [which | one for one in robustness]}


@functools.cache
def open_cohort(work: Path, cohort: CohortSettings, preprocessing: PreprocessingSettings, seed: int) -> tuple[SliceStore, SliceStore]:
    """Return the slices of a seed's phantoms, those that train and those that are graded; patients are made once for all rungs."""
    home = work / f"cohort-{content_key(cohort.model_dump(mode='json'))[:6]}-{seed}"
    make_cohort(home / "phantom", cohort, seed, n_jobs=1, progress=False)
    split = split_cohort(find_patients(home / "phantom"), seed)
    name = content_key(preprocessing.model_dump(mode="json"))[:6]
    return tuple(
        build_slice_store(patients, home / f"{use}-{name}.zarr", preprocessing, cohort.spacing_mm, n_jobs=1, progress=False)
        for use, patients in (("training", split.segmentation), ("graded", split.grading))
    )


@contextmanager
def watch_codebook() -> Iterator[list[dict[str, Any]]]:
    """Yield a list that receives a row per training step of any quantizer: step, norm_ratio, used, finite."""
    steps: list[dict[str, Any]] = []
    count = 0

    def note(module: torch.nn.Module, inputs: tuple, output: Any) -> None:
        nonlocal count
        if not isinstance(module, VectorQuantizer) or not module.training:
            return
        count += 1
        if output.codes is None:  # still the continuous latent
            return
        latents, codebook = inputs[0].detach().float().movedim(1, -1), module.codebook.detach().float()
        ratio = codebook.norm(dim=1).median() / latents.norm(dim=-1).mean()
        finite = all(bool(torch.isfinite(values).all()) for values in (latents, codebook, output.latent_loss))
        used = int((output.counts > 0).sum())
        steps.append({"step": count, "norm_ratio": float(ratio), "used": used, "finite": finite})

    hook = register_module_forward_hook(note)
    try:
        yield steps
    finally:
        hook.remove()


def _describe_steps(steps: list[dict[str, Any]]) -> dict[str, Any]:
    ratios = np.array([step["norm_ratio"] for step in steps])
    return {
        "quantized_steps": len(steps),
        "norm_ratio": _finite(ratios[-1]),
        "largest_norm_ratio": _finite(ratios.max()),
        "nonfinite_share": 1 - float(np.mean([step["finite"] for step in steps])),
    }


def _mean_dice(model: TrainedModel, store: SliceStore) -> dict[str, float]:
    rows = []
    for patient, prediction in segment_store(model, store):
        truth = store.labels(patient)
        without = dice_scores(*(np.where(labels == 3, 0, labels) for labels in (prediction, truth)))["WT"]
        rows.append(dice_scores(prediction, truth) | {"WT_without_ET": without})
    return {f"dice_{region}": _finite(value) for region, value in pd.DataFrame(rows)[[*REGIONS, "WT_without_ET"]].mean().items()}


def _grade(model: TrainedModel, store: SliceStore, profile: Profile, seed: int) -> dict[str, Any]:
    counts = count_codewords(model, store).table
    grades = pd.Series({patient: store.grade(patient) for patient in store.patients})
    totals = torch.tensor(counts.sum().tolist())
    row = {"codewords_used": int((totals > 0).sum()), "perplexity": float(perplexity(totals))}
    for protocol in ("paper", "ours"):
        summary = cross_validate(counts, grades, profile.grading, seed, protocol).summary
        row |= {f"{metric}_{protocol}": _finite(summary.loc[metric, "estimate"]) for metric in ("accuracy", "auc")}
    return row | {"majority": float(grades.value_counts(normalize=True).max())}


def _perturb(model: TrainedModel, store: SliceStore, profile: Profile, seed: int) -> list[dict[str, Any]]:
    result = sweep(model, store, PERTURBED, profile.grading, seed=seed, every=PERTURBED.every)
    accuracy = result.performance.groupby(["kind", "magnitude", "classifier"], as_index=False)["accuracy"].mean()
    ratios = result.ratios.groupby(["kind", "magnitude"], as_index=False)["difference_ratio"].mean()
    return accuracy.merge(ratios).to_dict("records")


def _finite(value: float) -> float | None:
    """Return a number that JSON can hold; None where there is none."""
    return float(value) if np.isfinite(value) else None


def _gather(partial: Path) -> None:
    """Turn the rows of all rungs into three tables."""
    rows = [json.loads(path.read_text()) for path in sorted((partial / "rows").glob("*.json"))]
    for name in ("steps", "robustness"):
        table = pd.DataFrame([one for row in rows for one in row.pop(name)])
        table.to_csv(partial / f"{name}.csv", index=False, float_format="%.5g")
    pd.DataFrame(rows).to_csv(partial / "rows.csv", index=False, float_format="%.5g")
    shutil.rmtree(partial / "rows")
