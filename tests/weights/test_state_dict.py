"""Checkpoints of other PyTorch programs compute what torchvision computes on the same tensors."""

import json
import zipfile
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from mobilevision.backbone.mobilenet_v2 import BackboneConfig
from mobilevision.backbone.normalization import IMAGENET_MEAN, IMAGENET_STD
from mobilevision.classification import mobilenet_v2
from mobilevision.models import load_model
from mobilevision.segmentation import deeplabv3_mobilenet_v2
from mobilevision.weights.card import HeadCard, Weights
from mobilevision.weights.file import read_weights
from mobilevision.weights.layout import background_option
from mobilevision.weights.loading import load_backbone
from mobilevision.weights.state_dict import recognize_state_dict

PROGRAMS = ("torchvision", "timm", "mmpretrain", "huggingface")
CONFIG = {"tf_padding": False, "layer_norm_eps": 1e-5, "depth_multiplier": 0.35, "image_size": 96}
"""A configuration of transformers with which it computes what torchvision does."""


def normalize(images, program):
    if program == "huggingface":
        return images * 2 - 1
    return (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


@pytest.fixture
def write(tmp_path):
    """Write tensors as a program does, in a folder of their own."""

    def write(tensors, suffix=".pth", config=None, **how):
        path = tmp_path / f"weights{suffix}"
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        if suffix == ".safetensors":
            save_file(tensors, path, metadata={"format": "pt"})
        else:
            torch.save(tensors, path, **how)
        return path

    return write


@torch.inference_mode()
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_logits_are_torchvisions(program, suffix, reference, state_dicts, write):
    path = write(state_dicts[program], suffix, config=CONFIG if program == "huggingface" else None)

    network = load_model(path).eval()

    images = torch.rand(2, 3, 96, 96)
    assert (network.backbone.config.width_mult, network.head.num_classes) == (0.35, 5)
    torch.testing.assert_close(network(images), reference(normalize(images, program)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("width", [0.5, 0.75, 1.3, 1.4, 1.0])
def test_every_width_and_class_count_of_torchvision_is_found(width):
    with torch.device("meta"):
        tensors = torchvision_mobilenet_v2(num_classes=7, width_mult=width).state_dict()

    card = recognize_state_dict({name: torch.empty_like(tensor, device="cpu") for name, tensor in tensors.items()}).card

    assert card.backbone == BackboneConfig(width_mult=width, norm_eps=1e-5)
    assert card.heads == {"classification": HeadCard("classification", {"num_classes": 7, "input_size": 224})}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: {"state_dict": tensors, "epoch": 3, "arch": "mobilenet_v2"},
        lambda tensors: {"model": tensors},
        lambda tensors: {"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}},
        lambda tensors: {"meta": {"epoch": 1}, "state_dict": {"model": tensors}},
        lambda tensors: {"my_network": tensors, "optimizer": {"state": {0: torch.ones(3)}, "param_groups": []}},
        lambda tensors: {"model": {f"model.module.net.{name}": tensor for name, tensor in tensors.items()}},
        lambda tensors: {
            "model": tensors,
            "args": Namespace(lr=0.1, root=Path("data"), nested=SimpleNamespace(a=1)),
            "best": np.float64(0.5),
            "epoch": np.int64(3),
            "curve": np.ones(3),
            "random": np.random.RandomState(0).get_state(),
        },
        lambda tensors: {
            "model": {name: tensor * 0 for name, tensor in tensors.items()},
            "model_ema": {"n_averaged": torch.tensor(3)}
            | {f"module.{name}": tensor for name, tensor in tensors.items()},
        },
        lambda tensors: {
            "state_dict": {name: tensor * 0 for name, tensor in tensors.items()},
            "state_dict_ema": tensors,
        },
    ],
)
def test_tensors_are_found_in_what_programs_wrap_around_them_and_averages_go_first(wrap, state_dicts, write):
    bare = state_dicts["torchvision"]

    tensors = read_weights(write(wrap(bare))).tensors

    assert torch.equal(tensors["heads.classification.linear.weight"], bare["classifier.1.weight"])


def test_files_from_before_the_zip_format_are_read(state_dicts, write):
    path = write(state_dicts["torchvision"], _use_new_zipfile_serialization=False)

    assert read_weights(path).card.tasks == "classification"


def test_halves_become_floats(state_dicts, write):
    halves = {name: tensor.half() for name, tensor in state_dicts["timm"].items()}

    assert read_weights(write(halves)).tensors["backbone.stem.conv.weight"].dtype == torch.float32


def test_weights_have_their_provenance_and_the_normalization_of_their_pixels(state_dicts, write):
    tensors, card = read_weights(write(state_dicts["mmpretrain"]))

    assert card.provenance["source"] == "weights.pth"
    assert len(card.provenance["sha256"]) == 64
    torch.testing.assert_close(tensors["normalization.mean"], torch.tensor(IMAGENET_MEAN))
    torch.testing.assert_close(tensors["normalization.std"], torch.tensor(IMAGENET_STD))
    assert (card.backbone.padding, card.backbone.norm_eps) == ("symmetric", 1e-5)


@pytest.mark.parametrize(("width", "depth"), [(1.1, 1.2), (1.2, 1.4)])
def test_timms_deeper_networks_are_built_with_their_depth(width, depth, as_timm):
    network = mobilenet_v2(3, width_mult=width, depth_mult=depth, fixed_ends=True, norm_eps=1e-5)

    tensors, card = recognize_state_dict(as_timm(network))

    assert card.backbone == network.backbone.config
    assert tensors.keys() == network.state_dict().keys()
    last = "backbone.stages.stage4.4.project.conv.weight"
    assert torch.equal(tensors[last], network.state_dict()[last])


def test_timms_configuration_holds_size_and_crop(state_dicts, write):
    stated = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.25], "input_size": [3, 160, 160], "crop_pct": 0.95}

    tensors, card = read_weights(write(state_dicts["timm"], config={"pretrained_cfg": stated}))

    assert tensors["normalization.std"].tolist() == [0.5, 0.5, 0.25]
    config = card.heads["classification"].config
    assert (config["input_size"], config["crop_share"]) == (160, 0.95)


