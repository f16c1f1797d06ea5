import json

import numpy as np
import pytest

from mobilevision.segmentation.check import check_masks, check_presence
from mobilevision.segmentation.class_table import read_class_table
from mobilevision.segmentation.dataset import SplitFiles
from mobilevision.segmentation.layouts import MaskFolders

NAMES = ("ground", "tree", "house")


@pytest.fixture
def write(tmp_path, save):
    """Write images of 4 by 6 with the masks given by name; None leaves the mask out."""

    def write(**masks):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        for name, mask in masks.items():
            save(tmp_path / "images" / f"{name}.png", np.full((4, 6, 3), 90))
            if mask is not None:
                save(tmp_path / "masks" / f"{name}.png", mask)
        return MaskFolders(tmp_path / "images", tmp_path / "masks").list_pairs()

    return write


def full(value):
    return np.full((4, 6), value)


def test_shares_and_counts_by_hand(write):
    half = full(0)
    half[:2] = 1
    band = full(2)
    band[0] = 255
    report = check_masks(write(a=full(0), b=half, c=band), NAMES)
    assert report.findings == ()
    assert report.num_pairs == 3
    assert report.ignored_share == 6 / 72
    assert [(share.name, share.share, share.num_images) for share in report.classes] == [
        ("ground", 36 / 66, 2),
        ("tree", 12 / 66, 1),
        ("house", 18 / 66, 1),
    ]
    assert report.sizes == {(4, 6): 3}


def test_everything_that_is_wrong_is_found_in_one_pass(write, save, tmp_path):
    write(
        a=full(0),
        color=np.full((4, 6, 3), (0, 1, 0)),
        ignored=full(255),
        large=full(3),
        missing=None,
        other_size=np.zeros((5, 6)),
    )
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    (tmp_path / "masks" / "broken.png").write_bytes(b"no mask")
    save(tmp_path / "masks" / "alone.png", full(1))
    files = MaskFolders(tmp_path / "images", tmp_path / "masks").list_pairs()

    report = check_masks(files, NAMES)

    found = {finding.file.name: (finding.kind, finding.message) for finding in report.findings[:-1]}
    assert {name: kind for name, (kind, _) in found.items()} == {
        "missing.png": "image without mask",
        "alone.png": "mask without image",
        "broken.png": "unusable",
        "color.png": "unusable",
        "large.png": "unusable",
        "other_size.png": "unusable",
        "ignored.png": "nothing counts",
    }
    assert "must hold classes 0 to 2 and 255, got 3 (24 pixels)" in found["large.png"][1]
    assert "6x4, got 6x5" in found["other_size.png"][1]
    assert "got mode RGB" in found["color.png"][1]
    assert report.findings[-1].kind == "one class only"
    json.dumps(report.to_json())


def test_classes_that_never_come_are_named(write):
    (finding,) = check_masks(write(a=full(1)), NAMES).findings
    assert (finding.kind, finding.message) == ("absent classes", "no pixel is of ground, house")


def test_masks_of_0_and_255_get_a_hint_and_are_fine_with_a_table(write, tmp_path):
    mask = full(0)
    mask[0] = 255
    (finding,) = check_masks(write(a=mask), ("ground", "object")).findings
    assert "if 255 stands for a class, as in black-and-white masks, list it in a table" in finding.message
    (tmp_path / "classes.csv").write_text("name,id\nground,0\nobject,255\n")
    table = read_class_table(tmp_path / "classes.csv")
    report = check_masks(write(a=mask), table.names, table)
    assert report.findings == ()
    assert report.classes[1].share == 0.25


def test_a_split_without_images_has_nothing_wrong_but_that(tmp_path):
    report = check_masks(SplitFiles(tmp_path, ()), NAMES)
    assert (report.num_pairs, report.ignored_share, report.sizes) == (0, 0.0, {})
    assert [finding.kind for finding in report.findings] == ["absent classes"]


def test_real_masks_are_as_they_should_be(shared):
    root = shared / "data" / "voc-real" / "VOCdevkit" / "VOC2012"
    files = MaskFolders(root / "JPEGImages", root / "SegmentationClass").list_pairs()
    report = check_masks(files._replace(pairs=files.pairs[:12]), [str(label) for label in range(21)])
    assert [finding.kind for finding in report.findings] == ["absent classes"]
    assert 0.02 < report.ignored_share < 0.15
    assert sum(share.share for share in report.classes) == pytest.approx(1.0)


def masks_of(files):
    return [pair.mask for pair in files.pairs]


def test_classes_that_no_pixel_is_of_are_named(write):
    mixed = full(0)
    mixed[0] = 1
    assert check_presence("here", masks_of(write(a=mixed)), NAMES) == ("house",)
    assert check_presence("here", masks_of(write(a=full(1))), NAMES) == ("ground", "house")
    assert check_presence("here", masks_of(write(a=mixed, b=full(2))), NAMES) == ()


def test_reading_ends_where_all_classes_are_found(write, tmp_path):
    mixed = np.array([[0, 1]] * 4)
    files = write(a=np.array([[0, 1, 2]]))
    missing = [tmp_path / f"{number}.png" for number in range(100)]
    assert check_presence("here", masks_of(files) * 64 + missing, NAMES) == ()
    with pytest.raises(FileNotFoundError):
        check_presence("here", masks_of(write(a=mixed)) * 64 + missing, NAMES)


@pytest.mark.parametrize(("value", "beside"), [(0, " beside ground"), (255, "")])
def test_black_and_white_masks_are_refused_with_the_remedy(write, value, beside):
    mask = full(255)
    mask[:2] = value
    files = write(a=mask)
    table = r"name,id and ground,0 and tree,255 as class_table"
    with pytest.raises(ValueError, match=f"^here: no pixel of the masks is of a class{beside}, .*{table}"):
        check_presence("here", masks_of(files), NAMES[:2])
    assert check_masks(files, NAMES[:2]).findings[-1].kind == "one class only"
