"""Segmentation, side by side in one run: this library against torchvision's training and torchmetrics' counting.

    python scripts/benchmark_segmentation.py --root data/voc-real [--json FILE] [--only training_step confusion]

Each side runs in a process of its own, in turn; a ratio is the peer's median time to ours, a spread the least and the
largest ratio of a round.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from benchmarks import segmentation_evaluation as evaluation
from benchmarks import segmentation_loader as loader
from benchmarks import segmentation_step as step
from benchmarks.interleaved import run_interleaved, summarize

from mobilevision.files import write_json

PARTS = ("training_step", "training_step_fp32", "loader", "confusion", "validation_overhead", "peak_memory")
MULTI_SCALE = Path(__file__).with_name("measure_multi_scale_memory.py")


def main() -> None:
    """Measure, print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="a folder that holds VOCdevkit/VOC2012")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crop", type=int, default=513)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--images", type=int, default=24, help="to validate on")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    found = measure(given)
    for name, figures in found.items():
        print(name, " ".join(f"{key} {_format(value)}" for key, value in figures.items()))
    if given.json is not None:
        write_json(given.json, found)


def measure(given: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Return the figures of the parts that are asked for."""
    run = {"rounds": given.rounds, "threads": given.threads}
    found: dict[str, dict[str, object]] = {}
    if {"training_step", "training_step_fp32", "peak_memory"}.intersection(given.only):
        sides = {"bf16": step.ours_bf16, "fp32": step.ours_fp32, "peer": step.peer}
        done = run_interleaved(sides, {"batch_size": given.batch_size, "crop": given.crop}, **run)
        for name, side in (("training_step", "bf16"), ("training_step_fp32", "fp32")):
            found[name] = summarize(done[side].seconds, done["peer"].seconds)
        ours, fp32, peer = (done[side].peak_memory for side in ("bf16", "fp32", "peer"))
        multi_scale = subprocess.run([sys.executable, MULTI_SCALE], capture_output=True, text=True, check=True).stdout
        found["peak_memory"] = {"ours": ours, "ours_fp32": fp32, "peer": peer, "ratio": peer / ours}
        found["peak_memory"]["multi_scale"] = float(multi_scale.split()[0]) * 1e6
    if "loader" in given.only:
        options = {"root": given.root, "crop": given.crop, "batch_size": given.batch_size}
        found["loader"] = _compare_here(loader.ours(**options), loader.peer(**options), given.rounds)
    if "confusion" in given.only:
        found["confusion"] = _compare(evaluation.confusion_ours, evaluation.confusion_peer, {"updates": 20}, run)
    if "validation_overhead" in given.only:
        options = {"root": given.root, "limit": given.images}
        done = run_interleaved({"ours": evaluation.validation}, options, **run | {"rounds": 1})
        found["validation_overhead"] = done["ours"].result | {"images": given.images}
    return found


def _compare(ours, peer, options, run) -> dict[str, object]:
    done = run_interleaved({"ours": ours, "peer": peer}, options, **run)
    return summarize(done["ours"].seconds, done["peer"].seconds)


def _compare_here(ours, peer, rounds: int) -> dict[str, object]:
    """Time in turn in this process, where each side keeps its worker."""
    seconds: dict[object, list[float]] = {ours: [], peer: []}
    for index in range(1 + rounds):
        for side, taken in seconds.items():
            start = time.perf_counter()
            side()
            if index:
                taken.append(time.perf_counter() - start)
    return summarize(seconds[ours], seconds[peer])


def _format(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ", ".join(f"{each:.3g}" for each in value)


if __name__ == "__main__":
    main()
