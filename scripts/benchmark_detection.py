"""Time this library's detector against torchvision's parts and pycocotools, in turn, each in a process of its own.

    python scripts/benchmark_detection.py --data data/coco --weights detector.safetensors --json figures.json

Prints for each part the medians of both sides, how many times faster this library is, and the least and the largest
ratio of a round. Without ``--data`` loader and selection are left out. Without ``--weights`` the selection is that of a
stand-in, the logits of a person detector spread over 80 classes (``--references``), or is left out.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import coco_eval, loader, matching_and_loss, postprocess, training_step
from benchmarks.interleaved import Make, run_interleaved, summarize
from benchmarks.profiled import profile_step

from mobilevision.files import write_json

Rows = dict[str, dict[str, Any]]


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each side")
    parser.add_argument("--batch_size", type=int, default=16, help="of the training step and the loader")
    parser.add_argument("--input_size", type=int, default=320, help="of the training step and the loader, in pixels")
    parser.add_argument("--num_classes", type=int, default=20, help="of the training step")
    parser.add_argument("--images", type=int, default=5000, help="of the evaluation, of 100 detections each")
    parser.add_argument("--data", type=Path, help="JPEGs in COCO's layout, for loader and selection")
    parser.add_argument("--weights", type=Path, help="a trained detector of COCO's classes, for the selection")
    parser.add_argument("--references", type=Path, help="npz of a person detector's outputs, for a stand-in of it")
    parser.add_argument(
        "--profile", action="store_true", help="print the operations that our steps spend their time in"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    return parser.parse_args()


def measure_training_step(given: argparse.Namespace) -> Rows:
    """Measure the preset's step as it ships and in float32, and its peak memory beyond network and batch."""
    sides = {"ours": training_step.ours, "fp32": training_step.ours_fp32, "peer": training_step.peer}
    options = {"batch_size": given.batch_size, "input_size": given.input_size, "num_classes": given.num_classes}
    done = run_interleaved(sides, options, rounds=given.rounds, threads=given.threads)
    memory = {name: [float(side.peak_memory)] for name, side in done.items()}
    return {
        "training_step": summarize(done["ours"].seconds, done["peer"].seconds)
        | _profile(training_step.ours, options, given),
        "training_step_fp32": summarize(done["fp32"].seconds, done["peer"].seconds),
        "peak_memory": summarize(memory["ours"], memory["peer"]),
        "peak_memory_fp32": summarize(memory["fp32"], memory["peer"]),
    }


def measure_matching_and_loss(given: argparse.Namespace) -> Rows:
    """Measure the loss of 32 images of 20 objects of 80 classes."""
    options = {"batch_size": 32, "objects": 20, "num_classes": 80}
    return _measure("matching_and_loss", matching_and_loss, options, given, warmup=3)


def measure_postprocess(given: argparse.Namespace) -> Rows:
    """Measure the selection of 16 images, and compare the detections."""
    if not (given.weights and given.data) and not given.references:
        return {}
    images = given.data / "val2017" if given.data else None
    options = {"weights": given.weights, "images": images, "references": given.references, "batch_size": 16}
    return _measure("postprocess", postprocess, options, given, warmup=3)


def measure_loader(given: argparse.Namespace) -> Rows:
    """Measure four batches of the loader a round."""
    options = {"root": str(given.data), "batch_size": given.batch_size, "input_size": given.input_size, "batches": 4}
    return _measure("loader", loader, options, given, warmup=2) if given.data else {}


def measure_coco_eval(given: argparse.Namespace) -> Rows:
    """Measure COCO's protocol once, with its peak memory, and compare the figures."""
    options = {"num_images": given.images, "per_image": 100}
    return _measure("coco_eval", coco_eval, options, given, warmup=0, rounds=1)


def _measure(
    name: str, part: Any, options: dict[str, Any], given: argparse.Namespace, *, warmup: int, rounds: int | None = None
) -> Rows:
    sides = {"ours": part.ours, "peer": part.peer}
    done = run_interleaved(sides, options, rounds=rounds or given.rounds, warmup=warmup, threads=given.threads)
    ours, peer = done["ours"], done["peer"]
    memory = {"memory": [ours.peak_memory, peer.peak_memory]}
    row = summarize(ours.seconds, peer.seconds) | memory | {"results": part.compare(ours.result, peer.result)}
    return {name: row | _profile(part.ours, options, given)}


def _profile(make: Make, options: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    return {"profile": profile_step(make, options, threads=given.threads)} if given.profile else {}


PARTS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "training_step": measure_training_step,
    "matching_and_loss": measure_matching_and_loss,
    "postprocess": measure_postprocess,
    "loader": measure_loader,
    "coco_eval": measure_coco_eval,
}


def main() -> None:
    """Measure the parts that are asked for."""
    given = parse_arguments()
    rows: Rows = {}
    for name in given.parts:
        for key, row in PARTS[name](given).items():
            rows[key] = row
            low, high = row["spread"]
            unit, scale = ("MiB", 2**20) if key.startswith("peak_memory") else ("s", 1)
            medians = f"ours {row['ours'] / scale:10.4f} {unit}, peer {row['peer'] / scale:10.4f} {unit}"
            print(f"{key:20} {medians}, ratio {row['ratio']:5.2f} ({low:.2f} to {high:.2f})", row.get("results", ""))
            if "profile" in row:
                print(" " * 20, ", ".join(f"{name} {share:.0%}" for name, share in row["profile"].items()))
    if given.json:
        write_json(given.json, rows)


if __name__ == "__main__":
    main()
