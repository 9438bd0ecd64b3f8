import json
import math

import numpy as np
import pytest
import torch
from segmentation_toys import ToyStore, toy_profile

from drlib.profiles import TrainingSettings
from drlib.segmentation.model import ModelError, load_model
from drlib.segmentation.sampling import NothingToTrainOnError, TrainingSlices
from drlib.segmentation.training import TrainingError, Validation, learning_rate, train

torch.set_num_threads(1)


def weights(folder) -> dict[str, torch.Tensor]:
    return load_model(folder).network.state_dict()


@pytest.mark.parametrize("switches", [(), ("training.precision=bf16", "quantizer.update=gradient")])
def test_a_training_stopped_and_resumed_ends_with_the_same_bits(tmp_path, switches):
    store, profile = ToyStore(), toy_profile("training.schedule=one-cycle", *switches)
    whole = train(store, profile, tmp_path / "whole", progress=False)
    train(store, profile, tmp_path / "parts", progress=False, stop_after=1)
    half = train(store, profile, tmp_path / "parts", progress=False, stop_after=2)
    assert len(half) == 2 and not (tmp_path / "parts" / "model.json").exists()
    parts = train(store, profile, tmp_path / "parts", progress=False)
    assert whole.drop(columns="seconds").equals(parts.drop(columns="seconds"))
    due, came = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(due[name], came[name]) for name in due)


def test_precision_overrides_the_profiles(tmp_path):
    log = train(ToyStore(), toy_profile(), tmp_path / "one", progress=False, stop_after=1, precision="bf16")
    due = train(ToyStore(), toy_profile("training.precision=bf16"), tmp_path / "other", progress=False, stop_after=1)
    assert log.loss.equals(due.loss)


def test_an_error_while_reading_ahead_ends_the_training(tmp_path):
    store = ToyStore()
    read = store.images

    def broken_after_the_index(patient):
        if store.n_read >= 3:
            raise OSError(f"{patient} cannot be read")
        return read(patient)

    store.images = broken_after_the_index
    with pytest.raises(OSError, match="cannot be read"):
        train(store, toy_profile(), tmp_path, progress=False, memory_gib=1e-9)


def test_training_learns_the_toy_and_logs_what_it_did(tmp_path):
    store = ToyStore()
    profile = toy_profile("training.epochs=14", "training.learning_rate=0.01", "training.schedule=one-cycle")
    log = train(store, profile, tmp_path, progress=False, validation=Validation(store, ids=["toy-0"], every=7))
    assert log.loss.iloc[-1] < 0.5 * log.loss.iloc[0]
    assert log.usage.iloc[0] == 0 and math.isnan(log.perplexity[0])  # the continuous epoch
    assert log.usage.iloc[1:].min() >= 12 and log.perplexity.iloc[1:].between(1, 16).all()
    assert log.dice_WT.notna().tolist() == [epoch in (7, 14) for epoch in range(1, 15)] and log.dice_WT.iloc[-1] > 0.6
    assert sorted(path.name for path in (tmp_path / "early").iterdir()) == [f"epoch_{n:04d}" for n in (1, 2, 5, 10)]
    assert load_model(tmp_path / "early" / "epoch_0002").card["provenance"]["epochs"] == 2
    again = train(store, profile, tmp_path, progress=False)
    assert again.equals(log)  # finished: nothing is done again


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(tmp_path):
    store = ToyStore()
    train(store, toy_profile(), tmp_path, progress=False, stop_after=1)
    for changed in ({"seed": 1}, {"ids": ["toy-0"]}):
        with pytest.raises(TrainingError, match="another profile"):
            train(store, toy_profile(), tmp_path, progress=False, **changed)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half a file")
    with pytest.raises(TrainingError, match="Delete it"):
        train(store, toy_profile(), tmp_path, progress=False)


def test_a_diverging_training_says_what_to_do(tmp_path):
    store = ToyStore()
    images, labels = store.contents["toy-0"]
    images[4, 0, 16, 16] = np.nan
    with pytest.raises(TrainingError, match="learning_rate"):
        train(store, toy_profile(), tmp_path, progress=False)


def test_the_authors_code_settings_run(tmp_path):
    profile = toy_profile("authors-code", "training.epochs=2")
    assert np.isfinite(train(ToyStore(), profile, tmp_path, progress=False).loss).all()


def settings(**values) -> TrainingSettings:
    return TrainingSettings(**({"epochs": 10, "batch_size": 4, "learning_rate": 0.1} | values))


def test_one_cycle_rises_from_near_zero_to_the_rate_and_falls_to_near_zero():
    rates = [learning_rate(step, 100, settings(schedule="one-cycle")) for step in range(100)]
    assert rates[0] < 0.001 and rates[-1] < 0.001 and max(rates) == pytest.approx(0.1, rel=0.01) and 15 < int(np.argmax(rates)) < 25
    assert learning_rate(7, 100, settings()) == 0.1


def seen(slices: TrainingSlices, epoch: int) -> list[bytes]:
    return [image.numpy().tobytes() for batch in slices.batches(epoch) for image in batch.images]


