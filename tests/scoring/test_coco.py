import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mobilevision.detection.evaluator import FIGURES
from mobilevision.scoring import score_coco, score_coco_in_detail


def score_with_pycocotools(annotations, predictions):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        # pycocotools cannot read an empty list.
        found = truth.loadRes(str(predictions)) if json.loads(predictions.read_text()) else COCO()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(FIGURES, evaluation.stats.tolist(), strict=True))


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


@pytest.fixture
def score(tmp_path):
    """Score a ground truth and detections, which may be data or files."""

    def score(truth, detections, function=score_coco):
        files = tmp_path / "truth.json", tmp_path / "found.json"
        for file, data in zip(files, (truth, detections), strict=True):
            file.write_text(json.dumps(data))
        return function(*files)

    return score


@pytest.fixture
def compare(score):
    """Score a ground truth and detections, and compare the figures with those of pycocotools."""

    def compare(truth, detections):
        figures = score(truth, detections)
        assert figures == pytest.approx(score(truth, detections, score_with_pycocotools), abs=1e-6)
        assert list(figures) == list(FIGURES)
        return figures

    return compare


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("seed", range(5))
def test_random_detections_score_as_in_pycocotools(seed, compare):
    rng = np.random.default_rng(seed)
    truth = make_truth(rng)
    assert 0.05 < compare(truth, find_nearly(rng, truth))["map"] < 0.95


@pytest.mark.parametrize("seed", range(5))
def test_tied_scores_and_overlaps_at_the_thresholds_score_as_in_pycocotools(seed, compare):
    rng = np.random.default_rng(seed)
    truth = make_truth(rng, num_images=40, whole_pixels=True)
    compare(truth, find_nearly(rng, truth, num_scores=3, whole_pixels=True))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    num_images=st.integers(1, 6),
    num_categories=st.integers(1, 3),
    per_image=st.sampled_from([0, 1, 20, 130]),
    num_scores=st.sampled_from([None, 1, 4]),
    whole_pixels=st.booleans(),
)
def test_any_dataset_scores_as_in_pycocotools(
    *, compare, seed, num_images, num_categories, per_image, num_scores, whole_pixels
):
    rng = np.random.default_rng(seed)
    truth = make_truth(rng, num_images=num_images, num_categories=num_categories, whole_pixels=whole_pixels)
    found = find_nearly(rng, truth, num_scores=num_scores, whole_pixels=whole_pixels)
    compare(truth, found + guess(rng, truth, per_image=per_image))


def test_more_than_a_hundred_detections_per_image_score_as_in_pycocotools(compare, rng):
    truth = make_truth(rng, num_categories=1)
    compare(truth, find_nearly(rng, truth) + guess(rng, truth, per_image=150))


def test_detections_on_real_annotations_with_crowds_score_as_in_pycocotools(compare, rng, shared):
    truth = json.loads((shared / "data/coco-mini/annotations/instances_val2017.json").read_text())
    assert any(annotation["iscrowd"] for annotation in truth["annotations"])
    assert min(compare(truth, find_nearly(rng, truth, num_scores=20)).values()) > 0.05


def test_the_ground_truth_itself_scores_one(score, rng):
    truth = make_truth(rng)
    truth["annotations"] = [annotation | {"iscrowd": 0} for annotation in truth["annotations"]]
    assert score(truth, [annotation | {"score": 1.0} for annotation in truth["annotations"]])["map"] == 1.0


def test_an_object_without_area_counts_as_small(compare, rng):
    truth = make_truth(rng)
    truth["annotations"][0] |= {"area": 0, "bbox": [10, 10, 300, 300], "iscrowd": 0}
    compare(truth, find_nearly(rng, truth))


def test_without_annotations_or_with_crowds_only_there_is_nothing_to_measure(compare, rng):
    truth = make_truth(rng)
    crowds = [annotation | {"iscrowd": 1} for annotation in truth["annotations"]]
    for annotations in ([], crowds):
        figures = compare(truth | {"annotations": annotations}, find_nearly(rng, truth))
        assert set(figures.values()) == {-1.0}


def test_without_detections_all_figures_are_zero(score, rng):
    assert set(score(make_truth(rng), []).values()) == {0.0}


def test_detections_of_unknown_categories_are_ignored_with_a_warning(compare, rng):
    truth = make_truth(rng)
    stray = [detection | {"category_id": 1000} for detection in guess(rng, truth, per_image=1)]
    with pytest.warns(UserWarning, match="13 of .* detections are of categories that"):
        compare(truth, find_nearly(rng, truth) + stray)


def test_an_annotation_of_id_0_counts_and_a_warning_states_the_difference_to_pycocotools(score, compare, rng):
    truth = make_truth(rng)
    found = find_nearly(rng, truth)
    expected = compare(truth, found)
    for annotation in truth["annotations"]:
        annotation["id"] -= 1
    with pytest.warns(UserWarning, match="annotation of id 0 as a false positive"):
        assert score(truth, found) == expected


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"annotations": []}, "not a COCO result file: expected a list"),
        ([{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "has no image 7"),
        ([{"image_id": "7", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "has no image '7'"),
        ([{"image_id": "a", "category_id": 1, "score": 1}], "image_id must be a whole number, got 'a'"),
        ([{"image_id": 3, "category_id": 1.5, "score": 1}], r"category_id must be a whole number, got 1\.5"),
        ([{"image_id": 3, "category_id": 1, "score": 1}], "bbox must be 4 finite numbers, got None"),
        ([{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1], "score": 1}], r"4 finite numbers, got \[0, 0, 1\]"),
        ([{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1, 1]}], "score must be a finite number, got None"),
        ([{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1, 1], "score": float("nan")}], "score must be .* got nan"),
    ],
)
def test_a_file_without_results_is_refused_by_name(score, found, message):
    truth = {"images": [{"id": 3}], "annotations": [], "categories": [{"id": 1}]}
    with pytest.raises(ValueError, match=rf"found\.json.*{message}"):
        score(truth, found)


@pytest.mark.parametrize("offset", [2**53, 2**63, 10**30])
def test_ids_of_any_size_are_exact_and_may_be_text(score, rng, offset):
    truth = make_truth(rng)
    found = find_nearly(rng, truth)
    expected = score(truth, found)
    # Next to each other, so that they are the same float.
    places = {image["id"]: place for place, image in enumerate(truth["images"])}
    for image in truth["images"]:
        image["id"] = offset + places[image["id"]]
    for row in (*truth["annotations"], *found):
        row["image_id"] = offset + places[row["image_id"]]
    assert score(truth, found) == expected
    for row in found:
        row |= {"image_id": str(row["image_id"]), "category_id": float(row["category_id"])}
    assert score(truth, found) == expected


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"truth\.json not found"):
        score_coco(tmp_path / "truth.json", tmp_path / "found.json")


def test_details_come_with_the_same_figures_and_nothing_is_printed(score, rng, capfd):
    truth = make_truth(rng)
    found = find_nearly(rng, truth)
    figures, details = score(truth, found, score_coco_in_detail)
    assert figures == score(truth, found)
    names = [category["name"] for category in sorted(truth["categories"], key=lambda category: category["id"])]
    assert details["confusion"]["classes"] == [*names, "background"]
    assert details["errors"]["map_50"] == pytest.approx(figures["map_50"], abs=1e-9)
    assert capfd.readouterr() == ("", "")
