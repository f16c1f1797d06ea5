import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mobilevision.segmentation.dataset import ImageAndMask, SegmentationDataset, SplitFiles
from mobilevision.segmentation.layouts import VocLayout
from mobilevision.segmentation.masks import read_mask
from mobilevision.segmentation.preprocess import EvalTransform
from mobilevision.segmentation.protocol import ProtocolTransform
from mobilevision.training.loader import SampleKey, sample_seed

PAD_TO_64 = ProtocolTransform(EvalTransform(64), 64)


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


def test_only_the_keys_of_training_samples_are_augmented_each_with_its_own_seed(tmp_path, write_voc):
    seeds = []

    def augment(image, mask, seed):
        seeds.append(seed)
        return PAD_TO_64(image, mask)

    pairs = VocLayout(write_voc(tmp_path, train=3)).find_pairs("train")
    dataset = SegmentationDataset(pairs, 3, PAD_TO_64, augment, seed=7)
    for key in (SampleKey(2, 1), 1, SampleKey(2, 0)):
        dataset[key]
    assert seeds == [sample_seed(7, SampleKey(2, 1)), sample_seed(7, SampleKey(2, 0))]


def test_a_mask_of_another_size_than_its_image_is_named_with_both_sizes(tmp_path, write_voc, save):
    write_voc(tmp_path, val=1)
    save(tmp_path / "SegmentationClass" / "val_0.png", np.zeros((20, 30)))
    dataset = SegmentationDataset(VocLayout(tmp_path).find_pairs("val"), 3, PAD_TO_64)
    message = f"{tmp_path}/SegmentationClass/val_0.png must be as large as {tmp_path}/JPEGImages/val_0.jpg, 40x32, "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}got 30x20$"):
        dataset[0]


def test_an_image_that_the_transform_refuses_is_named(tmp_path, write_voc):
    pairs = VocLayout(write_voc(tmp_path, val=1)).find_pairs("val")
    dataset = SegmentationDataset(pairs, 3, ProtocolTransform(EvalTransform(32), 32, "pad"))
    with pytest.raises(ValueError, match=r"val_0\.jpg: eval_protocol pad .* 32x32, got 40x32"):
        dataset[0]


def test_real_masks_are_as_large_as_their_images(shared):
    pairs = VocLayout(shared / "data" / "voc-real").find_pairs("val")
    assert len(pairs) == 48
    dataset = SegmentationDataset(pairs, 21, ProtocolTransform(EvalTransform(513), 513))
    classes = set().union(*(dataset[index].mask.unique().tolist() for index in range(8)))
    assert {0, 255} < classes <= {*range(21), 255}
