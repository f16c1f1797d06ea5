"""What a person gets wrong is one clear line and exit code 2, and nothing is left behind."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision.models import mobilenet_v2


@pytest.fixture
def copied(setups, tmp_path):
    """A copy of a task's dataset that a test may spoil, and the command that measures a network on it."""

    def copy(task):
        data = tmp_path / "data"
        shutil.copytree(setups[task].root, data)
        return data, ["validate", *setups[task].options(tmp_path / "out", "--data.root", data)]

    return copy


def refused(outcome, *parts):
    """Assert that there is one line with all of ``parts`` after the warning of a network without weights."""
    assert outcome.code == 2
    assert outcome.out == ""
    lines = [line for line in outcome.err.splitlines() if "warning: neither --ckpt_path" not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("mobilevision: error: ")
    for part in parts:
        assert str(part) in lines[0]


@pytest.mark.parametrize(
    ("task", "missing"),
    [
        ("classification", "val"),
        ("detection", "val2017"),
        ("detection", "annotations/instances_val2017.json"),
        ("segmentation", "JPEGImages"),
        ("segmentation", "SegmentationClass"),
        ("segmentation", "ImageSets/Segmentation/val.txt"),
    ],
)
def test_a_missing_part_of_a_dataset_is_named_with_what_was_expected(task, missing, copied, run, tmp_path):
    data, arguments = copied(task)
    part = data / missing
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    refused(run(*arguments), part, "not found", "expected")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_a_dataset_that_is_not_there_at_all(task, setups, run, tmp_path):
    nowhere = tmp_path / "nowhere"
    refused(run("fit", *setups[task].options(tmp_path / "out", "--data.root", nowhere)), nowhere, "not found")
    assert list(tmp_path.iterdir()) == []


def with_box(box):
    def change(content):
        content["annotations"][1]["bbox"] = box
        return json.dumps(content)

    return change


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda content: "no json at all", ["is not JSON"]),
        (lambda content: "[1, 2]", ["is not a COCO annotation file: 'images' is missing"]),
        (lambda content: json.dumps({**content, "categories": 3}), ["'categories' is missing"]),
        (with_box([5, 5, 0, 9]), ["annotation 2", "image 1", "has no size"]),
        (with_box([900, 900, 20, 20]), ["annotation 2", "image 1", "lies outside its image of 72x80"]),
        (with_box([1, 2, "wide", 3]), ["bbox must be 4 finite numbers"]),
        (
            lambda content: json.dumps({**content, "annotations": [{**content["annotations"][0], "category_id": 77}]}),
            ["there is no category_id 77"],
        ),
    ],
)
def test_annotations_that_are_wrong(change, parts, copied, run):
    data, arguments = copied("detection")
    path = data / "annotations/instances_val2017.json"
    path.write_text(change(json.loads(path.read_text())))
    refused(run(*arguments), path, *parts)


@pytest.mark.parametrize(
    ("task", "image"),
    [
        ("classification", "val/red/1.png"),
        ("detection", "val2017/1.png"),
        ("segmentation", "JPEGImages/val_1.jpg"),
        ("segmentation", "SegmentationClass/val_1.png"),
    ],
)
def test_an_image_that_does_not_decode_is_named_or_skipped_and_counted(task, image, copied, run, tmp_path):
    data, arguments = copied(task)
    (data / image).write_bytes(b"no image")
    refused(run(*arguments), data / image, "does not decode")
    outcome = run(*arguments, "--data.skip_broken", "true")
    assert outcome.code == 0
    assert "skipped 1 of" in outcome.err
    assert str(data / image) in outcome.err
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["num_images"] == 4


@pytest.mark.parametrize(
    ("mask", "parts"),
    [
        (np.zeros((10, 20)), ["must be as large as", "JPEGImages/val_2.jpg, 72x80, got 20x10"]),
        (np.full((80, 72, 3), (0, 1, 0)), ["got mode RGB"]),
        (np.full((80, 72), 9), ["must hold classes 0 to 2 and 255, got 9 (5760 pixels)"]),
    ],
)
def test_a_mask_that_is_none(mask, parts, copied, run):
    data, arguments = copied("segmentation")
    path = data / "SegmentationClass" / "val_2.png"
    Image.fromarray(mask.astype(np.uint8)).save(path)
    refused(run(*arguments), path, *parts)


