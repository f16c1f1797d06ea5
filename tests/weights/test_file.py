import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mobilevision.classification import mobilenet_v2
from mobilevision.models import get_model, load_model
from mobilevision.network import Network
from mobilevision.weights.card import WeightsCard
from mobilevision.weights.file import read_weights, save_weights


def tiny(num_classes: int = 3, **options) -> Network:
    return mobilenet_v2(num_classes, width_mult=0.05, input_size=32, **options)


def write_checkpoint(network: Network, path: Path) -> None:
    """Write what Lightning writes of a task whose network this is."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()} | {"metric": torch.ones(1)}
    torch.save({"state_dict": tensors, "card": WeightsCard.of(network).to_metadata(), "epoch": 3}, path)


@pytest.mark.parametrize("write", [save_weights, write_checkpoint])
def test_a_network_comes_back_with_its_class_names_and_the_normalization_of_its_pixels(write, tmp_path):
    network = tiny(mean=[0.4] * 3)
    network.head.class_names = ("cat", "Käfer", "犬")
    write(network, tmp_path / "tiny.weights")

    tensors, card = read_weights(tmp_path / "tiny.weights")

    expected = network.state_dict()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())
    assert card.heads["classification"].class_names == network.head.class_names
    assert WeightsCard.of(load_model(tmp_path / "tiny.weights")) == WeightsCard.of(network)


def test_a_file_holds_where_it_is_from(tmp_path):
    save_weights(tiny(), tmp_path / "tiny.safetensors", source="a test", licence="Apache-2.0")
    assert read_weights(tmp_path / "tiny.safetensors").card.provenance == {"source": "a test", "licence": "Apache-2.0"}


@pytest.mark.parametrize("name", ["nothing.safetensors", ""])
def test_a_missing_file_and_a_folder_are_no_weights_files(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"weights file not found: .*{name}"):
        read_weights(tmp_path / name)


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=path.name) as caught:
        read_weights(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


BARE_PICKLES = [pickle.dumps({"a": 1}), pickle.dumps({"a": 1}, protocol=0)]
STRANGE = [b"", b"PK\x03\x04", b"{}", b"\x00" * 64, b"GIF89a", "Ä".encode() * 9, *BARE_PICKLES]


@pytest.mark.parametrize("content", STRANGE)
def test_another_file_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "strange.safetensors"
    path.write_bytes(content)
    refused(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    save_weights(tiny(), folder / "safetensors")
    write_checkpoint(tiny(), folder / "ckpt")
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "ckpt"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_off_anywhere_is_refused_in_one_line(kind, share, whole, tmp_path):
    data = (whole / kind).read_bytes()
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(data[: int(len(data) * share)])
    refused(path)


class Touch:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(tmp_path):
    path = tmp_path / "evil.ckpt"
    torch.save({"card": WeightsCard.of(tiny()).to_metadata(), "state_dict": Touch(tmp_path / "ran")}, path)
    assert "it is refused: it holds more than tensors and plain values" in refused(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.ones(3), {"card": 5, "state_dict": {}}])
def test_a_checkpoint_of_another_program_is_refused(content, tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    refused(path)


def test_a_zip_and_safetensors_of_something_else_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    refused(tmp_path / "other.zip")
    save_file(
        {"weight": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"format": "mobilevision", "version": "9"}
    )
    assert "got mobilevision in version 9" in refused(tmp_path / "a.safetensors")


def test_a_file_that_lacks_a_tensor_is_refused(tmp_path):
    network = tiny()
    del network.backbone.stages["stage7"]
    save_weights(network, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors does not fit: .* first backbone\.stages\.stage7"):
        get_model("mobilenet_v2", pretrained=tmp_path / "a.safetensors")


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path):
    with pytest.raises(TypeError):
        save_weights(tiny(), tmp_path / "a.safetensors", source=object())
    assert list(tmp_path.iterdir()) == []


def test_another_program_can_read_the_file_as_plain_safetensors(tmp_path):
    save_weights(tiny(), tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert (header["__metadata__"]["format"], header["__metadata__"]["version"]) == ("mobilevision", "2")
    bias = header["heads.classification.linear.bias"]
    assert (bias["dtype"], bias["shape"]) == ("F32", [3])
