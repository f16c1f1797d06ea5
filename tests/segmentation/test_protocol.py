import json
from typing import get_args

import pytest

from mobilevision.segmentation.protocol import DESCRIPTIONS, describe_protocol
from mobilevision.segmentation.types import EvalProtocol


def test_every_protocol_has_a_description():
    assert set(DESCRIPTIONS) == set(get_args(EvalProtocol))


@pytest.mark.parametrize(
    ("protocol", "scales", "flip", "name"),
    [
        ("original", (1.0,), False, "original resolution, output stride 16, single scale"),
        ("pad", (1.0,), True, "pad to 513, output stride 16, single scale, flipped"),
        ("centre_crop", (0.5, 1.25), True, "centre crop 513, output stride 16, scales 0.5 1.25, flipped"),
    ],
)
def test_a_protocol_has_a_name_and_its_numbers(protocol, scales, flip, name):
    described = describe_protocol(protocol, input_size=513, output_stride=16, scales=scales, flip=flip)
    assert described["name"] == name
    assert described["pixels"] == protocol
    assert described["description"] == DESCRIPTIONS[protocol]
    assert (described["input_size"], described["output_stride"]) == (513, 16)
    assert (described["scales"], described["flip"]) == (list(scales), flip)
    json.dumps(described)
