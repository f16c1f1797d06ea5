"""Read pictures sorted into one folder per class, as ImageNet is."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from mobilevision.classification.types import Sample
from mobilevision.images import find_images, read_image
from mobilevision.training.sampling import SampleKey, sample_seed

SYNSET_LIST = "LOC_synset_mapping.txt"

Transform = Callable[[UInt8[np.ndarray, "H W 3"], int], UInt8[Tensor, "3 S S"]]
"""Picture and seed in, pixels of the network's size out."""


class ClassList(NamedTuple):
    """The classes in the order of their labels."""

    folders: tuple[str, ...]
    names: tuple[str, ...]
    """As a person reads them; no two are the same."""


class Picture(NamedTuple):
    """A file and the label of the folder it lies in."""

    path: Path
    label: int


def read_synset_list(path: Path) -> ClassList:
    """Read ImageNet's list of classes: a line is a folder and its names, ``n01440764 tench, Tinca tinca``.

    A class is called by its first name. Where two share it, as the bird and the machine share ``crane``, the folder is
    added.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no line, or a folder twice.
    """
    rows = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    folders = tuple(row[0] for row in rows)
    repeated = [folder for folder, count in Counter(folders).items() if count > 1]
    if not rows or repeated:
        reason = f"names {repeated[0]} twice" if repeated else "is empty"
        raise ValueError(f"{path} must give one class a line, like 'n01440764 tench, Tinca tinca', but it {reason}")
    names = [row[-1].split(",")[0].strip() for row in rows]
    count = Counter(names)
    return ClassList(
        folders,
        tuple(f"{name} ({folder})" if count[name] > 1 else name for folder, name in zip(folders, names, strict=True)),
    )


def list_class_folders(root: Path) -> ClassList:
    """Take the folders in ``root``, sorted, as the classes."""
    folders = tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))
    return ClassList(folders, folders)


def find_pictures(root: Path, classes: ClassList) -> list[Picture]:
    """Find the pictures in the class folders of ``root``, in the order of their labels.

    Not every class needs a folder: a part of a set keeps the labels of the whole.

    Raises:
        ValueError: A folder is not among the classes, or there is no picture.
    """
    present = list_class_folders(root).folders
    strangers = sorted(set(present) - set(classes.folders))
    if strangers:
        raise ValueError(
            f"{root / strangers[0]} is not one of the {len(classes.folders)} classes, which begin with "
            f"{', '.join(classes.folders[:3])} ({len(strangers)} such folders)"
        )
    labels = {folder: label for label, folder in enumerate(classes.folders)}
    pictures = [
        Picture(path, labels[folder])
        for folder in sorted(present, key=labels.__getitem__)
        for path in find_images(root / folder)
    ]
    if not pictures:
        raise ValueError(f"{root} must hold one folder per class with pictures in it, but there are none")
    return pictures


class PictureFolders(Dataset[Sample]):
    """Pictures with labels, read and transformed when asked for.

    Args:
        pictures: What there is; a sample's place in this list is its position.
        transform: Makes the network's pixels out of a picture and a seed.
        seed: The run's seed, from which every sample's own is made.
    """

    def __init__(self, pictures: Sequence[Picture], transform: Transform, seed: int = 0) -> None:
        # Arrays, because counting references to a million Python objects copies them into every worker.
        self._paths = np.array([os.fsencode(picture.path) for picture in pictures])
        self._labels = np.array([picture.label for picture in pictures])
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, position: int) -> Path:
        """Give the file of one picture."""
        return Path(os.fsdecode(self._paths[position]))

    def __getitem__(self, key: SampleKey) -> Sample:
        """Read one sample.

        Raises:
            ValueError: The picture does not decode; the message names it.
        """
        image = read_image(os.fsdecode(self._paths[key.sample]))
        return Sample(
            self.transform(image, sample_seed(self.seed, key)), int(self._labels[key.sample]), position=key.sample
        )
