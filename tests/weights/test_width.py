import pytest
import torch

from mobilevision.backbone.mobilenet_v2 import BackboneConfig, MobileNetV2
from mobilevision.weights.width import count_channels, find_config

CONFIGS = [
    BackboneConfig(),
    BackboneConfig(width_mult=0.35),
    BackboneConfig(width_mult=0.61, min_channels=16, scale_last=True),
    BackboneConfig(width_mult=0.5, round_to=1),
    BackboneConfig(width_mult=1.1, depth_mult=1.2, fixed_ends=True),
    BackboneConfig(width_mult=1.2, fixed_ends=True),
    BackboneConfig(width_mult=0.75, depth_mult=0.4),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_is_found_from_the_shapes_of_its_backbone(config):
    with torch.device("meta"):
        backbone = MobileNetV2(config)
    channels = tuple(info.channels for name, info in backbone.feature_info.items() if name != "stage6_expansion")
    assert count_channels(config) == channels

    num_blocks = [len(blocks) for blocks in backbone.stages.values()]
    found = find_config(channels[:-1], channels[-1], num_blocks, min_channels=config.min_channels)

    assert found == config


def test_a_width_that_does_not_fit_behind_the_backbone_is_not_taken():
    channels = count_channels(BackboneConfig())

    assert find_config(channels[:-1], 1280, accept=lambda width: width != 1.0).width_mult != 1.0


def test_channels_and_blocks_of_another_network_are_refused():
    with pytest.raises(ValueError, match="no width of MobileNetV2 has stages of 8, 16 and 1280 channels"):
        find_config((8, 16), 1280)
    with pytest.raises(ValueError, match="no depth of MobileNetV2 has stages of 1, 9, 1, 1, 1, 1, 1 blocks"):
        find_config(count_channels(BackboneConfig())[:-1], 1280, (1, 9, 1, 1, 1, 1, 1))
