"""Turn pictures and boxes into what the detector trains on and is measured on."""

import random
from typing import NamedTuple

import albumentations as A
import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

COVERAGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""The shares of an object that a crop must hold, one of them drawn for each picture."""

CROP_AREA = (0.1, 1.0)
CROP_ASPECT = (0.5, 2.0)
CROP_TRIES = 100
KEEP_WHOLE = 0.15
"""The share of pictures that are not cropped."""

MIN_SIDE = 1.0
"""Boxes whose visible part is thinner than this many pixels of the file go."""


class Transformed(NamedTuple):
    """A picture and its boxes in pixels of the network's input."""

    image: UInt8[Tensor, "3 S S"]
    boxes: Float[Tensor, "N 4"]
    labels: Int64[Tensor, " N"]


class Labelled(NamedTuple):
    """A picture and its boxes in pixels of the picture."""

    image: UInt8[np.ndarray, "H W 3"]
    boxes: Float32[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, " N"]


class EvalTransform:
    """Resize to a square, whatever the aspect, bilinearly.

    Args:
        input_size: Side of the result, in pixels.
    """

    def __init__(self, input_size: int) -> None:
        self.input_size = input_size

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 S S"]:
        """Transform a picture."""
        side = self.input_size
        return to_tensor(cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR))

    def with_boxes(self, sample: Labelled, seed: int = 0) -> Transformed:
        """Transform a picture and its boxes; nothing here is random, so ``seed`` is not used."""
        height, width = sample.image.shape[:2]
        scale = self.input_size / np.array([width, height, width, height], dtype=np.float32)
        return Transformed(self(sample.image), torch.from_numpy(sample.boxes * scale), torch.from_numpy(sample.labels))


class TrainTransform:
    """Crop as SSD does, mirror, change colours, resize to a square.

    Args:
        input_size: Side of the result, in pixels.
        crop: Whether to crop, see :func:`crop_randomly`.
        flip: Whether to mirror every other picture.
        photometric: Whether to change brightness, contrast, saturation and hue.
    """

    def __init__(self, input_size: int, *, crop: bool = True, flip: bool = True, photometric: bool = False) -> None:
        self.crop = crop
        self.augment = A.Compose(
            [
                A.Resize(input_size, input_size, interpolation=cv2.INTER_LINEAR),
                A.HorizontalFlip(p=0.5 if flip else 0.0),
                A.ColorJitter((0.7, 1.3), (0.7, 1.3), (0.7, 1.3), (-0.05, 0.05), p=0.8 if photometric else 0.0),
            ],
            bbox_params=A.BboxParams(format="pascal_voc", label_fields=["labels"]),
        )

    def __call__(self, sample: Labelled, seed: int) -> Transformed:
        """Transform a picture with the randomness of ``seed``, and no other.

        Args:
            sample: Boxes within the picture and with an area.
            seed: Decides everything that is random.
        """
        generator = np.random.default_rng(seed)
        if self.crop:
            sample = crop_randomly(sample, generator)
        # One pair of generators for the whole chain: set_random_seed would let every step draw the same numbers.
        self.augment.set_random_state(generator, random.Random(seed))  # noqa: S311
        result = self.augment(image=sample.image, bboxes=sample.boxes, labels=sample.labels)
        return Transformed(
            to_tensor(result["image"]),
            torch.as_tensor(np.asarray(result["bboxes"], dtype=np.float32)).reshape(-1, 4),
            torch.as_tensor(np.asarray(result["labels"], dtype=np.int64)),
        )


def crop_randomly(sample: Labelled, generator: np.random.Generator) -> Labelled:
    """Cut out a random window that holds a drawn share of at least one object.

    A box stays if the window holds that share of its area, clipped to the window; the others go. Where no window is
    found in ``CROP_TRIES``, and for ``KEEP_WHOLE`` of the pictures, nothing is cut.

    Reference: TensorFlow Object Detection API, ``ssd_random_crop``.
    """
    if generator.random() < KEEP_WHOLE:
        return sample
    coverage = generator.choice(COVERAGES)
    height, width = sample.image.shape[:2]
    windows = draw_windows(height, width, generator)
    shares = held_shares(sample.boxes, windows)
    # A window on a picture without objects has nothing to hold.
    fitting = np.flatnonzero((shares >= coverage).any(axis=1) & (shares > 0).any(axis=1)) if len(sample.boxes) else [0]
    if not len(fitting) or not len(windows):
        return sample
    left, top, right, bottom = windows[fitting[0]]
    boxes = np.clip(sample.boxes, [left, top, left, top], [right, bottom, right, bottom]) - [left, top, left, top]
    stays = (shares[fitting[0]] >= coverage) & ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE).all(axis=1)
    return Labelled(sample.image[top:bottom, left:right], boxes[stays].astype(np.float32), sample.labels[stays])


def draw_windows(height: int, width: int, generator: np.random.Generator) -> Int64[np.ndarray, "W 4"]:
    """Draw windows as xyxy in whole pixels; those that do not fit into the picture are left out."""
    areas = generator.uniform(*CROP_AREA, CROP_TRIES) * height * width
    aspects = generator.uniform(*CROP_ASPECT, CROP_TRIES)
    sides = np.round(np.stack([np.sqrt(areas * aspects), np.sqrt(areas / aspects)], axis=1)).astype(np.int64)
    places = generator.random((CROP_TRIES, 2))
    sides = np.maximum(sides, 1)
    fits = (sides <= [width, height]).all(axis=1)
    corners = np.floor(places * ([width + 1, height + 1] - sides)).astype(np.int64)
    return np.concatenate([corners, corners + sides], axis=1)[fits]


def held_shares(boxes: Float32[np.ndarray, "N 4"], windows: Int64[np.ndarray, "W 4"]) -> Float[np.ndarray, "W N"]:
    """Give the share of each box's area that each window holds."""
    low = np.maximum(boxes[None, :, :2], windows[:, None, :2])
    high = np.minimum(boxes[None, :, 2:], windows[:, None, 2:])
    held = np.prod(np.maximum(high - low, 0), axis=2)
    shares: Float[np.ndarray, "W N"] = held / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shares


def to_tensor(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    """Put the channels first, without moving a byte."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
