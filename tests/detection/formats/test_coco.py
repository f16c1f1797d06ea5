import json
import re

import numpy as np
import pytest

from mobilevision.detection.formats.coco import annotations_of, number_column, read_annotations


def write(coco):
    coco.annotations.write_text(json.dumps(coco.data))
    return coco.annotations


def read_leniently(coco):
    findings = []
    return read_annotations(write(coco), folder=coco.images, on_finding=findings.append), findings


def test_ids_become_places_in_ascending_order_and_come_back(coco):
    annotations = read_annotations(coco.annotations)
    assert annotations.image_ids == (3, 7, 12)
    assert annotations.category_ids == (5, 44)
    assert annotations.class_names == ("boat", "kite")
    assert annotations.labels.tolist() == [0, 1, 0, 0]
    assert annotations.ids == [2, 1, 3, 4]


def test_the_annotations_of_an_image_keep_the_order_of_the_file_and_every_digit(coco):
    coco.data["annotations"][0]["bbox"] = [0.1, 0.2, 0.30000000000000004, 1 / 3]
    truth = read_annotations(write(coco)).truth(1)
    assert truth.boxes_xywh.tolist() == [[0.1, 0.2, 0.30000000000000004, 1 / 3], [40, 5, 20, 10], [60, 30, 25, 20.5]]
    assert truth.labels.tolist() == [1, 0, 0]
    assert truth.crowd.tolist() == [False, True, False]
    assert truth.areas.tolist() == [700, 200, 400]


def test_an_image_without_annotations_has_an_empty_truth(coco):
    truth = read_annotations(coco.annotations).truth(2)
    assert [column.shape for column in truth] == [(0, 4), (0,), (0,), (0,)]


def test_a_file_without_annotations_is_read(coco):
    coco.data["annotations"] = []
    annotations = read_annotations(write(coco))
    assert annotations.starts.tolist() == [0, 0, 0, 0]
    assert annotations.truth(0).boxes_xywh.shape == (0, 4)


def test_what_evaluation_does_not_need_may_be_missing(coco):
    for image in coco.data["images"]:
        del image["file_name"], image["height"], image["width"]
    for annotation in coco.data["annotations"]:
        del annotation["id"], annotation["area"], annotation["iscrowd"]
    annotations = read_annotations(write(coco))
    assert annotations.areas.tolist() == [4500, 750, 200, 512.5]
    assert annotations.ids == ["at place 1", "at place 0", "at place 2", "at place 3"]
    assert not annotations.crowd.any()


def test_leaving_annotations_out_keeps_their_images(coco):
    annotations = read_annotations(coco.annotations)
    rest = annotations.without(annotations.labels == 1)
    assert rest.image_ids == (3, 7, 12)
    assert rest.starts.tolist() == [0, 1, 3, 3]
    assert rest.truth(1).labels.tolist() == [0, 0]


def test_chosen_images_keep_their_annotations(coco):
    annotations = read_annotations(coco.annotations).of_images(np.array([False, True, True]))
    assert annotations.image_ids == (7, 12)
    assert annotations.starts.tolist() == [0, 3, 3]
    assert annotations.ids == [1, 3, 4]
    assert annotations.truth(0).labels.tolist() == [1, 0, 0]


