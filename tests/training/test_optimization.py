import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mobilevision import MobileNetV2, get_model
from mobilevision.training import optimization
from mobilevision.training.optimization import (
    OptimConfig,
    make_optimizer,
    make_schedule,
    parameter_groups,
    start_later,
)

SCHEDULES = ("constant", "cosine", "poly", "exponential")


def small_network() -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "norm": nn.BatchNorm2d(4),
            "depthwise": nn.Conv2d(4, 4, 3, groups=4),
            "grouped": nn.Conv2d(4, 4, 1, groups=2),
            "grey": nn.Conv2d(1, 2, 3),
            "linear": nn.Linear(4, 2),
        }
    )


def names(network: nn.Module, group: dict) -> set[str]:
    return {
        name for name, parameter in network.named_parameters() if any(parameter is each for each in group["params"])
    }


def test_convolutions_and_linear_weights_decay_and_nothing_else() -> None:
    network = small_network()
    decayed, free = parameter_groups(network, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert names(network, decayed) == {"conv.weight", "grouped.weight", "grey.weight", "linear.weight"}
    assert names(network, free) == {
        *(f"{layer}.bias" for layer in ("conv", "depthwise", "grouped", "grey", "linear", "norm")),
        "norm.weight",
        "depthwise.weight",
    }


def test_every_parameter_of_the_backbone_is_in_one_group() -> None:
    backbone = MobileNetV2(width_mult=0.35)
    groups = parameter_groups(backbone, 4e-5)
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len({id(parameter) for parameter in grouped}) == len(list(backbone.parameters()))
    # 53 convolutions but for 17 depthwise ones, less the expansion that the first block does not have.
    assert len(groups[0]["params"]) == 52 - 17


def test_frozen_parameters_are_in_no_group() -> None:
    network = small_network().requires_grad_(False)
    network["norm"].requires_grad_(True)
    (group,) = parameter_groups(network, 0.1)
    assert names(network, group) == {"norm.weight", "norm.bias"}
    assert group["weight_decay"] == 0.0


def test_a_part_that_stands_apart_has_groups_and_a_rate_of_its_own() -> None:
    network = nn.ModuleDict({"backbone": small_network(), "head": nn.Linear(4, 2)})
    groups = parameter_groups(network, 0.1, rates={network["backbone"]: 0.25})
    assert [(group["rate"], group["weight_decay"]) for group in groups] == [
        (0.25, 0.1), (0.25, 0.0), (1.0, 0.1), (1.0, 0.0),
    ]  # fmt: skip
    assert names(network, groups[2]) | names(network, groups[3]) == {"head.weight", "head.bias"}
    optimizer = make_optimizer("sgd", groups, learning_rate=0.5, momentum=0.9)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125, 0.5, 0.5]


def test_every_part_has_its_own_rate() -> None:
    network = nn.ModuleDict({"first": nn.Linear(2, 2), "second": nn.Linear(2, 2), "rest": nn.Linear(2, 2)})
    groups = parameter_groups(network, 0.0, rates={network["first"]: 0.1, network["second"]: 0.2})
    assert [group["rate"] for group in groups] == [0.1, 0.1, 0.2, 0.2, 1.0, 1.0]


def test_a_schedule_that_starts_later_is_zero_until_then() -> None:
    factor = start_later(make_schedule("constant", total_steps=4, steps_per_epoch=2), 2)
    assert [factor(step) for step in range(4)] == [0.0, 0.0, 1.0, 1.0]


def test_a_network_without_parameters_has_no_groups() -> None:
    assert parameter_groups(nn.ReLU(), 0.1) == []


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_optimizers_take_rate_and_decay(name, kind) -> None:
    optimizer = make_optimizer(name, parameter_groups(small_network(), 0.2), learning_rate=0.3, momentum=0.8)
    assert type(optimizer) is kind
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.3, 0.2), (0.3, 0.0)]


def test_a_step_of_sgd_by_hand() -> None:
    network = nn.Linear(1, 1, bias=True)
    nn.init.constant_(network.weight, 2.0)
    nn.init.constant_(network.bias, 2.0)
    optimizer = make_optimizer("sgd", parameter_groups(network, 0.25), learning_rate=0.1, momentum=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (network.weight + network.bias).sum().backward()
        optimizer.step()
    # Weight: g = 1 + 0.25 * 2 = 1.5, to 1.85; g = 0.75 + 1.4625 = 2.2125, to 1.62875. Bias: g = 1, then 1.5.
    assert network.weight.item() == pytest.approx(1.62875)
    assert network.bias.item() == pytest.approx(1.75)


def test_rmsprop_averages_and_adds_up_as_the_paper_has_it() -> None:
    optimizer = make_optimizer("rmsprop", parameter_groups(small_network(), 4e-5), learning_rate=0.045, momentum=0.9)
    assert type(optimizer) is torch.optim.RMSprop
    assert {(group["alpha"], group["momentum"]) for group in optimizer.param_groups} == {(0.9, 0.9)}


def test_two_steps_of_tensorflows_rmsprop_by_hand() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    groups = parameter_groups(network, 0.5)
    optimizer = make_optimizer("rmsprop_tf", groups, learning_rate=0.1, momentum=0.9)
    weight, square, step = 2.0, 1.0, 0.0
    for rate in (0.1, 0.05):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        (3.0 * network.weight).sum().backward()
        optimizer.step()
        gradient = 3.0 + 0.5 * weight
        square = 0.9 * square + 0.1 * gradient**2
        # What the rate was when a step was taken stays in the momentum.
        step = 0.9 * step + rate * gradient / math.sqrt(square + 1.0)
        weight -= step
        assert network.weight.item() == pytest.approx(weight, rel=1e-6)


def test_what_is_missing_for_tensorflows_rmsprop_is_said(monkeypatch) -> None:
    monkeypatch.setattr(optimization, "RMSpropTF", None)
    with pytest.raises(ValueError, match=r"rmsprop_tf needs timm: pip install 'mobilevision\[recipes\]'"):
        make_optimizer("rmsprop_tf", parameter_groups(small_network(), 0.1), learning_rate=0.1, momentum=0.9)


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("cosine", [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]),
        ("poly", [1, 0.75**0.9, 0.5**0.9, 0.25**0.9, 0]),
        ("exponential", [1, 1, 0.5, 0.5, 0.25]),
    ],
)
def test_schedules_by_hand(name, factors) -> None:
    factor = make_schedule(name, total_steps=4, steps_per_epoch=2, decay=0.5)
    assert [factor(step) for step in range(5)] == pytest.approx(factors)


