import math

import pytest
import torch
from mobilevision.detection.objective import DetectionObjective
from torch import nn

from mobilevision import save_weights
from mobilevision.multitask.task import MultiTaskTask
from mobilevision.segmentation.balance import balance_classes
from mobilevision.segmentation.types import IGNORE_INDEX
from mobilevision.weights.file import read_weights

# A handful of scenes does not show every class.
pytestmark = pytest.mark.filterwarnings("ignore:.* class folders of")

HEADS = {
    "classification": {"num_classes": 6},
    "detection": {"num_classes": 6, "input_size": 64},
    "segmentation": {"num_classes": 7, "input_size": 65},
}
SMALL = {"width_mult": 0.1, "norm_momentum": 0.1, "optimizer": "adamw", "learning_rate": 2e-3}


def make_task(*tasks, **options):
    return MultiTaskTask({task: HEADS[task] for task in tasks or HEADS}, **SMALL | options)


def states(task):
    return {name: tensor.clone() for name, tensor in task.network.state_dict().items()}


def changed(before, after):
    """Give the parts whose trained parameters have changed."""
    names = [name for name, tensor in before.items() if tensor.is_floating_point() and "running" not in name]
    return {".".join(name.split(".")[:2]) for name in names if not torch.equal(before[name], after[name])}


def one_batch(data, task):
    for batch, *_ in data.train_dataloader():
        if batch[task] is not None:
            return batch[task]
    return None


def test_all_heads_train_and_are_measured(make_data, make_trainer):
    task, data = make_task(), make_data()
    before = states(task)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(task, datamodule=data)
    assert {"heads.classification", "heads.detection", "heads.segmentation"} <= changed(before, states(task))
    figures = task.report.figures
    assert {"score", "loss", "top1", "map", "miou", "detection_loss", "boundary_f"} <= set(figures)
    main = [figures[name] for name in ("top1", "map", "miou")]
    assert figures["score"] == pytest.approx(sum(main) / 3)
    assert trainer.callback_metrics["val/score"].item() == pytest.approx(figures["score"])
    assert "detection/star" in task.report.per_class
    assert task.report.details["segmentation"]["protocol"]
    assert task.network.members["segmentation"].class_names[0] == "background"


def test_a_step_leaves_the_heads_of_the_others_as_they_are(make_data, make_trainer):
    task, data = make_task(), make_data()
    make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(task, datamodule=data)
    trained = [head for head in task.network.heads if any(p.grad is not None for p in head_parameters(task, head))]
    assert len(trained) == 1


def head_parameters(task, head):
    return task.network.heads[head].parameters()


def test_the_loss_of_one_task_does_not_know_the_others(make_data, make_trainer):
    data = make_data()
    data.setup("fit")
    task = make_task()
    parts = {name: one_batch(data, name) for name in HEADS}
    parts["segmentation"].masks.fill_(IGNORE_INDEX)
    task.log = lambda *_, **__: None
    task.network.eval()
    alone = task.training_step({**dict.fromkeys(HEADS), "detection": parts["detection"]}, 0)
    with_empty = task.training_step({**dict.fromkeys(HEADS), **{k: parts[k] for k in ("detection", "segmentation")}}, 0)
    torch.testing.assert_close(alone, with_empty)
    with_empty.backward()
    gradients = [p.grad for p in head_parameters(task, "segmentation")]
    assert all(gradient is None or gradient.abs().max() == 0 for gradient in gradients)
    assert all(parameter.grad is None for parameter in head_parameters(task, "classification"))


def test_the_training_loss_is_the_weighted_sum_of_the_objectives(make_data):
    data = make_data("detection", "segmentation", draw="together")
    data.setup("fit")
    task = make_task("detection", "segmentation", loss_weights={"detection": 2.0})
    task.log = lambda *_, **__: None
    task.network.eval()
    batch = next(iter(data.train_dataloader()))[0]
    parts = {
        name: task.objectives[name].loss(member, member.run_head(batch[name].images), batch[name]).total
        for name, member in task.network.members.items()
    }
    expected = 2 * parts["detection"] + parts["segmentation"]
    torch.testing.assert_close(task.training_step(batch, 0), expected)


