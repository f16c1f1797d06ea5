"""A picture in, a typed result out."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mobilevision import Predictor, get_model, inference_model, save_weights

NAMES = ("cat", "dog", "bird")


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (70, 110, 3), dtype=np.uint8)


def build(name, **options):
    network = get_model(name, num_classes=3, width_mult=0.35, input_size=64, **options)
    network.class_names = NAMES
    return network


def test_a_classifier_names_the_best_class_and_its_score(picture):
    network = build("mobilenet_v2")
    torch.nn.init.zeros_(network.head.linear.weight)
    with torch.no_grad():
        network.head.linear.bias.copy_(torch.tensor([0.0, 2.0, 1.0]))
    result = inference_model(network, picture)
    assert (result.pred_label, result.pred_class) == (1, "dog")
    expected = np.exp([0.0, 2.0, 1.0]) / np.exp([0.0, 2.0, 1.0]).sum()
    assert result.pred_scores == pytest.approx(expected, abs=1e-6)
    assert result.pred_score == pytest.approx(expected[1], abs=1e-6)
    assert [row["class"] for row in json.loads(json.dumps(result.to_json()))["best"]] == ["dog", "bird", "cat"]


def test_a_detectors_boxes_are_in_the_pixels_of_the_file(picture):
    network = build("ssdlite_mobilenet_v2")
    for predictors, value in ((network.head.class_predictors, -9.0), (network.head.box_predictors, 0.0)):
        for predictor in predictors:
            torch.nn.init.zeros_(predictor.pointwise.weight)
            torch.nn.init.constant_(predictor.pointwise.bias, value)
    with torch.no_grad():
        # The first anchor of the coarsest map, a square of 0.95 sides around the centre, shows a bird.
        network.head.class_predictors[-1].pointwise.bias[3] = 2.0
    result = Predictor(network, score_threshold=0.5)(picture)
    assert result.classes == ["bird"]
    assert result.scores == pytest.approx([1 / (1 + np.exp(-2))], abs=1e-6)
    half_width, half_height = 0.475 * 110, 0.475 * 70
    assert result.boxes[0] == pytest.approx(
        [55 - half_width, 35 - half_height, 55 + half_width, 35 + half_height], abs=1e-3
    )
    assert json.loads(json.dumps(result.to_json()))["objects"][0]["class"] == "bird"
    assert result.draw(picture).shape[2] == 3


def test_a_detector_may_find_nothing(picture):
    network = build("ssdlite_mobilenet_v2")
    result = Predictor(network, score_threshold=1.0)(picture)
    assert (len(result.boxes), result.classes, result.to_json()["objects"]) == (0, [], [])
    assert result.draw(picture).size


def test_a_segmenters_mask_has_the_size_of_the_file(picture):
    network = build("deeplabv3_mobilenet_v2")
    torch.nn.init.zeros_(network.head.logits.weight)
    with torch.no_grad():
        network.head.logits.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    result = inference_model(network, picture)
    assert result.mask.shape == (70, 110)
    assert (result.mask == 1).all()
    assert result.to_json()["segments"] == [{"label": 1, "class": "dog", "share": 1.0}]


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "I;16"])
def test_a_file_of_any_kind_is_taken(mode, tmp_path):
    deep = Image.fromarray(np.full((40, 30), 30000, np.uint16))
    image = deep if mode == "I;16" else Image.new(mode, (30, 40))
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    image.save(path)
    save_weights(build("mobilenet_v2"), tmp_path / "weights.safetensors")
    assert inference_model(tmp_path / "weights.safetensors", path).pred_class in NAMES


def test_a_name_without_weights_is_a_network_that_knows_nothing_and_says_so(picture):
    with pytest.warns(UserWarning, match="no weights come with the package: mobilenet_v2 is as drawn"):
        result = inference_model("mobilenet_v2", picture)
    assert result.pred_class == str(result.pred_label)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_pixels_of_another_form_are_refused(image):
    with pytest.raises(ValueError, match=r"image must be uint8 of shape \[H, W, 3\], got"):
        inference_model(build("mobilenet_v2"), image)


def test_a_picture_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        inference_model(build("mobilenet_v2"), "nowhere.jpg")


def test_predicting_leaves_the_network_in_evaluation_and_without_gradients(picture):
    network = build("mobilenet_v2").train()
    Predictor(network)(picture)
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
