import pytest
import torch
from torch.nn import functional as F

from mobilevision.segmentation.head import deeplabv3_mobilenet_v2
from mobilevision.segmentation.multi_scale import PAPER_SCALES, average_probabilities, scale_size


@pytest.fixture(scope="module")
def network(settle):
    return settle(deeplabv3_mobilenet_v2(num_classes=3, width_mult=0.1, head="atrous"))


def draw_images(side=65, count=2):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


def test_the_sizes_are_tensorflows():
    assert [scale_size((513, 513), scale) for scale in PAPER_SCALES] == [
        (257, 257),
        (385, 385),
        (513, 513),
        (641, 641),
        (769, 769),
        (897, 897),
    ]
    assert scale_size((1, 3), 0.5) == (1, 2)


@torch.no_grad()
@pytest.mark.parametrize("side", [65, 64, 50])
def test_one_pass_is_the_softmax_of_the_networks_logits(network, side):
    images = draw_images(side)
    torch.testing.assert_close(
        average_probabilities(network, images, (1.0,), flip=False), network(images).softmax(dim=1)
    )


@torch.no_grad()
def test_several_passes_are_the_mean_of_their_probabilities(network):
    images = draw_images()
    passes = []
    for side in (33, 65, 97):
        pixels = images.float() / 255
        scaled = F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=True)
        for view in (scaled, scaled.flip(3)):
            (logits,) = network.compute(view).values()
            logits = F.interpolate(logits, size=(65, 65), mode="bilinear", align_corners=True)
            passes.append(logits.softmax(1))
        passes[-1] = passes[-1].flip(3)
    expected = torch.stack(passes).mean(0)
    averaged = average_probabilities(network, images, (0.5, 1.0, 1.5), flip=True)
    torch.testing.assert_close(averaged, expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(averaged.sum(1), torch.ones(2, 65, 65))


@torch.no_grad()
def test_with_mirrored_passes_the_answer_mirrors_with_the_image(network):
    images = draw_images(count=1)
    mirrored = average_probabilities(network, images.flip(-1), (0.75, 1.25))
    torch.testing.assert_close(average_probabilities(network, images, (0.75, 1.25)), mirrored.flip(-1))
