"""Say what is in a picture: a file or an array in, a typed result out."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from mobilevision import classification, detection, multitask, segmentation
from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.classification.transforms import EvalTransform as ClassifierTransform
from mobilevision.detection.boxes import decode_boxes
from mobilevision.detection.postprocess import clip_detections, rescale_detections, select_detections
from mobilevision.detection.transforms import EvalTransform as DetectorTransform
from mobilevision.detection.types import RawPredictions
from mobilevision.images import read_image
from mobilevision.inference.drawing import (
    NUM_BEST,
    NamedBoxes,
    NamedMask,
    NamedScores,
    Pixels,
    class_name,
    draw_boxes,
    draw_classes,
    draw_mask,
    draw_results,
)
from mobilevision.models import get_model, list_models, load_model
from mobilevision.segmentation.geometry import Size, pick_classes, restore_logits
from mobilevision.segmentation.transforms import EvalTransform as SegmenterTransform


class ClassificationResult(NamedTuple):
    """What a picture shows.

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

    def to_json(self) -> dict[str, Any]:
        """Give plain values, of the scores the five best."""
        best = np.argsort(-self.pred_scores, kind="stable")[:NUM_BEST].tolist()
        return {
            "task": "classification",
            "pred_label": self.pred_label,
            "pred_class": self.pred_class,
            "pred_score": self.pred_score,
            "best": [
                {"label": label, "class": class_name(label, self.class_names), "score": float(self.pred_scores[label])}
                for label in best
            ],
        }

    def draw(self, image: Pixels) -> Pixels:
        """List the best classes below their picture."""
        return draw_classes(image, self.pred_scores, self.class_names)


class DetectionResult(NamedTuple):
    """The objects in a picture, best first.

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

    @property
    def classes(self) -> list[str]:
        """The name of each object's class."""
        return [class_name(int(label), self.class_names) for label in self.labels]

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), self.classes, strict=True)
        objects = [dict(zip(("box", "score", "label", "class"), row, strict=True)) for row in rows]
        return {"task": "detection", "objects": objects}

    def draw(self, image: Pixels) -> Pixels:
        """Draw the objects on their picture."""
        return draw_boxes(image, self.boxes, self.labels, self.scores, self.class_names)


