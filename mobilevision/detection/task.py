"""Train and evaluate the detector."""

from typing import Any, ClassVar

from mobilevision.backbone.padding import Padding
from mobilevision.detection.objective import DetectionObjective
from mobilevision.detection.ssdlite import PresetName, SSDLite, ssdlite_mobilenet_v2
from mobilevision.detection.types import ScoreFunction
from mobilevision.training.datamodule import ImageDataModule
from mobilevision.training.start import set_options
from mobilevision.training.task import NetworkTask


class DetectionTask(NetworkTask):
    """Train SSDLite to find objects, measured by COCO's mean average precision.

    Args:
        num_classes: Classes of objects, without background; COCO has 80.
        preset: ``paper320`` or ``tf300``. This and what follows it as far as ``head_norm_eps`` are, where they are
            None, as the weights have them that the run starts from, or as :func:`ssdlite_mobilenet_v2` has them by
            default.
        input_size: Side of the images in pixels; without weights the preset's. The data must have the same.
        width_mult: Channel multiplier.
        padding: ``symmetric`` or ``tf_same``.
        round_to: The backbone's channels are rounded to multiples of this.
        depth_mult: Multiplier of the blocks of every stage, see :class:`MobileNetV2`.
        fixed_ends: Whether stem and ``last`` keep their size, see :class:`MobileNetV2`.
        score_function: ``sigmoid`` or ``softmax``, in the loss and for the scores.
        norm_eps: Batch normalisation's epsilon in the backbone.
        head_norm_eps: Likewise in the extra layers and the predictors.
        norm_momentum: Batch normalisation's momentum in the backbone, in PyTorch's sense. The recipe's 3e-4 needs some
            ten thousand steps until the running statistics are right; a short run wants 0.03 or more.
        head_norm_momentum: Likewise in the extra layers and the predictors.
        score_threshold: Boxes that do not score more are no detections.
        iou_threshold: The largest overlap of two detections of a class.
        max_per_class: Detections of one class in an image, at most.
        max_per_image: Detections of an image, at most; COCO counts 100.
        optimization: As in :class:`NetworkTask`.
    """

    monitor: ClassVar[str] = "val/map"

    shown: ClassVar[tuple[str, ...]] = ("loss", "map", "map_50")

    network: SSDLite

    def __init__(
        self,
        num_classes: int = 80,
        *,
        preset: PresetName | None = None,
        input_size: int | None = None,
        width_mult: float | None = None,
        padding: Padding | None = None,
        round_to: int | None = None,
        depth_mult: float | None = None,
        fixed_ends: bool | None = None,
        score_function: ScoreFunction | None = None,
        norm_eps: float | None = None,
        head_norm_eps: float | None = None,
        norm_momentum: float = 3e-4,
        head_norm_momentum: float = 3e-4,
        score_threshold: float = 1e-8,
        iou_threshold: float = 0.6,
        max_per_class: int = 100,
        max_per_image: int = 100,
        **optimization: Any,
    ) -> None:
        self.save_hyperparameters()
        super().__init__(**optimization)
        self.objective: DetectionObjective = DetectionObjective(
            num_classes,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_per_class=max_per_class,
            max_per_image=max_per_image,
        )

    def build_network(self) -> SSDLite:
        """Build the detector."""
        return ssdlite_mobilenet_v2(**set_options(ssdlite_mobilenet_v2, self.hparams))

    def setup(self, stage: str) -> None:
        """Take the class names from the data, and see that its images have the network's size.

        Raises:
            ValueError: They have not, or the data has another number of classes.
        """
        super().setup(stage)
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        size = datamodule.input_size if isinstance(datamodule, ImageDataModule) else None
        if size not in (None, self.network.input_size):
            raise ValueError(
                f"data.input_size must be that of the detector, {self.network.input_size}, got {size}: set one of "
                "data.input_size and model.input_size"
            )
