import json
import shutil

import pytest
from PIL import Image


@pytest.fixture
def data(setups, tmp_path):
    """A copy of the detection dataset: 8 images to train on, 5 to measure on."""
    return shutil.copytree(setups["detection"].root, tmp_path / "data")


def change(data, split, edit):
    path = data / f"annotations/instances_{split}2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def test_a_good_dataset_ends_with_0_and_a_sheet(run, data, tmp_path):
    code, out, err = run("check-data", "--root", data, "--sheet", tmp_path / "sheet.png", "--json", tmp_path / "r.json")
    assert (code, err) == (0, "")
    assert "0 problems, 0 notes" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["format"] == "coco"
    assert report["findings"] == []
    assert report["splits"]["train"] == {"images": 8, "objects": 8, "classes": {"blue": 4, "red": 4}}
    assert sum(report["anchors"]["counts"]) == 13
    assert report["anchors"]["input_size"] == 320
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 328 + 8, 4 * 328 + 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "r.json", "sheet.png"]


def test_every_problem_is_told_and_a_cleaned_copy_has_none(run, data, tmp_path):
    def spoil(content):
        content["annotations"][0]["bbox"] = [10, 10, 0, 5]
        content["annotations"][1]["category_id"] = 9
        content["annotations"] += [content["annotations"][2]]

    path = change(data, "train", spoil)
    before = path.read_bytes()
    (data / "train2017/3.png").write_bytes(b"no image")
    (data / "train2017/4.png").unlink()
    shutil.copy(data / "val2017/0.png", data / "train2017/5.png")
    report = tmp_path / "r.json"
    options = ("check-data", "--root", data, "--sheet", tmp_path / "sheet.png", "--json", report)
    code, out, _ = run(*options, "--fix", tmp_path / "fixed.json")
    assert code == 1
    for line in (
        f"unknown class: {path}: annotation 2: there is no category_id 9",
        f"undecodable: {data / 'train2017/3.png'}: does not decode as an image: not a known format",
        f"missing image: {data / 'train2017/4.png'}: there is no such file",
        f"in two splits: {data / 'val2017/0.png'}: is in val and, as {data / 'train2017/5.png'}, in train",
    ):
        assert line in out
    kinds = sorted(finding["kind"] for finding in json.loads(report.read_text())["findings"] if finding["problem"])
    assert kinds == sorted(
        ["box of no size", "unknown class", "duplicate id", "undecodable", "missing image", "in two splits"]
    )
    assert path.read_bytes() == before
    for split in ("train", "val"):
        shutil.copy(tmp_path / f"fixed_{split}.json", data / f"annotations/instances_{split}2017.json")
    code, out, _ = run(*options)
    assert code == 0
    fixed = json.loads(report.read_text())
    assert fixed["splits"]["train"]["images"] == 5
    assert fixed["splits"]["val"]["images"] == 5


def test_a_test_split_is_checked_too_and_the_images_of_every_two_splits_compared(run, data, tmp_path):
    shutil.copytree(data / "val2017", data / "test2017")
    path = data / "annotations/instances_test2017.json"
    shutil.copy(data / "annotations/instances_val2017.json", path)
    change(data, "test", lambda content: content["annotations"][0].update(bbox=[1, 1, 0, 0]))
    shutil.copy(data / "test2017/4.png", data / "train2017/5.png")
    options = ("check-data", "--root", data, "--sheet", tmp_path / "sheet.png", "--json", tmp_path / "r.json")
    code, out, _ = run(*options, "--fix", tmp_path / "fixed.json")
    assert code == 1
    for line in (
        f"box of no size: {path}: annotation 1: ",
        f"in two splits: {data / 'test2017/0.png'}: is in test and, as {data / 'val2017/0.png'}, in val",
        f"in two splits: {data / 'val2017/4.png'}: is in val and, as {data / 'train2017/5.png'}, in train",
    ):
        assert line in out
    assert json.loads((tmp_path / "r.json").read_text())["splits"]["test"]["images"] == 5
    kept = [
        len(json.loads((tmp_path / f"fixed_{split}.json").read_text())["images"]) for split in ("train", "val", "test")
    ]
    assert kept == [7, 0, 5]
    code, _, err = run("check-data", "--root", data, "--test-annotations", "gone.json")
    assert (code, err) == (2, f"mobilevision: error: {data / 'gone.json'} not found\n")


def test_one_split_is_enough_and_is_cleaned_into_one_file(run, data, tmp_path):
    change(data, "val", lambda content: content["annotations"].pop())
    (data / "annotations/instances_train2017.json").unlink()
    code, out, _ = run(
        "check-data", "--root", data, "--sheet", tmp_path / "sheet.png", "--fix", tmp_path / "fixed.json"
    )
    assert code == 0
    assert "0 problems, 1 notes" in out
    assert "5 of 5 images, 4 of 4 objects" in out
    assert len(json.loads((tmp_path / "fixed.json").read_text())["images"]) == 5


