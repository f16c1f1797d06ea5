"""``validate`` and ``test``: figures of the split that each is named after, and the file that they go to."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from mobilevision import get_model, save_weights
from mobilevision.weights.file import read_weights

FIGURES = {"classification": "top1", "detection": "map", "segmentation": "miou"}
ANALYSIS = {
    "classification": {"confusions"},
    "detection": {"precision_recall", "confusion", "errors"},
    "segmentation": {"confusion"},
}


def read_figures(path):
    return json.loads(path.read_text())["figures"]


@pytest.fixture
def options(setups, weights_of, tmp_path):
    """The options to evaluate the network that a run of a task has trained, with all files in the test's folder."""
    return lambda task, *more: setups[task].options(tmp_path, "--ckpt_path", weights_of(task), *more)


@pytest.mark.parametrize("task", FIGURES)
def test_validate_prints_the_figures_and_writes_them_with_what_they_come_from(task, options, weights_of, run, tmp_path):
    arguments = ["validate", *options(task)]
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert FIGURES[task] in out
    assert "blue" in out
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert set(written) == {"figures", "per_class", "num_images", "details", "weights", "command", "versions"}
    assert written["num_images"] == 5
    assert not written["details"].keys() & ANALYSIS[task]
    assert list(written["per_class"])[-2:] == ["blue", "red"]
    digest = hashlib.sha256(weights_of(task).read_bytes()).hexdigest()
    assert written["weights"] == {"path": str(weights_of(task)), "sha256": digest}
    assert written["command"] == ["mobilevision", *arguments]
    assert set(written["versions"]) == {"mobilevision", "torch", "torchvision", "lightning", "torchmetrics", "python"}


@pytest.mark.parametrize("task", FIGURES)
def test_errors_are_analyzed_when_that_is_asked_for(task, options, run, tmp_path):
    assert run("validate", *options(task, "--details", "true")).code == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["details"].keys() >= ANALYSIS[task]


@pytest.mark.parametrize("task", FIGURES)
def test_test_measures_the_test_split_in_a_file_of_its_own(task, options, write_dataset, run, tmp_path):
    root = write_dataset(task, tmp_path / "data", train=8, val=5, test=3)
    assert run("validate", *options(task, "--data.root", root)).code == 0
    validated = (tmp_path / "metrics.json").read_bytes()
    code, out, err = run("test", *options(task, "--data.root", root))
    assert (code, err) == (0, "")
    assert "test, 3 images" in out
    assert json.loads((tmp_path / "metrics_test.json").read_text())["num_images"] == 3
    assert (tmp_path / "metrics.json").read_bytes() == validated


@pytest.mark.parametrize(
    ("task", "place"),
    [
        ("classification", "test/CLASS/IMAGE"),
        ("detection", "instances_test"),
        ("segmentation", "ImageSets/Segmentation/test.txt"),
    ],
)
def test_a_dataset_without_a_test_split_is_not_tested(task, place, options, run, tmp_path):
    code, out, err = run("test", *options(task))
    assert (code, out, err.count("\n")) == (2, "", 1)
    for part in ("has no test split", place, "mobilevision validate measures the validation split"):
        assert part in err
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_and_weights_have_the_figures_of_the_training(trained, run, tmp_path):
    folder = trained("segmentation")
    measured = read_weights(folder / "checkpoints/weights.safetensors").card.provenance["measured"]
    for options in (
        ("--ckpt_path", folder / "checkpoints/best.ckpt"),
        ("--model.pretrained", folder / "checkpoints/weights.safetensors"),
    ):
        output = tmp_path / "figures.json"
        assert run("validate", "--config", folder / "config.yaml", *options, "--output", output).code == 0
        assert f"val/miou {read_figures(output)['miou']:.4f}" == measured
        assert json.loads(output.read_text())["weights"]["path"] == str(options[1])


@pytest.mark.parametrize("option", ["--model.pretrained", "--ckpt_path"])
def test_a_background_that_the_data_does_not_have_is_left_out(option, setups, run, tmp_path):
    weights = tmp_path / "background.safetensors"
    options = {"width_mult": 0.1, "input_size": 64, "background": "first", "padding": "tf_same"}
    save_weights(get_model("mobilenet_v2", num_classes=3, **options), weights)
    code, _, err = run("validate", *setups["classification"].options(tmp_path, option, weights))
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "metrics.json").read_text())["num_images"] == 5


def test_a_class_without_images_has_no_figure_and_null_in_the_file(setups, run, tmp_path):
    (tmp_path / "classes.txt").write_text("blue\nred\ngreen\n")
    more = ("--data.class_list", tmp_path / "classes.txt")
    code, out, err = run("validate", *setups["classification"].options(tmp_path, *more))
    assert code == 0
    assert err.startswith("mobilevision: warning: neither --ckpt_path nor --model.pretrained is given")
    assert json.loads((tmp_path / "metrics.json").read_text())["per_class"]["green"] == {"top1": None}
    assert next(line for line in out.splitlines() if "green" in line).split()[3] == "-"


def test_folders_with_a_table_of_colors_are_measured_by_the_protocol_that_is_named(setups, run, tmp_path):
    source = setups["segmentation"].root
    colors = np.array([[0, 0, 0], [0, 0, 200], [200, 0, 0]], np.uint8)
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder / "val").mkdir(parents=True)
    for path in (source / "JPEGImages").glob("val_*.jpg"):
        shutil.copy(path, tmp_path / "data/images/val")
        mask = np.array(Image.open(source / "SegmentationClass" / f"{path.stem}.png"))
        Image.fromarray(colors[mask]).save(tmp_path / "data/masks/val" / f"{path.stem}.png")
    (tmp_path / "classes.csv").write_text("name,r,g,b\nbackground,0,0,0\nblue,0,0,200\nred,200,0,0\n")
    config = setups["segmentation"].read_config()
    options = {"root": str(tmp_path / "data"), "class_table": str(tmp_path / "classes.csv")}
    config["data"] = {
        "class_path": "MaskFolderDataModule",
        "init_args": {**options, "eval_protocol": "centre_crop", "num_workers": 0},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    scales = ("--model.eval_scales", "[0.5, 1]", "--model.eval_flip", "true", "--model.eval_output_stride", "8")
    outcome = run("validate", "--config", tmp_path / "config.yaml", *scales, "--output", tmp_path / "metrics.json")
    assert outcome.code == 0
    written = json.loads((tmp_path / "metrics.json").read_text())
    name = "centre crop 64, output stride 8, scales 0.5 1, flipped"
    assert written["details"]["protocol"]["name"] == name
    assert list(written["per_class"]) == ["background", "blue", "red"]
    assert set(written["per_class"]["red"]) == {"iou", "boundary_f"}
    assert set(written["figures"]) == {"loss", "miou", "miou_voc", "pixel_accuracy", "boundary_f"}
