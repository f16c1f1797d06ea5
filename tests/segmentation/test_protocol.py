import json
from typing import get_args

import numpy as np
import pytest
import torch

from mobilevision.segmentation.preprocess import FitTransform
from mobilevision.segmentation.protocol import DESCRIPTIONS, ProtocolTransform, describe_protocol
from mobilevision.segmentation.types import EvalProtocol


def test_masks_are_evaluated_at_the_size_of_their_file(draw_pair):
    image, mask = draw_pair(300, 200)
    pixels, kept = ProtocolTransform(FitTransform(60), 60)(image, mask)
    assert pixels.shape == (3, 60, 60)
    assert torch.equal(kept, torch.from_numpy(mask))


def test_padding_alone_is_what_the_original_protocol_does_to_images_that_fit(draw_pair):
    image, mask = draw_pair(40, 50)
    padded, original = (
        ProtocolTransform(FitTransform(64), 64, protocol)(image, mask) for protocol in ("pad", "original")
    )
    assert torch.equal(padded[0], original[0])
    assert torch.equal(padded[1], original[1])


def test_padding_alone_refuses_images_that_do_not_fit(draw_pair):
    with pytest.raises(ValueError, match=r"fit into 64x64, got 65x40: set data\.input_size to 65 or more"):
        ProtocolTransform(FitTransform(64), 64, "pad")(*draw_pair(40, 65))


@pytest.mark.parametrize("size", [(32, 64), (128, 64), (16, 40), (32, 32)])
def test_the_centre_crop_is_the_middle_of_image_and_mask_alike(draw_pair, size):
    image, mask = draw_pair(*size)
    pixels, crop = ProtocolTransform(FitTransform(32), 32, "centre_crop")(image, mask)
    assert (pixels.shape, crop.shape) == ((3, 32, 32), (32, 32))
    off = (pixels[0].int() - 40 * crop.int()).abs() > 20
    assert off.float().mean() < 0.1
    if min(size) == 32:
        left = (size[1] - 32) // 2
        assert torch.equal(crop, torch.from_numpy(mask[:, left : left + 32]))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_the_centre_crop_of_the_thinnest_image_is_full(size):
    pixels, crop = ProtocolTransform(FitTransform(33), 33, "centre_crop")(
        np.full((*size, 3), 5, np.uint8), np.zeros(size, np.uint8)
    )
    assert pixels.unique().tolist() == [5]
    assert crop.shape == (33, 33)


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
