"""Any heads, of any names, on one backbone."""

import copy

import pytest
import torch

from mobilevision import MobileNetV2, Network, Normalization
from mobilevision.classification.head import ClassificationConfig, ClassificationHead, Classifier
from mobilevision.detection.head import DetectionConfig, SSDLite, SSDLiteHead
from mobilevision.segmentation.head import DeepLabHead, DeepLabV3, SegmentationConfig

SIDE = 64
SINGLE = {"classification": Classifier, "detection": SSDLite, "segmentation": DeepLabV3}


def build_detector(backbone, num_classes=2, input_size=SIDE):
    return SSDLiteHead(backbone, DetectionConfig(num_classes=num_classes, input_size=input_size))


def build_segmenter(backbone, **options):
    return DeepLabHead(backbone, SegmentationConfig(**{"num_classes": 4, "input_size": SIDE + 1} | options))


def build_heads(backbone):
    """Two detection heads, a segmentation head and a classification head, none called like its task."""
    return {
        "signs": build_detector(backbone),
        "cars": build_detector(backbone, num_classes=3),
        "road": build_segmenter(backbone),
        "weather": ClassificationHead(backbone, ClassificationConfig(num_classes=5, input_size=32)),
    }


@pytest.fixture
def network(settle):
    backbone = MobileNetV2(width_mult=0.1)
    return settle(Network(backbone, build_heads(backbone), Normalization((0.4,) * 3, (0.3,) * 3)), SIDE)


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)


@pytest.mark.parametrize("task", SINGLE)
def test_a_network_with_one_head_returns_what_the_field_expects(task):
    network = SINGLE[task].from_options(num_classes=4, width_mult=0.1, input_size=SIDE)
    output = network(torch.zeros(2, 3, SIDE, SIDE))
    assert (list(network.heads), network.head.task, network.input_size) == ([task], task, SIDE)
    assert list(network.compute(torch.zeros(2, 3, SIDE, SIDE))) == [task]
    num_anchors = len(network.head.anchors) if task == "detection" else None
    expected = {
        "classification": (2, 4),
        "detection": ((2, num_anchors, 4), (2, num_anchors, 5)),
        "segmentation": (2, 4, SIDE, SIDE),
    }
    assert (output.shape if task != "detection" else tuple(part.shape for part in output)) == expected[task]


@torch.inference_mode()
def test_a_network_with_several_heads_returns_by_name_what_each_returns_alone(network, images):
    outputs = network(images)
    assert list(outputs) == ["signs", "cars", "road", "weather"]
    assert (outputs["signs"].logits.shape[2], outputs["cars"].logits.shape[2]) == (3, 4)
    assert outputs["road"].shape == (2, 4, SIDE, SIDE)
    for name, head in network.named_heads.items():
        alone = Network(network.backbone, {name: head}, network.normalization)(images)
        torch.testing.assert_close(outputs[name], alone)
    with pytest.raises(ValueError, match=r"several heads: use heads\[name\], one of signs, cars, road, weather"):
        _ = network.head


@torch.inference_mode()
def test_only_the_heads_that_are_asked_for_run(network, images):
    for name in ("signs", "road"):
        network.heads[name].register_forward_hook(lambda *_: pytest.fail("it ran"))
    # Without a detector images may have any size.
    assert list(network(images, heads=["cars", "weather"])) == ["cars", "weather"]
    assert network.compute(images[..., :33], ["weather"])["weather"].shape == (2, 5)


