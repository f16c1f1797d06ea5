import json

import pytest
from safetensors import safe_open

from mobilevision.cli import main
from mobilevision.models import load_model


@pytest.fixture
def source(shared):
    return shared / "weights/mobilenet_v2_1.0_224_quant.tflite"


def test_a_foreign_file_becomes_one_of_this_library_with_its_provenance(source, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"class {index}" for index in range(1000)) + "\n")
    output = tmp_path / "classifier.safetensors"
    arguments = ["--drop-background", "--class-names", str(names), "--output", str(output)]

    assert main(["import-weights", str(source), *arguments]) == 0

    printed = capsys.readouterr().out
    assert "classification for 224x224 pixels: num_classes 1000, output_stride 32" in printed
    assert "backbone: width_mult 1.0, padding tf_same" in printed
    network = load_model(output)
    assert network.head.class_names[:2] == ("class 0", "class 1")
    assert network.head.linear.out_features == 1000
    with safe_open(output, "pt") as file:
        assert json.loads(file.metadata()["provenance"])["source"] == source.name


def test_without_an_output_the_file_lands_in_the_current_folder(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert main(["import-weights", str(source)]) == 0

    assert [path.name for path in tmp_path.iterdir()] == ["mobilenet_v2_1.0_224_quant.safetensors"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\nno graph", "neither a format that is known nor a frozen TensorFlow graph"),
        (b"text", "is not a weights file"),
    ],
)
def test_what_is_no_network_is_one_line_and_nothing_written(content, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pb").write_bytes(content)

    assert main(["import-weights", "model.pb"]) == 2

    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "model.pb" in error
    assert reason in error
    assert [path.name for path in tmp_path.iterdir()] == ["model.pb"]


def test_the_wrong_number_of_names_is_refused(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("cat\ndog\n")

    assert main(["import-weights", str(source), "--class-names", "names.txt"]) == 2
    assert "class_names must be 1001" in capsys.readouterr().err
