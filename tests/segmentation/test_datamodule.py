import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from mobilevision.segmentation.datamodule import MaskFolderDataModule, VocDataModule, collate_eval, collate_train
from mobilevision.segmentation.layouts import VOC_CLASSES
from mobilevision.segmentation.masks import read_mask
from mobilevision.segmentation.types import EvalBatch, SegmentationBatch, SegmentationSample

NAMES = ["background", "blue", "red"]


@pytest.fixture
def root(tmp_path, write_voc):
    return write_voc(tmp_path, train=5, val=3, test=2)


def make_data(root, stage=None, **options):
    small = {"train_split": "train", "classes": NAMES, "input_size": 33, "batch_size": 2, "num_workers": 0}
    data = VocDataModule(str(root), **small | options)
    if stage:
        data.setup(stage)
    return data


def test_training_batches_are_of_one_size_and_leave_the_last_incomplete_one_out(root):
    batches = list(make_data(root, "fit").train_dataloader())
    assert len(batches) == 2
    for batch in batches:
        assert isinstance(batch, SegmentationBatch)
        assert (batch.images.shape, batch.images.dtype) == ((2, 3, 33, 33), torch.uint8)
        assert (batch.masks.shape, batch.masks.dtype) == ((2, 33, 33), torch.uint8)


def test_validation_batches_are_complete_in_order_and_with_masks_as_large_as_the_files(root):
    batches = list(make_data(root, "validate").val_dataloader())
    assert torch.cat([batch.positions for batch in batches]).tolist() == [0, 1, 2]
    assert all(isinstance(batch, EvalBatch) for batch in batches)
    assert [tuple(mask.shape) for batch in batches for mask in batch.masks] == [(80, 72)] * 3


def test_the_test_split_is_one_of_its_own_or_any_that_is_named(tmp_path, write_voc):
    home = write_voc(tmp_path, val=1)
    assert len(make_data(home, "test", test_split="val").datasets["test"]) == 1
    folders = MaskFolderDataModule(str(tmp_path), classes=NAMES)
    expected = f"no test split: expected {tmp_path}/images/test/NAME.jpg and {tmp_path}/masks/test/NAME.png"
    with pytest.raises(FileNotFoundError, match=re.escape(expected)):
        folders.setup("test")


def test_validation_needs_no_training_list(tmp_path, write_voc):
    make_data(write_voc(tmp_path, val=1), "validate", train_split="train_aug")


def test_the_augmented_split_has_masks_of_its_own(tmp_path, write_voc):
    home = write_voc(tmp_path, train_aug=2, val=1)
    (home / "SegmentationClassAug").mkdir()
    for name in ("train_aug_0.png", "train_aug_1.png"):
        (home / "SegmentationClass" / name).rename(home / "SegmentationClassAug" / name)
    data = make_data(home, "fit", train_split="train_aug")
    assert data.train_set.pairs[0].mask == home / "SegmentationClassAug" / "train_aug_0.png"
    assert data.datasets["val"].pairs[0].mask == home / "SegmentationClass" / "val_0.png"


def test_training_masks_may_lie_elsewhere(root):
    (root / "more").mkdir()
    for index in range(5):
        (root / "SegmentationClass" / f"train_{index}.png").rename(root / "more" / f"train_{index}.png")
    data = make_data(root, "fit", train_mask_dir="more")
    assert data.train_set.pairs[0].mask == root / "more" / "train_0.png"


def test_the_augmented_split_has_sbds_files_where_there_is_no_png(tmp_path, write_voc):
    home = write_voc(tmp_path / "voc", train_aug=2, val=1)
    mask = home / "SegmentationClass" / "train_aug_1.png"
    (tmp_path / "cls").mkdir()
    savemat(tmp_path / "cls" / "train_aug_1.mat", {"GTcls": {"Segmentation": read_mask(mask, 3)}})
    mask.unlink()
    data = make_data(home, "fit", train_split="train_aug", sbd_dir=str(tmp_path / "cls"), skip_broken=True)
    (batch,) = data.train_dataloader()
    assert len(batch.images) == 2
    assert [pair.mask.suffix for pair in data.train_set.pairs] == [".png", ".mat"]


def test_the_classes_are_those_of_voc_unless_given(tmp_path):
    assert VocDataModule("somewhere").class_names == VOC_CLASSES
    assert VocDataModule("somewhere", classes=NAMES).class_names == tuple(NAMES)
    (tmp_path / "classes.csv").write_text("name,id\nroad,7\n")
    assert VocDataModule("somewhere", class_table=str(tmp_path / "classes.csv")).class_names == ("road",)


@pytest.mark.parametrize("given", [{}, {"classes": ["a"], "class_table": "classes.csv"}])
def test_the_classes_are_given_once(given):
    with pytest.raises(ValueError, match=r"one of data\.classes and data\.class_table must say the classes"):
        MaskFolderDataModule("somewhere", **given)


def test_pixels_are_counted_in_the_training_masks(root):
    counts = make_data(root, "fit").count_classes()
    assert counts.tolist() == [5 * (80 * 72 - 26 * 26), 3 * 26 * 26, 2 * 26 * 26]