def test_a_normalization_of_nothing_is_refused(state_dicts, write):
    config = {"pretrained_cfg": {"std": [0.5, 0.5, 0.0]}}

    with pytest.raises(ValueError, match=r"weights\.pth .* std above 0, got .*0\.0"):
        read_weights(write(state_dicts["timm"], config=config))


def test_of_a_detector_the_backbone_is_read_and_no_head(detector_state_dict, write, reference):
    path = write({"state_dict": detector_state_dict})

    tensors, card = read_weights(path)

    assert torch.equal(tensors["backbone.stem.conv.weight"], reference.features[0][0].weight)
    assert card.backbone == BackboneConfig(width_mult=0.35, norm_eps=1e-3)
    assert card.heads == {}
    with pytest.raises(ValueError, match=r"weights\.pth holds a backbone alone: start a network"):
        load_model(path)


def test_a_segmenter_of_transformers_is_the_same_network(as_huggingface, write):
    network = deeplabv3_mobilenet_v2(4, width_mult=0.5, padding="tf_same", input_size=65, output_stride=8)
    names = ("background", "cat", "dog", "owl")
    labels = {str(label): name for label, name in enumerate(names)}
    config = {"output_stride": 8, "image_size": 65, "depth_multiplier": 0.5, "id2label": labels}

    tensors, card = read_weights(write(as_huggingface(network), ".safetensors", config=config))

    assert card.backbone == network.backbone.config
    options = {"num_classes": 4, "input_size": 65, "output_stride": 8, "head_norm_eps": 1e-5}
    assert card.heads == {"segmentation": HeadCard("segmentation", options, names)}
    expected = network.state_dict()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())


def test_a_last_convolution_that_is_narrowed_too_is_found(as_timm):
    network = mobilenet_v2(3, width_mult=0.5, scale_last=True)

    backbone = recognize_state_dict(as_timm(network)).card.backbone

    assert (backbone.width_mult, backbone.scale_last) == (0.5, True)
    assert network.head.linear.in_features == 640


@pytest.mark.parametrize(
    ("num_classes", "names", "expected"),
    [
        (1001, (), "first"),
        (1000, (), None),
        (5, (), None),
        (2, ("Background", "cat"), "first"),
        (2, ("cat", "background"), "last"),
        (2, ("cat", "dog"), None),
        (1001, ("background",), "first"),
    ],
)
def test_a_background_is_known_by_its_name_or_by_the_count(num_classes, names, expected):
    assert background_option(num_classes, names) == {"background": expected}


