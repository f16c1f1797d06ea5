"""An image in, a typed result out."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mobilevision import Predictor, get_model, inference_model, save_weights
from mobilevision.inference.results import MultiTaskResult

NAMES = ("cat", "dog", "bird")


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (70, 110, 3), dtype=np.uint8)


def build(name, **options):
    network = get_model(name, **{"num_classes": 3, "width_mult": 0.35, "input_size": 64} | options)
    network.head.class_names = NAMES[: network.head.num_classes]
    return network


def show_class(head, label):
    """Let a detection head find an object of a class, a square of 0.95 sides around the center, with score 0.88."""
    for predictors, value in ((head.class_predictors, -9.0), (head.box_predictors, 0.0)):
        for predictor in predictors:
            torch.nn.init.zeros_(predictor.pointwise.weight)
            torch.nn.init.constant_(predictor.pointwise.bias, value)
    torch.nn.init.constant_(head.class_predictors[-1].pointwise.bias[label + 1 : label + 2], 2.0)


def test_a_classifier_names_the_best_class_and_its_score(image):
    network = build("mobilenet_v2")
    torch.nn.init.zeros_(network.head.linear.weight)
    network.head.linear.bias.data = torch.tensor([0.0, 2.0, 1.0])
    result = inference_model(network, image)
    assert (result.pred_label, result.pred_class) == (1, "dog")
    expected = np.exp([0.0, 2.0, 1.0]) / np.exp([0.0, 2.0, 1.0]).sum()
    assert result.pred_scores == pytest.approx(expected, abs=1e-6)
    assert result.pred_score == pytest.approx(expected[1], abs=1e-6)
    assert [row["class"] for row in json.loads(json.dumps(result.to_json()))["best"]] == ["dog", "bird", "cat"]


def test_a_detectors_boxes_are_in_the_pixels_of_the_file(image):
    network = build("ssdlite_mobilenet_v2")
    show_class(network.head, 2)
    result = Predictor(network, score_threshold=0.5)(image)
    assert result.classes == ["bird"]
    assert result.scores == pytest.approx([1 / (1 + np.exp(-2))], abs=1e-6)
    half_width, half_height = 0.475 * 110, 0.475 * 70
    corners = [55 - half_width, 35 - half_height, 55 + half_width, 35 + half_height]
    assert result.boxes[0] == pytest.approx(corners, abs=1e-3)
    assert json.loads(json.dumps(result.to_json()))["objects"][0]["class"] == "bird"
    assert result.draw(image).shape[2] == 3


def test_a_detector_may_find_nothing(image):
    result = Predictor(build("ssdlite_mobilenet_v2"), score_threshold=1.0)(image)
    assert (len(result.boxes), result.classes, result.to_json()["objects"]) == (0, [], [])
    assert result.draw(image).size


def test_a_segmenters_mask_has_the_size_of_the_file(image):
    network = build("deeplabv3_mobilenet_v2")
    torch.nn.init.zeros_(network.head.logits.weight)
    network.head.logits.bias.data = torch.tensor([0.0, 1.0, 0.0])
    result = inference_model(network, image)
    assert result.mask.shape == (70, 110)
    assert (result.mask == 1).all()
    assert result.to_json()["segments"] == [{"label": 1, "class": "dog", "share": 1.0}]


def test_heads_of_one_network_share_one_view_of_the_whole_image(image):
    small = {"num_classes": 3, "input_size": 32}
    heads = {
        "classification": small,
        "segmentation": small,
        "animals": {"task": "detection", **small},
        "signs": {"task": "detection", "num_classes": 2, "input_size": 32, "class_names": ["stop", "yield"]},
    }
    network = get_model("multitask_mobilenet_v2", heads=heads, width_mult=0.35)
    show_class(network.heads["animals"], 2)
    show_class(network.heads["signs"], 1)
    torch.nn.init.zeros_(network.heads["segmentation"].logits.weight)
    views, runs = [], []
    network.normalization.register_forward_pre_hook(lambda module, args: views.append(args[0]))
    network.backbone.stem.register_forward_hook(lambda *_: runs.append(1))
    result = Predictor(network)(image)
    assert isinstance(result, MultiTaskResult)
    assert len(runs) == 1
    np.testing.assert_array_equal(views[0][0].permute(1, 2, 0), cv2.resize(image, (32, 32)))
    assert (result["animals"].classes, result["signs"].classes) == (["2"], ["yield"])
    assert result["animals"].boxes == pytest.approx(result["signs"].boxes)
    assert result["segmentation"].mask.shape == (70, 110)
    described = json.loads(json.dumps(result.to_json()))
    assert list(described) == ["task", *heads]
    assert described["signs"]["objects"][0]["class"] == "yield"
    assert result.draw(image).shape[1] == result["signs"].draw(image).shape[1]


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "I;16"])
def test_a_file_of_any_kind_is_accepted(mode, tmp_path):
    deep = Image.fromarray(np.full((40, 30), 30000, np.uint16))
    image = deep if mode == "I;16" else Image.new(mode, (30, 40))
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    image.save(path)
    save_weights(build("mobilenet_v2"), tmp_path / "weights.safetensors")
    assert inference_model(tmp_path / "weights.safetensors", path).pred_class in NAMES


def test_a_name_without_weights_is_a_network_of_random_weights_with_a_warning(image):
    with pytest.warns(UserWarning, match="no weights come with the package: mobilenet_v2 has randomly"):
        result = inference_model("mobilenet_v2", image)
    assert result.pred_class == str(result.pred_label)


def test_a_missing_image_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        inference_model(build("mobilenet_v2"), "nowhere.jpg")


def test_predicting_leaves_the_network_in_evaluation_and_without_gradients(image):
    network = build("mobilenet_v2").train()
    Predictor(network)(image)
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
