import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.classification import MulticlassJaccardIndex

from mobilevision.scoring import score_voc
from mobilevision.segmentation.layouts import VOC_CLASSES


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
    """Two masks of different sizes: classes 0 and 15, then 0 and 1, each with pixels of 255."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    save(root / "SegmentationClass" / "a.png", [[0, 0, 15, 255]])
    save(root / "SegmentationClass" / "b.png", [[0, 1], [255, 1]])
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nb\n")
    return tmp_path


@pytest.fixture
def score(root):
    """Score predicted masks, which are values by name."""

    def score(**masks):
        for name, values in masks.items():
            save(root / "out" / f"{name}.png", values)
        return score_voc(root, "val", root / "out")

    return score


def test_iou_by_hand(score):
    figures = score(a=[[0, 15, 15, 3]], b=[[0, 1], [1, 0]])
    # background: 2 right, 1 missed, 1 too many; person: 1 right, 1 too many; aeroplane: 1 right, 1 missed.
    for name in ("iou/background", "iou/person", "iou/aeroplane", "miou"):
        assert figures[name] == 0.5
    assert math.isnan(figures["miou_voc"])
    assert math.isclose(figures["pixel_accuracy"], 4 / 6, rel_tol=1e-6)
    assert math.isnan(figures["iou/bird"])
    for kind in ("iou", "boundary_f"):
        assert [name for name in figures if name.startswith(f"{kind}/")] == [f"{kind}/{name}" for name in VOC_CLASSES]


def test_predictions_where_255_is_are_ignored(score):
    figures = score(a=[[0, 0, 15, 7]], b=[[0, 1], [7, 1]])
    assert figures["miou"] == figures["pixel_accuracy"] == figures["boundary_f"] == 1.0
    assert math.isnan(figures["iou/car"])
    assert math.isnan(figures["boundary_f/car"])


def test_real_masks_score_as_in_torchmetrics(shared, tmp_path):
    home = shared / "data" / "voc-real" / "VOCdevkit" / "VOC2012"
    reference = MulticlassJaccardIndex(21, ignore_index=255)
    for name in (home / "ImageSets" / "Segmentation" / "val.txt").read_text().split():
        truth = np.array(Image.open(home / "SegmentationClass" / f"{name}.png"))
        predicted = np.roll(np.where(truth == 255, 0, truth), 9, axis=1)
        save(tmp_path / f"{name}.png", predicted)
        reference.update(torch.from_numpy(predicted)[None], torch.from_numpy(truth)[None].long())
    figures = score_voc(shared / "data" / "voc-real", "val", tmp_path)
    assert math.isclose(figures["miou"], float(reference.compute()), rel_tol=1e-6)


def test_missing_predictions_are_counted_and_named(root, score):
    with pytest.raises(FileNotFoundError, match=re.escape(f"1 of 2 files are missing in {root}/out: a.png")):
        score(b=[[0, 1], [1, 0]])


def test_a_missing_folder_is_named(root):
    with pytest.raises(FileNotFoundError, match=r"folder of predictions not found: .*nowhere"):
        score_voc(root, "val", root / "nowhere")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0, 1]], r"a\.png must be as large as .*SegmentationClass/a\.png, 4x1, got 2x1"),
        ([[0, 0, 21, 0]], r"a\.png must hold classes 0 to 20, got 21"),
        ([[0, 0, 15, 255]], r"a\.png must hold classes 0 to 20, got 255"),
        ([[[0, 1, 0]] * 4], r"a\.png must be an image .* got mode RGB"),
    ],
)
def test_a_prediction_that_is_no_mask_of_its_image_is_named(score, values, message):
    with pytest.raises(ValueError, match=message):
        score(a=values, b=[[0, 1], [1, 0]])


def test_black_and_white_truth_is_refused_and_absent_classes_have_no_figure(root, score):
    figures = score(a=[[0, 2, 15, 0]], b=[[0, 1], [0, 1]])
    assert math.isnan(figures["iou/bicycle"])
    assert figures["miou"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    for name in ("a.png", "b.png"):
        path = root / "VOCdevkit/VOC2012/SegmentationClass" / name
        save(path, np.where(np.asarray(Image.open(path)) > 0, 255, 0))
    with pytest.raises(
        ValueError, match=r"^val of .*no pixel of the masks is of a class beside background.*class_table"
    ):
        score()
