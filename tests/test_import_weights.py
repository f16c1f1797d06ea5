from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mobilevision.classification import mobilenet_v2
from mobilevision.detection import ssdlite_mobilenet_v2
from mobilevision.import_weights import import_network
from mobilevision.models import get_model, load_model
from mobilevision.weights.card import Weights, WeightsCard
from mobilevision.weights.file import save_weights
from mobilevision.weights.zoo import ZOO


@pytest.fixture
def source(tmp_path) -> Path:
    save_weights(mobilenet_v2(3, width_mult=0.35, input_size=64), tmp_path / "source.safetensors", licence="Apache-2.0")
    return tmp_path / "source.safetensors"


@pytest.fixture
def images(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "images/cats").mkdir(parents=True)
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"images/cats/{index}.png"), rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    return tmp_path / "images"


def test_a_background_is_left_out_on_request_only(source):
    assert import_network(source).network.head.num_classes == 3
    assert import_network(source, without_background=True).network.head.num_classes == 2


@pytest.mark.parametrize(("background", "kept"), [("first", slice(1, 3)), ("last", slice(0, 2))])
def test_a_background_is_where_the_caller_states_it(source, background, kept):
    weight = load_model(source).head.linear.weight

    network, _ = import_network(source, background=background, without_background=True)

    assert torch.equal(network.head.linear.weight, weight[kept])
    assert import_network(source, background=background).network.head.config.background == background
    assert import_network(source, background="none").network.head.config.background is None


def test_a_background_of_no_classifier_is_refused(source, tmp_path):
    save_weights(ssdlite_mobilenet_v2(2, width_mult=0.35, input_size=64), tmp_path / "detector.safetensors")

    with pytest.raises(ValueError, match=r"background must be first, last or none, .* got first for detection"):
        import_network(tmp_path / "detector.safetensors", background="first")
    with pytest.raises(ValueError, match="got middle for classification"):
        import_network(source, background="middle")


def test_names_are_those_of_the_classes_that_are_left(source):
    network, _ = import_network(source, without_background=True, class_names=["cat", "dog"])

    assert network.head.class_names == ("cat", "dog")


def test_some_of_a_files_own_names_keep_these_classes_only(source):
    network = load_model(source)
    network.head.class_names = ("cat", "dog", "owl")
    save_weights(network, source)

    imported, _ = import_network(source, class_names=["owl", "cat"])

    assert imported.head.class_names == ("owl", "cat")
    assert torch.equal(imported.head.linear.weight, network.head.linear.weight[[2, 0]])


def test_names_for_several_heads_are_refused(tmp_path):
    heads = {"classification": {"num_classes": 2}, "segmentation": {"num_classes": 2}}
    save_weights(get_model("multitask_mobilenet_v2", heads=heads, width_mult=0.35), tmp_path / "joint.safetensors")

    with pytest.raises(
        ValueError, match=r"class_names must be those of one head, .* holds classification, segmentation"
    ):
        import_network(tmp_path / "joint.safetensors", class_names=["cat", "dog"])


def test_of_cocos_90_numbers_a_detector_keeps_classes_by_name(tmp_path, monkeypatch):
    network = ssdlite_mobilenet_v2(90, preset="tf300", width_mult=0.35)
    weights = ZOO["ssdlite_mobilenet_v2_coco"].describe(Weights(network.state_dict(), WeightsCard.of(network)))
    monkeypatch.setattr("mobilevision.import_weights.read_weights", lambda source: weights)

    imported, _ = import_network("a test", class_names=["toothbrush", "person"])

    ours, theirs = (each.head.class_predictors[0].pointwise.bias for each in (imported, network))
    assert imported.head.class_names == ("toothbrush", "person")
    assert torch.equal(ours.reshape(3, 3), theirs.reshape(3, 91)[:, [0, 90, 1]])


def test_as_many_names_as_classes_are_asked_for(source):
    with pytest.raises(ValueError, match=r"class_names must be 3 for .*source.safetensors, got 2"):
        import_network(source, class_names=["cat", "dog"])


def test_the_provenance_of_a_file_is_kept(source):
    assert import_network(source).provenance == {"licence": "Apache-2.0"}


@torch.inference_mode()
def test_calibration_changes_the_statistics_and_not_the_function(source, images):
    plain = import_network(source).network
    network, provenance = import_network(source, calibration_folder=images, num_calibration_images=4)

    batch = torch.rand(2, 3, 64, 64)
    assert provenance["calibrated"] == "on 4 images of images"
    assert not torch.equal(network.backbone.stem.norm.running_mean, plain.backbone.stem.norm.running_mean)
    torch.testing.assert_close(network(batch), plain(batch), atol=1e-4, rtol=1e-4)


def test_a_folder_without_images_is_refused(source, tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(ValueError, match="calibration_folder must hold images, got"):
        import_network(source, calibration_folder=tmp_path / "empty")