def test_the_paper_decays_by_a_fiftieth_each_epoch() -> None:
    factor = make_schedule("exponential", total_steps=100, steps_per_epoch=10)
    assert [factor(step) for step in (9, 10, 99)] == pytest.approx([1, 0.98, 0.98**9])


def test_a_warm_up_rises_to_the_full_rate_and_the_schedule_runs_over_the_rest() -> None:
    factor = make_schedule("poly", total_steps=8, steps_per_epoch=8, warmup_steps=4)
    assert [factor(step) for step in range(9)] == pytest.approx(
        [0.25, 0.5, 0.75, 1, 1, 0.75**0.9, 0.5**0.9, 0.25**0.9, 0]
    )


def test_a_warm_up_longer_than_the_run_only_rises() -> None:
    factor = make_schedule("cosine", total_steps=2, steps_per_epoch=1, warmup_steps=4)
    assert [factor(step) for step in (0, 1, 2)] == [0.25, 0.5, 0.75]


@given(
    name=st.sampled_from(SCHEDULES),
    total=st.integers(0, 50),
    epoch=st.integers(1, 20),
    warmup=st.integers(0, 60),
    step=st.integers(0, 100),
)
def test_no_schedule_leaves_0_to_1_and_after_warm_up_none_rises(name, total, epoch, warmup, step) -> None:
    factor = make_schedule(name, total_steps=total, steps_per_epoch=epoch, warmup_steps=warmup)
    assert 0 <= factor(step) <= 1
    assert factor(step) > 0 or step >= total
    if step >= warmup:
        assert factor(step + 1) <= factor(step)


def test_one_kernel_over_all_parameters_does_the_same():
    torch.manual_seed(0)
    networks = [nn.ModuleList([nn.Linear(6, 4), nn.Linear(6, 4)]) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    optimizers = [
        make_optimizer("adamw", parameter_groups(network, 0.1), learning_rate=0.1, momentum=0.9, fused=fused)
        for network, fused in zip(networks, (False, True), strict=True)
    ]
    images = torch.randn(5, 6)
    # The second layer has its first gradient a step later, as a head whose turn comes later.
    for layer in (0, 1, 0, 1):
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            network[layer](images).square().mean().backward()
            optimizer.step()
    for first, second in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(first, second)


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        return get_model("ssdlite_mobilenet_v2", width_mult=0.1)


def frozen(network: nn.Module, epochs: range, **options) -> list[str]:
    """Return for each epoch which batch normalizations are frozen: those of the backbone, all, or none."""
    counts = {
        sum(isinstance(module, nn.BatchNorm2d) for module in part.modules()): name
        for name, part in (("backbone", network.backbone), ("all", network), ("none", nn.Identity()))
    }
    config = OptimConfig(**options)
    return [counts[len(config.find_frozen_norms(network, epoch))] for epoch in epochs]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["none", "none", "none", "none"]),
        # A frozen backbone's norms are frozen with it.
        ({"frozen_epochs": 2}, ["backbone", "backbone", "none", "none"]),
        ({"backbone_rate": 0.0}, ["backbone"] * 4),
        ({"freeze_norm": "backbone", "freeze_norm_from": 3}, ["none", "none", "none", "backbone"]),
        ({"freeze_norm": True}, ["all"] * 4),
        ({"frozen_epochs": 1, "freeze_norm": True, "freeze_norm_from": 2}, ["backbone", "none", "all", "all"]),
    ],
)
def test_norms_are_frozen_in_their_epochs(network, options, expected) -> None:
    assert frozen(network, range(4), **options) == expected


def test_a_backbone_is_frozen_for_its_epochs_or_for_ever() -> None:
    assert [OptimConfig(frozen_epochs=2).backbone_frozen(epoch) for epoch in range(4)] == [True, True, False, False]
    assert OptimConfig(backbone_rate=0.0).backbone_frozen(10**9)
    assert not OptimConfig().backbone_frozen(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone_rate": -1}, "backbone_rate must be at least 0, got -1"),
        ({"freeze_norm_from": 2}, "freeze_norm_from must be at least 0, and 0 without freeze_norm, got 2"),
        ({"freeze_norm": True, "freeze_norm_from": -1}, "freeze_norm_from must be at least 0, .*, got -1"),
    ],
)
def test_options_of_the_optimization_outside_their_range_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        OptimConfig(**options)
