import json

import pytest

from mobilevision.detection.annotations import read_annotations
from mobilevision.detection.sift import sift_coco


def sift(coco):
    coco.annotations.write_text(json.dumps(coco.data))
    findings = []
    return sift_coco(coco.annotations, findings.append), findings


def test_a_good_file_is_read_as_it_is(coco):
    annotations, findings = sift(coco)
    expected = read_annotations(coco.annotations)
    assert findings == []
    assert annotations.images == expected.images
    assert annotations.boxes_xywh.tolist() == expected.boxes_xywh.tolist()


@pytest.mark.parametrize(
    ("kind", "change", "left", "finding"),
    [
        ("annotations", {"category_id": 9}, (3, 3), ("unknown class", "annotation 1", "there is no category_id 9")),
        (
            "annotations",
            {"category_id": [5]},
            (3, 3),
            ("unknown class", "annotation 1", r"there is no category_id [5]"),
        ),
        ("annotations", {"image_id": 9}, (3, 3), ("unknown image", "annotation 1", "there is no image_id 9")),
        (
            "annotations",
            {"bbox": [1, 2, 3]},
            (3, 3),
            ("unreadable annotation", "annotation 1", "bbox must be 4 finite"),
        ),
        (
            "annotations",
            {"area": -1},
            (3, 3),
            ("unreadable annotation", "annotation 1", "area must be a finite number"),
        ),
        ("annotations", {"id": 2}, (3, 4), ("duplicate id", "annotation 2", "there are several with the id 2")),
        ("images", {"id": 12}, (2, 1), ("duplicate id", "image 12", "there are several with the id 12")),
        ("images", {"id": None}, (2, 1), ("unreadable annotation", "image None", "id must be an integer, got None")),
        ("images", {"width": 0}, (2, 1), ("unreadable annotation", "image 7", "width and height must be at least 1")),
        ("images", {"height": None}, (2, 1), ("unreadable annotation", "image 7", "got 80 and None")),
        (
            "images",
            {"file_name": None},
            (2, 1),
            ("unreadable annotation", "image 7", "file_name must be text, got None"),
        ),
        (
            "images",
            {"file_name": "000000000012.png"},
            (2, 4),
            ("duplicate id", "image 12", "several with the file_name 000000000012.png"),
        ),
        ("categories", {"id": 5}, (3, 3), ("duplicate id", "category 5", "there are several with the id 5")),
    ],
)
def test_a_wrong_row_is_told_and_the_rest_is_read(coco, kind, change, left, finding):
    coco.data[kind][0] |= change
    annotations, findings = sift(coco)
    assert (len(annotations.images), len(annotations.labels)) == left
    found = findings[0]
    assert (found.kind, found.place, found.file) == (*finding[:2], coco.annotations)
    assert finding[2] in found.message


def test_what_is_no_coco_file_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="is not a COCO annotation file: "):
        sift_coco(tmp_path / "a.json", print)
