"""The method on trial: cohorts whose truth is known, because it was planted in them or because there is nothing in them to be found.

One codebook, that of the model which comes with the library, counts every cohort of the study; no network is trained. That is allowed
because the questions are asked of what follows the codebook: folds, classifiers, tests, ablation. Four trials:

* *null* and *power*: a pool of phantoms of both growth types is counted once. Cohorts are drawn from it; their grades are drawn at random
  (null), or tell the growth type of a part of the patients (power).
* *planted*: cohorts in which one compartment, or the texture of the core, is all that differs between the grades.
* *mirrored*: null cohorts in which every patient is there twice, the second time mirrored.
* *confounded*: null cohorts in which each grade has a scanner of its own.
"""

import functools
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from drlib.artifacts import build_stage, file_sha256, open_stage, source_hash, write_json
from drlib.cohort.brats import find_patients, split_cohort
from drlib.cohort.phantom import draw_truth, make_cohort
from drlib.cohort.slices import SliceStore, build_slice_store
from drlib.profiles import load_profile
from drlib.radiomics.ablation import ablate_cohort
from drlib.radiomics.grading import cross_validate, volume_features
from drlib.radiomics.histogram import background_codeword, count_codewords, encode_patient
from drlib.radiomics.leaks import count_control, find_twins, head_pattern, without_twins
from drlib.radiomics.occupancy import count_occupancy, region_enrichment
from drlib.radiomics.responsible import ResponsibleSettings, find_responsible, responsible_by_grade
from drlib.seeds import derive_seed, generator
from drlib.segmentation.model import TrainedModel, load_model, shipped_model
from drlib.series.stages.histograms import RADIOMICS_SOURCES

COMMAND = "drlib study known-truth"
SHIPPED = Path(__file__).parent / "shipped" / "known_truth"
SOURCES = (*RADIOMICS_SOURCES, "drlib.profiles", "drlib.series.studies.known_truth")
TABLES = ("null", "power", "planted", "mirrored", "confounded")
REGIONS = ["NET", "ED", "ET"]
CARRIES = {"planted-NET": "NET", "planted-ED": "ED", "planted-ET": "ET", "planted-texture": "NET"}  # variant: what carries the grade
SPEAKS = {"planted-NET": ("LGG",), "planted-ED": ("HGG",), "planted-ET": ("HGG",), "planted-texture": ("LGG", "HGG")}  # who has more of it
PAPER_PROCEDURE = ResponsibleSettings(procedure="paper")


@dataclass(frozen=True)
class Design:
    """How large the study is.

    Attributes:
        profile: of the phantoms and their slices, and of folds and bootstrap; the model's codebook must have been trained on such slices.
        pool_cohorts, pool_size: cohorts of the pool, and patients of each.
        n_patients: of a null cohort, 3 in 8 LGG.
        null_draws, power_draws, mirrored_draws: cohorts drawn from the pool; of the power trial, for each size and informative share.
        power_sizes, informative: patients of a cohort, and the share of them whose grade tells how the tumour grows.
        planted_seeds, planted_size, confounded_seeds, confounded_size: cohorts that are made anew, and patients of each.
    """

    profile: str = "demo"
    pool_cohorts: int = 3
    pool_size: int = 112
    n_patients: int = 112
    null_draws: int = 100
    power_draws: int = 6
    power_sizes: tuple[int, ...] = (28, 56, 112, 224)
    informative: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    mirrored_draws: int = 20
    planted_seeds: int = 8
    planted_size: int = 56
    confounded_seeds: int = 4
    confounded_size: int = 56


