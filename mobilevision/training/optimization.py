"""Optimizers, weight decay, learning-rate schedules and freezing of the recipes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mobilevision.network import Network

try:
    from timm.optim import RMSpropTF
except ModuleNotFoundError:
    RMSpropTF = None

OptimizerName = Literal["sgd", "adamw", "rmsprop", "rmsprop_tf"]
ScheduleName = Literal["constant", "cosine", "poly", "exponential"]

POLY_POWER = 0.9
"""The power of DeepLab's schedule."""

TF_RMSPROP_EPS = 1.0
"""TF-slim's epsilon of RMSProp, the one behind the paper's networks."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The plain values of an optimization.

    Attributes:
        optimizer: ``sgd``, ``adamw``, ``rmsprop``, or ``rmsprop_tf``, TensorFlow's.
        learning_rate: Base rate of the optimizer, after warm-up.
        momentum: Of sgd and rmsprop.
        weight_decay: Of convolutions and linear layers; norms, biases and depthwise filters do not decay.
        schedule: ``constant``, ``cosine``, ``poly`` or ``exponential``, step by step over the whole run.
        decay: Factor per epoch of the ``exponential`` schedule.
        warmup_steps: Steps of linear rise at the beginning.
        backbone_rate: Factor on the backbone's learning rate, for fine-tuning. 0 freezes the backbone, its batch
            normalization's statistics included.
        frozen_epochs: Epochs at the beginning in which the backbone is frozen, until the heads have learned something.
        freeze_norm: Whether the statistics of all batch normalization are frozen: a small batch's own are worse.
            ``backbone``: only those of the backbone, where new heads have none to keep.
        freeze_norm_from: The first epoch, counted from 0, in which ``freeze_norm`` holds: until then the statistics
            follow the training set, and then the weights adapt to them.

    Raises:
        ValueError: A value outside what is said above.
    """

    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 4e-5
    schedule: ScheduleName = "cosine"
    decay: float = 0.98
    warmup_steps: int = 0
    backbone_rate: float = 1.0
    frozen_epochs: int = 0
    freeze_norm: bool | Literal["backbone"] = False
    freeze_norm_from: int = 0

    def __post_init__(self) -> None:
        if self.backbone_rate < 0:
            raise ValueError(f"backbone_rate must be at least 0, got {self.backbone_rate}")
        if self.freeze_norm_from < 0 or (self.freeze_norm_from > 0 and not self.freeze_norm):
            raise ValueError(
                f"freeze_norm_from must be at least 0, and 0 without freeze_norm, got {self.freeze_norm_from}"
            )

    @property
    def backbone_epochs(self) -> float:
        """The epochs at the beginning in which the backbone is frozen; infinitely many where it always is."""
        return self.frozen_epochs if self.backbone_rate > 0 else math.inf

    def backbone_frozen(self, epoch: int) -> bool:
        """Return whether the backbone is frozen in an epoch, counted from 0."""
        return epoch < self.backbone_epochs

    def find_frozen_norms(self, network: Network, epoch: int) -> list[nn.BatchNorm2d]:
        """Return the batch normalizations that keep their statistics in an epoch: those of a frozen backbone too."""
        norm = self.freeze_norm if epoch >= self.freeze_norm_from else False
        if not norm and not self.backbone_frozen(epoch):
            return []
        part: nn.Module = network if norm is True else network.backbone
        return [module for module in part.modules() if isinstance(module, nn.BatchNorm2d)]


def parameter_groups(
    network: nn.Module, weight_decay: float, *, rates: Mapping[nn.Module, float] | None = None
) -> list[dict[str, Any]]:
    """Return groups of parameters: weights that decay, and norms, biases and depthwise filters that do not.

    Args:
        network: Parameters that take no gradient are left out.
        weight_decay: Of those that decay.
        rates: Factors on the learning rate of parts of ``network``, which get groups of their own.

    Returns:
        Groups for :func:`make_optimizer`; ``rate`` in each is the factor.

    Reference: TensorFlow's recipe of the paper regularises plain convolutions and the classifier's weight only.
    """
    parts = {module: part for part in rates or {} for module in part.modules()}
    groups: dict[tuple[nn.Module | None, bool], list[nn.Parameter]] = {
        (part, decays): [] for part in (*(rates or {}), None) for decays in (True, False)
    }
    for module in network.modules():
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            decays = name == "weight" and isinstance(module, nn.Conv2d | nn.Linear) and not depthwise
            groups[parts.get(module), decays].append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decays else 0.0,
            "rate": 1.0 if part is None else (rates or {})[part],
        }
        for (part, decays), parameters in groups.items()
        if parameters
    ]


