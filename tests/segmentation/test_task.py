import math

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassJaccardIndex

from mobilevision.segmentation.balance import balance_classes
from mobilevision.segmentation.datamodule import VocDataModule
from mobilevision.segmentation.multi_scale import average_probabilities
from mobilevision.segmentation.task import SegmentationTask
from mobilevision.segmentation.types import IGNORE_INDEX, EvalBatch
from mobilevision.weights.file import load_network, read_weights

SIZE = 33
NAMES = ["background", "red", "green"]


def make_task(**options):
    small = {"num_classes": 3, "width_mult": 0.1, "input_size": SIZE, "norm_momentum": 0.1, "head_norm_momentum": 0.1}
    return SegmentationTask(**small | options)


def make_trainer(folder, *callbacks, **options):
    settled = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": bool(callbacks),
        "default_root_dir": folder,
    }
    return L.Trainer(callbacks=list(callbacks), **settled | options)


def make_data(root, **options):
    small = {"train_split": "train", "classes": NAMES, "input_size": SIZE, "batch_size": 4, "num_workers": 0}
    return VocDataModule(str(root), **small | options)


class Losses(L.Callback):
    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))


@pytest.fixture
def root(tmp_path, write_voc):
    """Pictures larger than the network's square, so that they are scaled down."""
    return write_voc(tmp_path, train=8, val=5, size=(40, 50))


@pytest.fixture
def trained(root, tmp_path):
    """A task after enough epochs to have settled, its checkpoint, and the losses on the way."""
    checkpoint, losses = ModelCheckpoint(tmp_path / "checkpoints", monitor="val/miou", mode="max"), Losses()
    task = make_task(optimizer="adamw", learning_rate=0.01, output_stride=8, dropout=0.0)
    trainer = make_trainer(tmp_path, checkpoint, losses, max_epochs=40, check_val_every_n_epoch=10)
    trainer.fit(task, make_data(root, min_scale=0.75, max_scale=1.0))
    return task, checkpoint.best_model_path, losses.losses


def test_the_backbones_norms_may_be_frozen_and_the_heads_not():
    task = make_task(freeze_norm="backbone").train()
    norms = {name: each.training for name, each in task.network.named_modules() if isinstance(each, nn.BatchNorm2d)}
    assert {name.split(".")[0] for name in norms} == {"backbone", "head"}
    assert all(training == name.startswith("head.") for name, training in norms.items())


def test_rare_classes_weigh_more_in_training_and_as_much_as_all_in_validation(root, tmp_path):
    data, task = make_data(root), make_task(class_balance=0.5)
    make_trainer(tmp_path, max_steps=1, limit_val_batches=1).fit(task, data)
    counts = data.count_classes()
    assert torch.equal(task.objective.class_weights, balance_classes(counts, 0.5))
    assert task.objective.class_weights[counts.argmin()] > 1 > task.objective.class_weights[counts.argmax()]
    plain = make_task()
    plain.load_state_dict(task.state_dict())
    validated = [make_trainer(tmp_path).validate(each, data, verbose=False)[0]["val/loss"] for each in (task, plain)]
    assert validated[0] == pytest.approx(validated[1])
    with pytest.raises(ValueError, match="class_balance must be at least 0, got -1"):
        make_task(class_balance=-1)


def test_it_learns_what_it_is_shown_and_its_checkpoint_says_what_it_is(trained, root):
    task, path, losses = trained
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:4])

    card = read_weights(path).card
    assert (card.model, card.class_names) == ("deeplabv3_mobilenet_v2", tuple(NAMES))
    again = make_task()
    load_network(again.network, path)
    assert again.network.class_names == tuple(NAMES)
    built = SegmentationTask.load_from_checkpoint(path, weights_only=True)
    assert built.hparams == task.hparams
    assert built.network.options == task.network.options


def test_the_report_has_every_figure_and_every_class(root):
    task, trainer = make_task(), make_trainer(root)
    (logged,) = trainer.validate(task, make_data(root), verbose=False)
    assert logged.keys() == {f"val/{name}" for name in ("loss", "miou", "miou_voc", "pixel_accuracy", "boundary_f")}
    assert task.report.num_images == 5
    assert {f"val/{name}": figure for name, figure in task.report.figures.items()} == pytest.approx(logged)
    assert list(task.report.per_class) == NAMES
    assert task.report.details["protocol"]["name"] == "original resolution, output stride 16, single scale"
    ious = [figures["iou"] for figures in task.report.per_class.values()]
    assert np.nanmean(ious) == pytest.approx(logged["val/miou"])
    (tested,) = trainer.test(task, make_data(root), verbose=False)
    assert tested == {name.replace("val", "test"): figure for name, figure in logged.items()}


def test_figures_are_those_of_the_whole_set_at_the_size_of_the_files_whatever_the_batches(root):
    task, data = make_task().eval(), make_data(root, batch_size=5)
    torch.nn.init.normal_(task.network.head.logits.weight, std=1.0)
    data.setup("validate")
    (batch,) = data.val_dataloader()
    reference, losses, counts = MulticlassJaccardIndex(3, ignore_index=IGNORE_INDEX), 0.0, 0
    with torch.no_grad():
        logits = task.network(batch.images)
        # A picture of 40 by 50 is seen as 26 by 33.
        logits = F.interpolate(logits[:, :, :26, :33], size=(40, 50), mode="bilinear", align_corners=False)
        for one, mask in zip(logits, batch.masks, strict=True):
            target = mask[None].long()
            losses += F.cross_entropy(one[None], target, ignore_index=IGNORE_INDEX, reduction="sum").item()
            counts += int((mask != IGNORE_INDEX).sum())
            reference.update(one.argmax(0)[None], target)

    make_trainer(root).validate(task, make_data(root, batch_size=2), verbose=False)

    assert task.report.figures["loss"] == pytest.approx(losses / counts, rel=1e-4)
    assert task.report.figures["miou"] == pytest.approx(float(reference.compute()), abs=1e-3)


