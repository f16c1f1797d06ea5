"""Layouts of datasets with masks on disk: Pascal VOC 2012's, and folders of images beside folders of masks."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from mobilevision.images import IMAGE_SUFFIXES, find_images, is_hidden
from mobilevision.segmentation.dataset import ImageAndMask, SplitFiles
from mobilevision.segmentation.masks import SBD_SUFFIX

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

IMAGE_DIR = "JPEGImages"
MASK_DIR = "SegmentationClass"
AUGMENTED_MASK_DIR = "SegmentationClassAug"
MASK_SUFFIX = ".png"
LIST_DIR = "ImageSets/Segmentation"
AUGMENTED_SPLITS = ("train_aug", "trainaug")
"""The usual names of the 10,582 training images with the masks of Hariharan et al., 2011."""


class VocLayout(NamedTuple):
    """Where the parts of a dataset in VOC's layout lie: folders in ``root``, or anywhere if they are absolute.

    Attributes:
        root: The folder ``VOC2012``, or one that holds it or ``VOCdevkit/VOC2012``.
        image_dir: Folder of the images.
        mask_dir: Folder of the masks.
        list_dir: Folder of the splits, a text file each with an id on every line.
        image_suffix: Of the images; masks are PNG files. Where there is no such file, one of the same name with any
            other suffix of an image is taken.
        sbd_dir: SBD's folder ``cls`` with its ``ID.mat``, for images without a PNG.
    """

    root: Path
    image_dir: str = IMAGE_DIR
    mask_dir: str = MASK_DIR
    list_dir: str = LIST_DIR
    image_suffix: str = ".jpg"
    sbd_dir: str | None = None

    def list_pairs(self, split: str) -> SplitFiles:
        """Find the images and masks of a split, and which of them are missing.

        Raises:
            FileNotFoundError: A folder or the list is missing; the message says which and what is expected.
            ValueError: The list is empty.
        """
        list_file, ids = self._read_list(split, self.image_dir, self.mask_dir)
        home = self._home()
        images = [home / self.image_dir / (name + self.image_suffix) for name in ids]
        masks = [home / self.mask_dir / (name + MASK_SUFFIX) for name in ids]
        if self.sbd_dir is not None:
            masks = _fill_in(masks, home / self.sbd_dir)
        present = _list_folders(images + masks)
        images, masks = _locate(images, self.image_suffix, present), _locate(masks, MASK_SUFFIX, present)
        pairs = [ImageAndMask(image, mask) for image, mask in zip(images, masks, strict=True)]
        return SplitFiles(
            list_file,
            tuple(pair for pair in pairs if present.issuperset(pair)),
            without_image=tuple(path for path in images if path not in present),
            without_mask=tuple(path for path in masks if path not in present),
        )

    def find_pairs(self, split: str) -> list[ImageAndMask]:
        """Find the images and masks of a split.

        Raises:
            FileNotFoundError: A folder, the list or files are missing; the message names them all.
            ValueError: The list is empty.
        """
        return self.list_pairs(split).complete()

    def find_masks(self, split: str) -> dict[str, Path]:
        """Find the masks of a split by their ids; the images need not be there.

        Raises:
            FileNotFoundError: The folder, the list or masks are missing; the message names them all.
            ValueError: The list is empty.
        """
        _, ids = self._read_list(split, self.mask_dir)
        return dict(zip(ids, find_files(self._home() / self.mask_dir, ids), strict=True))

    def list_file(self, split: str) -> Path:
        """Return where the list of a split is, or would be."""
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
            raise ValueError(f"{list_file} must name one image on every line, but it is empty")
        return list_file, ids

    def _home(self) -> Path:
        candidates = (self.root, self.root / "VOC2012", self.root / "VOCdevkit" / "VOC2012")
        return next((folder for folder in candidates if (folder / self.list_dir).is_dir()), self.root)


class MaskFolders(NamedTuple):
    """A folder of images and a folder of masks; files of one name belong together, in folders below too.

    Attributes:
        image_dir: Folder of the images.
        mask_dir: Folder of the masks; it may be the same.
        image_suffix: The end of the images' names, beyond the part they share with their mask; any if empty.
        mask_suffix: The end of the masks' names, beyond the part they share with their image. If empty, ``.png`` or,
            where there is no such file and masks have a folder of their own, any.
    """

    image_dir: Path
    mask_dir: Path
    image_suffix: str = ""
    mask_suffix: str = ""

    @property
    def expected(self) -> str:
        """The files that are looked for, for a message."""
        image, mask = self.image_suffix or ".jpg", self.mask_suffix or MASK_SUFFIX
        return f"{self.image_dir}/NAME{image} and {self.mask_dir}/NAME{mask}"

    def list_pairs(self) -> SplitFiles:
        """Find the images and masks, and which images have no mask and which masks no image.

        Raises:
            FileNotFoundError: A folder is missing, or there are no images in it.
            ValueError: Two images have the same name.
        """
        absent = [folder for folder in (self.image_dir, self.mask_dir) if not folder.is_dir()]
        if absent:
            raise FileNotFoundError(f"{', '.join(map(str, absent))} not found: expected {self.expected}")
        masks = _by_name(self.mask_dir, self.mask_suffix or MASK_SUFFIX)
        if not self.mask_suffix and self.mask_dir != self.image_dir:
            masks |= _by_name(self.mask_dir, "", known=masks)
        images = _by_name(self.image_dir, self.image_suffix, besides=set(masks.values()))
        if not images:
            raise FileNotFoundError(f"{self.image_dir} holds no images called NAME{self.image_suffix or '.jpg'}")
        suffix = self.mask_suffix or MASK_SUFFIX
        return SplitFiles(
            self.image_dir,
            tuple(ImageAndMask(path, masks[name]) for name, path in images.items() if name in masks),
            without_mask=tuple(self.mask_dir / f"{name}{suffix}" for name in images if name not in masks),
            without_image=tuple(path for name, path in masks.items() if name not in images),
        )

    def find_pairs(self) -> list[ImageAndMask]:
        """Find the images with their masks. A mask without an image does no harm.

        Raises:
            FileNotFoundError: A folder is missing, there are no images, or images have no mask; the message names them.
            ValueError: Two images have the same name.
        """
        files = self.list_pairs()
        if not files.pairs:
            found = f", such as {files.without_image[0]}" if files.without_image else ""
            raise FileNotFoundError(
                f"no image has a mask: expected {self.expected}{found}; data.image_suffix and data.mask_suffix are the "
                "ends of the names that images and masks do not share"
            )
        return files._replace(without_image=()).complete()


def find_files(folder: Path, ids: Sequence[str]) -> list[Path]:
    """Return the mask of each id.

    Raises:
        FileNotFoundError: The folder or some masks are missing; the message counts and names them.
    """
    wanted = [folder / (name + MASK_SUFFIX) for name in ids]
    present = _list_folders([folder / MASK_SUFFIX, *wanted])
    found = _locate(wanted, MASK_SUFFIX, present)
    missing = [path.name for path in found if path not in present]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(ids)} files are missing in {folder}: {', '.join(missing)}")
    return found


def _list_folders(paths: Sequence[Path]) -> set[Path]:
    """Return all that lies beside the paths."""
    # One look at a folder instead of one at every file: on network drives that is seconds against minutes.
    return {path for folder in {path.parent for path in paths} for path in folder.iterdir()}


def _locate(paths: Sequence[Path], suffix: str, present: set[Path]) -> list[Path]:
    """Return the paths, and for those that are not there an image of the same name with another suffix, if any."""
    others = {path.with_suffix(""): path for path in sorted(present) if path.suffix.lower() in IMAGE_SUFFIXES}
    return [
        path if path in present else others.get(path.with_name(path.name.removesuffix(suffix)), path) for path in paths
    ]


def _fill_in(masks: list[Path], sbd_dir: Path) -> list[Path]:
    """Return SBD's file where there is one and no PNG."""
    if not sbd_dir.is_dir():
        raise FileNotFoundError(f"{sbd_dir} not found: expected SBD's folder cls with ID{SBD_SUFFIX}")
    drawn = {path.name for path in masks[0].parent.iterdir()}
    listed = {path.stem for path in sbd_dir.glob(f"*{SBD_SUFFIX}")}
    return [
        sbd_dir / f"{mask.stem}{SBD_SUFFIX}" if mask.name not in drawn and mask.stem in listed else mask
        for mask in masks
    ]


def _by_name(
    folder: Path, suffix: str, *, known: Mapping[str, Path] = MappingProxyType({}), besides: Set[Path] = frozenset()
) -> dict[str, Path]:
    """Return the files by their paths in the folder without ``suffix``, which is any of an image if empty.

    Args:
        folder: Is searched with the folders below.
        suffix: In any case.
        known: Files by name; others of the same name are left out.
        besides: Files that are left out.
    """
    found: dict[str, Path] = {}
    for path in _list_files(folder, suffix):
        if not path.name.lower().endswith(suffix.lower()) or path in besides:
            continue
        name = path.relative_to(folder).as_posix()[: -len(suffix or path.suffix)]
        if name in known:
            continue
        if name in found:
            raise ValueError(f"names must differ in more than their ending, got {found[name]} and {path}")
        found[name] = path
    return found


def _list_files(folder: Path, suffix: str) -> list[Path]:
    if suffix and Path(f"a{suffix}").suffix.lower() not in IMAGE_SUFFIXES:
        return sorted(path for path in folder.rglob(f"*{suffix}") if path.is_file() and not is_hidden(path.name))
    return find_images(folder)
