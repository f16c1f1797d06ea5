"""Parts of the comparisons of trainings: ``mobilevision fit`` run as a user runs it, and every side with every seed."""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from mobilevision.files import write_json

Row = dict[str, float]
"""Logged figures by name."""


def make_parser(description: str | None, sides: Iterable[str], *, minutes: float) -> argparse.ArgumentParser:
    """Build a parser of the options that every comparison of a fine-tuning has, ``minutes`` being the default."""
    sides = list(sides)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="a classifier trained on ImageNet")
    parser.add_argument("--root", type=Path, required=True, help="the dataset to train and to validate on")
    parser.add_argument("--minutes", type=float, default=minutes, help="of training at most, default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--sides", nargs="+", choices=sides, default=sides, help="default: all")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


def compare(given: argparse.Namespace, run: Callable[[str, int], dict[str, Any]]) -> None:
    """Run every side with every seed, print the figures, and write them to a file.

    Args:
        given: The parsed options.
        run: From a side and a seed to the figures of the last and the best validation, among other numbers.
    """
    figures: dict[str, Any] = {}
    for side in given.sides:
        runs = []
        for seed in range(given.seeds):
            runs.append(run(side, seed))
            print(side, seed, runs[-1], flush=True)
        means = {which: mean_of([each[which] for each in runs]) for which in ("last", "best")}
        figures[side] = {**means, "seconds": statistics.median(each["seconds"] for each in runs), "runs": runs}
        print(side, {**means, "seconds": figures[side]["seconds"]}, flush=True)
    if given.json:
        write_json(given.json, figures)


def fine_tune(config: Path, options: Mapping[str, Any], given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Run ``mobilevision fit`` from the weights and on the dataset that are given, for as many minutes.

    Returns:
        ``validations``, the logged figures of each; ``seconds`` of the whole command.

    Raises:
        ValueError: The minutes were over before anything was validated.
    """
    everything = {
        "seed_everything": seed,
        "data.seed": seed,
        "data.root": given.root,
        "model.backbone_weights": given.weights,
        "trainer.max_time": _clock(given.minutes),
        "trainer.enable_progress_bar": "false",
        **options,
    }
    validations, seconds = run_fit(config, everything)
    if not validations:
        raise ValueError(f"minutes must be enough for a validation, got {given.minutes}")
    return {"validations": validations, "seconds": seconds}


def run_fit(config: Path, options: Mapping[str, Any] | None = None) -> tuple[list[Row], float]:
    """Run ``mobilevision fit``; return the logged figures of each validation, and the seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        everything = {**(options or {}), "trainer.default_root_dir": folder}
        words = [word for name, value in everything.items() for word in (f"--{name}", str(value))]
        start = time.perf_counter()
        command = [sys.executable, "-m", "mobilevision", "fit", "--config", str(config), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        (log,) = Path(folder).glob("run_1/log/*/metrics.csv")
        with log.open() as file:
            rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
    return [row for row in rows if "val/loss" in row], seconds


def last_and_best(validations: list[Row], names: list[str]) -> dict[str, Row]:
    """Return the named figures of the last validation, and of the one that is best in the first of them."""
    rows = {"last": validations[-1], "best": max(validations, key=lambda row: row[names[0]])}
    return {which: {name: row[name] for name in names} for which, row in rows.items()}


def mean_of(rows: list[Row]) -> Row:
    """Return the mean of every figure."""
    return {name: statistics.mean(row[name] for row in rows) for name in rows[0]}


def _clock(minutes: float) -> str:
    hours, rest = divmod(int(timedelta(minutes=minutes).total_seconds()), 3600)
    return f"00:{hours:02}:{rest // 60:02}:{rest % 60:02}"
