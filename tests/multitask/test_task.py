import math

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from mobilevision import save_weights
from mobilevision.detection.task import build_criterion, build_evaluator
from mobilevision.multitask.task import MultiTaskTask
from mobilevision.segmentation.balance import balance_classes
from mobilevision.segmentation.types import IGNORE_INDEX
from mobilevision.weights.file import read_weights

# A handful of scenes does not show every class.
pytestmark = pytest.mark.filterwarnings("ignore:.* class folders of")

HEADS = {
    "classification": {"num_classes": 6, "input_size": 32},
    "detection": {"num_classes": 6, "input_size": 64},
    "segmentation": {"num_classes": 7, "input_size": 65},
}
SMALL = {"width_mult": 0.1, "norm_momentum": 0.1, "optimizer": "adamw", "learning_rate": 2e-3}


def make_task(*tasks, **options):
    """Build a task with its network, for the heads that are named or for all."""
    task = MultiTaskTask(heads={name: HEADS[name] for name in tasks or HEADS}, **SMALL | options)
    task.configure_model()
    return task


def states(task):
    return {name: tensor.clone() for name, tensor in task.network.state_dict().items()}


def changed(before, task):
    """Return the parts whose trained parameters have changed."""
    after = task.network.state_dict()
    names = [name for name, tensor in before.items() if tensor.is_floating_point() and "running" not in name]
    return {".".join(name.split(".")[:2]) for name in names if not torch.equal(before[name], after[name])}


def has_gradient(head):
    return any(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())


def test_all_heads_are_trained_and_evaluated(make_data, make_trainer):
    task = make_task()
    before, trainer = states(task), make_trainer(max_epochs=1)
    trainer.fit(task, make_data())
    assert {"heads.classification", "heads.detection", "heads.segmentation"} <= changed(before, task)
    figures = task.report.figures
    assert figures["score"] == pytest.approx(sum(figures[name] for name in ("top1", "map", "miou")) / 3)
    assert trainer.callback_metrics["val/score"].item() == pytest.approx(figures["score"])
    assert figures["loss"] == pytest.approx(sum(figures[f"{name}_loss"] for name in HEADS))
    assert "detection/star" in task.report.per_class
    assert task.report.details["segmentation"]["protocol"]
    assert task.network.heads["segmentation"].class_names[0] == "background"


def test_the_loss_is_the_weighted_sum_of_those_of_the_heads_and_no_other_head_is_trained(make_data, steps_of):
    data = make_data("detection", "segmentation", draw="together")
    data.setup("fit")
    task = make_task(loss_weights={"detection": 2.0}).eval()
    task.log = lambda *_, **__: None
    batch = steps_of(data)[0]
    alone = {name: sum(task.compute_losses({name: part}, 0)[name].values()) for name, part in batch.items()}
    loss = task.training_step({"classification": None, **batch}, 0)
    torch.testing.assert_close(loss, 2 * alone["detection"] + alone["segmentation"])
    # A mask that says nothing trains nothing.
    batch["segmentation"].masks.fill_(IGNORE_INDEX)
    loss = task.training_step({"classification": None, **batch}, 0)
    torch.testing.assert_close(loss, 2 * alone["detection"])
    loss.backward()
    assert [name for name, head in task.network.heads.items() if has_gradient(head)] == ["detection"]


def test_each_dataset_is_evaluated_as_it_is_alone(make_data, make_trainer):
    task, data = make_task(), make_data()
    make_trainer().validate(task, data, verbose=False)
    head = task.network.heads["detection"]
    evaluator = build_evaluator(head, build_criterion(head))
    with torch.inference_mode():
        for batch in data.for_head("detection").val_dataloader():
            evaluator.update(task.network.eval().compute(batch.images, ["detection"])["detection"], batch)
    alone = evaluator.compute().figures
    assert task.report.figures["map"] == alone["map"]
    assert task.report.figures["detection_loss"] == pytest.approx(alone["loss"], rel=1e-5)


def test_learned_weights_are_trained_and_saved_beside_the_network(make_data, make_trainer, tmp_path):
    task, trainer = make_task("detection", "segmentation", learned_uncertainty=True), make_trainer(max_epochs=1)
    trainer.fit(task, make_data("detection", "segmentation"))
    variances = task.weighting.log_variances
    assert all(variance.item() != 0 for variance in variances.values())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = MultiTaskTask.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert torch.equal(again.weighting.log_variances["detection"], variances["detection"])
    assert not any("log_variances" in name for name in read_weights(tmp_path / "last.ckpt").tensors)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_heads_may_be_trained_first_in_any_order(make_data, make_trainer, optimizer):
    # The segmenter's pass does not train the backbone's end: it must not matter that its step comes first.
    data = make_data()
    order = [("segmentation",), ("classification",), ("detection",)]
    train_dataloader = data.train_dataloader

    def in_order():
        loader = train_dataloader()
        for each in loader.flattened:
            each.schedule, each._length, each._batches_per_epoch = lambda epoch: order, 3, 1
        return loader

    data.train_dataloader = in_order
    task = make_task(optimizer=optimizer, learned_uncertainty=True)
    before = states(task)
    make_trainer(max_epochs=1, limit_val_batches=0).fit(task, data)
    assert {"heads.classification", "heads.detection", "heads.segmentation"} <= changed(before, task)


