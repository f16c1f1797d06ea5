import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mobilevision.segmentation.dataset import ImageAndMask, SegmentationDataset, SplitFiles
from mobilevision.segmentation.layouts import VocLayout
from mobilevision.segmentation.masks import read_mask
from mobilevision.segmentation.preprocess import FitTransform
from mobilevision.segmentation.protocol import ProtocolTransform
from mobilevision.training.loader import SampleKey

PAD_TO_64 = ProtocolTransform(FitTransform(64), 64)


def test_files_without_gaps_are_their_pairs():
    pairs = (ImageAndMask(Path("a.jpg"), Path("a.png")),)
    assert SplitFiles(Path("list.txt"), pairs).complete() == list(pairs)


def test_a_sample_is_image_and_mask_with_its_position(tmp_path, write_voc):
    dataset = SegmentationDataset(VocLayout(write_voc(tmp_path, val=3)).find_pairs("val"), 3, PAD_TO_64)
    assert len(dataset) == len(list(dataset)) == 3
    for sample in (dataset[1], dataset[SampleKey(epoch=2, sample=1)]):
        assert sample.position == 1
        assert sample.image.shape == (3, 64, 64)
        assert torch.equal(sample.mask, torch.from_numpy(read_mask(tmp_path / "SegmentationClass" / "val_1.png", 3)))
    with pytest.raises(IndexError):
        dataset[3]


def test_a_mask_of_another_size_than_its_image_is_named_with_both_sizes(tmp_path, write_voc, save):
    write_voc(tmp_path, val=1)
    save(tmp_path / "SegmentationClass" / "val_0.png", np.zeros((20, 30)))
    dataset = SegmentationDataset(VocLayout(tmp_path).find_pairs("val"), 3, PAD_TO_64)
    message = f"{tmp_path}/SegmentationClass/val_0.png must be as large as {tmp_path}/JPEGImages/val_0.jpg, 72x80, "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}got 30x20$"):
        dataset[0]


def test_an_image_that_the_transform_refuses_is_named(tmp_path, write_voc):
    pairs = VocLayout(write_voc(tmp_path, val=1)).find_pairs("val")
    dataset = SegmentationDataset(pairs, 3, ProtocolTransform(FitTransform(32), 32, "pad"))
    with pytest.raises(ValueError, match=r"val_0\.jpg: eval_protocol pad .* 32x32, got 72x80"):
        dataset[0]


def test_real_masks_are_as_large_as_their_images(shared):
    pairs = VocLayout(shared / "data" / "voc-real").find_pairs("val")
    assert len(pairs) == 48
    dataset = SegmentationDataset(pairs, 21, ProtocolTransform(FitTransform(513), 513))
    classes = set().union(*(dataset[index].mask.unique().tolist() for index in range(8)))
    assert {0, 255} < classes <= {*range(21), 255}
