import hashlib
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.models import build_network, get_model, load_model
from mobilevision.weights.file import load_backbone, load_network, read_weights, save_weights

FILES = {
    "mobilenet_v2": "mobilenet_v2_1.0_224_quant.tflite",
    "deeplabv3_mobilenet_v2": "deeplabv3_mnv2_pascal_quant.tflite",
    "ssdlite_mobilenet_v2": "ssdlite_mobilenet_v2_person.pb",
}


@pytest.fixture
def weights(shared: Path) -> Path:
    return shared / "weights"


@pytest.mark.parametrize("model", FILES)
def test_a_file_is_known_by_its_content_whatever_its_name(model, weights, tmp_path):
    (tmp_path / "weights.bin").symlink_to(weights / FILES[model])

    assert read_weights(tmp_path / "weights.bin").card.model == model


@pytest.mark.parametrize("model", FILES)
def test_a_network_takes_the_memory_of_what_was_read(model, weights):
    read = read_weights(weights / FILES[model])

    network = build_network(read, weights / FILES[model])

    taken = network.state_dict()
    assert [name for name, tensor in read.tensors.items() if tensor.data_ptr() != taken[name].data_ptr()] == []


def test_a_network_knows_the_hash_of_the_file_it_came_from(weights):
    path = weights / FILES["mobilenet_v2"]

    provenance = read_weights(path).card.provenance

    assert provenance == {"source": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_an_archive_is_read_like_the_graph_in_it(weights, tmp_path):
    with tarfile.open(tmp_path / "zoo.tar.gz", "w:gz") as archive:
        archive.add(weights / FILES["ssdlite_mobilenet_v2"], "ssdlite/frozen_inference_graph.pb")

    archived, plain = read_weights(tmp_path / "zoo.tar.gz"), read_weights(weights / FILES["ssdlite_mobilenet_v2"])

    assert archived.card.options == plain.card.options
    assert all(torch.equal(archived.tensors[name], tensor) for name, tensor in plain.tensors.items())


@torch.inference_mode()
@pytest.mark.parametrize("model", FILES)
def test_a_network_is_the_same_to_the_bit_after_saving_and_loading(model, weights, tmp_path):
    imported = get_model(model, pretrained=weights / FILES[model]).eval()
    save_weights(imported, tmp_path / "own.safetensors")
    loaded = load_model(tmp_path / "own.safetensors").eval()

    assert loaded.options == imported.options
    side = min(imported.input_size, 300)
    images = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    for mine, expected in zip(loaded(images), imported(images), strict=True):
        assert torch.equal(mine, expected)


@torch.inference_mode()
def test_a_classifiers_backbone_starts_a_detector(weights, tmp_path):
    classifier = get_model("mobilenet_v2", pretrained=weights / FILES["mobilenet_v2"]).eval()
    save_weights(classifier, tmp_path / "classifier.safetensors")
    detector = ssdlite_mobilenet_v2(4, padding="tf_same", input_size=128).eval()

    load_backbone(detector, tmp_path / "classifier.safetensors")

    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    pooled = detector.extract_feat(images)[1].mean(dim=(2, 3))
    torch.testing.assert_close(pooled, classifier.extract_feat(images)[0])


@pytest.mark.parametrize("load", [load_backbone, load_network])
def test_another_padding_is_refused_as_it_would_cost_accuracy_in_silence(load, weights):
    with pytest.raises(
        ValueError, match="trained with padding tf_same, this network has symmetric: set padding to tf_s"
    ):
        load(ssdlite_mobilenet_v2(1, preset="tf300"), weights / FILES["ssdlite_mobilenet_v2"])


@pytest.mark.parametrize("model", FILES)
@pytest.mark.parametrize("percent", [1, 20, 60, 99])
def test_a_file_that_was_cut_off_is_refused_in_one_line_that_names_it(model, percent, weights, tmp_path):
    data = (weights / FILES[model]).read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(data[: len(data) * percent // 100])

    with pytest.raises(ValueError, match=f"^{path} cannot be imported: [^\n]+$"):
        read_weights(path)


@pytest.mark.parametrize("content", [b"\n", b"\nhello", bytes(4) + b"TFL3", b"\x1f\x8b", b"\x1f\x8b\x08" + bytes(20)])
def test_a_file_that_only_begins_like_one_is_refused(content, tmp_path):
    (tmp_path / "weights").write_bytes(content)

    with pytest.raises(ValueError, match="weights cannot be imported: "):
        read_weights(tmp_path / "weights")


def test_flipped_bytes_are_read_or_refused_but_never_crash(weights, tmp_path):
    data = (weights / FILES["ssdlite_mobilenet_v2"]).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(10):
        damaged = bytearray(data)
        for position in rng.integers(len(data), size=20):
            damaged[position] = rng.integers(256)
        (tmp_path / "damaged").write_bytes(damaged)
        with suppress(ValueError):
            read_weights(tmp_path / "damaged")
