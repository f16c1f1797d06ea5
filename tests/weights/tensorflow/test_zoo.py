"""TensorFlow's published archives, served by this machine as their publishers pack them."""

import io
import tarfile

import pytest
import torch

from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.models import load_model
from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.weights.zoo import COCO_NAMES, IMAGENET_NAMES, VOC_NAMES, ZOO


def pack(graph: bytes, folder: str) -> bytes:
    """Pack a frozen graph as its publishers do: between checkpoints and what belongs to them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in (
            ("model.ckpt.data-00000-of-00001", bytes(range(256)) * 40),
            ("model.ckpt.index", b"index"),
            ("frozen.pb", graph),
            ("checkpoint", b"model_checkpoint_path"),
        ):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


NETWORKS = {
    "mobilenet_v2_0.35_96": (
        lambda: mobilenet_v2(1001, width_mult=0.35, padding="tf_same", input_size=96),
        {"background": "first", "eval_crop": "central", "input_size": 96, "num_classes": 1001},
        ("background", *IMAGENET_NAMES),
    ),
    "ssdlite_mobilenet_v2_coco": (
        lambda: ssdlite_mobilenet_v2(90, preset="tf300", padding="tf_same", width_mult=0.35, input_size=64),
        {"input_size": 300, "num_classes": 80},
        COCO_NAMES,
    ),
    "deeplabv3_mnv2_dm05_pascal_trainaug": (
        lambda: deeplabv3_mobilenet_v2(width_mult=0.5, round_to=1, padding="tf_same", output_stride=8, input_size=65),
        # The graph runs at 8, the figure was measured at 16: the weights are the same.
        {"output_stride": 16, "input_size": 513, "num_classes": 21},
        VOC_NAMES,
    ),
}


@pytest.fixture
def publish(server, hub, write_graph, monkeypatch):
    """Put a network on the server under an entry's name."""

    def publish(name, network):
        entry = ZOO[name]
        server.files[entry.file_name] = pack(write_graph(network), name)
        monkeypatch.setitem(ZOO, name, entry._replace(url=f"{server.url}/{entry.file_name}"))
        return entry

    return publish


@pytest.mark.parametrize("name", NETWORKS)
def test_an_archive_is_fetched_read_and_described(name, publish, trained, hub):
    build, options, class_names = NETWORKS[name]
    network = trained(build())
    entry = publish(name, network)

    loaded = load_model(name)

    assert {option: getattr(loaded.head.config, option) for option in options} == options
    assert loaded.head.task == entry.task
    assert loaded.head.class_names == class_names
    assert loaded.backbone.config == network.backbone.config
    torch.testing.assert_close(loaded.backbone.stem.conv.weight, network.backbone.stem.conv.weight)
    assert {path.name for path in hub.iterdir()} == {entry.file_name, f"{entry.file_name}.sha256"}
