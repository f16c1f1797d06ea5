import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mobilevision.detection.dataset import find_annotated, read_coco
from mobilevision.detection.formats.layout import Part, find_dataset, find_format, find_part, read_part


def read(name, root, split="val"):
    parts = {each: find_part(name, root, each) for each in ("train", "val", split)}
    naming = [parts[each] for each in ("train", "val") if parts[each].annotations.exists()]
    return find_annotated(read_part(name, root, parts[split], naming=naming), parts[split].images)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_format_becomes_the_same_dataset(coco, other, split):
    name, root = other
    expected, images = read_coco(coco.annotations, coco.images), read(name, root, split)
    assert images.annotations.class_names == ("boat", "kite")
    assert [entry.size for entry in images] == [entry.size for entry in expected]
    assert [entry.path.name for entry in images] == [entry.path.name for entry in expected]
    for entry, true in zip(images, expected, strict=True):
        np.testing.assert_allclose(entry.truth.boxes_xywh, true.truth.boxes_xywh, atol=1e-9)
        np.testing.assert_array_equal(entry.truth.labels, true.truth.labels)
    if name == "voc":
        assert [entry.truth.crowd.tolist() for entry in images] == [entry.truth.crowd.tolist() for entry in expected]
        assert [entry.boxes.tolist() for entry in images] == [entry.boxes.tolist() for entry in expected]


def test_a_dataset_is_recognized_by_its_files_or_by_the_annotations_that_the_user_names(coco, other):
    name, root = other
    assert find_format(root) == name
    assert find_format(coco.root) == "coco"
    assert find_format(coco.root, ["elsewhere/boats.json"]) == "coco"
    assert find_format(root, [None, str(find_part(name, root, "val").annotations)]) == name


def test_a_dataset_that_looks_like_two_formats_is_not_guessed_at(coco, table):
    shutil.copytree(coco.root / "annotations", table / "annotations")
    with pytest.raises(ValueError, match=r"looks like coco and csv: set format to one of them"):
        find_format(table)


def test_a_folder_without_a_dataset_is_refused_with_all_layouts(tmp_path):
    with pytest.raises(FileNotFoundError) as refusal:
        find_format(tmp_path)
    for expected in ("instances_train2017.json (coco)", "ImageSets/Main/train.txt (voc)", "labels/train (yolo)"):
        assert expected in str(refusal.value)
    assert "train.csv (csv), train (labelme), or set format" in str(refusal.value)


def test_the_folders_of_exporting_programs_are_found(voc, yolo):
    for old, new in (("JPEGImages", "valid"), ("Annotations", "xml")):
        (voc / old).rename(voc / new)
    for path in (voc / "xml").iterdir():
        path.rename(voc / "valid" / path.name)
    shutil.rmtree(voc / "ImageSets")
    assert find_format(voc) == "voc"
    assert find_part("voc", voc, "val") == Part(voc / "valid", voc / "valid")
    assert [len(entry.truth.labels) for entry in read("voc", voc)] == [1, 3, 0]
    (yolo / "data.yaml").write_text("train: ../images/train\nval: ../valid/images\nnames: {0: boat, 1: kite}\n")
    for kind in ("images", "labels"):
        (yolo / "valid").mkdir(exist_ok=True)
        (yolo / kind / "val").rename(yolo / "valid" / kind)
    assert find_part("yolo", yolo, "val") == Part(yolo / "valid/labels", yolo / "valid/images")
    assert [len(entry.truth.labels) for entry in read("yolo", yolo)] == [1, 3, 0]


@pytest.mark.parametrize(
    ("file", "folder"), [("test2017", "test2017"), ("test-dev2017", "test2017"), ("test", "test"), ("test", "test2017")]
)
def test_the_test_split_of_coco_has_one_of_several_names(tmp_path, file, folder):
    (tmp_path / folder).mkdir()
    (tmp_path / "annotations").mkdir()
    path = tmp_path / f"annotations/instances_{file}.json"
    path.write_text(json.dumps({}))
    (tmp_path / "annotations/image_info_test2017.json").touch()
    assert find_format(tmp_path) == "coco"
    assert find_part("coco", tmp_path, "test") == Part(path, tmp_path / folder)
    assert find_part("coco", tmp_path, "test", images="other").images == tmp_path / "other"


