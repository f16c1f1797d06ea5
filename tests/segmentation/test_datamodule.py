import pytest
import torch
from mobilevision.segmentation.voc import VOC_CLASSES
from scipy.io import savemat

from mobilevision.segmentation.datamodule import MaskFolderDataModule, VocDataModule, collate_eval, collate_train
from mobilevision.segmentation.masks import read_mask
from mobilevision.segmentation.types import Batch, EvalBatch, Sample

NAMES = ["background", "red", "green"]


@pytest.fixture
def root(tmp_path, write_voc):
    return write_voc(tmp_path, train=5, val=3)


def make_data(root, **options):
    small = {"train_split": "train", "classes": NAMES, "input_size": 33, "batch_size": 2, "num_workers": 0}
    return VocDataModule(str(root), **small | options)


def test_training_batches_are_of_one_size_and_leave_the_last_incomplete_one_out(root):
    data = make_data(root)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert len(batches) == 2
    for batch in batches:
        assert isinstance(batch, Batch)
        assert (batch.images.shape, batch.images.dtype) == ((2, 3, 33, 33), torch.uint8)
        assert (batch.masks.shape, batch.masks.dtype) == ((2, 33, 33), torch.uint8)


def test_validation_batches_are_complete_in_order_and_with_masks_as_large_as_the_files(root):
    data = make_data(root)
    data.setup("validate")
    batches = list(data.val_dataloader())
    assert torch.cat([batch.positions for batch in batches]).tolist() == [0, 1, 2]
    assert all(isinstance(batch, EvalBatch) for batch in batches)
    assert [tuple(mask.shape) for batch in batches for mask in batch.masks] == [(32, 40)] * 3


def test_testing_is_validating(root):
    data = make_data(root)
    data.setup("test")
    assert len(data.test_dataloader()) == len(data.val_dataloader())


def test_validation_needs_no_training_list(tmp_path, write_voc):
    make_data(write_voc(tmp_path, val=1), train_split="train_aug").setup("validate")


def test_workers_read_what_the_training_process_would(root):
    def first_epoch(num_workers):
        data = make_data(root, num_workers=num_workers)
        data.setup("fit")
        return list(data.train_dataloader())

    for alone, helped in zip(first_epoch(0), first_epoch(2), strict=True):
        assert torch.equal(alone.images, helped.images)
        assert torch.equal(alone.masks, helped.masks)
        assert torch.equal(alone.positions, helped.positions)


def test_the_augmented_split_has_masks_of_its_own(tmp_path, write_voc):
    home = write_voc(tmp_path, train_aug=1, val=1)
    (home / "SegmentationClassAug").mkdir()
    (home / "SegmentationClass" / "train_aug_0.png").rename(home / "SegmentationClassAug" / "train_aug_0.png")
    data = make_data(home, train_split="train_aug")
    data.setup("fit")
    assert data.train_set.pairs[0].mask == home / "SegmentationClassAug" / "train_aug_0.png"
    assert data.val_set.pairs[0].mask == home / "SegmentationClass" / "val_0.png"


def test_training_masks_may_lie_elsewhere(root):
    (root / "more").mkdir()
    for index in range(5):
        (root / "SegmentationClass" / f"train_{index}.png").rename(root / "more" / f"train_{index}.png")
    data = make_data(root, train_mask_dir="more")
    data.setup("fit")
    assert data.train_set.pairs[0].mask == root / "more" / "train_0.png"


def test_the_classes_are_those_of_voc_unless_given():
    assert VocDataModule("somewhere").class_names == VOC_CLASSES
    assert VocDataModule("somewhere", classes=NAMES).class_names == tuple(NAMES)


def test_broken_files_stop_the_run_or_are_left_out_with_a_count(root):
    (root / "JPEGImages" / "val_1.jpg").write_bytes(b"no picture")
    (root / "SegmentationClass" / "val_2.png").write_bytes(b"no mask")
    strict = make_data(root)
    strict.setup("validate")
    with pytest.raises(ValueError, match=r"val_1\.jpg does not decode"):
        list(strict.val_dataloader())

    lenient = make_data(root, skip_broken=True)
    with pytest.warns(UserWarning, match="skipped 2 of 6 pictures: .*val_1.jpg"):
        lenient.setup("validate")
    assert [pair.image.name for pair in lenient.val_set.pairs] == ["val_0.jpg"]


