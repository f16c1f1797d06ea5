import pytest
import torch
from torch.nn import functional as F

from mobilevision.classification.mixing import Mixing

LABELS = torch.tensor([0, 1, 2])


def plain_images(*values):
    """Images of one value each."""
    return torch.stack([torch.full((3, 8, 8), value, dtype=torch.uint8) for value in values])


def test_nothing_is_mixed_unless_asked_for():
    images = plain_images(0, 100, 200)
    mixed, targets = Mixing()(images, LABELS, 3)
    assert mixed is images
    assert targets is LABELS


def test_mixup_blends_images_and_labels_by_the_same_share():
    mixed, targets = Mixing(mixup_alpha=1.0)(plain_images(0, 51, 255), LABELS, 3)
    share = targets[0, 0].item()
    assert 0 < share < 1
    expected = torch.tensor([[share, 0, 1 - share], [1 - share, share, 0], [0, 1 - share, share]])
    torch.testing.assert_close(targets, expected)
    values = torch.tensor([1 - share, 0.2 * share, 0.2 * (1 - share) + share])
    torch.testing.assert_close(mixed, values[:, None, None, None].expand(3, 3, 8, 8))


def test_cutmix_pastes_as_large_a_part_as_the_label_says():
    for _ in range(20):
        mixed, targets = Mixing(cutmix_alpha=1.0)(plain_images(0, 51, 255), LABELS, 3)
        assert set(mixed[0].unique().tolist()) <= {0.0, 1.0}
        assert mixed[0].mean().item() == pytest.approx(targets[0, 2].item(), abs=1e-6)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(3))


def test_either_way_gets_its_batches_and_the_seed_decides():
    mixing, images = Mixing(mixup_alpha=1.0, cutmix_alpha=1.0), plain_images(0, 51, 255)

    def draw():
        torch.manual_seed(5)
        return [mixing(images, LABELS, 3)[0] for _ in range(40)]

    first, again = draw(), draw()
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    blended = sum(0 < image[0].mean().item() < 1 and image[0].unique().numel() == 1 for image in first)
    assert 5 < blended < 35


def test_a_batch_of_one_stays_what_it_is():
    mixed, targets = Mixing(mixup_alpha=1.0)(plain_images(51), torch.tensor([1]), 3)
    torch.testing.assert_close(mixed, torch.full((1, 3, 8, 8), 0.2))
    torch.testing.assert_close(targets, torch.tensor([[0.0, 1.0, 0.0]]))


def test_mixed_batches_stay_channels_last_and_cross_entropy_takes_them():
    mixed, targets = Mixing(mixup_alpha=0.2)(plain_images(0, 51, 255), LABELS, 3)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert F.cross_entropy(torch.zeros(3, 3), targets).item() == pytest.approx(torch.tensor(3.0).log().item())


def test_a_negative_alpha_is_refused():
    with pytest.raises(ValueError, match="cutmix_alpha must be at least 0, got -1"):
        Mixing(cutmix_alpha=-1)
