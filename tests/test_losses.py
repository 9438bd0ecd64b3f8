import pytest
import torch

from drlib.segmentation.losses import focal_loss, segmentation_loss, soft_dice_loss, total_loss


def example(labels: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(3, 4, 8, 8, generator=random), torch.randint(0, labels, (3, 8, 8), generator=random)


def test_per_class_dice_is_monais_where_all_classes_are_present():
    from monai.losses import DiceLoss

    logits, labels = example()
    monai = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=0, smooth_dr=1e-9)
    torch.testing.assert_close(soft_dice_loss(logits, labels), monai(logits, labels[:, None]))


def test_focal_is_monais_summed_over_classes():
    from monai.losses import FocalLoss

    logits, labels = example()
    for gamma in (0.0, 2.0):
        monai = FocalLoss(include_background=True, to_onehot_y=True, use_softmax=True, gamma=gamma, alpha=None)
        torch.testing.assert_close(focal_loss(logits, labels, gamma), 4 * monai(logits, labels[:, None]))


def test_focal_with_gamma_zero_is_cross_entropy():
    logits, labels = example()
    torch.testing.assert_close(focal_loss(logits, labels, 0.0), torch.nn.functional.cross_entropy(logits, labels))


def test_per_class_dice_skips_absent_classes_and_pooled_weighs_classes_by_size():
    labels = torch.zeros(1, 1, 100, dtype=torch.int64)
    labels[..., :90], labels[..., 90:95] = 2, 3
    predicted = torch.where(labels == 2, 2, 0)  # ED perfect, ET missed, NET nowhere
    logits = 200 * torch.nn.functional.one_hot(predicted, 4).movedim(-1, 1).float()
    assert soft_dice_loss(logits, labels, "per-class").item() == pytest.approx((0 + 1) / 2, abs=1e-4)
    assert soft_dice_loss(logits, labels, "pooled").item() == pytest.approx(1 - 2 * 90 / (90 + 95), abs=1e-4)


@pytest.mark.parametrize("kind", ["per-class", "pooled"])
def test_losses_are_zero_for_a_certain_and_right_answer_and_finite_without_tumour(kind):
    _, labels = example()
    certain = 200 * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float()
    assert sum(segmentation_loss(certain, labels, dice=kind)).item() == pytest.approx(0, abs=1e-5)
    empty = torch.zeros(3, 8, 8, dtype=torch.int64)
    logits = (200 * torch.nn.functional.one_hot(empty, 4).movedim(-1, 1).float()).requires_grad_()
    sum(segmentation_loss(logits, empty, dice=kind)).backward()
    assert torch.isfinite(logits.grad).all()


def test_both_losses_together_are_the_two_alone_and_the_total_is_eq_4():
    logits, labels = example()
    dice, focal = segmentation_loss(logits, labels)
    torch.testing.assert_close((dice, focal), (soft_dice_loss(logits, labels), focal_loss(logits, labels)))
    assert total_loss(torch.tensor(0.5), dice, focal).item() == pytest.approx(0.5 + dice.item() + focal.item())
