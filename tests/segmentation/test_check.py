import json

import numpy as np
import pytest
from mobilevision.segmentation.folders import MaskFolders
from mobilevision.segmentation.pictures import Listing
from PIL import Image

from mobilevision.segmentation.check import check_masks
from mobilevision.segmentation.class_table import read_class_table

NAMES = ("ground", "tree", "house")


@pytest.fixture
def make_set(tmp_path):
    """Write pictures of 4 by 6 with the masks given by name; None leaves the mask out."""

    def make(**masks):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        for name, mask in masks.items():
            Image.fromarray(np.full((4, 6, 3), 90, np.uint8)).save(tmp_path / "images" / f"{name}.png")
            if mask is not None:
                Image.fromarray(np.asarray(mask, np.uint8)).save(tmp_path / "masks" / f"{name}.png")
        return MaskFolders(tmp_path / "images", tmp_path / "masks").list_pairs()

    return make


def full(value):
    return np.full((4, 6), value)


def test_shares_and_counts_by_hand(make_set):
    half = full(0)
    half[:2] = 1
    band = full(2)
    band[0] = 255
    report = check_masks(make_set(a=full(0), b=half, c=band), NAMES)
    assert report.findings == ()
    assert report.num_pairs == 3
    assert report.ignored_share == 6 / 72
    assert [(share.name, share.share, share.num_images) for share in report.classes] == [
        ("ground", 36 / 66, 2),
        ("tree", 12 / 66, 1),
        ("house", 18 / 66, 1),
    ]
    assert report.sizes == {(4, 6): 3}


def test_everything_that_is_wrong_is_found_in_one_go(make_set, tmp_path):
    listing = make_set(
        a=full(0),
        colour=np.zeros((4, 6, 3)),
        ignored=full(255),
        large=full(3),
        missing=None,
        other_size=np.zeros((5, 6)),
    )
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "masks" / "broken.png").write_bytes(b"no mask")
    Image.fromarray(full(1).astype(np.uint8)).save(tmp_path / "masks" / "alone.png")
    listing = MaskFolders(tmp_path / "images", tmp_path / "masks").list_pairs()

    report = check_masks(listing, NAMES)

    found = {finding.file.name: (finding.kind, finding.message) for finding in report.findings[:-1]}
    assert {name: kind for name, (kind, _) in found.items()} == {
        "missing.png": "picture without mask",
        "alone.png": "mask without picture",
        "broken.png": "unusable",
        "colour.png": "unusable",
        "large.png": "unusable",
        "other_size.png": "unusable",
        "ignored.png": "nothing counts",
    }
    assert "must hold classes 0 to 2 and 255, got 3 (24 pixels)" in found["large.png"][1]
    assert "6x4, got 6x5" in found["other_size.png"][1]
    assert "got mode RGB" in found["colour.png"][1]
    assert report.findings[-1].kind == "one class only"
    json.dumps(report.to_json())


def test_classes_that_never_come_are_named(make_set):
    (finding,) = check_masks(make_set(a=full(1)), NAMES).findings
    assert (finding.kind, finding.message) == ("absent classes", "no pixel is of ground, house")


def test_masks_of_0_and_255_get_a_hint_and_are_fine_with_a_table(make_set, tmp_path):
    mask = full(0)
    mask[0] = 255
    (finding,) = check_masks(make_set(a=mask), ("ground", "object")).findings
    assert "if 255 stands for a class, say so in a table name,id" in finding.message
    (tmp_path / "classes.csv").write_text("name,id\nground,0\nobject,255\n")
    table = read_class_table(tmp_path / "classes.csv")
    report = check_masks(make_set(a=mask), table.names, table)
    assert report.findings == ()
    assert report.classes[1].share == 0.25


def test_a_set_without_pictures_has_nothing_wrong_but_that(tmp_path):
    report = check_masks(Listing(tmp_path, ()), NAMES)
    assert (report.num_pairs, report.ignored_share, report.sizes) == (0, 0.0, {})
    assert [finding.kind for finding in report.findings] == ["absent classes"]


def test_real_masks_are_as_they_should_be(shared):
    root = shared / "data" / "voc-real" / "VOCdevkit" / "VOC2012"
    listing = MaskFolders(root / "JPEGImages", root / "SegmentationClass").list_pairs()
    report = check_masks(listing._replace(pairs=listing.pairs[:12]), [str(label) for label in range(21)])
    assert [finding.kind for finding in report.findings] == ["absent classes"]
    assert 0.02 < report.ignored_share < 0.15
    assert sum(share.share for share in report.classes) == pytest.approx(1.0)
