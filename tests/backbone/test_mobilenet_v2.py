import math
from collections import Counter

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mobilevision.backbone import BackboneConfig, FeatureInfo, MobileNetV2

PADDINGS = ("symmetric", "tf_same")


def on_meta(**options):
    with torch.device("meta"):
        return MobileNetV2(**options)


def pixels(*shape):
    return torch.zeros(1, 3, *shape)


def blocks_of(backbone):
    return [block for blocks in backbone.stages.values() for block in blocks]


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
def test_channels_of_every_width_which_are_torchvisions(width, channels):
    backbone = on_meta(width_mult=width)
    info = backbone.feature_info
    assert tuple(tap.channels for name, tap in info.items() if name != "stage6_expansion") == channels
    assert info["stage6_expansion"].channels == 6 * channels[5]
    with torch.device("meta"):
        theirs = torchvision_mobilenet_v2(width_mult=width, weights=None).features.state_dict().values()
    assert [tensor.shape for tensor in backbone.state_dict().values()] == [tensor.shape for tensor in theirs]


@pytest.mark.parametrize(("width", "last"), [(0.35, 448), (0.5, 640), (0.75, 960), (1.0, 1280), (1.4, 1792)])
def test_the_object_detection_api_narrows_the_last_convolution_and_has_16_channels_at_least(width, last):
    info = on_meta(width_mult=width, min_channels=16, scale_last=True).feature_info
    assert info["last"].channels == last
    assert min(tap.channels for tap in info.values()) >= 16


def test_channels_need_not_be_multiples_of_eight():
    info = on_meta(width_mult=0.5, round_to=1).feature_info
    assert [info[f"stage{number}"].channels for number in range(1, 5)] == [8, 12, 16, 32]


@pytest.mark.parametrize(("width", "depth", "millions"), [(1.1, 1.2, 4.52), (1.2, 1.4, 5.83)])
def test_deeper_networks_have_the_parameters_that_timm_publishes(width, depth, millions):
    backbone = on_meta(width_mult=width, depth_mult=depth, fixed_ends=True)
    count = sum(parameter.numel() for parameter in backbone.parameters()) + 1280 * 1000 + 1000
    assert round(count / 1e6, 2) == millions
    assert (backbone.stem.conv.out_channels, backbone.last.conv.out_channels) == (32, 1280)
    assert [len(blocks) for blocks in backbone.stages.values()][::6] == [1, 1]


def test_blocks_2_4_5_7_8_9_11_12_14_and_15_have_a_shortcut_and_the_first_no_expansion():
    blocks = blocks_of(on_meta())
    assert [index for index, block in enumerate(blocks) if block.adds_input()] == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]
    assert [isinstance(block.expand, nn.Identity) for block in blocks] == [True] + 16 * [False]


TAPS = ("stem", "stage1", "stage2", "stage3", "stage4", "stage5", "stage6_expansion", "stage6", "stage7", "last")
STRIDES = (2, 2, 4, 8, 16, 16, 16, 32, 32, 32)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("padding", PADDINGS)
def test_every_tap_has_its_channels_and_a_stride_of_the_output_stride_at_most(output_stride, padding):
    backbone = MobileNetV2(width_mult=0.35, padding=padding).eval()
    assert tuple(backbone.feature_info) == TAPS
    assert tuple(tap.stride for tap in backbone.feature_info.values()) == STRIDES
    for height, width in ((65, 76), (32, 38)):
        for name, feature in backbone(pixels(height, width), TAPS, output_stride).items():
            channels, stride = backbone.feature_info[name]
            stride = min(stride, output_stride)
            assert feature.shape == (1, channels, math.ceil(height / stride), math.ceil(width / stride))


@torch.inference_mode()
@pytest.mark.parametrize("padding", PADDINGS)
def test_sides_of_the_maps_that_ssdlite_reads(padding):
    backbone = MobileNetV2(width_mult=0.1, padding=padding).eval()
    for size, sides in {224: (14, 7), 300: (19, 10), 320: (20, 10), 513: (33, 17), 96: (6, 3)}.items():
        maps = backbone(pixels(size, size), taps=("stage6_expansion", "last"))
        assert tuple(feature.shape[-1] for feature in maps.values()) == sides


def test_the_expansion_tap_has_576_channels_after_relu6_and_stages_end_linearly(settle):
    backbone = settle(MobileNetV2())
    maps = backbone(9 * torch.randn(1, 3, 64, 64), taps=("stage1", "stage6_expansion", "stage7"))
    expanded = maps.pop("stage6_expansion")
    assert backbone.feature_info["stage6_expansion"] == FeatureInfo(576, 16)
    assert (expanded.min(), expanded.max()) == (0, 6)
    assert all(feature.min() < -1 for feature in maps.values())


def test_taps_come_in_the_order_in_which_they_are_asked_for():
    assert list(MobileNetV2(width_mult=0.1)(pixels(32, 32), taps=["last", "stage2", "last"])) == ["last", "stage2"]


def test_nothing_behind_the_deepest_tap_is_computed():
    backbone = MobileNetV2(width_mult=0.1)
    ran = []
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    backbone(pixels(32, 32), taps=("stem",))
    assert ran == ["stem.conv"]
    ran.clear()
    backbone(pixels(32, 32), taps=("stage6_expansion", "stage2"))
    assert ran[-1] == "stages.stage6.0.expand.conv"
    assert len(ran) == len(set(ran)) == 1 + 2 + 3 * 12 + 1


