from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mobilevision.classification import mobilenet_v2
from mobilevision.import_weights import import_network
from mobilevision.weights.file import save_weights


@pytest.fixture
def source(tmp_path) -> Path:
    save_weights(mobilenet_v2(3, width_mult=0.35, input_size=64), tmp_path / "source.safetensors", licence="Apache-2.0")
    return tmp_path / "source.safetensors"


@pytest.fixture
def pictures(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "pictures/cats").mkdir(parents=True)
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"pictures/cats/{index}.png"), rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    return tmp_path / "pictures"


def test_a_background_is_left_out_on_request_only(source):
    assert import_network(source).network.num_classes == 3
    assert import_network(source, without_background=True).network.num_classes == 2


def test_names_are_those_of_the_classes_that_are_left(source):
    network, _ = import_network(source, without_background=True, class_names=["cat", "dog"])

    assert network.class_names == ("cat", "dog")


def test_as_many_names_as_classes_are_asked_for(source):
    with pytest.raises(ValueError, match=r"class_names must be 3 for .*source.safetensors, got 2"):
        import_network(source, class_names=["cat", "dog"])


def test_what_a_file_says_of_its_origin_is_kept(source):
    assert import_network(source).provenance == {"licence": "Apache-2.0"}


@torch.inference_mode()
def test_calibration_changes_the_statistics_and_not_the_function(source, pictures):
    plain = import_network(source).network.eval()
    network, provenance = import_network(source, calibration_folder=pictures, num_calibration_images=4)

    images = torch.rand(2, 3, 64, 64)
    assert provenance["calibrated"] == "on 4 pictures of pictures"
    assert not torch.equal(network.backbone.stem.norm.running_mean, plain.backbone.stem.norm.running_mean)
    torch.testing.assert_close(network.eval()(images), plain(images), atol=1e-4, rtol=1e-4)


def test_a_folder_without_pictures_is_refused(source, tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(ValueError, match="calibration_folder must hold pictures, got"):
        import_network(source, calibration_folder=tmp_path / "empty")
