"""The shares of the operations in the time of a step."""

from collections.abc import Mapping
from typing import Any

import torch
from benchmarks.interleaved import Make
from torch.profiler import ProfilerActivity, profile

STEPS = 10


def profile_step(make: Make, options: Mapping[str, Any], *, threads: int, most: int = 8) -> dict[str, float]:
    """Return the share of a step of each of the ``most`` expensive operations, the largest first."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    step = make(**options)
    for _ in range(2):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(STEPS):
            step()
    seconds = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profiler.key_averages()}
    largest = sorted(seconds, key=seconds.__getitem__, reverse=True)[:most]
    return {name: seconds[name] / sum(seconds.values()) for name in largest}
