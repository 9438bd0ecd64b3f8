import math

import pytest
import torch

from drlib.segmentation.augmentation import augment, change_intensities, draw_intensities, rotate_and_flip

torch.set_num_threads(1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def brain(size: tuple[int, int] = (24, 24), b: int = 6) -> torch.Tensor:
    images = torch.full((b, 4, *size), -3.0)
    images[:, :, 6:-6, 6:-6] = torch.randn(b, 4, size[0] - 12, size[1] - 12, generator=generator())
    return images


def test_intensities_are_a_line_per_slice_and_modality_within_range_and_the_background_stays():
    images = brain()
    changed = change_intensities(images, -3.0, *draw_intensities(6, 4, generator()))
    assert torch.equal(changed == -3, images == -3)
    for b, c in ((0, 0), (3, 2), (5, 3)):
        x, y = images[b, c, 6:-6, 6:-6].flatten(), changed[b, c, 6:-6, 6:-6].flatten()
        scale, offset = torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], 1), y[:, None]).solution.flatten().tolist()
        assert 0.9 <= scale <= 1.1 and -0.1 <= offset / scale <= 0.1
        torch.testing.assert_close(scale * x + offset, y, atol=1e-5, rtol=1e-5)
    assert not torch.equal(changed[0, 0], changed[0, 1])


def test_without_a_common_background_every_pixel_changes():
    images = brain()
    assert (change_intensities(images, None, *draw_intensities(6, 4, generator())) != images).all()


@pytest.mark.parametrize("size", [(24, 24), (16, 32)])
def test_no_rotation_is_identity_or_mirror_image_exactly(size):
    images, labels = brain(size), torch.randint(0, 4, (6, *size), generator=generator(), dtype=torch.uint8)
    flips = torch.tensor([False, True] * 3)
    moved, moved_labels = rotate_and_flip(images, labels, torch.zeros(6), flips, -3.0)
    torch.testing.assert_close(moved[0::2], images[0::2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(moved[1::2], images[1::2].flip(-1), atol=1e-4, rtol=1e-4)
    assert torch.equal(moved_labels[1::2], labels[1::2].flip(-1)) and moved_labels.dtype == torch.uint8


def test_a_quarter_turn_of_a_square_is_a_transposition_and_images_turn_with_labels():
    labels = torch.randint(0, 4, (1, 9, 9), generator=generator(), dtype=torch.uint8)
    images = labels[:, None].expand(1, 4, 9, 9).float()
    moved, moved_labels = rotate_and_flip(images, labels, torch.tensor([math.pi / 2]), torch.tensor([False]), 0.0)
    assert any(torch.equal(moved_labels, torch.rot90(labels, k, (1, 2))) for k in (1, 3))
    torch.testing.assert_close(moved[:, 0], moved_labels.float(), atol=1e-3, rtol=0)


def test_rotation_of_a_wide_slice_keeps_lengths():
    labels = torch.zeros(1, 16, 48, dtype=torch.uint8)
    labels[0, 6:10, 20:28] = 1
    images = torch.zeros(1, 4, 16, 48)
    _, moved = rotate_and_flip(images, labels, torch.tensor([math.pi / 2]), torch.tensor([False]), 0.0)
    rows, columns = moved[0].nonzero().T
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (8, 4)


def test_rotation_brings_in_the_background_not_zero():
    images = torch.full((1, 4, 32, 32), -3.0)
    images[:, :, 12:20, 12:20] = 1
    moved, _ = rotate_and_flip(images, torch.zeros(1, 32, 32), torch.tensor([0.17]), torch.tensor([False]), -3.0)
    assert moved[0, 0, 0].tolist() == pytest.approx([-3.0] * 32)


def test_the_same_generator_gives_the_same_batch_and_slices_differ():
    images, labels = brain(), torch.zeros(6, 24, 24, dtype=torch.uint8)
    first, again = (augment(images, labels, -3.0, generator(7))[0] for _ in range(2))
    assert torch.equal(first, again)
    same = images[:1].expand(6, 4, 24, 24)
    assert not torch.equal(*augment(same, labels, -3.0, generator(7))[0][:2])


def test_a_part_of_a_batch_gets_the_draws_that_it_has_in_the_whole():
    images, labels = brain(), torch.randint(0, 4, (6, 24, 24), generator=generator(), dtype=torch.uint8)
    whole = augment(images, labels, -3.0, generator(7))
    for part in (slice(0, 2), slice(2, 6), slice(6, 6)):
        came = augment(images[part], labels[part], -3.0, generator(7), size=6, part=part)
        assert torch.equal(came[0], whole[0][part]) and torch.equal(came[1], whole[1][part])
