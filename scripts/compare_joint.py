"""Train three heads on one backbone, and each alone with the same passes over its own dataset; compare the figures.

    python scripts/compare_joint.py --weights FILE --classification FOLDER --detection FOLDER --segmentation FOLDER

Both sides have the options of one configuration: the single tasks are it without the other heads and datasets. The
folders are those of ``data.root`` of each data module.
"""

import argparse
import copy
import tempfile
from pathlib import Path
from typing import Any

import yaml
from benchmarks.comparison import Row, mean_of, run_fit

from mobilevision.files import write_json

CONFIG = Path(__file__).parents[1] / "configs/multitask/multitask_mobilenet_v2_finetune.yaml"
SINGLES = {
    "classification": ("mobilevision.ClassificationTask", "top1"),
    "detection": ("mobilevision.DetectionTask", "map"),
    "segmentation": ("mobilevision.SegmentationTask", "miou"),
}
JOINT_ONLY = ("heads", "loss_weights", "learned_uncertainty", "head_rates", "score_weights")
OWN = {"label_smoothing": "classification", "class_balance": "segmentation"}
"""Options of the joint run that one task alone has."""


def main() -> None:
    """Train all sides with every seed, print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="a classifier trained on ImageNet")
    for task in SINGLES:
        parser.add_argument(f"--{task}", type=Path, required=True, metavar="FOLDER", help=f"the dataset for {task}")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="of the detector's dataset, default: all")
    parser.add_argument("--epochs", type=int, help="passes over every dataset, default: the configuration's")
    parser.add_argument("--seeds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--sides", nargs="+", choices=("joint", *SINGLES), default=("joint", *SINGLES))
    parser.add_argument("--change", nargs="*", default=[], metavar="NAME=VALUE", help="of the model's options")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    runs: dict[str, list[Row]] = {side: [] for side in given.sides}
    for seed in range(given.seeds):
        for side in given.sides:
            runs[side].append(train(configure(side, seed, given)))
            print(side, seed, runs[side][-1], flush=True)
    means = {side: mean_of(rows) for side, rows in runs.items()}
    for task, (_, figure) in SINGLES.items():
        if {"joint", task} <= means.keys():
            joint, alone = means["joint"][figure], means[task][figure]
            print(f"{task:15} {figure}: joint {joint:.4f}, alone {alone:.4f}, {joint / alone:.2f} of it")
    if given.json:
        write_json(given.json, {"means": means, "runs": runs})


def configure(side: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return the configuration of the joint run, or of one of its parts alone."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    config["seed_everything"] = seed
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    model |= {name: yaml.safe_load(value) for name, value in (change.split("=", 1) for change in given.change)}
    model["backbone_weights"] = str(given.weights)
    for task in SINGLES:
        data[task]["init_args"] |= {"root": str(getattr(given, task)), "seed": seed}
    if given.classes:
        data["detection"]["init_args"]["classes"] = given.classes
    config["trainer"] |= {"enable_progress_bar": False, "max_epochs": given.epochs or config["trainer"]["max_epochs"]}
    if side == "joint":
        data["seed"] = seed
        return config
    alone = {name: value for name, value in model.items() if name not in JOINT_ONLY and OWN.get(name, side) == side}
    config["model"] = {"class_path": SINGLES[side][0], "init_args": alone | model["heads"][side]}
    config["data"] = copy.deepcopy(data[side])
    return config


def train(config: dict[str, Any]) -> Row:
    """Run ``mobilevision fit``; return the figures of the last validation, and the seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        validations, seconds = run_fit(path)
    last = validations[-1]
    figures = {figure: last[f"val/{figure}"] for _, figure in SINGLES.values() if f"val/{figure}" in last}
    return {**figures, "seconds": seconds}


if __name__ == "__main__":
    main()
