"""Networks written as TensorFlow writes them come back as they were."""

from collections.abc import Callable

import pytest
import torch

from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.models import build_network
from mobilevision.network import Network
from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.weights.tensorflow.frozen import read_frozen_graph
from mobilevision.weights.tensorflow.recognition import recognize_network
from mobilevision.weights.tensorflow.tflite import read_tflite

NETWORKS: dict[str, Callable[[], Network]] = {
    "classifier": lambda: mobilenet_v2(5, padding="tf_same", input_size=96),
    "thin classifier": lambda: mobilenet_v2(
        1001, width_mult=0.35, padding="tf_same", input_size=64, background="first"
    ),
    "wide classifier": lambda: mobilenet_v2(3, width_mult=1.4, padding="tf_same", norm_eps=1e-5, input_size=64),
    "classifier of an unpublished width": lambda: mobilenet_v2(3, width_mult=0.6, padding="tf_same", input_size=64),
    "classifier padded symmetrically": lambda: mobilenet_v2(3, width_mult=0.35, input_size=64),
    "segmenter": lambda: deeplabv3_mobilenet_v2(21, padding="tf_same", input_size=65),
    "fine segmenter": lambda: deeplabv3_mobilenet_v2(2, width_mult=0.5, output_stride=8, input_size=65),
    "segmenter of unrounded channels": lambda: deeplabv3_mobilenet_v2(4, width_mult=0.5, round_to=1, input_size=65),
    "detector": lambda: ssdlite_mobilenet_v2(3, preset="tf300", padding="tf_same", input_size=64),
    "detector of an odd width": lambda: ssdlite_mobilenet_v2(2, preset="tf300", width_mult=0.61, input_size=64),
    "thin detector": lambda: ssdlite_mobilenet_v2(1, preset="tf300", width_mult=0.35, input_size=96),
}


def outputs(network: Network) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    result = network(torch.randint(0, 256, (1, 3, network.input_size, network.input_size), dtype=torch.uint8))
    return result if isinstance(result, tuple) else (result,)


@torch.inference_mode()
@pytest.mark.parametrize("name", NETWORKS)
def test_a_frozen_graph_gives_back_every_tensor_and_option(name, trained, write_graph):
    network = trained(NETWORKS[name]())

    weights = recognize_network(read_frozen_graph(write_graph(network)))

    assert weights.card.backbone == network.backbone.config
    (head,) = weights.card.heads.values()
    assert (head.task, type(network.head.config)(**head.config)) == (network.head.task, network.head.config)
    expected = network.state_dict()
    assert weights.tensors.keys() == expected.keys()
    for key, tensor in weights.tensors.items():
        torch.testing.assert_close(tensor, expected[key], atol=1e-6, rtol=0, msg=key)


@torch.inference_mode()
@pytest.mark.parametrize("name", NETWORKS)
def test_a_tflite_file_gives_back_the_function(name, trained, write_tflite):
    network = trained(NETWORKS[name]())

    imported = build_network(recognize_network(read_tflite(write_tflite(network))), "a test")

    for mine, expected in zip(outputs(imported), outputs(network), strict=True):
        torch.testing.assert_close(mine, expected, atol=2e-4, rtol=1e-4)
