import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mobilevision.backbone import STAGES, FeatureInfo, MobileNetV2, round_channels
from mobilevision.backbone.stages import BlockPlan, deepen_stages, plan_strides

WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


def test_the_stages_are_those_of_table_2():
    assert STAGES == (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )


# Width, then the channels of the stem, of every stage and of the last convolution.
@pytest.mark.parametrize(
    ("width", "channels"),
    [
        (0.35, (16, 8, 8, 16, 24, 32, 56, 112, 1280)),
        (0.5, (16, 8, 16, 16, 32, 48, 80, 160, 1280)),
        (0.75, (24, 16, 24, 24, 48, 72, 120, 240, 1280)),
        (1.0, (32, 16, 24, 32, 64, 96, 160, 320, 1280)),
        (1.3, (40, 24, 32, 40, 80, 128, 208, 416, 1664)),
        (1.4, (48, 24, 32, 48, 88, 136, 224, 448, 1792)),
    ],
)
def test_channels_of_every_width(width, channels):
    info = MobileNetV2(width_mult=width).feature_info
    assert tuple(tap.channels for name, tap in info.items() if name != "stage6_expansion") == channels
    assert info["stage6_expansion"].channels == 6 * channels[5]


@pytest.mark.parametrize(("width", "last"), [(0.35, 448), (0.5, 640), (0.75, 960), (1.0, 1280), (1.4, 1792)])
def test_the_object_detection_api_narrows_the_last_convolution_and_has_16_channels_at_least(width, last):
    info = MobileNetV2(width_mult=width, min_channels=16, scale_last=True).feature_info
    assert info["last"].channels == last
    assert min(tap.channels for tap in info.values()) >= 16


def test_channels_need_not_be_multiples_of_eight():
    info = MobileNetV2(width_mult=0.5, round_to=1).feature_info
    assert [info[f"stage{number}"].channels for number in range(1, 5)] == [8, 12, 16, 32]


@given(st.floats(1, 2000), st.integers(1, 16))
def test_rounding_takes_the_nearest_multiple_that_loses_less_than_a_tenth(channels, divisor):
    rounded = round_channels(channels, divisor, minimum=divisor)
    assert rounded % divisor == 0
    assert rounded >= 0.9 * channels
    assert rounded - channels <= divisor
    nearest = max(divisor, math.floor(channels / divisor + 0.5) * divisor)
    assert rounded == nearest or nearest < 0.9 * channels


def test_rounding_never_goes_below_the_minimum():
    assert [round_channels(width * 16, minimum=16) for width in (0.35, 0.5, 1.0, 1.4)] == [16, 16, 16, 24]


# Layers by the numbers of TensorFlow's own code, 2 to 18: where a stride or a dilation is not 1.
@pytest.mark.parametrize(
    ("output_stride", "strided", "dilated"),
    [
        (32, {3, 5, 8, 15}, {}),
        (16, {3, 5, 8}, {16: 2, 17: 2, 18: 2}),
        (8, {3, 5}, {9: 2, 10: 2, 11: 2, 12: 2, 13: 2, 14: 2, 15: 2, 16: 4, 17: 4, 18: 4}),
    ],
)
def test_strides_and_dilations_of_every_layer(output_stride, strided, dilated):
    plans = [plan for stage in plan_strides(output_stride) for plan in stage]
    expected = [BlockPlan(2 if layer in strided else 1, dilated.get(layer, 1)) for layer in range(2, 19)]
    assert plans == expected


def test_blocks_2_4_5_7_8_9_11_12_14_and_15_have_a_shortcut():
    blocks = [block for _, stage in MobileNetV2().blocks() for block in stage]
    assert [index for index, block in enumerate(blocks) if block.residual] == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]


def test_a_shortcut_follows_from_the_actual_channels(settle):
    first = next(settle(MobileNetV2(width_mult=0.5, min_channels=16)).blocks())[1][0]
    assert (first.in_channels, first.out_channels, first.residual) == (16, 16, True)
    x = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(first(x), x + first.project(first.depthwise(x)))


