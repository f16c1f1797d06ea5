"""``predict`` through the command line: JSON lines, drawings and masks of all that was asked for."""

import json

import numpy as np
import pytest
from PIL import Image

from mobilevision.images import read_image


@pytest.fixture
def pictures(tmp_path, setups):
    """Two pictures of another size than the network's, one in a folder below."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for place in ("a.png", "below/a.jpg"):
        Image.fromarray(rng.integers(0, 256, (50, 90, 3), dtype=np.uint8)).save(folder / place)
    return folder


def lines_of(output):
    return [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_every_picture_has_a_line_and_a_drawing(task, trained, pictures, run, tmp_path):
    weights = trained(task) / "run_1/checkpoints/weights.safetensors"
    output = tmp_path / "out"
    code, out, err = run("predict", pictures, "--weights", weights, "--output", output)
    assert (code, err) == (0, "")
    assert out.startswith("2 pictures: ")
    lines = lines_of(output)
    assert [line["path"] for line in lines] == [str(pictures / "a.png"), str(pictures / "below/a.jpg")]
    for line in lines:
        assert line["task"] == task
        assert min(read_image(output / line["drawing"]).shape[:2]) >= 50
    files = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    masks = {"masks/a.png", "masks/a_2.png"} if task == "segmentation" else set()
    assert files == {"predictions.jsonl", "drawings/a.jpg", "drawings/a_2.jpg", *masks}


def test_a_classifiers_line_names_the_best_classes(trained, pictures, run, tmp_path):
    weights = trained("classification") / "run_1/checkpoints/best.ckpt"
    assert run("predict", pictures / "a.png", "--weights", weights, "--output", tmp_path / "out").code == 0
    (line,) = lines_of(tmp_path / "out")
    assert line["pred_class"] == line["best"][0]["class"] in ("blue", "red")
    assert sum(each["score"] for each in line["best"]) == pytest.approx(1, abs=1e-5)


def test_a_detectors_threshold_decides_what_is_told(trained, pictures, run, tmp_path):
    weights = trained("detection") / "run_1/checkpoints/weights.safetensors"
    counts = []
    for threshold in (0.0, 1.0):
        options = ("--weights", weights, "--output", tmp_path / "out", "--score-threshold", threshold)
        assert run("predict", str(pictures / "*.png"), *options).code == 0
        (line,) = lines_of(tmp_path / "out")
        counts.append(len(line["objects"]))
    assert counts[0] > 0
    assert counts[1] == 0


def test_a_segmenters_mask_is_a_palette_picture_of_the_files_size(trained, pictures, run, tmp_path):
    weights = trained("segmentation") / "run_1/checkpoints/weights.safetensors"
    model = ("--model", "deeplabv3_mobilenet_v2")
    options = ("--weights", weights, "--output", tmp_path / "out")
    assert run("predict", pictures / "a.png", *model, *options).code == 0
    (line,) = lines_of(tmp_path / "out")
    with Image.open(tmp_path / "out" / line["mask"]) as mask:
        assert (mask.mode, mask.size) == ("P", (90, 50))
        values = np.unique(np.array(mask))
    assert [segment["label"] for segment in line["segments"]] == values.tolist()
    assert sum(segment["share"] for segment in line["segments"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jpg", "nowhere.jpg not found"),
        ("empty", "no images in"),
        ("empty/*.jpg", "no images in"),
        ("broken.jpg", "does not decode as a picture"),
    ],
)
def test_what_cannot_be_predicted_on_is_one_line_and_leaves_nothing(source, message, trained, run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    weights = trained("classification") / "run_1/checkpoints/weights.safetensors"
    code, out, err = run("predict", tmp_path / source, "--weights", weights, "--output", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.startswith("mobilevision: error: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_broken_pictures_can_be_skipped(trained, pictures, run, tmp_path):
    (pictures / "broken.jpg").write_bytes(b"no picture")
    weights = trained("classification") / "run_1/checkpoints/weights.safetensors"
    options = ("--weights", weights, "--output", tmp_path / "out", "--skip-broken")
    code, out, err = run("predict", pictures, *options)
    assert code == 0
    assert out.startswith("2 pictures, 1 skipped: ")
    assert "warning: skipped: " in err
    assert len(lines_of(tmp_path / "out")) == 2


def test_weights_of_another_model_are_refused(trained, pictures, run, tmp_path):
    weights = trained("classification") / "run_1/checkpoints/weights.safetensors"
    outcome = run("predict", pictures, "--model", "ssdlite_mobilenet_v2", "--weights", weights)
    assert outcome.code == 2
    assert f"{weights} holds mobilenet_v2, not ssdlite_mobilenet_v2" in outcome.err
