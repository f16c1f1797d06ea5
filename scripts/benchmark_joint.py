"""Measure the cost of three tasks on one image: a network with three heads, three networks, and torchvision's trio.

    python scripts/benchmark_joint.py --json figures.json

torchvision has no SSDLite and no DeepLabv3 on MobileNetV2: the nearest are ssdlite320_mobilenet_v3_large and
lraspp_mobilenet_v3_large, beside its mobilenet_v2. All run on the same image, in turn, each in a process of its own,
and stop before boxes are selected. The joint network is measured with a segmenter at output stride 16, for which the
end of the backbone runs a second time, and at 32, for which it does not.
"""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import joint
from benchmarks.interleaved import run_interleaved, summarize

from mobilevision.files import write_json

SIDES = ("joint16", "joint32", "separate", "torchvision")


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="rounds that count, default: %(default)s")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each side")
    parser.add_argument("--input_size", type=int, default=320, help="side of the image, default: %(default)s")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    given = parser.parse_args()
    sides = {side: partial(joint.make, side) for side in SIDES}
    options = {"input_size": given.input_size}
    done = run_interleaved(sides, options, rounds=given.rounds, warmup=3, threads=given.threads)
    counts = {side: joint.count(side, given.input_size) for side in SIDES}
    figures: dict[str, Any] = {}
    for ours in ("joint16", "joint32"):
        for peer in ("separate", "torchvision"):
            rows = {
                "latency": summarize(done[ours].seconds, done[peer].seconds),
                "peak_memory": summarize([float(done[ours].peak_memory)], [float(done[peer].peak_memory)]),
                **{name: summarize([counts[ours][name]], [counts[peer][name]]) for name in counts[ours]},
            }
            for key, row in rows.items():
                figures.setdefault(key, {}).setdefault(peer, {})[ours] = row
                share = row["ours"] / row["peer"]
                print(f"{key:14} {ours} of {peer:12} {row['ours']:.6g} of {row['peer']:.6g}: {share:.2f}")
    if given.json:
        write_json(given.json, figures)


if __name__ == "__main__":
    main()
