import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mobilevision import get_model
from mobilevision.complexity import Operation, count_multi_scale, measure, record_operations

KIB = 1024


def operations_of(network: nn.Module, input_size: int) -> dict[str, Operation]:
    return {operation.name: operation for operation in record_operations(network, input_size)}


def test_a_convolution_counts_its_weights_at_every_output_position():
    (operation,) = record_operations(nn.Conv2d(3, 8, 3, stride=2, padding=1), 5)
    assert operation.multiply_adds == 3 * 3 * (3 * 3 * 3 * 8)
    assert (operation.input_elements, operation.output_elements) == (3 * 5 * 5, 8 * 3 * 3)


def test_a_group_reads_only_its_own_channels():
    (operation,) = record_operations(nn.Conv2d(3, 6, 3, groups=3), 4)
    assert operation.multiply_adds == 2 * 2 * (3 * 3 * 1 * 6)


def test_a_linear_layer_counts_its_weights_once_and_no_bias():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7))
    (operation,) = record_operations(network, 4)
    assert operation.multiply_adds == 3 * 7


def test_space_to_batch_pads_a_map_to_a_multiple_of_the_dilation():
    (operation,) = record_operations(nn.Conv2d(3, 2, 3, dilation=6, padding=6), 33)
    assert operation.multiply_adds == 33 * 33 * 54
    assert operation.space_to_batch_multiply_adds == 36 * 36 * 54


def test_space_to_batch_changes_nothing_without_dilation():
    network = get_model("mobilenet_v2")
    assert measure(network, tf_space_to_batch=True) == measure(network)


@pytest.mark.parametrize("width", [0.35, 1.0])
def test_the_count_is_that_of_torch(width):
    with torch.device("meta"):
        network = get_model("mobilenet_v2", width_mult=width).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 64, 64))
    assert 2 * measure(network, 64).multiply_adds == counter.get_total_flops()


# Peaks in 16 bits, operation by operation: two bytes where ours are four.
@pytest.mark.parametrize(("size", "half_precision_kib"), [(224, 2940), (320, 6000)])
def test_the_peak_is_what_stage_2_reads_and_writes(size, half_precision_kib):
    peak = measure(get_model("mobilenet_v2"), size).peak_activation_bytes
    assert peak == 2 * half_precision_kib * KIB
    assert peak == 4 * 96 * ((size // 2) ** 2 + (size // 4) ** 2)


def test_a_shortcut_is_in_memory_until_it_is_added():
    operations = operations_of(get_model("mobilenet_v2"), 224)
    block = "backbone.stages.stage2.1"
    assert operations[f"{block}.expand.conv"].memory == 56 * 56 * (24 + 144)
    assert operations[f"{block}.depthwise.conv"].memory == 56 * 56 * (144 + 144 + 24)
    assert operations[f"{block}.project.conv"].memory == 56 * 56 * (144 + 24 + 24)
    # The first block of a stage changes the shape.
    assert operations["backbone.stages.stage2.0.depthwise.conv"].memory == 96 * (112 * 112 + 56 * 56)


def test_a_block_without_expansion_can_have_a_shortcut():
    # At half the width and at least 16 channels, the first block goes from 16 to 16.
    operations = operations_of(get_model("mobilenet_v2", width_mult=0.5, min_channels=16), 300)
    block = "backbone.stages.stage1.0"
    assert operations[f"{block}.depthwise.conv"].memory == 150 * 150 * (16 + 16)
    assert operations[f"{block}.project.conv"].memory == 150 * 150 * (16 + 16 + 16)


def test_a_block_that_dilates_instead_of_striding_gains_a_shortcut():
    # With at least 112 channels at this width, all stages have 112.
    options = {"num_classes": 2, "width_mult": 0.35, "min_channels": 112}
    name = "backbone.stages.stage6.0.depthwise.conv"
    striding, dilating = (get_model("mobilenet_v2", **options, output_stride=stride) for stride in (32, 16))
    assert operations_of(striding, 64)[name].shortcut_elements == 0
    assert operations_of(dilating, 64)[name].shortcut_elements == 112 * 4 * 4


def test_the_parts_add_up_to_the_whole():
    complexity = measure(get_model("mobilenet_v2", num_classes=10))
    assert list(complexity.parts) == ["backbone", "heads.classification.linear"]
    assert sum(part.parameters for part in complexity.parts.values()) == complexity.parameters
    assert sum(part.multiply_adds for part in complexity.parts.values()) == complexity.multiply_adds
    assert max(part.peak_activation_bytes for part in complexity.parts.values()) == complexity.peak_activation_bytes
    assert complexity.parts["heads.classification.linear"].multiply_adds == 12_800


def test_measuring_does_not_change_the_network():
    network = get_model("mobilenet_v2", num_classes=2, width_mult=0.35).train()
    before = copy.deepcopy(network.state_dict())
    measure(network, 32)
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_multi_scale_counts_every_size_and_both_directions():
    network = get_model("deeplabv3_mobilenet_v2", num_classes=2, width_mult=0.35)
    sizes = (33, 65, 97)
    one_direction = count_multi_scale(network, sizes, flip=False)
    assert one_direction == sum(measure(network, size).multiply_adds for size in sizes)
    assert count_multi_scale(network, sizes) == 2 * one_direction
    assert count_multi_scale(network, ()) == 0


def test_an_input_without_pixels_is_refused():
    with pytest.raises(ValueError, match="input_size must be at least 1, got 0"):
        measure(get_model("mobilenet_v2"), 0)