def test_transformers_configuration_holds_names_background_and_crop(state_dicts):
    names = ("background", "a", "b", "c", "d")
    config = CONFIG | {"id2label": {str(label): name for label, name in enumerate(names)}}

    head = recognize_state_dict(state_dicts["huggingface"], config).card.heads["classification"]

    assert head.class_names == names
    assert head.config == {
        "num_classes": 5,
        "input_size": 96,
        "output_stride": 32,
        "background": "first",
        "crop_share": 96 / 128,
    }


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"first_layer_is_expansion": False}, "expected first_layer_is_expansion True in its config.json, found False"),
        ({"hidden_act": "relu"}, "expected hidden_act relu6 in its config.json, found relu"),
        ({"model_type": "mobilenet_v1"}, "expected model_type mobilenet_v2"),
        ({"image_size": float("inf")}, "cannot convert float infinity to integer"),
        ({"image_size": -32}, "division by zero"),
        ({"layer_norm_eps": "small"}, "could not convert string to float"),
    ],
)
def test_a_configuration_that_is_not_understood_is_refused(stated, message, state_dicts, write):
    with pytest.raises(ValueError, match=message):
        read_weights(write(state_dicts["huggingface"], config=CONFIG | stated))


def test_transformers_tensors_without_their_configuration_are_refused(state_dicts, write):
    with pytest.raises(ValueError, match=r"its config\.json must lie beside it"):
        read_weights(write(state_dicts["huggingface"], ".safetensors"))


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, "\xff"])
def test_a_damaged_configuration_is_refused_by_its_name(text, state_dicts, write, tmp_path):
    path = write(state_dicts["timm"])
    (tmp_path / "config.json").write_text(text, encoding="latin-1")

    with pytest.raises(ValueError, match=r"config\.json is no configuration"):
        read_weights(path)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_missing_tensor_is_named(program, state_dicts, write):
    tensors = state_dicts[program]
    name = next(reversed([name for name in tensors if name.endswith("running_var")]))
    del tensors[name]

    with pytest.raises(ValueError, match=f"it has no tensor {name}"):
        read_weights(write(tensors, config=CONFIG))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda weight: weight[0], "expected features.0.0.weight to be floats of 4 dimensions, found"),
        (lambda weight: weight.long(), "expected features.0.0.weight to be floats of 4 dimensions, found torch.int64"),
        (lambda weight: weight[:5], r"features.0.0 has 5 filters and 16 values in features.0.1.weight"),
        (lambda weight: weight.new_ones(1).expand(16, 3, 3000, 3000), "its tensors would take"),
        (lambda weight: weight.to_sparse(), "expected features.0.0.weight to be a dense tensor"),
    ],
)
def test_a_tensor_of_another_form_is_refused(damage, message, state_dicts, write):
    tensors = state_dicts["torchvision"]
    tensors["features.0.0.weight"] = damage(tensors["features.0.0.weight"])

    with pytest.raises(ValueError, match=message):
        read_weights(write(tensors))


def test_channels_that_no_width_gives_are_refused(state_dicts, write):
    tensors = state_dicts["torchvision"]
    for name in [name for name in tensors if name.startswith("features.0.")]:
        if tensors[name].ndim:
            tensors[name] = tensors[name][:8]

    with pytest.raises(ValueError, match="no width of MobileNetV2 has stages of 8, 8, 8, 16"):
        read_weights(write(tensors))


@pytest.mark.parametrize("name", ["features.1.block.0.0.weight", "layer1.0.conv1.weight"])
def test_another_network_is_refused_by_a_name_of_its_tensors(name, write):
    with pytest.raises(ValueError, match=f"not those of a MobileNetV2 of .* the first is {name}"):
        read_weights(write({name: torch.ones(3)}))


def test_another_network_of_timms_is_refused(state_dicts, write):
    with pytest.raises(ValueError, match=r"MobileNetV2 has no blocks\.1\.0\.se\.conv_reduce\.weight"):
        read_weights(write(state_dicts["timm"] | {"blocks.1.0.se.conv_reduce.weight": torch.ones(1)}))