def test_unknown_taps_and_output_strides_are_refused():
    backbone = MobileNetV2(width_mult=0.1)
    with pytest.raises(ValueError, match=r"taps must be among stem, stage1, .*, last, got stage8, stage9"):
        backbone(pixels(32, 32), taps=("stage9", "stage2", "stage8"))
    with pytest.raises(ValueError, match="output_stride must be 8, 16 or 32, got 12"):
        backbone(pixels(32, 32), output_stride=12)


def test_without_its_last_convolution_the_tap_is_gone():
    backbone = on_meta(last=False)
    assert "last" not in backbone.feature_info
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 1_811_712
    with pytest.raises(ValueError, match="got last"):
        backbone(pixels(32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width_mult": -1.0}, r"width_mult must be above 0, got -1\.0"),
        ({"depth_mult": 0}, "depth_mult must be above 0, got 0"),
        ({"round_to": 0}, "round_to must be at least 1, got 0"),
        ({"padding": "same"}, "padding must be one of symmetric, tf_same, got 'same'"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        on_meta(**options)


def test_options_override_those_of_the_config_and_unknown_ones_are_refused():
    config = BackboneConfig(width_mult=0.5, padding="tf_same")
    assert on_meta(config=config, width_mult=0.35).config == BackboneConfig(width_mult=0.35, padding="tf_same")
    with pytest.raises(TypeError, match="alpha"):
        MobileNetV2(alpha=0.5)


def test_batch_norm_and_initialization_are_tensorflows():
    backbone = MobileNetV2()
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 52
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.003)}
    for conv in (module for module in backbone.modules() if isinstance(module, nn.Conv2d)):
        assert conv.bias is None
        assert 0.12 < conv.weight.abs().max() <= 0.18


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
            torch.testing.assert_close(maps["stage6_expansion"], layer.conv[0](x), atol=1e-4, rtol=1e-4)
        x = layer(x)
        if index == 17:
            torch.testing.assert_close(maps["stage7"], x, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps["last"], x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_lower_output_stride_sees_the_same_at_the_places_both_look_at(padding, settle):
    # In double precision: two kernels sum in different orders, which a stack of 53 layers makes visible in float32.
    backbone = settle(MobileNetV2(width_mult=0.35, padding=padding)).double()
    taps = ("stage6_expansion", "stage7")
    # All sides are odd down to the coarsest map, where both paddings begin at the same place.
    maps = backbone.forward_strides(torch.randn(1, 3, 129, 129, dtype=torch.float64), dict.fromkeys((32, 16, 8), taps))
    torch.testing.assert_close(maps[8]["stage6_expansion"][..., ::2, ::2], maps[32]["stage6_expansion"])
    torch.testing.assert_close(maps[8]["stage7"][..., ::2, ::2], maps[16]["stage7"])
    torch.testing.assert_close(maps[16]["stage7"][..., ::2, ::2], maps[32]["stage7"])


def test_paddings_are_the_same_where_every_side_is_odd(settle):
    symmetric = settle(MobileNetV2(width_mult=0.35))
    tf_same = MobileNetV2(width_mult=0.35, padding="tf_same").eval()
    tf_same.load_state_dict(symmetric.state_dict())
    odd, even = torch.randn(1, 3, 129, 129), torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(symmetric(odd)["last"], tf_same(odd)["last"], atol=1e-4, rtol=1e-4)
    assert (symmetric(even)["last"] - tf_same(even)["last"]).abs().mean() > 0.1


def test_a_batch_of_one_trains_down_to_a_map_of_one_cell():
    backbone = MobileNetV2(width_mult=0.35).train()
    feature = backbone(torch.randn(1, 3, 32, 32))["last"]
    assert feature.shape == (1, 1280, 1, 1)
    feature.sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_one_pass_returns_the_maps_of_several_output_strides(settle):
    backbone = settle(MobileNetV2(width_mult=0.35))
    before = [(module.stride, module.dilation) for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    x = torch.randn(1, 3, 64, 64)
    taps = {32: ("stage6_expansion", "last"), 16: ("stage7",), 8: ("stage4", "stage3")}
    found = backbone.forward_strides(x, taps)
    assert {stride: tuple(maps) for stride, maps in found.items()} == taps
    for stride, maps in found.items():
        for name, feature in backbone(x, tuple(maps), stride).items():
            torch.testing.assert_close(maps[name], feature)
    after = [(module.stride, module.dilation) for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    assert after == before


def test_what_output_strides_share_is_computed_once():
    backbone = MobileNetV2(width_mult=0.1)
    runs = Counter()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: runs.update([name]))
    backbone.forward_strides(pixels(64, 64), {32: ("last",), 16: ("stage7",)})
    twice = {name for name, count in runs.items() if count == 2}
    assert set(runs.values()) == {1, 2}
    assert "stages.stage6.0.expand.conv" not in twice
    assert "stages.stage6.0.depthwise.conv" in twice
    assert {name.split(".")[1] for name in twice} == {"stage6", "stage7"}
    assert runs["last.conv"] == 1


def test_any_module_may_stand_in_for_the_stem():
    backbone = MobileNetV2(width_mult=0.1)
    info = backbone.feature_info
    backbone.stem = nn.Sequential(nn.Conv2d(3, info["stem"].channels, 3, stride=2, padding=1), nn.Hardswish())
    assert backbone.feature_info == info
    assert backbone(pixels(32, 32), taps=("stem", "last"))["stem"].shape[1] == info["stem"].channels


def test_a_stride_without_taps_costs_nothing():
    maps = MobileNetV2(width_mult=0.1).forward_strides(pixels(32, 32), {32: (), 16: ("stem",)})
    assert maps[32] == {}
    assert list(maps[16]) == ["stem"]
