from typing import ClassVar

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint

from mobilevision.weights.file import load_network, read_weights, save_weights


class Rates(Callback):
    """Keep the learning rate of every step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, *args) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.fixture
def trained_rates(make_trainer, tiny_task, tiny_data):
    """Train and give the rate of every step."""

    def train(options: dict, trainer_options: dict) -> list[float]:
        watch = Rates()
        trainer = make_trainer(watch, limit_val_batches=0, **trainer_options)
        trainer.fit(tiny_task(learning_rate=0.01, **options), tiny_data())
        return watch.rates

    return train


@pytest.mark.parametrize(
    ("options", "trainer_options", "rates"),
    [
        ({"schedule": "poly"}, {"max_epochs": 1}, [(1 - step / 6) ** 0.9 for step in range(6)]),
        ({"schedule": "exponential", "decay": 0.5}, {"max_epochs": 2}, [1.0] * 6 + [0.5] * 6),
        (
            {"schedule": "exponential", "decay": 0.5},
            {"max_epochs": 9, "max_steps": 8},
            [1.0] * 6 + [0.5] * 2,
        ),
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
def test_the_rate_follows_the_schedule_over_the_whole_run(trained_rates, options, trainer_options, rates) -> None:
    assert trained_rates(options, trainer_options) == pytest.approx([0.01 * rate for rate in rates])


def test_a_run_without_an_end_is_refused(make_trainer, tiny_task, tiny_data) -> None:
    with pytest.raises(ValueError, match=r"trainer\.max_epochs or trainer\.max_steps must be set"):
        make_trainer(max_epochs=-1).fit(tiny_task(), tiny_data())


def test_training_lowers_the_loss(make_trainer, tiny_task, tiny_data) -> None:
    losses = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, module, outputs, *args) -> None:
            losses.append(outputs["loss"].item())

    make_trainer(Watch(), max_epochs=20, limit_val_batches=0).fit(
        tiny_task(optimizer="adamw", learning_rate=0.01), tiny_data(num_train=32, batch_size=8)
    )
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])


def test_frozen_parts_stay_as_they_are(make_trainer, tiny_task, tiny_data) -> None:
    task = tiny_task(learning_rate=0.1)
    task.network.backbone.requires_grad_(False)
    before = {name: parameter.clone() for name, parameter in task.network.named_parameters()}
    make_trainer(max_steps=3, limit_val_batches=0).fit(task, tiny_data())
    changed = {name for name, parameter in task.network.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {"head.linear.weight", "head.linear.bias"}


def state_by_epoch(task, data, make_trainer, **options):
    """Copies of the network's state before training and after each epoch."""
    states = [{name: tensor.clone() for name, tensor in task.network.state_dict().items()}]

    class Watch(Callback):
        def on_train_epoch_end(self, trainer, module) -> None:
            states.append({name: tensor.clone() for name, tensor in module.network.state_dict().items()})

    make_trainer(Watch(), max_epochs=2, **options).fit(task, data)
    return states


def changed_parts(before, after):
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_a_backbone_with_rate_zero_is_left_as_it_is_with_its_statistics(make_trainer, tiny_task, tiny_data) -> None:
    task = tiny_task(learning_rate=0.1, backbone_rate=0.0)
    states = state_by_epoch(task, tiny_data(), make_trainer)
    assert changed_parts(states[0], states[2]) == {"head"}


def test_a_backbone_is_frozen_for_the_first_epochs_only(make_trainer, tiny_task, tiny_data) -> None:
    task = tiny_task(learning_rate=0.1, frozen_epochs=1)
    states = state_by_epoch(task, tiny_data(), make_trainer)
    assert changed_parts(states[0], states[1]) == {"head"}
    assert changed_parts(states[1], states[2]) == {"backbone", "head"}


def test_a_frozen_backbone_costs_no_gradients(make_trainer, tiny_task, tiny_data) -> None:
    class Gradients(Callback):
        by_epoch: ClassVar[dict[int, bool]] = {}

        def on_after_backward(self, trainer, pl_module) -> None:
            parameters = pl_module.network.backbone.parameters()
            self.by_epoch[trainer.current_epoch] = all(each.grad is not None for each in parameters)

    trainer = make_trainer(Gradients(), max_epochs=2, limit_val_batches=0)
    trainer.fit(tiny_task(learning_rate=0.1, frozen_epochs=1), tiny_data())
    assert Gradients.by_epoch == {0: False, 1: True}


def test_the_backbone_has_a_rate_of_its_own(make_trainer, tiny_task, tiny_data) -> None:
    trainer = make_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(tiny_task(learning_rate=0.5, backbone_rate=0.1, schedule="constant"), tiny_data())
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == pytest.approx([0.05, 0.05, 0.5, 0.5])
    with pytest.raises(ValueError, match="backbone_rate must be at least 0, got -1"):
        tiny_task(backbone_rate=-1)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_gradients_can_be_clipped_where_the_optimizer_is_not_fused(make_trainer, tiny_task, tiny_data, clip) -> None:
    trainer = make_trainer(max_steps=1, limit_val_batches=0, gradient_clip_val=clip)
    trainer.fit(tiny_task(learning_rate=0.1, optimizer="adamw"), tiny_data())
    assert bool(trainer.optimizers[0].param_groups[0]["fused"]) == (clip is None)


