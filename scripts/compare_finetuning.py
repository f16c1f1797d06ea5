"""Fine-tune plainly and as the recipes do, from the same weights and for as long, and compare what comes of it.

``python scripts/compare_finetuning.py --weights FILE --root FOLDER [--minutes 3] [--seeds 3] [--json FILE]``

The plain side is what is usually done: a fresh head, SGD at one rate for everything, the batch's own statistics,
ImageNet's crops. It runs in this library too, so that it has its speed.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from mobilevision.outputs import write_json

CONFIGS = Path(__file__).parents[1] / "configs/classification"
PLAIN = {
    "model.fit_head": "false",
    "model.optimizer": "sgd",
    "model.learning_rate": "0.01",
    "model.weight_decay": "4e-5",
    "model.backbone_rate": "1",
    "model.freeze_norm": "false",
    "model.norm_momentum": "0.1",
    "model.schedule": "constant",
    "model.warmup_steps": "0",
    "data.min_crop_area": "0.08",
    "data.brightness": "0",
    "data.contrast": "0",
    "data.saturation": "0",
    "trainer.callbacks": "[]",
    "trainer.max_epochs": "-1",
}
SIDES: dict[str, tuple[str, dict[str, str]]] = {
    "plain": ("mobilenet_v2_finetune.yaml", PLAIN),
    "finetune": ("mobilenet_v2_finetune.yaml", {}),
    "head": ("mobilenet_v2_finetune_head.yaml", {}),
}


def main() -> None:
    """Run every side with every seed, print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="a classifier trained on ImageNet")
    parser.add_argument("--root", type=Path, required=True, help="train/ and val/ with a folder per class")
    parser.add_argument("--minutes", type=float, default=3.0, help="of training at most, default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="default: all")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    for side in given.sides:
        runs = [run(side, given, seed) for seed in range(given.seeds)]
        figures[side] = {
            "last": statistics.mean(each["last"] for each in runs),
            "best": statistics.mean(each["best"] for each in runs),
            "seconds": statistics.median(each["seconds"] for each in runs),
            "runs": runs,
        }
        print(side, figures[side])
    if given.json:
        write_json(given.json, figures)


def run(side: str, given: argparse.Namespace, seed: int) -> dict[str, float]:
    """Train once; give the top-1 of the last and the best epoch, and the seconds of the whole command."""
    config, changes = SIDES[side]
    with tempfile.TemporaryDirectory() as folder:
        options = {
            **changes,
            "seed_everything": str(seed),
            "data.seed": str(seed),
            "data.root": str(given.root),
            "model.backbone_weights": str(given.weights),
            "model.num_classes": str(sum(path.is_dir() for path in (given.root / "train").iterdir())),
            "trainer.max_time": _days(given.minutes),
            "trainer.default_root_dir": folder,
            "trainer.enable_progress_bar": "false",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        start = time.perf_counter()
        command = [sys.executable, "-m", "mobilevision", "fit", "--config", str(CONFIGS / config), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        (log,) = Path(folder).glob("run_1/log/*/metrics.csv")
        with log.open() as file:
            top1 = [float(row["val/top1"]) for row in csv.DictReader(file) if row["val/top1"]]
    return {"last": top1[-1], "best": max(top1), "seconds": seconds}


def _days(minutes: float) -> str:
    hours, rest = divmod(int(timedelta(minutes=minutes).total_seconds()), 3600)
    return f"00:{hours:02}:{rest // 60:02}:{rest % 60:02}"


if __name__ == "__main__":
    main()
