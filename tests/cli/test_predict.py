"""``predict`` through the command line: JSON lines, drawings and masks of all that was asked for."""

import json

import numpy as np
import pytest
from PIL import Image

from mobilevision import get_model, save_weights
from mobilevision.images import read_image


@pytest.fixture
def images(tmp_path):
    """Two images of another size than the network's, one in a folder below."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for place in ("a.png", "below/a.jpg"):
        Image.fromarray(rng.integers(0, 256, (50, 90, 3), dtype=np.uint8)).save(folder / place)
    return folder


@pytest.fixture
def predict(run, tmp_path):
    """Predict on a source with weights; return the outcome and the lines that were written."""

    def predict(source, weights, *more):
        output = tmp_path / "out"
        outcome = run("predict", source, "--weights", weights, "--output", output, *more)
        written = output / "predictions.jsonl"
        return outcome, [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []

    return predict


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_every_image_has_a_line_and_a_drawing(task, weights_of, images, predict, tmp_path):
    (code, out, err), lines = predict(images, weights_of(task))
    assert (code, err) == (0, "")
    assert out.startswith("2 images: ")
    assert [line["path"] for line in lines] == [str(images / "a.png"), str(images / "below/a.jpg")]
    output = tmp_path / "out"
    for line in lines:
        assert line["task"] == task
        assert min(read_image(output / line["drawing"]).shape[:2]) >= 50
    files = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    masks = {"masks/a.png", "masks/a_2.png"} if task == "segmentation" else set()
    assert files == {"predictions.jsonl", "drawings/a.jpg", "drawings/a_2.jpg", *masks}


def test_a_classifiers_line_names_the_best_classes(trained, images, predict):
    outcome, (line,) = predict(images / "a.png", trained("classification") / "checkpoints/best.ckpt")
    assert outcome.code == 0
    assert line["pred_class"] == line["best"][0]["class"] in ("blue", "red")
    assert sum(each["score"] for each in line["best"]) == pytest.approx(1, abs=1e-5)


def test_a_detectors_threshold_decides_what_is_a_detection(weights_of, images, predict):
    counts = []
    for threshold in (0.0, 1.0):
        _, (line,) = predict(str(images / "*.png"), weights_of("detection"), "--score-threshold", threshold)
        counts.append(len(line["objects"]))
    assert counts[0] > 0
    assert counts[1] == 0


def test_a_segmenters_mask_is_a_palette_image_of_the_files_size(weights_of, images, predict, tmp_path):
    _, (line,) = predict(images / "a.png", weights_of("segmentation"), "--model", "deeplabv3_mobilenet_v2")
    with Image.open(tmp_path / "out" / line["mask"]) as mask:
        assert (mask.mode, mask.size) == ("P", (90, 50))
        values = np.unique(np.array(mask))
    assert [segment["label"] for segment in line["segments"]] == values.tolist()
    assert sum(segment["share"] for segment in line["segments"]) == pytest.approx(1)


def test_several_heads_answer_in_one_line_and_one_drawing(images, predict, tmp_path):
    heads = {"plants": {"task": "classification", "num_classes": 4}, "segmentation": {"num_classes": 5}}
    boxes = {name: {"task": "detection", "num_classes": 3, "input_size": 96} for name in ("cars", "signs")}
    network = get_model("multitask_mobilenet_v2", heads=heads | boxes, width_mult=0.1)
    save_weights(network, tmp_path / "joint.safetensors")
    outcome, (line,) = predict(images / "a.png", tmp_path / "joint.safetensors", "--model", "multitask_mobilenet_v2")
    assert (outcome.code, outcome.err) == (0, "")
    assert line["task"] == "multitask"
    assert line["plants"]["pred_class"] in "0123"
    assert sum(each["share"] for each in line["segmentation"]["segments"]) == pytest.approx(1)
    assert "objects" in line["cars"]
    assert "objects" in line["signs"]
    assert read_image(tmp_path / "out" / line["mask"]).shape[:2] == (50, 90)
    assert read_image(tmp_path / "out" / line["drawing"]).size


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jpg", "nowhere.jpg not found"),
        ("empty", "no images in"),
        ("empty/*.jpg", "no images in"),
        ("broken.jpg", "does not decode as an image"),
    ],
)
def test_what_cannot_be_predicted_on_is_one_line_and_leaves_nothing(source, message, weights_of, predict, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (code, out, err), _ = predict(tmp_path / source, weights_of("classification"))
    assert (code, out) == (2, "")
    assert err.startswith("mobilevision: error: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_broken_images_can_be_skipped(weights_of, images, predict):
    (images / "broken.jpg").write_bytes(b"no image")
    (code, out, err), lines = predict(images, weights_of("classification"), "--skip-broken")
    assert code == 0
    assert out.startswith("2 images, 1 skipped: ")
    assert "warning: skipped: " in err
    assert len(lines) == 2


def test_weights_of_another_task_are_refused(weights_of, images, predict):
    weights = weights_of("classification")
    outcome, _ = predict(images, weights, "--model", "ssdlite_mobilenet_v2")
    assert outcome.code == 2
    assert f"{weights} holds classification, not detection: no network for detection" in outcome.err