def test_a_frozen_head_stays_as_it_is_with_its_statistics(make_data, make_trainer):
    task = make_task(head_rates={"detection": 0.0, "segmentation": 0.5})
    before, trainer = states(task), make_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(task, make_data(draw="together"))
    assert "heads.segmentation" in changed(before, task)
    for name, tensor in task.network.state_dict().items():
        if name.startswith("heads.detection."):
            assert torch.equal(before[name], tensor)
    assert {group["rate"] for group in trainer.optimizers[0].param_groups} == {1.0, 0.5}


def test_it_starts_from_a_joint_file_with_the_options_in_there(tmp_path):
    first, path = make_task(padding="tf_same").network, tmp_path / "joint.safetensors"
    save_weights(first, path)
    again = MultiTaskTask(pretrained=str(path)).network
    assert again.backbone.config == first.backbone.config
    assert {name: head.config for name, head in again.named_heads.items()} == {
        name: head.config for name, head in first.named_heads.items()
    }
    torch.testing.assert_close(again.state_dict(), first.state_dict())


def test_heads_that_the_weights_lack_are_initialized_and_never_evaluated(make_data, make_trainer, tmp_path):
    path = tmp_path / "detector.safetensors"
    save_weights(make_task("detection").network, path)
    heads = {"detection": {}, "segmentation": HEADS["segmentation"]}
    task = MultiTaskTask(heads=heads, pretrained=str(path))
    trained = read_weights(path).tensors
    for name, tensor in task.network.heads["detection"].state_dict().items():
        assert torch.equal(tensor, trained[f"heads.detection.{name}"])
    (report,) = task.load_reports
    assert report.missing == "the head segmentation"
    with pytest.raises(ValueError, match=r"the head segmentation.*: classes that were never trained cannot be eval"):
        make_trainer().validate(task, make_data("detection", "segmentation"), verbose=False)


def test_classes_of_the_data_are_found_by_their_names(make_data, make_trainer, tmp_path):
    first = make_task("classification", "detection").network
    names = ("triangle", "star", "square", "heart", "cross", "circle")
    first.heads["classification"].class_names = names
    nn.init.constant_(first.heads["classification"].linear.weight, 0.0)
    first.heads["classification"].linear.weight.data[0] = 1.0
    save_weights(first, tmp_path / "joint.safetensors")
    task = MultiTaskTask(pretrained=str(tmp_path / "joint.safetensors"))
    make_trainer().validate(task, make_data("classification", "detection"), verbose=False)
    head = task.network.heads["classification"]
    label = head.class_names.index("triangle")
    assert head.linear.weight.mean(dim=1).tolist() == [float(row == label) for row in range(6)]


def test_a_head_without_figures_is_left_out_of_the_score(make_data, make_trainer):
    task, data = make_task("detection", "segmentation"), make_data("detection", "segmentation")
    evaluator = task.evaluators["segmentation"]
    update = evaluator.update

    def ignore_all(outputs, batch):
        update(outputs, batch._replace(masks=tuple(torch.full_like(mask, IGNORE_INDEX) for mask in batch.masks)))

    evaluator.update = ignore_all
    make_trainer().validate(task, data, verbose=False)
    assert math.isnan(task.report.figures["miou"])
    assert task.report.figures["score"] == task.report.figures["map"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_weights": {"pose": 1.0}}, "loss_weights must be at least 0, and for classification, detection, segm"),
        ({"head_rates": {"detection": -1.0}}, "head_rates must be at least 0, and for"),
        ({"score_weights": dict.fromkeys(HEADS, 0.0)}, "score_weights must not all be 0"),
        ({"loss_weights": {"detection": 1.0}, "learned_uncertainty": True}, "loss_weights must be left out where they"),
        ({"class_balance": -0.5}, r"class_balance must be at least 0, got -0\.5"),
    ],
)
def test_wrong_weights_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_task(**options)


def test_rare_classes_weigh_more_if_asked_for(make_data, make_trainer):
    task, data = make_task("detection", "segmentation", class_balance=0.5), make_data("detection", "segmentation")
    make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(task, data)
    expected = balance_classes(data.for_head("segmentation").count_classes(), 0.5)
    assert torch.equal(task.criteria["segmentation"].class_weights, expected)
    with pytest.raises(ValueError, match=r"class_balance must be 0 without a segmentation head, got 0\.5"):
        make_task("classification", "detection", class_balance=0.5)


def test_every_head_needs_a_dataset_and_every_dataset_a_head(make_data, make_trainer):
    message = "every head needs a dataset and every dataset a head, got heads .* and datasets classification, detection"
    for tasks in (("classification", "detection"), ("classification",)):
        with pytest.raises(ValueError, match=message):
            make_trainer(max_epochs=1).fit(make_task(*tasks), make_data())


def test_a_run_is_resumed_with_the_classes_it_began_with(make_data, make_trainer, tmp_path):
    trainer = make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(make_task("detection", "segmentation"), make_data("detection", "segmentation"))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    task, other = make_task("detection", "segmentation"), make_data("detection", "segmentation")
    other.for_head("segmentation").class_names = other.for_head("segmentation").class_names[::-1]
    resumed = {"ckpt_path": tmp_path / "last.ckpt", "weights_only": True}
    with pytest.raises(ValueError, match="resumed with the classes it began with: the checkpoint has background"):
        make_trainer(max_epochs=2).fit(task, other, **resumed)


def test_processes_that_wait_for_every_gradient_are_refused_before_they_hang(make_data):
    task = make_task("detection", "segmentation")
    task.trainer = type("Run", (), {"strategy": DDPStrategy(), "datamodule": make_data("detection", "segmentation")})()
    with pytest.raises(ValueError, match=r"trainer\.strategy must be ddp_find_unused_parameters_true on several"):
        task.setup("fit")
    task.setup("validate")
