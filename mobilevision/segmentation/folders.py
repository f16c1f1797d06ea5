"""Pictures in one folder, their masks in another, as Cityscapes and many sets of one's own come."""

from pathlib import Path
from typing import NamedTuple

from mobilevision.images import IMAGE_SUFFIXES
from mobilevision.segmentation.pictures import Listing, Pair


class MaskFolders(NamedTuple):
    """Where pictures and masks lie; those of one name belong together, in folders below too.

    Attributes:
        image_dir: Folder of the pictures.
        mask_dir: Folder of the masks; it may be the same.
        image_suffix: How pictures' names end, beyond the part they share with their mask; any if empty.
        mask_suffix: Likewise of the masks.
    """

    image_dir: Path
    mask_dir: Path
    image_suffix: str = ""
    mask_suffix: str = ".png"

    def list_pairs(self) -> Listing:
        """Find what there is, and which pictures have no mask and which masks no picture.

        Raises:
            FileNotFoundError: A folder is missing, or there are no pictures in it.
        """
        absent = [folder for folder in (self.image_dir, self.mask_dir) if not folder.is_dir()]
        if absent:
            raise FileNotFoundError(
                f"{', '.join(map(str, absent))} not found: expected {self.image_dir}/NAME{self.image_suffix or '.jpg'} "
                f"and {self.mask_dir}/NAME{self.mask_suffix}"
            )
        masks = _by_name(self.mask_dir, self.mask_suffix)
        images = _by_name(self.image_dir, self.image_suffix)
        if not self.image_suffix and self.image_dir == self.mask_dir:
            mask_files = set(masks.values())
            images = {name: path for name, path in images.items() if path not in mask_files}
        if not images:
            raise FileNotFoundError(f"{self.image_dir} holds no pictures called NAME{self.image_suffix or '.jpg'}")
        return Listing(
            self.image_dir,
            tuple(Pair(path, masks[name]) for name, path in images.items() if name in masks),
            without_mask=tuple(self.mask_dir / f"{name}{self.mask_suffix}" for name in images if name not in masks),
            without_image=tuple(path for name, path in masks.items() if name not in images),
        )

    def find_pairs(self) -> list[Pair]:
        """Give the pictures with their masks. A mask without a picture does no harm.

        Raises:
            FileNotFoundError: As in :meth:`list_pairs`, or pictures have no mask; the message names them all.
        """
        return self.list_pairs()._replace(without_image=()).complete()


def _by_name(folder: Path, suffix: str) -> dict[str, Path]:
    """Give the files by their paths in the folder without ``suffix``, sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    names = ((path.relative_to(folder).as_posix(), path) for path in paths)
    if not suffix:
        return {name.removesuffix(path.suffix): path for name, path in names if path.suffix.lower() in IMAGE_SUFFIXES}
    return {name.removesuffix(suffix): path for name, path in names if name.endswith(suffix)}
