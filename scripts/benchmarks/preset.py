"""A training step as a configuration has it: its network, loss, optimizer, precision and moving average."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from mobilevision.cli.allocator import keep_freed_memory
from mobilevision.training.optimization import make_optimizer, parameter_groups
from mobilevision.training.task import Task

CONFIGS = Path(__file__).parents[2] / "configs"


def prepare_step(
    config: str, make_task: Callable[..., Task], batch: Any, *, mixed: bool, **options: Any
) -> Callable[[], float]:
    """Prepare the step of a configuration as the command runs it, on one batch again and again.

    Args:
        config: Its file in ``configs/``.
        make_task: The task's class.
        batch: As the data module makes it.
        mixed: Whether in the configuration's own precision, which is bfloat16, or in float32.
        options: Of the task, instead of the configuration's.
    """
    keep_freed_memory()
    preset = yaml.safe_load((CONFIGS / config).read_text())
    task, trainer = make_task(**{**preset["model"]["init_args"], **options}), preset["trainer"]
    assert trainer["precision"] == "bf16-mixed"
    # Without data the network is built when it is first asked for.
    network = task.network
    task.train()
    task.log = task.log_dict = lambda *_, **__: None  # they need a trainer
    optimizer = make_optimizer(
        task.optim.optimizer,
        parameter_groups(task.trained_modules(), task.optim.weight_decay, rates=task.part_rates()),
        learning_rate=1e-3,
        momentum=task.optim.momentum,
    )
    # What Lightning's callback holds.
    averaged = [
        AveragedModel(task, avg_fn=get_ema_avg_fn(options["decay"]), use_buffers=options.get("use_buffers", True))
        for options in (callback["init_args"] for callback in trainer.get("callbacks", ()))
    ]
    clip = trainer.get("gradient_clip_val")

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = task.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        for average in averaged:
            average.update_parameters(task)
        return loss.item()

    return step
