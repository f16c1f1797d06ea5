"""Fit the linear layer to features that are computed once, instead of running the backbone in every step."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mobilevision.classification.classifier import Classifier
from mobilevision.classification.types import Batch
from mobilevision.weights.card import Weights

HEAD_DECAY = 0.01
"""How strongly the fitted layer is held to the one it starts from."""

MAX_STEPS = 200


class Features(NamedTuple):
    """What the backbone makes of a set."""

    features: Float[Tensor, "N D"]
    labels: Int64[Tensor, " N"]


class LinearLayer(NamedTuple):
    """A row and a number for every class."""

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, " C"]


@torch.no_grad()
def compute_features(network: Classifier, batches: Iterable[Batch]) -> Features:
    """Run the backbone once over a set, as in evaluation, and keep what it gives on the CPU."""
    was_training = network.training
    network.eval()
    device = network.linear.weight.device
    pairs = [(network.extract_feat(batch.images.to(device))[0].float().cpu(), batch.labels.cpu()) for batch in batches]
    network.train(was_training)
    return Features(*(torch.cat(column) for column in zip(*pairs, strict=True)))


def matching_rows(class_names: Sequence[str], num_features: int, weights: Weights | None) -> LinearLayer:
    """Take the rows of a trained classifier's classes that have the same names; the others are zero.

    Args:
        class_names: The wanted classes.
        num_features: Columns of the layer.
        weights: Any network's; one that is no classifier, has no names or other columns matches nothing.
    """
    layer = LinearLayer(torch.zeros(len(class_names), num_features), torch.zeros(len(class_names)))
    weight = None if weights is None else weights.tensors.get("linear.weight")
    if weights is None or weight is None or weight.shape[1] != num_features:
        return layer
    rows = {name: row for row, name in enumerate(weights.card.class_names)}
    for own, name in enumerate(class_names):
        if name in rows:
            layer.weight[own] = weight[rows[name]]
            layer.bias[own] = weights.tensors["linear.bias"][rows[name]]
    return layer


def fit_layer(
    data: Features, start: LinearLayer, *, label_smoothing: float = 0.0, decay: float = HEAD_DECAY
) -> LinearLayer:
    """Find the linear layer that explains the labels best and stays near ``start``.

    Minimises the mean cross entropy and ``decay / 2`` times the squared distance of the weights from the start's, by
    L-BFGS over the whole set. The problem is convex, so that nothing has to be tuned.

    Args:
        data: Some ten thousand images at most: all of them are in every step.
        start: Zeros, or rows that know something already.
        label_smoothing: Share of every label that is spread over all classes.
        decay: Above 0.
    """
    weight = start.weight.clone().requires_grad_()
    bias = start.bias.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(data.features, weight, bias), data.labels, label_smoothing=label_smoothing)
        loss = loss + 0.5 * decay * (weight - start.weight).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return LinearLayer(weight.detach(), bias.detach())