def test_the_first_block_has_no_expansion():
    blocks = [block for _, stage in MobileNetV2().blocks() for block in stage]
    assert [isinstance(block.expand, nn.Identity) for block in blocks] == [True] + 16 * [False]


TAPS = ("stem", "stage1", "stage2", "stage3", "stage4", "stage5", "stage6_expansion", "stage6", "stage7", "last")


@pytest.mark.parametrize(
    ("output_stride", "strides"),
    [
        (32, (2, 2, 4, 8, 16, 16, 16, 32, 32, 32)),
        (16, (2, 2, 4, 8, 16, 16, 16, 16, 16, 16)),
        (8, (2, 2, 4, 8, 8, 8, 8, 8, 8, 8)),
    ],
)
@pytest.mark.parametrize("padding", ["symmetric", "tf_same"])
def test_every_tap_has_the_channels_and_the_stride_it_says(output_stride, strides, padding):
    backbone = MobileNetV2(width_mult=0.35, output_stride=output_stride, padding=padding).eval()
    assert tuple(backbone.feature_info) == TAPS
    assert tuple(tap.stride for tap in backbone.feature_info.values()) == strides
    for height, width in ((65, 76), (32, 38)):
        for name, feature in backbone(torch.zeros(1, 3, height, width), taps=TAPS).items():
            channels, stride = backbone.feature_info[name]
            assert feature.shape == (1, channels, math.ceil(height / stride), math.ceil(width / stride))


@pytest.mark.parametrize(
    ("size", "sides"), [(224, (14, 7)), (300, (19, 10)), (320, (20, 10)), (513, (33, 17)), (96, (6, 3))]
)
def test_sides_of_the_maps_that_ssdlite_reads(size, sides):
    for padding in ("symmetric", "tf_same"):
        backbone = MobileNetV2(width_mult=0.1, padding=padding).eval()
        maps = backbone(torch.zeros(1, 3, size, size), taps=("stage6_expansion", "last"))
        assert tuple(feature.shape[-1] for feature in maps.values()) == sides


def test_the_expansion_tap_has_576_channels_after_relu6(settle):
    backbone = settle(MobileNetV2())
    expanded = backbone(9 * torch.randn(1, 3, 64, 64), taps=("stage6_expansion",))["stage6_expansion"]
    assert backbone.feature_info["stage6_expansion"] == FeatureInfo(576, 16)
    assert expanded.min() == 0
    assert expanded.max() == 6


def test_stages_end_linearly(settle):
    maps = settle(MobileNetV2(width_mult=0.35))(torch.randn(1, 3, 64, 64), taps=("stage1", "stage7"))
    assert all(feature.min() < -1 for feature in maps.values())


def test_taps_come_in_the_order_in_which_they_are_asked_for():
    backbone = MobileNetV2(width_mult=0.35).eval()
    maps = backbone(torch.zeros(1, 3, 32, 32), taps=["last", "stage2", "last"])
    assert list(maps) == ["last", "stage2"]


def test_nothing_behind_the_deepest_tap_is_computed():
    backbone = MobileNetV2(width_mult=0.35).eval()
    ran = []
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    x = torch.zeros(1, 3, 32, 32)
    backbone(x, taps=("stem",))
    assert ran == ["stem.conv"]
    ran.clear()
    backbone(x, taps=("stage6_expansion", "stage2"))
    assert ran[-1] == "stages.stage6.0.expand.conv"
    assert len(ran) == len(set(ran)) == 1 + 2 + 3 * 12 + 1


def test_an_unknown_tap_is_refused():
    with pytest.raises(ValueError, match=r"taps must be among stem, stage1, .*, last, got stage8, stage9"):
        MobileNetV2(width_mult=0.35)(torch.zeros(1, 3, 32, 32), taps=("stage9", "stage2", "stage8"))


