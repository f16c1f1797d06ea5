"""A network with several heads through the commands: train, measure, two heads of a task, bad input."""

import json

import pytest
import yaml

from mobilevision.images import read_image
from mobilevision.weights.file import read_weights


@pytest.fixture
def options(setups, tmp_path):
    """The options of the network with a head for each of the three datasets."""
    return lambda *more: setups["multitask"].options(tmp_path, *more)


def test_every_head_is_measured_on_its_own_dataset(trained, options, run, tmp_path):
    weights = trained("multitask") / "checkpoints/weights.safetensors"
    heads = read_weights(weights).card.heads
    assert [head.config["input_size"] for head in heads.values()] == [32, 64, 65]
    assert heads["segmentation"].class_names == ("background", "blue", "red")
    code, out, err = run("validate", *options("--ckpt_path", weights, "--details", "true"))
    assert (code, err) == (0, "")
    assert "validate, 15 images" in out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"score", "top1", "map", "miou"} <= metrics["figures"].keys()
    assert metrics["details"].keys() == heads.keys() == {"classification", "detection", "segmentation"}
    assert "detection/blue" in metrics["per_class"]
    assert "errors" in metrics["details"]["detection"]


def test_two_heads_of_one_task_have_a_dataset_each(setups, run, tmp_path):
    config = setups["multitask"].read_config()
    data = config["data"]["init_args"]
    config["model"]["init_args"]["heads"] = {name: {"task": "detection"} for name in ("cars", "signs")}
    config["data"]["init_args"] = {"datasets": {"cars": setups["detection"].read_config()["data"]}}
    config["data"]["init_args"]["datasets"]["cars"]["init_args"]["input_size"] = 64
    config["data"]["init_args"]["datasets"]["signs"] = data["detection"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    options = ("--config", tmp_path / "config.yaml", "--trainer.default_root_dir", tmp_path)
    code, _, err = run("fit", *options)
    assert (code, err) == (0, "")
    assert list(read_weights(tmp_path / "run_1/checkpoints/weights.safetensors").card.heads) == ["cars", "signs"]
    code, _, err = run("validate", *options, "--ckpt_path", "best")
    assert (code, err) == (0, "")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"score", "cars_map", "signs_map"} <= metrics["figures"].keys()
    assert {"cars/blue", "signs/blue"} <= metrics["per_class"].keys()


def test_a_dry_run_draws_paired_images_with_boxes_and_with_masks(setups, run, tmp_path):
    config = setups["multitask"].read_config()
    del config["data"]["init_args"]["classification"]
    config["data"]["init_args"]["draw"] = "together"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    rows = []
    for paired in ("true", "false"):
        options = ("--data.pair_by_name", paired, "--trainer.default_root_dir", tmp_path)
        code, out, err = run("fit", "--dry-run", "--config", tmp_path / "config.yaml", *options)
        assert (code, err) == (0, "")
        assert "loss of one batch" in out
        rows.append(read_image(tmp_path / "dry_run/train_batch.png").shape[0] // 328)
    # Four drawings in a row: a batch of four with both, twice, and of three each with one; or of four each with one.
    assert rows == [4, 2]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model.heads", "{pose: {}}"), "datasets for classification, detection, segmentation and a head pose"),
        (("--model.heads", "{classification: {}}"), "got heads classification and datasets classification, detection"),
        (("--data.draw", "weight"), "weights must be given with draw weight"),
        (("--data.segmentation.init_args.val_split", "none"), "none.txt"),
    ],
)
def test_bad_input_is_one_line(more, message, setups, run, tmp_path):
    code, out, err = run("fit", *setups["multitask"].options(tmp_path / "runs", *more))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []
