import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mobilevision.detection.metrics import FIGURES
from mobilevision.scoring import score_coco, score_coco_in_detail


def score_with_pycocotools(annotations, predictions):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        # It cannot read an empty list.
        found = truth.loadRes(str(predictions)) if json.loads(predictions.read_text()) else COCO()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(FIGURES, evaluation.stats.tolist(), strict=True))


def write(path, data):
    path.write_text(json.dumps(data))
    return path


def make_truth(rng, *, num_images=13, num_categories=4, max_objects=12, whole_pixels=False):
    images = [{"id": int(i)} for i in rng.permutation(1000)[:num_images]]
    categories = [{"id": int(i), "name": f"class {i}"} for i in rng.permutation(90)[:num_categories]]
    annotations = []
    for image in images[1:]:  # the first has no objects
        for _ in range(rng.integers(max_objects)):
            box = rng.uniform((0, 0, 1, 1), (300, 300, 200, 200))
            box = np.round(box / 10) * 10 + (0, 0, 10, 10) if whole_pixels else box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": categories[rng.integers(num_categories)]["id"],
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3] * rng.uniform(0.3, 1)),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
    return {"images": images, "annotations": annotations, "categories": categories}


def find_nearly(rng, truth, *, num_scores=None, whole_pixels=False):
    """Detect every object about three times, more or less well."""
    detections = []
    for annotation in truth["annotations"] * 3:
        box = np.array(annotation["bbox"], dtype=np.float64)
        box += np.round(rng.normal(0, 1, 4)) * 10 if whole_pixels else rng.normal(0, 0.1, 4) * box[[2, 3, 2, 3]]
        other = truth["categories"][rng.integers(len(truth["categories"]))]["id"]
        score = rng.random() if num_scores is None else rng.integers(num_scores) / num_scores
        detections.append(
            {
                "image_id": annotation["image_id"],
                "category_id": annotation["category_id"] if rng.random() < 0.8 else other,
                "bbox": np.maximum(box, (0, 0, 1, 1)).tolist(),
                "score": float(score),
            }
        )
    rng.shuffle(detections)
    return detections


def guess(rng, truth, *, per_image):
    return [
        {
            "image_id": image["id"],
            "category_id": truth["categories"][rng.integers(len(truth["categories"]))]["id"],
            "bbox": rng.uniform((0, 0, 1, 1), (300, 300, 200, 200)).tolist(),
            "score": rng.random(),
        }
        for image in truth["images"]
        for _ in range(per_image)
    ]


def assert_equal_to_pycocotools(tmp_path, truth, detections):
    annotations = truth if not isinstance(truth, dict) else write(tmp_path / "truth.json", truth)
    predictions = write(tmp_path / "found.json", detections)
    figures = score_coco(annotations, predictions)
    assert figures == pytest.approx(score_with_pycocotools(annotations, predictions), abs=1e-6)
    assert list(figures) == list(FIGURES)
    return figures


