"""Train, measure and draw all tasks on generated scenes."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
from lightning.pytorch.utilities import rank_zero_info

from mobilevision import __version__
from mobilevision.classification.datamodule import ImageNetDataModule
from mobilevision.classification.task import ClassificationTask
from mobilevision.demo.datasets import Layouts, write_datasets
from mobilevision.demo.overview import draw_overview
from mobilevision.demo.scenes import CLASS_NAMES, SCENE_SIDE
from mobilevision.detection.datamodule import CocoDataModule
from mobilevision.detection.task import DetectionTask
from mobilevision.files import replacing, write_json
from mobilevision.multitask.datamodule import MultiTaskDataModule
from mobilevision.multitask.task import MultiTaskTask
from mobilevision.segmentation.datamodule import VocDataModule
from mobilevision.segmentation.task import SegmentationTask
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.task import Task
from mobilevision.weights.file import save_weights

CLASSIFIER_SIDE = 64
SEGMENTER_SIDE = SCENE_SIDE + 1
"""One more than a multiple of the output stride: the corners of image and map stay together."""


class DemoSize(NamedTuple):
    """The size of the demo; less is for tests."""

    num_train: int = 760
    num_val: int = 150
    width_mult: float = 0.5
    classification_epochs: int = 23
    detection_epochs: int = 5
    segmentation_epochs: int = 5
    multitask_epochs: int = 5


class Outcome(NamedTuple):
    """The outcome of one task on the held-out scenes."""

    figures: Mapping[str, float]
    seconds: float
    weights: Path


def run_demo(
    output: Path, *, seed: int = 0, size: DemoSize = DemoSize(), say: Callable[[str], None] = rank_zero_info
) -> dict[str, Outcome]:
    """Draw scenes, train the three tasks on some of them, then all together, and evaluate on the others.

    The classifier comes first; detector, segmenter and joint network start from its backbone, as they would from
    ImageNet's, and the joint network sees every scene as often as the other two.

    Args:
        output: Folder for data, weights, ``metrics.json`` and ``demo.png``; what an earlier run left is replaced.
        seed: Decides scenes, first weights, order and augmentation.
        size: The size of the demo.
        say: Called with a line of progress.

    Returns:
        The outcome of each task, and of all together, by its name.

    Raises:
        ValueError: ``output`` holds a folder ``data`` of something else.
    """
    say(f"drawing {size.num_train} scenes to train on and {size.num_val} to measure on")
    layouts = write_datasets(output / "data", num_train=size.num_train, num_val=size.num_val, seed=seed)
    outcomes: dict[str, Outcome] = {}
    steps = {"classification": _classify, "detection": _detect, "segmentation": _segment, "multitask": join}
    for name, prepare in steps.items():
        # Every task initializes its weights from the same seed, whatever ran before it.
        L.seed_everything(seed, verbose=False)
        task, data, epochs = prepare(layouts, size, seed, outcomes)
        say(f"{name}: {epochs} epochs")
        outcomes[name] = train(task, data, epochs, output / "weights" / f"{name}.safetensors")
    with replacing(output / "demo.png") as temporary:
        draw_overview(layouts, {name: outcome.weights for name, outcome in outcomes.items()}, temporary)
    figures = {name: {**outcome.figures, "seconds": outcome.seconds} for name, outcome in outcomes.items()}
    write_json(output / "metrics.json", {"tasks": figures, "seed": seed, "version": __version__})
    return outcomes


def train(task: Task, data: ImageDataModule, epochs: int, weights: Path) -> Outcome:
    """Train a task, evaluate it at the end, and save its weights."""
    start = time.monotonic()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        check_val_every_n_epoch=epochs,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        precision="32-true" if isinstance(task, ClassificationTask) else "bf16-mixed",
    )
    trainer.fit(task, datamodule=data)
    save_weights(task.network, weights)
    assert task.report is not None
    return Outcome(task.report.figures, time.monotonic() - start, weights)


_RECIPE: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.05, "warmup_steps": 50}
_NORM_MOMENTUM = 0.05
"""With the paper's the running statistics would need more steps than the demo has."""