def test_each_set_is_measured_as_it_is_alone(make_data, make_trainer):
    task, data = make_task(), make_data()
    make_trainer().validate(task, datamodule=data, verbose=False)
    member, objective = task.network.members["detection"], DetectionObjective(HEADS["detection"]["num_classes"])
    objective.begin()
    with torch.inference_mode():
        for batch in data.members["detection"].val_dataloader():
            objective.measure(member, member.eval().run_head(batch.images), batch)
    alone = objective.conclude(member.class_names).figures
    assert task.report.figures["map"] == alone["map"]
    assert task.report.figures["detection_loss"] == pytest.approx(alone["loss"], rel=1e-5)


def test_learned_weights_are_trained_and_saved_beside_the_network(make_data, make_trainer, tmp_path):
    task, data = (
        make_task("detection", "segmentation", learned_uncertainty=True),
        make_data("detection", "segmentation"),
    )
    trainer = make_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(task, datamodule=data)
    variances = task.weighting.log_variances
    assert all(variance.item() != 0 for variance in variances.values())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = MultiTaskTask.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert torch.equal(again.weighting.log_variances["detection"], variances["detection"])
    assert not any("log_variances" in name for name in read_weights(tmp_path / "last.ckpt").tensors)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_heads_may_have_their_first_turns_in_any_order(make_data, make_trainer, optimizer):
    # The segmenter's pass does not train the backbone's end: it must not matter that its turn comes first.
    data = make_data()
    order = [("segmentation",), ("classification",), ("detection",)]
    train_dataloader = data.train_dataloader

    def in_order():
        loader = train_dataloader()
        for each in loader.flattened:
            each.turns, each._length, each._turns_per_epoch = lambda epoch: order, 3, 1
        return loader

    data.train_dataloader = in_order
    task = make_task(optimizer=optimizer, learned_uncertainty=True)
    before = states(task)
    make_trainer(max_epochs=1, limit_val_batches=0).fit(task, datamodule=data)
    assert {"heads.classification", "heads.detection", "heads.segmentation"} <= changed(before, states(task))


def test_a_frozen_head_stays_as_it_is_with_its_statistics(make_data, make_trainer):
    task, data = make_task(head_rates={"detection": 0.0, "segmentation": 0.5}), make_data(draw="together")
    before = states(task)
    trainer = make_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(task, datamodule=data)
    after = states(task)
    assert "heads.segmentation" in changed(before, after)
    for name, tensor in before.items():
        if name.startswith("heads.detection."):
            assert torch.equal(after[name], tensor)
    rates = {group["rate"] for group in trainer.optimizers[0].param_groups}
    assert rates == {1.0, 0.5}


def test_it_starts_from_a_joint_file_with_the_options_in_there(tmp_path):
    first = make_task(padding="tf_same")
    save_weights(first.network, tmp_path / "joint.safetensors")
    task = MultiTaskTask(weights=str(tmp_path / "joint.safetensors"), norm_momentum=0.1)
    assert task.network.options == first.network.options
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(task.network.state_dict()[name], tensor)


def test_it_starts_from_a_single_network_and_draws_the_other_heads(tmp_path):
    detector = make_task("detection").network.members["detection"]
    save_weights(detector, tmp_path / "detector.safetensors")
    heads = {"detection": {}, "segmentation": HEADS["segmentation"]}
    task = MultiTaskTask(heads, **SMALL, weights=str(tmp_path / "detector.safetensors"))
    own = task.network.members["detection"].state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in detector.state_dict().items())
    (report,) = task.fit_reports
    assert "the head for segmentation" in report.new


def test_classes_of_the_data_are_found_by_their_names(make_data, make_trainer, tmp_path):
    first = make_task("classification", "detection")
    names = ("triangle", "star", "square", "heart", "cross", "circle")
    first.network.members["classification"].class_names = names
    nn.init.constant_(first.network.heads["classification"].linear.weight, 0.0)
    first.network.heads["classification"].linear.weight.data[0] = 1.0
    save_weights(first.network, tmp_path / "joint.safetensors")
    task = MultiTaskTask(weights=str(tmp_path / "joint.safetensors"))
    make_trainer().validate(task, datamodule=make_data("classification", "detection"), verbose=False)
    rows = task.network.heads["classification"].linear.weight.mean(dim=1)
    label = task.network.members["classification"].class_names.index("triangle")
    assert rows.tolist() == [float(row == label) for row in range(6)]


