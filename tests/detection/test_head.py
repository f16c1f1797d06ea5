import math
from functools import partial

import pytest
import torch
from torch import nn

from mobilevision import SSDLite
from mobilevision.backbone.convolution import SameConv2d
from mobilevision.backbone.inverted_residual import NormOptions
from mobilevision.detection.head import MapPredictor, ssdlite_mobilenet_v2
from mobilevision.detection.types import DetectorOutput
from mobilevision.head import Selection

NUM_ANCHORS = (3, 6, 6, 6, 6, 6)
SMALL = {"input_size": 96, "width_mult": 0.35}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def build_shapes(*args, **options) -> SSDLite:
    with torch.device("meta"):
        return ssdlite_mobilenet_v2(*args, **options)


@pytest.fixture(scope="module")
def coco() -> SSDLite:
    return build_shapes()


def test_the_counts_are_the_papers(coco):
    assert count(coco) == 4_337_013
    assert count(coco.head) == 2_113_141
    assert count(build_shapes(90)) == 4_500_543


def test_the_counts_of_every_level_are_the_original_ones(coco):
    assert [count(part) for part in coco.head.class_predictors] == [146_547, 636_646, 254_950, 127_718, 127_718, 64_102]
    assert [count(part) for part in coco.head.box_predictors] == [13_260, 44_824, 17_944, 8_984, 8_984, 4_504]
    assert [count(part) for part in coco.head.extras] == [463_104, 100_480, 67_712, 25_664]


@pytest.mark.parametrize(
    ("options", "sides"),
    [
        ({}, (20, 10, 5, 3, 2, 1)),
        ({"preset": "tf300"}, (19, 10, 5, 3, 2, 1)),
        ({"preset": "tf300", "padding": "tf_same"}, (19, 10, 5, 3, 2, 1)),
        ({"input_size": 160}, (10, 5, 3, 2, 1, 1)),
        ({"input_size": 96, "padding": "tf_same"}, (6, 3, 2, 1, 1, 1)),
    ],
)
def test_maps_anchors_and_outputs_have_the_same_places(options, sides):
    network = build_shapes(1, width_mult=0.35, **options).eval()
    images = torch.empty(1, 3, network.input_size, network.input_size, dtype=torch.uint8, device="meta")
    assert [tuple(feature.shape[2:]) for feature in network.extract_feat(images)] == [(side,) * 2 for side in sides]
    assert network.head.map_sizes == [(side,) * 2 for side in sides]
    num_anchors = sum(side**2 * num for side, num in zip(sides, NUM_ANCHORS, strict=True))
    assert network.head.anchors.shape == (num_anchors, 4)
    offsets, logits = network(images)
    assert (offsets.shape, logits.shape) == ((1, num_anchors, 4), (1, num_anchors, 2))


def test_the_six_maps_have_the_papers_channels(coco):
    maps = coco.extract_feat(torch.empty(1, 3, 320, 320, device="meta"))
    assert [feature.shape[1] for feature in maps] == [576, 1280, 512, 256, 256, 128]


def test_below_width_1_the_paper_keeps_the_last_convolution_and_tensorflow_does_not():
    paper, released = (
        build_shapes(1, width_mult=0.35, preset=preset, input_size=96) for preset in ("paper320", "tf300")
    )
    assert paper.backbone.feature_info["last"].channels == 1280
    assert released.backbone.feature_info["last"].channels == 448
    assert paper.backbone.feature_info["stage1"].channels == 8
    assert min(info.channels for info in released.backbone.feature_info.values()) == 16
    assert [extra.widen.conv.out_channels for extra in released.head.extras] == [179, 89, 89, 44]
    assert [extra.squeeze.conv.out_channels for extra in released.head.extras] == [89, 44, 44, 22]


def test_no_extra_layer_is_narrower_than_16():
    network = build_shapes(1, width_mult=0.1, input_size=96)
    assert [extra.widen.conv.out_channels for extra in network.head.extras] == [51, 25, 25, 16]
    assert [extra.squeeze.conv.out_channels for extra in network.head.extras] == [25, 16, 16, 16]


