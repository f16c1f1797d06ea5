import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassJaccardIndex

from mobilevision.segmentation.balance import balance_classes
from mobilevision.segmentation.datamodule import VocDataModule
from mobilevision.segmentation.multi_scale import average_probabilities
from mobilevision.segmentation.task import SegmentationTask
from mobilevision.segmentation.types import IGNORE_INDEX

SIZE = 33
NAMES = ["background", "blue", "red"]


def make_task(**options):
    """Build a task whose untrained network predicts more than one class."""
    task = SegmentationTask(**{"num_classes": 3, "width_mult": 0.1, "input_size": SIZE} | options)
    nn.init.normal_(task.network.head.logits.weight, std=1.0)
    return task


@pytest.fixture
def make_data(tmp_path, write_voc):
    """Images larger than the network's square, so that they are scaled down."""
    root = write_voc(tmp_path, train=4, val=5)

    def make(**options):
        small = {"train_split": "train", "classes": NAMES, "batch_size": 2, "num_workers": 0}
        return VocDataModule(str(root), **small | options)

    return make


def whole_dataset(make_data, task, **options):
    """Return the validation images as one batch."""
    data = make_data(batch_size=5, **options)
    data.setup("validate")
    data.attach(task.network.head)
    (batch,) = data.val_dataloader()
    task.eval()
    return batch


def test_the_backbones_norms_may_be_frozen_and_the_heads_not():
    task = make_task(freeze_norm="backbone").train()
    norms = {name: each.training for name, each in task.network.named_modules() if isinstance(each, nn.BatchNorm2d)}
    assert {name.split(".")[0] for name in norms} == {"backbone", "heads"}
    assert all(training == name.startswith("heads.") for name, training in norms.items())


def test_rare_classes_weigh_more_in_training_and_as_much_as_all_in_validation(make_data, make_trainer):
    data, task = make_data(), make_task(class_balance=0.5)
    make_trainer(max_steps=1, limit_val_batches=1).fit(task, data)
    counts, weights = data.count_classes(), task.criteria["segmentation"].class_weights
    torch.testing.assert_close(weights, balance_classes(counts, 0.5))
    assert weights[counts.argmin()] > 1 > weights[counts.argmax()]
    plain = make_task()
    plain.load_state_dict(task.state_dict())
    validated = [make_trainer().validate(each, data, verbose=False)[0]["val/loss"] for each in (task, plain)]
    assert validated[0] == pytest.approx(validated[1])


def test_figures_are_those_of_the_whole_dataset_at_the_size_of_the_files(make_data, make_trainer):
    task = make_task()
    batch = whole_dataset(make_data, task)
    reference, losses, counts = MulticlassJaccardIndex(3, ignore_index=IGNORE_INDEX), 0.0, 0
    with torch.no_grad():
        logits = task.network(batch.images)
        # An image of 80 by 72 is seen as 33 by 30.
        logits = F.interpolate(logits[:, :, :33, :30], size=(80, 72), mode="bilinear", align_corners=False)
    for one, mask in zip(logits, batch.masks, strict=True):
        target = mask[None].long()
        losses += F.cross_entropy(one[None], target, ignore_index=IGNORE_INDEX, reduction="sum").item()
        counts += int((mask != IGNORE_INDEX).sum())
        reference.update(one.argmax(0)[None], target)

    make_trainer().validate(task, make_data(), verbose=False)

    assert task.report.figures["loss"] == pytest.approx(losses / counts, rel=1e-4)
    assert task.report.figures["miou"] == pytest.approx(float(reference.compute()), abs=1e-3)
    assert list(task.report.per_class) == NAMES
    ious = [figures["iou"] for figures in task.report.per_class.values()]
    assert np.nanmean(ious) == pytest.approx(task.report.figures["miou"])
    assert task.report.details["protocol"]["name"] == "original resolution, output stride 16, single scale"


def test_several_scales_are_the_mean_of_probabilities_at_another_output_stride(make_data, make_trainer):
    task = make_task(eval_scales=[0.5, 1.0], eval_flip=True, eval_output_stride=8)
    batch = whole_dataset(make_data, task, eval_protocol="centre_crop")
    reference = MulticlassJaccardIndex(3, ignore_index=IGNORE_INDEX)
    with torch.no_grad():
        averaged = average_probabilities(task.network.with_output_stride(8), batch.images, (0.5, 1.0), flip=True)
    masks = torch.stack(batch.masks).long()
    reference.update(averaged.argmax(1), masks)
    right = averaged.gather(1, masks.where(masks != IGNORE_INDEX, 0)[:, None])[:, 0]

    make_trainer().validate(task, make_data(eval_protocol="centre_crop"), verbose=False)

    assert task.report.figures["miou"] == pytest.approx(float(reference.compute()), abs=1e-3)
    loss = -right[masks != IGNORE_INDEX].log().mean()
    assert task.report.figures["loss"] == pytest.approx(float(loss), rel=1e-3)
    protocol = task.report.details["protocol"]
    assert protocol["name"] == f"centre crop {SIZE}, output stride 8, scales 0.5 1, flipped"
    assert task.network.head.output_stride == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_balance": -1}, "class_balance must be at least 0, got -1"),
        ({"eval_output_stride": 12}, "eval_output_stride must be 8, 16 or 32, got 12"),
        ({"eval_scales": []}, r"eval_scales must be one or more factors above 0, got \[\]"),
        ({"eval_scales": [1.0, 0.0]}, r"eval_scales must be one or more factors above 0, got \[1\.0, 0\.0\]"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_task(**options)


@pytest.mark.slow
def test_the_released_weights_reach_their_figure_on_real_images(shared, make_trainer):
    task = SegmentationTask(pretrained=str(shared / "weights/deeplabv3_mnv2_pascal_quant.tflite"))
    data = VocDataModule(str(shared / "data/voc-real"), batch_size=8, num_workers=0)
    make_trainer().validate(task, data, verbose=False)
    present = [figures["iou"] for figures in task.report.per_class.values() if not math.isnan(figures["iou"])]
    assert (task.report.num_images, len(present)) == (48, 17)
    # What a plain reference implementation measured on the same images.
    assert task.report.figures["miou"] == pytest.approx(0.5754, abs=0.005)
    assert task.report.figures["pixel_accuracy"] == pytest.approx(0.9069, abs=0.002)
