"""The MobileNetV2 in a graph."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from mobilevision.backbone.convolution import Padding
from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.backbone.stages import OUTPUT_STRIDES, STAGES, BlockPlan, plan_strides
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.tensorflow.convolution import conv_norm_tensors, filters_of, norm_eps
from mobilevision.weights.tensorflow.layers import Layer, LayerGraph


class FoundBackbone(NamedTuple):
    """A backbone as far as its last block.

    Attributes:
        pixels: The map that the first convolution reads.
        layers: Its convolutions, by their names in a network.
        channels: Of the stem and the seven stages.
        output_stride: 8, 16 or 32.
        padding: Of its strided convolutions.
        norm_eps: Of its normalization.
        expansion: The map that SSDLite reads first.
        filtered: The convolution that reads it inside its block.
        end: The last block's map.
    """

    pixels: str
    layers: dict[str, Layer]
    channels: tuple[int, ...]
    output_stride: int
    padding: Padding
    norm_eps: float
    expansion: str
    filtered: Layer
    end: str

    def make_weights(self, size: BackboneConfig, last: Layer | None = None) -> Weights:
        """Return its weights, without heads and without the normalization of the pixels.

        Args:
            size: The config of a backbone with its channels.
            last: The convolution behind the last block, if there is one.

        Raises:
            ValueError: A layer has more or fewer filters than values for them.
        """
        layers = self.layers if last is None else {**self.layers, "backbone.last": last}
        config = replace(size, padding=self.padding, norm_eps=self.norm_eps)
        return Weights(conv_norm_tensors(layers, self.norm_eps), WeightsCard(config))


def find_backbone(graph: LayerGraph) -> FoundBackbone:
    """Find the blocks of Table 2 in a graph, from the convolution that reads the pixels to the last block.

    Raises:
        ValueError: The graph is not a MobileNetV2; the message names where it departs from one.
    """
    stem = _find_stem(graph)
    walk = {"stem": stem}
    x, channels, plans = stem.output, [_channels(stem)], []
    for number, stage in enumerate(STAGES, start=1):
        for index in range(stage.num_blocks):
            block = _find_block(graph, x, expanded=stage.expansion > 1)
            walk |= {f"stages.stage{number}.{index}.{part}": layer for part, layer in block.items()}
            filters = filters_of(block["depthwise"])
            plans.append(BlockPlan(filters.stride, filters.dilation))
            x = _skip_addition(graph, x, block)
        channels.append(_channels(block["project"]))
    return FoundBackbone(
        pixels=stem.sources[0],
        layers={f"backbone.{name}": layer for name, layer in walk.items()},
        channels=tuple(channels),
        output_stride=_output_stride(plans),
        padding=_padding(walk.values()),
        norm_eps=norm_eps(walk.values()),
        expansion=walk["stages.stage6.0.expand"].output,
        filtered=walk["stages.stage6.0.depthwise"],
        end=x,
    )


def _find_stem(graph: LayerGraph) -> Layer:
    stems = [layer for layer in graph.layers if layer.filters and layer.filters.weight.shape[1:] == (3, 3, 3)]
    if len(stems) != 1:
        raise ValueError(f"expected one 3x3 convolution on three colors, found {len(stems)}")
    filters = filters_of(stems[0])
    if filters.stride != 2 or filters.activation != "relu6":
        raise ValueError(
            f"expected a stem of stride 2 with relu6, found {filters.describe()} of stride {filters.stride}"
        )
    return stems[0]


def _find_block(graph: LayerGraph, source: str, *, expanded: bool) -> dict[str, Layer]:
    block = {"expand": graph.convolution(source)} if expanded else {}
    entry = block["expand"].output if expanded else source
    found = [
        (depthwise, project)
        for depthwise in graph.convolutions(entry, 3, depthwise=True)
        for project in graph.convolutions(depthwise.output, activation="linear")
    ]
    if len(found) > 1:
        # Predictors read a map with the same two convolutions, but their outputs are read by no third one.
        found = [
            (depthwise, project)
            for depthwise, project in found
            if any(reader.kind in ("convolution", "add") for reader in graph.readers(project.output))
        ]
    if len(found) != 1:
        raise ValueError(
            f"expected a depthwise 3x3 and a linear 1x1 convolution after {graph.name(entry)}, "
            f"found {graph.list_after(entry)}"
        )
    depthwise, project = found[0]
    return block | {"depthwise": depthwise, "project": project}


def _skip_addition(graph: LayerGraph, source: str, block: Mapping[str, Layer]) -> str:
    output = block["project"].output
    added = [layer for layer in graph.readers(output) if layer.kind == "add" and set(layer.sources) == {source, output}]
    depthwise = filters_of(block["depthwise"])
    in_channels = filters_of(block["expand"]).weight.shape[1] if "expand" in block else len(depthwise.weight)
    residual = in_channels == _channels(block["project"]) and depthwise.stride == 1
    if len(added) != residual:
        wanted = "be" if residual else "not be"
        raise ValueError(f"expected {graph.name(source)} to {wanted} added to {graph.name(output)} once")
    return added[0].output if added else output


def _output_stride(plans: list[BlockPlan]) -> int:
    for output_stride in OUTPUT_STRIDES:
        if plans == [plan for stage in plan_strides(output_stride) for plan in stage]:
            return output_stride
    raise ValueError(f"no output stride has blocks of these (stride, dilation): {[tuple(plan) for plan in plans]}")


def _padding(layers: Iterable[Layer]) -> Padding:
    # A graph whose padding is spelled out has (1, 1) on odd sides in both conventions, (0, 1) only in TensorFlow's.
    found = {filters_of(layer).padding for layer in layers if filters_of(layer).stride > 1}
    return "tf_same" if "tf_same" in found else "symmetric"


def _channels(layer: Layer) -> int:
    return len(filters_of(layer).weight)
