import re

import numpy as np
import pytest
import torch
from PIL import Image

from mobilevision.classification.imagenet import (
    ClassList,
    Picture,
    PictureFolders,
    find_pictures,
    list_class_folders,
    read_synset_list,
)
from mobilevision.classification.transforms import EvalTransform
from mobilevision.training.sampling import SampleKey


def write_picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)


def test_a_class_is_called_by_its_first_name(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("n01440764 tench, Tinca tinca\n\nn02093256 Staffordshire bullterrier, Staffordshire bull terrier\n")
    classes = read_synset_list(path)
    assert classes == ClassList(("n01440764", "n02093256"), ("tench", "Staffordshire bullterrier"))


def test_a_line_may_hold_the_folder_alone(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("cat\ndog\n")
    assert read_synset_list(path).names == ("cat", "dog")


def test_two_classes_of_one_name_stay_apart(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("n02012849 crane\nn01440764 tench\nn03126707 crane\n")
    assert read_synset_list(path).names == ("crane (n02012849)", "tench", "crane (n03126707)")


@pytest.mark.parametrize(("text", "reason"), [("\n", "is empty"), ("a x\nb y\na z\n", "names a twice")])
def test_a_list_that_is_none_is_refused(tmp_path, text, reason):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} must give one class a line.*{reason}"):
        read_synset_list(path)


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


def test_pictures_carry_the_label_of_the_whole_list(tmp_path):
    for name in ("c/2.png", "c/1.JPEG", "a/x.jpg"):
        write_picture(tmp_path / name)
    (tmp_path / "c/notes.txt").touch()
    pictures = find_pictures(tmp_path, ClassList(("c", "b", "a"), ("C", "B", "A")))
    assert pictures == [
        Picture(tmp_path / "c/1.JPEG", 0),
        Picture(tmp_path / "c/2.png", 0),
        Picture(tmp_path / "a/x.jpg", 2),
    ]


def test_a_folder_outside_the_list_is_named(tmp_path):
    write_picture(tmp_path / "zebra/1.png")
    with pytest.raises(ValueError, match=r"zebra is not one of the 2 classes, which begin with a, b \(1 such folder"):
        find_pictures(tmp_path, ClassList(("a", "b"), ("a", "b")))


def test_pictures_without_class_folders_are_refused(tmp_path):
    write_picture(tmp_path / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ValueError, match="must hold one folder per class with pictures in it, but there are none"):
        find_pictures(tmp_path, list_class_folders(tmp_path))


def test_a_sample_is_its_picture_its_label_and_its_place(tmp_path):
    pictures = []
    for value, name in enumerate(("a", "ä", "a longer name")):
        pictures.append(Picture(tmp_path / f"{name}.png", 10 * value))
        write_picture(pictures[-1].path, value)
    dataset = PictureFolders(pictures, EvalTransform(4))
    assert len(dataset) == 3
    for position in range(3):
        sample = dataset[SampleKey(epoch=0, sample=position)]
        assert (sample.label, sample.position) == (10 * position, position)
        assert torch.equal(sample.image, torch.full((3, 4, 4), position, dtype=torch.uint8))


def test_the_seed_of_a_sample_follows_from_run_epoch_and_place(tmp_path):
    write_picture(tmp_path / "0.png")
    seeds = []

    def remember(image, seed):
        seeds.append(seed)
        return torch.zeros(3, 1, 1, dtype=torch.uint8)

    pictures = [Picture(tmp_path / "0.png", 0)] * 2
    for seed, key in [(0, (0, 0)), (0, (0, 0)), (1, (0, 0)), (0, (1, 0)), (0, (0, 1))]:
        PictureFolders(pictures, remember, seed)[SampleKey(*key)]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 4


def test_a_picture_that_does_not_decode_is_named(tmp_path):
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"0\.png does not decode"):
        PictureFolders([Picture(tmp_path / "0.png", 0)], EvalTransform(4))[SampleKey(0, 0)]
