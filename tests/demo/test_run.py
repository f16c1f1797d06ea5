"""A miniature of the demo runs from drawing to drawings."""

import json
from pathlib import Path

from mobilevision.demo.run import DemoSize, run_demo
from mobilevision.images import read_image


def test_a_miniature_demo_writes_weights_figures_and_an_image(tmp_path: Path):
    size = DemoSize(
        num_train=32,
        num_val=12,
        width_mult=0.35,
        classification_epochs=1,
        detection_epochs=1,
        segmentation_epochs=1,
        multitask_epochs=1,
    )
    said: list[str] = []
    outcomes = run_demo(tmp_path / "out", size=size, say=said.append)
    assert list(outcomes) == ["classification", "detection", "segmentation", "multitask"]
    assert all(outcome.weights.is_file() for outcome in outcomes.values())
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["tasks"]
    assert 0 <= figures["classification"]["top1"] <= 1
    assert 0 <= figures["segmentation"]["miou"] <= 1
    assert "map_50" in figures["detection"]
    assert {"top1", "map_50", "miou"} <= set(figures["multitask"])
    assert read_image(tmp_path / "out" / "demo.png").shape[0] > 160
    assert said
