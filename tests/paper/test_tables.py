"""The paper's tables, and those of its authors' code, to the last printed digit."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mobilevision import MobileNetV2, get_model
from mobilevision.complexity import count_multi_scale, measure
from mobilevision.segmentation.multi_scale import PAPER_SCALES, scale_size

# Width, input size, printed MAdds in millions (truncated), exact MAdds in millions (rounded to two digits).
SLIM_MULTIPLY_ADDS = [
    (1.4, 224, 582, 582.20),
    (1.3, 224, 509, 509.38),
    (1.0, 224, 300, 300.78),
    (1.0, 192, 221, 221.32),
    (1.0, 160, 154, 154.08),
    (1.0, 128, 99, 99.08),
    (1.0, 96, 56, 56.29),
    (0.75, 224, 209, 209.07),
    (0.75, 192, 153, 153.94),
    (0.75, 160, 107, 107.30),
    (0.75, 128, 69, 69.13),
    (0.75, 96, 39, 39.45),
    (0.5, 224, 97, 97.13),
    (0.5, 192, 71, 71.70),
    (0.5, 160, 50, 50.19),
    (0.5, 128, 32, 32.58),
    (0.5, 96, 18, 18.89),
    (0.35, 224, 59, 59.29),
    (0.35, 192, 43, 43.90),
    (0.35, 160, 30, 30.88),
    (0.35, 128, 20, 20.22),
    (0.35, 96, 11, 11.94),
]

# Width, printed parameters in millions, weights of convolutions and the classifier alone, everything trained.
SLIM_PARAMETERS = [
    (1.4, 6.06, 6_061_632, 6_110_569),
    (1.3, 5.34, 5_343_200, 5_388_457),
    (1.0, 3.47, 3_471_040, 3_506_153),
    (0.75, 2.61, 2_610_064, 2_637_705),
    (0.5, 1.95, 1_950_416, 1_969_961),
    (0.35, 1.66, 1_663_328, 1_678_409),
]


@pytest.fixture(autouse=True)
def no_values() -> Iterator[None]:
    with torch.device("meta"):
        yield


def count_weights(network: nn.Module) -> int:
    return sum(module.weight.numel() for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear))


@pytest.mark.parametrize(("width", "size", "printed", "exact"), SLIM_MULTIPLY_ADDS)
def test_multiply_adds_of_every_released_classifier(width, size, printed, exact):
    millions = (
        measure(get_model("mobilenet_v2", num_classes=1001, width_mult=width, input_size=size)).multiply_adds / 1e6
    )
    assert int(millions) == printed
    assert round(millions, 2) == exact


@pytest.mark.parametrize(("width", "printed", "weights", "trained"), SLIM_PARAMETERS)
def test_parameters_of_every_released_width(width, printed, weights, trained):
    network = get_model("mobilenet_v2", num_classes=1001, width_mult=width)
    assert count_weights(network) == weights
    assert sum(parameter.numel() for parameter in network.parameters()) == trained
    assert round(weights / 1e6, 2) == printed


def test_parameters_with_1000_classes_and_without_a_classifier():
    assert measure(get_model("mobilenet_v2")).parameters == 3_504_872
    assert sum(parameter.numel() for parameter in MobileNetV2().parameters()) == 2_223_872


def test_ssdlite_of_table_6_and_its_head_of_table_5():
    parameters, multiply_adds, _, parts = measure(get_model("ssdlite_mobilenet_v2", num_classes=80))
    assert parameters == 4_337_013
    assert multiply_adds == 788_830_144
    assert {name: round(part.multiply_adds / 1e6, 2) for name, part in parts.items()} == {
        "backbone": 611.21,
        "heads.detection.extras": 38.55,
        "heads.detection.class_predictors": 129.47,
        "heads.detection.box_predictors": 9.60,
    }
    head = [part for name, part in parts.items() if name != "backbone"]
    assert sum(part.parameters for part in head) == 2_113_141
    assert round(sum(part.multiply_adds for part in head) / 1e9, 4) == 0.1776


# Side, outputs with the background, trained parameters, weights alone, MAdds in millions.
@pytest.mark.parametrize(
    ("size", "outputs", "parameters", "weights", "millions"),
    [
        (320, 80, 4_320_660, 4_267_136, "787.3"),
        (320, 91, 4_500_543, 4_446_656, "804.40"),
        (300, 81, 4_337_013, 4_283_456, "734.61"),
        (300, 91, 4_500_543, 4_446_656, "749.50"),
    ],
)
def test_ssdlite_at_other_sizes_and_class_counts(size, outputs, parameters, weights, millions):
    network = get_model("ssdlite_mobilenet_v2", num_classes=outputs - 1, input_size=size)
    complexity = measure(network)
    assert complexity.parameters == parameters
    assert count_weights(network) == weights
    digits = len(millions.split(".")[1])
    assert f"{complexity.multiply_adds / 1e6:.{digits}f}" == millions


def test_the_released_detector_config_costs_as_much_as_its_input_size_implies():
    network = get_model("ssdlite_mobilenet_v2", num_classes=80, preset="tf300")
    assert round(measure(network).multiply_adds / 1e6, 2) == 734.61


# Head, whether dilation is counted as TensorFlow 1 ran it, MAdds in billions: one pass at output stride 16, all at 8.
@pytest.mark.parametrize(
    ("head", "tf_space_to_batch", "one_pass", "all_passes"),
    [
        ("light", False, 2.7407, 152.335),
        ("light", True, 2.7424, 152.525),
        ("atrous", False, 5.3635, 327.930),
        ("atrous", True, 5.8231, 387.478),
    ],
)
def test_deeplab_of_table_7(head, tf_space_to_batch, one_pass, all_passes):
    network = get_model("deeplabv3_mobilenet_v2", head=head)
    complexity = measure(network, tf_space_to_batch=tf_space_to_batch)
    assert round(complexity.multiply_adds / 1e9, 4) == one_pass
    sizes = [scale_size((513, 513), scale)[0] for scale in PAPER_SCALES]
    total = count_multi_scale(network.with_output_stride(8), sizes, tf_space_to_batch=tf_space_to_batch)
    assert round(total / 1e9, 3) == all_passes


@pytest.mark.parametrize(("head", "parameters"), [("light", 2_113_557), ("atrous", 4_523_541)])
def test_deeplab_parameters_of_table_7(head, parameters):
    assert measure(get_model("deeplabv3_mobilenet_v2", head=head)).parameters == parameters


def test_deeplab_parts_and_other_sizes():
    network = get_model("deeplabv3_mobilenet_v2")
    parts = measure(network).parts
    assert {name: part.parameters for name, part in parts.items()} == {
        "backbone": 1_811_712,
        "heads.segmentation.pool": 82_432,
        "heads.segmentation.pixel": 82_432,
        "heads.segmentation.project": 131_584,
        "heads.segmentation.logits": 5_397,
    }
    assert round(parts["backbone"].multiply_adds / 1e9, 4) == 2.5028
    head = sum(part.multiply_adds for name, part in parts.items() if name.startswith("heads."))
    assert round(head / 1e9, 4) == 0.2379
    assert round(measure(network, 512).multiply_adds / 1e9, 4) == 2.6040
    dilated = network.with_output_stride(8)
    assert round(measure(dilated).multiply_adds / 1e9, 3) == 8.826
    assert round(measure(dilated, tf_space_to_batch=True).multiply_adds / 1e9, 3) == 8.840
