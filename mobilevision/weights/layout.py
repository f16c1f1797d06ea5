"""Tensors of another program under the names of a :class:`Network`, and the card that describes them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mobilevision.backbone.convolution import Padding
from mobilevision.backbone.normalization import IMAGENET_MEAN, IMAGENET_STD, Normalization
from mobilevision.weights.card import HeadCard, Weights, WeightsCard
from mobilevision.weights.width import NUM_BLOCKS, find_config

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")

INPUT_SIZES: Mapping[str, int] = {"classification": 224, "detection": 300, "segmentation": 513}
"""The side of the images by task, in pixels, where a file does not state it."""

BACKGROUND = "background"
IMAGENET_WITH_BACKGROUND = 1001


class TrainedOptions(NamedTuple):
    """Options that a network was trained with and its tensors do not show; the defaults are PyTorch programs'."""

    padding: Padding = "symmetric"
    norm_eps: float = 1e-5
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD


class Tensors(Mapping[str, Tensor]):
    """Tensors by another program's names, which remember which of them were read."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        self._read.add(name)
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def unread(self) -> list[str]:
        """The names of those that were not read; a single number is a counter of the program, and none of them."""
        return [name for name, tensor in self._tensors.items() if name not in self._read and tensor.ndim]

    def end_in(self, head: str) -> bool:
        """Return whether there are tensors that were not read, and all of them are of ``head``."""
        return bool(self.unread) and all(name.startswith(f"{head}.") for name in self.unread)


class Place(NamedTuple):
    """A block: its stage, counted from 1, and its number in the stage and among all blocks, both counted from 0."""

    stage: int
    block: int
    number: int

    @property
    def name(self) -> str:
        """The block's name in a network."""
        return f"backbone.stages.stage{self.stage}.{self.block}"


class Names(NamedTuple):
    """The source's names of a convolution and of the normalization behind it."""

    conv: str
    norm: str


def places(num_blocks: Sequence[int] = NUM_BLOCKS) -> Iterator[Place]:
    """Yield all blocks of the stages."""
    number = 0
    for stage, count in enumerate(num_blocks, start=1):
        for block in range(count):
            yield Place(stage, block, number)
            number += 1


def read_backbone(
    tensors: Mapping[str, Tensor], layout: Mapping[str, Names], training: TrainedOptions = TrainedOptions()
) -> Weights:
    """Return a backbone and the normalization of its pixels, without heads.

    Args:
        tensors: By the source's names.
        layout: The source's names of each ``ConvNorm``, by its name in a network. The last one may be missing.
        training: What the tensors do not show.

    Raises:
        ValueError: A tensor is missing, cannot be read, or has channels that no width has.
    """
    read = normalization_tensors(training.mean, training.std)
    if f"{layout['backbone.last'].conv}.weight" not in tensors:
        layout = {ours: names for ours, names in layout.items() if ours != "backbone.last"}
    for ours, names in layout.items():
        read |= read_conv_norm(tensors, ours, names)
    blocks = Counter(name.split(".")[2] for name in layout if name.endswith(".project"))
    stages = [f"stage{number}" for number in range(1, len(NUM_BLOCKS) + 1)]
    ends = ["backbone.stem", *(f"backbone.stages.{stage}.0.project" for stage in stages if blocks[stage])]
    last = read.get("backbone.last.conv.weight")
    config = find_config(
        tuple(len(read[f"{end}.conv.weight"]) for end in ends),
        None if last is None else len(last),
        [blocks[stage] for stage in stages],
    )
    return Weights(read, WeightsCard(replace(config, padding=training.padding, norm_eps=training.norm_eps)))


def read_conv_norm(tensors: Mapping[str, Tensor], ours: str, names: Names) -> dict[str, Tensor]:
    """Return the tensors of the ``ConvNorm`` called ``ours``.

    Raises:
        ValueError: One is missing or cannot be read.
    """
    read = {f"{ours}.conv.weight": read_tensor(tensors, f"{names.conv}.weight", num_dimensions=4)}
    count = len(read[f"{ours}.conv.weight"])
    for part in NORM_TENSORS:
        vector = read_tensor(tensors, f"{names.norm}.{part}", num_dimensions=1)
        if len(vector) != count:
            raise ValueError(f"{names.conv} has {count} filters and {len(vector)} values in {names.norm}.{part}")
        read[f"{ours}.norm.{part}"] = vector
    # Files from before PyTorch counted have none.
    read[f"{ours}.norm.num_batches_tracked"] = tensors.get(f"{names.norm}.num_batches_tracked", torch.tensor(0)).long()
    return read


