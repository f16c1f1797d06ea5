"""Several heads on one MobileNetV2: an image goes through the backbone once, whatever is asked about it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mobilevision.backbone.image_network import ImageNetwork, Scalar
from mobilevision.backbone.normalization import SYMMETRIC_MEAN, SYMMETRIC_STD
from mobilevision.backbone.padding import Padding
from mobilevision.classification.classifier import mobilenet_v2
from mobilevision.detection.ssdlite import SSDLite, ssdlite_mobilenet_v2
from mobilevision.multitask.types import TASK_NAMES, Answers, TaskName
from mobilevision.segmentation.deeplabv3 import DeepLabV3, deeplabv3_mobilenet_v2
from mobilevision.weights.joint import CLASS_NAMES, MODEL, SHARED_OPTIONS

NETWORKS: Mapping[str, Callable[..., ImageNetwork]] = {
    "classification": mobilenet_v2,
    "detection": ssdlite_mobilenet_v2,
    "segmentation": deeplabv3_mobilenet_v2,
}

HeadOptions = Mapping[str, Mapping[str, Any]]


class MultiTaskNetwork(ImageNetwork):
    """One backbone with the heads of several networks.

    :attr:`members` are these networks. Each has the common backbone for its own, and computes what it would alone.

    Args:
        networks: At least one, by task. They are taken over, with the backbone and the normalisation of the first that
            has the last convolution, or of the first if none has.

    Raises:
        ValueError: There are none, or their backbones have different shapes.
    """

    def __init__(self, networks: Mapping[TaskName, ImageNetwork]) -> None:
        members = {task: networks[task] for task in TASK_NAMES if task in networks}
        first = next((each for each in members.values() if each.backbone.last is not None), None)
        first = first or next(iter(members.values()))
        _check_backbones(members, first)
        detector = members.get("detection")
        super().__init__(
            first.backbone,
            first.normalization,
            # Anchors are made for one size; the others take any.
            input_size=detector.input_size if detector else max(each.input_size for each in members.values()),
            model_name=MODEL,
            options={},
        )
        self.heads = nn.ModuleDict({task: network.head for task, network in members.items()})
        for network in members.values():
            network.own_output_stride = network.output_stride
            network.backbone, network.normalization = first.backbone, first.normalization
        # In a dict they are no children: their parts are, under names of their own.
        self.members = {str(task): network for task, network in members.items()}

    @property
    def options(self) -> dict[str, Scalar]:
        """The scalars to build it with: the backbone's, and by head its own and the names of its classes."""
        first, *_ = self.members.values()
        heads = {
            task: {name: value for name, value in network.options.items() if name not in SHARED_OPTIONS}
            | {CLASS_NAMES: list(network.class_names)}
            for task, network in self.members.items()
        }
        return {"heads": heads, **{name: first.options[name] for name in SHARED_OPTIONS}}

    def take_options(self, options: Mapping[str, Scalar]) -> None:
        """Take over what comes with weights."""
        for network in self.members.values():
            network.take_options(options)

    @property
    def num_classes(self) -> int:
        """The classes of all heads together."""
        return sum(network.num_classes for network in self.members.values())

    def forward(
        self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"], heads: Iterable[TaskName] | None = None
    ) -> Answers:
        """Run the backbone once, and the heads that are asked for.

        Args:
            images: RGB, uint8 in [0, 255] or floats in [0, 1]; where the detector is asked, of its size.
            heads: Those to run; all where None.

        Raises:
            ValueError: A head that there is not, or images of a size that the detector has no anchors for.
        """
        answers = self.run_heads(images, heads)
        segmenter = self.members.get("segmentation")
        if isinstance(segmenter, DeepLabV3) and "segmentation" in answers:
            answers["segmentation"] = segmenter.place(answers["segmentation"], images)
        return Answers(**answers)

    def run_heads(
        self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"], heads: Iterable[TaskName] | None = None
    ) -> dict[str, Any]:
        """Give what each head says, by task, as training wants it: the segmenter's logits at its output stride.

        Args:
            images: As in :meth:`forward`.
            heads: As in :meth:`forward`.

        Raises:
            ValueError: As in :meth:`forward`.
        """
        asked = self._choose(heads)
        for network in asked.values():
            if isinstance(network, SSDLite):
                network.check_size(images)
        taps = self._compute_taps(images, asked)
        return {task: network.head(*taps[task]) for task, network in asked.items()}

    def extract_feat(
        self, images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B D h w"], ...]:
        """Give the maps that the heads take, head by head."""
        return tuple(feature for taps in self._compute_taps(images, self.members).values() for feature in taps)

    def _compute_taps(self, images: Tensor, members: Mapping[str, ImageNetwork]) -> dict[str, tuple[Tensor, ...]]:
        wanted: dict[int, list[str]] = {}
        for network in members.values():
            wanted.setdefault(network.output_stride, []).extend(network.taps)
        maps = self.backbone.forward_at(self.normalization(images), wanted)
        return {
            task: tuple(maps[network.output_stride][tap] for tap in network.taps) for task, network in members.items()
        }

    def _choose(self, heads: Iterable[TaskName] | None) -> dict[str, ImageNetwork]:
        names = tuple(self.members if heads is None else heads)
        if not names or not set(names) <= set(self.members):
            raise ValueError(f"heads must be among {', '.join(self.members)}, got {', '.join(names) or 'none'}")
        return {task: self.members[task] for task in names}


def multitask_mobilenet_v2(
    heads: Sequence[TaskName] | HeadOptions = TASK_NAMES,
    *,
    width_mult: float = 1.0,
    padding: Padding = "symmetric",
    round_to: int = 8,
    depth_mult: float = 1.0,
    fixed_ends: bool = False,
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.003,
    mean: Sequence[float] = SYMMETRIC_MEAN,
    std: Sequence[float] = SYMMETRIC_STD,
) -> MultiTaskNetwork:
    """Build a joint network, with fresh weights.

    Args:
        heads: Any of ``classification``, ``detection`` and ``segmentation``. Or, to say more of them, a mapping from
            these names to the options that :func:`mobilenet_v2`, :func:`ssdlite_mobilenet_v2` and
            :func:`deeplabv3_mobilenet_v2` take beside those of the backbone: ``{"detection": {"num_classes": 20}}``.
            With ``output_stride`` 16, its default, the segmenter is the paper's, and the end of the backbone runs a
            second time for it, dilated; with 32 it reads what the others read, for less.
        width_mult: Channel multiplier of the backbone and the detector's extra layers.
        padding: ``symmetric`` (weights trained in PyTorch) or ``tf_same`` (weights trained in TensorFlow).
        round_to: The backbone's channels are rounded to multiples of this.
        depth_mult: Multiplier of the blocks of every stage, see :class:`MobileNetV2`.
        fixed_ends: Whether stem and ``last`` keep their size, see :class:`MobileNetV2`.
        norm_eps: Batch normalisation's epsilon in the backbone.
        norm_momentum: Batch normalisation's momentum in the backbone, in PyTorch's sense.
        mean: Of the pixels, for red, green and blue in [0, 1].
        std: Likewise.

    Raises:
        ValueError: A head or an option that there is not, or a value outside what is said above.

    >>> multitask_mobilenet_v2(("classification", "detection"), width_mult=0.35).members.keys()
    dict_keys(['classification', 'detection'])
    """
    shared = {name: value for name, value in locals().items() if name != "heads"}
    chosen: HeadOptions = heads if isinstance(heads, Mapping) else {task: {} for task in heads}
    if not chosen or not set(chosen) <= set(TASK_NAMES):
        raise ValueError(f"heads must be among {', '.join(TASK_NAMES)}, got {', '.join(chosen) or 'none'}")
    networks: dict[TaskName, ImageNetwork] = {}
    for task in TASK_NAMES:
        if task in chosen:
            options = dict(chosen[task])
            class_names = options.pop(CLASS_NAMES, ())
            _check_options(task, options)
            networks[task] = NETWORKS[task](**shared, **options)
            networks[task].class_names = tuple(class_names)
    return MultiTaskNetwork(networks)


def _check_options(task: TaskName, options: Mapping[str, Any]) -> None:
    known = [name for name in signature(NETWORKS[task]).parameters if name not in SHARED_OPTIONS]
    for name in options:
        if name in SHARED_OPTIONS:
            raise ValueError(f"{name} must be given for all heads together, got it for {task}")
        if name not in known:
            raise ValueError(f"the head for {task} has no option {name!r}: it takes {', '.join(known)}")


def _check_backbones(members: Mapping[TaskName, ImageNetwork], first: ImageNetwork) -> None:
    shapes = {name: tensor.shape for name, tensor in first.backbone.state_dict().items()}
    for task, network in members.items():
        if any(shapes.get(name) != tensor.shape for name, tensor in network.backbone.state_dict().items()):
            raise ValueError(
                f"heads must read backbones of one shape, got another for {task}: is its width or preset the others'?"
            )
