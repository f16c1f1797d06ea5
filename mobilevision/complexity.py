"""Parameters, multiply-adds and activation memory of a network, as a whole and part by part."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mobilevision.backbone.inverted_residual import InvertedResidual
from mobilevision.network import Network

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
    shortcut_elements: int
    """Of the map that waits meanwhile to be added at the end of the block."""

    @property
    def memory(self) -> int:
        """Elements that are in memory at the same time."""
        return self.input_elements + self.output_elements + self.shortcut_elements

    @property
    def space_to_batch_multiply_adds(self) -> int:
        """Multiply-adds in TensorFlow 1, which pads a map to a multiple of the dilation and convolves all of it."""
        total = self.multiply_adds
        for side in self.positions:
            total = total // side * (-(-side // self.dilation) * self.dilation)
        return total


class PartComplexity(NamedTuple):
    """Complexity of a part of a network on one image; see :class:`Complexity`."""

    parameters: int
    multiply_adds: int
    peak_activation_bytes: int


class Complexity(NamedTuple):
    """Complexity of a network on one image.

    Attributes:
        parameters: Everything that is trained: weights, biases, and normalization's scale and shift.
        multiply_adds: Of convolutions and linear layers, without their biases. Normalization, activation, addition and
            interpolation are not counted, as in the paper.
        peak_activation_bytes: The most that a convolution or linear layer reads and writes, and the shortcut that
            waits meanwhile to be added, in float32. Normalization, activation and addition work in place. This is the
            bound M(G) of the paper's section 5.1 for one operation after the other; maps that wait for a head, the
            output of an interpolation, and the weights are not included.
        parts: The same for every part of the network that has parameters: ``backbone`` and the parts of each head,
            ``heads.<name>.<part>``.
    """

    parameters: int
    multiply_adds: int
    peak_activation_bytes: int
    parts: Mapping[str, PartComplexity]


def measure(network: Network, input_size: int | None = None, *, tf_space_to_batch: bool = False) -> Complexity:
    """Compute the complexity of a network on one image, from shapes alone.

    Args:
        network: Not changed.
        input_size: Side of the image, in pixels; the network's own where None.
        tf_space_to_batch: Count dilated convolutions as TensorFlow 1 ran them, as the paper's DeepLab figures do.

    Raises:
        ValueError: ``input_size`` is below 1, or a size that the network does not accept.

    >>> from mobilevision import get_model
    >>> measure(get_model("mobilenet_v2"))[:3]
    (3504872, 300774272, 6021120)
    """
    operations = record_operations(network, network.input_size if input_size is None else input_size)
    parts = {}
    for name, module in _parts(network):
        own = [operation for operation in operations if f"{operation.name}.".startswith(f"{name}.")]
        parts[name] = _total(module, own, tf_space_to_batch)
    total = _total(network, operations, tf_space_to_batch)
    return Complexity(*total, {name: part for name, part in parts.items() if part.parameters})


def count_multi_scale(
    network: Network, input_sizes: Iterable[int], *, flip: bool = True, tf_space_to_batch: bool = False
) -> int:
    """Count the multiply-adds of running a network on one image at several sizes.

    Args:
        network: A network that accepts any size; not changed.
        input_sizes: Side of the image in each pass, in pixels.
        flip: Whether each size is run a second time on the mirrored image.
        tf_space_to_batch: Count dilated convolutions as TensorFlow 1 ran them, as the paper's DeepLab figures do.

    Raises:
        ValueError: A size is below 1, or one that the network does not accept.
    """
    passes = (measure(network, size, tf_space_to_batch=tf_space_to_batch).multiply_adds for size in input_sizes)
    return sum(passes) * (2 if flip else 1)


def record_operations(network: nn.Module, input_size: int) -> list[Operation]:
    """Return the convolutions and linear layers in the order in which they run on one square RGB image.

    The network runs on the meta device, so that this takes next to no memory.

    Raises:
        ValueError: ``input_size`` is below 1, or a size that the network does not accept.
    """
    if input_size < 1:
        raise ValueError(f"input_size must be at least 1, got {input_size}")
    shapes = copy.deepcopy(network).to("meta").eval()
    recorder = _Recorder()
    for name, module in shapes.named_modules():
        if isinstance(module, InvertedResidual):
            recorder.watch_shortcut(module)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            recorder.watch_operation(module, name)
    with torch.no_grad():
        shapes(torch.zeros(1, 3, input_size, input_size, device="meta"))
    return recorder.operations


class _Recorder:
    """A list of the operations of a pass, filled by hooks."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.shortcut_elements = 0

    def watch_operation(self, module: nn.Conv2d | nn.Linear, name: str) -> None:
        def record(_: nn.Module, inputs: tuple[Tensor], plan: Mapping[str, int], output: Tensor) -> None:
            own_dilation = module.dilation[0] if isinstance(module, nn.Conv2d) else 1
            operation = Operation(
                name,
                # A weight has a row for every output channel: the multiply-adds of one output element.
                multiply_adds=output.numel() * module.weight[0].numel(),
                positions=tuple(output.shape[2:]),
                dilation=plan.get("dilation") or own_dilation,
                input_elements=inputs[0].numel(),
                output_elements=output.numel(),
                shortcut_elements=self.shortcut_elements,
            )
            self.operations.append(operation)

        module.register_forward_hook(record, with_kwargs=True)

    def watch_shortcut(self, block: InvertedResidual) -> None:
        def begin(_: nn.Module, inputs: tuple[Any, ...], output: Tensor | None = None) -> None:
            expanded, *plan = inputs
            input_elements = expanded.numel() * block.in_channels // block.expanded_channels
            self.shortcut_elements = input_elements if block.adds_input(*plan) else 0

        def end(*_: object) -> None:
            self.shortcut_elements = 0

        if block.expanded_channels == block.in_channels:
            # Without an expansion the depthwise convolution itself reads the shortcut.
            block.depthwise.register_forward_hook(begin)
        else:
            block.depthwise.register_forward_pre_hook(begin)
        block.project.register_forward_hook(end)


def _parts(network: Network) -> Iterator[tuple[str, nn.Module]]:
    yield "backbone", network.backbone
    for name, head in network.heads.items():
        yield from ((f"heads.{name}.{part}", module) for part, module in head.named_children())


def _total(module: nn.Module, operations: Sequence[Operation], tf_space_to_batch: bool) -> PartComplexity:
    if tf_space_to_batch:
        multiply_adds = sum(operation.space_to_batch_multiply_adds for operation in operations)
    else:
        multiply_adds = sum(operation.multiply_adds for operation in operations)
    return PartComplexity(
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        multiply_adds=multiply_adds,
        peak_activation_bytes=BYTES_PER_ELEMENT * max((operation.memory for operation in operations), default=0),
    )
