import re

import pytest
import torch

from mobilevision.classification.dataset import (
    ClassificationDataset,
    ClassList,
    LabeledFile,
    find_labeled_images,
    list_class_folders,
    read_synset_list,
)
from mobilevision.classification.preprocess import CropTransform


@pytest.fixture
def read(tmp_path):
    """Read a list of classes with the given text."""

    def read(text):
        path = tmp_path / "list.txt"
        path.write_text(text)
        return read_synset_list(path)

    return read


def test_a_class_is_called_by_its_first_name(read):
    text = "n01440764 tench, Tinca tinca\n\nn02093256 Staffordshire bullterrier, Staffordshire bull terrier\n"
    assert read(text) == ClassList(("n01440764", "n02093256"), ("tench", "Staffordshire bullterrier"))


def test_a_line_may_hold_the_folder_alone(read):
    assert read("cat\ndog\n").names == ("cat", "dog")


def test_two_classes_of_one_name_stay_apart(read):
    classes = read("n02012849 crane\nn01440764 tench\nn03126707 crane\n")
    assert classes.names == ("crane (n02012849)", "tench", "crane (n03126707)")


@pytest.mark.parametrize(("text", "reason"), [("\n", "is empty"), ("a x\nb y\na z\n", "names a twice")])
def test_an_empty_or_ambiguous_list_is_refused(read, text, reason):
    with pytest.raises(ValueError, match=rf"list\.txt must have one class per line.*{reason}"):
        read(text)


def test_the_thousand_names_of_imagenet_are_all_different(shared):
    classes = read_synset_list(shared / "data/imagenet-mini/LOC_synset_mapping.txt")
    assert len(classes.folders) == len(set(classes.names)) == 1000
    assert classes.names[:2] == ("tench", "goldfish")
    assert classes.folders == tuple(sorted(classes.folders))


def test_folders_are_classes_in_sorted_order(tmp_path):
    for name in ("b", "a", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").touch()
    assert list_class_folders(tmp_path).folders == ("a", "b")


def test_images_have_the_label_of_the_whole_list(tmp_path, write_image):
    for name in ("c/2.png", "c/1.JPEG", "a/x.jpg"):
        write_image(tmp_path / name)
    (tmp_path / "c/notes.txt").touch()
    assert find_labeled_images(tmp_path, ClassList(("c", "b", "a"), ("C", "B", "A"))) == [
        LabeledFile(tmp_path / "c/1.JPEG", 0),
        LabeledFile(tmp_path / "c/2.png", 0),
        LabeledFile(tmp_path / "a/x.jpg", 2),
    ]


def test_a_folder_outside_the_list_is_named(tmp_path, write_image):
    write_image(tmp_path / "zebra/1.png")
    with pytest.raises(ValueError, match=r"zebra is not one of the 2 classes, which begin with a, b \(1 such folder"):
        find_labeled_images(tmp_path, ClassList(("a", "b"), ("a", "b")))


def test_images_without_class_folders_are_refused(tmp_path, write_image):
    write_image(tmp_path / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))} must hold one folder per class"):
        find_labeled_images(tmp_path, list_class_folders(tmp_path))


def test_a_sample_is_its_image_its_label_and_its_position(tmp_path, write_image):
    names = ("a", "ä", "a longer name")
    images = [LabeledFile(write_image(tmp_path / f"{name}.png", value), 10 * value) for value, name in enumerate(names)]
    dataset = ClassificationDataset(images, CropTransform(4))
    assert len(dataset) == 3
    for position, sample in enumerate(dataset):
        assert (sample.label, sample.position) == (10 * position, position)
        assert torch.equal(sample.image, torch.full((3, 4, 4), position, dtype=torch.uint8))
        assert dataset.path(position) == images[position].path
    with pytest.raises(IndexError):
        dataset[3]


def test_an_image_that_does_not_decode_is_named(tmp_path):
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"0\.png does not decode"):
        ClassificationDataset([LabeledFile(tmp_path / "0.png", 0)], CropTransform(4))[0]
