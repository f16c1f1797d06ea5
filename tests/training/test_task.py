from typing import ClassVar

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint

from mobilevision import ClassificationTask, get_model
from mobilevision.training.task import sum_parts
from mobilevision.weights.file import read_weights


@pytest.fixture
def train(make_trainer, make_task, make_data):
    """Train a task of these options without validation, and return the trainer."""

    def train(options, *callbacks, **run):
        trainer = make_trainer(*callbacks, limit_val_batches=0, **run)
        trainer.fit(make_task(**options), make_data())
        return trainer

    return train


class Rates(Callback):
    """The learning rate of every step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, *args) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("options", "run", "rates"),
    [
        ({"schedule": "poly"}, {"max_epochs": 1}, [(1 - step / 6) ** 0.9 for step in range(6)]),
        ({"schedule": "exponential", "decay": 0.5}, {"max_epochs": 2}, [1.0] * 6 + [0.5] * 6),
        ({"schedule": "exponential", "decay": 0.5}, {"max_epochs": 9, "max_steps": 8}, [1.0] * 6 + [0.5] * 2),
        ({"schedule": "exponential", "decay": 0.5}, {"max_epochs": -1, "max_steps": 7}, [1.0] * 6 + [0.5]),
        (
            {"schedule": "exponential", "decay": 0.5},
            {"max_epochs": 2, "accumulate_grad_batches": 4},
            # Two steps an epoch: four batches, then the two that are left.
            [1.0] * 6 + [0.5] * 6,
        ),
        (
            {"schedule": "exponential", "decay": 0.5},
            {"max_epochs": 2, "limit_train_batches": 2},
            [1.0] * 2 + [0.5] * 2,
        ),
        ({"schedule": "constant", "warmup_steps": 3}, {"max_epochs": 1}, [1 / 3, 2 / 3, 1, 1, 1, 1]),
    ],
)
def test_the_rate_follows_the_schedule_over_the_whole_run(train, options, run, rates):
    watch = Rates()
    train({"learning_rate": 0.01, **options}, watch, **run)
    assert watch.rates == pytest.approx([0.01 * rate for rate in rates])


def test_a_run_without_an_end_is_refused(train):
    with pytest.raises(ValueError, match=r"trainer\.max_epochs or trainer\.max_steps must be set"):
        train({}, max_epochs=-1)


def test_training_lowers_the_loss(make_trainer, make_task, make_data):
    losses = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, module, outputs, *args) -> None:
            losses.append(outputs["loss"].item())

    make_trainer(Watch(), max_epochs=10, limit_val_batches=0).fit(
        make_task(optimizer="adamw", learning_rate=0.01), make_data(num_train=32, batch_size=8)
    )
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])


def states_by_epoch(task, data, make_trainer, *callbacks):
    """Return copies of the network's state at the start of training and after each of two epochs."""
    states = []

    class Watch(Callback):
        def keep(self, trainer, module) -> None:
            states.append({name: tensor.clone() for name, tensor in module.network.state_dict().items()})

        on_train_start = on_train_epoch_end = keep

    make_trainer(Watch(), *callbacks, max_epochs=2, limit_val_batches=0).fit(task, data)
    return states


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def changed_parts(before, after):
    return {name.split(".")[0] for name in changed(before, after)}


def test_a_backbone_with_rate_zero_is_left_as_it_is_with_its_statistics(make_trainer, make_task, make_data):
    states = states_by_epoch(make_task(learning_rate=0.1, backbone_rate=0.0), make_data(), make_trainer)
    assert changed(states[0], states[2]) == {f"heads.classification.linear.{part}" for part in ("weight", "bias")}


def test_a_backbone_is_frozen_for_the_first_epochs_only_and_costs_no_gradients(make_trainer, make_task, make_data):
    class Gradients(Callback):
        by_epoch: ClassVar[dict[int, bool]] = {}

        def on_after_backward(self, trainer, pl_module) -> None:
            parameters = pl_module.network.backbone.parameters()
            self.by_epoch[trainer.current_epoch] = all(each.grad is not None for each in parameters)

    states = states_by_epoch(make_task(learning_rate=0.1, frozen_epochs=1), make_data(), make_trainer, Gradients())
    assert changed_parts(states[0], states[1]) == {"heads"}
    assert changed_parts(states[1], states[2]) == {"backbone", "heads"}
    assert Gradients.by_epoch == {0: False, 1: True}