@dataclass(frozen=True)
class KnownTruth:
    """What the trials found; a row per cohort, and in ``planted`` per grade of the responsible codewords.

    Attributes:
        null: ``draw``, ``auc`` with ``auc_low``, ``auc_high``, ``accuracy``, ``auc_published`` (raw counts, one split), ``tested``
            (codewords), ``found`` and ``found_published`` (responsible codewords by our rule and by the published one), ``control_auc``.
        power: ``n``, ``informative``, ``draw``, ``auc`` with interval, ``found_LGG``, ``found_HGG``.
        planted: ``variant``, ``seed``, ``grade``, ``responsible`` (how many; 0: its leading codeword was taken), ``top_mean``,
            ``top_sum`` and ``top_enriched`` (region of the greatest change per voxel, in sum, and most enriched under the codewords),
            the values ``mean_*``, ``sum_*``, ``enrichment_*``, ``auc`` of the codewords and ``auc_volume`` of the planted volume alone.
        mirrored: ``draw``, ``auc`` with all, ``auc_without_twins``, ``twins`` (pairs that are there), ``caught``, ``false_alarms``.
        confounded: ``trial`` (confounded; sound, drawn from the pool), ``seed``, ``auc`` of all counts, ``control_auc``, ``control_low``,
            ``warned``.
        manifest: what it was made from, with which versions, and the SHA-256 of each table.
    """

    null: pd.DataFrame
    power: pd.DataFrame
    planted: pd.DataFrame
    mirrored: pd.DataFrame
    confounded: pd.DataFrame
    manifest: dict[str, Any]

    @property
    def design(self) -> Design:
        """How large the study was."""
        return Design(**{k: tuple(v) if isinstance(v, list) else v for k, v in self.manifest["made_from"]["design"].items()})


def open_known_truth(folder: Path = SHIPPED) -> KnownTruth:
    """Return the tables of a finished study, by default those that come with the library, checked against their manifest."""
    manifest = open_stage(folder, repair=COMMAND)
    return KnownTruth(*(pd.read_csv(folder / f"{name}.csv") for name in TABLES), manifest)


def run_known_truth(
    folder: Path, design: Design | None = None, model: Path | None = None, n_jobs: int = 1, progress: bool = True
) -> KnownTruth:
    """Hold all trials and return what they found, kept in ``folder/known_truth``. ``model``: a folder, the shipped one if None.

    Killed at any moment, the next call goes on with the cohort at which this one stopped. ``n_jobs``: cohorts at a time.
    """
    folder, design = Path(folder), design or Design()
    model = shipped_model("demo") if model is None else Path(model)
    key_parts = {
        "command": COMMAND,
        "design": asdict(design),
        "model": file_sha256(model / "model.safetensors"),
        "sources": source_hash(*SOURCES),
    }

    def hold(partial: Path) -> None:
        trials = Trials(design, model, partial, folder / "work")
        # Long ones first; what is drawn from the pool needs the whole pool.
        _do(trials.pool_tasks(), n_jobs, "phantoms of the pool", progress)
        _do([*trials.planted_tasks(), *trials.confounded_tasks(), *trials.drawn_tasks()], n_jobs, "cohorts on trial", progress)
        _gather(partial)

    return open_known_truth(build_stage(folder / "known_truth", key_parts, hold))


Task = tuple[Path, Callable[[], None]]


def _do(tasks: Iterable[Task], n_jobs: int, what: str, progress: bool) -> None:
    waiting = [(path, task) for path, task in tasks if not path.exists()]
    work = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(joblib.delayed(task)() for _, task in waiting)
    for _ in tqdm(work, desc=what, total=len(waiting), unit="task", disable=not progress):
        pass


