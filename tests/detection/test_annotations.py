import json

import pytest

from mobilevision.detection.annotations import read_annotations


def test_ids_become_places_in_ascending_order_and_come_back(coco):
    annotations = read_annotations(coco.annotations)
    assert annotations.image_ids == (3, 7, 12)
    assert annotations.category_ids == (5, 44)
    assert annotations.class_names == ("boat", "kite")
    assert annotations.labels.tolist() == [0, 1, 0, 0]
    assert annotations.ids == [2, 1, 3, 4]


def test_the_annotations_of_an_image_keep_the_order_of_the_file_and_every_digit(coco):
    coco.data["annotations"][0]["bbox"] = [0.1, 0.2, 0.30000000000000004, 1 / 3]
    truth = read_annotations(coco.write().annotations).truth(1)
    assert truth.boxes_xywh.tolist() == [[0.1, 0.2, 0.30000000000000004, 1 / 3], [40, 5, 20, 10], [60, 30, 25, 20.5]]
    assert truth.labels.tolist() == [1, 0, 0]
    assert truth.crowd.tolist() == [False, True, False]
    assert truth.areas.tolist() == [700, 200, 400]


def test_an_image_without_annotations_has_an_empty_truth(coco):
    truth = read_annotations(coco.annotations).truth(2)
    assert [column.shape for column in truth] == [(0, 4), (0,), (0,), (0,)]


def test_a_file_without_annotations_is_read(coco):
    coco.data["annotations"] = []
    annotations = read_annotations(coco.write().annotations)
    assert annotations.starts.tolist() == [0, 0, 0, 0]
    assert annotations.truth(0).boxes_xywh.shape == (0, 4)


def test_what_evaluation_can_do_without_may_be_missing(coco):
    for image in coco.data["images"]:
        del image["file_name"], image["height"], image["width"]
    for annotation in coco.data["annotations"]:
        del annotation["id"], annotation["area"], annotation["iscrowd"]
    coco.annotations.write_text(json.dumps(coco.data))
    annotations = read_annotations(coco.annotations)
    assert annotations.areas.tolist() == [4500, 750, 200, 512.5]
    assert not annotations.crowd.any()


def test_leaving_annotations_out_keeps_their_images(coco):
    annotations = read_annotations(coco.annotations)
    rest = annotations.without(annotations.labels == 1)
    assert rest.image_ids == (3, 7, 12)
    assert rest.starts.tolist() == [0, 1, 3, 3]
    assert rest.truth(1).labels.tolist() == [0, 0]


def test_chosen_classes_are_numbered_in_the_order_of_the_file(coco):
    annotations = read_annotations(coco.annotations).of_classes(["kite"])
    assert annotations.class_names == ("kite",)
    assert annotations.category_ids == (44,)
    assert annotations.labels.tolist() == [0]
    assert annotations.starts.tolist() == [0, 0, 1, 1]


def test_a_class_that_the_file_does_not_have_is_refused(coco):
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
        ('{"images": [], "categories": []}', "'annotations' is missing"),
    ],
)
def test_a_file_that_is_not_coco_is_refused(tmp_path, text, message):
    path = tmp_path / "instances.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as refusal:
        read_annotations(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "key", "value", "message"),
    [
        ("images", "id", None, "the id of images must be an integer, got None in "),
        ("images", "id", 3, "the ids of images must differ"),
        ("categories", "id", "5", "the id of categories must be an integer, got 5 in "),
        ("categories", "id", 5, "the ids of categories must differ"),
        ("annotations", "image_id", 99, 'there is no image_id 99, which is named in {"id": 1'),
        ("annotations", "image_id", [3], r"there is no image_id \[3\]"),
        ("annotations", "category_id", 1, "there is no category_id 1"),
        ("annotations", "bbox", None, "bbox must be 4 finite numbers, got None in "),
        ("annotations", "bbox", [1, 2, 3], r"bbox must be 4 finite numbers, got \[1, 2, 3\] in "),
        ("annotations", "bbox", [1, 2, 3, float("inf")], "bbox must be 4 finite numbers"),
        ("annotations", "bbox", [1, 2, 3, float("nan")], "bbox must be 4 finite numbers"),
        ("annotations", "bbox", [1, 2, 3, "wide"], "bbox must be 4 finite numbers"),
        ("annotations", "area", "large", "area must be a finite number, got large in "),
        ("annotations", "area", -1, "area must not be negative, got -1 in "),
    ],
)
def test_a_wrong_value_is_named_with_its_place(coco, kind, key, value, message):
    coco.data[kind][0][key] = value
    coco.annotations.write_text(json.dumps(coco.data))
    with pytest.raises(ValueError, match=message) as refusal:
        read_annotations(coco.annotations)
    assert str(coco.annotations) in str(refusal.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json not found"):
        read_annotations(tmp_path / "nowhere.json")
