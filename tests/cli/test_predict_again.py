"""``predict`` into the folder of an earlier run."""

import json

import numpy as np
import pytest
from PIL import Image

from mobilevision import get_model, save_weights


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(get_model("deeplabv3_mobilenet_v2", num_classes=2, width_mult=0.1, input_size=33), path)
    return path


@pytest.fixture
def predict(run, tmp_path, weights):
    """Predict on images of these names, and return the files in the output folder."""

    def predict(*names):
        for name in names:
            Image.fromarray(np.full((9, 8, 3), 90, np.uint8)).save(tmp_path / name)
        sources = [tmp_path / name for name in names]
        assert run("predict", *sources, "--weights", weights, "--output", tmp_path / "out", "--device", "cpu").code == 0
        out = tmp_path / "out"
        return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}

    return predict


def test_an_earlier_runs_files_are_replaced_as_a_whole_and_no_others(predict, tmp_path):
    predict("a.png", "b.png")
    (tmp_path / "out/drawings/mine.jpg").touch()
    files = predict("b.png", "c.png")
    drawn = {f"{folder}/{name}" for folder, name in (("drawings", "b.jpg"), ("drawings", "c.jpg"))}
    assert files == {"predictions.jsonl", "masks/b.png", "masks/c.png", "drawings/mine.jpg", *drawn}


def test_lines_that_are_no_earlier_runs_remove_nothing(predict, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "keep.jpg").touch()
    for text in ("no json\n", json.dumps({"drawing": "../keep.jpg", "mask": "masks/../../keep.jpg"}), "[1]\n7\n"):
        (tmp_path / "out/predictions.jsonl").write_text(text)
        predict("a.png")
        assert (tmp_path / "keep.jpg").exists()
