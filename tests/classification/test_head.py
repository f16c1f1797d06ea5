import pytest
import torch

from mobilevision.backbone import MobileNetV2
from mobilevision.classification.head import mobilenet_v2, without_background


@pytest.mark.parametrize(("width", "features"), [(0.35, 1280), (1.0, 1280), (1.4, 1792)])
def test_a_batch_of_one_has_features_and_a_logit_per_class(width, features):
    with torch.device("meta"):
        network = mobilenet_v2(7, width_mult=width).eval()
        images = torch.empty(1, 3, 64, 64, dtype=torch.uint8)
    assert network(images).shape == (1, 7)
    assert [each.shape for each in network.extract_feat(images)] == [(1, features)]
    assert network.backbone.state_dict().keys() == MobileNetV2().state_dict().keys()


def test_logits_are_the_weighted_mean_of_the_last_map(settle):
    network = settle(mobilenet_v2(3, width_mult=0.35))
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    last = network.backbone(network.normalization(images))["last"]
    expected = last.mean(dim=(2, 3)) @ network.head.linear.weight.T + network.head.linear.bias
    torch.testing.assert_close(network(images), expected)


def test_features_are_not_dropped_where_they_are_extracted():
    head = mobilenet_v2(3, width_mult=0.35, dropout=0.9).head.train()
    last = torch.rand(1, 1280, 2, 2)
    torch.testing.assert_close(head.extract(last)[0], last.mean(dim=(2, 3)))
    assert not torch.equal(head(last), head(last))


def test_the_linear_layer_starts_as_tensorflow_starts_it():
    linear = mobilenet_v2(1000, width_mult=0.35).head.linear
    assert torch.count_nonzero(linear.bias) == 0
    assert linear.weight.abs().max() <= 0.18
    # A normal distribution of deviation 0.09 cut off at two deviations has a deviation of 0.88 of that.
    assert linear.weight.std().item() == pytest.approx(0.09 * 0.8796, rel=0.01)


def test_answers_are_scores_that_sum_to_1_also_for_half_precision():
    head = mobilenet_v2(3, width_mult=0.35).head
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 5.0, 5.0]])
    scores = torch.stack(tuple(head.postprocess(logits.bfloat16(), torch.ones(2, 2))))
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, logits.softmax(dim=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"background": "middle"}, "background must be one of first, last or None, got 'middle'"),
        ({"eval_crop": "middle"}, "crop must be one of short_side, central, got 'middle'"),
        ({"crop_share": 0.0}, "share must be above 0 and at most 1, got 0"),
        ({"width_mult": 0.0}, "width_mult must be above 0, got 0.0"),
        ({"padding": "valid"}, "padding must be one of symmetric, tf_same, got 'valid'"),
        ({"output_stride": 12}, "output_stride must be 8, 16 or 32, got 12"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mobilenet_v2(**{"width_mult": 0.35} | options)


@pytest.mark.parametrize(("place", "classes"), [("first", [1, 2]), ("last", [0, 1]), (None, [1, 2])])
def test_the_background_is_left_out_where_it_is_and_in_front_unless_stated(place, classes):
    assert list(without_background(3, place)) == classes


def test_weights_of_one_more_class_match_without_their_background_only():
    head = mobilenet_v2(2, width_mult=0.35).head
    assert head.match_places(3, {"background": "last"}) == (range(2), "without the background")
    assert head.match_places(3, {}) is None
    assert head.match_places(2, {"background": "last"}) == (range(2), "")
