import pytest
import torch
from torch.nn import functional as F

from mobilevision.classification.head import mobilenet_v2
from mobilevision.classification.linear_probe import (
    Features,
    LinearLayer,
    compute_features,
    fit_layer,
    nearest_rows,
)
from mobilevision.classification.types import ClassificationBatch
from mobilevision.weights.card import HeadCard, Weights, WeightsCard


def zeros(num_classes, num_features):
    return LinearLayer(torch.zeros(num_classes, num_features), torch.zeros(num_classes))


def clusters(num_images=60, num_classes=3, num_features=8):
    labels = torch.arange(num_images) % num_classes
    return Features(3 * F.one_hot(labels, num_features).float() + torch.rand(num_images, num_features), labels)


def test_features_are_those_of_evaluation_and_the_network_is_left_as_it_was(settle):
    network = settle(mobilenet_v2(2, width_mult=0.1, input_size=32))
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 1, 0, 1])
    expected = network.extract_feat(images)[0].detach()
    network.train()
    batches = [ClassificationBatch(images[rows], labels[rows], rows) for rows in torch.arange(5).split(2)]
    features = compute_features(network, batches)
    torch.testing.assert_close(features.features, expected)
    assert features.labels.tolist() == labels.tolist()
    assert network.training
    assert not features.features.requires_grad


def weights_of(weight, bias):
    """Weights with a detector beside a classifier that is not called by its task."""
    heads = {"boxes": HeadCard("detection", {}), "animals": HeadCard("classification", {})}
    tensors = {"heads.animals.linear.weight": torch.tensor(weight), "heads.animals.linear.bias": torch.tensor(bias)}
    return Weights(tensors, WeightsCard(heads=heads))


def test_a_class_starts_from_the_row_that_its_images_look_most_like():
    # One image of class 0 looks like the first trained class, but two look like the second.
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    trained = weights_of([[9.0, 0.0], [0.0, 9.0], [-9.0, 0.0]], [1.0, 2.0, 3.0])
    layer = nearest_rows(Features(features, torch.tensor([0, 0, 0, 2])), 3, trained)
    assert layer.weight.tolist() == [[0.0, 9.0], [0.0, 0.0], [-9.0, 0.0]]
    assert layer.bias.tolist() == [2.0, 0.0, 3.0]


@pytest.mark.parametrize("weights", [None, Weights({}, WeightsCard()), weights_of([[1.0, 1.0, 1.0]], [1.0])])
def test_without_a_layer_on_such_features_all_rows_are_zero(weights):
    layer = nearest_rows(Features(torch.ones(1, 2), torch.tensor([0])), 1, weights)
    assert layer.weight.tolist() == [[0.0, 0.0]]
    assert layer.bias.tolist() == [0.0]


def test_the_fitted_layer_is_where_the_gradient_ends():
    data = clusters()
    layer = fit_layer(data, zeros(3, 8), decay=0.1)
    weight, bias = (tensor.clone().requires_grad_() for tensor in layer)
    loss = F.cross_entropy(F.linear(data.features, weight, bias), data.labels) + 0.05 * weight.square().sum()
    loss.backward()
    assert weight.grad.abs().max() < 1e-3
    assert bias.grad.abs().max() < 1e-3
    assert F.linear(data.features, *layer).argmax(dim=1).tolist() == data.labels.tolist()


def test_a_strong_decay_stays_with_the_start():
    start = LinearLayer(torch.randn(3, 8), torch.zeros(3))
    near, far = (fit_layer(clusters(), start, decay=decay) for decay in (1e4, 0.01))
    torch.testing.assert_close(near.weight, start.weight, atol=1e-3, rtol=0)
    assert (far.weight - start.weight).abs().max() > 0.1


def test_one_class_and_no_gradients_around_it():
    with torch.no_grad():
        layer = fit_layer(Features(torch.rand(4, 2), torch.zeros(4, dtype=torch.long)), zeros(1, 2))
    assert layer.weight.tolist() == [[0.0, 0.0]]
