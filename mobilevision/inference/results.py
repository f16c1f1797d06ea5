"""Typed results of running a network on an image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from mobilevision.classification.head import ClassificationHead
from mobilevision.detection.head import SSDLiteHead
from mobilevision.detection.types import Detections
from mobilevision.inference.drawing import (
    NUM_BEST,
    NamedBoxes,
    NamedMask,
    NamedScores,
    Pixels,
    class_name,
    draw_results,
)
from mobilevision.segmentation.head import DeepLabHead


@dataclass(frozen=True)
class ClassificationResult:
    """The class of an image.

    Attributes:
        pred_label: The best class.
        pred_score: Its score, in [0, 1].
        pred_class: Its name.
        pred_scores: The scores of all classes; they sum to 1.
        class_names: The names of all classes, if the network knows them.
    """

    pred_label: int
    pred_score: float
    pred_class: str
    pred_scores: Float32[np.ndarray, " C"]
    class_names: tuple[str, ...]

    @classmethod
    def from_answer(cls, answer: Float[Tensor, " C"], class_names: tuple[str, ...]) -> Self:
        """Return the result of a head's answer."""
        scores = answer.cpu().numpy()
        label = int(scores.argmax())
        return cls(label, float(scores[label]), class_name(label, class_names), scores, class_names)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, of the scores the five best."""
        best = np.argsort(-self.pred_scores, kind="stable")[:NUM_BEST].tolist()
        return {
            "task": ClassificationHead.task,
            "pred_label": self.pred_label,
            "pred_class": self.pred_class,
            "pred_score": self.pred_score,
            "best": [
                {"label": label, "class": class_name(label, self.class_names), "score": float(self.pred_scores[label])}
                for label in best
            ],
        }

    def layers(self) -> dict[str, Any]:
        """Return the parts of a drawing, see :func:`draw_results`."""
        return {"scores": [NamedScores(self.pred_scores, self.class_names)]}

    def draw(self, image: Pixels) -> Pixels:
        """Draw the best classes below their image."""
        return draw_results(image, **self.layers())


@dataclass(frozen=True)
class DetectionResult:
    """The objects in an image, best first.

    Attributes:
        boxes: xyxy in pixels of the file.
        scores: In [0, 1].
        labels: The class of each object.
        class_names: The names of all classes, if the network knows them.
    """

    boxes: Float32[np.ndarray, "N 4"]
    scores: Float32[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    class_names: tuple[str, ...]

    @classmethod
    def from_answer(cls, answer: Detections, class_names: tuple[str, ...]) -> Self:
        """Return the result of a head's answer."""
        boxes, scores, labels = (column.cpu().numpy() for column in answer)
        return cls(boxes, scores, labels, class_names)

    @property
    def classes(self) -> list[str]:
        """The name of each object's class."""
        return [class_name(int(label), self.class_names) for label in self.labels]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), self.classes, strict=True)
        objects = [dict(zip(("box", "score", "label", "class"), row, strict=True)) for row in rows]
        return {"task": SSDLiteHead.task, "objects": objects}

    def layers(self) -> dict[str, Any]:
        """Return the parts of a drawing, see :func:`draw_results`."""
        return {"boxes": [NamedBoxes(self.boxes, self.labels, self.scores, self.class_names)]}

    def draw(self, image: Pixels) -> Pixels:
        """Draw the objects on their image."""
        return draw_results(image, **self.layers())


@dataclass(frozen=True)
class SegmentationResult:
    """The class of every pixel of an image.

    Attributes:
        mask: The class of each pixel, at the size of the file; 0 is the background.
        class_names: The names of all classes, if the network knows them.
    """

    mask: UInt8[np.ndarray, "H W"]
    class_names: tuple[str, ...]

    @classmethod
    def from_answer(cls, answer: UInt8[Tensor, "H W"], class_names: tuple[str, ...]) -> Self:
        """Return the result of a head's answer."""
        return cls(answer.cpu().numpy(), class_names)

    def to_json(self) -> dict[str, Any]:
        """Return plain values: the share of each class that is there."""
        labels, counts = np.unique(self.mask, return_counts=True)
        segments = [
            {"label": label, "class": class_name(label, self.class_names), "share": share}
            for label, share in zip(labels.tolist(), (counts / self.mask.size).tolist(), strict=True)
        ]
        return {"task": DeepLabHead.task, "segments": segments}

    def layers(self) -> dict[str, Any]:
        """Return the parts of a drawing, see :func:`draw_results`."""
        return {"masks": [NamedMask(self.mask, self.class_names)]}

    def draw(self, image: Pixels) -> Pixels:
        """Draw the mask over its image."""
        return draw_results(image, **self.layers())


class HeadResult(Protocol):
    """The result of one head."""

    @classmethod
    def from_answer(cls, answer: Any, class_names: tuple[str, ...]) -> Self:
        """Return the result of a head's answer."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""

    def layers(self) -> dict[str, Any]:
        """Return the parts of a drawing."""

    def draw(self, image: Pixels) -> Pixels:
        """Draw the result on its image."""


RESULTS: Mapping[str, type[HeadResult]] = {
    ClassificationHead.task: ClassificationResult,
    SSDLiteHead.task: DetectionResult,
    DeepLabHead.task: SegmentationResult,
}
"""The result of a head, by task."""


@dataclass(frozen=True)
class MultiTaskResult:
    """The results of several heads.

    Attributes:
        by_head: By the head's name: ``result["detection"]`` is short for ``result.by_head["detection"]``.
    """

    by_head: Mapping[str, HeadResult]

    def __getitem__(self, name: str) -> HeadResult:
        """Return the result of the head called ``name``."""
        return self.by_head[name]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, by head."""
        return {"task": "multitask", **{name: result.to_json() for name, result in self.by_head.items()}}

    def layers(self) -> dict[str, Any]:
        """Return the parts of a drawing, see :func:`draw_results`."""
        layers: dict[str, list[Any]] = {}
        for result in self.by_head.values():
            for kind, parts in result.layers().items():
                layers.setdefault(kind, []).extend(parts)
        return layers

    def draw(self, image: Pixels) -> Pixels:
        """Draw everything on one image."""
        return draw_results(image, **self.layers())


Result = HeadResult | MultiTaskResult
