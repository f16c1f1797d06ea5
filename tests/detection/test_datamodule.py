import json
from types import SimpleNamespace

import pytest
import torch

from mobilevision.detection.datamodule import CocoDataModule, collate
from mobilevision.detection.preprocess import StretchTransform
from mobilevision.detection.types import PADDING
from mobilevision.training.loader import SampleKey

ALL_AUGMENTATION = {"crop": True, "flip": True, "photometric": True, "zoom_out": True}


def make_data(coco, stage="fit", **options):
    settled = {"input_size": 32, "batch_size": 3, "num_workers": 0, "crop": False, "flip": False}
    data = CocoDataModule(str(coco.write().root), **settled | options)
    data.setup(stage)
    return data


def test_a_batch_holds_images_padded_boxes_and_what_evaluation_needs(coco):
    (batch,) = make_data(coco).val_dataloader()
    assert batch.images.shape == (3, 3, 32, 32)
    assert batch.images.dtype == torch.uint8
    # Image 3 is 50 x 90, image 7 is 80 x 60 with a box that reaches out of it, image 12 has no objects.
    expected = [
        [[0, 0, 32, 32], [0, 0, 0, 0]],
        [[4, 20 * 32 / 60, 16, 24], [24, 16, 32, 50.5 * 32 / 60]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    torch.testing.assert_close(batch.boxes, torch.tensor(expected))
    assert batch.labels.tolist() == [[0, PADDING], [1, 0], [PADDING, PADDING]]
    assert batch.sizes.tolist() == [[90, 50], [60, 80], [64, 64]]
    assert batch.sizes.dtype == torch.int64
    assert batch.positions.tolist() == [0, 1, 2]
    assert [truth.labels.tolist() for truth in batch.truths] == [[0], [1, 0, 0], []]


def test_the_channels_lie_last_in_memory(coco):
    for loader in (make_data(coco).val_dataloader(), make_data(coco, crop=True).train_dataloader()):
        for batch in loader:
            assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_without_any_object_can_be_made(coco):
    batch = collate([make_data(coco).datasets["val"][2]])
    assert batch.boxes.shape == (1, 0, 4)
    assert batch.labels.shape == (1, 0)


def test_every_split_has_its_own_files(coco):
    data = make_data(coco)
    data.setup("test")
    for split in ("train", "val", "test"):
        images = data.datasets[split].images
        assert images.paths == [coco.root / f"{split}2017/{image_id:012}.png" for image_id in (3, 7, 12)]


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_class_names_and_the_files_own_ids_come_from_the_categories(coco, stage):
    data = make_data(coco, stage=stage)
    assert data.class_names == ("boat", "kite")
    assert data.category_ids == (5, 44)


def test_a_stage_does_not_ask_for_the_splits_of_others(coco):
    (coco.root / "annotations/instances_train2017.json").unlink()
    data = CocoDataModule(str(coco.root))
    data.setup("validate")
    assert len(data.datasets["val"]) == 3
    with pytest.raises(
        FileNotFoundError, match=r"instances_train2017\.json not found: expected .*train2017, .*val2017"
    ):
        data.setup("fit")
    (coco.root / "annotations/instances_val2017.json").unlink()
    data.setup("test")
    assert len(data.datasets["test"]) == 3


@pytest.mark.parametrize("part", ["annotations/instances_val2017.json", "val2017"])
def test_a_missing_part_is_named_with_the_layout(tmp_path, coco, part):
    (coco.root / part).rename(tmp_path / "elsewhere")
    data = CocoDataModule(str(coco.root))
    with pytest.raises(FileNotFoundError) as refusal:
        data.setup("validate")
    assert str(refusal.value).startswith(f"{coco.root / part} not found: expected ")
    for expected in ("annotations/instances_train2017.json", "train2017", "annotations/instances_val2017.json"):
        assert str(coco.root / expected) in str(refusal.value)


@pytest.mark.parametrize(("split", "stage"), [("val", "validate"), ("test", "test")])
def test_every_path_can_be_set(coco, split, stage):
    (coco.root / f"annotations/instances_{split}2017.json").rename(coco.root / "boats.json")
    (coco.root / f"{split}2017").rename(coco.root / "files")
    data = CocoDataModule(str(coco.root), **{f"{split}_images": "files", f"{split}_annotations": "boats.json"})
    data.setup(stage)
    assert len(data.datasets[split]) == 3


def test_training_and_validation_must_have_the_same_categories(coco):
    path = coco.root / "annotations/instances_train2017.json"
    path.write_text(path.read_text().replace("boat", "ship"))
    with pytest.raises(ValueError, match="must have the same categories, got 'ship', 'kite', and 'boat', 'kite': give"):
        CocoDataModule(str(coco.root)).setup("fit")


def test_the_same_categories_under_other_ids_are_matched_by_name(coco):
    expected = make_data(coco)
    path = coco.annotations
    swapped = [{"id": 44, "name": "boat"}, {"id": 7, "name": "kite"}]
    ids = {44: 7, 5: 44}
    rows = [row | {"category_id": ids[row["category_id"]]} for row in coco.data["annotations"]]
    path.write_text(json.dumps(coco.data | {"categories": swapped, "annotations": rows}))
    data = CocoDataModule(str(coco.root), input_size=32, num_workers=0)
    data.setup("fit")
    assert data.class_names == ("boat", "kite")
    assert data.category_ids == (44, 7)
    for split in ("train", "val"):
        labels = [[data.datasets[split][place].truth.labels.tolist()] for place in range(3)]
        assert labels == [[expected.datasets[split][place].truth.labels.tolist()] for place in range(3)]


def test_images_to_train_on_and_to_measure_on_are_counted(coco):
    with pytest.warns(
        UserWarning, match=r"3 images, .*000000000003\.png among them, are to train on and to measure on"
    ):
        make_data(coco, train_images="val2017")


def test_two_classes_of_one_name_are_refused(coco):
    coco.data["categories"][0]["name"] = "boat"
    with pytest.raises(ValueError, match=r"val2017\.json: the names of classes must differ, there are several 'boat'"):
        make_data(coco, stage="validate")


def test_measuring_on_the_test_split_uses_its_images(other):
    name, root = other
    data = CocoDataModule(str(root), input_size=32, num_workers=0)
    data.setup("test")
    (batch,) = data.test_dataloader()
    assert data.format == name
    assert [len(truth.labels) for truth in batch.truths] == [1, 3, 0]
    place = {"voc": "ImageSets/Main/test.txt", "yolo": "labels/test", "csv": "test.csv"}[name]
    (root / place).rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="the dataset has no test split") as refusal:
        data.setup("test")
    assert place in str(refusal.value)
    assert "mobilevision validate" in str(refusal.value)


def test_a_test_file_without_boxes_is_refused(coco):
    path = coco.root / "annotations/instances_test2017.json"
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no test split: expected annotations/instances_test2017"):
        CocoDataModule(str(coco.root)).setup("test")
    del coco.data["annotations"]
    path.with_name("image_info_test2017.json").write_text(json.dumps(coco.data))
    data = CocoDataModule(str(coco.root), test_annotations="annotations/image_info_test2017.json")
    with pytest.raises(ValueError, match=r"image_info_test2017\.json has no boxes: 'annotations' is missing"):
        data.setup("test")
    path.write_text(json.dumps(coco.data | {"annotations": []}))
    with pytest.raises(ValueError, match=r"instances_test2017\.json has no boxes"):
        CocoDataModule(str(coco.root)).setup("test")
    data = CocoDataModule(str(coco.root), test_annotations="gone.json")
    with pytest.raises(FileNotFoundError, match=r"gone\.json not found"):
        data.setup("test")


def test_a_head_gives_its_evaluation_transform_and_size(coco):
    data = make_data(coco, input_size=None)
    assert data.train_set[SampleKey(0, 0)].image.shape == data.datasets["val"][0].image.shape == (3, 320, 320)
    data.attach(SimpleNamespace(input_size=48, preprocess=StretchTransform(48)))
    data.setup("test")
    for dataset in data.datasets.values():
        assert dataset[SampleKey(0, 1)].image.shape == (3, 48, 48)
        torch.testing.assert_close(dataset[1].boxes[0], torch.tensor([6, 16, 24, 36.0]))
    with pytest.raises(ValueError, match=r"data\.input_size must be that of the network, 48, got 32"):
        make_data(coco).attach(SimpleNamespace(input_size=48, preprocess=StretchTransform(48)))


def test_broken_images_are_left_out_and_counted_if_so_asked(coco):
    (coco.images / "000000000003.png").write_bytes(b"no image")
    (coco.images / "000000000012.png").unlink()
    data = CocoDataModule(str(coco.root), input_size=32, num_workers=0, skip_broken=True)
    with pytest.warns(UserWarning, match=r"skipped 2 of 3 images: .*000000000003\.png"):
        data.setup("validate")
    (batch,) = data.val_dataloader()
    assert batch.positions.tolist() == [0]
    assert batch.sizes.tolist() == [[60, 80]]


def test_annotations_that_cannot_be_read_are_left_out_and_counted_if_so_asked(coco, table):
    coco.data["annotations"][0]["bbox"] = [10, 20, float("nan"), 25]
    coco.annotations.write_text(json.dumps(coco.data))
    with pytest.raises(ValueError, match=r"val2017\.json: annotation 1: bbox must be 4 finite numbers"):
        CocoDataModule(str(coco.root), format="coco").setup("validate")
    data = CocoDataModule(str(coco.root), skip_broken=True)
    with pytest.warns(
        UserWarning, match=r"left out 1 things that are wrong with .*val2017\.json, first .* annotation 1"
    ):
        data.setup("validate")
    assert [len(data.datasets["val"][place].truth.labels) for place in range(3)] == [1, 2, 0]
    path = table / "val.csv"
    path.write_text(path.read_text() + "files/gone.png,1,2,3,4,boat\nfiles/gone.png,x,2,3,4,boat\n")
    with pytest.raises(ValueError, match=r"val\.csv: line 8: xmin must be a finite number, got 'x'"):
        CocoDataModule(str(table)).setup("validate")
    data = CocoDataModule(str(table), skip_broken=True)
    with pytest.warns(UserWarning, match=r"left out 2 things that are wrong with .*val\.csv, first .* line 8: xmin"):
        data.setup("validate")
    assert len(data.datasets["val"]) == 3


def test_a_dataset_without_an_image_is_refused(coco):
    coco.data |= {"images": [], "annotations": []}
    with pytest.raises(ValueError, match="names no image that can be read"):
        make_data(coco, stage="validate")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (None, "has no box to train on: it has no object at all in 3 images"),
        ({"iscrowd": "true"}, "all 4 objects are crowds"),
        ({"bbox": [0.25, 0.5, 0.75, 0.5]}, "fractions of the images' sides from 0 to 1, where pixels are expected"),
        ({"bbox": [10, 20, 30, 0.5]}, "of 4 boxes 1 are crowds and 3 thinner than a pixel"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*thinner than a pixel")
def test_a_training_set_without_a_box_to_train_on_is_refused_with_its_likely_cause(coco, change, cause):
    for row in coco.data["annotations"]:
        row.update(change or {})
    coco.data["annotations"] = coco.data["annotations"] if change else []
    with pytest.raises(ValueError, match=cause) as refusal:
        make_data(coco)
    assert str(coco.root / "annotations/instances_train2017.json") in str(refusal.value)


def test_a_dataset_with_nothing_to_measure_against_is_refused(coco):
    for row in coco.data["annotations"]:
        row["iscrowd"] = 1
    with pytest.raises(ValueError, match=r"val2017\.json has no boxes to measure a network against: all 4 are crowds"):
        make_data(coco, stage="validate")


def test_a_class_without_objects_to_train_on_is_named(coco):
    coco.data["categories"] += [{"id": 50 + place, "name": f"class {place}"} for place in range(12)]
    with pytest.warns(
        UserWarning, match=r"train2017\.json has no object of class 0, .* class 9 and 2 more to train on"
    ):
        make_data(coco)


def test_batches_of_images_without_objects_can_be_trained_on(coco):
    data = make_data(coco, batch_size=1, **ALL_AUGMENTATION)
    batch = next(batch for batch in data.train_dataloader() if batch.positions.item() == 2)
    assert batch.boxes.shape == (1, 0, 4)
    assert batch.boxes.dtype == torch.float32
    assert batch.labels.shape == (1, 0)
    assert [truth.boxes_xywh.shape for truth in batch.truths] == [(0, 4)]


@pytest.mark.filterwarnings("ignore:.* to train on and to measure on")
def test_a_data_module_trains_on_any_format_with_all_or_some_of_its_classes(other):
    name, root = other
    data = CocoDataModule(str(root), input_size=32, num_workers=0)
    data.setup("fit")
    assert data.format == name
    assert data.class_names == ("boat", "kite")
    assert data.category_ids == (0, 1)
    assert len(data.train_set) == len(data.datasets["val"]) == 3
    assert data.train_set[SampleKey(0, 0)].image.shape == (3, 32, 32)
    some = CocoDataModule(str(root), classes=["kite"], input_size=32, num_workers=0)
    some.setup("validate")
    assert some.class_names == ("kite",)
    assert [len(some.datasets["val"][place].labels) for place in range(3)] == [0, 1, 0]


def test_a_dataset_of_one_class_labels_it_0_and_keeps_the_images_without_it(coco):
    data = make_data(coco, classes=["kite"], batch_size=3, **ALL_AUGMENTATION)
    assert data.class_names == ("kite",)
    (batch,) = data.train_dataloader()
    assert sorted(batch.positions.tolist()) == [0, 1, 2]
    assert set(batch.labels.flatten().tolist()) <= {0, PADDING}


def test_batches_of_one_hold_every_image_once(coco):
    data = make_data(coco, batch_size=1, **ALL_AUGMENTATION)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batches = list(loader)
        assert all(batch.images.shape == (1, 3, 32, 32) for batch in batches)
        assert sorted(batch.positions.item() for batch in batches) == [0, 1, 2]


def test_processes_that_read_make_the_same_batches(coco):
    alone, helped = (
        next(iter(make_data(coco, crop=True, num_workers=workers).train_dataloader())) for workers in (0, 1)
    )
    assert torch.equal(alone.images, helped.images)
    assert torch.equal(alone.boxes, helped.boxes)
    assert helped.images.is_contiguous(memory_format=torch.channels_last)
    truths = ([truth.boxes_xywh.tolist() for truth in batch.truths] for batch in (alone, helped))
    assert next(truths) == next(truths)
