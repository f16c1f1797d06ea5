import math

import pytest
import torch

from mobilevision.multitask.weighting import FixedWeights, LearnedUncertainty


def losses(**values):
    return {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}


def test_fixed_weights_by_hand():
    assert FixedWeights({"a": 2.0, "b": 0.5})(losses(a=3.0, b=4.0)).item() == 8.0


def test_a_task_without_a_loss_has_no_part_in_the_sum():
    assert FixedWeights({"a": 2.0, "b": 0.5})(losses(b=4.0)).item() == 2.0
    learned = LearnedUncertainty(["a", "b"])
    learned(losses(b=4.0)).backward()
    assert learned.log_variances["a"].grad is None


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="loss_weights must be at least 0, got"):
        FixedWeights({"a": -1.0})


def test_uncertainty_begins_with_the_plain_sum():
    assert LearnedUncertainty(["a", "b"])(losses(a=3.0, b=4.0)).item() == 7.0


def test_uncertainty_by_hand():
    learned = LearnedUncertainty(["a"])
    learned.log_variances["a"].data.fill_(math.log(4))
    assert learned(losses(a=8.0)).item() == pytest.approx(8 / 4 + math.log(2))


def test_the_variance_settles_at_twice_the_loss():
    learned = LearnedUncertainty(["a"])
    optimizer = torch.optim.SGD(learned.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        learned({"a": torch.tensor(3.0)}).backward()
        optimizer.step()
    assert learned.log_variances["a"].exp().item() == pytest.approx(6.0, rel=1e-3)
