import pytest
import torch

from mobilevision.segmentation.balance import balance_classes, count_classes
from mobilevision.segmentation.types import IGNORE_INDEX


def test_no_power_weighs_all_pixels_alike_and_the_whole_power_all_classes():
    counts = torch.tensor([80, 15, 5])
    assert balance_classes(counts, 0.0).tolist() == pytest.approx([1.0, 1.0, 1.0])
    whole = balance_classes(counts, 1.0) * counts
    torch.testing.assert_close(whole, torch.full((3,), 100 / 3))


def test_half_the_power_is_in_between_and_one_in_the_mean_over_the_pixels():
    counts = torch.tensor([64, 36])
    weights = balance_classes(counts, 0.5)
    # 1 / 0.8 and 1 / 0.6, over 0.64 / 0.8 + 0.36 / 0.6.
    assert weights.tolist() == pytest.approx([1.25 / 1.4, 1 / 0.6 / 1.4])
    assert float((weights * counts).sum()) == pytest.approx(100)


def test_a_handful_of_pixels_does_not_lead_and_an_absent_class_is_1():
    weights = balance_classes(torch.tensor([999_999, 1, 0]), 1.0)
    assert float(weights[1] / weights[0]) == pytest.approx(0.999999 / 1e-4)
    assert weights[2] == 1
    assert balance_classes(torch.zeros(2, dtype=torch.int64), 0.5).tolist() == [1, 1]


def test_pixels_are_counted_by_class_and_ignored_ones_are_not(tmp_path, save):
    for name, values in (("a", [[0, 1, IGNORE_INDEX]]), ("b", [[2, 1], [1, 0]])):
        save(tmp_path / f"{name}.png", values)
    counts = count_classes([tmp_path / "a.png", tmp_path / "b.png"], num_classes=4)
    assert counts.tolist() == [2, 3, 1, 0]
    assert count_classes([], num_classes=2).tolist() == [0, 0]


def test_a_mask_with_an_unknown_class_is_named(tmp_path, save):
    save(tmp_path / "a.png", [[7]])
    with pytest.raises(ValueError, match=r"a\.png must hold classes 0 to 1 and 255, got 7"):
        count_classes([tmp_path / "a.png"], num_classes=2)
