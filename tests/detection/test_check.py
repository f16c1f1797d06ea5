import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_convert, box_iou

from mobilevision.detection.check import (
    CheckedSplit,
    check_annotations,
    check_repeats,
    check_sizes,
    check_splits,
    clean_annotations,
    measure_coverage,
)
from mobilevision.detection.dataset import read_coco
from mobilevision.detection.formats.layout import Part, read_part
from mobilevision.detection.head import ssdlite_mobilenet_v2
from mobilevision.findings import inspect_images


def check(coco):
    part = Part(coco.annotations, coco.images)
    coco.annotations.write_text(json.dumps(coco.data))
    findings = []
    annotations = read_part("coco", coco.root, part, on_finding=findings.append)
    images = tuple(inspect_images(annotations.paths(part.images)))
    findings += check_annotations(annotations) + check_sizes(annotations, images)
    findings += [finding for image in images for finding in image.findings]
    return CheckedSplit(part, annotations, images, tuple(findings))


def told(split):
    return [(finding.kind, finding.place) for finding in split.findings]


def test_a_good_dataset_has_notes_only(coco):
    split = check(coco)
    assert told(split) == [("over the edge", "annotation 4"), ("no objects", "image 12")]
    assert not any(finding.is_problem for finding in split.findings)


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ([10, 20, 0, 25], "box of no size"),
        ([10, 20, 30, -5], "box of no size"),
        ([90, 20, 30, 25], "box outside"),
        ([60, 45, 60, 45], "box outside"),
        ([10, 20, 30, 0.5], "thinner than a pixel"),
        ([-2, 20, 30, 25], "over the edge"),
    ],
)
def test_every_fault_of_a_box_is_told_with_file_and_box(coco, box, kind):
    coco.data["annotations"][0]["bbox"] = box
    found = next(finding for finding in check(coco).findings if finding.kind == kind)
    assert (found.file, found.place) == (coco.annotations, "annotation 1")
    assert found.message.startswith(
        f"box {', '.join(map(str, box))} (x, y, width, height) of 000000000007.png, 80x60, "
    )


def test_ids_and_files_that_are_there_twice_are_told_and_cleaned(coco):
    coco.data["annotations"][0]["id"] = 2
    coco.data["images"][0]["file_name"] = "000000000012.png"
    coco.data["images"][0] |= {"height": 64, "width": 64}
    split = check(coco)
    repeats = [(each.place, each.message) for each in split.findings if each.kind == "duplicate id"]
    assert repeats == [
        ("annotation 2", "there are several with the id 2"),
        ("image 12", "there are several with the file_name 000000000012.png"),
    ]
    cleaned = clean_annotations(split)
    assert [image["id"] for image in cleaned["images"]] == [3, 7]
    assert [row["id"] for row in cleaned["annotations"]] == [1, 2, 3]


def test_classes_without_objects_or_with_the_name_of_another_are_told_with_a_remedy(coco):
    coco.data["categories"] += [{"id": 0, "name": "things"}, {"id": 1, "name": "boat", "supercategory": "things"}]
    found = [str(finding) for finding in check(coco).findings if finding.place.startswith("category")]
    assert found == [
        f"{coco.annotations}: category 0: 'things' has no objects, and is only the supercategory of others: leave it "
        "out of the categories, or of data.classes",
        f"{coco.annotations}: category 1: 'boat' has no objects: leave it out of the categories, or of data.classes",
        f"{coco.annotations}: category 5: there are several of the name 'boat': rename it, or give its objects to the "
        "first",
    ]


def test_splits_with_other_classes_and_a_training_set_without_boxes_are_told(coco):
    val = check(coco).annotations
    coco.data["annotations"] = []
    coco.data["categories"][1]["name"] = "ship"
    found = check_splits({"train": check(coco).annotations, "val": val})
    assert [finding.kind for finding in found] == ["nothing to train on", "other categories"]
    assert "got 'ship', 'kite', and 'boat', 'kite'" in str(found[1])
    assert check_splits({"val": val}) == check_splits({}) == check_splits({"train": val, "val": val}) == []


def test_a_box_may_reach_over_the_edge_by_as_much_as_rounding_does(coco):
    coco.data["annotations"][3]["bbox"] = [60, 30, 20.9, 20.5]
    assert told(check(coco)) == [("no objects", "image 12")]


