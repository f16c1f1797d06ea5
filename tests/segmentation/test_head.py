import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevision.segmentation import deeplabv3_mobilenet_v2


def count_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def dilations(network):
    return [branch.conv.dilation[0] for branch in network.head.atrous]


def spread_statistics(network):
    """Give every normalisation statistics of its own, so that a wrong one shows."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


@pytest.mark.parametrize(("head", "expected"), [("light", 2_113_557), ("atrous", 4_523_541)])
def test_parameters_are_those_of_table_7(head, expected):
    assert count_parameters(deeplabv3_mobilenet_v2(head=head)) == expected


def test_parameters_of_the_light_head_part_by_part():
    network = deeplabv3_mobilenet_v2()
    assert count_parameters(network.backbone) == 1_811_712
    assert count_parameters(network.head.pool) == count_parameters(network.head.pixel) == 82_432
    assert count_parameters(network.head.project) == 131_584
    assert count_parameters(network.head.logits) == 5_397


@pytest.mark.parametrize(("output_stride", "side"), [(8, 65), (16, 33), (32, 17)])
def test_the_map_at_513_has_corners_on_corners(output_stride, side):
    network = deeplabv3_mobilenet_v2(width_mult=0.35, num_classes=2).eval()
    network.set_output_stride(output_stride)
    with torch.inference_mode():
        coarse = network.predict_coarse(torch.zeros(1, 3, 513, 513, dtype=torch.uint8))
    assert coarse.shape == (1, 2, side, side)


def test_the_head_is_two_branches_pooled_first_then_projection_and_logits():
    network = spread_statistics(deeplabv3_mobilenet_v2(num_classes=3).eval())
    head = network.head
    features = torch.randn(2, 320, 5, 7)

    def linear(module, x):
        norm = module.norm
        scale = norm.weight / torch.sqrt(norm.running_var + 1e-5)
        y = torch.einsum("oi,bihw->bohw", module.conv.weight[:, :, 0, 0], x)
        return ((y - norm.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).clamp(min=0)

    with torch.inference_mode():
        pooled = linear(head.pool, features.mean((2, 3), keepdim=True)).expand(2, 256, 5, 7)
        projected = linear(head.project, torch.cat([pooled, linear(head.pixel, features)], dim=1))
        expected = torch.einsum("oi,bihw->bohw", head.logits.weight[:, :, 0, 0], projected)
        expected += head.logits.bias.view(-1, 1, 1)
        torch.testing.assert_close(head(features), expected)


def test_the_atrous_branches_follow_the_pooled_one_and_the_pixel():
    head = deeplabv3_mobilenet_v2(head="atrous", num_classes=2).eval().head
    seen = []
    head.project.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    features = torch.randn(1, 320, 9, 9)
    with torch.inference_mode():
        head(features)
        pooled, pixel, *atrous = seen[0].split(256, dim=1)
        torch.testing.assert_close(pooled[:, :, 0, 0], head.pool(features.mean((2, 3), keepdim=True))[:, :, 0, 0])
        torch.testing.assert_close(pixel, head.pixel(features))
        for branch, part in zip(head.atrous, atrous, strict=True):
            torch.testing.assert_close(part, branch(features))


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])])
def test_the_rates_follow_the_output_stride(output_stride, rates):
    built = deeplabv3_mobilenet_v2(head="atrous", output_stride=output_stride, width_mult=0.35)
    assert dilations(built) == rates
    assert [branch.conv.padding[0] for branch in built.head.atrous] == rates


@pytest.mark.parametrize("head", ["light", "atrous"])
def test_a_network_set_to_another_output_stride_is_the_one_built_there(head):
    network = spread_statistics(deeplabv3_mobilenet_v2(head=head, width_mult=0.35, num_classes=4)).eval()
    finer = deeplabv3_mobilenet_v2(head=head, width_mult=0.35, num_classes=4, output_stride=8).eval()
    finer.load_state_dict(network.state_dict())

    network.set_output_stride(8)

    images = torch.randint(0, 256, (1, 3, 65, 65), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(network(images), finer(images))
    assert network.options == finer.options


def test_the_logits_are_those_of_the_map_with_corners_on_corners():
    network = deeplabv3_mobilenet_v2(num_classes=2, width_mult=0.35).eval()
    images = torch.randint(0, 256, (2, 3, 33, 65), dtype=torch.uint8)
    with torch.inference_mode():
        coarse, logits = network.predict_coarse(images), network(images)
    assert logits.shape == (2, 2, 33, 65)
    torch.testing.assert_close(logits[..., ::16, ::16], coarse)


def test_a_batch_of_one_trains():
    network = deeplabv3_mobilenet_v2(width_mult=0.35, num_classes=2).train()
    network(torch.randint(0, 256, (1, 3, 65, 65), dtype=torch.uint8)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    assert network.head.pool.conv.weight.grad.abs().sum() > 0


def test_channels_need_not_be_rounded():
    info = deeplabv3_mobilenet_v2(width_mult=0.5, round_to=1).backbone.feature_info
    assert [info[f"stage{n}"].channels for n in range(1, 8)] == [8, 12, 16, 32, 48, 80, 160]


@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), output_stride=st.sampled_from([8, 16, 32]))
def test_images_of_any_size_come_back_at_their_size(height, width, output_stride):
    network = deeplabv3_mobilenet_v2(width_mult=0.35, num_classes=3, output_stride=output_stride).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(1, 3, height, width, dtype=torch.uint8))
    assert logits.shape == (1, 3, height, width)


def test_the_options_build_the_same_network_again():
    network = deeplabv3_mobilenet_v2(5, head="atrous", width_mult=0.5, padding="tf_same", std=[1.0, 1.0, 1.0])
    again = deeplabv3_mobilenet_v2(**network.options)
    again.load_state_dict(network.state_dict())
    assert again.options == network.options
    assert (again.num_classes, again.input_size, again.model_name) == (5, 513, "deeplabv3_mobilenet_v2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "aspp"}, "head must be one of light, atrous, got 'aspp'"),
        ({"num_classes": 0}, "num_classes must be 1 to 255, got 0"),
        ({"num_classes": 256}, "num_classes must be 1 to 255, got 256"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"output_stride": 12}, "output_stride must be 8, 16 or 32, got 12"),
    ],
)
def test_an_option_outside_its_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        deeplabv3_mobilenet_v2(**options)
