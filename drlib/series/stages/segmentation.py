"""Chapter 03: the trained network and how well it segments patients that it has not seen."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from tqdm import tqdm

from drlib.artifacts import file_sha256
from drlib.cohort.regions import REGIONS
from drlib.cohort.slices import SliceStore
from drlib.parallel import map_patients
from drlib.segmentation.dice import dice_scores
from drlib.segmentation.model import TrainedModel, load_model, shipped_model
from drlib.segmentation.training import Validation, launch, train
from drlib.series.progress import bars_in_notebooks
from drlib.series.run import DEVICE, DEVICES, Run, project_root
from drlib.series.stages.cohort import COHORT_SOURCES, open_cohort, region_volumes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SEGMENTATION_SOURCES = (*COHORT_SOURCES, "drlib.segmentation")
N_VALIDATED_OF = 16  # one segmentation patient in so many is kept from training, for the curve of the Dice coefficients


@dataclass(frozen=True)
class Segmentation:
    """The trained network and how well it segments patients that it has not seen.

    Attributes:
        model: network and profile.
        log: one row per epoch.
        dice: one row per graded patient, a column per region; missing where neither truth nor prediction holds the region.
        predicted_volumes: cm3, one row per graded patient, a column per region.
    """

    model: TrainedModel
    log: pd.DataFrame
    dice: pd.DataFrame
    predicted_volumes: pd.DataFrame


def train_and_evaluate(run: Run) -> Segmentation:
    """Train the network on the segmentation cohort and segment the graded patients with it.

    The network is trained on the devices that ``drlib run --device --devices`` names (environment variables DRLIB_DEVICE, DRLIB_DEVICES).
    """
    device, devices = os.environ.get(DEVICE, "cpu"), int(os.environ.get(DEVICES, "1"))
    if devices == 1:
        train_model(run, device)
    else:  # a notebook cannot start further processes of itself: the command that trains can
        subprocess.run([*_train_command(run), "--device", device, "--devices", str(devices)], cwd=project_root(), check=True)
    run.build("segmentation", SEGMENTATION_SOURCES, ("cohort", "model"), lambda folder: _segment(run, folder))
    return open_segmentation(run)


def train_model(run: Run, device: str = "cpu", devices: int = 1, nodes: int = 1, memory_gib: float = 4.0) -> bool:
    """Train the network of ``run`` on ``devices`` of each of ``nodes`` and return whether this is the first of the processes.

    Every process of the training calls this (:func:`drlib.segmentation.training.launch`). Raises ArtifactError where chapter 01 has not
    been executed, TrainingError where there are no such devices.
    """
    run.manifest("cohort")  # each process says so by itself, before one waits for another
    fabric = launch(run.profile, device, devices, nodes)
    if fabric.is_global_zero:
        run.build(
            "model",
            SEGMENTATION_SOURCES,
            ("cohort",),
            lambda folder: _train(run, fabric.broadcast(folder), fabric, memory_gib),
            **{name: getattr(run.profile, name).model_dump() for name in ("network", "quantizer", "training")},
            start=_shipped_weights(run),
        )
        fabric.broadcast(None)
    else:  # the first process says which folder to train in, unless the model is there already, and when all is done
        while folder := fabric.broadcast(None):
            _train(run, folder, fabric, memory_gib)
    return fabric.is_global_zero


def _train_command(run: Run) -> list[str]:
    data = [] if run.is_phantom else ["--data", str(run.data_dir)]
    options = ["--profile", run.profile.name, *data, "--results", str(run.folder.parent), "--seed", str(run.seed)]
    return [sys.executable, "-m", "drlib.series.cli", "train", *options]


def _shipped_weights(run: Run) -> str | None:
    """Return the SHA-256 of the weights that the training continues from."""
    name = run.profile.training.start_from
    return None if name is None else file_sha256(shipped_model(name) / "model.safetensors")


def open_model(run: Run) -> TrainedModel:
    """Return the network that chapter 03 trained, on the device that ``drlib run --device`` names."""
    run.manifest("model")
    return load_model(run.folder / "model", os.environ.get(DEVICE, "cpu"))


def open_segmentation(run: Run) -> Segmentation:
    """Return what chapter 03 wrote."""
    run.manifest("segmentation")
    folder = run.folder / "segmentation"
    tables = [read_table(folder / f"{name}.csv") for name in ("dice", "predicted_volumes")]
    return Segmentation(open_model(run), pd.read_csv(run.folder / "model" / "log.csv"), *tables)


def _train(run: Run, folder: Path, fabric: "Fabric", memory_gib: float) -> None:
    store = open_cohort(run).segmentation
    held_out = len(store.patients) // N_VALIDATED_OF
    with bars_in_notebooks():
        train(
            store,
            run.profile,
            folder,
            ids=store.patients[held_out:],
            validation=Validation(store, store.patients[:held_out]) if held_out else None,
            fabric=fabric,
            seed=run.seed,
            memory_gib=memory_gib,
        )


def _segment(run: Run, folder: Path) -> None:
    cohort, model = open_cohort(run), open_model(run)
    store = cohort.grading
    work = map_patients(_segment_patient, store.patients, model, store, n_jobs=1, ordered=True)
    found = dict(zip(store.patients, tqdm(work, desc="segmentation", total=len(store.patients), unit="patient"), strict=True))
    volumes = {patient: volumes for patient, (volumes, _) in found.items()}
    dice = {patient: dice for patient, (_, dice) in found.items() if dice is not None}
    pd.DataFrame.from_dict(dice, orient="index", columns=REGIONS).rename_axis("patient").to_csv(folder / "dice.csv")
    pd.DataFrame.from_dict(volumes, orient="index", columns=REGIONS).rename_axis("patient").to_csv(folder / "predicted_volumes.csv")


def _segment_patient(patient: str, model: TrainedModel, store: SliceStore) -> tuple[dict[str, float], dict[str, float] | None]:
    prediction, truth = model.segment(store.images(patient)).numpy(), store.labels(patient)
    volumes = region_volumes(prediction, store.geometry(patient).pixel_volume_mm3)
    return volumes, None if truth is None else dice_scores(prediction, truth)


def read_table(path: Path) -> pd.DataFrame:
    """Return a table with a row per patient."""
    return pd.read_csv(path, index_col="patient", dtype={"patient": str})