def test_a_split_without_its_folder_of_images_ends_with_2(run, data, tmp_path):
    (data / "val2017").rename(data / "elsewhere")
    code, _, err = run("check-data", "--root", data, "--train-images", "train2017", "--sheet", tmp_path / "sheet.png")
    assert (code, err) == (2, f"mobilevision: error: {data / 'val2017'} not found\n")


def test_another_format_may_be_named_with_its_paths(run, data, tmp_path):
    lines = "".join(f"{index}.png,1,2,30,40,boat\n" for index in range(5))
    (tmp_path / "boxes.csv").write_text(f"{lines}0.png,50,2,30,40,boat\n")
    options = ("--val-annotations", tmp_path / "boxes.csv", "--val-images", "val2017", "--sheet", tmp_path / "s.png")
    code, out, _ = run("check-data", "--root", data, *options)
    assert code == 1
    assert f"box of no size: {tmp_path / 'boxes.csv'}: annotation boxes.csv: line 6" in out


def test_an_export_is_named_on_one_line_and_a_label_file_that_is_not_text_is_told(run, data, tmp_path):
    for split, folder in (("train", "train2017"), ("valid", "val2017")):
        shutil.copytree(data / folder, tmp_path / "export" / split / "images")
        (tmp_path / "export" / split / "labels").mkdir()
        for path in (data / folder).iterdir():
            label = tmp_path / "export" / split / "labels" / f"{path.stem}.txt"
            label.write_text("\n0 0.5 0.5 0.4 0.4\n\n")
    root = tmp_path / "export"
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [red, no]\nseed: 1\n")
    (root / "train/labels/0.txt").write_bytes(b"\xff\xfe0")
    code, out, err = run("check-data", "--root", root, "--sheet", tmp_path / "sheet.png")
    assert (code, err) == (1, "")
    assert out.splitlines()[0] == f"{root}: Roboflow YOLO of data.yaml, train in train/labels, val in valid/labels"
    for line in (
        f"unreadable annotation: {root / 'train/labels/0.txt'}: is not text in UTF-8",
        f"not understood: {root / 'data.yaml'}: does nothing here: seed",
        f"class without objects: {root / 'valid/labels'}: category 1: 'no' has no objects",
    ):
        assert line in out
    assert "1 problems, 4 notes" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--root", "nowhere"], "--root must be a folder, got nowhere"),
        (["--root", "."], "holds no dataset with boxes in a known layout"),
        (["--root", ".", "--format", "csv"], "train.csv not found"),
        (["--root", ".", "--val-annotations", "gone.json"], "gone.json not found"),
        (["--root", ".", "--format", "pvoc"], "argument --format: invalid choice: 'pvoc'"),
    ],
)
def test_what_cannot_be_read_at_all_ends_with_2(run, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("check-data", *options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_original_is_never_the_place_of_the_cleaned_copy(run, data, tmp_path):
    (data / "annotations/instances_train2017.json").unlink()
    path = data / "annotations/instances_val2017.json"
    before = path.read_bytes()
    code, _, err = run("check-data", "--root", data, "--sheet", tmp_path / "s.png", "--fix", path)
    assert code == 2
    assert "--fix must be another file than the annotations" in err
    assert path.read_bytes() == before


def test_a_dataset_with_masks_is_recognised_counted_and_drawn(run, setups, tmp_path):
    options = (
        "--classes",
        "background",
        "blue",
        "red",
        "--sheet",
        tmp_path / "sheet.png",
        "--json",
        tmp_path / "r.json",
    )
    code, out, err = run("check-data", "--root", setups["segmentation"].root, *options)
    assert (code, err) == (0, "")
    assert "0 problems, 0 notes" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["format"] == "voc-masks"
    assert report["splits"]["train"]["num_pairs"] == 8
    assert [row["name"] for row in report["splits"]["val"]["classes"]] == ["background", "blue", "red"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 4 * 328 + 8


def test_wrong_masks_in_folders_are_told_one_by_one(run, setups, tmp_path):
    root = shutil.copytree(setups["segmentation"].root, tmp_path / "data")
    (root / "SegmentationClass" / "train_1.png").unlink()
    Image.new("RGB", (72, 80), (0, 1, 0)).save(root / "SegmentationClass" / "val_0.png")
    Image.new("L", (72, 80), 7).save(root / "SegmentationClass" / "val_1.png")
    options = ("--train-images", "JPEGImages", "--train-masks", "SegmentationClass", "--sheet", tmp_path / "sheet.png")
    classes = ("--classes", "background", "blue", "red")
    code, out, _ = run("check-data", "--root", root, "--format", "masks", *options, *classes)
    assert code == 1
    assert "3 problems" in out
    for part in ("train_1.png", "there is no such mask", "val_0.png", "val_1.png", "must hold classes 0 to 2"):
        assert part in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "masks"), "--classes or --class-table must say the classes of the masks"),
        (("--format", "masks", "--classes", "a", "b"), "images/train"),
        (("--format", "voc-masks", "--splits", "test"), "test.txt"),
        (("--format", "voc-masks", "--fix", "out.json"), "--fix is for datasets with boxes"),
    ],
)
def test_masks_that_cannot_be_checked(options, message, run, setups, tmp_path):
    code, out, err = run("check-data", "--root", setups["segmentation"].root, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
