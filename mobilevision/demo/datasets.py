"""The drawn scenes on disk, in the layouts of ImageNet, COCO and VOC."""

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from mobilevision.demo.scenes import (
    CLASS_NAMES,
    SCENE_SIDE,
    Scene,
    Split,
    box_of,
    class_mask,
    draw_scene,
    visible_mask,
)
from mobilevision.files import write_json, write_text
from mobilevision.inference.drawing import mask_color

DESCRIPTION = "scenes.json"
"""Says what a folder of drawn scenes was made with, and that it is one."""
JPEG_QUALITY = 95
CROP_MARGIN = 1.25
"""Side of a classification picture to the longer side of its object's box."""
MIN_CROP_SHARE = 0.7
"""A classification picture is made where at least this share of all object pixels in it are of one object."""


class Layouts(NamedTuple):
    """The roots of the three layouts, and the folder they are in."""

    folder: Path

    @property
    def classification(self) -> Path:
        """As ImageNet: ``train/<class>/*.jpg`` and ``val/<class>/*.jpg``."""
        return self.folder / "classification"

    @property
    def coco(self) -> Path:
        """As COCO 2017: ``annotations/instances_*2017.json``, ``train2017/``, ``val2017/``."""
        return self.folder / "coco"

    @property
    def voc(self) -> Path:
        """As VOC 2012: ``JPEGImages/``, ``SegmentationClass/``, ``ImageSets/Segmentation/``."""
        return self.folder / "VOCdevkit" / "VOC2012"


def write_datasets(folder: Path, *, num_train: int, num_val: int, seed: int = 0) -> Layouts:
    """Draw the scenes and write every one in all layouts, replacing what an earlier run wrote there.

    Args:
        folder: Holds the three layouts afterwards; written whole or not at all.
        num_train: Scenes to train on.
        num_val: Scenes held out; they share nothing with the others but the way they are made.
        seed: The same seed gives the same files.

    Raises:
        ValueError: ``folder`` holds something else already.
    """
    with _replacing_folder(folder) as temporary:
        layouts = Layouts(temporary)
        first_id = 1
        for split, num_scenes in zip(get_args(Split), (num_train, num_val), strict=True):
            _write_split(layouts, split, num_scenes, first_id, seed)
            first_id += num_scenes
        write_json(temporary / DESCRIPTION, {"num_train": num_train, "num_val": num_val, "seed": seed})
    return Layouts(folder)


@contextmanager
def _replacing_folder(folder: Path) -> Iterator[Path]:
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        raise ValueError(f"{folder} exists and holds no drawn scenes of an earlier run: choose another output folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        yield Path(name) / folder.name
        if folder.exists():
            shutil.rmtree(folder)
        (Path(name) / folder.name).rename(folder)


def _write_split(layouts: Layouts, split: Split, num_scenes: int, first_id: int, seed: int) -> None:
    for folder in (
        *(layouts.classification / split / name for name in CLASS_NAMES),
        layouts.coco / f"{split}2017",
        layouts.voc / "JPEGImages",
        layouts.voc / "SegmentationClass",
    ):
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        write = partial(_write_scene, layouts, split, first_id, seed)
        annotations = [row for rows in pool.map(write, range(num_scenes)) for row in rows]
    ids = range(first_id, first_id + num_scenes)
    side = {"width": SCENE_SIDE, "height": SCENE_SIDE}
    write_json(
        layouts.coco / "annotations" / f"instances_{split}2017.json",
        {
            "images": [{"id": i, "file_name": f"{_file_name(i)}.jpg", **side} for i in ids],
            "annotations": [{"id": number, **row} for number, row in enumerate(annotations, start=1)],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(CLASS_NAMES)],
        },
    )
    write_text(layouts.voc / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{_file_name(i)}\n" for i in ids))


def _write_scene(layouts: Layouts, split: Split, first_id: int, seed: int, index: int) -> list[dict[str, Any]]:
    """Draw one scene and write it in all layouts; returns its rows of COCO's annotations, without their ids."""
    scene = draw_scene(seed, split, index)
    image_id = first_id + index
    jpeg = _encode_jpeg(scene.image)
    (layouts.coco / f"{split}2017" / f"{_file_name(image_id)}.jpg").write_bytes(jpeg)
    (layouts.voc / "JPEGImages" / f"{_file_name(image_id)}.jpg").write_bytes(jpeg)
    _save_palette_png(class_mask(scene), layouts.voc / "SegmentationClass" / f"{_file_name(image_id)}.png")
    for number, label in enumerate(scene.labels):
        crop = crop_object(scene, number)
        if crop is not None:
            name = f"{image_id:06d}_{number}.jpg"
            (layouts.classification / split / CLASS_NAMES[label] / name).write_bytes(_encode_jpeg(crop))
    return [_coco_annotation(scene, number, image_id) for number in range(len(scene.labels))]


def crop_object(scene: Scene, number: int) -> UInt8[np.ndarray, "N N 3"] | None:
    """Cut a square around an object with some of what is about it, or nothing where other objects share the place."""
    mask = visible_mask(scene, number)
    left, top, right, bottom = box_of(mask)
    side = min(round(max(right - left, bottom - top) * CROP_MARGIN), scene.image.shape[0])
    x, y = np.clip([(left + right - side) // 2, (top + bottom - side) // 2], 0, scene.image.shape[0] - side)
    window = slice(y, y + side), slice(x, x + side)
    if mask[window].sum() < MIN_CROP_SHARE * (scene.instances[window] > 0).sum():
        return None
    return scene.image[window]


def _coco_annotation(scene: Scene, number: int, image_id: int) -> dict[str, Any]:
    mask = visible_mask(scene, number)
    left, top, right, bottom = box_of(mask)
    return {
        "image_id": image_id,
        "category_id": scene.labels[number] + 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": _polygons(mask),
    }


def _polygons(mask: Bool[np.ndarray, "S S"]) -> list[list[int]]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour.ravel().tolist() for contour in contours if len(contour) > 2]


def _file_name(image_id: int) -> str:
    # The same in both layouts: they show the same scenes.
    return f"{image_id:012d}"


def _encode_jpeg(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[
        1
    ].tobytes()


def _save_palette_png(mask: UInt8[np.ndarray, "S S"], path: Path) -> None:
    image = Image.fromarray(mask, mode="P")
    image.putpalette([0, 0, 0, *(value for label in range(len(CLASS_NAMES)) for value in mask_color(label + 1))])
    image.save(path)
