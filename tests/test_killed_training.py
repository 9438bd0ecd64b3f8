"""A training that is killed, again and again and at the worst moments, ends with the bits of one that is left alone."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from safetensors import safe_open
from segmentation_toys import ToyStore, toy_profile

SWITCHES = {
    "ema": ("training.schedule=one-cycle", "training.epochs=5"),
    "gradient-bf16": ("quantizer.update=gradient", "training.precision=bf16", "training.epochs=5", "training.weight_decay=0.01"),
    "authors": ("authors-code", "training.epochs=3"),
}
N_RANDOM_KILLS = 4  # in each training
CHECKPOINTS = ("the checkpoint is half written", "the checkpoint is not renamed yet", "the checkpoint is just renamed")

# Trainings in processes that are forked from one which has imported everything and computed nothing.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["pytest", "lightning_fabric", "drlib.segmentation.training"])


def train_toy(kind: str, folder: Path, die: tuple[str, int] | None = None, begun: int | None = None) -> None:
    """Train to the end, with a checkpoint after every step; or ``die`` when something happens for the n-th time."""
    import torch

    from drlib.segmentation.training import Validation, train

    torch.set_num_threads(1)
    if die:
        _arrange_death(*die)
    (folder / "begun").write_text(str(begun))
    store = ToyStore(n_patients=4)
    validation = Validation(store, ["toy-3"], every=2)
    train(store, toy_profile(*SWITCHES[kind]), folder, ids=store.patients[:3], validation=validation, checkpoint_minutes=0, progress=False)


def _arrange_death(moment: str, number: int) -> None:
    from drlib import artifacts
    from drlib.segmentation import training

    left = number
    save, replace = training.save_file, os.replace

    def due() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    def dying_save(tensors, path, **rest):
        save(tensors, path, **rest)
        if due():
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_replace(source, target):
        last = Path(target).name == training.CHECKPOINT and due()
        if moment.endswith("just renamed") or not last:
            replace(source, target)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    if moment.endswith("half written"):
        training.save_file = dying_save
    else:
        artifacts.os.replace = dying_replace


def run_to_the_end(*arguments) -> float:
    """Train in a process of its own and return the seconds of the training itself."""
    process = context.Process(target=train_toy, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.time() - (arguments[1] / "begun").stat().st_mtime


def kill_after(seconds: float, kind: str, folder: Path, number: int) -> bool:
    """Train, kill the process ``seconds`` after its beginning, and return whether that was before its end."""
    process = context.Process(target=train_toy, args=(kind, folder, None, number))
    process.start()
    while process.is_alive() and (folder / "begun").read_text() != str(number):
        time.sleep(0.002)
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def contents(folder: Path) -> dict:
    """Everything that a training leaves, without times."""
    with safe_open(folder / "checkpoint.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118
        rest = json.loads(file.metadata()["training"])
    for row in (rest, *rest["rows"]):
        del row["seconds"]
    log = pd.read_csv(folder / "log.csv").drop(columns="seconds").to_csv()
    return {"checkpoint": tensors, "rest": rest, "log": log} | {str(p.relative_to(folder)): p.read_bytes() for p in models(folder)}


def models(folder: Path) -> list[Path]:
    return sorted(folder.rglob("model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SWITCHES)
def test_a_training_killed_many_times_ends_with_the_same_bits(tmp_path, kind):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    alone.mkdir()
    killed.mkdir()
    (killed / "begun").touch()
    seconds = run_to_the_end(kind, alone)
    draw = random.Random(kind)
    n_kills = 0
    for moment in CHECKPOINTS:
        process = context.Process(target=train_toy, args=(kind, killed, (moment, draw.randrange(1, 5))))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        n_kills += 1
    for number in range(N_RANDOM_KILLS):
        n_kills += kill_after(draw.uniform(0, seconds / 3), kind, killed, number)
    assert n_kills >= len(CHECKPOINTS) + 2  # a fast machine may finish before the last ones
    run_to_the_end(kind, killed)
    due, came = contents(alone), contents(killed)
    assert due.keys() == came.keys() and [name for name in due if due[name] != came[name]] == []
    assert [path.name for path in killed.rglob(".*")] == []  # nothing half written stays
