"""What a person gets wrong is one clear line and exit code 2, and nothing is left behind."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image


@pytest.fixture
def copied(setups, tmp_path):
    """A copy of a task's data that a test may spoil, and the options to validate on it without weights' warning."""

    def copy(task):
        data = tmp_path / "data"
        shutil.copytree(setups[task].root, data)
        return data, ["validate", *setups[task].options(tmp_path / "out", "--data.root", data)]

    return copy


def refused(outcome, *parts):
    """See that there is one line with all of ``parts`` after the warning of a network without weights."""
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
def test_a_missing_part_of_a_set_is_named_with_what_was_expected(task, missing, copied, run, tmp_path):
    data, arguments = copied(task)
    part = data / missing
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    refused(run(*arguments), part, "not found", "expected")
    assert not (tmp_path / "out").exists()


def test_a_set_that_is_not_there_at_all(setups, run, tmp_path):
    for task, setup in setups.items():
        nowhere = tmp_path / "nowhere"
        outcome = run("fit", *setup.options(tmp_path / "out", "--data.root", nowhere))
        refused(outcome, nowhere, "not found"), task
    assert list(tmp_path.iterdir()) == []


def spoil_annotations(data, change):
    path = data / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))
    return path


def with_box(box):
    def change(content):
        content["annotations"][1]["bbox"] = box
        return content

    return change


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda content: [1, 2], ["is not a COCO annotation file: 'images' is missing"]),
        (lambda content: {**content, "categories": 3}, ["'categories' is missing"]),
        (with_box([5, 5, 0, 9]), ["annotation 2", "image 1", "has no size"]),
        (with_box([900, 900, 20, 20]), ["annotation 2", "image 1", "lies outside its image of 72x80"]),
        (with_box([1, 2, "wide", 3]), ["bbox must be 4 finite numbers"]),
        (
            lambda content: {**content, "annotations": [{**content["annotations"][0], "category_id": 77}]},
            ["there is no category_id 77"],
        ),
    ],
)
def test_annotations_that_are_wrong(change, parts, copied, run):
    data, arguments = copied("detection")
    path = spoil_annotations(data, change)
    refused(run(*arguments), path, *parts)


@pytest.mark.parametrize("content", ["", "{", "no json at all"])
def test_an_annotation_file_that_is_not_json(content, copied, run):
    data, arguments = copied("detection")
    path = data / "annotations" / "instances_val2017.json"
    path.write_text(content)
    refused(run(*arguments), path, "is not JSON")


@pytest.mark.parametrize(
    ("task", "picture"),
    [
        ("classification", "val/red/1.png"),
        ("detection", "val2017/1.png"),
        ("segmentation", "JPEGImages/val_1.jpg"),
        ("segmentation", "SegmentationClass/val_1.png"),
    ],
)
def test_a_picture_that_does_not_decode_is_named_or_skipped_and_counted(task, picture, copied, run, tmp_path):
    data, arguments = copied(task)
    (data / picture).write_bytes(b"no picture")
    refused(run(*arguments), data / picture, "does not decode")
    outcome = run(*arguments, "--data.skip_broken", "true")
    assert outcome.code == 0
    assert "skipped 1 of" in outcome.err
    assert str(data / picture) in outcome.err
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["num_images"] == 4


def test_a_mask_of_another_size_than_its_picture(copied, run):
    data, arguments = copied("segmentation")
    mask = data / "SegmentationClass" / "val_2.png"
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(mask)
    refused(run(*arguments), mask, "must be as large as", "72x80, got 20x10")


def test_a_mask_with_a_value_that_is_no_class(copied, run):
    data, arguments = copied("segmentation")
    mask = data / "SegmentationClass" / "val_2.png"
    Image.fromarray(np.full((80, 72), 9, np.uint8)).save(mask)
    refused(run(*arguments), mask, "must hold classes 0 to 2 and 255, got 9")


def test_more_classes_in_the_data_than_in_the_network(copied, run):
    data, arguments = copied("classification")
    shutil.copytree(data / "val" / "red", data / "val" / "green")
    shutil.copytree(data / "train" / "red", data / "train" / "green")
    refused(run(*arguments), "the data has 3 classes", "the network has 2", "set model.num_classes to 3")


@pytest.mark.parametrize(
    ("option", "parts"),
    [
        (("--trainer.epochs", "3"), ["trainer.epochs"]),
        (("--model.learning_speed", "3"), ["learning_speed", "ClassificationTask"]),
        (("--data.batch_size", "many"), ["batch_size", "many", "ImageNetDataModule"]),
        (("--model", "NoTask"), ["NoTask"]),
        (("--ckpt_path", "nowhere.ckpt"), ["checkpoint not found: nowhere.ckpt"]),
        (("--model.weights", "nowhere.safetensors"), ["weights file not found: nowhere.safetensors"]),
        (("--model.width_mult", "-1"), ["width_mult must be above 0, got -1"]),
    ],
)
def test_a_wrong_option(option, parts, setups, run, tmp_path):
    outcome = run("fit", *setups["classification"].options(tmp_path / "out", *option))
    refused(outcome, *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--model.width_mult", "-1"), "width_mult must be above 0, got -1.0"),
        (("--model.weights", "nowhere.pth"), "weights file not found: nowhere.pth"),
    ],
)
def test_what_a_class_refuses_is_said_and_nothing_else(option, said, setups, run, tmp_path):
    outcome = run("fit", *setups["classification"].options(tmp_path / "out", *option))
    assert outcome.err == f"mobilevision: error: {said}\n"


def test_an_unknown_key_in_a_configuration_file(setups, run, tmp_path):
    config = yaml.safe_load(setups["detection"].config.read_text())
    config["trainer"]["epochs"] = 3
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    refused(run("fit", "--config", path), "epochs")


def test_a_configuration_file_that_is_not_there(run, tmp_path):
    refused(run("fit", "--config", tmp_path / "nowhere.yaml"), "nowhere.yaml")


def test_a_checkpoint_of_another_model_or_class_count(trained, setups, run, tmp_path):
    checkpoint = trained("classification") / "run_1/checkpoints/best.ckpt"
    outcome = run("validate", *setups["detection"].options(tmp_path, "--ckpt_path", checkpoint))
    refused(outcome, checkpoint, "holds mobilenet_v2, this network is ssdlite_mobilenet_v2")
    more = ("--ckpt_path", checkpoint, "--model.num_classes", "5")
    refused(run("fit", *setups["classification"].options(tmp_path, *more)), "has 2 classes, this network has 5")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ["the subcommand"]),
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
    if not arguments:
        assert run().code == 0
        return
    refused(run(*arguments), *parts)
