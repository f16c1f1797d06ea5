import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mobilevision.backbone.image_network import ImageNetwork
from safetensors.torch import save_file
from torch import Tensor, nn

from mobilevision.backbone import MobileNetV2, Normalization
from mobilevision.weights.card import WeightsCard
from mobilevision.weights.file import load_backbone, load_network, read_weights, save_weights


class Tiny(ImageNetwork):
    def __init__(self, num_classes: int = 3, width_mult: float = 0.1, name: str = "tiny", mean: float = 0.5) -> None:
        options = {"num_classes": num_classes, "width_mult": width_mult}
        backbone = MobileNetV2(width_mult=width_mult, last=name != "headless")
        super().__init__(backbone, Normalization([mean] * 3), input_size=32, model_name=name, options=options)
        self.classifier = nn.Linear(4, num_classes)

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.backbone(self.normalization(images))["last"],)


def write_checkpoint(network: ImageNetwork, path: Path) -> None:
    """Write what Lightning writes of a task whose network this is."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()} | {"metric": torch.ones(1)}
    torch.save({"state_dict": tensors, "card": WeightsCard.of(network).to_metadata(), "epoch": 3}, path)


def same(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("write", [save_weights, write_checkpoint])
def test_a_network_comes_back_bit_for_bit_with_its_class_names(write, tmp_path: Path) -> None:
    network, other = Tiny(mean=0.4).to(memory_format=torch.channels_last), Tiny()
    network.class_names = ("cat", "Käfer", "犬")
    write(network, tmp_path / "tiny.weights")
    load_network(other, tmp_path / "tiny.weights")
    assert same(network, other)
    assert other.class_names == network.class_names


def test_a_file_says_what_it_holds_and_where_it_is_from(tmp_path: Path) -> None:
    save_weights(Tiny(), tmp_path / "tiny.safetensors", source="a test", licence="Apache-2.0")
    card = read_weights(tmp_path / "tiny.safetensors").card
    assert card.model == "tiny"
    assert card.options == {"num_classes": 3, "width_mult": 0.1}
    assert card.provenance == {"source": "a test", "licence": "Apache-2.0"}


def test_the_averages_of_the_norms_and_the_pixels_normalisation_are_in_the_file(tmp_path: Path) -> None:
    network = Tiny()
    save_weights(network, tmp_path / "tiny.safetensors")
    tensors = read_weights(tmp_path / "tiny.safetensors").tensors
    assert {"normalization.mean", "normalization.std", "backbone.stem.norm.running_var"} <= tensors.keys()
    assert tensors.keys() == network.state_dict().keys()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"weights file not found: .*nothing\.safetensors"):
        read_weights(tmp_path / "nothing.safetensors")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="weights file not found"):
        read_weights(tmp_path)


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=path.name) as caught:
        read_weights(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"{}", b"\x00" * 64, b"GIF89a", "Ä".encode() * 9])
def test_what_is_no_weights_file_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "strange.safetensors"
    path.write_bytes(content)
    refused(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    save_weights(Tiny(), folder / "safetensors")
    write_checkpoint(Tiny(), folder / "ckpt")
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "ckpt"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_off_anywhere_is_refused_in_one_line(
    kind: str, share: float, whole: Path, tmp_path: Path
) -> None:
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


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"card": WeightsCard.of(Tiny()).to_metadata(), "state_dict": Touch(tmp_path / "ran")}, path)
    assert "it is refused: it holds more than tensors and plain values" in refused(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("legacy", [pickle.dumps({"a": 1}), pickle.dumps({"a": 1}, protocol=0)])
def test_a_bare_pickle_is_refused(legacy: bytes, tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    path.write_bytes(legacy)
    refused(path)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.ones(3), {"card": 5, "state_dict": {}}])
def test_a_checkpoint_of_another_program_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    refused(path)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    refused(path)


def test_safetensors_of_another_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata={"format": "pt"})
    assert "does not carry a description of this library" in refused(path)


def test_another_model_is_refused_by_both_names(tmp_path: Path) -> None:
    save_weights(Tiny(name="large"), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors holds large, this network is tiny"):
        load_network(Tiny(), tmp_path / "a.safetensors")


def test_another_class_count_is_refused_by_both_counts(tmp_path: Path) -> None:
    save_weights(Tiny(num_classes=5), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors has 5 classes, this network has 3"):
        load_network(Tiny(), tmp_path / "a.safetensors")


def test_another_width_is_refused_and_the_network_stays_as_it_was(tmp_path: Path) -> None:
    save_weights(Tiny(width_mult=0.5), tmp_path / "a.safetensors")
    network, before = Tiny(), Tiny()
    before.load_state_dict(network.state_dict())
    for load in (load_network, load_backbone):
        with pytest.raises(ValueError, match=r"a\.safetensors does not fit: .* another width"):
            load(network, tmp_path / "a.safetensors")
    assert same(network, before)


def test_a_backbone_is_taken_from_a_network_with_other_heads_and_classes(tmp_path: Path) -> None:
    source, target = Tiny(num_classes=7, name="large", mean=0.4), Tiny()
    classifier = target.classifier.weight.clone()
    save_weights(source, tmp_path / "a.safetensors")
    load_backbone(target, tmp_path / "a.safetensors")
    assert same(source.backbone, target.backbone)
    assert same(source.normalization, target.normalization)
    assert torch.equal(target.classifier.weight, classifier)


@pytest.mark.parametrize("names", [("tiny", "headless"), ("headless", "tiny")])
def test_the_last_convolution_is_left_out_where_either_side_lacks_it(names: tuple[str, str], tmp_path: Path) -> None:
    source, target = Tiny(name=names[0]), Tiny(name=names[1])
    save_weights(source, tmp_path / "a.safetensors")
    load_backbone(target, tmp_path / "a.safetensors")
    assert same(source.backbone.stem, target.backbone.stem)
    assert same(source.backbone.stages, target.backbone.stages)


def test_a_backbone_from_a_file_that_lacks_a_stage_is_refused(tmp_path: Path) -> None:
    source = Tiny()
    del source.backbone.stages["stage7"]
    save_weights(source, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors does not fit: .* first backbone\.stages\.stage7"):
        load_backbone(Tiny(), tmp_path / "a.safetensors")


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path) -> None:
    network = Tiny()
    network.options["width_mult"] = object()
    with pytest.raises(TypeError):
        save_weights(network, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_another_program_can_read_the_file_as_plain_safetensors(tmp_path: Path) -> None:
    save_weights(Tiny(), tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"]["format"] == "mobilevision"
    assert header["classifier.weight"] == {
        "dtype": "F32",
        "shape": [3, 4],
        "data_offsets": header["classifier.weight"]["data_offsets"],
    }
