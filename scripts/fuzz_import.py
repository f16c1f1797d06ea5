"""Damage weights files and read them: ``python scripts/fuzz_import.py FILE ... [--flips 100] [--seed 0]``.

Every file is cut off at each percent of its length, and read with some of its bytes changed: at random places, and in
its first and last kilobytes, where the structure is. Each of these must be read or refused with a ValueError of one
line that names the file, and needs at most 4 times the file's size of memory, or as much as the undamaged file where it
is read. Memory is the operating system's figure (Linux only).
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mobilevision.weights.file import read_weights

MAX_RATIO = 4.0
NOISE = 2**22
"""Bytes that reading anything needs, whatever its size."""

STRUCTURE = 4096
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
"""Freed memory goes back at once, so that one file's does not hide another's."""

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Reading(NamedTuple):
    """The outcome of reading one damaged file; ``wrong`` is what should not be."""

    refused: bool
    memory: int
    seconds: float
    wrong: str = ""


def damaged(data: bytes, num_flips: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield damaged copies, each with the damage in words."""
    for percent in range(100):
        yield f"cut off at {percent} %", data[: len(data) * percent // 100]
    draw = random.Random(seed)  # noqa: S311
    ends = [*range(min(STRUCTURE, len(data))), *range(max(0, len(data) - STRUCTURE), len(data))]
    for number in range(num_flips):
        changed = bytearray(data)
        for _ in range(draw.choice((1, 1, 3, 20))):
            place = draw.choice(ends) if number % 2 else draw.randrange(len(data))
            changed[place] = draw.randrange(256)
        yield f"flips {number}", bytes(changed)


def read(path: Path) -> Reading:
    """Read a file and measure it."""
    before = _peak(reset=True)
    start = time.perf_counter()
    refused, wrong = False, ""
    try:
        read_weights(path)
    except ValueError as error:
        refused = True
        if "\n" in str(error) or str(path) not in str(error):
            wrong = f"says {error!s:.200}"
    except Exception as error:
        wrong = f"raises {type(error).__name__}: {error!s:.200}"
    return Reading(refused, _peak(reset=False) - before, time.perf_counter() - start, wrong)


def _peak(*, reset: bool) -> int:
    if not CLEAR_REFS.exists():
        return 0
    if reset:
        # Linux forgets the peak.
        CLEAR_REFS.write_text("5")
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def fuzz(path: Path, num_flips: int, seed: int) -> bool:
    """Fuzz one file, print the outcome, and return whether all was as it should be."""
    data = path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / path.name
        if (config := path.with_name("config.json")).is_file():
            target.with_name("config.json").write_bytes(config.read_bytes())
        target.write_bytes(data)
        read(target)
        whole = read(target)
        readings = []
        for name, content in damaged(data, num_flips, seed):
            target.write_bytes(content)
            reading = read(target)
            allowed = MAX_RATIO * len(data) if reading.refused else max(1.1 * whole.memory, MAX_RATIO * len(data))
            wrong = reading.wrong or (f"takes {reading.memory} bytes" if reading.memory > allowed + NOISE else "")
            if wrong:
                print(f"{path.name}, {name}: {wrong}")
            readings.append(reading._replace(wrong=wrong))
    refused, others = ([each.memory / len(data) for each in readings if each.refused == kind] for kind in (True, False))
    slowest = max(reading.seconds for reading in readings)
    print(
        f"{path.name:40} {len(readings)} damaged, {len(refused)} refused at {max(refused, default=0):.1f} times the "
        f"file at most, others read at {max(others, default=0):.1f} (undamaged {whole.memory / len(data):.1f}), "
        f"slowest {slowest:.2f} s"
    )
    return not any(reading.wrong for reading in readings) and not whole.refused


if __name__ == "__main__":
    if not GIVE_BACK.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **GIVE_BACK})  # noqa: S606
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    results = [fuzz(path, given.flips, given.seed) for path in given.files]
    sys.exit(not all(results))
