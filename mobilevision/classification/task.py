"""Train and evaluate the classifier."""

from typing import Any, ClassVar

from mobilevision.backbone.padding import Padding
from mobilevision.classification.classifier import Classifier, mobilenet_v2
from mobilevision.classification.features import Features, LinearLayer, compute_features, fit_layer, nearest_rows
from mobilevision.classification.objective import ClassificationObjective
from mobilevision.classification.types import CROP_SHARE, Background, EvalCrop
from mobilevision.training.start import set_options
from mobilevision.training.task import NetworkTask
from mobilevision.weights.file import read_weights


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

    shown: ClassVar[tuple[str, ...]] = ("loss", "top1", "top5", "ece")

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
        self.objective: ClassificationObjective = ClassificationObjective(
            num_classes, label_smoothing=label_smoothing, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha
        )

    def build_network(self) -> Classifier:
        """Build the classifier."""
        return mobilenet_v2(**set_options(mobilenet_v2, self.hparams))

    def on_fit_start(self) -> None:
        """Fit the head to the features, unless the run goes on from a checkpoint."""
        if not self.hparams["fit_head"] or self.trainer.ckpt_path is not None:
            return
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        data = compute_features(self.network, datamodule.feature_dataloader())
        layer = fit_layer(data, self._known_layer(data), label_smoothing=self.objective.label_smoothing)
        # Every process has fitted its own: the same but for the order that sums were taken in.
        layer = self.trainer.strategy.broadcast(layer)
        self.network.head.linear.load_state_dict(layer._asdict())

    def _known_layer(self, data: Features) -> LinearLayer:
        linear, source = self.network.head.linear, self.hparams.get("backbone_weights")
        if self.hparams.get("weights") is not None:
            return LinearLayer(linear.weight.detach().cpu(), linear.bias.detach().cpu())
        return nearest_rows(data, linear.out_features, read_weights(source) if source else None)
