import pytest
import torch

from mobilevision.backbone import MobileNetV2
from mobilevision.backbone.normalization import IMAGENET_MEAN, IMAGENET_STD
from mobilevision.classification import mobilenet_v2


@pytest.mark.parametrize(("width", "features"), [(0.35, 1280), (1.0, 1280), (1.4, 1792)])
def test_a_batch_of_one_gives_features_and_a_logit_per_class(width, features):
    network = mobilenet_v2(7, width_mult=width).eval()
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert network(images).shape == (1, 7)
    (pooled,) = network.extract_feat(images)
    assert pooled.shape == (1, features)


def test_logits_are_the_weighed_mean_of_the_last_map(settle):
    network = settle(mobilenet_v2(3, width_mult=0.35))
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    last = network.backbone(network.normalization(images))["last"]
    expected = last.mean(dim=(2, 3)) @ network.head.linear.weight.T + network.head.linear.bias
    torch.testing.assert_close(network(images), expected)


def test_features_are_not_dropped_where_they_are_extracted(settle):
    network = settle(mobilenet_v2(3, width_mult=0.35, dropout=0.9))
    network.head.dropout.train()
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(network.extract_feat(images)[0], network.extract_feat(images)[0])
    assert not torch.equal(network(images), network(images))


def test_the_linear_layer_starts_as_tensorflow_starts_it():
    linear = mobilenet_v2(1000).head.linear
    assert torch.count_nonzero(linear.bias) == 0
    assert linear.weight.abs().max() <= 0.18
    # A normal distribution of deviation 0.09 cut off at two deviations has a deviation of 0.88 of that.
    assert linear.weight.std().item() == pytest.approx(0.09 * 0.8796, rel=0.01)


def test_it_can_be_built_again_from_its_options(settle):
    network = mobilenet_v2(
        5,
        width_mult=0.5,
        output_stride=16,
        padding="tf_same",
        round_to=4,
        input_size=96,
        dropout=0.5,
        norm_eps=1e-5,
        norm_momentum=0.1,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    settle(network)
    again = mobilenet_v2(**network.options).eval()
    again.load_state_dict(network.state_dict())
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    assert torch.equal(again(images), network(images))
    assert (network.model_name, network.num_classes, network.input_size) == ("mobilenet_v2", 5, 96)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"width_mult": 0.0}, "width_mult must be above 0, got 0.0"),
        ({"padding": "valid"}, "padding must be one of symmetric, tf_same, got 'valid'"),
        ({"output_stride": 12}, "output_stride must be 8, 16 or 32, got 12"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mobilenet_v2(**options)


def test_its_backbone_is_the_bare_one():
    assert mobilenet_v2(2).backbone.state_dict().keys() == MobileNetV2().state_dict().keys()
