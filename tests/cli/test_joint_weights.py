"""``combine-weights`` and ``split-weights``: heads on one backbone, and taken apart again."""

import pytest
import torch

from mobilevision import get_model, load_model, save_weights


@pytest.fixture
def write(tmp_path):
    """Write the weights of a narrow network."""

    def write(file_name, model, **options):
        save_weights(get_model(model, **{"width_mult": 0.1, **options}), tmp_path / file_name)
        return tmp_path / file_name

    return write


def test_heads_come_apart_and_are_put_together_again(write, run, tmp_path):
    heads = {"classification": {"num_classes": 4}, "detection": {"num_classes": 3, "input_size": 96}}
    joint = write("joint.safetensors", "multitask_mobilenet_v2", heads={**heads, "segmentation": {}})
    assert run("split-weights", joint, "--output", tmp_path / "parts").code == 0
    parts = {task: tmp_path / "parts" / f"{task}.safetensors" for task in heads}
    files = [word for task, path in parts.items() for word in (f"--{task}", path)]
    code, out, err = run("combine-weights", *files, "--output", tmp_path / "again.safetensors")
    assert (code, err) == (0, "")
    assert "classification, detection on the backbone of classification" in out
    first, again = load_model(joint), load_model(tmp_path / "again.safetensors")
    assert list(again.heads) == ["classification", "detection"]
    tensors = first.state_dict()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in again.state_dict().items())
    image = torch.rand(1, 3, 96, 96)
    alone, together = load_model(parts["detection"])(image), again(image)["detection"]
    assert torch.equal(alone.logits, together.logits)


def test_two_detectors_are_put_on_one_backbone_under_names_of_their_own(write, run, tmp_path):
    files = [
        write(f"{count}.safetensors", "ssdlite_mobilenet_v2", num_classes=count, input_size=96) for count in (2, 3)
    ]
    options = ("--head", "cars", files[0], "--head", "signs", files[1], "--backbone", "signs")
    code, out, err = run("combine-weights", *options, "--output", tmp_path / "both.safetensors")
    assert (code, err) == (0, "")
    assert "cars, signs on the backbone of signs" in out
    network = load_model(tmp_path / "both.safetensors")
    assert {name: head.num_classes for name, head in network.named_heads.items()} == {"cars": 2, "signs": 3}
    image = torch.rand(1, 3, 96, 96)
    torch.testing.assert_close(network(image)["signs"], load_model(files[1])(image))
    assert run("split-weights", tmp_path / "both.safetensors", "--output", tmp_path).code == 0
    torch.testing.assert_close(load_model(tmp_path / "cars.safetensors")(image), network(image)["cars"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("combine-weights", "--detection", "{detector}"), "two or more of --classification, --detection, --segmentat"),
        (
            ("combine-weights", "--detection", "{detector}", "--segmentation", "{wide}"),
            "must have one width_mult, got 0.1",
        ),
        (("split-weights", "{detector}"), "expected weights with several heads, got detection"),
    ],
)
def test_what_cannot_be_combined_is_one_line(arguments, message, write, run, tmp_path):
    detector = write("detector.safetensors", "ssdlite_mobilenet_v2", num_classes=2)
    wide = write("wide.safetensors", "deeplabv3_mobilenet_v2", width_mult=0.2)
    code, out, err = run(*(argument.format(detector=detector, wide=wide) for argument in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
