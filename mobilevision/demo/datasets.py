"""Write generated scenes to disk in the layouts of ImageNet, COCO and VOC."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from mobilevision.demo.scenes import CLASS_NAMES, SCENE_SIDE, SPLITS, Scene, draw_scene
from mobilevision.files import write_json, write_text
from mobilevision.inference.drawing import index_mask

DESCRIPTION = "scenes.json"
"""File that marks a folder of generated scenes and holds the arguments they were generated with."""
JPEG_QUALITY = 95
CROP_MARGIN = 1.25
"""Side of a classification image over the longer side of its object's box."""
MIN_CROP_SHARE = 0.7
"""Share of the object pixels in a classification image that belong to its object, at least."""


class Layouts(NamedTuple):
    """The roots of the three layouts, and the folder that contains them."""

    folder: Path

    @property
    def classification(self) -> Path:
        """ImageNet layout: ``train/<class>/*.jpg`` and ``val/<class>/*.jpg``."""
        return self.folder / "classification"

    @property
    def coco(self) -> Path:
        """COCO 2017 layout: ``annotations/instances_*2017.json``, ``train2017/``, ``val2017/``."""
        return self.folder / "coco"

    @property
    def voc(self) -> Path:
        """VOC 2012 layout: ``JPEGImages/``, ``SegmentationClass/``, ``ImageSets/Segmentation/``."""
        return self.folder / "VOCdevkit" / "VOC2012"

    def scene_path(self, number: int) -> Path:
        """Return the image of a scene, counted from 1, those to train on first."""
        return self.voc / "JPEGImages" / f"{number:012d}.jpg"

    def read_description(self) -> dict[str, int]:
        """Read the arguments that the scenes were generated with: ``num_train``, ``num_val`` and ``seed``."""
        description: dict[str, int] = json.loads((self.folder / DESCRIPTION).read_text())
        return description


def write_datasets(folder: Path, *, num_train: int, num_val: int, seed: int = 0) -> Layouts:
    """Draw scenes and write each of them in all layouts, replacing those of an earlier run.

    Args:
        folder: Contains the three layouts afterwards; written completely or not at all.
        num_train: Scenes to train on.
        num_val: Scenes to validate on.
        seed: The same seed writes the same files.

    Raises:
        ValueError: ``folder`` contains something else already.
    """
    with _replacing_folder(folder) as temporary:
        layouts = Layouts(temporary)
        first = 1
        for split, num_scenes in zip(SPLITS, (num_train, num_val), strict=True):
            _write_split(layouts, split, range(first, first + num_scenes), seed)
            first += num_scenes
        write_json(temporary / DESCRIPTION, {"num_train": num_train, "num_val": num_val, "seed": seed})
    return Layouts(folder)


@contextmanager
def _replacing_folder(folder: Path) -> Iterator[Path]:
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        raise ValueError(f"{folder} exists and has no {DESCRIPTION} of an earlier run: choose another output folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        temporary = Path(name) / folder.name
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)


def _write_split(layouts: Layouts, split: str, image_ids: range, seed: int) -> None:
    for folder in (
        *(layouts.classification / split / name for name in CLASS_NAMES),
        layouts.coco / f"{split}2017",
        layouts.voc / "JPEGImages",
        layouts.voc / "SegmentationClass",
    ):
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        write = partial(_write_scene, layouts, split, seed=seed)
        annotations = [row for rows in pool.map(write, range(len(image_ids)), image_ids) for row in rows]
    names = [layouts.scene_path(image_id).stem for image_id in image_ids]
    side = {"width": SCENE_SIDE, "height": SCENE_SIDE}
    write_json(
        layouts.coco / "annotations" / f"instances_{split}2017.json",
        {
            "images": [{"id": i, "file_name": f"{name}.jpg", **side} for i, name in zip(image_ids, names, strict=True)],
            "annotations": [{"id": number, **row} for number, row in enumerate(annotations, start=1)],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(CLASS_NAMES)],
        },
    )
    write_text(layouts.voc / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{name}\n" for name in names))


def _write_scene(layouts: Layouts, split: str, index: int, image_id: int, *, seed: int) -> list[dict[str, Any]]:
    """Write one scene in all layouts and return its COCO annotations, without their ids."""
    scene = draw_scene(seed, split, index)
    path = layouts.scene_path(image_id)
    jpeg = _encode_jpeg(scene.image)
    path.write_bytes(jpeg)
    (layouts.coco / f"{split}2017" / path.name).write_bytes(jpeg)
    index_mask(scene.mask).save(layouts.voc / "SegmentationClass" / f"{path.stem}.png")
    for number, label in enumerate(scene.labels):
        crop = crop_object(scene, number)
        if crop is not None:
            name = f"{image_id:06d}_{number}.jpg"
            (layouts.classification / split / CLASS_NAMES[label] / name).write_bytes(_encode_jpeg(crop))
    return [_coco_annotation(scene, number, image_id) for number in range(len(scene.labels))]


def crop_object(scene: Scene, number: int) -> UInt8[np.ndarray, "N N 3"] | None:
    """Return a square around an object with some of its surroundings, or None if it shows too much of other objects."""
    left, top, right, bottom = scene.box(number)
    side = min(round(max(right - left, bottom - top) * CROP_MARGIN), scene.image.shape[0])
    x, y = np.clip([(left + right - side) // 2, (top + bottom - side) // 2], 0, scene.image.shape[0] - side)
    window = slice(y, y + side), slice(x, x + side)
    if scene.visible(number)[window].sum() < MIN_CROP_SHARE * (scene.instances[window] > 0).sum():
        return None
    return scene.image[window]


def _coco_annotation(scene: Scene, number: int, image_id: int) -> dict[str, Any]:
    visible = scene.visible(number)
    left, top, right, bottom = scene.box(number)
    return {
        "image_id": image_id,
        "category_id": scene.labels[number] + 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": int(visible.sum()),
        "iscrowd": 0,
        "segmentation": _polygons(visible),
    }


def _polygons(mask: Bool[np.ndarray, "S S"]) -> list[list[int]]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour.ravel().tolist() for contour in contours if len(contour) > 2]


def _encode_jpeg(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()
