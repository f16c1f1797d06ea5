"""Drawn scenes in the layouts of three sets, small enough to train on in a test."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import pytest
import torch

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
def make_members(layouts: Layouts) -> Callable[[], dict[str, ImageDataModule]]:
    def make() -> dict[str, ImageDataModule]:
        classes = ["background", *CLASS_NAMES]
        return {
            "classification": ImageNetDataModule(
                str(layouts.classification), input_size=32, batch_size=6, num_workers=0
            ),
            "detection": CocoDataModule(str(layouts.coco), input_size=SIDE, batch_size=4, num_workers=0),
            "segmentation": VocDataModule(
                str(layouts.voc), train_split="train", classes=classes, input_size=SIDE + 1, batch_size=2, num_workers=0
            ),
        }

    return make


@pytest.fixture
def make_data(make_members: Callable[[], dict[str, ImageDataModule]]) -> Callable[..., MultiTaskDataModule]:
    """Make the data module of the tasks that are named, or of all."""

    def make(*tasks: str, **options) -> MultiTaskDataModule:
        members = make_members()
        return MultiTaskDataModule(**{task: members[task] for task in tasks or members}, **options)

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    def make(**options) -> L.Trainer:
        settled = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(**settled | options)

    return make


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep Lightning's notes on its hardware out of the output, and OpenMP from waking threads for small pictures."""
    logger, num_threads = logging.getLogger("lightning.pytorch"), torch.get_num_threads()
    level = logger.level
    logger.setLevel(logging.ERROR)
    torch.set_num_threads(1)
    yield
    logger.setLevel(level)
    torch.set_num_threads(num_threads)
