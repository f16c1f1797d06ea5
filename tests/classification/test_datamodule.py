import re

import numpy as np
import pytest
import torch
from PIL import Image

from mobilevision.classification.datamodule import ImageNetDataModule, collate
from mobilevision.classification.types import Sample


@pytest.fixture
def root(tmp_path):
    """Cats in 3 grey levels, dogs in 2, to train; one dog to validate."""
    for name, value in [("train/cat/0", 0), ("train/cat/1", 1), ("train/cat/2", 2), ("train/dog/0", 3)]:
        write_picture(tmp_path / f"{name}.png", value)
    write_picture(tmp_path / "val/dog/0.png", 100)
    return tmp_path


def write_picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), value, np.uint8)).save(path)


def make(root, stage="fit", **options):
    datamodule = ImageNetDataModule(str(root), **{"input_size": 16, "num_workers": 0, "batch_size": 3} | options)
    datamodule.setup(stage)
    return datamodule


def test_training_is_shuffled_and_leaves_the_last_batch_out(root):
    (batch,) = make(root).train_dataloader()
    assert batch.images.shape == (3, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.labels.tolist() == [int(value == 3) for value in batch.images[:, 0, 0, 0]]
    assert batch.positions.tolist() == batch.images[:, 0, 0, 0].tolist()


def test_validation_is_complete_and_in_order(root):
    write_picture(root / "val/cat/0.png", 50)
    (batch,) = make(root, "validate").val_dataloader()
    assert batch.images[:, 0, 0, 0].tolist() == [50, 100]
    assert batch.labels.tolist() == batch.positions.tolist() == [0, 1]


def test_a_validation_set_with_some_classes_keeps_the_training_sets_labels(root):
    for stage in ("fit", "validate", "test"):
        datamodule = make(root, stage)
        (batch,) = datamodule.test_dataloader()
        assert batch.labels.tolist() == [1]
        assert datamodule.class_names == ("cat", "dog")


def test_the_list_of_classes_decides_the_order(root):
    (root / "LOC_synset_mapping.txt").write_text("dog dog, Canis\nfox fox\ncat cat, Felis\n")
    datamodule = make(root)
    assert datamodule.class_names == ("dog", "fox", "cat")
    (batch,) = datamodule.val_dataloader()
    assert batch.labels.tolist() == [0]


def test_a_list_of_classes_can_be_named(root):
    (root / "mine.txt").write_text("dog\ncat\n")
    assert make(root, class_list="mine.txt").class_names == ("dog", "cat")
    with pytest.raises(FileNotFoundError, match=r"other\.txt"):
        make(root, class_list="other.txt")


def test_a_part_of_imagenet_is_labelled_with_the_thousand_classes(shared):
    datamodule = make(shared / "data/imagenet-mini", "validate", batch_size=200)
    rows = (shared / "data/imagenet-mini/val_index.csv").read_text().splitlines()[1:]
    expected = {path.split("/")[-1]: int(label) for path, _, label in (row.rsplit(",", 2) for row in rows)}
    loader = datamodule.val_dataloader()
    assert len(datamodule.class_names) == 1000
    labels = [loader.dataset[key].label for key in list(loader.sampler)[::10]]
    files = sorted((shared / "data/imagenet-mini/val").rglob("*.JPEG"))[::10]
    assert labels == [expected[file.name] for file in files]


def test_validating_needs_no_training_pictures(root):
    for path in sorted((root / "train").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (root / "train").rmdir()
    assert make(root, "validate").class_names == ("dog",)
    expected = f"{root}/train not found: expected {root}/train/CLASS/PICTURE and {root}/val/CLASS/PICTURE"
    with pytest.raises(FileNotFoundError, match=re.escape(expected)):
        make(root, "fit")


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_missing_folder_is_named_with_the_layout(root, stage):
    with pytest.raises(FileNotFoundError, match=re.escape(f"{root}/wrong not found: expected {root}/train/CLASS/PIC")):
        make(root, stage, val_dir="wrong")


def test_every_folder_can_be_elsewhere(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_picture(elsewhere / "cat/0.png", 7)
    (batch,) = make(root, val_dir=str(elsewhere)).val_dataloader()
    assert (batch.labels.tolist(), batch.images[0, 0, 0, 0].item()) == ([0], 7)


def test_an_empty_class_folder_is_reported(root):
    (root / "train/fox").mkdir()
    with pytest.warns(UserWarning, match="1 class folders of .*train hold no picture: fox"):
        datamodule = make(root)
    assert datamodule.class_names == ("cat", "dog", "fox")


def test_a_broken_picture_stops_the_run_or_is_skipped(root):
    (root / "val/dog/1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1\.png does not decode"):
        list(make(root).val_dataloader())
    with pytest.warns(UserWarning, match="skipped 1 of 2 pictures"):
        datamodule = make(root, skip_broken=True)
    (batch,) = datamodule.val_dataloader()
    assert batch.positions.tolist() == [0]


def test_a_batch_stays_channels_last():
    samples = [Sample(torch.zeros(4, 4, 3, dtype=torch.uint8).permute(2, 0, 1), 5, 6)]
    batch = collate(samples)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert (batch.images.shape, batch.labels.tolist(), batch.positions.tolist()) == ((1, 3, 4, 4), [5], [6])