class SegmentationResult(NamedTuple):
    """What every pixel of a picture shows.

    Attributes:
        mask: The class of each pixel, at the size of the file; 0 is the background.
        class_names: The names of all classes, if the network knows them.
    """

    mask: UInt8[np.ndarray, "H W"]
    class_names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give plain values: the share of each class that is there."""
        labels, counts = np.unique(self.mask, return_counts=True)
        segments = [
            {"label": label, "class": class_name(label, self.class_names), "share": share}
            for label, share in zip(labels.tolist(), (counts / self.mask.size).tolist(), strict=True)
        ]
        return {"task": "segmentation", "segments": segments}

    def draw(self, image: Pixels) -> Pixels:
        """Lay the mask over its picture."""
        return draw_mask(image, self.mask, self.class_names)


class MultiTaskResult(NamedTuple):
    """All that a joint network says of a picture; None of a head that it does not have."""

    classification: ClassificationResult | None
    detection: DetectionResult | None
    segmentation: SegmentationResult | None

    def to_json(self) -> dict[str, Any]:
        """Give plain values, by task."""
        answers = {task: answer.to_json() for task, answer in self._asdict().items() if answer is not None}
        return {"task": "multitask", **answers}

    def draw(self, image: Pixels) -> Pixels:
        """Draw everything on one picture."""
        shown, found, mask = self
        return draw_results(
            image,
            scores=None if shown is None else NamedScores(shown.pred_scores, shown.class_names),
            mask=None if mask is None else NamedMask(mask.mask, mask.class_names),
            boxes=None if found is None else NamedBoxes(found.boxes, found.labels, found.scores, found.class_names),
        )


Result = ClassificationResult | DetectionResult | SegmentationResult | MultiTaskResult


class Predictor:
    """A network in use: made ready once, asked about one picture after the other, on the device it is on.

    Args:
        network: It is put into evaluation mode.
        score_threshold: A detector's objects that do not score more are left out.
        iou_threshold: The largest overlap of two objects of a class.

    Raises:
        ValueError: The network is of no task that is known.
    """

    def __init__(self, network: ImageNetwork, *, score_threshold: float = 0.3, iou_threshold: float = 0.6) -> None:
        self.network = network.eval().to(memory_format=torch.channels_last)
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold

    @torch.inference_mode()
    def __call__(self, image: str | Path | Pixels) -> Result:
        """Say what is in a picture.

        Args:
            image: A file, or RGB pixels.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file does not decode, or the pixels are none; or the network is of no known task.
        """
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"image must be uint8 of shape [H, W, 3], got {pixels.dtype} of {list(pixels.shape)}")
        match self.network:
            case classification.Classifier():
                return _classify(self.network, pixels)
            case detection.SSDLite():
                return _detect(self.network, pixels, self.score_threshold, self.iou_threshold)
            case segmentation.DeepLabV3():
                return _segment(self.network, pixels)
            case multitask.MultiTaskNetwork():
                return _answer(self.network, pixels, self.score_threshold, self.iou_threshold)
        raise ValueError(f"there is no way to predict with a {type(self.network).__name__}")


def inference_model(model: ImageNetwork | str | Path, image: str | Path | Pixels) -> Result:
    """Say what is in one picture; for more of them make a :class:`Predictor`.

    Args:
        model: A network, a weights file, or a name of :func:`mobilevision.list_models`.
        image: A file, or RGB pixels.

    Raises:
        FileNotFoundError: There is no such picture or weights file.
        ValueError: The picture does not decode, or the weights file is none.
    """
    return Predictor(model if isinstance(model, ImageNetwork) else _find_network(model))(image)


def _find_network(model: str | Path) -> ImageNetwork:
    if str(model) not in list_models():
        return load_model(model)
    warnings.warn(f"no weights come with the package: {model} is as drawn and knows nothing", stacklevel=3)
    return get_model(str(model))


def _classify(network: classification.Classifier, image: Pixels) -> ClassificationResult:
    view = ClassifierTransform(network.input_size, crop=network.eval_crop, share=network.crop_share)
    return _name_class(network(_batch(view(image), network)), network.class_names)


def _name_class(logits: Float[Tensor, "1 C"], names: tuple[str, ...]) -> ClassificationResult:
    scores = logits[0].float().softmax(dim=0).cpu().numpy()
    label = int(scores.argmax())
    return ClassificationResult(label, float(scores[label]), class_name(label, names), scores, names)


def _detect(
    network: detection.SSDLite, image: Pixels, score_threshold: float, iou_threshold: float
) -> DetectionResult:
    predictions = network(_batch(DetectorTransform(network.input_size)(image), network))
    return _select_objects(network, predictions, image, score_threshold, iou_threshold)


def _select_objects(
    network: detection.SSDLite,
    predictions: RawPredictions,
    image: Pixels,
    score_threshold: float,
    iou_threshold: float,
) -> DetectionResult:
    selected = select_detections(
        decode_boxes(predictions.offsets, network.anchors),
        network.scores(predictions.logits),
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
    )
    sizes = torch.tensor([image.shape[:2]], device=predictions.offsets.device)
    (found,) = rescale_detections(clip_detections(selected, network.input_size), sizes, network.input_size)
    boxes, scores, labels = (column.cpu().numpy() for column in found)
    return DetectionResult(boxes, scores, labels, network.class_names)


def _segment(network: segmentation.DeepLabV3, image: Pixels) -> SegmentationResult:
    fitted = SegmenterTransform(network.input_size)(image)
    coarse = network.predict_coarse(_batch(fitted.image, network))
    logits = restore_logits(
        coarse[0],
        network.input_size,
        _size(image),
        output_stride=network.output_stride,
        padding=network.backbone.padding,
    )
    return _pick_mask(logits, network.class_names)


def _pick_mask(logits: Float[Tensor, "C H W"], names: tuple[str, ...]) -> SegmentationResult:
    return SegmentationResult(pick_classes(logits).to(torch.uint8).cpu().numpy(), names)


def _answer(
    network: multitask.MultiTaskNetwork, image: Pixels, score_threshold: float, iou_threshold: float
) -> MultiTaskResult:
    """Ask all heads about one view of the picture, all of it in a square as the detector has it: one pass."""
    images = _batch(DetectorTransform(network.input_size)(image), network)
    says = network.run_heads(images)
    answers: dict[str, Any] = dict.fromkeys(MultiTaskResult._fields)
    for task, member in network.members.items():
        match member:
            case classification.Classifier():
                answers[task] = _name_class(says[task], member.class_names)
            case detection.SSDLite():
                answers[task] = _select_objects(member, says[task], image, score_threshold, iou_threshold)
            case segmentation.DeepLabV3():
                logits = F.interpolate(member.place(says[task].float(), images), size=_size(image), mode="bilinear")
                answers[task] = _pick_mask(logits[0], member.class_names)
    return MultiTaskResult(**answers)


def _size(image: Pixels) -> Size:
    return image.shape[0], image.shape[1]


def _batch(image: UInt8[Tensor, "3 S S"], network: ImageNetwork) -> UInt8[Tensor, "1 3 S S"]:
    return image[None].to(network.normalization.mean.device)