def test_an_epoch_shows_every_slice_once_in_another_order_each_time_and_one_blank_per_patient():
    slices = TrainingSlices(ToyStore(), settings())
    first, second = seen(slices, 1), seen(slices, 2)
    assert len(first) == 3 * 7 and len(set(first)) == 3 * 6 + 1  # the blank slices are equal
    assert sorted(first) == sorted(second) and first != second
    assert seen(slices, 1) == first


def test_images_come_with_their_own_labels():
    store = ToyStore()
    pairs = {i.tobytes(): label for i, label in ((i, lab) for p in store.patients for i, lab in zip(*store.contents[p], strict=True))}
    for batch in TrainingSlices(store, settings(), memory_gib=2e-5).batches(1):
        for image, label in zip(batch.images, batch.labels, strict=True):
            assert np.array_equal(label.numpy(), pairs[image.numpy().tobytes()])


def test_slices_that_do_not_fit_in_memory_are_read_on_demand_and_are_the_same():
    store = ToyStore(n_patients=6)
    everything, blocks = TrainingSlices(store, settings()), TrainingSlices(store, settings(), memory_gib=2 * 7 * 9216 / 2**30)
    assert everything.fits_in_memory and not blocks.fits_in_memory
    assert sorted(seen(everything, 1)) == sorted(seen(blocks, 1))
    assert len(blocks._loaded) <= 4
    store.n_read = 0
    seen(blocks, 2)
    assert store.n_read <= 6 + 3  # each patient once, some again at the seam of two blocks


def test_an_epoch_that_is_entered_later_shows_the_rest_of_it_and_reads_nothing_of_what_came_before():
    store = ToyStore(n_patients=6)
    whole = TrainingSlices(store, settings())
    assert [batch.images.tolist() for batch in whole.batches(1, 4)] == [batch.images.tolist() for batch in whole.batches(1)][4:]
    one_block_each = TrainingSlices(store, settings(), memory_gib=7 * 9216 / 2**30)
    store.n_read = 0
    last = list(one_block_each.batches(2, one_block_each.steps_per_epoch - 1))
    assert len(last) == 1 and store.n_read == 1


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_the_parts_of_the_processes_are_the_batch_in_their_order(world_size):
    slices = TrainingSlices(ToyStore(), settings(slices_per_epoch=18))
    processes = [slices.batches(1, rank=rank, world_size=world_size) for rank in range(world_size)]
    for whole, *parts in zip(slices.batches(1), *processes, strict=True):
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
        assert {part.size for part in parts} == {len(whole.images)}
        assert max(len(part.images) for part in parts) - min(len(part.images) for part in parts) <= 1


def test_the_tumour_share_is_kept_also_when_tumour_is_rare():
    slices = TrainingSlices(ToyStore(), settings(tumour_share=0.75, slices_per_epoch=40))
    labels = torch.cat([batch.labels for batch in slices.batches(1)])
    assert len(labels) == 40 and (labels.flatten(1) > 0).any(1).sum() == 30


def test_patients_without_labels_tumour_or_at_all_are_refused():
    store = ToyStore()
    store.contents["toy-1"] = store.contents["toy-1"][0], None
    with pytest.raises(NothingToTrainOnError, match="toy-1"):
        TrainingSlices(store, settings())
    with pytest.raises(NothingToTrainOnError, match="empty"):
        TrainingSlices(store, settings(), ids=[])
    store.contents["toy-0"][1][:] = 0
    with pytest.raises(NothingToTrainOnError, match="tumour"):
        TrainingSlices(store, settings(tumour_share=0.5), ids=["toy-0"])


def test_nothing_of_a_training_is_a_pickle_and_the_checkpoint_header_is_json(tmp_path):
    from safetensors import safe_open

    train(ToyStore(), toy_profile(), tmp_path, progress=False, stop_after=1)
    with safe_open(tmp_path / "checkpoint.safetensors", "pt") as file:
        assert json.loads(file.metadata()["training"])["rows"][0]["epoch"] == 1
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors", ".json", ".csv", ".md"}


def test_a_training_continues_from_a_shipped_model_with_its_weights_and_codebook(tmp_path, monkeypatch):
    monkeypatch.setattr("drlib.segmentation.model.SHIPPED", tmp_path)
    store = ToyStore()
    train(store, toy_profile(), tmp_path / "first", progress=False)
    still = toy_profile("training.start_from=first", "training.epochs=1", "training.learning_rate=1e-30", "quantizer.start_epoch=0")
    train(store, still, tmp_path / "second", progress=False)
    before, after = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.allclose(before[name], after[name]) for name in before if not name.startswith("quantizer"))
    assert after["quantizer.n_updates"] > before["quantizer.n_updates"]
    assert load_model(tmp_path / "second").card["provenance"]["continued_from"] == "first"


def test_a_shipped_model_that_does_not_fit_or_does_not_exist_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("drlib.segmentation.model.SHIPPED", tmp_path)
    store = ToyStore()
    train(store, toy_profile(), tmp_path / "first", progress=False)
    with pytest.raises(ModelError, match="another architecture.*from-scratch"):
        train(store, toy_profile("training.start_from=first", "quantizer.codeword_dim=3"), tmp_path / "other", progress=False)
    with pytest.raises(ModelError, match=r"no model 'absent'.*first"):
        train(store, toy_profile("training.start_from=absent"), tmp_path / "other", progress=False)
