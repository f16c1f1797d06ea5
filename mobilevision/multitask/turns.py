"""Whose turn it is in which step of an epoch."""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

Draw = Literal["together", "round_robin", "size", "weight"]
"""How the batches of several sets become steps, see :func:`draw_turns`."""


def draw_turns(
    lengths: Mapping[str, int], draw: Draw, *, weights: Mapping[str, float] | None = None, seed: tuple[int, ...] = (0,)
) -> list[tuple[str, ...]]:
    """Say for every step of an epoch which sets it takes a batch of.

    How often a set has its turn does not depend on ``seed``, only when.

    Args:
        lengths: The number of batches in each set, at least 1.
        draw: ``together``: every step takes one of each, and the smaller sets go round until the largest is through.
            ``round_robin``: likewise, but one set after the other. ``size``: every set is gone through once, in any
            order. ``weight``: as many steps, but each set has its share by ``weights``.
        weights: Of each set, for ``weight``; they need not sum to 1.
        seed: Decides the order of ``size`` and ``weight``.

    Raises:
        ValueError: ``draw`` is unknown, or ``weights`` are missing, of other sets, or not above 0.

    >>> draw_turns({"a": 2, "b": 1}, "round_robin")
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
    turns: list[tuple[str, ...]] = [(name,) for name, count in counts.items() for _ in range(count)]
    order = np.random.default_rng(seed).permutation(len(turns))
    return [turns[place] for place in order]


def _share_out(total: int, names: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """Divide ``total`` by the weights, what does not divide going to the largest remainders."""
    if set(weights) != set(names) or min(weights.values()) <= 0:
        raise ValueError(f"weights must be above 0, one each for {', '.join(names)}, got {dict(weights)}")
    exact = {name: total * weights[name] / sum(weights.values()) for name in names}
    counts = {name: int(share) for name, share in exact.items()}
    for name in sorted(names, key=lambda name: counts[name] - exact[name])[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