def test_a_list_that_names_missing_images_names_them_all(copied, run):
    data, arguments = copied("segmentation")
    missing = [data / "JPEGImages" / f"val_{index}.jpg" for index in range(4)]
    for path in missing:
        path.unlink()
    refused(run(*arguments), data / "ImageSets/Segmentation/val.txt", "4 images missing", ", ".join(map(str, missing)))


@pytest.mark.parametrize(
    ("contradiction", "parts"),
    [
        (("classification", "num_classes", 3), ["num_classes of classification is 3", "2 classes (blue, red, ...)"]),
        (("detection", "num_classes", 80), ["num_classes of detection is 80", "2 classes (blue, red, ...)"]),
        (("segmentation", "num_classes", 2), ["num_classes of segmentation is 2", "3 classes (background, blue, red"]),
        (("detection", "input_size", 96), ["input_size of detection is 96", "64 for the data", "set one of"]),
    ],
)
def test_a_network_that_contradicts_its_data(contradiction, parts, setups, run, tmp_path):
    task, name, value = contradiction
    more = (f"--model.{name}", value, "--data.input_size", 64)
    refused(run("fit", *setups[task].options(tmp_path / "out", *more)), *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "parts"),
    [
        (("--trainer.epochs", "3"), ["trainer.epochs"]),
        (("--model.learning_speed", "3"), ["learning_speed", "ClassificationTask"]),
        (("--data.batch_size", "many"), ["batch_size", "many", "ImageNetDataModule"]),
        (("--model", "NoTask"), ["NoTask"]),
        (("--ckpt_path", "nowhere.ckpt"), ["checkpoint not found: nowhere.ckpt"]),
        (("--config", "nowhere.yaml"), ["nowhere.yaml"]),
        # What a class refuses is told alone, without its name and its other arguments.
        (("--model.pretrained", "nowhere.pth"), ["error: weights file not found: nowhere.pth"]),
        (("--model.width_mult", "-1"), ["error: width_mult must be above 0, got -1"]),
        (("--trainer.max_epochs", "-1"), ["trainer.max_epochs or trainer.max_steps must be set, got -1 for both"]),
    ],
)
def test_a_wrong_option(option, parts, setups, run, tmp_path):
    outcome = run("fit", *setups["classification"].options(tmp_path / "out", *option))
    refused(outcome, *parts)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_key_in_a_configuration_file(setups, run, tmp_path):
    config = setups["detection"].read_config()
    config["trainer"]["epochs"] = 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    refused(run("fit", "--config", tmp_path / "config.yaml"), "epochs")


def test_weights_of_another_task_class_count_or_padding(trained, weights_of, setups, run, tmp_path):
    checkpoint = trained("classification") / "checkpoints/best.ckpt"
    outcome = run("validate", *setups["detection"].options(tmp_path, "--ckpt_path", checkpoint))
    refused(outcome, checkpoint, "holds classification, this network detection")
    more = ("--ckpt_path", checkpoint, "--model.num_classes", "5")
    refused(run("fit", *setups["classification"].options(tmp_path, *more)), "num_classes of classification is 5")
    more = ("--model.backbone_weights", weights_of("classification"), "--model.padding", "tf_same")
    outcome = run("fit", *setups["detection"].options(tmp_path / "runs", *more))
    refused(outcome, "was trained with padding symmetric, this network has tf_same: set padding to symmetric")
    assert list(tmp_path.iterdir()) == []


def test_classes_that_were_never_trained_are_not_measured(setups, run, tmp_path):
    torch.save(mobilenet_v2(num_classes=7, width_mult=0.1).state_dict(), tmp_path / "foreign.pth")
    outcome = run(
        "validate", *setups["classification"].options(tmp_path, "--model.pretrained", tmp_path / "foreign.pth")
    )
    refused(outcome, "missing: 2 classes of 2; unexpected: 7 classes of 7: classes that were never trained")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("train",), ["the subcommand must be one of fit, validate", "'train'"]),
        (("info",), ["name"]),
        (("info", "resnet50"), ["resnet50"]),
        (("info", "mobilenet_v2", "--num-classes", "none"), ["num-classes"]),
        (("info", "mobilenet_v2", "--output-stride", "12"), ["output_stride must be 8, 16 or 32, got 12"]),
        (("score", "coco"), ["--annotations"]),
        (("import-weights", "nowhere.pb"), ["weights file not found: nowhere.pb"]),
    ],
)
def test_a_wrong_command_line(arguments, parts, run):
    refused(run(*arguments), *parts)