def test_without_its_last_convolution_the_tap_is_gone():
    backbone = MobileNetV2(last=False)
    assert "last" not in backbone.feature_info
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 1_811_712
    with pytest.raises(ValueError, match="got last"):
        backbone(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width_mult": -1.0}, r"width_mult must be above 0, got -1\.0"),
        ({"round_to": 0}, "round_to must be at least 1, got 0"),
        ({"output_stride": 4}, "output_stride must be 8, 16 or 32, got 4"),
        ({"padding": "same"}, "padding must be one of symmetric, tf_same, got 'same'"),
    ],
)
def test_arguments_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MobileNetV2(**options)


def test_batch_norm_and_initialisation_are_tensorflows():
    backbone = MobileNetV2()
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 52
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.003)}
    for conv in (module for module in backbone.modules() if isinstance(module, nn.Conv2d)):
        assert conv.bias is None
        assert 0.12 < conv.weight.abs().max() <= 0.18


@pytest.mark.parametrize("width", WIDTHS)
def test_it_has_torchvisions_shapes_at_every_width(width):
    ours = MobileNetV2(width_mult=width).state_dict().values()
    theirs = torchvision_mobilenet_v2(width_mult=width, weights=None).features.state_dict().values()
    assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]


@pytest.mark.parametrize("training", [False, True])
def test_it_computes_what_torchvision_computes_on_the_same_weights(training, settle):
    theirs = settle(torchvision_mobilenet_v2(weights=None).features)
    ours = MobileNetV2(norm_eps=1e-5)
    tensors = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), tensors, strict=True)))
    ours.train(training)
    theirs.train(training)
    x = torch.randn(2, 3, 65, 96)
    maps = ours(x, taps=("stage6_expansion", "stage7", "last"))
    for index, layer in enumerate(theirs):
        if index == 14:
            torch.testing.assert_close(maps["stage6_expansion"], layer.conv[0](x))
        x = layer(x)
        if index == 17:
            torch.testing.assert_close(maps["stage7"], x)
    torch.testing.assert_close(maps["last"], x)


@pytest.mark.parametrize("padding", ["symmetric", "tf_same"])
@pytest.mark.parametrize("before", [8, 16, 32])
@pytest.mark.parametrize("after", [8, 16, 32])
def test_another_output_stride_on_the_same_weights_is_the_network_built_with_it(padding, before, after, settle):
    changed = settle(MobileNetV2(width_mult=0.35, output_stride=before, padding=padding))
    built = MobileNetV2(width_mult=0.35, output_stride=after, padding=padding).eval()
    built.load_state_dict(changed.state_dict())
    changed.set_output_stride(after)
    assert changed.output_stride == after
    assert changed.feature_info == built.feature_info
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(changed(x)["last"], built(x)["last"])


def test_a_lower_output_stride_sees_the_same_at_the_places_both_look_at(settle):
    # In double precision: two kernels sum in different orders, which a stack of 53 layers makes visible in float32.
    coarse = settle(MobileNetV2(width_mult=0.35)).double()
    x = torch.randn(1, 3, 129, 129, dtype=torch.float64)
    expected = coarse(x, taps=("stage7",))["stage7"]
    coarse.set_output_stride(8)
    torch.testing.assert_close(coarse(x, taps=("stage7",))["stage7"][..., ::4, ::4], expected)


def test_paddings_are_the_same_where_every_side_is_odd(settle):
    symmetric = settle(MobileNetV2(width_mult=0.35))
    tf_same = MobileNetV2(width_mult=0.35, padding="tf_same").eval()
    tf_same.load_state_dict(symmetric.state_dict())
    odd, even = torch.randn(1, 3, 513, 513), torch.randn(1, 3, 64, 64)
    assert torch.equal(symmetric(odd)["last"], tf_same(odd)["last"])
    assert (symmetric(even)["last"] - tf_same(even)["last"]).abs().mean() > 0.1


def test_a_batch_of_one_trains_down_to_a_map_of_one_cell():
    backbone = MobileNetV2(width_mult=0.35).train()
    feature = backbone(torch.randn(1, 3, 32, 32))["last"]
    assert feature.shape == (1, 1280, 1, 1)
    feature.sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


