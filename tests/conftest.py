"""Fixtures that several rooms' tests need: reference data, networks, trainers, small datasets."""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import settings
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import nn

# How long an example takes is the machine's affair.
settings.register_profile("mobilevision", deadline=None)
settings.load_profile("mobilevision")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, trained weights and reference outputs that the tests compare with."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("MOBILEVISION_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}: set MOBILEVISION_SHARED to the folder that holds it")
    return folder


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Draw the same numbers in every run."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silence Lightning's notes on hardware and loaders, and keep OpenMP from waking threads for small images."""
    logger, num_threads = logging.getLogger("lightning.pytorch"), torch.get_num_threads()
    level = logger.level
    logger.setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        # Both depend on the machine, or on how small a test's dataset is.
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        warnings.filterwarnings("ignore", message=".*number of training batches")
        yield
    logger.setLevel(level)
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def settle() -> Callable[[nn.Module], nn.Module]:
    """Set the running statistics of a network to those of noise, without which everything it computes is next to 0."""

    def settle(network: nn.Module, side: int = 96) -> nn.Module:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
                module.momentum = 1.0
        with torch.no_grad():
            network.train()(torch.rand(2, 3, side, side))
        return network.eval()

    return settle


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    """Build a trainer on one CPU, with callbacks and options, that writes to the test's folder and prints nothing."""

    def make(*callbacks: L.Callback, **options: object) -> L.Trainer:
        settled = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(callbacks=list(callbacks), **settled | options)

    return make


COLORS = ("blue", "red")
"""The classes of the small datasets."""


def draw_square(rng: np.random.Generator, label: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Draw a square of a class's color on noise; return the image, and left, top, width and height of the square."""
    pixels = rng.integers(0, 90, (80, 72, 3), dtype=np.uint8)
    (top, left), side = rng.integers(36, size=2).tolist(), 26
    pixels[top : top + side, left : left + side] = 40
    pixels[top : top + side, left : left + side, 0 if COLORS[label] == "red" else 2] = 230
    return pixels, (left, top, side, side)


def save_image(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_class_folders(root: Path, rng: np.random.Generator, splits: dict[str, int]) -> None:
    for split, count in splits.items():
        for index in range(count):
            save_image(draw_square(rng, index % 2)[0], root / split / COLORS[index % 2] / f"{index}.png")


def write_coco(root: Path, rng: np.random.Generator, splits: dict[str, int]) -> None:
    for split, count in splits.items():
        images, annotations = [], []
        for index in range(count):
            pixels, box = draw_square(rng, index % 2)
            save_image(pixels, root / f"{split}2017" / f"{index}.png")
            height, width, _ = pixels.shape
            images.append({"id": index, "file_name": f"{index}.png", "height": height, "width": width})
            category = {"id": index + 1, "image_id": index, "category_id": index % 2 + 1}
            annotations.append(category | {"bbox": box, "area": box[2] * box[3]})
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(COLORS)]
        path = root / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def write_voc_masks(root: Path, rng: np.random.Generator, splits: dict[str, int]) -> None:
    for split, count in splits.items():
        names = [f"{split}_{index}" for index in range(count)]
        for index, name in enumerate(names):
            pixels, (left, top, width, height) = draw_square(rng, index % 2)
            mask = np.zeros(pixels.shape[:2], np.uint8)
            mask[top : top + height, left : left + width] = index % 2 + 1
            save_image(pixels, root / "JPEGImages" / f"{name}.jpg")
            save_image(mask, root / "SegmentationClass" / f"{name}.png")
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in names))


WRITERS = {"classification": write_class_folders, "detection": write_coco, "segmentation": write_voc_masks}


@pytest.fixture(scope="session")
def write_dataset() -> Callable[..., Path]:
    """Write blue and red squares as class folders, COCO's files or VOC's masks: task, folder, images of each split."""

    def write(task: str, root: Path, **splits: int) -> Path:
        WRITERS[task](root, np.random.default_rng(0), splits)
        return root

    return write