def test_the_test_split_of_other_formats_may_be_a_folder_or_stand_in_data_yaml(voc, yolo):
    shutil.rmtree(voc / "ImageSets")
    (voc / "Annotations").rename(voc / "test")
    assert find_part("voc", voc, "test") == Part(voc / "test", voc / "test")
    (yolo / "images/test").rename(yolo / "images/held_out")
    (yolo / "labels/test").rename(yolo / "labels/held_out")
    (yolo / "data.yaml").write_text("test: ../images/held_out\nnames: [boat, kite]\n")
    assert find_part("yolo", yolo, "test") == Part(yolo / "labels/held_out", yolo / "images/held_out")
    (yolo / "test").mkdir()
    for kind in ("images", "labels"):
        (yolo / kind / "held_out").rename(yolo / "test" / kind)
    assert find_part("yolo", yolo, "test") == Part(yolo / "test/labels", yolo / "test/images")


def test_a_folder_outside_the_dataset_is_not_taken_from_its_own_description(yolo, tmp_path):
    (tmp_path / "secret").mkdir()
    (yolo / "data.yaml").write_text(f"val: {tmp_path / 'secret'}\nnames: [boat, kite]\n")
    assert find_part("yolo", yolo, "val").images == yolo / "images/val"


def test_paths_that_the_user_names_go_first(yolo):
    (yolo / "images/val").rename(yolo / "images/other")
    (yolo / "labels/val").rename(yolo / "labels/other")
    part = find_part("yolo", yolo, "val", images="images/other")
    assert part == Part(yolo / "labels/other", yolo / "images/other")
    assert find_part("csv", yolo, "val", "boxes.csv", "files") == Part(yolo / "boxes.csv", yolo / "files")


@pytest.mark.parametrize("other", ["voc", "csv"], indirect=True)
def test_classes_are_those_of_training_and_validation_or_of_a_list(other):
    name, root = other
    kept = root / ("ImageSets/Main/val.txt" if name == "voc" else "val.csv")
    # Image 3 has a boat only.
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(line for line in lines if not line.endswith(("7", "kite"))))
    assert read(name, root).annotations.class_names == ("boat", "kite")
    find_part(name, root, "train").annotations.unlink()
    assert read(name, root).annotations.class_names == ("boat",)
    with pytest.raises(ValueError, match=r"(object|line) \d: there is no class 'kite', only boat"):
        read(name, root, "test")
    kept.unlink()
    assert read(name, root, "test").annotations.class_names == ("boat", "kite")
    (root / "classes.txt").write_text("kite\nplane\nboat\n")
    images = read(name, root, "test")
    assert images.annotations.class_names == ("kite", "plane", "boat")
    assert 2 in images[0].labels
    (root / "classes.txt").write_text("kite\n")
    with pytest.raises(ValueError, match=r"(object|line) \d: there is no class 'boat', only kite") as refusal:
        read(name, root, "test")
    assert str(root) in str(refusal.value)


def test_two_classes_of_one_name_are_refused_or_told_and_become_one(yolo):
    (yolo / "data.yaml").write_text("names: [boat, boat]")
    with pytest.raises(ValueError, match="there are several classes of the name 'boat': rename one"):
        read("yolo", yolo)
    findings = []
    annotations = read_part("yolo", yolo, find_part("yolo", yolo, "val"), on_finding=findings.append)
    assert [finding.kind for finding in findings] == ["repeated name"]
    assert (annotations.class_names, len(annotations.labels)) == (("boat",), 4)


def test_a_home_folder_may_be_written_as_a_tilde(coco, monkeypatch):
    monkeypatch.setenv("HOME", str(coco.root.parent))
    given = {"val": ("~/boats.json", f"~/{coco.root.name}/val2017")}
    shutil.copy(coco.annotations, coco.root.parent / "boats.json")
    dataset = find_dataset(Path("~") / coco.root.name, "coco", given)
    assert dataset.root == coco.root
    assert dataset.parts["val"] == Part(coco.root.parent / "boats.json", coco.images)


def test_other_formats_are_read_on_after_what_is_wrong(other):
    name, root = other
    file, old, new, kind = {
        "voc": ("Annotations/000000000003.xml", "boat", "", "unreadable annotation"),
        "yolo": ("labels/val/000000000003.txt", "0 ", "7 ", "unknown class"),
        "csv": ("val.csv", "files/000000000003.png,0", "files/000000000003.png,", "unreadable annotation"),
    }[name]
    (root / file).write_text((root / file).read_text().replace(old, new, 1))
    findings = []
    annotations = read_part(name, root, find_part(name, root, "val"), on_finding=findings.append)
    assert [finding.kind for finding in findings] == [kind]
    assert len(annotations.images) == 3
    assert len(annotations.labels) == 3
