import numpy as np
import pytest
import tflite
import torch

from mobilevision.backbone.inverted_residual import ConvNorm
from mobilevision.classification import mobilenet_v2
from mobilevision.weights.tensorflow.recognition import recognize_network
from mobilevision.weights.tensorflow.tflite import read_tflite


@pytest.fixture
def classifier(trained):
    return trained(mobilenet_v2(4, width_mult=0.35, padding="tf_same", input_size=64, mean=[0.5] * 3, std=[0.5] * 3))


def folded_weights(network) -> dict[str, torch.Tensor]:
    """Return the filters of every ConvNorm with normalization folded in, by their tensors' names."""
    weights = {}
    for name, module in network.named_modules():
        if isinstance(module, ConvNorm):
            factor = module.norm.weight / (module.norm.running_var + module.norm.eps).sqrt()
            weights[f"{name}.conv.weight"] = (module.conv.weight * factor.view(-1, 1, 1, 1)).detach()
    return weights


def test_filters_quantized_per_channel_are_within_half_a_step_of_each_channel(classifier, write_tflite):
    tensors = recognize_network(read_tflite(write_tflite(classifier, "int8"))).tensors

    for name, expected in folded_weights(classifier).items():
        step = expected.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
        assert ((tensors[name] - expected).abs() <= 0.501 * step).all(), name
        assert (tensors[name] != expected).any()


def test_filters_quantized_per_tensor_are_within_a_step(classifier, write_tflite):
    tensors = recognize_network(read_tflite(write_tflite(classifier, "uint8"))).tensors

    for name, expected in folded_weights(classifier).items():
        assert ((tensors[name] - expected).abs() <= 1.01 * (expected.max() - expected.min()) / 255).all(), name


def test_filters_stored_as_halves_are_read_as_such(classifier, write_tflite):
    tensors = recognize_network(read_tflite(write_tflite(classifier, "float16"))).tensors

    for name, expected in folded_weights(classifier).items():
        torch.testing.assert_close(tensors[name], expected.half().float(), atol=0, rtol=0)


@pytest.mark.parametrize("storage", ["uint8", "int8"])
def test_a_quantized_input_holds_the_normalization_of_the_pixels(storage, trained, write_tflite):
    network = trained(mobilenet_v2(4, width_mult=0.35, input_size=64, mean=[0.2] * 3, std=[0.25] * 3))

    tensors = recognize_network(read_tflite(write_tflite(network, storage))).tensors

    assert tensors["normalization.mean"].tolist() == pytest.approx([51 / 255] * 3, abs=1e-6)
    assert tensors["normalization.std"].tolist() == pytest.approx([0.25] * 3, abs=1e-6)


def test_a_float_input_is_taken_to_want_minus_one_to_one(classifier, write_tflite):
    tensors = recognize_network(read_tflite(write_tflite(classifier))).tensors

    assert (tensors["normalization.mean"].tolist(), tensors["normalization.std"].tolist()) == ([0.5] * 3, [0.5] * 3)


def test_a_folded_network_computes_the_same_with_statistics_of_0_and_1(classifier, write_tflite):
    tensors = recognize_network(read_tflite(write_tflite(classifier))).tensors

    assert (tensors["backbone.stem.norm.running_mean"] == 0).all()
    torch.testing.assert_close(tensors["backbone.stem.norm.running_var"] + 1e-3, torch.ones(16))


def first_filters(data: bytearray) -> tflite.Tensor:
    graph = tflite.Model.GetRootAsModel(data, 0).Subgraphs(0)
    return graph.Tensors(graph.Operators(0).Inputs(1))


def test_a_type_that_is_not_understood_is_refused_by_the_tensors_name(classifier, write_tflite):
    data = bytearray(write_tflite(classifier, "int8"))
    table = first_filters(data)._tab
    data[table.Pos + table.Offset(6)] = tflite.TensorType.INT4

    with pytest.raises(ValueError, match="tensor1 has a type that is not understood: number 17"):
        read_tflite(bytes(data))


def test_integers_without_a_scale_are_refused(classifier, write_tflite):
    data = bytearray(write_tflite(classifier, "int8"))
    quantization = first_filters(data).Quantization()._tab
    # The vector's length goes to 0: the integers stand for nothing any more.
    position = quantization.Vector(quantization.Offset(8)) - 4
    data[position : position + 4] = bytes(4)

    with pytest.raises(ValueError, match="expected tensor1 to be floats, or quantized"):
        read_tflite(bytes(data))


def test_as_many_scales_as_zero_points_are_asked_for(classifier, write_tflite):
    data = bytearray(write_tflite(classifier, "int8"))
    quantization = first_filters(data).Quantization()._tab
    data[quantization.Vector(quantization.Offset(10)) - 4] -= 1

    with pytest.raises(ValueError, match="tensor1 has a quantization that is not understood"):
        read_tflite(bytes(data))


def test_flipped_bytes_are_read_or_refused_but_never_crash(classifier, write_tflite):
    data = write_tflite(classifier)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        # The tables stand at the end of the file, behind the filters.
        damaged = bytearray(data)
        for position in (*rng.integers(len(data) - 40_000, len(data), 3), *rng.integers(0, 60, 1)):
            damaged[position] = rng.integers(256)
        try:
            recognize_network(read_tflite(bytes(damaged)))
        except ValueError:
            refused += 1
    assert refused > 10
