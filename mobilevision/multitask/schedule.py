"""The schedule of an epoch: which steps train on which datasets."""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

Draw = Literal["together", "round_robin", "size", "weight"]
"""How the batches of several datasets become steps, see :func:`draw_schedule`."""


def draw_schedule(
    lengths: Mapping[str, int], draw: Draw, *, weights: Mapping[str, float] | None = None, seed: tuple[int, ...] = (0,)
) -> list[tuple[str, ...]]:
    """Return for every step of an epoch the datasets that it takes a batch of.

    How often a dataset has its turn does not depend on ``seed``, only when.

    Args:
        lengths: The number of batches in each dataset, at least 1.
        draw: ``together``: every step takes a batch of each, and the smaller datasets are repeated until the largest is
            through. ``round_robin``: the same, but one dataset after the other. ``size``: every dataset is gone through
            once, in random order. ``weight``: as many steps, but each dataset has its share by ``weights``.
        weights: Of each dataset, for ``weight``; they need not sum to 1.
        seed: Decides the order of ``size`` and ``weight``.

    Raises:
        ValueError: ``draw`` is unknown, or ``weights`` are missing, of other datasets, or not above 0.

    >>> draw_schedule({"a": 2, "b": 1}, "round_robin")
    [('a',), ('b',), ('a',), ('b',)]
    """
    if draw not in get_args(Draw):
        raise ValueError(f"draw must be one of {', '.join(get_args(Draw))}, got {draw!r}")
    if (weights is not None) != (draw == "weight"):
        raise ValueError(f"weights must be given with draw weight and only then, got {weights} with {draw}")
    if draw == "together":
        return [tuple(lengths)] * max(lengths.values())
    if draw == "round_robin":
        return [(name,) for _ in range(max(lengths.values())) for name in lengths]
    return _shuffle(lengths if weights is None else _share_out(sum(lengths.values()), lengths, weights), seed)


def _shuffle(counts: Mapping[str, int], seed: tuple[int, ...]) -> list[tuple[str, ...]]:
    steps: list[tuple[str, ...]] = [(name,) for name, count in counts.items() for _ in range(count)]
    order = np.random.default_rng(seed).permutation(len(steps))
    return [steps[place] for place in order]


def _share_out(total: int, names: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """Divide ``total`` by the weights; the rest goes to the largest remainders."""
    if set(weights) != set(names) or min(weights.values()) <= 0:
        raise ValueError(f"weights must be above 0, one each for {', '.join(names)}, got {dict(weights)}")
    exact = {name: total * weights[name] / sum(weights.values()) for name in names}
    counts = {name: int(share) for name, share in exact.items()}
    for name in sorted(names, key=lambda name: counts[name] - exact[name])[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
