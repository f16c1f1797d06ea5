"""Train a peer for a number of minutes, with validations on the way."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

ENDLESS = 2**40
"""Samples of a sampler whose epochs follow each other without an end: no batch is waited for between them."""


def train_for(
    minutes: float,
    batches: Iterable[Any],
    optimizer: Optimizer,
    *,
    compute_loss: Callable[[Any], Tensor],
    rate: Callable[[int, float], float],
    interval: int,
    validate: Callable[[], dict[str, float]],
) -> dict[str, Any]:
    """Train until the minutes are over, and validate at the end.

    Args:
        minutes: Of training and validations, on the wall's clock.
        batches: Without an end.
        optimizer: Of the network that ``compute_loss`` runs.
        compute_loss: Returns the loss of a batch.
        rate: Returns the learning rate of a step, counted from 1, and the share of the minutes that is over: so that
            the schedule ends with them.
        interval: Steps from one validation to the next.
        validate: Returns the figures.

    Returns:
        ``validations``, the figures of each; ``steps``; ``seconds``.
    """
    validations = []
    start = time.perf_counter()
    for step, batch in enumerate(batches, start=1):
        progress = (time.perf_counter() - start) / (60 * minutes)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate(step, progress)
        with torch.autocast("cpu", torch.bfloat16):
            loss = compute_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % interval == 0:
            validations.append(validate())
    validations.append(validate())
    return {"validations": validations, "steps": step - 1, "seconds": time.perf_counter() - start}
