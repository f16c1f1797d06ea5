import hashlib
import tarfile
from pathlib import Path

import pytest
import torch

from mobilevision.weights.file import read_weights

FILES = {
    "classification": "mobilenet_v2_1.0_224_quant.tflite",
    "segmentation": "deeplabv3_mnv2_pascal_quant.tflite",
    "detection": "ssdlite_mobilenet_v2_person.pb",
}


@pytest.fixture
def weights(shared: Path) -> Path:
    return shared / "weights"


@pytest.mark.parametrize("task", FILES)
def test_a_file_is_known_by_its_content_whatever_its_name(task, weights, tmp_path):
    (tmp_path / "weights.bin").symlink_to(weights / FILES[task])

    assert read_weights(tmp_path / "weights.bin").card.tasks == task


def test_weights_have_the_hash_of_the_file_they_came_from(weights):
    path = weights / FILES["classification"]

    provenance = read_weights(path).card.provenance

    assert provenance == {"source": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_an_archive_is_read_like_the_graph_in_it(weights, tmp_path):
    with tarfile.open(tmp_path / "zoo.tar.gz", "w:gz") as archive:
        archive.add(weights / FILES["detection"], "ssdlite/frozen_inference_graph.pb")

    archived, plain = read_weights(tmp_path / "zoo.tar.gz"), read_weights(weights / FILES["detection"])

    assert archived.card._replace(provenance={}) == plain.card._replace(provenance={})
    assert all(torch.equal(archived.tensors[name], tensor) for name, tensor in plain.tensors.items())


@pytest.mark.parametrize("content", [b"\n", b"\nhello", bytes(4) + b"TFL3", b"\x1f\x8b", b"\x1f\x8b\x08" + bytes(20)])
def test_a_file_that_only_begins_like_one_is_refused(content, tmp_path):
    (tmp_path / "weights").write_bytes(content)

    with pytest.raises(ValueError, match="weights cannot be imported: "):
        read_weights(tmp_path / "weights")