Prepared = tuple[Task, ImageDataModule, int]
Outcomes = Mapping[str, Outcome]


def _classify(layouts: Layouts, size: DemoSize, seed: int, outcomes: Outcomes) -> Prepared:
    task = ClassificationTask(
        width_mult=size.width_mult,
        norm_momentum=_NORM_MOMENTUM,
        dropout=0.0,
        label_smoothing=0.0,
        **_RECIPE | {"learning_rate": 7e-3},
    )
    return task, _crops(layouts, seed), size.classification_epochs


def _detect(layouts: Layouts, size: DemoSize, seed: int, outcomes: Outcomes) -> Prepared:
    task = DetectionTask(
        width_mult=size.width_mult,
        norm_momentum=_NORM_MOMENTUM,
        head_norm_momentum=_NORM_MOMENTUM,
        backbone_weights=str(outcomes["classification"].weights),
        **_RECIPE,
    )
    return task, _boxes(layouts, seed), size.detection_epochs


def _segment(layouts: Layouts, size: DemoSize, seed: int, outcomes: Outcomes) -> Prepared:
    task = SegmentationTask(
        width_mult=size.width_mult,
        norm_momentum=_NORM_MOMENTUM,
        head_norm_momentum=_NORM_MOMENTUM,
        backbone_weights=str(outcomes["classification"].weights),
        **_RECIPE,
    )
    return task, _masks(layouts, seed), size.segmentation_epochs


def join(
    layouts: Layouts, size: DemoSize, seed: int, outcomes: Outcomes, *, output_stride: int = 16, **changes: Any
) -> Prepared:
    """Build the task and the data of the joint network: the classifier with two more heads.

    Args:
        layouts: The scenes.
        size: The size of the demo.
        seed: Decides order and augmentation.
        outcomes: Of the tasks before, the classifier's among them.
        output_stride: Of the segmenter.
        changes: Of the task's options.
    """
    recipe = {
        # Crops of objects and whole scenes share statistics; when these have settled, the heads adapt to them.
        "freeze_norm": "backbone",
        "freeze_norm_from": size.multitask_epochs * 3 // 5,
        # The detector's loss is some twenty times as large, and the optimizer sees only their sum.
        "loss_weights": {"segmentation": 20.0},
    }
    new = {"head_norm_momentum": _NORM_MOMENTUM}
    task = MultiTaskTask(
        heads={"classification": {}, "detection": new, "segmentation": {**new, "output_stride": output_stride}},
        norm_momentum=_NORM_MOMENTUM,
        label_smoothing=0.0,
        pretrained=str(outcomes["classification"].weights),
        **_RECIPE | recipe | changes,
    )
    members = _crops(layouts, seed), _boxes(layouts, seed), _masks(layouts, seed)
    return task, MultiTaskDataModule(*members, pair_by_name=True, seed=seed), size.multitask_epochs


def _crops(layouts: Layouts, seed: int) -> ImageNetDataModule:
    return ImageNetDataModule(
        str(layouts.classification),
        input_size=CLASSIFIER_SIDE,
        min_crop_area=0.6,
        batch_size=32,
        num_workers=1,
        seed=seed,
    )


def _boxes(layouts: Layouts, seed: int) -> CocoDataModule:
    return CocoDataModule(str(layouts.coco), input_size=SCENE_SIDE, crop=False, batch_size=8, num_workers=1, seed=seed)


def _masks(layouts: Layouts, seed: int) -> VocDataModule:
    return VocDataModule(
        str(layouts.voc),
        train_split="train",
        classes=["background", *CLASS_NAMES],
        input_size=SEGMENTER_SIDE,
        min_scale=0.75,
        max_scale=1.25,
        batch_size=8,
        num_workers=1,
        seed=seed,
    )
