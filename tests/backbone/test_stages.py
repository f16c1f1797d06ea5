import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilevision.backbone import STAGES, round_channels
from mobilevision.backbone.stages import BlockPlan, deepen_stages, plan_strides


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


def test_a_deeper_network_dilates_its_further_blocks_too():
    stages = deepen_stages(1.4)
    assert deepen_stages(1.0) == STAGES
    assert [stage.num_blocks for stage in stages] == [2, 3, 5, 6, 5, 5, 2]
    assert [plan.dilation for plan in plan_strides(16, stages)[5]] == [1, 2, 2, 2, 2]
    assert [plan.stride for plan in plan_strides(32, stages)[5]] == [2, 1, 1, 1, 1]
