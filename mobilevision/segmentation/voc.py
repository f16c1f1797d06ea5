"""Find pictures and masks laid out as in Pascal VOC 2012."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mobilevision.segmentation import sbd
from mobilevision.segmentation.pictures import Listing, Pair

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


class VocLayout(NamedTuple):
    """Where the parts of a set lie: folders in ``root``, or anywhere if they are absolute.

    Attributes:
        root: The folder ``VOC2012``, or one that holds it or ``VOCdevkit/VOC2012``.
        image_dir: Folder of the pictures.
        mask_dir: Folder of the masks.
        list_dir: Folder of the splits, a text file each with an id on every line.
        image_suffix: Of the pictures; masks are PNG files.
        sbd_dir: Folder of SBD's ``ID.mat``, for what has no PNG: its folder ``cls``.
    """

    root: Path
    image_dir: str = IMAGE_DIR
    mask_dir: str = MASK_DIR
    list_dir: str = LIST_DIR
    image_suffix: str = ".jpg"
    sbd_dir: str | None = None

    def list_pairs(self, split: str) -> Listing:
        """Find the pictures and masks of a split, and which of them are missing.

        Raises:
            FileNotFoundError: A folder or the list is missing; the message says which and what is expected.
            ValueError: The list is empty.
        """
        list_file, ids = self._read_list(split, self.image_dir, self.mask_dir)
        home = self._home()
        images = [home / self.image_dir / (name + self.image_suffix) for name in ids]
        masks = [home / self.mask_dir / f"{name}.png" for name in ids]
        if self.sbd_dir is not None:
            masks = _fill_in(masks, home / self.sbd_dir)
        # One look at a folder instead of one at every file: on network drives that is seconds against minutes.
        present = {path for folder in {path.parent for path in images + masks} for path in folder.iterdir()}
        pairs = [Pair(image, mask) for image, mask in zip(images, masks, strict=True)]
        return Listing(
            list_file,
            tuple(pair for pair in pairs if present.issuperset(pair)),
            without_image=tuple(path for path in images if path not in present),
            without_mask=tuple(path for path in masks if path not in present),
        )

    def find_pairs(self, split: str) -> list[Pair]:
        """Give the pictures and masks of a split.

        Raises:
            FileNotFoundError: As in :meth:`list_pairs`, or files are missing; the message names them all.
            ValueError: The list is empty.
        """
        return self.list_pairs(split).complete()

    def find_masks(self, split: str) -> dict[str, Path]:
        """Give the masks of a split by their ids; the pictures need not be there.

        Raises:
            FileNotFoundError: As in :meth:`find_pairs`.
            ValueError: The list is empty.
        """
        _, ids = self._read_list(split, self.mask_dir)
        return dict(zip(ids, find_files(self._home() / self.mask_dir, ids, ".png"), strict=True))

    def list_file(self, split: str) -> Path:
        """Say where the list of a split is, or would be."""
        return self._home() / self.list_dir / f"{split}.txt"

    def _read_list(self, split: str, *folders: str) -> tuple[Path, list[str]]:
        home = self._home()
        list_file = self.list_file(split)
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
        return list_file, ids

    def _home(self) -> Path:
        candidates = (self.root, self.root / "VOC2012", self.root / "VOCdevkit" / "VOC2012")
        return next((folder for folder in candidates if (folder / self.list_dir).is_dir()), self.root)


def find_files(folder: Path, ids: Sequence[str], suffix: str) -> list[Path]:
    """Give the file of each id.

    Raises:
        FileNotFoundError: The folder or some files are missing; the message counts and names them.
    """
    present = {path.name for path in folder.iterdir()}
    missing = [name + suffix for name in ids if name + suffix not in present]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(ids)} files are missing in {folder}: {', '.join(missing)}")
    return [folder / (name + suffix) for name in ids]


def _fill_in(masks: list[Path], sbd_dir: Path) -> list[Path]:
    """Take SBD's file where there is one and no PNG."""
    if not sbd_dir.is_dir():
        raise FileNotFoundError(f"{sbd_dir} not found: expected SBD's folder cls with ID{sbd.SUFFIX}")
    drawn = {path.name for path in masks[0].parent.iterdir()}
    listed = {path.stem for path in sbd_dir.glob(f"*{sbd.SUFFIX}")}
    return [
        sbd_dir / f"{mask.stem}{sbd.SUFFIX}" if mask.name not in drawn and mask.stem in listed else mask
        for mask in masks
    ]
