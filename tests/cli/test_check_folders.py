"""``check-data`` on folders of masks and of classes, which it knows by the options or by what is there."""

import json

import numpy as np
import pytest
from PIL import Image

NAMES = ("ground", "tree", "bench")


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


@pytest.fixture
def park(tmp_path):
    """Three splits of two images with masks each."""
    for number, split in enumerate(("train", "val", "test")):
        for index in range(2):
            write(tmp_path / f"park/images/{split}/{index}.jpg", np.full((6, 9, 3), 40 * number + 20 * index))
            write(tmp_path / f"park/masks/{split}/{index}.png", np.tile([0, 1, 2], (6, 3)))
    return tmp_path / "park"


@pytest.fixture
def check(run, tmp_path):
    """Check a folder, and return outcome and report."""

    def check(root, *options):
        report = tmp_path / "report.json"
        outcome = run("check-data", "--root", root, "--sheet", tmp_path / "sheet.png", "--json", report, *options)
        return outcome, json.loads(report.read_text()) if outcome.code < 2 else None

    return check


@pytest.mark.parametrize(
    "options",
    [
        ("--train-masks", "masks/train", "--val-masks", "masks/val", "--train-images", "images/train"),
        ("--val-images", "images/val"),
        (),
    ],
)
def test_folders_of_masks_are_known_by_the_options(park, check, options):
    outcome, report = check(park, "--classes", *NAMES, *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert report["format"] == "masks"
    assert list(report["splits"]) == ["train", "val", "test"]
    assert report["splits"]["test"]["num_pairs"] == 2


def test_folders_of_masks_are_known_by_their_names(park, check):
    outcome, _ = check(park)
    assert outcome.code == 2
    assert "--classes or --class-table must say the classes of the masks" in outcome.err


def test_vocs_test_list_is_checked_too(check, tmp_path):
    for split in ("train", "test"):
        write(tmp_path / f"voc/JPEGImages/{split}.jpg", np.full((6, 9, 3), 90))
        write(tmp_path / f"voc/SegmentationClass/{split}.png", np.tile([0, 1, 2], (6, 3)))
        (tmp_path / "voc/ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"voc/ImageSets/Segmentation/{split}.txt").write_text(split)
    outcome, report = check(tmp_path / "voc", "--classes", *NAMES)
    assert (outcome.code, report["format"], list(report["splits"])) == (0, "voc-masks", ["train", "test"])


def test_class_folders_are_counted_and_what_is_wrong_is_told(check, tmp_path):
    for number, name in enumerate(("train/cat/0", "train/cat/1", "train/dog/0", "val/cat/0", "test/cat/0")):
        write(tmp_path / f"pets/{name}.png", np.full((6, 9, 3), 40 * number))
    outcome, report = check(tmp_path / "pets")
    assert (outcome.code, report["format"]) == (0, "class-folders")
    assert report["splits"]["train"] == {"images": 3, "classes": {"cat": 2, "dog": 1}}
    assert [finding["message"] for finding in report["findings"]] == ["no image is of dog"] * 2
    write(tmp_path / "pets/val/cat/1.png", np.full((6, 9, 3), 0))
    (tmp_path / "pets/train/dog/1.png").write_bytes(b"no image")
    outcome, report = check(tmp_path / "pets")
    assert outcome.code == 1
    assert {finding["kind"] for finding in report["findings"]} == {"absent classes", "in two splits", "undecodable"}


@pytest.mark.parametrize("name", ["empty", "val/cow"])
def test_folders_without_a_known_layout_end_with_2(check, tmp_path, name):
    write(tmp_path / "pets/train/cat/0.png", np.zeros((6, 9, 3)))
    write(tmp_path / "pets/val/cow/0.png", np.zeros((6, 9, 3)))
    (tmp_path / "empty").mkdir()
    outcome, _ = check(tmp_path / name.split("/")[0] if name == "empty" else tmp_path / "pets")
    assert outcome.code == 2
    assert name in outcome.err
    assert len(outcome.err.splitlines()) == 1