def test_frozen_norms_keep_their_statistics_and_train_their_weights(make_trainer, make_task, make_data):
    first, second, third = states_by_epoch(
        make_task(learning_rate=0.1, freeze_norm=True, freeze_norm_from=1), make_data(), make_trainer
    )
    running = {name for name in first if "running" in name}
    assert running <= changed(first, second)
    later = changed(second, third)
    assert any(name.endswith("norm.bias") for name in later)
    assert not any("running" in name or "num_batches" in name for name in later)


def test_the_backbone_has_a_rate_of_its_own(train):
    trainer = train({"learning_rate": 0.5, "backbone_rate": 0.1, "schedule": "constant"}, max_steps=1)
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == pytest.approx([0.05, 0.05, 0.5, 0.5])


@pytest.mark.parametrize("clip", [None, 1.0])
def test_gradients_can_be_clipped_where_the_optimizer_is_not_fused(train, clip):
    trainer = train({"learning_rate": 0.1, "optimizer": "adamw"}, max_steps=1, gradient_clip_val=clip)
    assert bool(trainer.optimizers[0].param_groups[0]["fused"]) == (clip is None)


def test_a_checkpoint_of_averaged_weights_holds_the_average(make_trainer, make_task, make_data, tmp_path):
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = make_trainer(EMAWeightAveraging(decay=0.75), keep, max_steps=2, limit_val_batches=0)
    trainer.fit(make_task(learning_rate=0.1), make_data())
    name = "heads.classification.linear.weight"
    first, second = (
        torch.load(tmp_path / f"step={step}.ckpt", weights_only=True)["current_model_state"][f"network.{name}"]
        for step in (1, 2)
    )
    average = read_weights(tmp_path / "step=2.ckpt").tensors[name]
    assert not torch.allclose(first, second)
    torch.testing.assert_close(average, 0.75 * first + 0.25 * second)


def test_a_run_is_not_resumed_with_classes_in_another_order(make_trainer, make_task, make_data, tmp_path):
    make_trainer(ModelCheckpoint(tmp_path, "last"), max_steps=2, limit_val_batches=0).fit(make_task(), make_data())
    other = make_data(class_names=("light", "dark"))
    message = "resumed with the classes it began with: the checkpoint has dark, light, .*, the data has light, dark"
    with pytest.raises(ValueError, match=message):
        make_trainer(max_steps=4).fit(make_task(), other, ckpt_path=tmp_path / "last.ckpt")


def test_a_task_trains_on_loaders_without_a_data_module(make_trainer, make_task, make_data):
    data, task = make_data(), make_task(num_classes=2)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(task, data.train_dataloader(), data.val_dataloader())
    assert (trainer.global_step, task.report.num_images) == (6, 5)


def test_steps_draw_other_numbers_and_the_same_again_in_another_run(make_trainer, make_task, make_data):
    def draws(before: int) -> list[float]:
        drawn = []

        class Draw(Callback):
            def on_train_batch_end(self, *args) -> None:
                drawn.append(torch.rand(1).item())

        torch.manual_seed(5)
        task = make_task()
        torch.rand(before)  # What happened before the run does not matter.
        make_trainer(Draw(), max_epochs=2, limit_val_batches=0).fit(task, make_data())
        return drawn

    first = draws(0)
    assert draws(3) == first
    assert len(set(first)) == 12


def test_a_network_is_in_the_mode_of_its_task_whether_it_is_given_or_built_later(make_task):
    assert make_task(num_classes=2).network.training
    assert not make_task(num_classes=2).eval().network.training
    assert ClassificationTask(get_model("mobilenet_v2", width_mult=0.1).eval()).network.training


def test_the_parts_of_a_loss_are_added_up():
    assert sum_parts({"localization": torch.tensor(1.5), "classification": torch.tensor(2.0)}) == 3.5
