"""Train and evaluate the classifier."""

import time
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mobilevision.backbone.padding import Padding
from mobilevision.classification.classifier import Classifier, mobilenet_v2
from mobilevision.classification.features import Features, LinearLayer, compute_features, fit_layer, nearest_rows
from mobilevision.classification.metrics import TopK, confused_pairs
from mobilevision.classification.mixing import Mixing
from mobilevision.classification.types import CROP_SHARE, Background, Batch, EvalCrop
from mobilevision.training.mean_loss import MeanLoss
from mobilevision.training.report import Report
from mobilevision.training.start import set_options
from mobilevision.training.task import NetworkTask
from mobilevision.weights.file import read_weights

NUM_PAIRS = 100
"""Confusions that a report lists, the most frequent first."""


class ClassificationTask(NetworkTask):
    """Train MobileNetV2 to say what a picture shows, measured by top-1, top-5 and calibration.

    The report's details list what is most often taken for what, and the images per second of the whole evaluation,
    reading included, all processes together.

    Args:
        num_classes: Classes of the data; ImageNet has 1000.
        width_mult: Channel multiplier. This and what follows it as far as ``background`` are, where they are None, as
            the weights have them that the run starts from, or as :func:`mobilenet_v2` has them by default.
        output_stride: 8, 16 or 32.
        padding: ``symmetric`` or ``tf_same``.
        round_to: Channels are rounded to multiples of this.
        depth_mult: Multiplier of the blocks of every stage, see :class:`MobileNetV2`.
        fixed_ends: Whether stem and ``last`` keep their size, see :class:`MobileNetV2`.
        scale_last: Whether a width below 1 narrows the last convolution too.
        norm_eps: Batch normalisation's epsilon.
        background: Where a class for everything else is: ``first``, ``last``, or nowhere.
        input_size: Side of the pictures in pixels, recorded with the weights.
        eval_crop: How a picture is cut to that side, recorded likewise; the data module's own decides what is measured.
        crop_share: The share of the picture that is kept, likewise.
        dropout: Share of the pooled features dropped in training.
        norm_momentum: Batch normalisation's momentum in PyTorch's sense. The paper's 0.003 needs some thousand steps
            until the running statistics are right; a short run wants 0.1.
        label_smoothing: Share of every label that is spread over all classes, in training and in the validation loss.
        mixup_alpha: Parameter of the Beta distribution of Mixup's shares, 0.2 for instance; 0 is no Mixup.
        cutmix_alpha: Likewise of CutMix, 1.0 for instance. With both, every batch gets one of them.
        fit_head: Before the first step, compute the features of all training pictures once, as validation sees them,
            and fit the linear layer to them. A head that knows nothing would spoil what ``backbone_weights`` know. Its
            rows start from those classes of the file that the pictures look most like.
        optimization: As in :class:`NetworkTask`.
    """

    monitor: ClassVar[str] = "val/top1"

    network: Classifier

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        width_mult: float | None = None,
        output_stride: int | None = None,
        padding: Padding | None = None,
        round_to: int | None = None,
        depth_mult: float | None = None,
        fixed_ends: bool | None = None,
        scale_last: bool | None = None,
        norm_eps: float | None = None,
        background: Background | None = None,
        input_size: int = 224,
        eval_crop: EvalCrop = "short_side",
        crop_share: float = CROP_SHARE,
        dropout: float = 0.2,
        norm_momentum: float = 0.003,
        label_smoothing: float = 0.1,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        fit_head: bool = False,
        **optimization: Any,
    ) -> None:
        self.save_hyperparameters()
        super().__init__(**optimization)
        self.label_smoothing = label_smoothing
        self.mixing = Mixing(num_classes, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
        self.top_k = TopK(num_classes)
        self.mean_loss = MeanLoss()

    def build_network(self) -> Classifier:
        """Build the classifier."""
        return mobilenet_v2(**set_options(mobilenet_v2, self.hparams))

    def on_fit_start(self) -> None:
        """Fit the head to the features, unless the run goes on from a checkpoint."""
        if not self.hparams["fit_head"] or self.trainer.ckpt_path is not None:
            return
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        data = compute_features(self.network, datamodule.feature_dataloader())
        layer = fit_layer(data, self._known_layer(data), label_smoothing=self.label_smoothing)
        # Every process has fitted its own: the same but for the order that sums were taken in.
        layer = self.trainer.strategy.broadcast(layer)
        self.network.head.linear.load_state_dict(layer._asdict())

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Give the loss of a batch."""
        images, targets = self.mixing(batch.images, batch.labels)
        loss = F.cross_entropy(self.network(images), targets, label_smoothing=self.label_smoothing)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.labels))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Take the rows of a batch in: loss and metric from the same pass."""
        logits = self.network(batch.images)
        losses = F.cross_entropy(logits, batch.labels, reduction="none", label_smoothing=self.label_smoothing)
        self.mean_loss.update(losses, torch.ones_like(losses), batch.positions)
        self.top_k.update(logits, batch.labels, batch.positions)

    test_step = validation_step

    def on_validation_epoch_start(self) -> None:
        """Take the time."""
        self._start = time.perf_counter()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Measure and log the whole set."""
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        """Measure and log the whole set."""
        self._conclude("test")

    def _known_layer(self, data: Features) -> LinearLayer:
        linear, source = self.network.head.linear, self.hparams.get("backbone_weights")
        if self.hparams.get("weights") is not None:
            return LinearLayer(linear.weight.detach().cpu(), linear.bias.detach().cpu())
        return nearest_rows(data, linear.out_features, read_weights(source) if source else None)

    def _conclude(self, split: str) -> None:
        result = self.top_k.compute()
        figures = {
            "loss": float(self.mean_loss.compute()),
            "top1": float(result.top1),
            "top5": float(result.top5),
            "ece": float(result.ece),
        }
        for name, figure in figures.items():
            # Every process has the same figures; their maximum is exact, which their mean is not.
            self.log(f"{split}/{name}", figure, prog_bar=True, sync_dist=True, reduce_fx="max")
        names = self.network.class_names or tuple(map(str, range(self.network.num_classes)))
        per_class = zip(names, result.per_class_top1.tolist(), strict=True)
        pairs = confused_pairs(result.labels, result.predicted, len(names), NUM_PAIRS)
        details = {
            "confusions": [
                {"label": names[label], "predicted": names[predicted], "images": count}
                for label, predicted, count in pairs
            ],
            "images_per_second": result.num_images / (time.perf_counter() - self._start),
        }
        self.report = Report(figures, {name: {"top1": top1} for name, top1 in per_class}, result.num_images, details)
        self.top_k.reset()
        self.mean_loss.reset()