@pytest.mark.parametrize("seed", range(5))
def test_random_detections_score_as_in_pycocotools(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth = make_truth(rng)
    figures = assert_equal_to_pycocotools(tmp_path, truth, find_nearly(rng, truth))
    assert 0.05 < figures["map"] < 0.95


@pytest.mark.parametrize("seed", range(5))
def test_tied_scores_and_overlaps_at_the_thresholds_score_as_in_pycocotools(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth = make_truth(rng, num_images=40, whole_pixels=True)
    detections = find_nearly(rng, truth, num_scores=3, whole_pixels=True)
    assert_equal_to_pycocotools(tmp_path, truth, detections)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    num_images=st.integers(1, 6),
    num_categories=st.integers(1, 3),
    per_image=st.sampled_from([0, 1, 20, 130]),
    num_scores=st.sampled_from([None, 1, 4]),
    whole_pixels=st.booleans(),
)
def test_any_set_scores_as_in_pycocotools(
    *, tmp_path, seed, num_images, num_categories, per_image, num_scores, whole_pixels
):
    rng = np.random.default_rng(seed)
    truth = make_truth(rng, num_images=num_images, num_categories=num_categories, whole_pixels=whole_pixels)
    found = find_nearly(rng, truth, num_scores=num_scores, whole_pixels=whole_pixels)
    assert_equal_to_pycocotools(tmp_path, truth, found + guess(rng, truth, per_image=per_image))


def test_more_than_a_hundred_detections_per_image_score_as_in_pycocotools(tmp_path):
    rng = np.random.default_rng(0)
    truth = make_truth(rng, num_categories=1)
    detections = find_nearly(rng, truth) + guess(rng, truth, per_image=150)
    assert_equal_to_pycocotools(tmp_path, truth, detections)


def test_detections_on_real_annotations_with_crowds_score_as_in_pycocotools(tmp_path, shared):
    path = shared / "data/coco-mini/annotations/instances_val2017.json"
    truth = json.loads(path.read_text())
    assert any(annotation["iscrowd"] for annotation in truth["annotations"])
    figures = assert_equal_to_pycocotools(tmp_path, path, find_nearly(np.random.default_rng(0), truth, num_scores=20))
    assert min(figures.values()) > 0.05


def test_the_truth_itself_scores_one(tmp_path):
    truth = make_truth(np.random.default_rng(0))
    truth["annotations"] = [annotation | {"iscrowd": 0} for annotation in truth["annotations"]]
    figures = score_coco(
        write(tmp_path / "truth.json", truth),
        write(tmp_path / "found.json", [annotation | {"score": 1.0} for annotation in truth["annotations"]]),
    )
    assert figures["map"] == 1.0


def test_an_object_of_no_area_counts_as_small(tmp_path):
    truth = make_truth(np.random.default_rng(0))
    truth["annotations"][0] |= {"area": 0, "bbox": [10, 10, 300, 300], "iscrowd": 0}
    found = find_nearly(np.random.default_rng(0), truth)
    assert_equal_to_pycocotools(tmp_path, truth, found)


def test_a_set_of_crowds_only_has_nothing_to_measure(tmp_path):
    truth = make_truth(np.random.default_rng(0))
    truth["annotations"] = [annotation | {"iscrowd": 1} for annotation in truth["annotations"]]
    figures = assert_equal_to_pycocotools(tmp_path, truth, find_nearly(np.random.default_rng(0), truth))
    assert set(figures.values()) == {-1.0}


def test_a_set_without_annotations_has_nothing_to_measure(tmp_path):
    rng = np.random.default_rng(0)
    truth = make_truth(rng) | {"annotations": []}
    figures = assert_equal_to_pycocotools(tmp_path, truth, guess(rng, truth, per_image=2))
    assert set(figures.values()) == {-1.0}


def test_no_detections_at_all_score_zero(tmp_path):
    truth = make_truth(np.random.default_rng(0))
    figures = score_coco(write(tmp_path / "truth.json", truth), write(tmp_path / "found.json", []))
    assert set(figures.values()) == {0.0}


def test_detections_of_unknown_categories_do_not_count_and_are_said(tmp_path):
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    found = find_nearly(rng, truth)
    stray = guess(rng, truth, per_image=1)
    for detection in stray:
        detection["category_id"] = 1000
    with pytest.warns(UserWarning, match="13 of .* detections are of categories that"):
        assert_equal_to_pycocotools(tmp_path, truth, found + stray)


def test_an_annotation_of_id_0_counts_and_the_difference_to_pycocotools_is_said(tmp_path):
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    found = find_nearly(rng, truth)
    expected = assert_equal_to_pycocotools(tmp_path, truth, found)
    for annotation in truth["annotations"]:
        annotation["id"] -= 1
    with pytest.warns(UserWarning, match="annotation of id 0 for a false alarm"):
        figures = score_coco(write(tmp_path / "truth.json", truth), tmp_path / "found.json")
    assert figures == expected


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"annotations": []}, "not a COCO result file: expected a list"),
        ([{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "has no image 7"),
        ([{"image_id": 3, "category_id": 1, "score": 1}], "bbox must be 4 finite numbers, got None"),
        ([{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1], "score": 1}], r"4 finite numbers, got \[0, 0, 1\]"),
        ([{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1, 1]}], "score must be a finite number, got None"),
        ([{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1, 1], "score": float("nan")}], "score must be .* got nan"),
    ],
)
def test_a_file_that_holds_no_results_is_refused_with_its_fault(tmp_path, found, message):
    truth = {"images": [{"id": 3}], "annotations": [], "categories": [{"id": 1}]}
    annotations, predictions = write(tmp_path / "truth.json", truth), write(tmp_path / "found.json", found)
    with pytest.raises(ValueError, match=message) as refusal:
        score_coco(annotations, predictions)
    assert str(predictions) in str(refusal.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"truth\.json not found"):
        score_coco(tmp_path / "truth.json", tmp_path / "found.json")


def test_details_come_with_the_same_figures(tmp_path):
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    paths = write(tmp_path / "truth.json", truth), write(tmp_path / "found.json", find_nearly(rng, truth))
    figures, details = score_coco_in_detail(*paths)
    assert figures == score_coco(*paths)
    names = [category["name"] for category in sorted(truth["categories"], key=lambda category: category["id"])]
    assert details["confusion"]["classes"] == [*names, "background"]
    assert details["errors"]["map_50"] == pytest.approx(figures["map_50"], abs=1e-9)


def test_nothing_is_printed(tmp_path, capfd):
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    score_coco(write(tmp_path / "truth.json", truth), write(tmp_path / "found.json", find_nearly(rng, truth)))
    assert capfd.readouterr() == ("", "")
