"""Read pictures and masks laid out as in Pascal VOC 2012."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from mobilevision.images import read_image
from mobilevision.segmentation.types import IGNORE_INDEX, Sample
from mobilevision.training.sampling import SampleKey, sample_seed

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

IMAGE_DIR = "JPEGImages"
MASK_DIR = "SegmentationClass"
AUGMENTED_MASK_DIR = "SegmentationClassAug"
LIST_DIR = "ImageSets/Segmentation"
AUGMENTED_SPLITS = ("train_aug", "trainaug")
"""The 10,582 training pictures with the masks of Hariharan et al., 2011, as they are usually called."""

NUM_NAMED = 3
"""Missing files that a message names."""

Pixels = UInt8[np.ndarray, "H W 3"]
Mask = UInt8[np.ndarray, "H W"]
Transform = Callable[[Pixels, Mask, int], tuple[UInt8[Tensor, "3 S S"], UInt8[Tensor, "h w"]]]
"""Picture, mask and seed in; the network's pixels and the mask to compare with out."""


class Pair(NamedTuple):
    """A picture and its mask."""

    image: Path
    mask: Path


class VocLayout(NamedTuple):
    """Where the parts of a set lie: folders in ``root``, or anywhere if they are absolute.

    Attributes:
        root: The folder ``VOC2012``, or one that holds it or ``VOCdevkit/VOC2012``.
        image_dir: Folder of the pictures.
        mask_dir: Folder of the masks.
        list_dir: Folder of the splits, a text file each with an id on every line.
        image_suffix: Of the pictures; masks are PNG files.
    """

    root: Path
    image_dir: str = IMAGE_DIR
    mask_dir: str = MASK_DIR
    list_dir: str = LIST_DIR
    image_suffix: str = ".jpg"

    def find_pairs(self, split: str) -> list[Pair]:
        """List the pictures and masks of a split.

        Raises:
            FileNotFoundError: A folder, the list or files are missing; the message says which and what is expected.
            ValueError: The list is empty.
        """
        home, ids = self._read_list(split, self.image_dir, self.mask_dir)
        images = find_files(home / self.image_dir, ids, self.image_suffix)
        masks = find_files(home / self.mask_dir, ids, ".png")
        return [Pair(image, mask) for image, mask in zip(images, masks, strict=True)]

    def find_masks(self, split: str) -> dict[str, Path]:
        """Give the masks of a split by their ids; the pictures need not be there.

        Raises:
            FileNotFoundError: As in :meth:`find_pairs`.
            ValueError: The list is empty.
        """
        home, ids = self._read_list(split, self.mask_dir)
        return dict(zip(ids, find_files(home / self.mask_dir, ids, ".png"), strict=True))

    def _read_list(self, split: str, *folders: str) -> tuple[Path, list[str]]:
        home = self._home()
        list_file = home / self.list_dir / f"{split}.txt"
        absent = [path for path in (list_file, *(home / folder for folder in folders)) if not path.exists()]
        if absent:
            raise FileNotFoundError(
                f"{', '.join(map(str, absent))} not found: expected {list_file} with an id on every line, "
                f"{home / self.image_dir}/ID{self.image_suffix} and {home / self.mask_dir}/ID.png"
            )
        lines = list_file.read_text(encoding="utf-8").splitlines()
        ids = [line.strip() for line in lines if line.strip()]
        if not ids:
            raise ValueError(f"{list_file} must name one picture on every line, but it is empty")
        return home, ids

    def _home(self) -> Path:
        candidates = (self.root, self.root / "VOC2012", self.root / "VOCdevkit" / "VOC2012")
        return next((folder for folder in candidates if (folder / self.list_dir).is_dir()), self.root)


def find_files(folder: Path, ids: Sequence[str], suffix: str) -> list[Path]:
    """Give the file of each id.

    Raises:
        FileNotFoundError: The folder or some files are missing; the message counts them and names the first.
    """
    # One look at the folder instead of one at every file: on network drives that is seconds against minutes.
    present = {path.name for path in folder.iterdir()}
    missing = [name + suffix for name in ids if name + suffix not in present]
    if missing:
        named = ", ".join(missing[:NUM_NAMED])
        raise FileNotFoundError(f"{len(missing)} of {len(ids)} files are missing in {folder}, first {named}")
    return [folder / (name + suffix) for name in ids]


def read_mask(path: Path, num_classes: int, *, ignored: bool = True) -> Mask:
    """Read a PNG whose values, or palette indices, are classes.

    Args:
        path: The file.
        num_classes: Classes of the mask, background included.
        ignored: Whether pixels may be ``IGNORE_INDEX``, as they may in the truth.

    Raises:
        ValueError: It does not decode, is a colour picture, or has a value that is no class; the message names it.
    """
    try:
        with Image.open(path) as image:
            mode, mask = image.mode, np.array(image)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} does not decode as a mask") from error
    if mode not in ("P", "L"):
        raise ValueError(
            f"{path} must be a PNG with a palette or in 8-bit grey whose values are classes, got mode {mode}: replace "
            f"each colour by its class and save with PIL's Image.fromarray(classes.astype('uint8'))"
        )
    strangers = mask[(mask >= num_classes) & (mask != IGNORE_INDEX if ignored else True)]
    if strangers.size:
        allowed = f"classes 0 to {num_classes - 1}" + (f" and {IGNORE_INDEX}" if ignored else "")
        raise ValueError(f"{path} must hold {allowed}, got {strangers[0]} ({strangers.size} pixels)")
    return mask


class MaskedPictures(Dataset[Sample]):
    """Pictures with masks, read and transformed when asked for.

    Args:
        pairs: What there is; a sample's place in this list is its position.
        num_classes: Classes of the masks, background included.
        transform: Makes the network's pixels and the mask to compare with.
        seed: The run's seed, from which every sample's own is made.
    """

    def __init__(self, pairs: Sequence[Pair], num_classes: int, transform: Transform, seed: int = 0) -> None:
        self.pairs = pairs
        self.num_classes = num_classes
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: SampleKey) -> Sample:
        """Read one sample.

        Raises:
            ValueError: A file does not decode, the mask is of another size than its picture, or it holds a value that
                is no class; the message names the file.
        """
        pair = self.pairs[key.sample]
        image, mask = read_image(pair.image), read_mask(pair.mask, self.num_classes)
        if mask.shape != image.shape[:2]:
            height, width = image.shape[:2]
            raise ValueError(
                f"{pair.mask} must be as large as {pair.image}, {width}x{height}, got {mask.shape[1]}x{mask.shape[0]}"
            )
        return Sample(*self.transform(image, mask, sample_seed(self.seed, key)), position=key.sample)
