"""``score`` on the command line."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def files(tmp_path):
    """Options: an annotation file of one object, and a result file that finds it with the wrong class."""
    truth = {
        "images": [{"id": 3, "height": 50, "width": 50}],
        "categories": [{"id": 1, "name": "boat"}, {"id": 2, "name": "kite"}],
        "annotations": [{"id": 1, "image_id": 3, "category_id": 1, "bbox": [0, 0, 20, 20], "area": 400, "iscrowd": 0}],
    }
    found = [{"image_id": 3, "category_id": 2, "bbox": [0, 0, 20, 20], "score": 0.9}]
    for name, data in (("truth.json", truth), ("found.json", found)):
        (tmp_path / name).write_text(json.dumps(data))
    return ["coco", "--annotations", tmp_path / "truth.json", "--predictions", tmp_path / "found.json"]


def test_the_figures_go_to_one_file_and_the_details_to_another(files, run, tmp_path):
    outcome = run("score", *files, "--json", tmp_path / "figures.json", "--details", tmp_path / "details.json")
    assert (outcome.code, outcome.err) == (0, "")
    assert "map_50" in outcome.out
    figures, details = (json.loads((tmp_path / name).read_text()) for name in ("figures.json", "details.json"))
    assert len(figures) == 12
    assert figures["map"] == 0.0
    assert details["confusion"]["counts"] == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert details["errors"]["kinds"]["classification"] == {"count": 1, "lost_map_50": 1.0}


def test_without_options_for_files_none_is_written(files, run, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert run("score", *files).code == 0
    assert sorted(tmp_path.iterdir()) == before


def test_the_ground_truth_itself_scores_one_as_voc(setups, run, tmp_path):
    root = setups["segmentation"].root
    options = ("--root", root, "--split", "val", "--predictions", root / "SegmentationClass")
    code, _, err = run("score", "voc", *options, "--json", tmp_path / "figures.json")
    assert (code, err) == (0, "")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert (written["miou"], written["pixel_accuracy"]) == (1.0, 1.0)
    # The dataset has three of VOC's classes; the others have no figure.
    assert written["iou/sheep"] is None


def test_missing_and_mismatched_masks_are_one_line(setups, run, tmp_path):
    root = setups["segmentation"].root
    for name in ("val_0", "val_1", "val_3", "val_4"):
        Image.fromarray(np.zeros((80, 72), np.uint8)).save(tmp_path / f"{name}.png")
    options = ("--root", root, "--split", "val", "--predictions", tmp_path, "--json", tmp_path / "figures.json")
    code, out, err = run("score", "voc", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "val_2.png" in err
    Image.fromarray(np.zeros((80, 70), np.uint8)).save(tmp_path / "val_2.png")
    code, out, err = run("score", "voc", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "must be as large as" in err
    assert not (tmp_path / "figures.json").exists()