def make_optimizer(
    name: OptimizerName,
    groups: list[dict[str, Any]],
    *,
    learning_rate: float,
    momentum: float,
    fused: bool = False,
) -> Optimizer:
    """Build an optimizer.

    Args:
        name: ``sgd``, ``adamw``, ``rmsprop``, or ``rmsprop_tf``: TensorFlow's, whose mean square starts at 1, with its
            epsilon of 1 inside the root and the rate inside the momentum.
        groups: As :func:`parameter_groups` returns them.
        learning_rate: The base rate.
        momentum: Of sgd and rmsprop; adamw keeps its own betas.
        fused: Whether adamw runs as one kernel over all parameters: some hundred small tensors take a third of the
            time on a CPU. The fused sgd wants every parameter of a group to get its first gradient at once.

    Raises:
        ValueError: ``rmsprop_tf`` is asked for, and timm is not installed.
    """
    groups = [{**group, "lr": learning_rate * group["rate"]} for group in groups]
    match name:
        case "sgd":
            return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum)
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate, fused=fused or None)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=learning_rate, momentum=momentum, alpha=0.9)
        case "rmsprop_tf":
            if RMSpropTF is None:
                raise ValueError("optimizer rmsprop_tf needs timm: pip install 'mobilevision[recipes]'")
            optimizer: Optimizer = RMSpropTF(groups, lr=learning_rate, momentum=momentum, alpha=0.9, eps=TF_RMSPROP_EPS)
            return optimizer
    assert_never(name)


def make_schedule(
    name: ScheduleName, *, total_steps: int, steps_per_epoch: int, warmup_steps: int = 0, decay: float = 0.98
) -> Callable[[int], float]:
    """Return the factor on the base learning rate at every step.

    A warm-up rises linearly to 1 over ``warmup_steps``; the schedule runs over what is left.

    Args:
        name: ``constant``; ``cosine`` to 0; ``poly``, DeepLab's, to 0; ``exponential``, times ``decay`` each epoch.
        total_steps: Steps of the whole run.
        steps_per_epoch: Steps of one epoch.
        warmup_steps: Steps before the schedule begins.
        decay: The factor of ``exponential``.

    >>> factor = make_schedule("cosine", total_steps=10, steps_per_epoch=5, warmup_steps=2)
    >>> [round(factor(step), 2) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        match name:
            case "constant":
                return 1.0
            case "cosine":
                return 0.5 * (1.0 + math.cos(math.pi * progress))
            case "poly":
                return float((1.0 - progress) ** POLY_POWER)
            case "exponential":
                return float(decay ** (step // steps_per_epoch))
        assert_never(name)

    return factor


def start_later(factor: Callable[[int], float], steps: float) -> Callable[[int], float]:
    """Return the same schedule with 0 for the first ``steps`` steps."""
    return lambda step: 0.0 if step < steps else factor(step)


def make_optimization(
    config: OptimConfig,
    modules: nn.Module,
    backbone: nn.Module,
    *,
    rates: Mapping[nn.Module, float],
    total_steps: int,
    steps_per_epoch: int,
    fused: bool,
) -> tuple[Optimizer, LambdaLR]:
    """Build an optimizer and its schedule, in which a frozen backbone starts when it is unfrozen.

    Args:
        config: The optimization.
        modules: Everything that is trained.
        backbone: Part of ``modules``.
        rates: Factors on the learning rate of parts.
        total_steps: Steps of the whole run.
        steps_per_epoch: Steps of one epoch.
        fused: See :func:`make_optimizer`.

    Raises:
        ValueError: ``rmsprop_tf`` is asked for, and timm is not installed.
    """
    groups = parameter_groups(modules, config.weight_decay, rates=rates)
    optimizer = make_optimizer(
        config.optimizer, groups, learning_rate=config.learning_rate, momentum=config.momentum, fused=fused
    )
    steps_per_epoch = max(1, steps_per_epoch)
    factor = make_schedule(
        config.schedule,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        warmup_steps=config.warmup_steps,
        decay=config.decay,
    )
    later = start_later(factor, config.backbone_epochs * steps_per_epoch)
    of_backbone = set(backbone.parameters())
    factors = [later if group["params"][0] in of_backbone else factor for group in optimizer.param_groups]
    return optimizer, LambdaLR(optimizer, factors)
