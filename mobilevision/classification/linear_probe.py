"""Training of the linear layer alone, on features that are computed once instead of in every step."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mobilevision.classification.types import ClassificationBatch
from mobilevision.network import Network
from mobilevision.weights.card import Weights

HEAD_DECAY = 0.001
"""How strongly the layer is held to the one it starts from."""

MAX_STEPS = 200


class Features(NamedTuple):
    """The pooled features and the labels of a dataset."""

    features: Float[Tensor, "N D"]
    labels: Int64[Tensor, " N"]


class LinearLayer(NamedTuple):
    """A row of weights and a bias for every class."""

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, " C"]


@torch.no_grad()
def compute_features(network: Network, batches: Iterable[ClassificationBatch]) -> Features:
    """Compute the features of a dataset on the CPU, in evaluation mode.

    Args:
        network: Its only head is a classifier's; it is left in the mode it was in.
        batches: Of the dataset.
    """
    was_training = network.training
    network.eval()
    device = network.normalization.mean.device
    pairs = [(network.extract_feat(batch.images.to(device))[0].float().cpu(), batch.labels.cpu()) for batch in batches]
    network.train(was_training)
    return Features(*(torch.cat(column) for column in zip(*pairs, strict=True)))


def nearest_rows(data: Features, num_classes: int, weights: Weights | None) -> LinearLayer:
    """Return for every class the row of the trained class that its images look most like, whatever either is called.

    Args:
        data: Images of the wanted classes.
        num_classes: How many there are; one without images gets zeros.
        weights: A trained classifier's. Without any, or without a linear layer on such features, all rows are zero.
    """
    num_features = data.features.shape[1]
    layer = LinearLayer(torch.zeros(num_classes, num_features), torch.zeros(num_classes))
    trained = None if weights is None else _find_layer(weights)
    if trained is None or trained.weight.shape[1] != num_features:
        return layer
    scores = F.linear(data.features, *trained).softmax(dim=1)
    present = torch.bincount(data.labels, minlength=num_classes).nonzero()[:, 0]
    rows = torch.zeros(num_classes, len(trained.weight)).index_add_(0, data.labels, scores).argmax(dim=1)[present]
    layer.weight[present], layer.bias[present] = trained.weight[rows], trained.bias[rows]
    return layer


def fit_layer(
    data: Features, start: LinearLayer, *, label_smoothing: float = 0.0, decay: float = HEAD_DECAY
) -> LinearLayer:
    """Compute the linear layer that explains the labels best and stays near ``start``.

    It minimizes the mean cross entropy and ``decay / 2`` times the squared distance of the weights from the start's, by
    L-BFGS over the whole dataset. The problem is convex, so that nothing has to be tuned.

    Args:
        data: Some ten thousand images at most: all of them are in every step.
        start: Zeros, or rows that are trained already.
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


def _find_layer(weights: Weights) -> LinearLayer | None:
    for name, head in weights.card.heads.items():
        if head.task == "classification":
            return LinearLayer(*(weights.tensors[f"heads.{name}.linear.{part}"] for part in LinearLayer._fields))
    return None
