"""Datasets as other programs write them: recognized without an option, each the same three images and objects."""

import json
import shutil

import pytest

from mobilevision.detection.datamodule import CocoDataModule
from mobilevision.detection.formats.layout import find_dataset, read_part

NOTHING_GIVEN = {"train": (None, None), "val": (None, None), "test": (None, None)}
NAMES = ("boat", "kite")


def copy_images(coco, folder):
    shutil.copytree(coco.images, folder, dirs_exist_ok=True)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_coco(coco, path, prefix=""):
    images = [image | {"file_name": f"{prefix}{image['file_name']}"} for image in coco.data["images"]]
    write(path, json.dumps(coco.data | {"images": images}))


def write_labels(coco, folder):
    for image, rows in coco.rows():
        width, height = image["width"], image["height"]
        lines = [
            f"{NAMES.index(name)} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}"
            for name, (x, y, w, h), _ in rows
        ]
        if lines:
            write(folder / f"{image['id']:012}.txt", "\n".join(lines))


def write_xml(coco, folder):
    for image, rows in coco.rows():
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax>"
            f"<ymax>{y + h}</ymax></bndbox></object>"
            for name, (x, y, w, h), _ in rows
        )
        text = f"<annotation><filename>{image['file_name']}</filename>{objects}</annotation>"
        write(folder / f"{image['id']:012}.xml", text)


def write_names(coco, path):
    write(path, "".join(f"{image['id']:012}\n" for image in coco.data["images"]))


def write_shapes(coco, folder):
    for image, rows in coco.rows():
        shapes = [
            {"label": name, "points": [[x, y], [x + w, y + h]], "shape_type": "rectangle"}
            for name, (x, y, w, h), _ in rows
        ]
        data = {"version": "5", "flags": {}, "shapes": shapes, "imagePath": image["file_name"], "imageData": None}
        write(folder / f"{image['id']:012}.json", json.dumps(data))


def coco_2014(coco, root):
    for split in ("train", "val"):
        write_coco(coco, root / f"annotations/instances_{split}2014.json")
        copy_images(coco, root / f"{split}2014")


def roboflow_coco(coco, root):
    for split in ("train", "valid", "test"):
        write_coco(coco, root / split / "_annotations.coco.json")
        copy_images(coco, root / split)
    write(root / "README.dataset.txt", "boats")


def roboflow_csv(coco, root):
    for split in ("train", "valid"):
        copy_images(coco, root / split)
        lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
        for image, rows in coco.rows():
            lines += [f"{image['file_name']},1,1,{name},{x},{y},{x + w},{y + h}" for name, (x, y, w, h), _ in rows]
            lines += [] if rows else [f"{image['file_name']},,,,,,,"]
        write(root / split / "_annotations.csv", "\n".join(lines))


def roboflow_yolo(coco, root):
    for split in ("train", "valid"):
        copy_images(coco, root / split / "images")
        write_labels(coco, root / split / "labels")
    text = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['boat', 'kite']\n"
    write(root / "data.yaml", f"{text}roboflow: {{license: MIT}}\n")
    write(root / "README.roboflow.txt", "boats")


def roboflow_darknet(coco, root):
    for split in ("train", "valid"):
        copy_images(coco, root / split)
        write_labels(coco, root / split)
        write(root / split / "_darknet.labels", "boat\nkite\n")


def cvat_coco(coco, root):
    write_coco(coco, root / "annotations/instances_default.json")
    copy_images(coco, root / "images/default")


def cvat_coco_of_several_subsets(coco, root):
    for split in ("train", "val"):
        write_coco(coco, root / f"annotations/instances_{split}.json")
        copy_images(coco, root / "images" / split)


