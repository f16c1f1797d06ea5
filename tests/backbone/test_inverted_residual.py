import pytest
import torch
from torch import nn

from mobilevision.backbone import MobileNetV2
from mobilevision.backbone.inverted_residual import BatchNorm2d, ConvNorm
from mobilevision.backbone.stages import BlockPlan


def test_a_lone_value_in_training_is_normalized_with_the_running_statistics_which_stay():
    norm = BatchNorm2d(2, eps=0.0)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 9.0]))
    nn.init.constant_(norm.bias, 0.5)
    x = torch.tensor([3.0, -1.0]).view(1, 2, 1, 1).requires_grad_()

    out = norm(x)
    out.sum().backward()

    torch.testing.assert_close(out.flatten(), torch.tensor([1.5, -0.5]))
    torch.testing.assert_close(x.grad.flatten(), torch.tensor([1 / 2, 1 / 3]))
    assert norm.running_mean.tolist() == [1.0, 2.0]
    assert norm.running_var.tolist() == [4.0, 9.0]


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (1, 3, 1, 2), (1, 3, 2, 1), (4, 3, 5, 5)])
@pytest.mark.parametrize("training", [True, False])
def test_every_other_input_is_normalized_as_pytorch_does(shape, training):
    ours, theirs = BatchNorm2d(3).train(training), nn.BatchNorm2d(3).train(training)
    x = torch.randn(shape)

    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert ours.num_batches_tracked == theirs.num_batches_tracked


@pytest.mark.parametrize(("activation", "lowest", "highest"), [(nn.ReLU6, 0, 6), (nn.ReLU, 0, 40), (None, -40, 40)])
def test_an_activation_follows_the_norm_unless_there_is_none(activation, lowest, highest):
    module = ConvNorm(1, 1, activation=activation).eval()
    nn.init.ones_(module.conv.weight)
    x = torch.tensor([-40.0, 40.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(module(x).flatten(), torch.tensor([lowest, highest]).float(), rtol=1e-3, atol=0.0)


def test_a_block_adds_its_input_where_shape_and_stride_allow_it(settle):
    # With at least 16 channels the first block of a half-width network goes from 16 to 16.
    backbone = settle(MobileNetV2(width_mult=0.5, min_channels=16))
    first, striding = backbone.stages["stage1"][0], backbone.stages["stage2"][0]
    assert (first.in_channels, first.out_channels, first.adds_input()) == (16, 16, True)
    x = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(first(x), x + first.project(first.depthwise(x)))
    assert (striding.in_channels, striding.out_channels) == (16, 16)
    assert not striding.adds_input()
    assert striding.adds_input(BlockPlan(stride=1, dilation=2))
