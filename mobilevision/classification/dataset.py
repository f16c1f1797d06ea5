"""Images in one folder per class, as ImageNet has them."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from mobilevision.classification.types import ClassificationSample
from mobilevision.head import Preprocess
from mobilevision.images import find_images, is_hidden, read_image
from mobilevision.training.loader import SampleKey, sample_seed

SYNSET_LIST = "LOC_synset_mapping.txt"

Augment = Callable[[UInt8[np.ndarray, "H W 3"], int], UInt8[Tensor, "3 S S"]]
"""Image and seed in, pixels of the network's size out."""


class ClassList(NamedTuple):
    """The classes in the order of their labels.

    Attributes:
        folders: The name of each class's folder.
        names: As a person reads them; no two are the same.
    """

    folders: tuple[str, ...]
    names: tuple[str, ...]


class LabeledFile(NamedTuple):
    """The file of an image, and the label of the folder it lies in."""

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
        raise ValueError(f"{path} must have one class per line, like 'n01440764 tench, Tinca tinca', but it {reason}")
    names = [row[-1].split(",")[0].strip() for row in rows]
    count = Counter(names)
    return ClassList(
        folders,
        tuple(f"{name} ({folder})" if count[name] > 1 else name for folder, name in zip(folders, names, strict=True)),
    )


def list_class_folders(root: Path) -> ClassList:
    """Return the folders in ``root``, sorted, as the classes."""
    folders = tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)))
    return ClassList(folders, folders)


def find_labeled_images(root: Path, classes: ClassList) -> list[LabeledFile]:
    """Return the images in the class folders of ``root``, in the order of their labels.

    Not every class needs a folder: a part of a dataset keeps the labels of the whole.

    Raises:
        ValueError: A folder is not among the classes, or there is no image.
    """
    present = list_class_folders(root).folders
    unknown = sorted(set(present) - set(classes.folders))
    if unknown:
        raise ValueError(
            f"{root / unknown[0]} is not one of the {len(classes.folders)} classes, which begin with "
            f"{', '.join(classes.folders[:3])} ({len(unknown)} such folders)"
        )
    labels = {folder: label for label, folder in enumerate(classes.folders)}
    depth = len(root.parts)
    images = [
        LabeledFile(path, labels[path.parts[depth]])
        for path in find_images(*(root / folder for folder in sorted(present, key=labels.__getitem__)))
    ]
    if not images:
        raise ValueError(f"{root} must hold one folder per class with images in it, but there are none")
    return images


class ClassificationDataset(Dataset[ClassificationSample]):
    """Images with labels, read and transformed when asked for.

    Args:
        images: Files and labels; a sample's place in this list is its position.
        preprocess: The evaluation transform.
        augment: The training augmentation, if this is a training set.
        seed: The run's seed, from which every sample's own is made.
    """

    def __init__(
        self,
        images: Sequence[LabeledFile],
        preprocess: Preprocess,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        # Arrays, because counting references to a million Python objects copies them into every worker.
        self._paths = np.array([os.fsencode(image.path) for image in images])
        self._labels = np.array([image.label for image in images])
        self.preprocess = preprocess
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, position: int) -> Path:
        """Return the file of one image."""
        return Path(os.fsdecode(self._paths[position]))

    def __getitem__(self, key: int | SampleKey) -> ClassificationSample:
        """Read one sample: augmented for the key of a training sample, else as in evaluation.

        Raises:
            IndexError: There is no such sample.
            ValueError: The image does not decode; the message names it.
        """
        position = range(len(self))[key.sample if isinstance(key, SampleKey) else key]
        image = read_image(self.path(position))
        if self.augment is not None and isinstance(key, SampleKey):
            pixels = self.augment(image, sample_seed(self.seed, key))
        else:
            pixels = self.preprocess(image)
        return ClassificationSample(pixels, int(self._labels[position]), position)
