import torch

from mobilevision.training.mean_loss import MeanLoss


def test_it_is_the_sum_of_all_images_over_all_that_counted():
    metric = MeanLoss()
    metric.update(torch.tensor([6.0, 1.0]), torch.tensor([3, 0]), torch.tensor([0, 1]))
    metric.update(torch.tensor([5.0]), torch.tensor([1]), torch.tensor([2]))
    assert metric.compute().item() == 3.0


def test_an_image_that_comes_twice_counts_once():
    metric = MeanLoss()
    metric.update(torch.tensor([2.0, 8.0]), torch.tensor([1, 1]), torch.tensor([1, 0]))
    metric.update(torch.tensor([8.0]), torch.tensor([1]), torch.tensor([0]))
    assert metric.compute().item() == 5.0


def test_nothing_that_counts_gives_0():
    metric = MeanLoss()
    metric.update(torch.tensor([0.0]), torch.tensor([0]), torch.tensor([0]))
    assert metric.compute().item() == 0.0


def test_it_keeps_no_graph_of_the_network():
    metric = MeanLoss()
    metric.update(torch.ones(1, requires_grad=True) * 2, torch.tensor([1]), torch.tensor([0]))
    assert not metric.compute().requires_grad
