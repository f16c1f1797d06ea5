"""Time several sides in turn, each in a process of its own: what slows the machine down slows all of them down."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

Make = Callable[..., Callable[[], Any]]
"""Prepares everything and returns the step that is timed."""


class Measured(NamedTuple):
    """The seconds of each round of a side, its peak memory in bytes beyond the preparation, and its last result."""

    seconds: list[float]
    peak_memory: int
    result: Any


def run_interleaved(
    sides: Mapping[str, Make], options: Mapping[str, Any], *, rounds: int, warmup: int = 1, threads: int
) -> dict[str, Measured]:
    """Run one step of each side in turn, ``rounds`` times, after ``warmup`` rounds that do not count."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    try:
        for name, make in sides.items():
            pipes[name], other = context.Pipe()
            processes.append(context.Process(target=_serve, args=(other, make, dict(options), threads)))
            processes[-1].start()
            # The only copy left is the child's, so that its end is noticed here.
            other.close()
            # Prepared before anything is timed.
            pipes[name].recv()
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for index in range(warmup + rounds):
            for name, pipe in pipes.items():
                pipe.send("step")
                taken = pipe.recv()
                if index >= warmup:
                    seconds[name].append(taken)
        measured = {}
        for name, pipe in pipes.items():
            pipe.send("end")
            measured[name] = Measured(seconds[name], *pipe.recv())
        return measured
    finally:
        for pipe in pipes.values():
            pipe.close()
        for process in processes:
            process.join(timeout=30)
            process.terminate()


def summarize(ours: list[float], peer: list[float]) -> dict[str, Any]:
    """Return the medians, the peer's over ours, and the least and the largest ratio of a round."""
    ratios = [theirs / own for own, theirs in zip(ours, peer, strict=True)]
    medians = statistics.median(ours), statistics.median(peer)
    return {
        "ours": medians[0],
        "peer": medians[1],
        "ratio": medians[1] / medians[0],
        "spread": [min(ratios), max(ratios)],
    }


def _serve(pipe: Connection, make: Make, options: dict[str, Any], threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    step = make(**options)
    before = _memory("VmRSS")
    # From here on the peak counts.
    Path("/proc/self/clear_refs").write_text("5")
    pipe.send("ready")
    result = None
    while pipe.recv() == "step":
        start = time.perf_counter()
        result = step()
        pipe.send(time.perf_counter() - start)
    pipe.send((_memory("VmHWM") - before, result))


def _memory(name: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024