def test_chosen_classes_are_numbered_in_the_order_of_the_file(coco):
    annotations = read_annotations(coco.annotations).of_classes(["kite"])
    assert annotations.class_names == ("kite",)
    assert annotations.category_ids == (44,)
    assert annotations.labels.tolist() == [0]
    assert annotations.starts.tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="has no category 'dog', it has boat, kite"):
        read_annotations(coco.annotations).of_classes(["kite", "dog"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON: Expecting"),
        ("\x80", "is not JSON: "),
        ("[]", "not a COCO annotation file: 'images' is missing; expected an object with lists"),
        ('{"images": {}}', "'images' is missing"),
        ('{"images": [1]}', "'images' is missing"),
        ('{"images": []}', "'categories' is missing"),
        ('{"images": [], "categories": []}', "has no boxes: 'annotations' is missing, as in the image_info files"),
        ('{"images": [], "categories": [], "annotations": {}}', "not a COCO annotation file: 'annotations'"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_file_that_is_not_coco_is_refused(tmp_path, text, message, strict):
    path = tmp_path / "instances.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as refusal:
        read_annotations(path, **({} if strict else {"on_finding": print}))
    assert str(path) in str(refusal.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json not found"):
        read_annotations(tmp_path / "nowhere.json")


UNREADABLE = "unreadable annotation"
WRONG_VALUES = [
    # The change of the first row, the images and annotations that are left, and the finding.
    ("annotations", {"category_id": 9}, (3, 3), ("unknown class", "annotation 1", "there is no category_id 9")),
    ("annotations", {"category_id": [5]}, (3, 3), ("unknown class", "annotation 1", "there is no category_id [5]")),
    ("annotations", {"image_id": 9}, (3, 3), ("unknown image", "annotation 1", "there is no image_id 9")),
    ("annotations", {"image_id": None}, (3, 3), ("unknown image", "annotation 1", "there is no image_id None")),
    ("annotations", {"bbox": None}, (3, 3), (UNREADABLE, "annotation 1", "bbox must be 4 finite numbers")),
    ("annotations", {"bbox": [1, 2, 3]}, (3, 3), (UNREADABLE, "annotation 1", "got [1, 2, 3]")),
    ("annotations", {"bbox": [1, 2, 3, [4]]}, (3, 3), (UNREADABLE, "annotation 1", "got [1, 2, 3, [4]]")),
    ("annotations", {"bbox": [1, 2, 3, float("nan")]}, (3, 3), (UNREADABLE, "annotation 1", "got [1, 2, 3, nan]")),
    (
        "annotations",
        {"bbox": [1, 2, 3, 10**400]},
        (3, 3),
        (UNREADABLE, "annotation 1", "bbox must be 4 finite numbers"),
    ),
    ("annotations", {"bbox": [1, 2, 3, 2e9]}, (3, 3), (UNREADABLE, "annotation 1", "bbox must be 4 finite numbers")),
    ("annotations", {"bbox": [1, 2, 3, "wide"]}, (3, 3), (UNREADABLE, "annotation 1", "got [1, 2, 3, 'wide']")),
    ("annotations", {"area": "large"}, (3, 3), (UNREADABLE, "annotation 1", "area must be a finite number")),
    ("annotations", {"area": -1}, (3, 3), (UNREADABLE, "annotation 1", "not negative, got -1")),
    ("annotations", {"iscrowd": "no"}, (3, 3), (UNREADABLE, "annotation 1", "iscrowd must be 0, 1, true or false")),
    ("annotations", {"iscrowd": 2}, (3, 3), (UNREADABLE, "annotation 1", "true or false, got 2")),
    ("annotations", {"iscrowd": [0]}, (3, 3), (UNREADABLE, "annotation 1", "true or false, got [0]")),
    ("annotations", {"image_id": "a7"}, (3, 3), ("unknown image", "annotation 1", "there is no image_id 'a7'")),
    ("annotations", {"image_id": 2.0**70}, (3, 3), ("unknown image", "annotation 1", "there is no image_id 1.18")),
    ("annotations", {"id": None, "area": [1]}, (3, 3), (UNREADABLE, "annotation None", "got [1]")),
    ("images", {"id": 12}, (2, 1), ("duplicate id", "image 12", "there are several with the id 12")),
    ("images", {"id": None}, (2, 1), (UNREADABLE, "image None", "id must be a whole number, got None")),
    ("images", {"id": "7a"}, (2, 1), (UNREADABLE, "image 7a", "id must be a whole number, got '7a'")),
    ("images", {"width": 0}, (2, 1), (UNREADABLE, "image 7", "width and height must be at least 1, got 0 and 60")),
    ("images", {"height": "high"}, (2, 1), (UNREADABLE, "image 7", "got 80 and high")),
    ("images", {"file_name": None}, (2, 1), (UNREADABLE, "image 7", "file_name must be text, got None")),
    ("categories", {"id": 5}, (3, 3), ("duplicate id", "category 5", "there are several with the id 5")),
    ("categories", {"id": "5"}, (3, 3), ("duplicate id", "category 5", "there are several with the id 5")),
    ("categories", {"id": True}, (3, 3), (UNREADABLE, "category True", "id must be a whole number, got True")),
]


@pytest.mark.parametrize(("kind", "change", "left", "expected"), WRONG_VALUES)
def test_a_wrong_row_stops_a_strict_reader_and_is_left_out_by_a_lenient_one(coco, kind, change, left, expected):
    coco.data[kind][0] |= change
    found, place, message = expected
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        read_annotations(write(coco), folder=coco.images)
    assert str(refusal.value).startswith(f"{coco.annotations}: {place}: ")
    annotations, findings = read_leniently(coco)
    assert (len(annotations.images), len(annotations.labels)) == left
    assert (findings[0].kind, findings[0].place, findings[0].file) == (found, place, coco.annotations)
    assert str(findings[0]) == str(refusal.value)


@pytest.mark.parametrize(
    ("value", "crowd"),
    [(0, False), ("0", False), ("false", False), (False, False), (None, False), (1, True), ("1", True), ("TRUE", True)],
)
def test_a_crowd_is_1_or_true_in_any_spelling(coco, value, crowd):
    coco.data["annotations"][0]["iscrowd"] = value
    assert read_annotations(write(coco)).truth(1).crowd.tolist() == [crowd, True, False]


def test_ids_are_exact_whole_numbers_also_as_text(coco):
    large = 2**63 + 1
    for name, key in (("images", "id"), ("annotations", "image_id")):
        for row in coco.data[name]:
            row[key] += large
    coco.data["annotations"][0]["image_id"] = str(large + 7)
    coco.data["categories"][1]["id"] = "5.0"
    coco.data["categories"][0]["id"] = 44.0
    annotations = read_annotations(write(coco))
    assert annotations.image_ids == (large + 3, large + 7, large + 12)
    assert annotations.category_ids == (5, 44)
    assert annotations.labels.tolist() == [0, 1, 0, 0]


def test_a_missing_box_is_the_one_around_the_outline_and_a_missing_area_that_of_the_box(coco):
    outlines = [[[10, 20, 40, 20, 40, 45], [12, 20, 12, 50]], [10, 20, 40, 50], [], {"counts": [1], "size": [1, 1]}]
    for row, outline, box in zip(
        coco.data["annotations"], outlines, ([], None, [1, 2, 3, 4], [5, 6, 7, 8]), strict=True
    ):
        row |= {"segmentation": outline, "bbox": box, "area": None}
    annotations = read_annotations(write(coco))
    assert annotations.boxes_xywh.tolist() == [[10, 20, 30, 30], [10, 20, 30, 30], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert annotations.areas.tolist() == [900, 900, 12, 56]
    coco.data["annotations"][3]["bbox"] = None
    with pytest.raises(ValueError, match="annotation 4: bbox must be 4 finite numbers of pixels, got None"):
        read_annotations(write(coco))


def test_a_byte_order_mark_is_no_part_of_the_file(coco):
    coco.annotations.write_text(json.dumps(coco.data), encoding="utf-8-sig")
    assert len(read_annotations(coco.annotations).labels) == 4


def test_a_lenient_reader_reads_a_good_file_as_a_strict_one_does(coco):
    annotations, findings = read_leniently(coco)
    expected = read_annotations(coco.annotations)
    assert findings == []
    assert annotations.images == expected.images
    assert annotations.boxes_xywh.tolist() == expected.boxes_xywh.tolist()


def test_annotations_without_ids_are_named_by_their_places_in_the_file_whatever_is_left_out(coco):
    for annotation in coco.data["annotations"]:
        del annotation["id"]
    coco.data["annotations"][0]["bbox"] = []
    annotations, findings = read_leniently(coco)
    assert findings[0].place == "annotation at place 0"
    assert annotations.ids == ["at place 1", "at place 2", "at place 3"]


def test_a_column_of_numbers_names_the_row_that_has_none(tmp_path):
    rows = [{"score": 1, "bbox": [1, 2, 3, 4]}, {"score": "x", "bbox": [1, 2]}]
    assert number_column(tmp_path, rows[:1], "bbox", shape=(4,)).tolist() == [[1, 2, 3, 4]]
    assert number_column(tmp_path, [], "bbox", shape=(4,)).shape == (0, 4)
    with pytest.raises(ValueError, match=r'score must be a finite number, got x in \{"score": "x"'):
        number_column(tmp_path, rows, "score")
    with pytest.raises(ValueError, match=r"bbox must be 4 finite numbers, got \[1, 2\] in "):
        number_column(tmp_path, rows, "bbox", shape=(4,))


def test_boxes_are_clipped_to_their_images_and_the_broken_ones_found(tmp_path):
    boxes = [[0, 0, 10, 10], [5, 5, 10, 10], [6, 0, 9, 10], [0, 0, 0, 5], [-5, 0, 10, 10]]
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": "10", "height": 10}],
        "categories": [{"id": 1}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes],
    }
    annotations = annotations_of(tmp_path, data, folder=tmp_path)
    assert annotations.class_names == ("1",)
    np.testing.assert_array_equal(
        annotations.clip_boxes(), [[0, 0, 10, 10], [5, 5, 10, 10], [6, 0, 10, 10], [0, 0, 0, 5], [0, 0, 5, 10]]
    )
    # A quarter, less than half, nothing and half of the box are inside.
    assert annotations.find_broken().tolist() == [False, True, True, True, False]
