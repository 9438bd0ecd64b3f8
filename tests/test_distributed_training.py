"""Several processes (gloo) that train together do what one process does with the whole batch."""

import multiprocessing
import os
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from segmentation_toys import ToyStore, toy_profile

# Forked from a process that has imported everything and computed nothing.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["pytest", "lightning_fabric", "drlib.segmentation.training"])
SWITCHES = {
    "ema": (),
    "gradient": ("quantizer.update=gradient",),
    "authors": ("training.dice=pooled", "quantizer.start_epoch=0", "quantizer.kmeans_start=false", "training.augmentation=false"),
}


def train_toy(kind: str, folder: Path, rank: int, world_size: int, port: int, options: dict) -> None:
    """One of the processes: what torchrun or srun would start. Each writes the losses of its steps and the state that it ends with."""
    from safetensors.torch import save_file

    from drlib.segmentation import training

    torch.set_num_threads(1)
    if world_size > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    losses, step, last = [], training._Training._step, {}

    def recorded(run, batch, quantize):
        terms, counts = step(run, batch, quantize)
        if not losses:  # Adam would hide a gradient that is too long on the whole
            last.update(
                {f"gradient.{name}": value.grad.clone() for name, value in run.network.named_parameters() if value.grad is not None}
            )
        losses.append(terms.numpy())
        last.update(run.network.state_dict())
        return terms, counts

    training._Training._step = recorded
    profile = toy_profile("training.epochs=3", "training.learning_rate=0.001", "training.gradient_clip=null", *SWITCHES[kind])
    store = ToyStore(n_patients=4)  # of each epoch's 21 slices the last is a batch of its own: nothing is left for one process
    validation = training.Validation(store, every=3)
    try:
        fabric = training.launch(profile, devices=world_size)
        training.train(store, profile, folder, ids=store.patients[:3], validation=validation, fabric=fabric, progress=False, **options)
    except training.TrainingError as error:
        (folder / f"error-{rank}").write_text(str(error))
    else:
        np.save(folder / f"losses-{rank}.npy", np.array(losses))
        save_file(last, folder / f"state-{rank}.safetensors")


def train_together(kind: str, folder: Path, world_size: int, **options) -> Path:
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [(kind, folder, rank, world_size, port, options) for rank in range(world_size)]
    processes = [context.Process(target=train_toy, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * world_size
    return folder


def states(folder: Path) -> list[dict[str, torch.Tensor]]:
    return [load_file(path) for path in sorted(folder.glob("state-*.safetensors"))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SWITCHES)
def test_processes_that_share_each_batch_do_what_one_process_does(tmp_path, kind):
    one = train_together(kind, tmp_path / "one", 1)
    (alone,) = states(one)
    for world_size in (2, 3) if kind == "ema" else (2,):
        together = train_together(kind, tmp_path / f"{world_size}", world_size)
        first, *others = states(together)
        assert len(others) == world_size - 1
        assert all(torch.equal(first[name], other[name]) for other in others for name in first), "the processes differ"
        due, *came = (np.load(path / f"losses-{rank}.npy") for path, rank in [(one, 0)] + [(together, r) for r in range(world_size)])
        assert due.shape == (18, 4)
        for losses in came:
            np.testing.assert_array_equal(losses, came[0])
            np.testing.assert_allclose(losses, due, rtol=1e-5, atol=1e-6)
        assert first.keys() == alone.keys() and "gradient.decoder.0.weight" in alone
        for name, value in alone.items():
            torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
        logs = [pd.read_csv(folder / "log.csv").drop(columns="seconds") for folder in (one, together)]
        pd.testing.assert_frame_equal(*logs, rtol=1e-4)
        assert logs[0].dice_WT.notna().tolist() == [False, False, True]


@pytest.mark.slow
def test_processes_resume_together_and_an_unsuitable_checkpoint_is_refused_by_all(tmp_path):
    whole = train_together("ema", tmp_path / "whole", 2)
    parts = train_together("ema", tmp_path / "parts", 2, stop_after=2)
    train_together("ema", parts, 2)
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    train_together("gradient", parts, 2)
    assert all("another profile" in (parts / f"error-{rank}").read_text() for rank in (0, 1))
