import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevision.segmentation.head import deeplabv3_mobilenet_v2

SMALL = {"width_mult": 0.35, "num_classes": 3}


def count_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def build_shapes(**options):
    with torch.device("meta"):
        return deeplabv3_mobilenet_v2(**options).eval()


def dilations(head, features):
    """Return the dilation that each atrous branch is run with."""
    seen = []
    for branch in head.atrous:
        branch.register_forward_pre_hook(lambda module, args: seen.append(args[1].dilation))
    head(features)
    return seen


@pytest.fixture
def draw_images():
    return lambda *size: torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)


@pytest.mark.parametrize(("head", "expected"), [("light", 2_113_557), ("atrous", 4_523_541)])
def test_parameters_are_those_of_table_7(head, expected):
    assert count_parameters(build_shapes(head=head)) == expected


def test_parameters_of_the_light_head_part_by_part():
    network = build_shapes()
    assert count_parameters(network.backbone) == 1_811_712
    assert count_parameters(network.head.pool) == count_parameters(network.head.pixel) == 82_432
    assert count_parameters(network.head.project) == 131_584
    assert count_parameters(network.head.logits) == 5_397


@pytest.mark.parametrize(("output_stride", "side"), [(8, 65), (16, 33), (32, 17)])
def test_the_map_at_513_has_corners_on_corners(output_stride, side):
    network = build_shapes(**SMALL).with_output_stride(output_stride)
    coarse = network.compute(torch.empty(1, 3, 513, 513, device="meta"))["segmentation"]
    assert coarse.shape == (1, 3, side, side)


def test_the_head_is_two_branches_pooled_first_then_projection_and_logits(settle):
    head = settle(deeplabv3_mobilenet_v2(num_classes=3)).head
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
        torch.testing.assert_close(head(features), expected, atol=1e-4, rtol=1e-4)


def test_the_atrous_branches_follow_the_pooled_one_and_the_pixel():
    head = deeplabv3_mobilenet_v2(head="atrous", num_classes=2).eval().head
    seen, branches = [], []
    head.project.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    for branch in head.atrous:
        branch.register_forward_hook(lambda module, args, output: branches.append(output))
    features = torch.randn(1, 320, 9, 9)
    with torch.inference_mode():
        head(features)
        pooled, pixel, *atrous = seen[0].split(256, dim=1)
        torch.testing.assert_close(pooled[:, :, 0, 0], head.pool(features.mean((2, 3), keepdim=True))[:, :, 0, 0])
        torch.testing.assert_close(pixel, head.pixel(features))
    assert len(atrous) == 3
    for part, output in zip(atrous, branches, strict=True):
        torch.testing.assert_close(part, output)


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])])
def test_the_rates_follow_the_output_stride(output_stride, rates):
    built = build_shapes(head="atrous", output_stride=output_stride)
    moved = build_shapes(head="atrous").with_output_stride(output_stride)
    features = torch.empty(1, 320, 9, 9, device="meta")
    assert dilations(built.head, features) == dilations(moved.head, features) == rates


@pytest.mark.parametrize("head", ["light", "atrous"])
def test_a_network_at_another_output_stride_is_the_one_built_there_and_the_first_stays(head, settle, draw_images):
    network = settle(deeplabv3_mobilenet_v2(head=head, **SMALL))
    finer = deeplabv3_mobilenet_v2(head=head, **SMALL, output_stride=8).eval()
    finer.load_state_dict(network.state_dict())
    images = draw_images(65, 65)
    with torch.inference_mode():
        before = network(images)
        torch.testing.assert_close(network.with_output_stride(8)(images), finer(images))
        torch.testing.assert_close(network(images), before)
    assert network.with_output_stride(8).head.config == finer.head.config
    assert network.head.output_stride == 16


def test_the_logits_are_those_of_the_map_with_corners_on_corners(draw_images):
    network, images = deeplabv3_mobilenet_v2(**SMALL).eval(), draw_images(33, 65)
    with torch.inference_mode():
        coarse, logits = network.compute(images)["segmentation"], network(images)
    assert logits.shape == (2, 3, 33, 65)
    torch.testing.assert_close(logits[..., ::16, ::16], coarse)


def test_a_batch_of_one_trains(draw_images):
    network = deeplabv3_mobilenet_v2(**SMALL)
    network(draw_images(65, 65)[:1]).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    assert network.head.pool.conv.weight.grad.abs().sum() > 0


@settings(max_examples=8)
@given(height=st.integers(1, 70), width=st.integers(1, 70), output_stride=st.sampled_from([8, 16, 32]))
def test_images_of_any_size_come_back_at_their_size(height, width, output_stride):
    network = build_shapes(**SMALL, output_stride=output_stride)
    logits = network(torch.empty(1, 3, height, width, dtype=torch.uint8, device="meta"))
    assert logits.shape == (1, 3, height, width)


def test_answers_are_the_best_class_of_every_pixel_of_each_file():
    head = build_shapes(num_classes=2, width_mult=0.35, input_size=65).head
    # Cells lie at columns 0, 16, ..., 64: class 1 begins halfway between the third and the fourth.
    coarse = torch.tensor([0.5, 0.0])[None, :, None, None].repeat(2, 1, 5, 5)
    coarse[:, 1, :, 3:] = 1.0
    # The first file is the square itself, the second was scaled into its left half; only stretched it fills the square.
    sizes = torch.tensor([[65, 65], [130, 65]])
    whole, half = head.postprocess(coarse, sizes)
    assert (whole.shape, half.shape, whole.dtype) == ((65, 65), (130, 65), torch.uint8)
    assert (whole[:, :40].max(), whole[:, 41:].min(), half.max()) == (0, 1, 0)
    _, stretched = head.postprocess(coarse, sizes, stretched_to=65)
    assert torch.equal(stretched[::2], whole)


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
        build_shapes(**options)
