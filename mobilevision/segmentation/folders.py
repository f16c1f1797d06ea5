"""Pictures in one folder, their masks in another, as Cityscapes and many sets of one's own come."""

from collections.abc import Iterable
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
            ValueError: Two pictures have the same name.
        """
        absent = [folder for folder in (self.image_dir, self.mask_dir) if not folder.is_dir()]
        if absent:
            raise FileNotFoundError(
                f"{', '.join(map(str, absent))} not found: expected {self.image_dir}/NAME{self.image_suffix or '.jpg'} "
                f"and {self.mask_dir}/NAME{self.mask_suffix}"
            )
        masks = _by_name(self.mask_dir, self.mask_suffix)
        images = _by_name(self.image_dir, self.image_suffix, besides=masks.values())
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
            ValueError: Two pictures have the same name.
        """
        return self.list_pairs()._replace(without_image=()).complete()


def _by_name(folder: Path, suffix: str, besides: Iterable[Path] = ()) -> dict[str, Path]:
    """Give the files by their paths in the folder without ``suffix``, sorted; those of ``besides`` are left out."""
    left_out = set(besides)
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        ends = path.name.endswith(suffix) if suffix else path.suffix.lower() in IMAGE_SUFFIXES
        if not ends or path in left_out:
            continue
        name = path.relative_to(folder).as_posix().removesuffix(suffix or path.suffix)
        if name in found:
            raise ValueError(f"names must differ in more than their ending, got {found[name]} and {path}")
        found[name] = path
    return found
