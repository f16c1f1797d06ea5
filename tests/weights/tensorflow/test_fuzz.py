"""Damaged files of every format are read or refused, and nothing else."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mobilevision.classification import mobilenet_v2
from mobilevision.weights.card import WeightsCard
from mobilevision.weights.file import save_weights

SCRIPT = Path(__file__).parents[3] / "scripts/fuzz_import.py"
NUM_FLIPS = 10


@pytest.fixture
def files(tmp_path, trained, write_graph, write_tflite) -> list[Path]:
    """The smallest network in every format."""
    network = trained(mobilenet_v2(2, width_mult=0.1, padding="tf_same", input_size=32))
    theirs = dict(torchvision_mobilenet_v2(num_classes=2, width_mult=0.1).state_dict())
    graph = write_graph(network)
    (tmp_path / "graph.pb").write_bytes(graph)
    (tmp_path / "floats.tflite").write_bytes(write_tflite(network))
    (tmp_path / "bytes.tflite").write_bytes(write_tflite(network, "uint8"))
    with tarfile.open(tmp_path / "zoo.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("frozen.pb")
        member.size = len(graph)
        archive.addfile(member, io.BytesIO(graph))
    torch.save(theirs, tmp_path / "theirs.pth")
    torch.save(theirs, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(theirs, tmp_path / "theirs.safetensors")
    save_weights(network, tmp_path / "own.safetensors")
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"card": WeightsCard.of(network).to_metadata(), "state_dict": tensors}, tmp_path / "own.ckpt")
    return sorted(tmp_path.iterdir())


def test_damaged_files_are_read_or_refused_in_one_line_within_the_memory_they_may_take(files):
    done = subprocess.run(
        [sys.executable, SCRIPT, *files, "--flips", str(NUM_FLIPS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"{100 + NUM_FLIPS} damaged") == len(files)
