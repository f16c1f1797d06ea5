"""The joint network through the real command: train, measure, predict, take apart and put together."""

import json

import pytest
import torch
import yaml
from PIL import Image

from mobilevision import get_model, load_model, save_weights
from mobilevision.demo.datasets import write_datasets
from mobilevision.demo.scenes import CLASS_NAMES
from mobilevision.images import read_image

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* class folders of", "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"
)

SIDE = 64


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multitask")
    layouts = write_datasets(folder / "data", num_train=16, num_val=12)
    loading = {"batch_size": 4, "num_workers": 0}
    rooms = {
        "classification": ("classification.datamodule.ImageNetDataModule", layouts.classification, 32, {}),
        "detection": ("detection.datamodule.CocoDataModule", layouts.coco, SIDE, {}),
        "segmentation": (
            "segmentation.datamodule.VocDataModule",
            layouts.voc,
            SIDE + 1,
            {"train_split": "train", "classes": ["background", *CLASS_NAMES]},
        ),
    }
    heads = {
        "classification": {"num_classes": 6},
        "detection": {"num_classes": 6, "input_size": SIDE},
        "segmentation": {"num_classes": 7, "input_size": SIDE + 1},
    }
    path = folder / "config.yaml"
    text = {
        "model": {
            "class_path": "mobilevision.multitask.task.MultiTaskTask",
            "init_args": {"heads": heads, "width_mult": 0.1},
        },
        "data": {
            "class_path": "mobilevision.multitask.datamodule.MultiTaskDataModule",
            "init_args": {
                task: {
                    "class_path": f"mobilevision.{module}",
                    "init_args": {"root": str(root), "input_size": size, **loading, **options},
                }
                for task, (module, root, size, options) in rooms.items()
            },
        },
        "trainer": {
            "max_epochs": 1,
            "accelerator": "cpu",
            "devices": 1,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
        },
    }
    path.write_text(yaml.safe_dump(text))
    return path


@pytest.mark.parametrize("paired", ["false", "true"])
def test_it_trains_is_measured_and_resumes(run, config, tmp_path, paired):
    pairing = ("--data.pair_by_name", paired)
    code, out, err = run("fit", "--config", config, "--trainer.default_root_dir", tmp_path, *pairing)
    assert code == 0, err
    assert "score" in out
    checkpoint = tmp_path / "run_1/checkpoints/last.ckpt"
    code, _, err = run("validate", "--config", config, "--ckpt_path", checkpoint, "--output", tmp_path / "metrics.json")
    assert code == 0, err
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"score", "top1", "map", "miou"} <= metrics["figures"].keys()
    assert set(metrics["details"]) == {"classification", "detection", "segmentation"}
    code, _, err = run(
        "fit",
        "--config",
        config,
        "--trainer.default_root_dir",
        tmp_path,
        "--ckpt_path",
        "last",
        "--trainer.max_epochs",
        "2",
        *pairing,
    )
    assert code == 0, err
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 1
    assert set(load_model(tmp_path / "run_1/checkpoints/weights.safetensors").members) == set(metrics["details"])


def test_a_dry_run_draws_the_batch_of_the_task_whose_turn_it_is(run, config, tmp_path):
    code, out, err = run("fit", "--dry-run", "--config", config, "--trainer.default_root_dir", tmp_path)
    assert code == 0, err
    assert read_image(tmp_path / "dry_run/train_batch.png").size
    assert "loss of one batch" in out


def test_a_dry_run_draws_paired_pictures_with_boxes_and_with_masks(run, config, tmp_path):
    text = yaml.safe_load(config.read_text())
    del text["model"]["init_args"]["heads"]["classification"], text["data"]["init_args"]["classification"]
    (tmp_path / "paired.yaml").write_text(yaml.safe_dump(text))
    heights = []
    for paired in ("true", "false"):
        options = ("--data.pair_by_name", paired, "--trainer.default_root_dir", tmp_path)
        code, _, err = run("fit", "--dry-run", "--config", tmp_path / "paired.yaml", *options)
        assert code == 0, err
        heights.append(read_image(tmp_path / "dry_run/train_batch.png").shape[0])
    # Four pictures of one batch fill a row; paired, each is drawn twice.
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.05)


@pytest.fixture(scope="module")
def joint_file(tmp_path_factory):
    heads = {"detection": {"num_classes": 3, "input_size": 96}, "classification": {"num_classes": 4}}
    network = get_model("multitask_mobilenet_v2", heads={**heads, "segmentation": {"num_classes": 5}}, width_mult=0.1)
    path = tmp_path_factory.mktemp("joint") / "joint.safetensors"
    save_weights(network, path)
    return path


