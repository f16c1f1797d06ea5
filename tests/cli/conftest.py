"""Three tiny data sets, one per task, each with a configuration, and a network trained on each."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from mobilevision.cli import main

SIDE = 64
NUM_TRAIN = 8
NUM_VAL = 5
CLASSES = ("blue", "red")


class Setup(NamedTuple):
    """A task: its configuration file, the root of its data, and the figure it is judged by."""

    task: str
    config: Path
    root: Path
    figure: str

    def options(self, output, *more):
        return ["--config", str(self.config), "--trainer.default_root_dir", str(output), *map(str, more)]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def draw(rng, label, *, size=(80, 72)):
    """A square of a class's colour on noise, and its box."""
    height, width = size
    pixels = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    top, left, side = int(rng.integers(height // 2)), int(rng.integers(width // 2)), height // 3
    pixels[top : top + side, left : left + side] = 40
    pixels[top : top + side, left : left + side, 0 if CLASSES[label] == "red" else 2] = 230
    return pixels, (left, top, side, side)


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_classification(root, rng):
    for split, count in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        for index in range(count):
            save(draw(rng, index % 2)[0], root / split / CLASSES[index % 2] / f"{index}.png")


def write_detection(root, rng):
    for split, count in (("train2017", NUM_TRAIN), ("val2017", NUM_VAL)):
        images, annotations = [], []
        for index in range(count):
            pixels, box = draw(rng, index % 2)
            save(pixels, root / split / f"{index}.png")
            images.append(
                {"id": index, "file_name": f"{index}.png", "height": pixels.shape[0], "width": pixels.shape[1]}
            )
            annotations.append(
                {"id": index + 1, "image_id": index, "category_id": index % 2 + 1, "bbox": box, "area": box[2] * box[3]}
            )
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
        path = root / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def write_segmentation(root, rng):
    for split, count in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        names = [f"{split}_{index}" for index in range(count)]
        for index, name in enumerate(names):
            pixels, (left, top, width, height) = draw(rng, index % 2)
            mask = np.zeros(pixels.shape[:2], np.uint8)
            mask[top : top + height, left : left + width] = index % 2 + 1
            save(pixels, root / "JPEGImages" / f"{name}.jpg")
            save(mask, root / "SegmentationClass" / f"{name}.png")
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in names))


TASKS = {
    "classification": (write_classification, "ClassificationTask", "ImageNetDataModule", 2, {}, "top1"),
    "detection": (write_detection, "DetectionTask", "CocoDataModule", 2, {}, "map"),
    "segmentation": (
        write_segmentation,
        "SegmentationTask",
        "VocDataModule",
        3,
        {"train_split": "train", "classes": ["background", *CLASSES]},
        "miou",
    ),
}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Keep the tests off the other cores, in this process and in those it starts."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def run(capsys):
    """Run the command line in this process."""

    def run(*arguments):
        capsys.readouterr()  # What fixtures have said is not this command's.
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def setups(tmp_path_factory):
    """The three tasks by name."""

    def make(task):
        write, task_class, data_class, num_classes, data_options, figure = TASKS[task]
        root = tmp_path_factory.mktemp(task)
        write(root / "data", np.random.default_rng(0))
        config = {
            "model": {
                "class_path": task_class,
                "init_args": {
                    "num_classes": num_classes,
                    "width_mult": 0.35,
                    "input_size": SIDE,
                    "norm_momentum": 0.1,
                    "optimizer": "adamw",
                    "learning_rate": 1e-3,
                },
            },
            "data": {
                "class_path": data_class,
                "init_args": {
                    "root": str(root / "data"),
                    "input_size": SIDE,
                    "batch_size": 4,
                    "num_workers": 0,
                    **data_options,
                },
            },
            "trainer": {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False},
        }
        path = root / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        return Setup(task, path, root / "data", figure)

    return {task: make(task) for task in TASKS}


@pytest.fixture(scope="session")
def trained(setups, tmp_path_factory):
    """A run of one epoch of each task, made when it is first asked for."""
    runs: dict[str, Path] = {}

    def train(task):
        if task not in runs:
            output = tmp_path_factory.mktemp(f"trained_{task}")
            assert main(["fit", *setups[task].options(output)]) == 0
            runs[task] = output
        return runs[task]

    return train


@pytest.fixture
def command():
    """The command that starts another process with this command line."""
    return [sys.executable, "-m", "mobilevision"], {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def torchrun():
    """Give the command that starts as many processes of a module, which find each other on a free port."""

    def torchrun(processes):
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]

    return torchrun


@pytest.fixture
def start(command, torchrun):
    """Run the command line in another process, or in as many as asked for under torchrun, to its end."""
    words, environment = command

    def start(*arguments, processes=None):
        launcher = words[:1] if processes is None else torchrun(processes)
        return subprocess.run(
            [*launcher, *words[1:], *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return start
