"""Time the classifier against torchvision's: ``python scripts/benchmark_classification.py [--json FILE]``.

Both sides run in turn, each in a process of its own. ``ratio`` is the peer's median time over ours, ``spread`` the
least and the largest ratio of a round. On a machine with other work on it no figure means anything.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from benchmarks.classification import (
    our_confusion,
    our_fp32_step,
    our_loader,
    our_mixed_step,
    peer_confusion,
    peer_loader,
    peer_step,
    validation_shares,
    write_images,
)
from benchmarks.interleaved import run_interleaved, summarize

from mobilevision.files import write_json


def main() -> None:
    """Measure, print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the figures to")
    parser.add_argument(
        "--images", metavar="FOLDER", help="JPEGs in class folders; generated at 500x375 where not given"
    )
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--num-images", type=int, default=256, help="to generate, default: %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.images is None:
            write_images(Path(folder), given.num_images)
        figures = measure(given, given.images or folder)
    for name, values in figures.items():
        print(name, values)
    if given.json:
        write_json(given.json, figures)


def measure(given: argparse.Namespace, images: str) -> dict[str, Any]:
    """Return every figure by its name."""
    batch = {"batch_size": given.batch_size}
    rounds = {"rounds": given.rounds, "threads": given.threads}
    steps = run_interleaved(
        {"mixed": our_mixed_step, "fp32": our_fp32_step, "peer": peer_step}, batch, warmup=2, **rounds
    )
    loaders = run_interleaved({"ours": our_loader, "peer": peer_loader}, {"images": images, **batch}, **rounds)
    confusion = run_interleaved(
        {"ours": our_confusion, "peer": peer_confusion}, {"num_images": 32 * given.batch_size}, **rounds
    )
    mixed, fp32, peer = (steps[name] for name in ("mixed", "fp32", "peer"))
    return {
        "training_step": summarize(mixed.seconds, peer.seconds),
        "training_step_fp32": summarize(fp32.seconds, peer.seconds),
        "loader": summarize(loaders["ours"].seconds, loaders["peer"].seconds),
        "confusion": summarize(confusion["ours"].seconds, confusion["peer"].seconds),
        "peak_memory": {
            "ours": mixed.peak_memory,
            "peer": peer.peak_memory,
            "ratio": peer.peak_memory / mixed.peak_memory,
        },
        "validation_overhead": validation_shares(images, given.batch_size),
    }


if __name__ == "__main__":
    main()