@dataclass(frozen=True)
class Trials:
    """Every task of the study: what it writes, and the call that writes it."""

    design: Design
    model: Path
    out: Path
    work: Path

    def pool_tasks(self) -> list[Task]:
        """Count the phantoms of the pool, each as it is, mirrored, and in its slices without tumour."""
        path = self.out / "pool"
        return [(path / f"{c}.parquet", functools.partial(self.count_pool, c)) for c in range(self.design.pool_cohorts)]

    def planted_tasks(self) -> list[Task]:
        """Make, count and ablate each planted cohort."""
        return [
            (self._row("planted", f"{variant}-{seed}"), functools.partial(self.try_planted, variant, seed))
            for seed in range(self.design.planted_seeds)
            for variant in CARRIES
        ]

    def confounded_tasks(self) -> list[Task]:
        """Make and count each cohort with a scanner per grade."""
        seeds = range(self.design.confounded_seeds)
        return [(self._row("confounded", f"confounded-{seed}"), functools.partial(self.try_confounded, seed)) for seed in seeds]

    def drawn_tasks(self) -> list[Task]:
        """Draw cohorts from the pool."""
        design = self.design
        tasks = [("null", f"{draw}", (self.try_null, draw)) for draw in range(design.null_draws)]
        tasks += [("mirrored", f"{draw}", (self.try_mirrored, draw)) for draw in range(design.mirrored_draws)]
        tasks += [("confounded", f"sound-{draw}", (self.try_sound, draw)) for draw in range(design.mirrored_draws)]
        for n in design.power_sizes:
            for share in design.informative:
                tasks += [("power", f"{n}-{share}-{draw}", (self.try_power, n, share, draw)) for draw in range(design.power_draws)]
        return [(self._row(trial, name), functools.partial(*call)) for trial, name, call in tasks]

    def count_pool(self, number: int) -> None:
        """Write counts, mirrored counts, control counts and growth of one cohort of the pool, and the patterns of its heads."""
        seed = derive_seed(number, "pool") % 2**31
        with self._cohort("null", seed, self.design.pool_size) as (store, truth):
            model, patients = open_model(self.model), list(store.patients)
            mirrored = [_histogram(model, store.images(patient)[..., ::-1]) for patient in patients]
            counts, control = count_codewords(model, store).table, count_control(model, store)
            patterns = np.array([head_pattern(store.images(patient)) for patient in patients])
            growth = truth.loc[patients, "growth"]
        ids = [f"{number}-{patient}" for patient in patients]
        parts = {"counts": counts, "mirrored": pd.DataFrame(mirrored), "control": control}
        table = pd.concat([part.set_axis(ids).add_prefix(f"{name} ") for name, part in parts.items()], axis=1)
        (self.out / "pool").mkdir(parents=True, exist_ok=True)
        np.save(self.out / "pool" / f"{number}.npy", patterns)
        table.assign(growth=growth.to_numpy()).to_parquet(self.out / "pool" / f"{number}.parquet")

    def try_null(self, draw: int) -> None:
        """Grade a cohort whose grades were drawn at random."""
        pool = open_pool(self.out / "pool")
        rng = generator(draw, "null")
        patients = list(rng.choice(pool.patients, self.design.n_patients, replace=False))
        grades = _random_grades(patients, rng)
        counts, row = pool.counts.loc[patients], {"draw": draw}
        row |= self._grade(counts, grades, draw)
        row["auc_published"] = self._grade(counts, grades, draw, protocol="paper")["auc"]
        found, published = (find_responsible(counts, grades, *settings, seed=draw) for settings in ((), (PAPER_PROCEDURE,)))
        row |= {"tested": int(found["q"].notna().sum()), "found": int(found["responsible"].sum())}
        row |= {"found_published": int(published["responsible"].sum())}
        row["control_auc"] = self._grade(pool.control.loc[patients], grades, draw)["auc"]
        self._write("null", f"{draw}", [row])

    def try_power(self, n: int, share: float, draw: int) -> None:
        """Grade a cohort of ``n`` patients, of whom ``share`` have the grade by which their tumour grows, the others a random one."""
        pool = open_pool(self.out / "pool")
        rng = generator(draw, "power", n, share)
        patients = _stratified(pool.growth, n, rng)
        grades = pool.growth.loc[patients].copy()
        uninformed = rng.choice(n, round(n * (1 - share)), replace=False)
        grades.iloc[uninformed] = rng.permutation(grades.iloc[uninformed])
        row = {"n": n, "informative": share, "draw": draw} | self._grade(pool.counts.loc[patients], grades, draw, repeats=2)
        found = find_responsible(pool.counts.loc[patients], grades, seed=draw)
        for grade in ("LGG", "HGG"):
            row[f"found_{grade}"] = int((found["responsible"] & (found["direction"] == grade)).sum())
        self._write("power", f"{n}-{share}-{draw}", [row])

    def try_mirrored(self, draw: int) -> None:
        """Grade a null cohort of which each patient has a mirrored twin, with the twins and without, and look for them."""
        pool = open_pool(self.out / "pool")
        rng = generator(draw, "mirrored")
        originals = list(rng.choice(pool.patients, self.design.n_patients // 2, replace=False))
        twins = [f"{patient} mirrored" for patient in originals]
        grades = _random_grades(originals, rng)
        both = pd.concat([pool.counts.loc[originals], pool.mirrored.loc[originals].set_axis(twins)])
        patterns = np.concatenate([pool.patterns(originals), pool.patterns(originals)[:, ::-1]])
        found = find_twins(patterns, [*originals, *twins])
        true = (found["second"] == found["first"] + " mirrored").to_numpy(bool)
        kept = without_twins([*originals, *twins], found)
        all_grades = pd.concat([grades, grades.set_axis(twins)])
        row = {"draw": draw, "auc": self._grade(both, all_grades, draw, repeats=2)["auc"]}
        row["auc_without_twins"] = self._grade(both.loc[kept], all_grades.loc[kept], draw, repeats=2)["auc"]
        self._write("mirrored", f"{draw}", [row | {"twins": len(twins), "caught": int(true.sum()), "false_alarms": int((~true).sum())}])

    def try_sound(self, draw: int) -> None:
        """Take a cohort from the pool whose grades are the growth of its tumours, and see whether the control warns of it."""
        pool = open_pool(self.out / "pool")
        patients = _stratified(pool.growth, self.design.n_patients, generator(draw, "sound"))
        self._warn("sound", draw, pool.counts.loc[patients], pool.control.loc[patients], pool.growth.loc[patients])

    def try_confounded(self, seed: int) -> None:
        """Make a cohort with a scanner per grade, and see whether the control warns of it."""
        with self._cohort("confounded", derive_seed(seed, "confounded") % 2**31, self.design.confounded_size) as (store, truth):
            model = open_model(self.model)
            counts, control = count_codewords(model, store).table, count_control(model, store)
            self._warn("confounded", seed, counts, control, truth.loc[list(store.patients), "grade"])

    def try_planted(self, variant: str, seed: int) -> None:
        """Make a planted cohort, find its responsible codewords, and ask in three ways which region they are about."""
        with self._cohort(variant, derive_seed(seed, variant) % 2**31, self.design.planted_size, lgg_share=0.5) as (store, truth):
            model, patients = open_model(self.model), list(store.patients)
            counts, grades = count_codewords(model, store).table, truth.loc[patients, "grade"]
            found = find_responsible(counts, grades, seed=seed)
            chosen = responsible_by_grade(found, at_least=1)
            values = ablate_cohort(model, store, chosen, background_codeword(model, store))
            occupancy = sum(_occupancy(model, store, patient) for patient in patients)
        head = {"variant": variant, "seed": seed, "auc": self._grade(counts, grades, seed, repeats=2)["auc"]}
        volume = volume_features(truth.loc[patients, [f"{CARRIES[variant]}_cm3"]])
        head["auc_volume"] = self._grade(volume, grades, seed, repeats=2, kind="features")["auc"]
        rows = []
        for grade in SPEAKS[variant]:
            own = found["responsible"] & (found["direction"] == grade)
            row = head | {"grade": grade, "responsible": int(own.sum()), "codewords": " ".join(map(str, chosen[grade]))}
            measured = values[values["responsible_for"] == grade].groupby("region")[["mean", "sum"]].mean().reindex(REGIONS)
            measured["enriched"] = region_enrichment(occupancy, chosen[grade])
            for name in measured:
                row |= {f"top_{name}": measured[name].idxmax() if measured[name].notna().any() else None}
                row |= {f"{name}_{region}": float(value) for region, value in measured[name].items()}
            rows.append(row)
        self._write("planted", f"{variant}-{seed}", rows)

    def _warn(self, trial: str, seed: int, counts: pd.DataFrame, control: pd.DataFrame, grades: pd.Series) -> None:
        found = self._grade(control, grades, seed)
        row = {"trial": trial, "seed": seed, "auc": self._grade(counts, grades, seed, repeats=2)["auc"]}
        row |= {"control_auc": found["auc"], "control_low": found["auc_low"], "warned": bool(found["auc_low"] > 0.5)}
        self._write("confounded", f"{trial}-{seed}", [row])

    def _grade(
        self, features: pd.DataFrame, grades: pd.Series, seed: int, repeats: int | None = None, protocol: str = "ours", kind=None
    ) -> dict[str, float]:
        settings = load_profile(self.design.profile).grading
        settings = settings.model_copy(update={"permutations": 0, "repeats": repeats or settings.repeats})
        summary = cross_validate(features, grades, settings, seed, protocol, kind).summary
        auc, accuracy = summary.loc["auc"], summary.loc["accuracy"]
        return {"auc": auc["estimate"], "auc_low": auc["low"], "auc_high": auc["high"], "accuracy": accuracy["estimate"]}

    def _cohort(self, variant: str, seed: int, n: int, lgg_share: float | None = None) -> "_Made":
        profile = load_profile(self.design.profile)
        changes = {"variant": variant, "n_grading": n, "n_segmentation": 4} | ({} if lgg_share is None else {"lgg_share": lgg_share})
        return _Made(self.work / f"{variant}-{seed}", profile.cohort.model_copy(update=changes), profile.preprocessing, seed)

    def _row(self, trial: str, name: str) -> Path:
        return self.out / trial / f"{name}.json"

    def _write(self, trial: str, name: str, rows: list[dict[str, Any]]) -> None:
        write_json(self._row(trial, name), [{k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()} for row in rows])


class _Made:
    """A cohort made for one task: its slices and truth table; its files are gone when the task is done."""

    def __init__(self, folder: Path, cohort, preprocessing, seed: int):
        self.folder, self.cohort, self.preprocessing, self.seed = folder, cohort, preprocessing, seed

    def __enter__(self) -> tuple[SliceStore, pd.DataFrame]:
        make_cohort(self.folder / "phantom", self.cohort, self.seed, n_jobs=1, progress=False)
        graded = split_cohort(find_patients(self.folder / "phantom"), self.seed).grading
        where = self.folder / "graded.zarr"
        store = build_slice_store(graded, where, self.preprocessing, self.cohort.spacing_mm, n_jobs=1, progress=False)
        return store, draw_truth(self.cohort, self.seed).set_index("id")

    def __exit__(self, *error) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Pool:
    """The counted phantoms: ``counts``, ``mirrored`` and ``control`` (patients x codewords), and how each tumour grows."""

    counts: pd.DataFrame
    mirrored: pd.DataFrame
    control: pd.DataFrame
    growth: pd.Series
    heads: np.ndarray

    @property
    def patients(self) -> list[str]:
        """Ids, in order."""
        return list(self.counts.index)

    def patterns(self, patients: list[str]) -> np.ndarray:
        """The pictures of these heads (:func:`drlib.radiomics.leaks.head_pattern`)."""
        return self.heads[self.counts.index.get_indexer(patients)]


@functools.cache
def open_pool(folder: Path) -> Pool:
    """Return what ``count_pool`` wrote, all cohorts together."""
    paths = sorted(folder.glob("*.parquet"))
    table = pd.concat([pd.read_parquet(path) for path in paths])
    parts = [table.filter(regex=f"^{name} ") for name in ("counts", "mirrored", "control")]
    counted = (part.set_axis(range(part.shape[1]), axis=1) for part in parts)
    return Pool(*counted, table["growth"], np.concatenate([np.load(path.with_suffix(".npy")) for path in paths]))


@functools.cache
def open_model(folder: Path) -> TrainedModel:
    """Return the network, one copy per process, on one thread: the cohorts are shared among processes instead."""
    torch.set_num_threads(1)
    return load_model(folder)


def _histogram(model: TrainedModel, images: np.ndarray) -> np.ndarray:
    codes = encode_patient(model, np.ascontiguousarray(images))
    return np.bincount(codes.numpy().ravel(), minlength=model.profile.quantizer.codebook_size)


def _occupancy(model: TrainedModel, store: SliceStore, patient: str) -> np.ndarray:
    codes = encode_patient(model, store.images(patient)).numpy()
    return count_occupancy(codes, store.labels(patient), model.profile.quantizer.codebook_size)


def _random_grades(patients: list[str], rng: np.random.Generator) -> pd.Series:
    n_lgg = round(0.375 * len(patients))
    return pd.Series(rng.permutation(["LGG"] * n_lgg + ["HGG"] * (len(patients) - n_lgg)), index=patients)


def _stratified(growth: pd.Series, n: int, rng: np.random.Generator) -> list[str]:
    """Return ``n`` patients with the pool's share of either growth."""
    n_lgg = round(n * (growth == "LGG").mean())
    drawn = [rng.choice(growth.index[growth == grade], k, replace=False) for grade, k in (("LGG", n_lgg), ("HGG", n - n_lgg))]
    return list(np.concatenate(drawn))


def _gather(partial: Path) -> None:
    """Turn the rows of all tasks into one table per trial, and let the rest go."""
    for trial in TABLES:
        rows = [row for path in sorted((partial / trial).glob("*.json")) for row in json.loads(path.read_text())]
        table = pd.DataFrame(rows)
        keys = [name for name in ("variant", "trial", "n", "informative", "seed", "draw", "grade") if name in table]
        table.sort_values(keys).to_csv(partial / f"{trial}.csv", index=False, float_format="%.5g")
        shutil.rmtree(partial / trial)
    shutil.rmtree(partial / "pool")
