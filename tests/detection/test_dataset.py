import json

import numpy as np
import pytest
import torch

from mobilevision.detection.dataset import DetectionDataset, find_annotated, read_coco
from mobilevision.detection.formats.coco import read_annotations
from mobilevision.detection.preprocess import StretchTransform
from mobilevision.detection.transforms import DetectionAugment
from mobilevision.training.loader import SampleKey


def read(coco, **options):
    return find_annotated(read_annotations(coco.write().annotations, folder=coco.images), coco.images, **options)


def test_images_come_in_ascending_order_of_their_ids_with_sizes_and_files(coco):
    images = read(coco)
    assert [entry.size for entry in images] == [(90, 50), (60, 80), (64, 64)]
    assert images.paths == [coco.images / f"{image_id:012}.png" for image_id in (3, 7, 12)]
    assert [entry.path for entry in images] == images.paths
    assert images[-1].size == (64, 64)


def test_boxes_become_corners_clipped_to_their_image_and_the_truth_stays_as_it_is(coco):
    entry = read(coco)[1]
    np.testing.assert_array_equal(entry.boxes, np.array([[10, 20, 40, 45], [60, 30, 80, 50.5]], np.float32))
    assert entry.labels.tolist() == [1, 0]
    assert entry.truth.boxes_xywh[2].tolist() == [60, 30, 25, 20.5]


def test_crowds_are_evaluated_and_not_trained_on(coco):
    entry = read(coco)[1]
    assert entry.truth.crowd.tolist() == [False, True, False]
    assert [40, 5, 60, 15] not in entry.boxes.tolist()


def test_an_image_without_objects_stays_in_the_dataset(coco):
    entry = read(coco)[2]
    assert entry.boxes.shape == (0, 4)
    assert entry.labels.shape == (0,)


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ([10, 20, 0, 25], "has no size"),
        ([10, 20, 30, 0], "has no size"),
        ([10, 20, -30, 25], "has no size"),
        ([90, 20, 30, 25], "lies outside its image of 80x60"),
        ([-40, 20, 30, 25], "lies outside its image of 80x60"),
        ([30, 20, 60, 90], "lies outside its image of 80x60"),
    ],
)
def test_a_broken_box_is_named_with_file_image_and_annotation(coco, box, fault):
    coco.data["annotations"][0]["bbox"] = box
    message = f"annotation 1, image 7, {fault}; broken boxes: 1; data.skip_broken"
    with pytest.raises(ValueError, match=message) as refusal:
        read(coco)
    assert str(coco.annotations) in str(refusal.value)
    assert str(box) in str(refusal.value).replace(".0", "")


def test_broken_boxes_are_left_out_and_counted_if_so_asked(coco):
    coco.data["annotations"][0]["bbox"] = [10, 20, 0, 25]
    coco.data["annotations"][1]["bbox"] = [500, 0, 50, 90]
    message = "left out 2 of 4 boxes as broken, first .* annotation 2, image 3, lies outside"
    with pytest.warns(UserWarning, match=message):
        images = read(coco, skip_broken=True)
    assert [len(entry.boxes) for entry in images] == [0, 1, 0]
    assert [len(entry.truth.labels) for entry in images] == [0, 2, 0]


def test_a_box_half_inside_its_image_is_clipped(coco):
    coco.data["annotations"][0]["bbox"] = [60, 0, 40, 60]
    assert read(coco)[1].boxes[0].tolist() == [60, 0, 80, 60]


def test_a_box_thinner_than_a_pixel_is_evaluated_and_not_trained_on(coco):
    coco.data["annotations"][0]["bbox"] = [10, 20, 30, 0.5]
    with pytest.warns(UserWarning, match="1 boxes are thinner than a pixel and not trained on"):
        entry = read(coco)[1]
    assert len(entry.boxes) == 1
    assert len(entry.truth.labels) == 3


def test_the_published_train2017_is_not_refused_for_its_two_objects_without_height(coco):
    coco.data["images"][0]["id"] = 200365
    for annotation in coco.data["annotations"]:
        annotation["image_id"] = 200365
    coco.data["annotations"][0]["bbox"] = [29.65, 38.33, 1.03, 0.0]
    with pytest.warns(UserWarning, match="1 boxes are thinner than a pixel"):
        images = read(coco)
    assert [len(entry.boxes) for entry in images] == [0, 0, 2]


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_no_box_of_real_coco_is_broken(shared, split):
    folder = shared / "data/coco-mini"
    images = read_coco(folder / f"annotations/instances_{split}.json", folder / split)
    assert not images.annotations.find_broken().any()
    assert images.trained.sum() == (~images.annotations.crowd).sum()
    assert {len(entry.labels) > 0 for entry in images} == {True, False}


def test_missing_images_are_counted_and_the_first_named(coco):
    for image_id in (3, 12):
        (coco.images / f"{image_id:012}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 2 of the 3 .*first 000000000003\.png, 000000000012\.png"):
        read_coco(coco.annotations, coco.images)


def test_images_in_folders_of_the_folder_are_found(coco):
    coco.data["images"][0]["file_name"] = "kites/7.png"
    assert read(coco)[1].path == coco.images / "kites/7.png"


def test_an_image_without_a_name_is_refused_and_one_without_a_size_has_that_of_its_file(coco):
    expected = read(coco)
    for image in coco.data["images"]:
        image["height"] = None
        image.pop("width")
    coco.annotations.write_text(json.dumps(coco.data))
    assert [entry.size for entry in read_coco(coco.annotations, coco.images)] == [entry.size for entry in expected]
    del coco.data["images"][0]["file_name"]
    coco.annotations.write_text(json.dumps(coco.data))
    with pytest.raises(ValueError, match="image 7: file_name must be text"):
        read_coco(coco.annotations, coco.images)


def make_dataset(coco, *, train=True, seed=0):
    augment = DetectionAugment(32, photometric=True) if train else None
    return DetectionDataset(read(coco), StretchTransform(32), augment, seed)


def test_a_plain_index_is_the_evaluation_sample_and_a_key_the_augmented_one(coco):
    trained, measured = make_dataset(coco), make_dataset(coco, train=False)
    plain = trained[1]
    assert torch.equal(plain.image, measured[1].image)
    assert torch.equal(plain.boxes, measured[SampleKey(3, 1)].boxes)
    assert torch.equal(plain.image, trained[-2].image)
    assert (plain.position, trained[-2].position, plain.size) == (1, 1, (60, 80))
    assert not torch.equal(plain.image, trained[SampleKey(0, 1)].image)
    assert len(list(trained)) == 3
    with pytest.raises(IndexError):
        trained[3]


def test_a_training_sample_depends_on_seed_epoch_and_place_only(coco):
    first, again, other = make_dataset(coco), make_dataset(coco), make_dataset(coco, seed=1)
    key = SampleKey(4, 1)
    assert torch.equal(first[key].image, again[key].image)
    assert not torch.equal(first[key].image, first[SampleKey(5, 1)].image)
    assert not torch.equal(first[key].image, other[key].image)


def test_an_image_of_another_size_than_its_annotation_is_refused(coco):
    dataset = make_dataset(coco)
    first, second = (coco.images / f"{image_id:012}.png" for image_id in (3, 7))
    first.write_bytes(second.read_bytes())
    with pytest.raises(ValueError, match=r"000000000003\.png is 80x60 pixels, its annotation says 50x90"):
        dataset[0]
