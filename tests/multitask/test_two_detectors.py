"""Two detection heads of different classes on one backbone, from the data to the prediction."""

import json

import pytest
import torch

from mobilevision import (
    CocoDataModule,
    DetectionTask,
    MultiTaskDataModule,
    MultiTaskTask,
    Predictor,
    get_model,
    load_model,
    save_weights,
)
from mobilevision.models import build_network
from mobilevision.weights.combine import combine_weights, split_weights
from mobilevision.weights.file import read_weights

SMALL = {"width_mult": 0.1, "norm_momentum": 0.1}
CLASSES = {"colors": ("blue", "red"), "things": ("box", "lamp", "square")}


@pytest.fixture(scope="module")
def roots(tmp_path_factory, write_dataset):
    """Return the folders of two datasets, the second with a third class and other names."""
    roots = {
        name: write_dataset("detection", tmp_path_factory.mktemp(name), train=4, val=3, test=2) for name in CLASSES
    }
    for path in (roots["things"] / "annotations").iterdir():
        data = json.loads(path.read_text())
        data["categories"] = [{"id": number, "name": name} for number, name in enumerate(CLASSES["things"], start=1)]
        data["annotations"][0]["category_id"] = 3
        path.write_text(json.dumps(data))
    return roots


@pytest.fixture
def data(roots):
    parts = {name: CocoDataModule(str(root), batch_size=2, num_workers=0) for name, root in roots.items()}
    return MultiTaskDataModule(datasets=parts)


def make_task(**options):
    return MultiTaskTask(heads={name: {"task": "detection", "input_size": 64} for name in CLASSES}, **SMALL | options)


def test_both_are_trained_evaluated_tested_saved_and_loaded(data, make_trainer, tmp_path):
    task, trainer = make_task(learning_rate=1e-2), make_trainer(max_epochs=1)
    trainer.fit(task, data)
    assert {name: head.class_names for name, head in task.network.named_heads.items()} == CLASSES
    figures = task.report.figures
    assert {f"{name}_{figure}" for name in CLASSES for figure in ("loss", "map", "map_50")} <= figures.keys()
    assert figures["score"] == pytest.approx((figures["colors_map"] + figures["things_map"]) / 2)
    assert list(task.report.per_class) == [f"{name}/{label}" for name, labels in CLASSES.items() for label in labels]
    trainer.test(task, data, verbose=False)
    assert task.report.num_images == 4

    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        expected = task.network.eval()(images)
        assert [expected[name].logits.shape[-1] for name in CLASSES] == [3, 4]
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        save_weights(task.network, tmp_path / "last.safetensors")
        for file in ("last.ckpt", "last.safetensors"):
            torch.testing.assert_close(load_model(tmp_path / file)(images), expected)
        again = MultiTaskTask.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
        torch.testing.assert_close(again.eval()(images), expected)


def test_a_step_of_one_leaves_the_other(data, make_trainer):
    task = make_task()
    make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(task, data)
    trained = [any(p.grad is not None for p in head.parameters()) for head in task.network.heads.values()]
    assert sorted(trained) == [False, True]


def test_two_detectors_are_put_on_one_backbone_and_taken_apart_again(tmp_path):
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    backbone, parts, alone = None, {}, {}
    for name, labels in CLASSES.items():
        network = get_model("ssdlite_mobilenet_v2", num_classes=len(labels), width_mult=0.1, input_size=64).eval()
        network.head.class_names = labels
        # As after fine-tuning on a frozen backbone.
        backbone = backbone or network.backbone.state_dict()
        network.backbone.load_state_dict(backbone)
        save_weights(network, tmp_path / f"{name}.safetensors")
        parts[name] = read_weights(tmp_path / f"{name}.safetensors")
        alone[name] = network(images)
    joint = build_network(combine_weights(parts), "both")
    assert {name: head.class_names for name, head in joint.named_heads.items()} == CLASSES
    torch.testing.assert_close(joint(images), alone)
    save_weights(joint, tmp_path / "joint.safetensors")
    for name, labels in CLASSES.items():
        part = build_network(split_weights(read_weights(tmp_path / "joint.safetensors"), name), name)
        assert (list(part.heads), part.head.class_names) == (["detection"], labels)
        torch.testing.assert_close(part(images), alone[name])
    with pytest.raises(ValueError, match=r"head must be one of colors, things, got 'detection'"):
        split_weights(read_weights(tmp_path / "joint.safetensors"), "detection")


def test_heads_start_from_those_of_their_names(data, make_trainer, tmp_path):
    first = make_task()
    make_trainer().validate(first, data, verbose=False)
    save_weights(first.network, tmp_path / "joint.safetensors")
    task = MultiTaskTask(
        heads={"things": {"task": "detection"}, "more": {"task": "detection", "num_classes": 5, "input_size": 64}},
        pretrained=str(tmp_path / "joint.safetensors"),
    )
    task.configure_model()
    torch.testing.assert_close(task.network.heads["things"].state_dict(), first.network.heads["things"].state_dict())
    (report,) = task.load_reports
    assert (report.missing, report.unexpected) == ("the head more", "the head colors")


def test_a_prediction_has_the_objects_of_both_and_one_head_may_be_asked_alone(roots):
    network = get_model(
        "multitask_mobilenet_v2",
        heads={
            name: {"task": "detection", "num_classes": len(labels), "class_names": labels, "input_size": 64}
            for name, labels in CLASSES.items()
        },
        width_mult=0.1,
    )
    image = next((roots["colors"] / "val2017").iterdir())
    result = Predictor(network, score_threshold=0.0)(image)
    for name, labels in CLASSES.items():
        assert len(result[name].boxes) > 0
        assert set(result[name].classes) <= set(labels)
    assert list(network(torch.zeros(1, 3, 64, 64), heads=("things",))) == ["things"]


def test_a_dataset_without_a_head_is_refused_by_name(data, make_trainer):
    with pytest.raises(ValueError, match="got heads colors and datasets colors, things"):
        make_trainer(max_epochs=1).fit(MultiTaskTask(heads={"colors": {"task": "detection"}}, **SMALL), data)


def test_a_single_detector_does_not_start_from_one_of_two_without_their_name(tmp_path):
    heads = {name: {"task": "detection", "num_classes": 2, "input_size": 64} for name in CLASSES}
    save_weights(get_model("multitask_mobilenet_v2", heads=heads, width_mult=0.1), tmp_path / "joint.safetensors")
    with pytest.raises(ValueError, match=r"joint\.safetensors holds colors \(detection\), things \(det"):
        DetectionTask(pretrained=str(tmp_path / "joint.safetensors")).configure_model()