@pytest.mark.parametrize(("width", "depth", "millions"), [(1.1, 1.2, 4.52), (1.2, 1.4, 5.83)])
def test_deeper_networks_have_the_parameters_that_timm_publishes(width, depth, millions):
    backbone = MobileNetV2(width_mult=width, depth_mult=depth, fixed_ends=True)
    classifier = 1280 * 1000 + 1000

    count = sum(parameter.numel() for parameter in backbone.parameters()) + classifier

    assert round(count / 1e6, 2) == millions
    assert (backbone.stem.conv.out_channels, backbone.last.conv.out_channels) == (32, 1280)
    assert [len(blocks) for _, blocks in backbone.blocks()][::6] == [1, 1]


def test_the_paper_has_the_depth_of_its_table():
    assert deepen_stages(1.0) == STAGES
    assert [stage.num_blocks for stage in deepen_stages(1.4)] == [2, 3, 5, 6, 5, 5, 2]


def test_a_deeper_network_dilates_its_further_blocks_too():
    backbone = MobileNetV2(width_mult=0.35, depth_mult=1.4, output_stride=16).eval()
    blocks = dict(backbone.blocks())["stage6"]

    assert [block.depthwise.conv.dilation[0] for block in blocks] == [1, 2, 2, 2, 2]
    backbone.set_output_stride(32)
    assert [block.depthwise.conv.stride[0] for block in blocks] == [2, 1, 1, 1, 1]


def test_a_depth_of_nothing_is_refused():
    with pytest.raises(ValueError, match="depth_mult must be above 0, got 0"):
        MobileNetV2(depth_mult=0)


@pytest.mark.parametrize("padding", ["symmetric", "tf_same"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_a_pass_at_another_output_stride_is_that_of_a_network_set_to_it(padding, output_stride):
    backbone = MobileNetV2(width_mult=0.35, padding=padding).eval()
    x = torch.randn(2, 3, 65, 97)
    found = backbone(x, taps=("stage7", "stage6_expansion"), output_stride=output_stride)
    backbone.set_output_stride(output_stride)
    expected = backbone(x, taps=("stage7", "stage6_expansion"))
    assert list(found) == ["stage7", "stage6_expansion"]
    for name, feature in expected.items():
        assert torch.equal(found[name], feature)


def test_one_pass_gives_the_maps_of_several_output_strides():
    backbone = MobileNetV2(width_mult=0.35).eval()
    x = torch.randn(1, 3, 64, 64)
    found = backbone.forward_at(x, {32: ("stage6_expansion", "last"), 16: ("stage7",), 8: ("stage3", "stage4")})
    assert [list(maps) for maps in found.values()] == [["stage6_expansion", "last"], ["stage7"], ["stage3", "stage4"]]
    for stride, maps in found.items():
        for name, feature in backbone(x, tuple(maps), stride).items():
            assert torch.equal(maps[name], feature)


def test_what_output_strides_share_is_computed_once():
    backbone = MobileNetV2(width_mult=0.35).eval()
    runs = Counter()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: runs.update([name]))
    backbone.forward_at(torch.zeros(1, 3, 64, 64), {32: ("last",), 16: ("stage7",)})
    twice = {name for name, count in runs.items() if count == 2}
    assert set(runs.values()) == {1, 2}
    assert "stages.stage6.0.expand.conv" not in twice
    assert "stages.stage6.0.depthwise.conv" in twice
    assert {name.split(".")[1] for name in twice} == {"stage6", "stage7"}
    assert runs["last.conv"] == 1


def test_a_stride_without_taps_costs_nothing():
    maps = MobileNetV2(width_mult=0.35).forward_at(torch.zeros(1, 3, 32, 32), {32: (), 16: ("stem",)})
    assert maps[32] == {}
    assert list(maps[16]) == ["stem"]


def test_an_output_stride_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="output_stride must be 8, 16 or 32, got 12"):
        MobileNetV2(width_mult=0.35)(torch.zeros(1, 3, 32, 32), output_stride=12)
