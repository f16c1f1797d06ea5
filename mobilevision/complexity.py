"""What a network costs: parameters, multiply-adds and activation memory, in all and part by part."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mobilevision.backbone.image_network import ImageNetwork
from mobilevision.backbone.inverted_residual import InvertedResidual
from mobilevision.segmentation.multi_scale import PAPER_SCALES, scale_size

BYTES_PER_ELEMENT = 4


class Operation(NamedTuple):
    """A convolution or linear layer as it ran on one image; elements are numbers, not bytes."""

    name: str
    multiply_adds: int
    positions: tuple[int, ...]
    """Height and width of a convolution's output."""
    dilation: int
    input_elements: int
    output_elements: int
    shortcut_elements: int = 0
    """What waits meanwhile to be added at the end of the block."""

    @property
    def memory(self) -> int:
        """Elements that are there at the same time."""
        return self.input_elements + self.output_elements + self.shortcut_elements

    @property
    def space_to_batch_multiply_adds(self) -> int:
        """Multiply-adds in TensorFlow 1, which pads a map to a multiple of the dilation and works on all of it."""
        total = self.multiply_adds
        for side in self.positions:
            total = total // side * (-(-side // self.dilation) * self.dilation)
        return total


class PartComplexity(NamedTuple):
    """What one part costs on one image; see :class:`Complexity`."""

    parameters: int
    multiply_adds: int
    peak_activation_bytes: int


class Complexity(NamedTuple):
    """What a network costs on one image.

    Attributes:
        parameters: Everything that is trained: weights, biases, and normalisation's scale and shift.
        multiply_adds: Of convolutions and linear layers, without their biases. Normalisation, activation, addition and
            interpolation are left out, as in the paper.
        peak_activation_bytes: The most that a convolution or linear layer reads and writes, and the shortcut that
            waits to be added meanwhile, in float32. Normalisation, activation and addition work in place. This is the
            bound M(G) of the paper's section 5.1 for one operation after the other; maps that wait for a head, what an
            interpolation makes, and the weights are not in it.
        parts: The same for every part of the network that has parameters: the backbone, and the parts of the head.
    """

    parameters: int
    multiply_adds: int
    peak_activation_bytes: int
    parts: Mapping[str, PartComplexity]


def measure(network: ImageNetwork, input_size: int | None = None, *, tf_space_to_batch: bool = False) -> Complexity:
    """Count what ``network`` costs on one image, without computing anything.

    Args:
        network: Left as it is.
        input_size: Side of the image, in pixels; the network's own where None.
        tf_space_to_batch: Count dilated convolutions as TensorFlow 1 ran them, as the paper's DeepLab figures do.

    Raises:
        ValueError: ``input_size`` is below 1, or one that the network does not take.

    >>> from mobilevision.classification import mobilenet_v2
    >>> measure(mobilenet_v2())[:3]
    (3504872, 300774272, 6021120)
    """
    operations = record_operations(network, network.input_size if input_size is None else input_size)

    def total(module: nn.Module, operations: Sequence[Operation]) -> PartComplexity:
        return PartComplexity(
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            multiply_adds=_sum_multiply_adds(operations, tf_space_to_batch),
            peak_activation_bytes=BYTES_PER_ELEMENT * max((operation.memory for operation in operations), default=0),
        )

    parts = {
        name: total(module, [operation for operation in operations if f"{operation.name}.".startswith(f"{name}.")])
        for name, module in _parts(network)
        if any(True for _ in module.parameters())
    }
    return Complexity(*total(network, operations), parts)


def count_multi_scale(
    network: ImageNetwork,
    input_size: int | None = None,
    *,
    scales: Sequence[float] = PAPER_SCALES,
    flip: bool = True,
    tf_space_to_batch: bool = False,
) -> int:
    """Count the multiply-adds of looking at one image at several sizes, and mirrored too.

    Args:
        network: A segmenter, left as it is.
        input_size: Side of the image at scale 1, in pixels; the network's own where None.
        scales: A scale s makes ``int((input_size - 1) * s + 1)`` pixels a side.
        flip: Whether each is looked at twice.
        tf_space_to_batch: As in :func:`measure`.
    """
    base = network.input_size if input_size is None else input_size
    passes = (
        _sum_multiply_adds(record_operations(network, scale_size((base, base), scale)[0]), tf_space_to_batch)
        for scale in scales
    )
    return sum(passes) * (2 if flip else 1)


def record_operations(network: nn.Module, input_size: int) -> list[Operation]:
    """List the convolutions and linear layers in the order in which they run on one square RGB image.

    The network runs on shapes alone, so that this takes no memory to speak of.

    Raises:
        ValueError: ``input_size`` is below 1, or one that the network does not take.
    """
    if input_size < 1:
        raise ValueError(f"input_size must be at least 1, got {input_size}")
    shapes = copy.deepcopy(network).to("meta").eval()
    operations: list[Operation] = []
    for name, module in shapes.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(_recorder(operations, name), with_kwargs=True)
    with torch.no_grad():
        shapes(torch.zeros(1, 3, input_size, input_size, device="meta"))
    return _add_shortcuts(network, operations)


def _parts(network: ImageNetwork) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_children():
        if module is network.backbone:
            yield name, module
        else:
            yield from ((f"{name}.{inner}", part) for inner, part in module.named_children())


def _recorder(operations: list[Operation], name: str) -> Callable[..., None]:
    def record(module: nn.Conv2d | nn.Linear, inputs: tuple[Tensor], plan: Mapping[str, int], output: Tensor) -> None:
        (feature,) = inputs
        operations.append(
            Operation(
                name,
                # A weight has a row for every output channel: what one output element takes.
                multiply_adds=output.numel() * module.weight[0].numel(),
                positions=tuple(output.shape[2:]),
                dilation=plan.get("dilation") or (module.dilation[0] if isinstance(module, nn.Conv2d) else 1),
                input_elements=feature.numel(),
                output_elements=output.numel(),
            )
        )

    return record


def _add_shortcuts(network: nn.Module, operations: Sequence[Operation]) -> list[Operation]:
    shortcuts: dict[str, int] = {}
    for name, block in network.named_modules():
        if isinstance(block, InvertedResidual) and block.residual:
            first, *others = (operation for operation in operations if operation.name.startswith(f"{name}."))
            shortcuts.update({other.name: first.input_elements for other in others})
    return [operation._replace(shortcut_elements=shortcuts.get(operation.name, 0)) for operation in operations]


def _sum_multiply_adds(operations: Iterable[Operation], tf_space_to_batch: bool) -> int:
    if tf_space_to_batch:
        return sum(operation.space_to_batch_multiply_adds for operation in operations)
    return sum(operation.multiply_adds for operation in operations)
