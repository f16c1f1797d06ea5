"""Wrong masks and lists of classes, through the command line: one line each, and exit code 2."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image


@pytest.fixture
def validate(setups, run, tmp_path):
    """Copy the set, let a function break it, and measure on it."""

    def validate(damage, **data_options):
        root = tmp_path / "data"
        shutil.copytree(setups["segmentation"].root, root)
        damage(root)
        config = yaml.safe_load(setups["segmentation"].config.read_text())
        config["data"]["init_args"].update(root=str(root), **data_options)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        return root, run(
            "validate", "--config", tmp_path / "config.yaml", "--trainer.default_root_dir", tmp_path / "runs"
        )

    return validate


def replace_mask(pixels):
    return lambda root: Image.fromarray(pixels.astype(np.uint8)).save(root / "SegmentationClass" / "val_0.png")


def error_of(outcome):
    """The one line that is no warning."""
    assert outcome.code == 2
    (line,) = [line for line in outcome.err.splitlines() if not line.startswith("mobilevision: warning: neither")]
    return line


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            np.zeros((10, 20)),
            "{root}/SegmentationClass/val_0.png must be as large as {root}/JPEGImages/val_0.jpg, 72x80",
        ),
        (np.zeros((80, 72, 3)), "got mode RGB: replace each colour by its class"),
        (
            np.full((80, 72), 3),
            "{root}/SegmentationClass/val_0.png must hold classes 0 to 2 and 255, got 3 (5760 pixels)",
        ),
    ],
)
def test_a_mask_that_is_none_is_told_on_one_line(validate, pixels, message):
    root, outcome = validate(replace_mask(pixels))
    assert message.format(root=root) in error_of(outcome)


def test_a_split_that_names_missing_pictures_lists_them_all(validate):
    def remove(root):
        for index in range(4):
            (root / "JPEGImages" / f"val_{index}.jpg").unlink()

    root, outcome = validate(remove)
    missing = ", ".join(f"{root}/JPEGImages/val_{index}.jpg" for index in range(4))
    expected = f"mobilevision: error: {root}/ImageSets/Segmentation/val.txt: 4 pictures missing: {missing}"
    assert error_of(outcome) == expected


def test_a_list_of_classes_of_another_length_than_the_head_is_told(validate):
    _, outcome = validate(lambda root: None, classes=["background", "blue", "red", "green"])
    assert "the data has 4 classes (background, blue, red, ...), the network has 3" in error_of(outcome)


def test_folders_with_a_table_of_colours_are_measured_by_the_protocol_that_is_named(setups, run, tmp_path):
    source = setups["segmentation"].root
    colors = np.array([[0, 0, 0], [0, 0, 200], [200, 0, 0]], np.uint8)
    for folder in ("images", "masks"):
        (tmp_path / "set" / folder / "val").mkdir(parents=True)
    for path in (source / "JPEGImages").glob("val_*.jpg"):
        shutil.copy(path, tmp_path / "set" / "images" / "val")
        mask = np.array(Image.open(source / "SegmentationClass" / f"{path.stem}.png"))
        Image.fromarray(colors[mask]).save(tmp_path / "set" / "masks" / "val" / f"{path.stem}.png")
    (tmp_path / "classes.csv").write_text("name,r,g,b\nbackground,0,0,0\nblue,0,0,200\nred,200,0,0\n")
    config = yaml.safe_load(setups["segmentation"].config.read_text())
    config["data"] = {
        "class_path": "MaskFolderDataModule",
        "init_args": {
            "root": str(tmp_path / "set"),
            "class_table": str(tmp_path / "classes.csv"),
            "input_size": 64,
            "eval_protocol": "centre_crop",
            "num_workers": 0,
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    options = ("--model.eval_scales", "[0.5, 1]", "--model.eval_flip", "true", "--model.eval_output_stride", "8")
    outcome = run("validate", "--config", tmp_path / "config.yaml", *options, "--output", tmp_path / "metrics.json")
    assert outcome.code == 0
    written = json.loads((tmp_path / "metrics.json").read_text())
    name = "centre crop 64, output stride 8, scales 0.5 1, flipped"
    assert written["details"]["protocol"]["name"] == name
    assert list(written["per_class"]) == ["background", "blue", "red"]
    assert set(written["per_class"]["red"]) == {"iou", "boundary_f"}
    assert set(written["figures"]) == {"loss", "miou", "miou_voc", "pixel_accuracy", "boundary_f"}
