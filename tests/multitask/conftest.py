"""Drawn scenes in the layouts of three datasets, small enough to train on in a test."""

from collections.abc import Callable

import pytest

from mobilevision.classification.datamodule import ImageNetDataModule
from mobilevision.demo.datasets import Layouts, write_datasets
from mobilevision.demo.scenes import CLASS_NAMES
from mobilevision.detection.datamodule import CocoDataModule
from mobilevision.multitask.datamodule import MultiTaskDataModule
from mobilevision.segmentation.datamodule import VocDataModule
from mobilevision.training.datamodule import ImageDataModule

SIDE = 64


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Layouts:
    return write_datasets(tmp_path_factory.mktemp("scenes") / "data", num_train=12, num_val=5)


@pytest.fixture
def make_part(layouts: Layouts) -> Callable[..., ImageDataModule]:
    """Build the data module of one task."""
    classes = ["background", *CLASS_NAMES]
    settled = {
        "classification": (ImageNetDataModule, layouts.classification, {"input_size": 32, "batch_size": 6}),
        "detection": (CocoDataModule, layouts.coco, {"input_size": SIDE, "batch_size": 4}),
        "segmentation": (
            VocDataModule,
            layouts.voc,
            {"train_split": "train", "classes": classes, "input_size": SIDE + 1, "batch_size": 2},
        ),
    }

    def make(task: str, **options) -> ImageDataModule:
        module, root, small = settled[task]
        return module(**{"root": str(root), "num_workers": 0} | small | options)

    return make


@pytest.fixture
def make_data(make_part: Callable[..., ImageDataModule]) -> Callable[..., MultiTaskDataModule]:
    """Build the data module of the tasks that are named, or of all."""

    def make(*tasks: str, **options) -> MultiTaskDataModule:
        names = tasks or ("classification", "detection", "segmentation")
        return MultiTaskDataModule(**{task: make_part(task) for task in names}, **options)

    return make


@pytest.fixture
def steps_of() -> Callable[..., list[dict[str, object]]]:
    """Return the training steps of an epoch, from one on."""

    def steps_of(data: MultiTaskDataModule, epoch: int = 0, start: int = 0) -> list[dict[str, object]]:
        loader = data.train_dataloader()
        for each in loader.flattened:
            each.set_epoch(epoch)
            each.load_state_dict({"epoch": epoch, "steps_done": start})
        return [batch for batch, *_ in loader]

    return steps_of