@pytest.mark.parametrize(("program", "name"), [("torchvision", "classifier.1.weight"), ("timm", "classifier.bias")])
def test_a_missing_classifier_is_named(program, name, state_dicts, write):
    tensors = state_dicts[program]
    del tensors[name]

    with pytest.raises(ValueError, match=f"it has no tensor {name}"):
        read_weights(write(tensors))


def test_a_checkpoint_whose_parts_unpack_to_far_more_than_it_is_is_refused(state_dicts, write, tmp_path):
    path = write(state_dicts["torchvision"])
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))
        bomb.writestr("archive/data/bomb", bytes(50_000_000))

    with pytest.raises(ValueError, match=r"bomb\.pth .* its parts are compressed, which torch\.save does not do"):
        read_weights(tmp_path / "bomb.pth")


def tensors_of(names):
    return {name: torch.ones(3) for name in names}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("unknown", ["classifier.4.weight", "fc.weight", "segmentation_head.bias"])
def test_unknown_tensors_leave_the_backbone_alone_and_are_named(program, unknown, state_dicts, write):
    path = write(state_dicts[program] | tensors_of([unknown]), config=CONFIG if program == "huggingface" else None)

    tensors, card = read_weights(path)

    assert card.heads == {}
    assert unknown in card.provenance["unknown"]
    assert not any(name.startswith("heads.") for name in tensors)
    with pytest.raises(ValueError, match=rf"weights\.pth holds a backbone alone: .*; unknown beside it: .*{unknown}"):
        load_model(path)
    report = load_backbone(
        mobilenet_v2(2, width_mult=0.35, norm_eps=1e-5, padding="symmetric"), Weights(tensors, card), path
    )
    assert unknown in report.unexpected


def test_a_classifier_of_several_layers_is_not_taken_for_its_first(state_dicts, write):
    tensors = state_dicts["torchvision"]
    tensors |= {"classifier.1.weight": torch.ones(256, 1280), "classifier.1.bias": torch.ones(256)}
    tensors |= {"classifier.3.weight": torch.ones(3, 256), "classifier.3.bias": torch.ones(3)}

    card = read_weights(write(tensors)).card

    assert card.heads == {}
    assert card.provenance["unknown"] == (
        "classifier.1.weight, classifier.1.bias, classifier.3.weight, classifier.3.bias"
    )


@pytest.mark.parametrize("prefix", ["backbone.", "model.module.", "net.encoder."])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_backbone_under_any_prefix_and_head_is_read(program, prefix, state_dicts):
    config = CONFIG if program == "huggingface" else None
    bare = {
        name: tensor for name, tensor in state_dicts[program].items() if not name.startswith(("classifier", "head"))
    }
    named = {prefix + name: tensor for name, tensor in bare.items()}

    alone = recognize_state_dict(bare, config)
    beside = recognize_state_dict(named | {"decoder.weight": torch.ones(3)}, config)

    assert alone.card.heads == beside.card.heads == {}
    assert alone.tensors.keys() == beside.tensors.keys()
    assert (alone.card.provenance, beside.card.provenance) == ({}, {"unknown": "decoder.weight"})


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_torchvisions_features_alone_are_a_backbone(prefix, state_dicts):
    tensors = state_dicts["torchvision"]
    bare = {name.replace("features.", prefix): tensor for name, tensor in tensors.items() if "features" in name}

    weights = recognize_state_dict(bare)

    assert weights.card.heads == {}
    assert torch.equal(weights.tensors["backbone.last.conv.weight"], tensors["features.18.0.weight"])


def test_several_networks_in_one_file_are_refused(state_dicts):
    tensors = state_dicts["torchvision"]
    twice = {f"{prefix}{name}": tensor for prefix in ("student.", "teacher.") for name, tensor in tensors.items()}

    with pytest.raises(ValueError, match=r"it holds 2 networks, student\., teacher\.: keep the tensors of one"):
        recognize_state_dict(twice)


def test_code_beside_the_tensors_is_refused_and_not_run(state_dicts, write, tmp_path):
    class Touch:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    with pytest.raises(ValueError, match="it is refused: it holds more than tensors and plain values"):
        read_weights(write({"model": state_dicts["torchvision"], "args": Touch()}))
    assert not (tmp_path / "ran").exists()