def test_several_scales_are_the_mean_of_probabilities_at_another_output_stride(root):
    task = make_task(eval_scales=[0.5, 1.0], eval_flip=True, eval_output_stride=8).eval()
    torch.nn.init.normal_(task.network.head.logits.weight, std=1.0)
    data = make_data(root, batch_size=5, eval_protocol="centre_crop")
    data.setup("validate")
    (batch,) = data.val_dataloader()
    reference = MulticlassJaccardIndex(3, ignore_index=IGNORE_INDEX)
    with torch.no_grad():
        task.network.set_output_stride(8)
        averaged = average_probabilities(task.network, batch.images, (0.5, 1.0), flip=True)
        task.network.set_output_stride(16)
    masks = torch.stack(batch.masks).long()
    reference.update(averaged.argmax(1), masks)
    right = averaged.gather(1, masks.where(masks != IGNORE_INDEX, 0)[:, None])[:, 0]

    make_trainer(root).validate(task, make_data(root, eval_protocol="centre_crop"), verbose=False)

    assert task.report.figures["miou"] == pytest.approx(float(reference.compute()), abs=1e-3)
    loss = -right[masks != IGNORE_INDEX].log().mean()
    assert task.report.figures["loss"] == pytest.approx(float(loss), rel=1e-3)
    protocol = task.report.details["protocol"]
    assert protocol["name"] == f"centre crop {SIZE}, output stride 8, scales 0.5 1, flipped"
    assert task.network.options["output_stride"] == task.network.backbone.output_stride == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_output_stride": 12}, "eval_output_stride must be 8, 16 or 32, got 12"),
        ({"eval_scales": []}, r"eval_scales must be one or more factors above 0, got \[\]"),
        ({"eval_scales": [1.0, 0.0]}, r"eval_scales must be one or more factors above 0, got \[1\.0, 0\.0\]"),
    ],
)
def test_an_evaluation_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_task(**options)


def test_an_image_that_comes_twice_counts_once():
    task = make_task().eval()
    images = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    masks = tuple(torch.randint(0, 3, (SIZE, 20), dtype=torch.uint8) for _ in range(2))
    task.validation_step(EvalBatch(images, masks, torch.tensor([0, 1])), 0)
    once = task.objective.mean_iou.compute(), task.objective.mean_loss.compute()
    task.validation_step(EvalBatch(images[1:], masks[1:], torch.tensor([1])), 1)
    assert task.objective.mean_iou.compute().num_images == 2
    assert torch.equal(task.objective.mean_iou.compute().iou.per_class, once[0].iou.per_class)
    assert task.objective.mean_loss.compute() == once[1]


def test_masks_of_255_only_train_on_nothing_and_have_no_figure(root):
    task = make_task().eval()
    images = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8)
    mask = torch.full((SIZE, SIZE), IGNORE_INDEX, dtype=torch.uint8)
    task.validation_step(EvalBatch(images, (mask,), torch.tensor([0])), 0)
    assert task.objective.mean_loss.compute() == 0.0
    assert math.isnan(task.objective.mean_iou.compute().iou.miou)


def test_another_number_of_classes_is_refused(root):
    with pytest.raises(ValueError, match=r"the data has 3 classes .*, the network has 4: set model\.num_classes to 3"):
        make_trainer(root).validate(make_task(num_classes=4), make_data(root), verbose=False)


def test_the_network_is_built_with_the_tasks_scalars():
    options = {
        "num_classes": 5,
        "head": "atrous",
        "output_stride": 8,
        "width_mult": 0.35,
        "padding": "tf_same",
        "input_size": 257,
        "dropout": 0.2,
        "norm_eps": 1e-5,
        "norm_momentum": 0.2,
        "head_norm_eps": 1e-4,
        "head_norm_momentum": 0.3,
    }
    assert SegmentationTask(**options).network.options.items() >= options.items()


@pytest.mark.slow
def test_the_released_weights_reach_their_figure_on_real_pictures(shared):
    task = make_task(num_classes=21, width_mult=1.0, padding="tf_same", input_size=513)
    load_network(task.network, shared / "weights" / "deeplabv3_mnv2_pascal_quant.tflite")
    data = VocDataModule(str(shared / "data" / "voc-real"), batch_size=8, num_workers=0)
    make_trainer(shared).validate(task, data, verbose=False)
    present = [figures["iou"] for figures in task.report.per_class.values() if not math.isnan(figures["iou"])]
    assert (task.report.num_images, len(present)) == (48, 17)
    # What a plain reference implementation measured on the same pictures.
    assert task.report.figures["miou"] == pytest.approx(0.5754, abs=0.005)
    assert task.report.figures["pixel_accuracy"] == pytest.approx(0.9069, abs=0.002)
