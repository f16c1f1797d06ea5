"""``score`` through the command line: the official protocols on anybody's results."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mobilevision.detection.metrics import FIGURES


def random_detections(truth, rng, *, per_image):
    """Boxes around the true ones and anywhere, with tied scores, some in no image and some images with far too many."""
    rows = []
    for index, image in enumerate(truth["images"]):
        own = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
        for _ in range(0 if index % 7 == 0 else per_image):
            if own and rng.uniform() < 0.6:
                target = own[rng.integers(len(own))]
                box = (np.array(target["bbox"]) + rng.normal(0, 6, 4)).tolist()
                category = target["category_id"] if rng.uniform() < 0.8 else truth["categories"][0]["id"]
            else:
                box = (rng.uniform(0, 300, 4)).tolist()
                category = truth["categories"][rng.integers(len(truth["categories"]))]["id"]
            box[2:] = [max(1.0, side) for side in box[2:]]
            score = round(float(rng.uniform()), 1)
            rows.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": score})
    return rows


def pycocotools_figures(annotations, detections):
    truth = COCO(str(annotations))
    evaluation = COCOeval(truth, truth.loadRes(str(detections)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(FIGURES, evaluation.stats.tolist(), strict=True))


@pytest.mark.parametrize("per_image", [5, 130])
def test_real_annotations_with_crowds_score_as_pycocotools_does(per_image, shared, run, tmp_path):
    annotations = shared / "data/coco-mini/annotations/instances_val2017.json"
    truth = json.loads(annotations.read_text())
    assert any(row["iscrowd"] for row in truth["annotations"])
    detections = tmp_path / "detections.json"
    detections.write_text(json.dumps(random_detections(truth, np.random.default_rng(0), per_image=per_image)))
    options = ("--annotations", annotations, "--predictions", detections, "--json", tmp_path / "figures.json")
    code, out, err = run("score", "coco", *options)
    assert (code, err) == (0, "")
    assert "map_50" in out
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written.keys() == set(FIGURES)
    assert written == pytest.approx(pycocotools_figures(annotations, detections), abs=1e-6)


def test_no_detections_at_all_score_nothing(shared, run, tmp_path):
    annotations = shared / "data/coco-mini/annotations/instances_val2017.json"
    (tmp_path / "none.json").write_text("[]")
    options = ("--annotations", annotations, "--predictions", tmp_path / "none.json")
    assert run("score", "coco", *options, "--json", tmp_path / "figures.json").code == 0
    assert json.loads((tmp_path / "figures.json").read_text())["map"] == 0


def test_the_truth_itself_scores_one_as_voc(setups, run, tmp_path):
    root = setups["segmentation"].root
    # The little set has three of VOC's classes; the others are absent and have no figure.
    options = ("--root", root, "--split", "val", "--predictions", root / "SegmentationClass")
    code, _, err = run("score", "voc", *options, "--json", tmp_path / "figures.json")
    assert (code, err) == (0, "")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert (written["miou"], written["pixel_accuracy"]) == (1.0, 1.0)
    assert written["iou/sheep"] is None


def test_predictions_that_do_not_fit_are_one_line(setups, run, tmp_path):
    root = setups["segmentation"].root
    for name in ("val_0", "val_1", "val_3", "val_4"):
        Image.fromarray(np.zeros((80, 72), np.uint8)).save(tmp_path / f"{name}.png")
    options = ("--root", root, "--split", "val", "--predictions", tmp_path, "--json", tmp_path / "figures.json")
    code, out, err = run("score", "voc", *options)
    assert (code, out) == (2, "")
    assert "val_2.png" in err
    Image.fromarray(np.zeros((80, 70), np.uint8)).save(tmp_path / "val_2.png")
    code, out, err = run("score", "voc", *options)
    assert (code, out) == (2, "")
    assert "must be as large as" in err
    assert not (tmp_path / "figures.json").exists()


@pytest.fixture
def files(tmp_path):
    """An annotation file of one object and a result file that finds it but calls it another."""
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


def test_without_being_asked_for_no_file_is_written(files, run, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert run("score", *files).code == 0
    assert sorted(tmp_path.iterdir()) == before