def test_frozen_norms_keep_their_statistics_and_train_their_weights(make_trainer, tiny_task, tiny_data) -> None:
    task = tiny_task(learning_rate=0.1, freeze_norm=True)
    states = state_by_epoch(task, tiny_data(), make_trainer)
    changed = {name for name in states[0] if not torch.equal(states[0][name], states[2][name])}
    assert any(name.endswith("norm.bias") for name in changed)
    assert not any("running" in name or "num_batches" in name for name in changed)


def test_norms_may_be_frozen_once_their_statistics_have_followed(make_trainer, tiny_task, tiny_data) -> None:
    task = tiny_task(learning_rate=0.1, freeze_norm=True, freeze_norm_from=1)
    first, second, third = state_by_epoch(task, tiny_data(), make_trainer)
    running = [name for name in first if "running" in name]
    assert running
    for name in running:
        assert not torch.equal(first[name], second[name])
        assert torch.equal(second[name], third[name])


@pytest.mark.parametrize(("norm", "first"), [(False, 2), (True, -1)])
def test_norms_are_frozen_from_an_epoch_on_only_if_they_are_frozen(tiny_task, norm, first) -> None:
    with pytest.raises(
        ValueError, match=f"freeze_norm_from must be at least 0, and 0 without freeze_norm, got {first}"
    ):
        tiny_task(freeze_norm=norm, freeze_norm_from=first)


def test_a_task_starts_from_the_weights_it_is_given(tiny_task, tmp_path) -> None:
    source = tiny_task()
    save_weights(source.network, tmp_path / "a.safetensors")
    all_of_it = tiny_task(weights=str(tmp_path / "a.safetensors")).network.state_dict()
    backbone_only = tiny_task(backbone_weights=str(tmp_path / "a.safetensors")).network.state_dict()
    for name, tensor in source.network.state_dict().items():
        assert torch.equal(all_of_it[name], tensor)
        assert torch.equal(backbone_only[name], tensor) == (not name.startswith("head"))


def test_the_network_is_channels_last(tiny_task) -> None:
    weight = tiny_task().network.backbone.stem.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_a_checkpoint_says_of_itself_what_network_it_holds(make_trainer, tiny_task, tiny_data, tmp_path) -> None:
    task = tiny_task()
    make_trainer(ModelCheckpoint(tmp_path, "last"), max_steps=2, limit_val_batches=0).fit(
        task, tiny_data(class_names=("dark", "light"))
    )
    card = read_weights(tmp_path / "last.ckpt").card
    assert (card.model, card.options, card.class_names) == ("tiny", task.network.options, ("dark", "light"))
    other = tiny_task().network
    load_network(other, tmp_path / "last.ckpt")
    assert all(torch.equal(tensor, task.network.state_dict()[name]) for name, tensor in other.state_dict().items())
    assert other.class_names == ("dark", "light")


def test_a_checkpoint_of_averaged_weights_gives_the_average(make_trainer, tiny_task, tiny_data, tmp_path) -> None:
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = make_trainer(EMAWeightAveraging(decay=0.75), keep, max_steps=2, limit_val_batches=0)
    trainer.fit(tiny_task(learning_rate=0.1), tiny_data())
    first, second = (
        torch.load(tmp_path / f"step={step}.ckpt", weights_only=True)["current_model_state"][
            "network.head.linear.weight"
        ]
        for step in (1, 2)
    )
    average = read_weights(tmp_path / "step=2.ckpt").tensors["head.linear.weight"]
    assert not torch.allclose(first, second)
    torch.testing.assert_close(average, 0.75 * first + 0.25 * second)


def test_a_set_with_another_class_count_is_refused_before_training(make_trainer, tiny_task, tiny_data) -> None:
    trainer = make_trainer(max_epochs=1)
    with pytest.raises(ValueError, match=r"the data has 3 classes \(a, b, c, \.\.\.\), the network has 2: set model"):
        trainer.fit(tiny_task(), tiny_data(class_names=("a", "b", "c")))
    assert trainer.global_step == 0


def test_a_task_trains_on_loaders_without_a_data_module(make_trainer, tiny_task, tiny_data) -> None:
    data = tiny_data()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(tiny_task(), data.train_dataloader(), data.val_dataloader())
    assert trainer.global_step == 6


def test_steps_draw_other_numbers_and_the_same_again_in_another_run(make_trainer, tiny_task, tiny_data) -> None:
    def draws() -> list[float]:
        drawn = []

        class Draw(Callback):
            def on_train_batch_end(self, *args) -> None:
                drawn.append(torch.rand(1).item())

        torch.manual_seed(5)
        task = tiny_task()
        torch.rand(len(runs))  # What happened before the run does not matter.
        make_trainer(Draw(), max_epochs=2, limit_val_batches=0).fit(task, tiny_data())
        return drawn

    runs: list[list[float]] = []
    for _ in range(2):
        runs.append(draws())
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 12
