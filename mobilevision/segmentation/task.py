"""Train and evaluate the segmenter."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mobilevision.backbone.padding import Padding
from mobilevision.segmentation.balance import balance_classes
from mobilevision.segmentation.deeplabv3 import DeepLabV3, Head, deeplabv3_mobilenet_v2
from mobilevision.segmentation.multi_scale import average_probabilities, running_at
from mobilevision.segmentation.objective import SegmentationObjective
from mobilevision.training.start import set_options
from mobilevision.training.task import NetworkTask


class SegmentationTask(NetworkTask):
    """Train Mobile DeepLabv3 to say what every pixel shows, measured by the mean IoU.

    Which pixels are measured is up to the data's ``eval_protocol``; the report's details name it.

    Args:
        num_classes: Classes of the masks, background included; VOC has 21.
        head: ``light`` (the paper's choice) or ``atrous``. This and what follows it as far as ``head_norm_eps`` are,
            where they are None, as the weights have them that the run starts from, or as
            :func:`deeplabv3_mobilenet_v2` has them by default.
        output_stride: 8, 16 or 32, in training.
        width_mult: Channel multiplier of the backbone.
        padding: ``symmetric`` or ``tf_same``.
        round_to: Channels are rounded to multiples of this.
        depth_mult: Multiplier of the blocks of every stage, see :class:`MobileNetV2`.
        fixed_ends: Whether stem and ends keep their size, see :class:`MobileNetV2`.
        norm_eps: Batch normalisation's epsilon in the backbone.
        head_norm_eps: Likewise in the head.
        input_size: Side of the pictures in pixels, recorded with the weights.
        dropout: Share of the head's values dropped in training.
        norm_momentum: Batch normalisation's momentum in the backbone, in PyTorch's sense. The paper's 0.003 needs some
            thousand steps until the running statistics are right; a short run wants 0.1.
        head_norm_momentum: As ``norm_momentum``, in the head.
        class_balance: How much more a pixel of a rare class weighs in training: the power of the inverse of the class's
            share of the training masks' pixels, which are counted before the first step. 0: all pixels weigh the same;
            0.5: in between; 1: all classes do. The validation loss is never weighted.
        eval_output_stride: 8, 16 or 32, in evaluation, on the same weights; ``output_stride`` by default.
        eval_scales: Factors on a picture's side at which evaluation looks at it, averaging the probabilities; 1 by
            default. The paper's are 0.5, 0.75, 1, 1.25, 1.5 and 1.75, mirrored, at output stride 8.
        eval_flip: Whether evaluation looks at each scale mirrored as well.
        optimization: As in :class:`NetworkTask`.

    Raises:
        ValueError: ``class_balance`` is negative, ``eval_scales`` is empty or not above 0, or ``eval_output_stride`` is
            not 8, 16 or 32.
    """

    monitor: ClassVar[str] = "val/miou"

    shown: ClassVar[tuple[str, ...]] = ("miou",)

    network: DeepLabV3

    def __init__(
        self,
        num_classes: int = 21,
        *,
        head: Head | None = None,
        output_stride: int | None = None,
        width_mult: float | None = None,
        padding: Padding | None = None,
        round_to: int | None = None,
        depth_mult: float | None = None,
        fixed_ends: bool | None = None,
        norm_eps: float | None = None,
        head_norm_eps: float | None = None,
        input_size: int = 513,
        dropout: float = 0.1,
        norm_momentum: float = 0.003,
        head_norm_momentum: float = 3e-4,
        class_balance: float = 0.0,
        eval_output_stride: int | None = None,
        eval_scales: list[float] | None = None,
        eval_flip: bool = False,
        **optimization: Any,
    ) -> None:
        self.save_hyperparameters()
        super().__init__(**optimization)
        if class_balance < 0:
            raise ValueError(f"class_balance must be at least 0, got {class_balance}")
        self.class_balance = class_balance
        trained_at = self.network.backbone.output_stride
        self.eval_output_stride = trained_at if eval_output_stride is None else eval_output_stride
        if self.eval_output_stride not in (8, 16, 32):
            raise ValueError(f"eval_output_stride must be 8, 16 or 32, got {eval_output_stride}")
        self.eval_scales: Sequence[float] = (1.0,) if eval_scales is None else tuple(eval_scales)
        if not self.eval_scales or min(self.eval_scales) <= 0:
            raise ValueError(f"eval_scales must be one or more factors above 0, got {eval_scales}")
        self.eval_flip = eval_flip
        self.objective: SegmentationObjective = SegmentationObjective(
            num_classes, output_stride=self.eval_output_stride, scales=self.eval_scales, flip=eval_flip
        )

    def build_network(self) -> DeepLabV3:
        """Build the segmenter."""
        return deeplabv3_mobilenet_v2(**set_options(deeplabv3_mobilenet_v2, self.hparams))

    def on_fit_start(self) -> None:
        """Count the classes of the training masks and weigh them."""
        if self.class_balance:
            counts = self.trainer.datamodule.count_classes()  # type: ignore[attr-defined]
            self.objective.class_weights = balance_classes(counts, self.class_balance).to(self.device)

    def predict_for_measurement(self, images: UInt8[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        """Give logits at the output stride, or those of the mean over several passes at the size of the images."""
        with running_at(self.network, self.eval_output_stride):
            return self._look(images)

    def _look(self, images: UInt8[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        if self.eval_scales == (1.0,) and not self.eval_flip:
            return self.network.predict_coarse(images)
        means = [
            average_probabilities(self.network, image[None], self.eval_scales, flip=self.eval_flip) for image in images
        ]
        # Their softmax gives the probabilities back.
        return torch.cat(means).clamp_(min=torch.finfo(torch.float32).tiny).log_()
