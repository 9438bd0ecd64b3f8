import json

import numpy as np
import pytest
import torch
from segmentation_toys import ToyStore, toy_profile

from drlib.artifacts import file_sha256, write_json
from drlib.segmentation.model import ModelError, TrainedModel, blank_slices, load_model, save_model
from drlib.segmentation.network import SegmentationNetwork

torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path):
    profile = toy_profile()
    return save_model(tmp_path / "model", SegmentationNetwork(profile.network, profile.quantizer, seed=5), profile, {"patients": 3})


def test_what_is_loaded_is_what_was_saved(folder):
    profile = toy_profile()
    network = SegmentationNetwork(profile.network, profile.quantizer, seed=5)
    model = load_model(folder)
    assert model.profile == profile and model.card["provenance"] == {"patients": 3} and not model.network.training
    assert all(torch.equal(value, model.network.state_dict()[name]) for name, value in network.state_dict().items())
    images = ToyStore(1).images("toy-0")
    assert torch.equal(model.encode_to_codes(images), network.eval().encode_to_codes(torch.from_numpy(images).float()))
    assert "- patients: 3" in (folder / "README.md").read_text()


def test_precision_is_the_trained_one_unless_given(folder):
    assert load_model(folder).network.precision == "fp32"
    assert load_model(folder, precision="bf16").network.precision == "bf16"


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing.*Copy the folder"):
        load_model(folder)


def test_a_flipped_bit_a_broken_card_and_other_shapes_are_refused(folder):
    weights, card = (folder / "model.safetensors").read_bytes(), json.loads((folder / "model.json").read_text())
    (folder / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(ModelError, match="damaged"):
        load_model(folder)
    (folder / "model.safetensors").write_bytes(weights)
    other = card | {"profile": toy_profile("quantizer.codebook_size=32").model_dump(mode="json")}
    write_json(folder / "model.json", other)
    with pytest.raises(ModelError, match=r"quantizer.*due \(32"):
        load_model(folder)
    write_json(folder / "model.json", card | {"profile": {"name": "x"}})
    with pytest.raises(ModelError, match="not valid"):
        load_model(folder)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    write_json(folder / "model.json", card | {"sha256": file_sha256(folder / "model.safetensors")})
    with pytest.raises(ModelError, match="not safetensors"):
        load_model(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        load_model(folder)


def test_blank_slices_are_seen_once_and_answered_everywhere(folder):
    model, seen = load_model(folder), []
    images = ToyStore(1).images("toy-0")

    def count(batch: torch.Tensor) -> torch.Tensor:
        seen.append(len(batch))
        return batch.sum((1, 2, 3))

    sums = model.map_slices(count, images, batch_size=4)
    assert sum(seen) == 7  # six of the brain, one of the four blank
    np.testing.assert_allclose(sums, images.astype(np.float32).sum((1, 2, 3)), rtol=1e-5, atol=0.05)
    assert torch.equal(model.map_slices(count, np.full((3, 4, 8, 8), -3, np.float16)), torch.full((3,), -3.0 * 256))


def test_constant_slices_of_another_value_are_not_taken_for_the_same():
    images = torch.zeros(3, 4, 8, 8)
    images[1] = 1
    assert blank_slices(images).tolist() == [True, False, True]


def test_an_empty_volume_has_an_empty_index_map(folder):
    model = load_model(folder)
    assert isinstance(model, TrainedModel)
    assert model.encode_to_codes(np.zeros((0, 4, 32, 32), np.float16)).shape == (0, 8, 8)