def test_a_task_without_figures_is_left_out_of_the_score(make_data, make_trainer):
    task, data = make_task("detection", "segmentation"), make_data("detection", "segmentation")
    data.setup("validate")
    data.setup = lambda stage: None
    objective = task.objectives["segmentation"]
    measure = objective.measure

    def ignore_all(network, predictions, batch):
        masks = tuple(torch.full_like(mask, IGNORE_INDEX) for mask in batch.masks)
        measure(network, predictions, batch._replace(masks=masks))

    objective.measure = ignore_all
    make_trainer().validate(task, datamodule=data, verbose=False)
    assert math.isnan(task.report.figures["miou"])
    assert task.report.figures["score"] == task.report.figures["map"]


def test_a_loss_that_is_not_finite_names_the_pictures_of_its_task(make_data, make_trainer):
    task, data = make_task("detection", "segmentation"), make_data("detection", "segmentation", draw="round_robin")
    nn.init.constant_(task.network.heads["detection"].box_predictors[0].pointwise.bias, torch.nan)
    with pytest.raises(
        ValueError, match=r"train/loss must be finite, got nan in batch \d of epoch 0, images .*train2017"
    ):
        make_trainer(max_epochs=1).fit(task, datamodule=data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_weights": {"pose": 1.0}}, "loss_weights must be at least 0, and for classification, detection, segm"),
        ({"head_rates": {"detection": -1.0}}, "head_rates must be at least 0, and for"),
        ({"score_weights": dict.fromkeys(HEADS, 0.0)}, "score_weights must not all be 0"),
        ({"loss_weights": {"detection": 1.0}, "learned_uncertainty": True}, "loss_weights must be left out where they"),
        ({"class_balance": -0.5}, "class_balance must be at least 0, and 0 without a segmenter, got -0.5"),
    ],
)
def test_wrong_weights_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_task(**options)


def test_rare_classes_weigh_more_if_they_shall(make_data, make_trainer):
    task, data = make_task(class_balance=0.5), make_data()
    make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(task, datamodule=data)
    counts = data.members["segmentation"].count_classes()
    expected = balance_classes(counts, 0.5)
    assert torch.equal(task.objectives["segmentation"].class_weights, expected)
    assert expected[0] < 1 < expected[1:][counts[1:] > 0].min()


def test_without_a_segmenter_there_are_no_pixels_to_balance():
    with pytest.raises(ValueError, match=r"class_balance must be at least 0, and 0 without a segmenter, got 0\.5"):
        make_task("classification", "detection", class_balance=0.5)


def test_heads_and_sets_must_be_of_the_same_tasks(make_data, make_trainer):
    with pytest.raises(
        ValueError, match="got heads for classification, detection and sets for detection, segmentation"
    ):
        make_trainer(max_epochs=1).fit(
            make_task("classification", "detection"), datamodule=make_data("detection", "segmentation")
        )


def test_the_sets_must_have_the_classes_and_the_size_of_the_heads(make_data, make_trainer):
    heads = {"classification": {"num_classes": 5}, "detection": HEADS["detection"]}
    with pytest.raises(ValueError, match=r"the data for classification has 6 classes .* set model\.heads\.classific"):
        make_trainer().validate(MultiTaskTask(heads, **SMALL), datamodule=make_data("classification", "detection"))
    heads = {"classification": HEADS["classification"], "detection": {"num_classes": 6, "input_size": 96}}
    with pytest.raises(ValueError, match=r"data\.detection\.input_size must be that of the head, 96, got 64"):
        make_trainer().validate(MultiTaskTask(heads, **SMALL), datamodule=make_data("classification", "detection"))


def test_what_was_never_trained_is_not_measured(make_data, make_trainer, tmp_path):
    save_weights(make_task("detection").network.members["detection"], tmp_path / "detector.safetensors")
    heads = {"detection": {}, "segmentation": HEADS["segmentation"]}
    task = MultiTaskTask(heads, **SMALL, weights=str(tmp_path / "detector.safetensors"))
    with pytest.raises(ValueError, match=r"the head for segmentation.*: there is nothing to measure in classes"):
        make_trainer().validate(task, datamodule=make_data("detection", "segmentation"), verbose=False)


def test_a_run_goes_on_with_the_classes_it_began_with(make_data, make_trainer, tmp_path):
    data = make_data("detection", "segmentation")
    trainer = make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(make_task("detection", "segmentation"), datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    other = make_data("detection", "segmentation")
    other.members["segmentation"].class_names = other.members["segmentation"].class_names[::-1]
    with pytest.raises(ValueError, match="a run goes on with the classes it began with: the checkpoint has background"):
        make_trainer(max_epochs=2).fit(
            make_task("detection", "segmentation"),
            datamodule=other,
            ckpt_path=tmp_path / "last.ckpt",
            weights_only=True,
        )
