"""Weights of other programs and other classes, through the commands."""

import json

import pytest
import torch
from safetensors import safe_open
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mobilevision.classification import mobilenet_v2
from mobilevision.weights.file import read_weights, save_weights

SIDE = 64


@pytest.fixture
def foreign(tmp_path):
    """A checkpoint of torchvision's, of seven classes."""
    path = tmp_path / "foreign.pth"
    torch.save(torchvision_mobilenet_v2(num_classes=7, width_mult=0.35).state_dict(), path)
    return path


@pytest.fixture
def with_background(tmp_path):
    """Weights of the set's two classes behind a background."""
    path = tmp_path / "background.safetensors"
    network = mobilenet_v2(3, width_mult=0.35, input_size=SIDE, background="first", padding="tf_same")
    save_weights(network, path)
    return path


def test_weights_of_another_class_count_start_a_training_with_one_line_of_what_fits(foreign, setups, run, tmp_path):
    code, out, err = run("fit", *setups["classification"].options(tmp_path / "runs", "--model.weights", foreign))

    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if "loaded" in line]
    assert lines == [f"{foreign}: loaded 314 of 316 tensors; new: 2 classes of 2; ignored: 7 classes of 7"]


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_foreign_backbone_starts_a_training(task, foreign, setups, run, tmp_path):
    arguments = setups[task].options(tmp_path / "runs", "--model.backbone_weights", foreign)

    code, out, err = run("fit", *arguments, "--trainer.limit_train_batches", "1")

    assert (code, err) == (0, "")
    assert f"{foreign}: loaded" in out
    assert "tensors beside the backbone" in out
    card = read_weights(tmp_path / "runs/run_1/checkpoints/weights.safetensors").card
    assert card.options["norm_eps"] == 1e-5


def test_an_option_that_the_weights_contradict_is_refused(foreign, setups, run, tmp_path):
    more = ("--model.backbone_weights", foreign, "--model.padding", "tf_same")

    code, out, err = run("fit", *setups["detection"].options(tmp_path / "runs", *more))

    assert (code, out) == (2, "")
    assert f"{foreign} was trained with padding symmetric, this network has tf_same: set padding to symmetric" in err
    assert not (tmp_path / "runs").exists()


def test_a_detector_and_its_data_have_one_size(setups, run, tmp_path):
    code, _, err = run("fit", *setups["detection"].options(tmp_path / "runs", "--data.input_size", "96"))

    assert code == 2
    assert "data.input_size must be that of the detector, 64, got 96" in err
    assert not (tmp_path / "runs").exists()


def test_what_was_never_trained_is_not_measured(foreign, setups, run, tmp_path):
    code, _, err = run("validate", *setups["classification"].options(tmp_path, "--model.weights", foreign))

    assert code == 2
    assert err.count("\n") == 1
    assert "new: 2 classes of 2; ignored: 7 classes of 7: there is nothing to measure in classes" in err


@pytest.mark.parametrize("option", ["--model.weights", "--ckpt_path"])
def test_a_background_that_the_data_does_not_have_is_left_out(option, with_background, setups, run, tmp_path):
    code, _, err = run("validate", *setups["classification"].options(tmp_path, option, with_background))

    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "metrics.json").read_text())["num_images"] == 5


def test_a_network_goes_back_to_torchvision(foreign, run, tmp_path):
    for name in ("back.safetensors", "back.pth"):
        assert run("import-weights", foreign, "--to", "torchvision", "--output", tmp_path / name).code == 0

    with safe_open(tmp_path / "back.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    theirs = torch.load(foreign, weights_only=True)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in theirs.items())
    again = torch.load(tmp_path / "back.pth", weights_only=True)
    assert all(torch.equal(again[name], tensor) for name, tensor in theirs.items())


def test_a_background_is_where_the_command_says(foreign, run, tmp_path):
    arguments = ["import-weights", foreign, "--background", "last", "--drop-background", "--output", tmp_path / "a.st"]

    assert "num_classes 6" in run(*arguments).out


def test_some_of_a_files_own_classes_are_kept_by_name(run, tmp_path):
    network = mobilenet_v2(3, width_mult=0.35)
    network.class_names = ("cat", "dog", "owl")
    save_weights(network, tmp_path / "three.safetensors")
    (tmp_path / "names.txt").write_text("owl\ncat\n")
    arguments = ["import-weights", tmp_path / "three.safetensors", "--class-names", tmp_path / "names.txt"]

    assert run(*arguments, "--output", tmp_path / "two.safetensors").code == 0

    with safe_open(tmp_path / "two.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("head.linear.weight"), network.head.linear.weight[[2, 0]])
        assert json.loads(file.metadata()["class_names"]) == ["owl", "cat"]


def test_the_networks_and_the_published_weights_are_listed(run):
    code, out, err = run("models")

    assert (code, err) == (0, "")
    assert "ssdlite_mobilenet_v2" in out
    lines = out.splitlines()
    entry = lines.index("mobilenet_v2_torchvision_v2")
    assert (
        lines[entry + 1] == "  classification, 3,504,872 parameters, 300.77 M multiply-adds, size 13.6 MB, BSD-3-Clause"
    )
    assert lines[entry + 2].endswith(
        "published: ImageNet top-1 72.154, top-5 90.822 (torchvision, MobileNet_V2_Weights); measured: -"
    )
