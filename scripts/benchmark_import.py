"""Time and memory of importing foreign weights: ``python scripts/benchmark_import.py FILE ... [--json FILE]``.

Every file is imported in a process of its own, after all modules that this needs: reading the file and building the
network are measured. Memory is the rise of the process's peak over what it held before.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from mobilevision.files import write_json

MAX_SECONDS = 3.0
MAX_RATIO = 8.0

CHILD = """
import json, resource, sys, time
import torch, torchvision
from mobilevision.models import load_model
from mobilevision.weights.tensorflow import graphdef
graphdef.message_class("GraphDef")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

before, start = peak(), time.perf_counter()
network = load_model(sys.argv[1])
seconds, memory = time.perf_counter() - start, peak() - before
print(json.dumps({"seconds": seconds, "memory": memory, "heads": ", ".join(network.heads)}))
"""


def measure(path: Path, repeats: int) -> dict[str, float | str]:
    """Import a file several times; return the median time and the largest rise in memory."""
    runs = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", CHILD, str(path)], check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    size = path.stat().st_size
    memory = max(run["memory"] for run in runs)
    return {
        "file": path.name,
        "heads": runs[0]["heads"],
        "size": size,
        "seconds": sorted(run["seconds"] for run in runs)[len(runs) // 2],
        "memory": memory,
        "ratio": memory / size,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = [measure(path, given.repeats) for path in given.files]
    for row in rows:
        print(
            f"{row['file']:40} {row['size'] / 1e6:6.1f} MB  {row['seconds']:.2f} s (at most {MAX_SECONDS})  "
            f"{row['memory'] / 1e6:6.1f} MB more, {row['ratio']:.1f} times the file (at most {MAX_RATIO})"
        )
    if given.json:
        write_json(given.json, rows)
    sys.exit(any(row["seconds"] > MAX_SECONDS or row["ratio"] > MAX_RATIO for row in rows))