def read_tensor(tensors: Mapping[str, Tensor], name: str, *, num_dimensions: int) -> Tensor:
    """Return one tensor as float32 in memory of its own.

    Raises:
        ValueError: There is none of this name, it is quantized or of integers, or it has other dimensions.
    """
    if name not in tensors:
        raise ValueError(f"it has no tensor {name}")
    tensor = tensors[name]
    if not tensor.dtype.is_floating_point or tensor.ndim != num_dimensions or not tensor.numel():
        raise ValueError(
            f"expected {name} to be floats of {num_dimensions} dimensions, found {tensor.dtype} of {list(tensor.shape)}"
        )
    return tensor.detach().to(torch.float32, memory_format=torch.contiguous_format, copy=True)


def read_linear(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return ``linear.weight`` and ``linear.bias`` of a classifier, a linear layer or 1x1 convolution called ``name``.

    Raises:
        ValueError: One is missing or cannot be read, or they have different numbers of classes.
    """
    stored = tensors.get(f"{name}.weight")
    num_dimensions = 4 if stored is not None and stored.ndim == 4 else 2
    weight = read_tensor(tensors, f"{name}.weight", num_dimensions=num_dimensions).flatten(1)
    bias = read_tensor(tensors, f"{name}.bias", num_dimensions=1)
    if len(weight) != len(bias):
        raise ValueError(f"{name} has {len(weight)} rows and {len(bias)} biases")
    return {"linear.weight": weight, "linear.bias": bias}


def add_classifier(weights: Weights, tensors: Tensors, name: str, **config: Any) -> Weights:
    """Return a backbone's weights with a classification head, if there is nothing but it beside the backbone.

    Args:
        weights: Of the backbone.
        tensors: By the source's names.
        name: The source's name of the linear layer.
        config: Fields of the head's config beside ``num_classes``.

    Raises:
        ValueError: The linear layer cannot be read, or only a part of it is there.
    """
    if not tensors.end_in(name) or {f"{name}.weight", f"{name}.bias"}.isdisjoint(tensors.unread):
        return weights
    if "backbone.last.conv.weight" not in weights.tensors:
        raise ValueError(f"it has no last convolution before {name}")
    linear = read_linear(tensors, name)
    return add_head(weights, "classification", linear, {"num_classes": len(linear["linear.bias"]), **config})


def add_head(
    weights: Weights,
    task: str,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    class_names: Sequence[str] = (),
) -> Weights:
    """Return weights with one more head, which is named by its task.

    Args:
        weights: Of the backbone.
        task: ``classification``, ``detection`` or ``segmentation``.
        tensors: Of the head, by their names in it.
        config: Known fields of the head's config, ``num_classes`` among them.
        class_names: Kept if they are as many as the classes.
    """
    named = {f"heads.{task}.{name}": tensor for name, tensor in tensors.items()}
    names = tuple(class_names) if len(class_names) == config["num_classes"] else ()
    head = HeadCard(task, {"input_size": INPUT_SIZES[task], **config}, names)
    return Weights(weights.tensors | named, weights.card._replace(heads={**weights.card.heads, task: head}))


def change_head(
    weights: Weights, name: str, config: Mapping[str, Any] | None = None, class_names: Sequence[str] | None = None
) -> Weights:
    """Return weights whose card describes the head called ``name`` with other fields in its config, or other names."""
    head = weights.card.heads[name]
    changed = head._replace(
        config={**head.config, **(config or {})},
        class_names=head.class_names if class_names is None else tuple(class_names),
    )
    return weights._replace(card=weights.card._replace(heads={**weights.card.heads, name: changed}))


def normalization_tensors(mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    """Return the tensors of the normalization of the pixels.

    Raises:
        ValueError: Not three values each, or a ``std`` that is not above 0.
    """
    return {f"normalization.{name}": tensor for name, tensor in Normalization(mean, std).state_dict().items()}


def background_option(num_classes: int, class_names: Sequence[str] = ()) -> dict[str, str | None]:
    """Return where a classifier of TensorFlow's family has its background: first of 1001, or the class of its name.

    >>> background_option(2, ["cat", "background"])
    {'background': 'last'}
    """
    names = [name.strip().lower() for name in class_names]
    if len(names) == num_classes and BACKGROUND in (names[0], names[-1]):
        return {"background": "first" if names[0] == BACKGROUND else "last"}
    return {"background": "first" if num_classes == IMAGENET_WITH_BACKGROUND else None}
