"""Take the tensors of another PyTorch program by its own names for them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mobilevision.backbone.image_network import Scalar
from mobilevision.backbone.normalization import IMAGENET_MEAN, IMAGENET_STD
from mobilevision.backbone.stages import STAGES
from mobilevision.weights.width import size_options

BACKBONE_ONLY = "backbone"
"""What a card calls weights without a head that is known here: they start a network, and are none."""

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")

PYTORCH_OPTIONS: Mapping[str, Scalar] = {
    "padding": "symmetric",
    "norm_eps": 1e-5,
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
}
"""What networks that were trained in PyTorch have in common where their file says nothing else."""

NUM_BLOCKS = tuple(stage.num_blocks for stage in STAGES)


class Place(NamedTuple):
    """A block: its stage from 1, its number in there and its number among all blocks, both from 0."""

    stage: int
    block: int
    number: int

    @property
    def name(self) -> str:
        """What it is called in a network of ours."""
        return f"backbone.stages.stage{self.stage}.{self.block}"


class Names(NamedTuple):
    """What a source calls a convolution and the normalisation behind it."""

    conv: str
    norm: str


def places(num_blocks: Sequence[int] = NUM_BLOCKS) -> Iterator[Place]:
    """Go through all blocks of the stages."""
    number = 0
    for stage, count in enumerate(num_blocks, start=1):
        for block in range(count):
            yield Place(stage, block, number)
            number += 1


def take_backbone(
    tensors: Mapping[str, Tensor], layout: Mapping[str, Names], options: Mapping[str, Scalar] = PYTORCH_OPTIONS
) -> tuple[dict[str, Tensor], dict[str, Scalar]]:
    """Give the tensors of a backbone by our names, with the normalisation of its pixels, and the options to build it.

    Args:
        tensors: By the source's names.
        layout: What the source calls the parts of each ``ConvNorm``, by our name of it.
        options: What does not show in the tensors: ``padding``, ``norm_eps``, ``mean`` and ``std``.

    Raises:
        ValueError: A tensor is missing, is none that can be read, or has channels that no width gives.
    """
    taken: dict[str, Tensor] = {}
    for ours, names in layout.items():
        taken |= take_conv_norm(tensors, ours, names)
    num_blocks = [
        sum(f"backbone.stages.stage{number}.{index}.project" in layout for index in range(len(layout)))
        for number in range(1, len(STAGES) + 1)
    ]
    convolutions = ["backbone.stem", *(f"backbone.stages.stage{number}.0.project" for number in range(1, 8))]
    channels = tuple(len(taken[f"{name}.conv.weight"]) for name in convolutions)
    last = taken.get("backbone.last.conv.weight")
    size = size_options(channels, None if last is None else len(last), num_blocks)
    for name in ("mean", "std"):
        taken[f"normalization.{name}"] = torch.tensor(options[name])
    return taken, {**size, **options}


def take_conv_norm(tensors: Mapping[str, Tensor], ours: str, names: Names) -> dict[str, Tensor]:
    """Give the tensors of one ``ConvNorm``.

    Raises:
        ValueError: One is missing, or is none that can be read.
    """
    taken = {f"{ours}.conv.weight": take(tensors, f"{names.conv}.weight", num_dimensions=4)}
    count = len(taken[f"{ours}.conv.weight"])
    for part in NORM_TENSORS:
        vector = take(tensors, f"{names.norm}.{part}", num_dimensions=1)
        if len(vector) != count:
            raise ValueError(f"{names.conv} has {count} filters and {len(vector)} values in {names.norm}.{part}")
        taken[f"{ours}.norm.{part}"] = vector
    # Files from before PyTorch counted have none.
    taken[f"{ours}.norm.num_batches_tracked"] = tensors.get(f"{names.norm}.num_batches_tracked", torch.tensor(0)).long()
    return taken


def take(tensors: Mapping[str, Tensor], name: str, *, num_dimensions: int) -> Tensor:
    """Give one tensor as float32 in memory of its own.

    Raises:
        ValueError: There is none of this name, it is quantised or of integers, or it has other dimensions.
    """
    if name not in tensors:
        raise ValueError(f"it has no tensor {name}")
    tensor = tensors[name]
    if not tensor.dtype.is_floating_point or tensor.ndim != num_dimensions or not tensor.numel():
        raise ValueError(
            f"expected {name} to be floats of {num_dimensions} dimensions, found {tensor.dtype} of {list(tensor.shape)}"
        )
    return tensor.detach().to(torch.float32, memory_format=torch.contiguous_format, copy=True)


def take_linear(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Give the tensors of the classifier's linear layer, which the source calls ``name``.

    Raises:
        ValueError: One is missing, is none that can be read, or they have another number of classes each.
    """
    # As a linear layer or as a 1x1 convolution.
    stored = tensors.get(f"{name}.weight")
    weight = take(
        tensors, f"{name}.weight", num_dimensions=4 if stored is not None and stored.ndim == 4 else 2
    ).flatten(1)
    bias = take(tensors, f"{name}.bias", num_dimensions=1)
    if len(weight) != len(bias):
        raise ValueError(f"{name} has {len(weight)} rows and {len(bias)} biases")
    return {"head.linear.weight": weight, "head.linear.bias": bias}
