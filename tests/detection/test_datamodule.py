import pytest
import torch

from mobilevision.detection.datamodule import CocoDataModule, collate
from mobilevision.detection.types import PADDING
from mobilevision.training.sampling import SampleKey


def make_data(coco, stage="fit", **options):
    settled = {"input_size": 32, "batch_size": 3, "num_workers": 0, "crop": False, "flip": False}
    data = CocoDataModule(str(coco.write().root), **settled | options)
    data.setup(stage)
    return data


def test_a_batch_holds_pictures_padded_boxes_and_what_evaluation_needs(coco):
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
    data = make_data(coco)
    batch = collate([data.val_set[SampleKey(0, 2)]])
    assert batch.boxes.shape == (1, 0, 4)
    assert batch.labels.shape == (1, 0)


def test_training_and_validation_have_their_own_files(coco):
    data = make_data(coco)
    assert data.train_set.images.paths == [coco.root / "train2017" / path.name for path in data.val_set.images.paths]
    assert data.val_set.images.paths[0].parent == coco.root / "val2017"


def test_class_names_and_the_files_own_ids_come_from_the_categories(coco):
    data = make_data(coco, stage="validate")
    assert data.class_names == ("boat", "kite")
    assert data.category_ids == (5, 44)


def test_validation_does_not_ask_for_the_training_pictures(coco):
    coco.write()
    (coco.root / "annotations/instances_train2017.json").unlink()
    data = CocoDataModule(str(coco.root), input_size=32, num_workers=0)
    data.setup("validate")
    assert len(data.val_set) == 3
    with pytest.raises(
        FileNotFoundError, match=r"instances_train2017\.json not found: expected .*train2017, .*val2017"
    ):
        data.setup("fit")


@pytest.mark.parametrize("part", ["annotations/instances_val2017.json", "val2017"])
def test_a_missing_part_is_named_with_the_layout(tmp_path, coco, part):
    (coco.root / part).rename(tmp_path / "elsewhere")
    data = CocoDataModule(str(coco.root))
    with pytest.raises(FileNotFoundError) as refusal:
        data.setup("validate")
    assert str(refusal.value).startswith(f"{coco.root / part} not found: expected ")
    for expected in ("annotations/instances_train2017.json", "train2017", "annotations/instances_val2017.json"):
        assert str(coco.root / expected) in str(refusal.value)


def test_every_path_can_be_set(coco):
    coco.write().annotations.rename(coco.root / "boats.json")
    coco.images.rename(coco.root / "pictures")
    data = CocoDataModule(str(coco.root), val_images="pictures", val_annotations="boats.json")
    data.setup("test")
    assert len(data.val_set) == 3


def test_training_and_validation_must_have_the_same_categories(coco):
    coco.write()
    path = coco.root / "annotations/instances_train2017.json"
    path.write_text(path.read_text().replace("boat", "ship"))
    with pytest.raises(ValueError, match="must have the same categories"):
        CocoDataModule(str(coco.root)).setup("fit")


def test_a_picture_of_another_size_than_its_annotation_says_is_refused(coco):
    coco.write()
    first, second = (coco.images / f"{image_id:012}.png" for image_id in (3, 7))
    first.write_bytes(second.read_bytes())
    data = CocoDataModule(str(coco.root), num_workers=0)
    data.setup("validate")
    with pytest.raises(ValueError, match=r"000000000003\.png is 80x60 pixels, its annotation says 50x90"):
        data.val_set[SampleKey(0, 0)]


def test_broken_pictures_are_left_out_and_counted_if_so_asked(coco):
    (coco.write().images / "000000000003.png").write_bytes(b"no picture")
    (coco.images / "000000000012.png").unlink()
    data = CocoDataModule(str(coco.root), input_size=32, num_workers=0, skip_broken=True)
    with pytest.warns(UserWarning, match=r"skipped 2 of 3 pictures: .*000000000003\.png"):
        data.setup("validate")
    (batch,) = data.val_dataloader()
    assert batch.positions.tolist() == [0]
    assert batch.sizes.tolist() == [[60, 80]]


def test_a_set_without_a_picture_is_refused(coco):
    coco.data |= {"images": [], "annotations": []}
    with pytest.raises(ValueError, match="names no picture that can be read"):
        make_data(coco, stage="validate")


ALL_AUGMENTATION = {"crop": True, "flip": True, "photometric": True, "zoom_out": True}


def test_an_epoch_of_pictures_without_objects_can_be_trained_on_and_measured(coco):
    coco.data["annotations"] = []
    data = make_data(coco, batch_size=2, **ALL_AUGMENTATION)
    batches = [*data.train_dataloader(), *data.val_dataloader()]
    assert sum(len(batch.images) for batch in batches) == 2 + 3
    for batch in batches:
        assert batch.boxes.shape == (len(batch.images), 0, 4)
        assert batch.boxes.dtype == torch.float32
        assert batch.labels.shape == (len(batch.images), 0)
        assert [truth.boxes_xywh.shape for truth in batch.truths] == [(0, 4)] * len(batch.images)


def test_a_set_of_one_class_labels_it_0_and_keeps_the_pictures_without_it(coco):
    data = make_data(coco, classes=["kite"], batch_size=3, **ALL_AUGMENTATION)
    assert data.class_names == ("kite",)
    (batch,) = data.train_dataloader()
    assert sorted(batch.positions.tolist()) == [0, 1, 2]
    assert set(batch.labels.flatten().tolist()) <= {0, PADDING}


def test_batches_of_one_hold_every_picture_once(coco):
    data = make_data(coco, batch_size=1, **ALL_AUGMENTATION)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batches = list(loader)
        assert all(batch.images.shape == (1, 3, 32, 32) for batch in batches)
        assert sorted(batch.positions.item() for batch in batches) == [0, 1, 2]


def test_a_training_sample_depends_on_seed_epoch_and_place_only(coco):
    def sample(seed, epoch):
        return make_data(coco, crop=True, flip=True, photometric=True, seed=seed).train_set[SampleKey(epoch, 1)].image

    assert torch.equal(sample(0, 4), sample(0, 4))
    assert not torch.equal(sample(0, 4), sample(0, 5))
    assert not torch.equal(sample(0, 4), sample(1, 4))


def test_processes_that_read_give_the_same_batches(coco):
    alone, helped = (
        next(iter(make_data(coco, crop=True, num_workers=workers).train_dataloader())) for workers in (0, 1)
    )
    assert torch.equal(alone.images, helped.images)
    assert torch.equal(alone.boxes, helped.boxes)
    assert helped.images.is_contiguous(memory_format=torch.channels_last)
    assert [truth.boxes_xywh.tolist() for truth in alone.truths] == [
        truth.boxes_xywh.tolist() for truth in helped.truths
    ]