def cvat_yolo(coco, root):
    copy_images(coco, root / "obj_train_data")
    write_labels(coco, root / "obj_train_data")
    lines = [f"data/obj_train_data/{image['file_name']}" for image in coco.data["images"]]
    write(root / "train.txt", "\n".join(lines))
    write(root / "obj.names", "boat\nkite\n")
    write(root / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")


def cvat_yolo_with_lists(coco, root):
    for split in ("train", "val"):
        copy_images(coco, root / "images" / split)
        write_labels(coco, root / "labels" / split)
        write(
            root / f"{split}.txt", "\n".join(f"data/images/{split}/{row['file_name']}" for row in coco.data["images"])
        )
    write(root / "boats.yaml", "path: .\ntrain: train.txt\nval: val.txt\nnames:\n  0: boat\n  1: kite\n")


def yolo_with_several_folders(coco, root):
    for part, rows in (("one", slice(0, 1)), ("two", slice(1, 3))):
        for image in coco.data["images"][rows]:
            (root / part / "images").mkdir(parents=True, exist_ok=True)
            shutil.copy(coco.images / image["file_name"], root / part / "images")
    write_labels(coco, root / "all")
    for part in ("one", "two"):
        for path in (root / part / "images").iterdir():
            if (label := root / "all" / f"{path.stem}.txt").is_file():
                write(root / part / "labels" / label.name, label.read_text())
    shutil.rmtree(root / "all")
    for part in ("one", "two"):
        shutil.copytree(root / part, root / f"val_{part}")
    text = "path: /home/someone/boats\ntrain: [one/images, two/images]\nvalid: [val_one/images, val_two/images]\n"
    write(root / "data.yaml", f"{text}names: {{0: boat, 1: kite}}\n")


def darknet(coco, root):
    copy_images(coco, root / "pictures")
    write_labels(coco, root / "pictures")
    for split in ("train", "valid"):
        lines = (f"/home/someone/pictures/{image['file_name']}" for image in coco.data["images"])
        write(root / f"{split}.txt", "\n".join(lines))
    write(root / "boats.names", "boat\nkite\n")


def label_studio_coco(coco, root):
    write_coco(coco, root / "result.json", "images/")
    copy_images(coco, root / "images")


def label_studio_yolo(coco, root):
    copy_images(coco, root / "images")
    write_labels(coco, root / "labels")
    write(root / "classes.txt", "boat\nkite\n")
    write(root / "notes.json", "{}")


def labelimg_yolo(coco, root):
    copy_images(coco, root)
    write_labels(coco, root)
    write(root / "classes.txt", "boat\nkite\n")


def labelimg_voc(coco, root):
    copy_images(coco, root)
    write_xml(coco, root)


def labelme(coco, root):
    copy_images(coco, root)
    write_shapes(coco, root)


def labelme_in_folders(coco, root):
    for split in ("train", "val"):
        labelme(coco, root / split)


def voc_with_trainval_only(coco, root):
    copy_images(coco, root / "JPEGImages")
    write_xml(coco, root / "Annotations")
    write_names(coco, root / "ImageSets/Main/trainval.txt")


def vocdevkit(coco, root):
    voc_with_trainval_only(coco, root / "VOCdevkit/VOC2012")
    for split in ("train", "val"):
        write_names(coco, root / f"VOCdevkit/VOC2012/ImageSets/Main/{split}.txt")


WITH_SPLITS = [
    (coco_2014, "COCO 2014"),
    (roboflow_coco, "Roboflow COCO"),
    (roboflow_csv, "Roboflow CSV"),
    (roboflow_yolo, "Roboflow YOLO of data.yaml"),
    (roboflow_darknet, "YOLO"),
    (cvat_coco_of_several_subsets, "CVAT COCO"),
    (cvat_yolo_with_lists, "YOLO lists of boats.yaml"),
    (yolo_with_several_folders, "YOLO of data.yaml"),
    (darknet, "YOLO lists"),
    (labelme_in_folders, "LabelMe"),
    (vocdevkit, "Pascal VOC"),
]
WITHOUT_SPLITS = [
    (cvat_coco, "CVAT COCO"),
    (cvat_yolo, "YOLO lists of obj.data"),
    (label_studio_coco, "Label Studio COCO"),
    (label_studio_yolo, "Label Studio YOLO"),
    (labelimg_yolo, "LabelImg YOLO"),
    (labelimg_voc, "LabelImg VOC"),
    (labelme, "LabelMe"),
    (voc_with_trainval_only, "Pascal VOC"),
]


def by_case(cases):
    return pytest.mark.parametrize(("write", "title"), cases, ids=[case[0].__name__ for case in cases])


@pytest.fixture
def export(coco, tmp_path):
    """The dataset as another program writes it, in a folder of its own."""

    def export(write):
        root = tmp_path / "export"
        root.mkdir()
        write(coco, root)
        return root

    return export


def read(root, split):
    dataset = find_dataset(root, None, NOTHING_GIVEN)
    naming = [dataset.parts[name] for name in ("train", "val") if dataset.parts[name].annotations.exists()]
    return read_part(dataset.format, dataset.root, dataset.parts[split], naming=naming)


@by_case(WITH_SPLITS + WITHOUT_SPLITS)
def test_an_export_is_recognized_and_said_on_one_line(export, write, title):
    root = export(write)
    dataset = find_dataset(root, None, NOTHING_GIVEN)
    assert dataset.title == title
    assert str(dataset).startswith(f"{dataset.root}: {title}, train in ")
    assert "\n" not in str(dataset)


@by_case(WITH_SPLITS + WITHOUT_SPLITS)
def test_an_export_holds_the_same_images_and_objects(coco, export, write, title):
    root = export(write)
    for split in ("train", "val") if (write, title) in WITH_SPLITS else ("train",):
        annotations = read(root, split)
        assert annotations.class_names == NAMES
        names = [image["file_name"].rpartition("/")[2] for image in annotations.images]
        objects = {name: annotations.truth(place) for place, name in enumerate(names)}
        assert sorted(objects) == sorted(image["file_name"] for image in coco.data["images"])
        for image, rows in coco.rows():
            truth = objects[image["file_name"]]
            assert truth.labels.tolist() == [NAMES.index(name) for name, _, _ in rows]
            assert truth.boxes_xywh.tolist() == [pytest.approx(box, abs=1e-9) for _, box, _ in rows]


@pytest.mark.filterwarnings("ignore:.* to train on and to measure on")
@by_case([case for case in WITH_SPLITS if case[0] in (roboflow_coco, yolo_with_several_folders, vocdevkit)])
def test_a_data_module_needs_nothing_but_the_folder_of_an_export(export, write, title):
    data = CocoDataModule(str(export(write)), input_size=32, num_workers=0)
    data.setup("fit")
    assert data.class_names == NAMES
    (batch,) = data.val_dataloader()
    assert sorted(len(truth.labels) for truth in batch.truths) == [0, 1, 3]


def test_a_dataset_without_splits_is_all_to_train_on_and_needs_another_to_measure(export):
    root = export(cvat_coco)
    with pytest.raises(FileNotFoundError, match=r"instances_val2017\.json not found") as refusal:
        CocoDataModule(str(root)).setup("fit")
    assert "or data.val_annotations" in str(refusal.value)


def test_several_datasets_in_one_folder_are_not_guessed_at(export, coco):
    root = export(vocdevkit)
    voc_with_trainval_only(coco, root / "VOCdevkit/VOC2007")
    with pytest.raises(ValueError, match=r"holds several datasets: set root to one of .*VOC2007, .*VOC2012"):
        find_dataset(root, None, NOTHING_GIVEN)


def test_lists_of_masks_are_no_dataset_with_boxes(tmp_path):
    write(tmp_path / "ImageSets/Segmentation/train.txt", "a.jpg\n")
    with pytest.raises(FileNotFoundError, match="holds no dataset with boxes"):
        find_dataset(tmp_path, None, NOTHING_GIVEN)


def test_what_a_description_names_and_is_not_there_is_said(export):
    root = export(yolo_with_several_folders)
    text = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(f"{text}test: [gone/images]\nepochs: 3\n")
    with (
        pytest.warns(UserWarning, match=r"data\.yaml: does nothing here: epochs"),
        pytest.warns(UserWarning, match=r"data\.yaml: names what is not in .*export: test: gone/images"),
    ):
        CocoDataModule(str(root)).setup("validate")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (3, "a shape must be an object with label and points, got 3"),
        ({"points": [[1, 2], [3, 4]]}, "label must be the name of a class, got None"),
        ({"label": "boat", "points": [[1, 2]], "shape_type": "point"}, "shape_type must have an area.*got 'point'"),
        (
            {"label": "boat", "points": [[1, 2]]},
            r"points must be two pairs of finite numbers or more, got \[\[1, 2\]\]",
        ),
        ({"label": "boat", "points": [[1, 2], [3, "x"]]}, "points must be two pairs"),
        ({"label": "boat", "points": [[1, 2], 3]}, "points must be two pairs"),
    ],
)
def test_a_wrong_shape_is_named_and_the_rest_goes_on(export, shape, message):
    root = export(labelme)
    path = root / "000000000007.json"
    data = json.loads(path.read_text())
    circle = {"label": "kite", "points": [[40, 30], [43, 34]], "shape_type": "circle"}
    path.write_text(json.dumps(data | {"shapes": [circle, shape]}))
    with pytest.raises(ValueError, match=rf"000000000007\.json: shape 2: {message}"):
        read(root, "train")
    findings = []
    dataset = find_dataset(root, None, NOTHING_GIVEN)
    annotations = read_part("labelme", root, dataset.parts["train"], on_finding=findings.append)
    assert len(findings) == 1
    assert annotations.truth(1).boxes_xywh.tolist() == [[35, 25, 10, 10]]
    for text in ("{", "[]", '{"version": 1}'):
        path.write_text(text)
        read_part("labelme", root, dataset.parts["train"], on_finding=findings.append)
    assert [finding.kind for finding in findings] == ["unreadable annotation"] * 4
