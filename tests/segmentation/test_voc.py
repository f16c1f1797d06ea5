import re

import numpy as np
import pytest
import torch
from PIL import Image

from mobilevision.segmentation.transforms import EvalTransform
from mobilevision.segmentation.voc import VOC_CLASSES, MaskedPictures, VocLayout, find_files, read_mask
from mobilevision.training.sampling import SampleKey, sample_seed


def save(path, values, mode=None):
    image = Image.fromarray(np.asarray(values, np.uint8))
    (image.convert(mode) if mode else image).save(path)
    return path


def test_there_are_21_classes_in_the_order_of_the_devkit():
    assert len(VOC_CLASSES) == 21
    assert (VOC_CLASSES[0], VOC_CLASSES[1], VOC_CLASSES[15], VOC_CLASSES[20]) == (
        "background",
        "aeroplane",
        "person",
        "tvmonitor",
    )


@pytest.mark.parametrize("home", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_the_root_may_be_the_folder_or_what_it_came_in(tmp_path, write_voc, home):
    write_voc(tmp_path / home, val=2)
    pairs = VocLayout(tmp_path).find_pairs("val")
    assert [pair.image for pair in pairs] == [tmp_path / home / "JPEGImages" / f"val_{index}.jpg" for index in range(2)]
    assert [pair.mask.name for pair in pairs] == ["val_0.png", "val_1.png"]


def test_folders_may_lie_anywhere(tmp_path, write_voc):
    home = write_voc(tmp_path / "set", val=1)
    (home / "SegmentationClass").rename(tmp_path / "elsewhere")
    (home / "JPEGImages").rename(home / "pictures")
    layout = VocLayout(home, image_dir="pictures", mask_dir=str(tmp_path / "elsewhere"))
    assert layout.find_pairs("val")[0].mask == tmp_path / "elsewhere" / "val_0.png"


def test_everything_that_is_missing_is_named_with_what_is_expected(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        VocLayout(tmp_path).find_pairs("val")
    missing, expected = str(caught.value).split(" not found: expected ")
    assert missing == f"{tmp_path}/ImageSets/Segmentation/val.txt, {tmp_path}/SegmentationClass"
    assert f"{tmp_path}/JPEGImages/ID.jpg" in expected
    assert f"{tmp_path}/SegmentationClass/ID.png" in expected


def test_missing_files_are_counted_and_the_first_named(tmp_path, write_voc):
    write_voc(tmp_path, val=6)
    for index in (1, 2, 4, 5):
        (tmp_path / "JPEGImages" / f"val_{index}.jpg").unlink()
    message = f"4 of 6 files are missing in {tmp_path}/JPEGImages, first val_1.jpg, val_2.jpg, val_4.jpg"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        VocLayout(tmp_path).find_pairs("val")


def test_masks_are_found_without_their_pictures(tmp_path, write_voc):
    write_voc(tmp_path, val=2)
    for picture in (tmp_path / "JPEGImages").iterdir():
        picture.unlink()
    assert list(VocLayout(tmp_path).find_masks("val")) == ["val_0", "val_1"]


def test_an_empty_list_is_named(tmp_path, write_voc):
    write_voc(tmp_path, val=0)
    with pytest.raises(ValueError, match=r"val\.txt must name one picture on every line, but it is empty"):
        VocLayout(tmp_path).find_pairs("val")


def test_blank_lines_and_spaces_in_names_are_harmless(tmp_path, write_voc):
    write_voc(tmp_path, val=1)
    for folder, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        (tmp_path / folder / f"val_0{suffix}").rename(tmp_path / folder / f"a cat{suffix}")
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("\na cat \r\n\n")
    assert list(VocLayout(tmp_path).find_masks("val")) == ["a cat"]


def test_no_id_asks_for_no_file(tmp_path):
    assert find_files(tmp_path, [], ".png") == []


def test_palette_indices_are_the_classes(tmp_path):
    values = np.array([[0, 1], [20, 255]], np.uint8)
    image = Image.fromarray(values).convert("P")
    image.putdata(values.flatten().tolist())
    image.putpalette([7, 7, 7] * 256)
    image.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as saved:
        assert saved.mode == "P"
    assert read_mask(tmp_path / "mask.png", 21).tolist() == values.tolist()


def test_grey_values_are_the_classes(tmp_path):
    assert read_mask(save(tmp_path / "mask.png", [[3, 255, 0]]), 4).tolist() == [[3, 255, 0]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "LA"])
def test_a_colour_picture_is_no_mask_and_the_message_says_what_to_do(tmp_path, mode):
    path = save(tmp_path / "mask.png", [[0, 255]], mode)
    with pytest.raises(ValueError, match=rf"mask\.png must be .* got mode {mode}: replace each colour by its class"):
        read_mask(path, 21)


def test_a_value_that_is_no_class_is_named(tmp_path):
    path = save(tmp_path / "mask.png", [[0, 21, 255, 22]])
    with pytest.raises(ValueError, match=r"mask\.png must hold classes 0 to 20 and 255, got 21 \(2 pixels\)"):
        read_mask(path, 21)


def test_where_every_pixel_needs_a_class_255_is_none(tmp_path):
    path = save(tmp_path / "mask.png", [[0, 20, 255]])
    with pytest.raises(ValueError, match=r"must hold classes 0 to 20, got 255 \(1 pixels\)"):
        read_mask(path, 21, ignored=False)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n half"])
def test_a_file_that_is_no_picture_is_named(tmp_path, content):
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"mask\.png does not decode as a mask"):
        read_mask(tmp_path / "mask.png", 21)


def test_half_a_mask_is_named(tmp_path):
    path = save(tmp_path / "mask.png", np.random.default_rng(0).integers(0, 20, (64, 64)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"mask\.png does not decode as a mask"):
        read_mask(path, 21)


def test_a_sample_is_picture_and_mask_with_its_place_and_its_own_seed(tmp_path, write_voc):
    write_voc(tmp_path, val=3)
    seeds = []

    def transform(image, mask, seed):
        seeds.append(seed)
        return EvalTransform(64).keep_mask(image, mask, seed)

    pictures = MaskedPictures(VocLayout(tmp_path).find_pairs("val"), 3, transform, seed=7)
    sample = pictures[SampleKey(epoch=2, sample=1)]
    assert len(pictures) == 3
    assert sample.position == 1
    assert sample.image.shape == (3, 64, 64)
    assert torch.equal(sample.mask, torch.from_numpy(read_mask(tmp_path / "SegmentationClass" / "val_1.png", 3)))
    assert seeds == [sample_seed(7, SampleKey(2, 1))]


def test_a_mask_of_another_size_than_its_picture_is_named_with_both_sizes(tmp_path, write_voc):
    write_voc(tmp_path, val=1)
    save(tmp_path / "SegmentationClass" / "val_0.png", np.zeros((20, 30)))
    pictures = MaskedPictures(VocLayout(tmp_path).find_pairs("val"), 3, EvalTransform(64).keep_mask)
    message = f"{tmp_path}/SegmentationClass/val_0.png must be as large as {tmp_path}/JPEGImages/val_0.jpg, 40x32, "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}got 30x20$"):
        pictures[SampleKey(0, 0)]


def test_real_masks_are_as_large_as_their_pictures(shared):
    pairs = VocLayout(shared / "data" / "voc-real").find_pairs("val")
    assert len(pairs) == 48
    pictures = MaskedPictures(pairs, 21, EvalTransform(513).keep_mask)
    classes = set().union(*(pictures[SampleKey(0, index)].mask.unique().tolist() for index in range(8)))
    assert {0, 255} < classes <= {*range(21), 255}
