import re

import pytest
import torch

from mobilevision.classification.datamodule import ImageNetDataModule, collate
from mobilevision.classification.types import ClassificationSample


@pytest.fixture
def root(tmp_path, write_image):
    """Cats of 3 gray values and a dog to train, a dog to validate, a cat to test."""
    files = {"train/cat/0": 0, "train/cat/1": 1, "train/cat/2": 2, "train/dog/0": 3, "val/dog/0": 100, "test/cat/0": 50}
    for name, value in files.items():
        write_image(tmp_path / f"{name}.png", value)
    return tmp_path


def make(root, stage="fit", **options):
    datamodule = ImageNetDataModule(str(root), **{"input_size": 16, "num_workers": 0, "batch_size": 3} | options)
    datamodule.setup(stage)
    return datamodule


def remove(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()


def test_training_is_shuffled_and_leaves_the_last_batch_out(root):
    (batch,) = make(root).train_dataloader()
    assert batch.images.shape == (3, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.labels.tolist() == [int(value == 3) for value in batch.images[:, 0, 0, 0]]
    assert batch.positions.tolist() == batch.images[:, 0, 0, 0].tolist()


def test_validation_is_complete_and_in_order(root, write_image):
    write_image(root / "val/cat/0.png", 50)
    (batch,) = make(root, "validate").val_dataloader()
    assert batch.images[:, 0, 0, 0].tolist() == [50, 100]
    assert batch.labels.tolist() == batch.positions.tolist() == [0, 1]


def test_testing_measures_the_test_split_and_needs_no_other(root):
    (batch,) = make(root, "test").test_dataloader()
    assert (batch.images[0, 0, 0, 0], batch.labels.tolist()) == (50, [0])
    remove(root / "train")
    remove(root / "val")
    assert make(root, "test").class_names == ("cat",)


def test_training_images_are_also_had_as_in_evaluation_in_order_and_complete(root):
    datamodule = make(root, brightness=1.0)
    batches = list(datamodule.feature_dataloader())
    assert torch.cat([batch.images[:, 0, 0, 0] for batch in batches]).tolist() == [0, 1, 2, 3]
    assert datamodule.train_set.augment is datamodule.augment


def test_a_validation_set_with_some_classes_has_the_training_sets_labels(root):
    for stage in ("fit", "validate"):
        datamodule = make(root, stage)
        (batch,) = datamodule.val_dataloader()
        assert batch.labels.tolist() == [1]
        assert datamodule.class_names == ("cat", "dog")


def test_the_list_of_classes_decides_the_order(root):
    (root / "LOC_synset_mapping.txt").write_text("dog dog, Canis\nfox fox\ncat cat, Felis\n")
    with pytest.warns(UserWarning, match=r"1 classes have no folder in .*train and are not learned: fox"):
        datamodule = make(root)
    assert datamodule.class_names == ("dog", "fox", "cat")
    (batch,) = datamodule.val_dataloader()
    assert batch.labels.tolist() == [0]


def test_a_list_of_classes_can_be_named(root):
    (root / "mine.txt").write_text("dog\ncat\n")
    assert make(root, class_list="mine.txt").class_names == ("dog", "cat")
    with pytest.raises(FileNotFoundError, match=r"other\.txt"):
        make(root, class_list="other.txt")


def test_a_part_of_imagenet_is_labeled_with_the_thousand_classes(shared):
    datamodule = make(shared / "data/imagenet-mini", "validate")
    rows = (shared / "data/imagenet-mini/val_index.csv").read_text().splitlines()[1:]
    expected = {path.split("/")[-1]: int(label) for path, _, label in (row.rsplit(",", 2) for row in rows)}
    dataset = datamodule.datasets["val"]
    assert len(datamodule.class_names) == 1000
    for position in range(0, len(dataset), 10):
        assert dataset[position].label == expected[dataset.path(position).name]


def test_validation_needs_no_training_images(root):
    remove(root / "train")
    assert make(root, "validate").class_names == ("dog",)
    expected = f"{root}/train not found: expected {root}/train/CLASS/IMAGE and {root}/val/CLASS/IMAGE"
    with pytest.raises(FileNotFoundError, match=re.escape(expected)):
        make(root, "fit")


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_a_missing_folder_is_named_with_the_layout(root, stage):
    with pytest.raises(FileNotFoundError, match=re.escape(f"{root}/wrong not found: expected {root}/train/CLASS/IMA")):
        make(root, stage, val_dir="wrong")


def test_every_folder_can_be_elsewhere(root, tmp_path_factory, write_image):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_image(elsewhere / "cat/0.png", 7)
    (batch,) = make(root, val_dir=str(elsewhere)).val_dataloader()
    assert (batch.labels.tolist(), batch.images[0, 0, 0, 0].item()) == ([0], 7)


def test_an_empty_class_folder_is_reported(root):
    (root / "train/fox").mkdir()
    with pytest.warns(UserWarning, match="1 class folders of .*train hold no image: fox"):
        datamodule = make(root)
    assert datamodule.class_names == ("cat", "dog", "fox")


def test_a_broken_image_stops_the_run_or_is_skipped(root):
    (root / "val/dog/1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1\.png does not decode"):
        list(make(root).val_dataloader())
    with pytest.warns(UserWarning, match="skipped 1 of 2 images"):
        datamodule = make(root, skip_broken=True)
    (batch,) = datamodule.val_dataloader()
    assert batch.positions.tolist() == [0]


def test_an_augmentation_out_of_range_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="brightness must be from 0 to 1, got 2"):
        ImageNetDataModule("nowhere", brightness=2)


def test_a_batch_stays_channels_last():
    samples = [ClassificationSample(torch.zeros(4, 4, 3, dtype=torch.uint8).permute(2, 0, 1), 5, 6)]
    batch = collate(samples)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert (batch.images.shape, batch.labels.tolist(), batch.positions.tolist()) == ((1, 3, 4, 4), [5], [6])


def test_images_and_classes_that_take_no_part_are_counted(root, write_image):
    write_image(root / "train/loose.png", 9)
    with pytest.warns(UserWarning, match=r"1 images in .*train are in no class folder and left out: loose\.png"):
        assert len(make(root).train_set) == 4
    (root / "train/loose.png").rename(root / "train/cat/._1.png")
    (root / "train/dog/Thumbs.db").touch()
    with pytest.warns(UserWarning, match=r"1 files in .*train are left out, they are no images: 1 hidden"):
        assert len(make(root).train_set) == 4
    make(root, "validate")