@torch.inference_mode()
def test_losses_take_a_segmenters_logits_at_its_output_stride(network, images):
    coarse = network.compute(images)["road"]
    assert coarse.shape == (2, 4, SIDE // 16, SIDE // 16)
    torch.testing.assert_close(network.heads["road"].upsample(coarse, (SIDE, SIDE)), network(images)["road"])


@pytest.mark.parametrize("heads", [["pose"], ["signs", "pose"], []])
def test_heads_that_it_does_not_have_cannot_be_asked_for(network, images, heads):
    with pytest.raises(ValueError, match=f"heads must be among signs, cars, road, weather, got {', '.join(heads)}"):
        network(images, heads)


def test_a_size_that_there_are_no_anchors_for_is_refused(network):
    assert network.input_size == SIDE
    for run in (network, network.extract_feat, lambda images: network(images, ["cars"])):
        with pytest.raises(ValueError, match="images must be 64x64 pixels, got 48x40"):
            run(torch.zeros(1, 3, 40, 48))


def test_a_network_without_heads_or_with_anchors_for_two_sizes_is_refused():
    backbone = MobileNetV2(width_mult=0.1)
    with pytest.raises(ValueError, match=r"heads must be at least one, .* got \{\}"):
        Network(backbone, {})
    sizes = {"signs": build_detector(backbone, input_size=64), "cars": build_detector(backbone, input_size=96)}
    with pytest.raises(ValueError, match=r"heads must be .* one input_size, got \{'signs': 64, 'cars': 96\}"):
        Network(backbone, sizes)


def test_without_anchors_a_network_is_for_the_largest_of_its_heads_sizes():
    backbone = MobileNetV2(width_mult=0.1)
    heads = {"road": build_segmenter(backbone, input_size=97), "weather": ClassificationHead(backbone)}
    assert Network(backbone, heads).input_size == 224


def test_tensors_are_called_by_their_part_and_each_is_there_once(network):
    assert {".".join(name.split(".")[: 2 if name.startswith("heads") else 1]) for name in network.state_dict()} == {
        "normalization",
        "backbone",
        "heads.signs",
        "heads.cars",
        "heads.road",
        "heads.weather",
    }
    parts = [network.backbone, *network.heads.values()]
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert sum(parameter.numel() for parameter in network.parameters()) == sum(counts)


@pytest.mark.parametrize("task", SINGLE)
def test_every_network_that_is_built_is_channels_last(task):
    built = SINGLE[task].from_options(num_classes=2, width_mult=0.1)
    parts = Network(MobileNetV2(width_mult=0.1), built.named_heads)
    for network in (built, parts):
        for parameter in network.parameters():
            assert parameter.ndim != 4 or parameter.is_contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def test_features_for_other_projects_are_those_that_the_heads_read(network, images):
    features = network.extract_feat(images)
    # Six maps for each detector, the last stage for the segmenter, the pooled map for the classifier.
    assert [tuple(feature.shape[2:]) for feature in features[6:12]] == [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1), (1, 1)]
    assert [tuple(feature.shape[1:]) for feature in features[12:]] == [(32, 4, 4), (1280,)]


@torch.inference_mode()
def test_another_output_stride_shares_every_parameter_and_changes_nothing(images):
    network = DeepLabV3.from_options(num_classes=3, width_mult=0.1, head="atrous").eval()
    before = copy.deepcopy(network)
    fine = network.with_output_stride(8)
    built = DeepLabV3.from_options(num_classes=3, width_mult=0.1, head="atrous", output_stride=8).eval()
    built.load_state_dict(network.state_dict())

    assert (fine.head.output_stride, network.head.output_stride) == (8, 16)
    assert [id(parameter) for parameter in fine.parameters()] == [id(parameter) for parameter in network.parameters()]
    torch.testing.assert_close(fine(images), built(images))
    torch.testing.assert_close(network(images), before(images))
    assert fine.compute(images)["segmentation"].shape[-1] == 2 * network.compute(images)["segmentation"].shape[-1]
    with pytest.raises(ValueError, match="output_stride must be 8, 16 or 32, got 12"):
        network.with_output_stride(12)


def test_heads_for_one_output_stride_refuse_another(network):
    with pytest.raises(ValueError, match="a detection head reads the backbone at output stride 32 only"):
        network.with_output_stride(16)


def test_one_optimizer_step_trains_every_part(network, images):
    outputs = network.train()(images)
    loss = sum(
        part.square().sum() for output in outputs.values() for part in ([output] if torch.is_tensor(output) else output)
    )
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
