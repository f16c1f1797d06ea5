"""``import-weights``: files of other programs in, files of this library or of torchvision out."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mobilevision import get_model, load_model, save_weights


@pytest.fixture
def source(shared):
    return shared / "weights/mobilenet_v2_1.0_224_quant.tflite"


@pytest.fixture
def foreign(tmp_path):
    """A checkpoint of torchvision's, of seven classes."""
    path = tmp_path / "foreign.pth"
    torch.save(torchvision_mobilenet_v2(num_classes=7, width_mult=0.1).state_dict(), path)
    return path


def test_a_foreign_file_becomes_one_of_this_library_with_its_provenance(source, run, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"class {index}" for index in range(1000)) + "\n")
    output = tmp_path / "classifier.safetensors"

    code, out, err = run("import-weights", source, "--drop-background", "--class-names", names, "--output", output)

    assert (code, err) == (0, "")
    assert "classification for 224x224 pixels: num_classes 1000, output_stride 32" in out
    assert "backbone: width_mult 1.0, padding tf_same" in out
    network = load_model(output)
    assert network.head.class_names[:2] == ("class 0", "class 1")
    assert network.head.linear.out_features == 1000
    with safe_open(output, "pt") as file:
        assert json.loads(file.metadata()["provenance"])["source"] == source.name


def test_without_an_output_the_file_is_written_to_the_current_folder(foreign, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert run("import-weights", foreign).code == 0

    assert {path.name for path in tmp_path.iterdir()} == {"foreign.pth", "foreign.safetensors"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\nno graph", "neither a format that is known nor a frozen TensorFlow graph"),
        (b"text", "is not a weights file"),
    ],
)
def test_what_is_no_network_is_one_line_and_nothing_written(content, reason, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pb").write_bytes(content)

    code, out, err = run("import-weights", "model.pb")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "model.pb" in err
    assert reason in err
    assert [path.name for path in tmp_path.iterdir()] == ["model.pb"]


def test_the_wrong_number_of_names_is_refused(foreign, run, tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")

    code, _, err = run("import-weights", foreign, "--class-names", tmp_path / "names.txt")

    assert code == 2
    assert "class_names must be 7" in err


def test_a_network_goes_back_to_torchvision(foreign, run, tmp_path):
    for name in ("back.safetensors", "back.pth"):
        assert run("import-weights", foreign, "--to", "torchvision", "--output", tmp_path / name).code == 0

    theirs = torch.load(foreign, weights_only=True)
    for back in (load_file(tmp_path / "back.safetensors"), torch.load(tmp_path / "back.pth", weights_only=True)):
        assert all(torch.equal(back[name], tensor) for name, tensor in theirs.items())


def test_a_background_is_where_the_command_states_it(foreign, run, tmp_path):
    options = ("--background", "last", "--drop-background", "--output", tmp_path / "out.safetensors")

    assert "num_classes 6" in run("import-weights", foreign, *options).out


def test_some_of_a_files_own_classes_are_kept_by_name(run, tmp_path):
    network = get_model("mobilenet_v2", num_classes=3, width_mult=0.1)
    network.head.class_names = ("cat", "dog", "owl")
    save_weights(network, tmp_path / "three.safetensors")
    (tmp_path / "names.txt").write_text("owl\ncat\n")
    arguments = ("import-weights", tmp_path / "three.safetensors", "--class-names", tmp_path / "names.txt")

    assert run(*arguments, "--output", tmp_path / "two.safetensors").code == 0

    kept = load_model(tmp_path / "two.safetensors").head
    assert kept.class_names == ("owl", "cat")
    assert torch.equal(kept.linear.weight, network.head.linear.weight[[2, 0]])
