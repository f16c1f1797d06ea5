"""The network: sizes, order, options."""

import math
from functools import partial

import pytest
import torch
from mobilevision.backbone.padding import SameConv2d
from torch import nn

from mobilevision.backbone.inverted_residual import NormOptions
from mobilevision.detection import SSDLite, ssdlite_mobilenet_v2
from mobilevision.detection.head import Predictor

NUM_ANCHORS = (3, 6, 6, 6, 6, 6)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def coco() -> SSDLite:
    return ssdlite_mobilenet_v2().eval()


@pytest.fixture(scope="module")
def small() -> SSDLite:
    return ssdlite_mobilenet_v2(2, input_size=96, width_mult=0.35).eval()


def test_the_counts_are_the_papers(coco: SSDLite):
    assert count(coco) == 4_337_013
    assert count(coco) - count(coco.backbone) == 2_113_141
    assert count(ssdlite_mobilenet_v2(90)) == 4_500_543


def test_the_counts_of_every_level_are_the_original_ones(coco: SSDLite):
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
def test_maps_anchors_and_predictions_have_the_same_places(options: dict, sides: tuple[int, ...]):
    network = ssdlite_mobilenet_v2(1, width_mult=0.35, **options).eval()
    images = torch.zeros(1, 3, network.input_size, network.input_size, dtype=torch.uint8)
    with torch.inference_mode():
        assert [tuple(feature.shape[2:]) for feature in network.extract_feat(images)] == [(side,) * 2 for side in sides]
        offsets, logits = network(images)
    num_anchors = sum(side**2 * num for side, num in zip(sides, NUM_ANCHORS, strict=True))
    assert network.anchors.shape == (num_anchors, 4)
    assert offsets.shape == (1, num_anchors, 4)
    assert logits.shape == (1, num_anchors, 2)


def test_the_presets_have_2034_and_1917_anchors(coco: SSDLite):
    assert len(coco.anchors) == 2034
    assert len(ssdlite_mobilenet_v2(1, width_mult=0.35, preset="tf300").anchors) == 1917


def test_the_six_maps_have_the_papers_channels(coco: SSDLite):
    with torch.inference_mode():
        maps = coco.extract_feat(torch.zeros(1, 3, 96, 96))
    assert [feature.shape[1] for feature in maps] == [576, 1280, 512, 256, 256, 128]
    assert 0 <= maps[0].min() <= maps[0].max() <= 6


def test_below_width_1_the_paper_keeps_the_last_convolution_and_tensorflow_does_not():
    paper, released = (
        ssdlite_mobilenet_v2(1, width_mult=0.35, preset=preset, input_size=96) for preset in ("paper320", "tf300")
    )
    assert paper.backbone.feature_info["last"].channels == 1280
    assert released.backbone.feature_info["last"].channels == 448
    assert paper.backbone.feature_info["stage1"].channels == 8
    assert min(info.channels for info in released.backbone.feature_info.values()) == 16
    assert [extra.widen.conv.out_channels for extra in released.head.extras] == [179, 89, 89, 44]
    assert [extra.squeeze.conv.out_channels for extra in released.head.extras] == [89, 44, 44, 22]


def test_no_extra_layer_is_narrower_than_16():
    network = ssdlite_mobilenet_v2(1, width_mult=0.1, input_size=96)
    assert [extra.widen.conv.out_channels for extra in network.head.extras] == [51, 25, 25, 16]
    assert [extra.squeeze.conv.out_channels for extra in network.head.extras] == [25, 16, 16, 16]


def test_predictions_go_row_by_row_cell_by_cell_anchor_by_anchor():
    predictor = Predictor(8, num_anchors=3, num_outputs=5, padding="symmetric", norm=NormOptions()).eval()
    feature = torch.randn(2, 8, 4, 6)
    maps = predictor.pointwise(predictor.depthwise(feature))
    flat = predictor(feature)
    row, column, anchor = 2, 5, 1
    assert torch.equal(flat[1, (row * 6 + column) * 3 + anchor], maps[1, anchor * 5 : (anchor + 1) * 5, row, column])


def test_a_batch_of_one_trains_where_maps_are_1x1():
    network = ssdlite_mobilenet_v2(2, input_size=96, width_mult=0.35).train()
    offsets, logits = network(torch.rand(1, 3, 96, 96))
    (offsets.sum() + logits.sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize(("padding", "same"), [("symmetric", False), ("tf_same", True)])
def test_padding_reaches_every_3x3_convolution(padding: str, same: bool):
    network = ssdlite_mobilenet_v2(1, input_size=96, width_mult=0.35, padding=padding)
    parts = [part for part in network.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
    assert {isinstance(part, SameConv2d) for part in parts} == {same}


def test_normalisation_options_reach_backbone_and_head():
    network = ssdlite_mobilenet_v2(
        1, input_size=96, width_mult=0.35, norm_eps=1e-5, norm_momentum=0.1, head_norm_eps=1e-2, head_norm_momentum=0.2
    )
    backbone = {(part.eps, part.momentum) for part in network.backbone.modules() if isinstance(part, nn.BatchNorm2d)}
    everywhere = {(part.eps, part.momentum) for part in network.modules() if isinstance(part, nn.BatchNorm2d)}
    assert backbone == {(1e-5, 0.1)}
    assert everywhere - backbone == {(1e-2, 0.2)}


def test_the_head_starts_within_two_deviations_of_zero(coco: SSDLite):
    for part in (coco.head.extras, coco.head.class_predictors, coco.head.box_predictors):
        for conv in (module for module in part.modules() if isinstance(module, nn.Conv2d)):
            assert conv.weight.abs().max() <= 0.06
            assert conv.weight.std().item() == pytest.approx(0.0264, rel=0.1)
            assert conv.bias is None or not conv.bias.any()


def test_scores_leave_the_background_out():
    logits = torch.tensor([[[math.log(2), 0.0, math.log(3)]]])
    build = partial(ssdlite_mobilenet_v2, 2, input_size=96, width_mult=0.35)
    assert build().scores(logits)[0, 0].tolist() == pytest.approx([1 / 2, 3 / 4])
    assert build(score_function="softmax").scores(logits)[0, 0].tolist() == pytest.approx([1 / 6, 3 / 6])


def test_bytes_and_unit_floats_give_the_same_predictions(small: SSDLite):
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.allclose(small(images).logits, small(images.float() / 255).logits, atol=1e-4)


def test_images_of_another_size_are_refused(small: SSDLite):
    with pytest.raises(ValueError, match="images must be 96x96 pixels, got 128x96"):
        small(torch.zeros(1, 3, 96, 128))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"input_size": 0}, "input_size must be at least 1, got 0"),
        ({"preset": "ssd"}, "preset must be one of paper320, tf300, got 'ssd'"),
        ({"score_function": "relu"}, "score_function must be one of sigmoid, softmax, got 'relu'"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ssdlite_mobilenet_v2(**{"width_mult": 0.35} | options)


def test_its_options_build_it_again_and_its_anchors_are_not_saved(small: SSDLite):
    again = ssdlite_mobilenet_v2(**small.options).eval()
    again.load_state_dict(small.state_dict())
    images = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(again(images).logits, small(images).logits)
    assert "anchors" not in small.state_dict()
    assert small.model_name == "ssdlite_mobilenet_v2"
    assert small.num_classes == 2