def test_predict_gives_three_answers_in_one_picture_and_one_json(run, joint_file, tmp_path, picture):
    options = ("--model", "multitask_mobilenet_v2", "--weights", joint_file, "--output", tmp_path)
    code, _, err = run("predict", picture, *options)
    assert code == 0, err
    (line,) = map(json.loads, (tmp_path / "predictions.jsonl").read_text().splitlines())
    assert line["task"] == "multitask"
    assert line["classification"]["pred_class"] in "0123"
    assert sum(each["share"] for each in line["segmentation"]["segments"]) == pytest.approx(1)
    assert "objects" in line["detection"]
    height, width = read_image(picture).shape[:2]
    assert read_image(tmp_path / line["mask"]).shape[:2] == (height, width)
    assert read_image(tmp_path / line["drawing"]).size


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "street.png"
    Image.effect_noise((120, 80), 60).convert("RGB").save(path)
    return path


def test_it_comes_apart_and_is_put_together_again(run, joint_file, tmp_path):
    code, _, err = run("split-weights", joint_file, "--output", tmp_path)
    assert code == 0, err
    parts = [
        word for task in ("classification", "detection") for word in (f"--{task}", tmp_path / f"{task}.safetensors")
    ]
    code, out, err = run("combine-weights", *parts, "--output", tmp_path / "again.safetensors")
    assert code == 0, err
    assert "classification, detection on the backbone for classification" in out
    first, again = load_model(joint_file), load_model(tmp_path / "again.safetensors")
    assert list(again.members) == ["classification", "detection"]
    tensors = first.state_dict()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in again.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("combine-weights", "--detection", "{detector}"), "two or more of --classification, --detection, --segmentat"),
        (
            ("combine-weights", "--detection", "{detector}", "--segmentation", "{wide}"),
            "must have one width_mult, got 0.1",
        ),
        (("split-weights", "{detector}"), "expected weights of multitask_mobilenet_v2, got ssdlite_mobilenet_v2"),
        (
            ("predict", ".", "--model", "deeplabv3_mobilenet_v2", "--weights", "{two}"),
            "weights with a head for segmentation",
        ),
    ],
)
def test_what_cannot_be_combined_is_said_in_one_line(run, tmp_path, arguments, message):
    detector = get_model("ssdlite_mobilenet_v2", num_classes=2, width_mult=0.1)
    joint = get_model("multitask_mobilenet_v2", heads=("classification", "detection"), width_mult=0.1)
    made = {"detector": detector, "wide": get_model("deeplabv3_mobilenet_v2", width_mult=0.2), "two": joint}
    for name, network in made.items():
        save_weights(network, tmp_path / f"{name}.safetensors")
    paths = {name: tmp_path / f"{name}.safetensors" for name in made}
    (tmp_path / "picture.png").touch()
    code, _, err = run(*(argument.format(**paths) for argument in arguments))
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model.heads", "{pose: {}}"), "heads must be among classification, detection, segmentation, got pose"),
        (("--data.draw", "weight"), "weights must be given with draw weight"),
        (("--data.segmentation.init_args.val_split", "none"), "none.txt"),
    ],
)
def test_bad_input_is_said_in_one_line(run, config, tmp_path, options, message):
    code, _, err = run("fit", "--config", config, "--trainer.default_root_dir", tmp_path / "runs", *options)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("paired", ["false", "true"])
def test_two_processes_draw_the_same_turns_and_measure_what_one_does(start, config, tmp_path, paired):
    options = ["--config", config, "--trainer.default_root_dir", tmp_path, "--data.pair_by_name", paired]
    strategy = ["--trainer.devices", 2, "--trainer.strategy", "ddp_find_unused_parameters_true"]
    trained = start("fit", *options, *strategy, "--trainer.max_epochs", 2)
    assert trained.returncode == 0, trained.stderr
    options += ["--ckpt_path", tmp_path / "run_1/checkpoints/last.ckpt"]
    for name, more in (("one", []), ("two", strategy)):
        measured = start("validate", *options, *more, "--output", tmp_path / f"{name}.json")
        assert measured.returncode == 0, measured.stderr
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert one["figures"] == two["figures"]
    assert one["per_class"] == two["per_class"]


@pytest.mark.slow
def test_several_processes_are_told_that_a_step_has_parameters_without_gradients(start, config, tmp_path):
    options = ["--config", config, "--trainer.default_root_dir", tmp_path]
    ended = start("fit", *options, "--trainer.devices", 2, "--trainer.strategy", "ddp")
    assert ended.returncode == 2
    assert "trainer.strategy must be ddp_find_unused_parameters_true" in ended.stderr