def test_files_of_images_are_compared_with_the_annotations(coco):
    first, second, third = (coco.images / f"{image_id:012}.png" for image_id in (3, 7, 12))
    shutil.copy(second, first)
    third.write_bytes(third.read_bytes()[:100])
    split = check(coco)
    found = {finding.kind: finding for finding in split.findings if finding.is_problem}
    assert set(found) == {"size differs", "truncated"}
    assert f"{first}: is 80x60 pixels, {coco.annotations} says 50x90" == str(found["size differs"])
    assert found["truncated"].file == third


def test_repeats_are_a_problem_between_splits_and_a_note_within_one(coco):
    images = check(coco).images
    copies = [image._replace(path=image.path.with_name("copy.png")) for image in images]
    unreadable = images[0]._replace(digest="")
    assert check_repeats({"train": images, "val": []}) == []
    assert check_repeats({"train": [unreadable], "val": [unreadable]}) == []
    (finding,) = check_repeats({"train": images, "val": [copies[1]]})
    assert (finding.kind, finding.is_problem, finding.file.name) == ("in two splits", True, "copy.png")
    assert f"is in val and, as {images[1].path}, in train" == finding.message
    (finding,) = check_repeats({"train": [*images, copies[1]]})
    assert (finding.kind, finding.is_problem) == ("same image twice", False)


def test_objects_are_compared_with_anchors_by_hand(coco):
    # At 40x40 image 7 (80x60) has boxes 15x16.7 at (5, 13.3) and 10x13.7 at (30, 20), image 3 one of 40x40; a crowd.
    anchors = torch.tensor([[12.5, 21.6, 15, 16.6], [20, 20, 40, 20]])
    coverage = measure_coverage([check(coco)], anchors, 40)
    assert dict(zip(coverage.sides, coverage.counts, strict=True)) == {0: 0, 8: 2, 16: 0, 32: 1, 64: 0, 128: 0, 256: 0}
    assert coverage.uncovered == (0, 1, 0, 0, 0, 0, 0)
    assert coverage.share == pytest.approx(1 / 3)


def test_the_uncovered_objects_of_real_coco_are_those_of_an_independent_reference(shared):
    folder = shared / "data/coco-mini"
    part = Part(folder / "annotations/instances_val2017.json", folder / "val2017")
    annotations = read_part("coco", folder, part)
    anchors = ssdlite_mobilenet_v2(1, input_size=320, width_mult=0.35).head.anchors
    coverage = measure_coverage([CheckedSplit(part, annotations, (), ())], anchors, 320)
    corners = box_convert(anchors, "cxcywh", "xyxy")
    scaled = [
        torch.from_numpy(entry.boxes) * (320 / torch.tensor([entry.size[1], entry.size[0]] * 2))
        for entry in read_coco(part.annotations, part.images)
    ]
    best = box_iou(torch.cat(scaled), corners).amax(dim=1)
    assert sum(coverage.counts) == len(best)
    # Not one of them is so close to the threshold that rounding decides.
    assert ((best - 0.5).abs() > 1e-5).all()
    assert sum(coverage.uncovered) == (best < 0.5).sum()


def test_a_dataset_without_objects_is_covered_by_any_anchors(coco):
    coco.data["annotations"] = []
    coverage = measure_coverage([check(coco)], torch.tensor([[5.0, 5, 10, 10]]), 40)
    assert (sum(coverage.counts), coverage.share) == (0, 0)
    assert measure_coverage([], torch.tensor([[5.0, 5, 10, 10]]), 40).share == 0


def test_a_cleaned_copy_is_read_without_a_word_and_keeps_what_is_good(coco, tmp_path):
    coco.data["annotations"][0]["bbox"] = [10, 20, 0, 25]
    (coco.images / "000000000012.png").write_bytes(b"")
    split = check(coco)
    path = tmp_path / "clean.json"
    path.write_text(json.dumps(clean_annotations(split)))
    images = read_coco(path, coco.images)
    assert images.annotations.image_ids == (3, 7)
    assert images.annotations.category_ids == (5, 44)
    assert images.annotations.boxes_xywh.tolist() == [[0, 0, 50, 90], [40, 5, 20, 10], [60, 30, 20, 20.5]]
    assert images.annotations.areas.tolist() == [4000, 200, 400]
    assert images.annotations.crowd.tolist() == [False, True, False]
    rest = clean_annotations(split, leave_out=[coco.images / "000000000003.png"])
    assert [image["id"] for image in rest["images"]] == [7]


def test_an_image_of_another_size_is_not_in_the_cleaned_copy(coco):
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(coco.images / "000000000003.png")
    assert [image["id"] for image in clean_annotations(check(coco))["images"]] == [7, 12]