def test_outputs_go_row_by_row_cell_by_cell_anchor_by_anchor():
    predictor = MapPredictor(8, num_anchors=3, num_outputs=5, padding="symmetric", norm=NormOptions()).eval()
    feature = torch.randn(2, 8, 4, 6)
    maps = predictor.pointwise(predictor.depthwise(feature))
    row, column, anchor = 2, 5, 1
    expected = maps[1, anchor * 5 : (anchor + 1) * 5, row, column]
    torch.testing.assert_close(predictor(feature)[1, (row * 6 + column) * 3 + anchor], expected)


def test_a_batch_of_one_trains_where_maps_are_1x1():
    network = ssdlite_mobilenet_v2(2, **SMALL)
    offsets, logits = network(torch.rand(1, 3, 96, 96))
    (offsets.sum() + logits.sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


def test_padding_and_normalization_options_reach_backbone_and_head():
    norms = {"norm_eps": 1e-5, "norm_momentum": 0.1, "head_norm_eps": 1e-2, "head_norm_momentum": 0.2}
    network = build_shapes(1, **SMALL, padding="tf_same", **norms)
    for part, expected in ((network.backbone, (1e-5, 0.1)), (network.head, (1e-2, 0.2))):
        modules = list(part.modules())
        assert {(each.eps, each.momentum) for each in modules if isinstance(each, nn.BatchNorm2d)} == {expected}
        convs = [each for each in modules if isinstance(each, nn.Conv2d) and each.kernel_size == (3, 3)]
        assert {type(conv) for conv in convs} == {SameConv2d}


def test_the_head_starts_within_two_deviations_of_zero():
    for conv in (module for module in ssdlite_mobilenet_v2().head.modules() if isinstance(module, nn.Conv2d)):
        assert conv.weight.abs().max() <= 0.06
        assert conv.weight.std().item() == pytest.approx(0.0264, rel=0.1)
        assert conv.bias is None or not conv.bias.any()


def test_scores_leave_the_background_out():
    logits = torch.tensor([[[math.log(2), 0.0, math.log(3)]]])
    build = partial(build_shapes, 2, **SMALL)
    assert build().head.scores(logits)[0, 0].tolist() == pytest.approx([1 / 2, 3 / 4])
    assert build(score_function="softmax").head.scores(logits)[0, 0].tolist() == pytest.approx([1 / 6, 3 / 6])


def test_answers_are_the_boxes_above_the_threshold_in_pixels_of_each_file():
    head = build_shapes(2, **SMALL).head
    logits = torch.full((2, len(head.anchors), 3), -9.0)
    # Three anchors on the same spot show class 1, and one in the second image class 0.
    logits[0, -3:, 2] = torch.tensor([2.0, 1.0, -1.0])
    logits[1, 0, 1] = 3.0
    sizes = torch.tensor([[96, 192], [48, 96]])
    offsets = torch.zeros(2, len(head.anchors), 4)
    both, one = head.postprocess(DetectorOutput(offsets, logits), sizes, Selection(iou_threshold=1.0))
    assert both.labels.tolist() == [1, 1]
    assert both.scores.tolist() == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1))])
    center_x, center_y, width, height = head.anchors[0].tolist()
    assert one.boxes[0].tolist() == pytest.approx(
        [
            max(center_x - width / 2, 0),
            max(center_y - height / 2, 0) / 2,
            center_x + width / 2,
            (center_y + height / 2) / 2,
        ]
    )


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="images must be 96x96 pixels, got 128x96"):
        build_shapes(2, **SMALL)(torch.empty(1, 3, 96, 128, device="meta"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"input_size": 0}, "input_size must be at least 1, got 0"),
        ({"preset": "ssd"}, "preset must be one of paper320, tf300, got 'ssd'"),
        ({"output_stride": 16}, "output_stride of a detector must be 32, got 16"),
        ({"score_function": "relu"}, "score_function must be one of sigmoid, softmax, got 'relu'"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_shapes(**{"width_mult": 0.35} | options)


def test_the_anchors_follow_from_the_size_and_are_not_saved(coco):
    assert not any("anchors" in name for name in coco.state_dict())
    assert coco.head.anchors.device.type == "cpu"


def test_of_cocos_90_numbers_the_80_that_are_used_are_matched_by_place(coco):
    places, rule = coco.head.match_places(90, {})
    assert (len(places), places[0], places[11], places[-1]) == (80, 0, 12, 89)
    assert "COCO" in rule
    assert list(coco.head.match_places(80, {})[0]) == list(range(80))
    assert coco.head.match_places(20, {}) is None