def test_batches_hold_samples_in_their_order_with_the_channels_last_in_memory():
    samples = [
        Sample(
            torch.full((4, 4, 3), index, dtype=torch.uint8).permute(2, 0, 1), torch.full((4, 4), index), position=index
        )
        for index in (3, 1)
    ]
    for batch in (collate_train(samples), collate_eval(samples)):
        assert batch.images[:, 0, 0, 0].tolist() == [3, 1]
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert [int(mask[0, 0]) for mask in batch.masks] == [3, 1]
        assert batch.positions.tolist() == [3, 1]


@pytest.fixture
def folders(tmp_path, write_voc):
    """The same pictures as in VOC's layout, in folders of their own."""
    home = write_voc(tmp_path / "voc", train=3, val=2)
    for kind, folder, suffix in (("images", "JPEGImages", ".jpg"), ("masks", "SegmentationClass", ".png")):
        for split in ("train", "val"):
            (tmp_path / "set" / kind / split).mkdir(parents=True)
            for path in (home / folder).glob(f"{split}_*{suffix}"):
                path.rename(tmp_path / "set" / kind / split / path.name)
    return tmp_path / "set"


def make_folder_data(root, **options):
    small = {"classes": NAMES, "input_size": 33, "batch_size": 2, "num_workers": 0}
    if "class_table" in options:
        del small["classes"]
    return MaskFolderDataModule(str(root), **small | options)


def test_folders_give_the_same_batches_as_vocs_layout(folders):
    data = make_folder_data(folders)
    data.setup("fit")
    assert [pair.image.name for pair in data.train_set.pairs] == ["train_0.jpg", "train_1.jpg", "train_2.jpg"]
    (batch,) = data.train_dataloader()
    assert batch.images.shape == (2, 3, 33, 33)
    (batch,) = data.val_dataloader()
    assert [tuple(mask.shape) for mask in batch.masks] == [(32, 40)] * 2
    assert set(batch.masks[0].unique().tolist()) <= {0, 1, 2, 255}


def test_a_table_says_the_classes_and_what_stands_for_them(folders, tmp_path):
    table = tmp_path / "classes.csv"
    table.write_text("name,r,g,b\ncolour,128,0,0\ncolour,0,128,0\nbackground,0,0,0\n,224,224,192\n")
    data = make_folder_data(folders, class_table=str(table))
    assert data.class_names == ("colour", "background")
    data.setup("validate")
    (batch,) = data.val_dataloader()
    assert all(set(mask.unique().tolist()) == {0, 1, 255} for mask in batch.masks)


@pytest.mark.parametrize("given", [{}, {"classes": ["a"], "class_table": "classes.csv"}])
def test_the_classes_are_said_once(given):
    with pytest.raises(ValueError, match=r"one of data\.classes and data\.class_table must say the classes"):
        MaskFolderDataModule("somewhere", **given)


def test_the_protocol_decides_what_is_measured_and_travels_with_the_batch(root):
    for protocol, sizes in (("original", (32, 40)), ("pad", (32, 40)), ("centre_crop", (33, 33))):
        data = make_data(root, eval_protocol=protocol, input_size=33 if protocol != "pad" else 65)
        data.setup("validate")
        batch = next(iter(data.val_dataloader()))
        assert batch.protocol == protocol
        assert {tuple(mask.shape) for mask in batch.masks} == {sizes}
    with pytest.raises(ValueError, match="eval_protocol must be one of original, pad, centre_crop, got 'crop'"):
        make_data(root, eval_protocol="crop")


def test_the_augmented_split_takes_sbds_files_where_there_is_no_png(tmp_path, write_voc):
    home = write_voc(tmp_path / "voc", train_aug=2, val=1)
    mask = home / "SegmentationClass" / "train_aug_1.png"
    (tmp_path / "cls").mkdir()
    savemat(tmp_path / "cls" / "train_aug_1.mat", {"GTcls": {"Segmentation": read_mask(mask, 3)}})
    mask.unlink()
    data = make_data(home, train_split="train_aug", sbd_dir=str(tmp_path / "cls"), skip_broken=True)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert len(batch.images) == 2
    assert [pair.mask.suffix for pair in data.train_set.pairs] == [".png", ".mat"]
