"""Train three tasks alone and together on generated scenes, with as many passes, and in several ways.

    python scripts/compare_joint_scenes.py FOLDER [--seeds N] [--json FILE]

The sides are those of ``mobilevision demo``, which writes into the folder. ``per task`` has the weights of ``shared``,
and for each task the statistics of its own training images: no longer one pass.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
from benchmarks.comparison import Row, mean_of
from torch import Tensor
from torch.optim.swa_utils import update_bn

from mobilevision.classification.task import ClassificationTask
from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.demo.datasets import Layouts
from mobilevision.demo.run import DemoSize, Outcome, join, run_demo, train
from mobilevision.detection.task import DetectionTask
from mobilevision.files import write_json
from mobilevision.models import build_network
from mobilevision.segmentation.task import SegmentationTask
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.weights.combine import split_weights
from mobilevision.weights.file import read_weights

FIGURES = {"classification": "top1", "detection": "map_50", "segmentation": "miou"}
TASKS = {"classification": ClassificationTask, "detection": DetectionTask, "segmentation": SegmentationTask}
OTHER_WAYS: Mapping[str, Mapping[str, Any]] = {
    "shared": {"freeze_norm": False, "freeze_norm_from": 0},
    "frozen": {"freeze_norm_from": 0},
    "stride 32": {"output_stride": 32},
}
"""Beside the demo's own: statistics shared first, then frozen; the segmenter at output stride 16."""


def main() -> None:
    """Train all sides with every seed, print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    keep_freed_memory()
    runs: dict[str, list[Row]] = {}
    for seed in range(given.seeds):
        for side, figures in compare(given.folder / str(seed), seed):
            runs.setdefault(side, []).append(figures)
            print(f"seed {seed}  {side:20}", *(f"{name} {value:.3f}" for name, value in figures.items()), flush=True)
    if given.json:
        write_json(given.json, {"means": {side: mean_of(rows) for side, rows in runs.items()}, "runs": runs})


def compare(folder: Path, seed: int, size: DemoSize = DemoSize()) -> Iterator[tuple[str, Row]]:
    """Yield each side's name and figures."""
    outcomes = run_demo(folder, seed=seed, size=size)
    yield "alone", {name: outcomes[task].figures[name] for task, name in FIGURES.items()}
    yield "shared, then frozen", main_figures(outcomes["multitask"])
    layouts = Layouts(folder / "data")
    for way, changes in OTHER_WAYS.items():
        L.seed_everything(seed, verbose=False)
        task, data, epochs = join(layouts, size, seed, outcomes, **changes)
        outcome = train(task, data, epochs, folder / "weights" / f"{way}.safetensors")
        yield way, main_figures(outcome)
        if way == "shared":
            yield "per task", measure_apart(outcome.weights, data.by_head)


def main_figures(outcome: Outcome) -> Row:
    """Return the figures that the tasks are compared by."""
    return {name: outcome.figures[name] for name in FIGURES.values()}


def measure_apart(weights: Path, datasets: Mapping[str, ImageDataModule]) -> Row:
    """Return the figures of each head of a joint network with the statistics of its own training images."""
    joint, figures = read_weights(weights), {}
    for name, figure in FIGURES.items():
        network = build_network(split_weights(joint, name), weights)
        datasets[name].setup("fit")
        update_bn(images_of(datasets[name]), network)
        task = TASKS[name](network)
        trainer = L.Trainer(
            accelerator="cpu", devices=1, logger=False, enable_model_summary=False, precision="bf16-mixed"
        )
        trainer.validate(task, datamodule=datasets[name], verbose=False)
        assert task.report is not None
        figures[figure] = task.report.figures[figure]
    return figures


def images_of(data: ImageDataModule) -> Iterator[Tensor]:
    """Yield a training set's batches without their labels."""
    for batch in data.train_dataloader():
        yield batch.images


if __name__ == "__main__":
    main()
