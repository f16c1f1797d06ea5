import shutil

import numpy as np
import pytest

from mobilevision.detection.coco import find_pictures, read_coco
from mobilevision.detection.datamodule import CocoDataModule
from mobilevision.detection.formats import Part, find_format, find_part, read_part
from mobilevision.training.sampling import SampleKey


def read(name, root, split="val"):
    parts = {split: find_part(name, root, split) for split in ("train", "val")}
    others = [part for other, part in parts.items() if other != split and part.annotations.exists()]
    annotations = read_part(name, root, parts[split], others=others)
    return find_pictures(annotations, parts[split].images)


def test_every_format_becomes_the_same_set(coco, other):
    name, root = other
    expected, images = read_coco(coco.annotations, coco.images), read(name, root)
    assert images.annotations.class_names == ("boat", "kite")
    assert [entry.size for entry in images] == [entry.size for entry in expected]
    assert [entry.path.name for entry in images] == [entry.path.name for entry in expected]
    for entry, true in zip(images, expected, strict=True):
        np.testing.assert_allclose(entry.truth.boxes_xywh, true.truth.boxes_xywh, atol=1e-9)
        np.testing.assert_array_equal(entry.truth.labels, true.truth.labels)
    if name == "voc":
        assert [entry.truth.crowd.tolist() for entry in images] == [entry.truth.crowd.tolist() for entry in expected]
        assert [entry.boxes.tolist() for entry in images] == [entry.boxes.tolist() for entry in expected]


def test_a_set_is_recognised_by_what_it_holds(coco, other):
    name, root = other
    assert find_format(root) == name
    assert find_format(coco.root) == "coco"


def test_a_set_is_recognised_by_the_annotations_that_the_user_names(coco, other):
    name, root = other
    assert find_format(coco.root, ["elsewhere/boats.json"]) == "coco"
    assert find_format(root, [None, str(find_part(name, root, "val").annotations)]) == name


def test_a_set_that_looks_like_two_formats_is_not_guessed_at(coco, table):
    shutil.copytree(coco.root / "annotations", table / "annotations")
    with pytest.raises(ValueError, match=r"looks like coco and csv: set format to one of them"):
        find_format(table)


def test_a_folder_without_a_set_is_refused_with_all_layouts(tmp_path):
    with pytest.raises(FileNotFoundError) as refusal:
        find_format(tmp_path)
    for expected in ("instances_train2017.json (coco)", "ImageSets/Main/train.txt (voc)", "labels/train (yolo)"):
        assert expected in str(refusal.value)
    assert "train.csv (csv), or set format" in str(refusal.value)


def test_the_folders_of_exporting_programs_are_found(voc, yolo, tmp_path):
    for old, new in (("JPEGImages", "valid"), ("Annotations", "xml")):
        (voc / old).rename(voc / new)
    for path in (voc / "xml").iterdir():
        path.rename(voc / "valid" / path.name)
    shutil.rmtree(voc / "ImageSets")
    assert find_format(voc) == "voc"
    assert find_part("voc", voc, "val") == Part(voc / "valid", voc / "valid")
    assert [len(entry.truth.labels) for entry in read("voc", voc)] == [1, 3, 0]
    (yolo / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: {0: boat, 1: kite}\n")
    for kind in ("images", "labels"):
        (yolo / "valid").mkdir(exist_ok=True)
        (yolo / kind / "val").rename(yolo / "valid" / kind)
    assert find_part("yolo", yolo, "val") == Part(yolo / "valid/labels", yolo / "valid/images")
    assert [len(entry.truth.labels) for entry in read("yolo", yolo)] == [1, 3, 0]


def test_a_folder_outside_the_set_is_not_taken_from_its_own_description(yolo, tmp_path):
    (tmp_path / "secret").mkdir()
    (yolo / "data.yaml").write_text(f"val: {tmp_path / 'secret'}\nnames: [boat, kite]\n")
    assert find_part("yolo", yolo, "val").images == yolo / "images/val"


def test_paths_that_the_user_names_go_first(yolo):
    (yolo / "images/val").rename(yolo / "images/other")
    (yolo / "labels/val").rename(yolo / "labels/other")
    part = find_part("yolo", yolo, "val", images="images/other")
    assert part == Part(yolo / "labels/other", yolo / "images/other")
    assert find_part("csv", yolo, "val", "boxes.csv", "pictures") == Part(yolo / "boxes.csv", yolo / "pictures")


@pytest.mark.parametrize("other", ["voc", "csv"], indirect=True)
def test_classes_are_those_of_both_splits_or_of_a_list(other):
    name, root = other
    kept = root / ("ImageSets/Main/val.txt" if name == "voc" else "val.csv")
    # Image 3 has a boat only.
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(line for line in lines if not line.endswith(("7", "kite"))))
    assert read(name, root).annotations.class_names == ("boat", "kite")
    (root / "classes.txt").write_text("kite\nplane\nboat\n")
    images = read(name, root)
    assert images.annotations.class_names == ("kite", "plane", "boat")
    assert 2 in images[0].labels
    (root / "classes.txt").write_text("kite\n")
    with pytest.raises(ValueError, match=r"(object|line) \d: there is no class 'boat', only kite") as refusal:
        read(name, root)
    assert str(root) in str(refusal.value)


def test_a_data_module_trains_on_any_format_and_has_its_class_names(other):
    name, root = other
    data = CocoDataModule(str(root), input_size=32, num_workers=0)
    data.setup("fit")
    assert data.format == name
    assert data.class_names == ("boat", "kite")
    assert data.category_ids == (0, 1)
    assert len(data.train_set) == len(data.val_set) == 3
    assert data.train_set[SampleKey(0, 0)].image.shape == (3, 32, 32)


def test_chosen_classes_are_kept_in_any_format(other):
    data = CocoDataModule(str(other[1]), classes=["kite"], input_size=32, num_workers=0)
    data.setup("validate")
    assert data.class_names == ("kite",)
    assert [len(data.val_set[SampleKey(0, place)].labels) for place in range(3)] == [0, 1, 0]


def test_what_is_wrong_is_left_out_with_a_count_if_so_asked(table):
    path = table / "val.csv"
    path.write_text(path.read_text() + "pictures/gone.png,1,2,3,4,boat\npictures/gone.png,x,2,3,4,boat\n")
    with pytest.raises(ValueError, match=r"val\.csv: line 8: xmin must be a finite number, got 'x'"):
        CocoDataModule(str(table)).setup("validate")
    data = CocoDataModule(str(table), skip_broken=True)
    with pytest.warns(UserWarning, match=r"left out 2 things that are wrong with .*val\.csv, first .* line 8: xmin"):
        data.setup("validate")
    assert len(data.val_set) == 3
