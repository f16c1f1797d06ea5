import pytest
import torch
from mobilevision.backbone.batch_norm import BatchNorm2d
from torch import nn


def test_a_lone_value_in_training_is_normalised_with_the_running_statistics_which_stay():
    norm = BatchNorm2d(2, eps=0.0)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 9.0]))
    nn.init.constant_(norm.bias, 0.5)
    x = torch.tensor([3.0, -1.0]).view(1, 2, 1, 1).requires_grad_()

    out = norm(x)
    out.sum().backward()

    assert out.flatten().tolist() == [1.5, -0.5]
    torch.testing.assert_close(x.grad.flatten(), torch.tensor([1 / 2, 1 / 3]))
    assert norm.running_mean.tolist() == [1.0, 2.0]
    assert norm.running_var.tolist() == [4.0, 9.0]


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (1, 3, 1, 2), (1, 3, 2, 1), (4, 3, 5, 5)])
@pytest.mark.parametrize("training", [True, False])
def test_every_other_input_goes_the_way_of_pytorch(shape, training):
    ours, theirs = BatchNorm2d(3).train(training), nn.BatchNorm2d(3).train(training)
    x = torch.randn(shape)

    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)
    assert ours.num_batches_tracked == theirs.num_batches_tracked
