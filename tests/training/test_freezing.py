import math

import pytest
from mobilevision.training.freezing import Freezing
from torch import nn

from mobilevision import get_model


@pytest.fixture(scope="module")
def network():
    return get_model("ssdlite_mobilenet_v2", width_mult=0.1)


@pytest.fixture(scope="module")
def norms(network):
    """How many there are in the backbone and in all."""
    return tuple(
        sum(isinstance(module, nn.BatchNorm2d) for module in part.modules()) for part in (network.backbone, network)
    )


def test_nothing_is_frozen_unless_it_is_said(network):
    assert not Freezing().holds_backbone(0)
    assert Freezing().find_still_norms(network, 0) == []


def test_a_backbone_is_held_for_its_epochs_and_its_norms_with_it(network, norms):
    freezing = Freezing(backbone_epochs=2)
    assert [freezing.holds_backbone(epoch) for epoch in range(4)] == [True, True, False, False]
    assert [len(freezing.find_still_norms(network, epoch)) for epoch in range(4)] == [norms[0], norms[0], 0, 0]
    assert Freezing(backbone_epochs=math.inf).holds_backbone(10**9)


@pytest.mark.parametrize(("norm", "which"), [("backbone", 0), (True, 1)])
def test_norms_keep_their_statistics_from_an_epoch_on(network, norms, norm, which):
    freezing = Freezing(norm=norm, norm_from=3)
    assert [len(freezing.find_still_norms(network, epoch)) for epoch in (0, 2, 3, 9)] == [0, 0, *[norms[which]] * 2]


def test_norms_of_a_held_backbone_stay_before_those_of_the_heads(network, norms):
    freezing = Freezing(backbone_epochs=1, norm=True, norm_from=2)
    assert [len(freezing.find_still_norms(network, epoch)) for epoch in range(3)] == [norms[0], 0, norms[1]]
