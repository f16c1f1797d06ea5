import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mobilevision.segmentation.pictures import Listing, MaskedPictures, Pair
from mobilevision.segmentation.voc import VocLayout
from mobilevision.training.sampling import SampleKey, sample_seed
from PIL import Image

from mobilevision.segmentation.masks import read_mask
from mobilevision.segmentation.transforms import PairTransform


def save(path, values):
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def test_a_listing_without_gaps_is_its_pairs():
    pairs = (Pair(Path("a.jpg"), Path("a.png")),)
    assert Listing(Path("list.txt"), pairs).complete() == list(pairs)


def test_a_sample_is_picture_and_mask_with_its_place_and_its_own_seed(tmp_path, write_voc):
    write_voc(tmp_path, val=3)
    seeds = []

    def transform(image, mask, seed):
        seeds.append(seed)
        return PairTransform(64)(image, mask, seed)

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
    pictures = MaskedPictures(VocLayout(tmp_path).find_pairs("val"), 3, PairTransform(64))
    message = f"{tmp_path}/SegmentationClass/val_0.png must be as large as {tmp_path}/JPEGImages/val_0.jpg, 40x32, "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}got 30x20$"):
        pictures[SampleKey(0, 0)]


def test_a_picture_that_the_transform_refuses_is_named(tmp_path, write_voc):
    write_voc(tmp_path, val=1)
    pictures = MaskedPictures(VocLayout(tmp_path).find_pairs("val"), 3, PairTransform(32, "pad"))
    with pytest.raises(
        ValueError, match=r"val_0\.jpg: eval_protocol pad needs pictures that fit into 32x32, got 40x32"
    ):
        pictures[SampleKey(0, 0)]


def test_real_masks_are_as_large_as_their_pictures(shared):
    pairs = VocLayout(shared / "data" / "voc-real").find_pairs("val")
    assert len(pairs) == 48
    pictures = MaskedPictures(pairs, 21, PairTransform(513))
    classes = set().union(*(pictures[SampleKey(0, index)].mask.unique().tolist() for index in range(8)))
    assert {0, 255} < classes <= {*range(21), 255}