def test_broken_files_stop_the_run_or_are_left_out_with_a_count(root):
    (root / "JPEGImages" / "val_1.jpg").write_bytes(b"no image")
    (root / "SegmentationClass" / "val_2.png").write_bytes(b"no mask")
    with pytest.raises(ValueError, match=r"val_2\.png does not decode as a mask"):
        make_data(root, "validate")
    with pytest.warns(UserWarning, match=r"skipped 2 of 6 images: .*val_1\.jpg"):
        lenient = make_data(root, "validate", skip_broken=True)
    assert [pair.image.name for pair in lenient.datasets["val"].pairs] == ["val_0.jpg"]


def repaint(root, split, values):
    for path in (root / "SegmentationClass").glob(f"{split}_*.png"):
        mask = read_mask(path, 3)
        Image.fromarray(np.array(values, np.uint8)[mask.clip(max=3)]).save(path)


def test_a_class_absent_from_the_training_masks_is_named(root):
    repaint(root, "train", [0, 1, 1, 255])
    with pytest.warns(UserWarning, match=r"train masks.*train_0\.png, have no pixel of red: .*cannot be learned"):
        make_data(root, "fit")
    make_data(root, "validate")


@pytest.mark.parametrize(("split", "stage"), [("train", "fit"), ("val", "validate"), ("test", "test")])
def test_black_and_white_masks_are_refused(root, split, stage):
    repaint(root, split, [0, 255, 255, 255])
    with pytest.raises(ValueError, match=rf"the {split} masks.* beside background, all others are 255.*class_table"):
        make_data(root, stage)


def test_training_masks_of_background_alone_are_refused(root):
    repaint(root, "train", [0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"train masks, .*, must hold several classes, no pixel is of blue, red"):
        make_data(root, "fit")
    repaint(root, "val", [0, 0, 0, 0])
    make_data(root, "validate")


def test_if_nothing_can_be_read_nothing_is_left_out(root):
    for path in (root / "JPEGImages").glob("val_*"):
        path.write_bytes(b"no image")
    with pytest.warns(UserWarning, match="skipped 3 of 6"), pytest.raises(ValueError, match=r"none of 3 images with"):
        make_data(root, "validate", skip_broken=True)


def test_batches_hold_samples_in_their_order_with_the_channels_last_in_memory():
    samples = [
        SegmentationSample(
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
    """The same images as in VOC's layout, in folders of their own."""
    home = write_voc(tmp_path / "voc", train=3, val=2, test=1)
    for kind, folder, suffix in (("images", "JPEGImages", ".jpg"), ("masks", "SegmentationClass", ".png")):
        for split in ("train", "val", "test"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
            for path in (home / folder).glob(f"{split}_*{suffix}"):
                path.rename(tmp_path / "data" / kind / split / path.name)
    return tmp_path / "data"


def make_folder_data(root, stage, **options):
    given = {"input_size": 33, "batch_size": 2, "num_workers": 0} | (options or {"classes": NAMES})
    data = MaskFolderDataModule(str(root), **given)
    data.setup(stage)
    return data


def test_folders_make_the_same_batches_as_vocs_layout(folders):
    data = make_folder_data(folders, "fit")
    assert [pair.image.name for pair in data.train_set.pairs] == ["train_0.jpg", "train_1.jpg", "train_2.jpg"]
    (batch,) = data.train_dataloader()
    assert batch.images.shape == (2, 3, 33, 33)
    (batch,) = data.val_dataloader()
    assert [tuple(mask.shape) for mask in batch.masks] == [(80, 72)] * 2
    assert [mask.unique().tolist() for mask in batch.masks] == [[0, 1], [0, 2]]
    assert make_folder_data(folders, "test").datasets["test"].path(0).name == "test_0.jpg"


def test_a_table_names_the_classes_and_what_stands_for_them(folders, tmp_path):
    table = tmp_path / "classes.csv"
    table.write_text("name,r,g,b\ncolor,1,1,1\nbackground,0,0,0\n,2,2,2\n")
    data = make_folder_data(folders, "validate", class_table=str(table))
    assert data.class_names == ("color", "background")
    (batch,) = data.val_dataloader()
    assert [mask.unique().tolist() for mask in batch.masks] == [[0, 1], [1, 255]]


@pytest.mark.parametrize(
    ("protocol", "size", "expected"),
    [("original", 33, (80, 72)), ("pad", 81, (80, 72)), ("centre_crop", 33, (33, 33))],
)
def test_the_protocol_decides_what_is_measured_and_travels_with_the_batch(root, protocol, size, expected):
    data = make_data(root, "validate", eval_protocol=protocol, input_size=size)
    batch = next(iter(data.val_dataloader()))
    assert batch.protocol == protocol
    assert {tuple(mask.shape) for mask in batch.masks} == {expected}


def test_an_unknown_protocol_is_refused(root):
    with pytest.raises(ValueError, match="eval_protocol must be one of original, pad, centre_crop, got 'crop'"):
        make_data(root, eval_protocol="crop")
